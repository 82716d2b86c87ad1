"""One SeaweedFS for all tests of the S3 store, and others for tests that do it harm."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stores.running_s3 import RunningS3, running_s3


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningS3]:
    with running_s3(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture
def s3_alone(tmp_path: Path) -> Iterator[RunningS3]:
    """A SeaweedFS for one test, which may do it harm."""
    with running_s3(tmp_path) as running:
        yield running

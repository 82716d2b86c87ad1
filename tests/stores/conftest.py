"""One SeaweedFS for all tests of the S3 store, and others for tests that do it harm."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stores.running_s3 import RunningS3, start_s3


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningS3]:
    data_dir = tmp_path_factory.mktemp("s3")
    running = start_s3(data_dir)
    yield running
    running.supervisor.stop()
    shutil.rmtree(data_dir, ignore_errors=True)


@pytest.fixture
def s3_alone(tmp_path: Path) -> Iterator[RunningS3]:
    """A SeaweedFS for one test, which may do it harm."""
    running = start_s3(tmp_path)
    yield running
    running.supervisor.stop()
    shutil.rmtree(tmp_path, ignore_errors=True)

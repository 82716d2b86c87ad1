"""One server for all tests that leave it in peace; tests that kill start their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.harness import Server, running_server
from tests.server.material import make_disk, make_ova, make_vmdk


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(scope="session")
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bootable-looking disk of 64 MiB that holds 12 MiB."""
    return make_disk(tmp_path_factory.mktemp("small") / "root.img", 64, 12)


@pytest.fixture(scope="session")
def small_ova(small_disk: Path) -> Path:
    """``small_disk`` in an OVA."""
    return make_ova(small_disk.with_name("web.ova"), [make_vmdk(small_disk)])


@pytest.fixture(scope="session")
def large_disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A disk of 384 MiB that holds 288 MiB which cannot be compressed: two slices, seconds of work."""
    return make_disk(tmp_path_factory.mktemp("large") / "root.img", 384, 288, seed=2)


@pytest.fixture(scope="session")
def large_vmdk(large_disk: Path) -> Path:
    """``large_disk`` as a streamOptimized VMDK."""
    return make_vmdk(large_disk)


@pytest.fixture(scope="session")
def large_ova(large_disk: Path, large_vmdk: Path) -> Path:
    """``large_disk`` in an OVA."""
    return make_ova(large_disk.with_name("large.ova"), [large_vmdk])

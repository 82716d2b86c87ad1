"""One server for all tests that leave it in peace; tests that kill start their own."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.server.harness import Server, running_server
from tests.server.material import make_disk, make_ova, make_vmdk


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("server")) as running:
        yield running


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], Path]) -> Path:
    """What ``make`` makes in a folder, for all processes of a run: the first that wants it makes it, others wait."""
    folder = factory.getbasetemp()
    folder = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / name
    folder.mkdir(exist_ok=True)
    note = folder / "made"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not note.exists():
            note.write_text(make(folder).name)
        return folder / note.read_text()


@pytest.fixture(scope="session")
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bootable-looking disk of 64 MiB that holds 12 MiB."""
    return make_disk(tmp_path_factory.mktemp("small") / "root.img", 64, 12)


@pytest.fixture(scope="session")
def small_ova(small_disk: Path) -> Path:
    """``small_disk`` in an OVA."""
    return make_ova(small_disk.with_name("web.ova"), [make_vmdk(small_disk)])


@pytest.fixture(scope="session")
def large_ova(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``large_disk`` in an OVA."""

    def make(folder: Path) -> Path:
        disk = make_disk(folder / "root.img", 384, 288, seed=2)
        return make_ova(folder / "large.ova", [make_vmdk(disk)])

    return made_once(tmp_path_factory, "large", make)


@pytest.fixture(scope="session")
def large_disk(large_ova: Path) -> Path:
    """A disk of 384 MiB that holds 288 MiB which cannot be compressed: two slices, seconds of work."""
    return large_ova.with_name("root.img")


@pytest.fixture(scope="session")
def large_vmdk(large_ova: Path) -> Path:
    """``large_disk`` as a streamOptimized VMDK."""
    return large_ova.with_name("root.vmdk")

"""Folders for a while are gone afterwards: with the one who made them, or once that one was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import vmferry.work
from tests.guest.processes import await_end
from tests.server.harness import descendants
from vmferry.config import Config
from vmferry.guest.scratch import remove_abandoned, scratch_folder

_USES_ONE = """
import sys
from vmferry.guest.scratch import scratch_folder
with scratch_folder() as folder:
    (folder / "disk.qcow2").write_bytes(bytes(4096))
    print(folder, flush=True)
    sys.stdin.read()
"""
_PREPARES = """
import sys
from pathlib import Path
from tests.guest.trees import open_raw
from vmferry.guest.overlay import OverlayDisk
from vmferry.guest.virt_v2v import VirtV2v, prepare_by_virt_v2v
disk, program, place = map(Path, sys.argv[1:])
watching = lambda: place.exists() and print(place.read_text(), flush=True)
prepare_by_virt_v2v(OverlayDisk(open_raw(disk)), VirtV2v(str(program), watching=watching))
"""

_STARTS = """
import os, sys
from pathlib import Path
from tests.guest.trees import open_raw
from tests.server.harness import descendants
from vmferry.guest.boot_check import HardwareProfile, check_boot
watching = lambda: print(*descendants(os.getpid()), flush=True)
check_boot([open_raw(Path(sys.argv[1]))], HardwareProfile(), accel="tcg", expect="nothing", watching=watching)
"""


@pytest.fixture(autouse=True)
def parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where temporary folders are made, here and in children: its path is short."""
    with tempfile.TemporaryDirectory(prefix="v", dir="/tmp") as folder:
        monkeypatch.setenv("TMPDIR", folder)
        monkeypatch.setattr(tempfile, "tempdir", folder)
        monkeypatch.setattr("vmferry.guest.scratch._ELSEWHERE", Path(folder))
        yield Path(folder)


@contextmanager
def user(code: str, *words: str | Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A process that runs ``code``, and the path that it says."""
    command = [sys.executable, "-c", code, *map(str, words)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, Path(process.stdout.readline().strip())
        finally:
            process.kill()


def test_a_folder_is_gone_afterwards(parent: Path) -> None:
    with scratch_folder() as folder:
        assert folder.parent == parent
        assert remove_abandoned() == []
        assert folder.is_dir()
    assert list(parent.iterdir()) == []


def test_what_a_killed_process_left_is_removed_and_what_another_uses_stays() -> None:
    with user(_USES_ONE) as (used, folder), user(_USES_ONE) as (killed, left):
        assert remove_abandoned() == []
        os.kill(killed.pid, signal.SIGKILL)
        killed.wait()
        assert left.is_dir()
        assert remove_abandoned() == [left]
        assert (folder / "disk.qcow2").exists()
        used.communicate("")
        assert not folder.exists()


def test_a_preparation_that_was_killed_ends_its_program_and_its_folder_is_removed(tmp_path: Path) -> None:
    disk, program, place = tmp_path / "disk.raw", tmp_path / "virt-v2v-in-place", tmp_path / "place"
    disk.write_bytes(bytes(1 << 20))
    program.write_text(f"#!/bin/sh\npwd >{place}.new\nmv {place}.new {place}\nexec sleep 600\n")
    program.chmod(0o755)
    with user(_PREPARES, disk, program, place) as (killed, left):
        assert (left / "disk.qcow2").exists()
        (program_pid,) = descendants(killed.pid)
        os.kill(killed.pid, signal.SIGKILL)
        killed.wait()
    assert remove_abandoned() == [left]
    await_end(program_pid)


def test_a_boot_check_that_was_killed_ends_its_machine(tmp_path: Path) -> None:
    disk = tmp_path / "disk.raw"
    disk.write_bytes(b"\xfa\xf4".ljust(510, b"\0") + b"\x55\xaa" + bytes(1 << 20))  # cli; hlt
    with user(_STARTS, disk) as (killed, pids):
        os.kill(killed.pid, signal.SIGKILL)
        killed.wait()
    await_end(int(pids.name))


def test_a_folder_that_is_being_made_stays_and_an_old_one_without_a_lock_goes(parent: Path) -> None:
    young, old = parent / "vmferry-scratch-young", parent / "vmferry-scratch-old"
    young.mkdir()
    old.mkdir()
    os.utime(old, (0, 0))
    assert remove_abandoned() == [old]


def test_what_only_has_the_name_stays(parent: Path, tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("")
    link, file = parent / "vmferry-scratch-link", parent / "vmferry-scratch-file"
    link.symlink_to(tmp_path)
    file.write_text("")
    assert remove_abandoned() == []
    assert (tmp_path / "lock").exists()


def test_a_worker_that_starts_removes_what_a_killed_one_left(
    parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there: list[list[Path]] = []
    monkeypatch.setattr(vmferry.work, "run_worker", lambda *_: there.append(list(parent.iterdir())))
    monkeypatch.setattr(vmferry.work, "open_services", lambda *_: None)
    monkeypatch.setattr(vmferry.work, "configure_logs", lambda: None)
    monkeypatch.setattr("os.umask", lambda _: 0)
    with user(_USES_ONE) as (killed, _):
        os.kill(killed.pid, signal.SIGKILL)
        killed.wait()
        vmferry.work.work(Config(tmp_path), "", "", lambda: None)
    assert there == [[]]

"""The second way of preparing, with another program in virt-v2v's place: everything else is what it is with it.

The program gets what virt-v2v gets (an overlay over our NBD server, a namespace without a network, limits, an
environment) and changes it with qemu-io. What virt-v2v itself did to a real guest is told in ``docs/prepare.md``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.guest.fake_guestfish import make_guestfish
from tests.guest.processes import await_end
from tests.guest.trees import open_raw
from vmferry.disk import Disk
from vmferry.errors import CorruptDiskError, GuestError, TaskCancelledError
from vmferry.extent import Extent, ExtentKind
from vmferry.guest.confinement import find_program
from vmferry.guest.overlay import OverlayDisk
from vmferry.guest.virt_v2v import PROGRAM, VirtV2v, prepare_by_virt_v2v
from vmferry.units import MIB

_SIZE = 8 * MIB + 512
CHANGE = """
qemu-io -f qcow2 -c "read -P 7 1M 4k" -c "write -P 9 1M 4k" -c "write -P 8 5M 512" -c "write -z 2M 64k" \\
  "$5" >words || { cat words; exit 3; }
"""


def make_program(folder: Path, body: str) -> str:
    path = folder / "virt-v2v-in-place"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    path = tmp_path / "disk.raw"
    path.write_bytes(b"\7" * _SIZE)
    return open_raw(path)


def test_what_the_program_writes_is_on_the_overlay_once_it_has_ended_well(disk: Disk, tmp_path: Path) -> None:
    said = 'printf "[  20.6] Converting 12.15 to run on KVM\\nvirt-v2v: warning: a \\033[1m\\n"'
    overlay = OverlayDisk(disk)
    done = prepare_by_virt_v2v(overlay, VirtV2v(make_program(tmp_path, CHANGE + said)))
    expected = bytearray(b"\7" * _SIZE)
    expected[MIB : MIB + 4096] = b"\x09" * 4096
    expected[5 * MIB : 5 * MIB + 512] = b"\x08" * 512
    expected[2 * MIB : 2 * MIB + 65536] = bytes(65536)
    assert bytes(overlay.read_at(0, _SIZE)) == expected
    assert bytes(disk.read_at(0, _SIZE)) == b"\7" * _SIZE
    assert (2 * MIB, 2 * MIB + 65536, True) in list(overlay.changed())
    assert done.notes[0] == "virt-v2v: [  20.6] Converting 12.15 to run on KVM"
    (change,) = done.changes
    assert (change.path, change.what, change.after) == ("/", "changed", 2 * 65536)  # two clusters
    assert "virt-v2v: virt-v2v: warning: a \\u001b[1m" in done.notes


def test_it_has_no_network_and_little_of_our_environment(
    disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    program = make_program(tmp_path, 'cat /proc/net/dev; env; ulimit -v; echo "args: $1 $2 $3 $4"')
    said = prepare_by_virt_v2v(OverlayDisk(disk), VirtV2v(program)).notes
    devices = [line.split(":")[1].strip() for line in said if ":" in line[10:] and line.rstrip()[-1].isdigit()]
    assert "lo" in devices
    assert not [line for line in said if "eth" in line or "secret" in line]
    assert "virt-v2v: LIBGUESTFS_BACKEND=direct" in said
    assert f"virt-v2v: {16 * MIB}" in said  # KiB
    assert "virt-v2v: args: -i disk -if qcow2" in said


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("echo 'virt-v2v: error: no root device found'; exit 1", "failed with exit code 1: no root device found."),
        ("echo 'virt-v2v: error: nbdkit is not installed'; exit 1", "Install the package nbdkit beside it."),
        ("exit 2", "failed with exit code 2: it said nothing."),
        ("kill -SEGV $$", "was ended by signal 11"),
        ("sleep 60", "took more than 1 seconds"),
    ],
)
def test_where_it_fails_the_overlay_holds_nothing_of_it(disk: Disk, tmp_path: Path, body: str, words: str) -> None:
    overlay = OverlayDisk(disk)
    with pytest.raises(GuestError) as raised:
        prepare_by_virt_v2v(overlay, VirtV2v(make_program(tmp_path, CHANGE + body), seconds=1.0))
    assert words in str(raised.value)
    assert list(overlay.changed()) == []


def test_all_its_processes_end_when_whoever_watches_says_so(disk: Disk, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    program = make_program(tmp_path, f"sleep 600 & echo $! >{pids}.new; mv {pids}.new {pids}; wait")

    def watching() -> None:
        if pids.exists():
            raise TaskCancelledError("cancelled")

    with pytest.raises(TaskCancelledError):
        prepare_by_virt_v2v(OverlayDisk(disk), VirtV2v(program, watching=watching))
    await_end(int(pids.read_text()))


def test_a_source_that_cannot_be_read_is_told_as_such(tmp_path: Path) -> None:
    class Broken:
        size = _SIZE

        def read_at(self, offset: int, length: int) -> bytes:
            raise CorruptDiskError("the second MiB is damaged")

        def extents(self, start: int = 0, end: int | None = None) -> Iterator[Extent]:
            yield Extent(start, (self.size if end is None else end) - start, ExtentKind.DATA)

        def close(self) -> None: ...

    with pytest.raises(CorruptDiskError, match="second MiB"):
        prepare_by_virt_v2v(OverlayDisk(Broken()), VirtV2v(make_program(tmp_path, CHANGE)))


def test_changes_above_the_limit_are_refused(disk: Disk, tmp_path: Path) -> None:
    overlay = OverlayDisk(disk, limit=64 * 1024)
    with pytest.raises(GuestError, match="More than 64 KiB of the disk would be changed"):
        prepare_by_virt_v2v(overlay, VirtV2v(make_program(tmp_path, CHANGE)))


def test_the_program_is_found_by_its_name_and_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = make_program(tmp_path, "exit 0")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_program(PROGRAM) == find_program(program) == Path(program)
    assert find_program("virt-v2v-of-nobody") is None


@pytest.mark.parametrize("is_there", [False, True])
def test_without_root_guestfish_makes_the_machine_first_where_it_is_missing(
    is_there: bool, disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guestfish = make_guestfish(tmp_path, {}, fail={"launch": "it cannot"})
    monkeypatch.setenv("PATH", str(Path(guestfish).parent), prepend=":")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("LIBGUESTFS_CACHEDIR", str(tmp_path))
    if is_there:
        (tmp_path / ".guestfs-1000" / "appliance.d").mkdir(parents=True)
    program = make_program(tmp_path, f"test -e {tmp_path}/log; echo made: $?")
    notes = prepare_by_virt_v2v(OverlayDisk(disk), VirtV2v(program)).notes
    assert notes == [f"virt-v2v: made: {int(is_there)}"]

"""The NBD server: qemu-img reads through it what the disk holds, and no client brings it down."""

from __future__ import annotations

import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vmferry.blob import MemoryBlob
from vmferry.disk import Disk
from vmferry.errors import CorruptDiskError
from vmferry.formats import FORMATS, open_disk
from vmferry.guest.boot_check.nbd import NbdServer, _receive
from vmferry.guest.overlay import OverlayDisk
from vmferry.units import KIB, MIB

CONTENT = bytes(range(256)) * 4096 + bytes(MIB) + b"end".ljust(512, b".")


def raw_disk(content: bytes) -> Disk:
    return open_disk(MemoryBlob(content, "disk.raw"), FORMATS["raw"])


class BrokenDisk:
    """A disk that cannot be read behind its first MiB."""

    size = 2 * MIB

    def read_at(self, offset: int, length: int) -> bytes:
        if offset + length > MIB:
            raise CorruptDiskError("the second MiB is damaged")
        return bytes(length)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NbdServer]:
    with NbdServer([raw_disk(CONTENT), raw_disk(bytes(512))], tmp_path / "nbd") as running:
        yield running


def test_qemu_img_reads_what_the_disk_holds(server: NbdServer, tmp_path: Path) -> None:
    out = tmp_path / "out.raw"
    command = ["qemu-img", "convert", "-f", "raw", "-O", "raw", server.address(0), str(out)]
    assert subprocess.run(command, capture_output=True, text=True, timeout=60).stderr == ""
    assert out.read_bytes() == CONTENT


def test_each_disk_has_its_name_and_size(server: NbdServer) -> None:
    command = ["qemu-img", "info", "-f", "raw", "--output=json", server.address(1)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert '"virtual-size": 512' in done.stdout
    command[-1] = server.address(2)
    assert subprocess.run(command, capture_output=True, timeout=60).returncode == 1


def test_nobody_writes_to_it(server: NbdServer) -> None:
    command = ["qemu-io", "-f", "raw", "-c", "write 0 512", server.address(0)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "read-only" in (done.stdout + done.stderr).lower() or done.returncode


def test_a_disk_that_cannot_be_read_is_told_and_kept_as_the_reason(tmp_path: Path) -> None:
    with NbdServer([BrokenDisk()], tmp_path / "nbd") as server:  # type: ignore[list-item]
        command = ["qemu-img", "convert", "-f", "raw", "-O", "raw", server.address(0), str(tmp_path / "out.raw")]
        assert subprocess.run(command, capture_output=True, timeout=60).returncode == 1
        assert isinstance(server.problem, CorruptDiskError)


def connect(server: NbdServer) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(10)
    client.connect(str(server.path))
    return client


def choose(client: socket.socket, name: bytes = b"0") -> None:
    client.sendall(struct.pack(">I", 3) + struct.pack(">QII", 0x49484156454F5054, 1, len(name)) + name)


@pytest.mark.parametrize(
    ("offset", "length"), [(len(CONTENT), 512), (0, 1 << 31), ((1 << 64) - 512, 1024), (1 << 63, 512)]
)
def test_a_range_outside_is_refused(server: NbdServer, offset: int, length: int) -> None:
    with connect(server) as client:
        choose(client)
        _receive(client, 18 + 10)
        client.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 0, 7, offset, length))
        assert struct.unpack(">IIQ", _receive(client, 16)) == (0x67446698, 22, 7)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(st.binary(max_size=300), st.booleans())
def test_no_client_brings_it_down(server: NbdServer, garbage: bytes, chosen: bool) -> None:
    with connect(server) as client:
        if chosen:
            choose(client)
        client.sendall(garbage)
    with connect(server) as client:
        assert _receive(client, 18).startswith(b"NBDMAGIC")
    assert server.problem is None


def test_an_overlay_is_written_to_and_its_disk_is_not(tmp_path: Path) -> None:
    disk = raw_disk(CONTENT)
    overlay = OverlayDisk(disk)
    with NbdServer([overlay], tmp_path / "nbd", writable=True) as server:
        steps = ["write -P 9 512 1k", "write -z 64k 1M", "read -P 9 512 1k", "read -P 0 64k 64k", "flush"]
        words = [word for step in steps for word in ("-c", step)]
        command = ["qemu-io", "-f", "raw", *words, server.address(0)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert (done.returncode, "failed" in done.stdout) == (0, False), done.stdout + done.stderr
        assert server.problem is None
    wanted = bytearray(CONTENT)
    wanted[512:1536], wanted[64 * KIB : 64 * KIB + MIB] = b"\x09" * 1024, bytes(MIB)
    assert bytes(overlay.read_at(0, len(CONTENT))) == wanted
    assert list(overlay.changed()) == [(512, 1536, False), (64 * KIB, 64 * KIB + MIB, True)]
    assert bytes(disk.read_at(0, len(CONTENT))) == CONTENT


@pytest.mark.parametrize(
    ("command", "offset", "length"), [(1, 100, 512), (1, 0, 100), (1, len(CONTENT), 512), (6, len(CONTENT), 512)]
)
def test_what_cannot_be_written_is_refused_and_the_connection_goes_on(
    tmp_path: Path, command: int, offset: int, length: int
) -> None:
    overlay = OverlayDisk(raw_disk(CONTENT))
    with NbdServer([overlay], tmp_path / "nbd", writable=True) as server, connect(server) as client:
        choose(client)
        _receive(client, 18 + 10)
        request = struct.pack(">IHHQQI", 0x25609513, 0, command, 7, offset, length)
        for _ in range(2):
            client.sendall(request + bytes(length if command == 1 else 0))
            assert struct.unpack(">IIQ", _receive(client, 16)) == (0x67446698, 22, 7)
    assert list(overlay.changed()) == []

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
from vmferry.units import MIB

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

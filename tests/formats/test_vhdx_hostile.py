"""What a VHDX claims is looked at before it is believed, and what is legal is not taken for an attack."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import pytest

from tests.formats import vhdx_builder as vhdx
from tests.formats.vhdx_builder import MIB, Picture
from vmferry.blob import FileBlob, MemoryBlob
from vmferry.errors import CorruptDiskError, UnsafeDiskError
from vmferry.folder import Companions
from vmferry.formats.vhdx import FORMAT
from vmferry.units import GIB

CONTENT = bytes(range(256)) * 4096


def with_entry(number: int, entry: int, size: int = 4 * MIB) -> bytes:
    """A disk whose first block is there, with ``entry`` for block ``number``."""
    content = bytearray(Picture(size, blocks={0: (vhdx.PRESENT, CONTENT)}).build())
    struct.pack_into("<Q", content, vhdx.BAT + number * 8, entry)
    return bytes(content)


@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("unit", [5, 1 << 43, (1 << 44) - 1, (1 << 44) - 2, 1 << 33])
def test_a_block_past_the_end_is_found_by_the_map(number: int, unit: int) -> None:
    """An entry's 44 bits of MiB are more than 64 bits of bytes."""
    disk = FORMAT.open(MemoryBlob(with_entry(number, unit << 20 | vhdx.PRESENT)))
    with pytest.raises(CorruptDiskError, match=f"block {number} is said to lie at host offset 0x{unit << 20:x}, past"):
        list(disk.extents())


def test_a_bitmap_past_the_end_is_found_by_the_map() -> None:
    for unit in (6, 1 << 43, (1 << 44) - 1):
        picture = Picture(MIB, blocks={0: (vhdx.PARTIAL, CONTENT)}, own_sectors={0: [0]}, parent=vhdx.linkage())
        content = bytearray(picture.build())
        struct.pack_into("<Q", content, vhdx.BAT + picture.ratio * 8, unit << 20 | vhdx.PRESENT)
        parents = Companions(parents=(MemoryBlob(Picture(MIB).build()),))
        with pytest.raises(CorruptDiskError, match="sector bitmap is said to lie past the end"):
            list(FORMAT.open(MemoryBlob(bytes(content)), parents).extents())


@pytest.mark.parametrize("last", [512, 4096, MIB - 512])
def test_the_last_block_may_end_with_the_disk_and_the_file(last: int) -> None:
    content = Picture(MIB + last, blocks={1: (vhdx.PRESENT, CONTENT)}).build()
    end = vhdx.DATA + last
    disk = FORMAT.open(MemoryBlob(content[:end]))
    assert bytes(disk.read_at(MIB, last)) == CONTENT[:last]
    assert [extent.kind.value for extent in disk.extents()] == ["hole", "data"]
    with pytest.raises(CorruptDiskError, match="cut short"):
        list(FORMAT.open(MemoryBlob(content[: end - 1])).extents())
    other = Picture(2 * MIB + last, blocks={1: (vhdx.PRESENT, CONTENT)}).build()
    with pytest.raises(CorruptDiskError, match="cut short"):
        list(FORMAT.open(MemoryBlob(other[:end])).extents())


class Endless(MemoryBlob):
    """A sparse file: nothing but zeros up to an exabyte, which takes its owner nothing to make."""

    @property
    def size(self) -> int:
        return 1 << 60


def test_a_sparse_file_of_an_exabyte_takes_no_memory() -> None:
    with pytest.raises(UnsafeDiskError, match="far more than any disk needs; at most 128 TiB are read"):
        FORMAT.open(Endless(Picture(4 * MIB).build()))


def test_a_long_log_matters_only_when_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "disk.vhdx"
    command = ["qemu-img", "create", "-q", "-f", "vhdx", "-o", "log_size=64M", str(path), "1G"]
    subprocess.run(command, check=True, timeout=60)
    disk = FORMAT.open(FileBlob(path))
    assert disk.size == GIB
    disk.close()
    content = bytearray(path.read_bytes())
    for place in (64 << 10, 128 << 10):
        head = content[place : place + 4096]
        head[48:64] = vhdx.LOG_ID
        content[place : place + 4096] = vhdx.resummed(head)
    with pytest.raises(UnsafeDiskError, match="said to have 64 MiB; at most 16 MiB are read"):
        FORMAT.open(MemoryBlob(bytes(content)))

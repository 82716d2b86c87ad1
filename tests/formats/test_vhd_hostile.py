"""A VHD is a stranger's file: whatever it claims, there is an answer, or an error of ours, soon."""

from __future__ import annotations

import random
import struct
from contextlib import suppress
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.formats.vhd_builder import (
    BLOCK,
    DIFFERENCING,
    DYNAMIC,
    FIXED,
    dynamic_header,
    fixed,
    footer,
    patched,
    sparse,
    summed,
)
from vmferry.blob import MemoryBlob
from vmferry.errors import CorruptDiskError, FormatError, UnsafeDiskError, VmferryError
from vmferry.folder import Companions
from vmferry.formats.vhd import FORMAT
from vmferry.units import GIB, KIB, MIB, TIB

BLOCKS = {0: random.Random(1).randbytes(BLOCK), 2: random.Random(2).randbytes(BLOCK)}
IMAGE = sparse(4 * BLOCK, BLOCKS)
BAT = 1536
FIRST = 4  # sectors: the bitmap of the first block lies behind a BAT of one sector
STRIDE = (BLOCK + 512) // 512


def read_everything(image: bytes, *parents: bytes) -> None:
    """All that is done with a disk, bounded: a claim of terabytes is legal and must cost nothing by itself."""
    companions = Companions(parents=tuple(MemoryBlob(parent, "parent.vhd") for parent in parents))
    disk = FORMAT.open(MemoryBlob(image, "evil\x1b[2J.vhd"), companions)
    for extent in islice(disk.extents(), 1000):
        disk.read_at(extent.start, min(extent.length, 128 * KIB))
    disk.read_at(max(disk.size - 100_000, 0), min(disk.size, 100_000))


def with_bat(*entries: int, image: bytes = IMAGE) -> bytes:
    return patched(image, BAT, struct.pack(f">{len(entries)}I", *entries))


def with_header(bat_offset: int = BAT, entries: int = 4, block_size: int = BLOCK) -> bytes:
    return patched(IMAGE, 512, dynamic_header(bat_offset, entries, block_size))


def with_footers(size: int, data_offset: int = 512) -> bytes:
    ends = footer(size, DYNAMIC, data_offset=data_offset)
    return patched(IMAGE, 0, ends)[:-512] + ends


def test_the_image_is_sound_before_it_is_damaged() -> None:
    assert with_bat(FIRST, 0xFFFFFFFF, FIRST + STRIDE) == IMAGE
    assert with_header() == IMAGE
    assert with_footers(4 * BLOCK) == IMAGE
    read_everything(IMAGE)


def test_a_table_of_a_billion_entries_in_a_kilobyte() -> None:
    """As in QEMU's afl5.img."""
    size = 1073741825 * 2 * MIB % (1 << 64)
    ends = footer(min(size, 64 * TIB), DYNAMIC)
    image = (ends + dynamic_header(1536, 1073741825, 2 * MIB))[:1028]
    with pytest.raises(CorruptDiskError):
        read_everything(image)
    with pytest.raises(UnsafeDiskError, match="needs a block allocation table of 128 MiB; at most 32 MiB"):
        read_everything(ends + dynamic_header(1536, 1073741825, 2 * MIB) + ends)
    small = footer(GIB, DYNAMIC)
    with pytest.raises(CorruptDiskError, match=r"1,073,741,825 entries .* past the end"):
        read_everything(small + dynamic_header(1536, 1073741825, 2 * MIB) + small)


@pytest.mark.parametrize(
    ("image", "error", "reason"),
    [
        (with_bat(FIRST, FIRST), UnsafeDiskError, "two blocks of the disk lie upon each other"),
        (
            with_bat(FIRST, 0xFFFFFFFF, FIRST + STRIDE - 1),
            UnsafeDiskError,
            "two blocks of the disk lie upon each other",
        ),
        (with_bat(0), UnsafeDiskError, "lies upon the tables at 0x0"),
        (with_bat(1), UnsafeDiskError, "lies upon the tables at 0x200"),
        (with_bat(3), UnsafeDiskError, "lies upon the tables at 0x600"),
        (with_bat(FIRST, 0xFFFFFFFF, FIRST + STRIDE + 1), CorruptDiskError, "cut short"),
        (with_bat(FIRST, 0xFFFFFFFF, 0xFFFFFFFE), CorruptDiskError, "cut short"),
        (IMAGE[: -512 - 512] + IMAGE[-512:], CorruptDiskError, "cut short"),
        (with_header(block_size=0), CorruptDiskError, "block size is 0 bytes"),
        (with_header(block_size=512), CorruptDiskError, "block size is 512 bytes"),
        (with_header(block_size=3 * BLOCK), CorruptDiskError, "block size is 12,288 bytes"),
        (with_header(block_size=1 << 31), CorruptDiskError, "block size is 2,147,483,648 bytes"),
        (with_header(entries=3), CorruptDiskError, "has 3 entries, but 16 KiB need 4"),
        (with_header(entries=0), CorruptDiskError, "has 0 entries"),
        (with_header(entries=0xFFFFFFFF), CorruptDiskError, "past the end of the file"),
        (with_header(bat_offset=(1 << 64) - 1), CorruptDiskError, "past the end of the file"),
        (with_header(bat_offset=len(IMAGE) - 520), CorruptDiskError, "past the end of the file"),
        (with_header(bat_offset=0), CorruptDiskError, "lie upon each other"),
        (with_header(bat_offset=512), CorruptDiskError, "lie upon each other"),
        (with_header(bat_offset=BAT - 4), CorruptDiskError, "lie upon each other"),
        (with_footers(0), CorruptDiskError, "0 bytes"),
        (with_footers((1 << 63) - 512), UnsafeDiskError, "claims a disk of"),
        (with_footers((1 << 64) - 1), UnsafeDiskError, "claims a disk of"),
        (with_footers(64 * TIB), CorruptDiskError, "has 4 entries"),
        (with_footers(BLOCK, data_offset=(1 << 64) - 1), CorruptDiskError, "cannot begin"),
        (with_footers(BLOCK, data_offset=len(IMAGE) - 1024), CorruptDiskError, "cannot begin"),
        (with_footers(BLOCK, data_offset=0), CorruptDiskError, "no dynamic header"),
        (patched(IMAGE, 512 + 100, b"\1"), CorruptDiskError, "dynamic header has a wrong checksum"),
        (patched(IMAGE, 512, summed(bytearray(b"cxsparse").ljust(1024, b"\2"), 36)), CorruptDiskError, "of version"),
        (footer(MIB, FIXED), CorruptDiskError, "holds 0 bytes"),
        (bytes(MIB) + footer(GIB, FIXED), CorruptDiskError, "holds 1,048,576 bytes"),
        (bytes(MIB) + footer(MIB, FIXED, version=0x20000), CorruptDiskError, "version 2.0"),
        (bytes(MIB) + footer((1 << 63) - 1, FIXED), UnsafeDiskError, "claims a disk"),
        (b"conectix", CorruptDiskError, "is missing"),
        (b"", CorruptDiskError, "is missing"),
    ],
)
def test_a_claim_that_cannot_be_is_refused(image: bytes, error: type[FormatError], reason: str) -> None:
    with pytest.raises(error, match=reason) as caught:
        read_everything(image)
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_a_block_upon_the_footer_is_refused() -> None:
    end = len(IMAGE) - 512
    with pytest.raises(CorruptDiskError, match="cut short"):
        read_everything(with_bat(FIRST, 0xFFFFFFFF, (end - BLOCK) // 512))


def test_a_legal_claim_costs_nothing() -> None:
    """60 TiB in a file of 2 MiB, which is all table."""
    size, block = 60 * TIB, 256 * MIB
    count = size // block
    ends = footer(size, DYNAMIC)
    image = ends + dynamic_header(1536, count, block) + b"\xff" * (-(-count * 4 // 512) * 512) + ends
    read_everything(image)


DIFF = sparse(4 * BLOCK, BLOCKS, kind=DIFFERENCING, uid=b"C" * 16, parent_id=b"U" * 16, parent_name="base.vhd")


def resummed(image: bytearray) -> bytes:
    """``image`` with sound checksums, so that what a mutation changed is looked at."""
    if len(image) >= 2048:
        for place, length, checksum in ((0, 512, 64), (512, 1024, 36), (len(image) - 512, 512, 64)):
            image[place : place + length] = summed(image[place : place + length], checksum)
    return bytes(image)


edits = st.lists(st.tuples(st.integers(0, 2047) | st.integers(-512, -1), st.integers(0, 255)), min_size=1, max_size=8)


@settings(deadline=None, max_examples=250)
@given(st.sampled_from([IMAGE, DIFF, fixed(bytes(4 * BLOCK))]), edits, st.integers(0, 4 * BLOCK), st.booleans())
def test_mutated_bytes_give_an_answer_or_an_error_of_ours(
    image: bytes, changes: list[tuple[int, int]], cut: int, sound: bool
) -> None:
    data = bytearray(image)
    for place, value in changes:
        data[place] = value
    if cut < 2000:
        del data[len(data) - cut :]
    elif sound:
        data = bytearray(resummed(data))
    with suppress(VmferryError):
        read_everything(bytes(data))
    with suppress(VmferryError):
        read_everything(bytes(data), IMAGE)

"""A VDI is a stranger's file: whatever it claims, there is an answer, or an error of ours, soon."""

from __future__ import annotations

import random
import struct
from contextlib import suppress
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.formats.vdi_builder import BLOCK, DIFFERENCING, UNDO, sparse
from vmferry.blob import MemoryBlob
from vmferry.errors import CorruptDiskError, FormatError, UnsafeDiskError, UnsupportedFeatureError, VmferryError
from vmferry.folder import Companions
from vmferry.formats.vdi import FORMAT
from vmferry.units import KIB, MIB, TIB

MAP = 1024
BLOCKS = {0: random.Random(1).randbytes(BLOCK), 2: random.Random(2).randbytes(BLOCK)}
IMAGE = sparse(4 * BLOCK, BLOCKS)


def patched(place: int, form: str, *values: int) -> bytes:
    image = bytearray(IMAGE)
    struct.pack_into(form, image, place, *values)
    return bytes(image)


def read_everything(image: bytes, *parents: bytes) -> None:
    """All that is done with a disk, bounded: a claim of terabytes is legal and must cost nothing by itself."""
    companions = Companions(parents=tuple(MemoryBlob(parent, "parent.vdi") for parent in parents))
    disk = FORMAT.open(MemoryBlob(image, "evil\x1b[2J.vdi"), companions)
    for extent in islice(disk.extents(), 1000):
        disk.read_at(extent.start, min(extent.length, 128 * KIB))
    disk.read_at(max(disk.size - 100_000, 0), min(disk.size, 100_000))


def test_the_image_is_sound_before_it_is_damaged() -> None:
    assert patched(MAP, "<4I", 0, 0xFFFFFFFF, 1, 0xFFFFFFFF) == IMAGE
    read_everything(IMAGE)


@pytest.mark.parametrize(
    ("image", "error", "reason"),
    [
        (patched(64, "<I", 0), CorruptDiskError, "no VDI header"),
        (IMAGE[:400], CorruptDiskError, "no VDI header"),
        (patched(76, "<I", UNDO), UnsupportedFeatureError, "undo image"),
        (patched(76, "<I", 0), UnsupportedFeatureError, "unknown image type 0"),
        (patched(76, "<I", 77), UnsupportedFeatureError, "unknown image type 77"),
        (patched(72, "<I", 100), CorruptDiskError, "header says that it has 100 bytes"),
        (patched(72, "<I", 0xFFFFFFFF), CorruptDiskError, "lies upon its header"),
        (patched(360, "<I", 4096), UnsupportedFeatureError, "sectors of 4,096 bytes"),
        (patched(340, "<I", 0), CorruptDiskError, "lies upon its header"),
        (patched(340, "<I", 100), CorruptDiskError, "lies upon its header"),
        (patched(340, "<I", 0xFFFFFFFF), CorruptDiskError, "past the start of the data"),
        (patched(344, "<I", MAP + 8), CorruptDiskError, "past the start of the data"),
        (patched(344, "<I", 0), CorruptDiskError, "past the start of the data"),
        (patched(344, "<I", 0xFFFFFFFF), CorruptDiskError, "cut short"),
        (patched(368, "<Q", 0), CorruptDiskError, "0 bytes"),
        (patched(368, "<Q", 4 * BLOCK + 1), CorruptDiskError, "has 4 blocks, but"),
        (patched(368, "<Q", 64 * TIB), CorruptDiskError, "has 4 blocks, but"),
        (patched(368, "<Q", 64 * TIB + 1), UnsafeDiskError, "claims a disk"),
        (patched(368, "<Q", (1 << 63) - 1), UnsafeDiskError, "claims a disk"),
        (patched(368, "<Q", (1 << 64) - 1), UnsafeDiskError, "claims a disk"),
        (patched(376, "<I", 0), CorruptDiskError, "block size is 0 bytes"),
        (patched(376, "<I", 512), CorruptDiskError, "block size is 512 bytes"),
        (patched(376, "<I", 5000), CorruptDiskError, "block size is 5,000 bytes"),
        (patched(376, "<I", 1 << 31), CorruptDiskError, "block size is 2,147,483,648 bytes"),
        (patched(380, "<I", 0xFFFFFFFF), CorruptDiskError, "cut short"),
        (patched(384, "<I", 0), CorruptDiskError, "has 0 blocks"),
        (patched(384, "<I", 0xFFFFFFFF), CorruptDiskError, "4,294,967,295 blocks .* past the start of the data"),
        (patched(384, "<I", 129), CorruptDiskError, "past the start of the data"),
        (patched(388, "<I", 1), CorruptDiskError, "its map names block 1, but it says that it holds 1"),
        (patched(MAP, "<I", 1), UnsafeDiskError, "one block of the file is used for several"),
        (patched(MAP, "<I", 0xFFFFFFFD), CorruptDiskError, "names block 4,294,967,293"),
        (IMAGE[:-1], CorruptDiskError, "cut short"),
    ],
)
def test_a_claim_that_cannot_be_is_refused(image: bytes, error: type[FormatError], reason: str) -> None:
    with pytest.raises(error, match=reason) as caught:
        read_everything(image)
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_a_map_of_a_billion_blocks_in_a_kilobyte() -> None:
    """No byte of such a map is asked for."""
    image = bytearray(IMAGE[:1024])
    struct.pack_into("<II", image, 340, 512, 0xFFFFFFFF)
    struct.pack_into("<QIII", image, 368, 4 * TIB, BLOCK, 0, 0x40000000)
    with pytest.raises(UnsafeDiskError, match="needs a block map of 4 GiB; at most 32 MiB are read"):
        read_everything(bytes(image))
    struct.pack_into("<QIII", image, 368, 4 * TIB, MIB, 0, 0x3FFFFFFF)
    with pytest.raises(CorruptDiskError, match="end of the file at 1,024"):
        read_everything(bytes(image))


DIFF = sparse(4 * BLOCK, BLOCKS, kind=DIFFERENCING, ids=(b"C" * 16, b"D" * 16, b"I" * 16, b"M" * 16))
edits = st.lists(
    st.tuples(st.integers(64, 80) | st.integers(340, 460) | st.integers(MAP, MAP + 16), st.integers(0, 255)),
    min_size=1,
    max_size=6,
)


@settings(deadline=None, max_examples=250)
@given(st.sampled_from([IMAGE, DIFF]), edits, st.integers(0, 4 * BLOCK))
def test_mutated_bytes_give_an_answer_or_an_error_of_ours(
    image: bytes, changes: list[tuple[int, int]], cut: int
) -> None:
    data = bytearray(image)
    for place, value in changes:
        data[place] = value
    if cut < 2000:
        del data[len(data) - cut :]
    with suppress(VmferryError):
        read_everything(bytes(data))
    with suppress(VmferryError):
        read_everything(bytes(data), IMAGE)

"""A qcow2 image is a stranger's file: whatever it claims, there is an answer, or an error of ours, soon."""

from __future__ import annotations

import random
import struct
import zlib
from contextlib import suppress
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmferry.blob import MemoryBlob
from vmferry.errors import CorruptDiskError, UnsafeDiskError, UnsupportedFeatureError, VmferryError
from vmferry.formats.qcow2 import FORMAT
from vmferry.units import GIB, KIB, MIB, TIB

_CLUSTER = 64 * KIB
_L1, _L2, _DATA = _CLUSTER, 2 * _CLUSTER, 3 * _CLUSTER
_COPIED, _COMPRESSED = 1 << 63, 1 << 62
_OFFSET_BITS = 54


def image(size: int = MIB) -> bytearray:
    """One standard cluster, two compressed ones behind it, one that reads as zeros."""
    header = struct.pack(">4sIQIIQIIQQIIQ", b"QFI\xfb", 3, 0, 0, 16, size, 0, 1, _L1, 0, 0, 0, 0)
    data = bytearray(header + struct.pack(">QQQII", 0, 0, 0, 4, 112)).ljust(_DATA, b"\0")
    data += random.Random(1).randbytes(_CLUSTER)
    struct.pack_into(">Q", data, _L1, _L2 | _COPIED)
    struct.pack_into(">Q", data, _L2, _DATA | _COPIED)
    for index, letter in ((1, b"A"), (2, b"B")):
        packer = zlib.compressobj(wbits=-12)
        packed = packer.compress(letter * _CLUSTER) + packer.flush()
        sectors = (len(data) % 512 + len(packed) - 1) // 512
        struct.pack_into(">Q", data, _L2 + 8 * index, _COMPRESSED | sectors << _OFFSET_BITS | len(data))
        data += packed
    struct.pack_into(">Q", data, _L2 + 24, 1)
    return data


def read_everything(data: bytes) -> None:
    """All that is done with a disk, bounded: a claim of terabytes is legal and must cost nothing by itself."""
    disk = FORMAT.open(MemoryBlob(data, "evil\x1b[2J.qcow2"))
    for extent in islice(disk.extents(), 1000):
        disk.read_at(extent.start, min(extent.length, 128 * KIB))
    disk.read_at(max(disk.size - 100_000, 0), min(disk.size, 100_000))
    disk.stored_size()


def test_the_image_is_sound_before_it_is_damaged() -> None:
    disk = FORMAT.open(MemoryBlob(bytes(image())))
    assert disk.read_at(_CLUSTER, 2 * _CLUSTER) == b"A" * _CLUSTER + b"B" * _CLUSTER
    read_everything(bytes(image()))


@pytest.mark.parametrize(
    ("offset", "form", "value", "error", "reason"),
    [
        (0, ">I", 0, CorruptDiskError, "does not begin with QFI"),
        (4, ">I", 0, UnsupportedFeatureError, "version 0"),
        (4, ">I", 1, UnsupportedFeatureError, "version 1"),
        (4, ">I", 4, UnsupportedFeatureError, "version 4"),
        (8, ">Q", 0x200, UnsafeDiskError, "overlay"),
        (16, ">I", 12, CorruptDiskError, "name of its backing file"),
        (20, ">I", 0, CorruptDiskError, "cluster_bits is 0"),
        (20, ">I", 8, CorruptDiskError, "cluster_bits is 8"),
        (20, ">I", 22, CorruptDiskError, "cluster_bits is 22"),
        (20, ">I", 0xFFFFFFFF, CorruptDiskError, "cluster_bits is 4,294,967,295"),
        (24, ">Q", 64 * TIB + 1, UnsafeDiskError, "virtual size"),
        (24, ">Q", (1 << 64) - 1, UnsafeDiskError, "virtual size"),
        (24, ">Q", 513 * MIB, CorruptDiskError, "L1 table has 1 entries, but 513 MiB need 2"),
        (32, ">I", 1, UnsupportedFeatureError, "encryption"),
        (32, ">I", 2, UnsupportedFeatureError, "encryption"),
        (36, ">I", 0, CorruptDiskError, "L1 table has 0 entries"),
        (36, ">I", 0xFFFFFFFF, UnsafeDiskError, "L1 table has 4,294,967,295 entries"),
        (40, ">Q", 0, CorruptDiskError, "cannot begin"),
        (40, ">Q", _L1 + 512, CorruptDiskError, "cannot begin"),
        (40, ">Q", 1 << 63, CorruptDiskError, "past the end"),
        (60, ">I", 65537, CorruptDiskError, "65,537 internal snapshots"),
        (72, ">Q", 1 << 1, CorruptDiskError, "marked this qcow2 image as corrupt"),
        (72, ">Q", 1 << 2, UnsafeDiskError, "another file"),
        (72, ">Q", 1 << 3, CorruptDiskError, "compression type 0"),
        (72, ">Q", 1 << 5, UnsupportedFeatureError, "unknown incompatible features 0x20"),
        (72, ">Q", 1 << 63, UnsupportedFeatureError, "unknown incompatible"),
        (96, ">I", 7, CorruptDiskError, "refcount_order is 7"),
        (100, ">I", 72, CorruptDiskError, "header_length is 72"),
        (100, ">I", 109, CorruptDiskError, "header_length is 109"),
        (100, ">I", 0xFFFFFFF8, CorruptDiskError, "header_length"),
        (104, ">B", 1, CorruptDiskError, "compression type 1"),
        (_L1, ">Q", (1 << 55) | _COPIED, CorruptDiskError, "L1 entry"),
        (_L1, ">Q", _L2 + 512, CorruptDiskError, "L1 entry"),
        (_L2, ">Q", (1 << 55) | _COPIED, CorruptDiskError, "L2 entry"),
        (_L2, ">Q", _DATA + 512, CorruptDiskError, "L2 entry"),
        (_L2, ">Q", _COMPRESSED | (1 << 53), CorruptDiskError, "behind the end"),
        (_L2, ">Q", _COMPRESSED | _DATA, CorruptDiskError, "does not inflate"),
        (_L2 + 32, ">Q", _DATA | _COPIED, UnsafeDiskError, "one cluster of the file used for several"),
    ],
)
def test_a_false_claim_is_refused(offset: int, form: str, value: int, error: type[VmferryError], reason: str) -> None:
    data = image()
    struct.pack_into(form, data, offset, value)
    with pytest.raises(error, match=reason) as caught:
        read_everything(bytes(data))
    assert "\x1b" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_table_for_several_places_is_refused() -> None:
    data = image(size=2 * GIB)
    struct.pack_into(">I", data, 36, 4)
    for index in range(4):
        struct.pack_into(">Q", data, _L1 + 8 * index, _L2 | _COPIED)
    with pytest.raises(UnsafeDiskError, match="one L2 table used for several places"):
        read_everything(bytes(data))


def test_one_compressed_cluster_for_several_is_refused() -> None:
    data = image()
    data[_L2 + 32 : _L2 + 40] = data[_L2 + 8 : _L2 + 16]
    with pytest.raises(UnsafeDiskError, match="used for several clusters"):
        read_everything(bytes(data))


@pytest.mark.parametrize("inflated", [_CLUSTER - 1, _CLUSTER + 1, 0, 16 * MIB])
def test_a_compressed_cluster_holds_exactly_one(inflated: int) -> None:
    packer = zlib.compressobj(wbits=-12)
    packed = packer.compress(bytes(inflated)) + packer.flush()
    data = image()
    sectors = (len(data) % 512 + len(packed) - 1) // 512
    struct.pack_into(">Q", data, _L2 + 8, _COMPRESSED | sectors << _OFFSET_BITS | len(data))
    with pytest.raises(CorruptDiskError, match="compressed cluster"):
        read_everything(bytes(data + packed))


def test_zeros_of_a_version_that_has_none_are_no_zeros() -> None:
    data = image()
    struct.pack_into(">I", data, 4, 2)
    disk = FORMAT.open(MemoryBlob(bytes(data)))
    assert [extent.kind.value for extent in disk.extents()] == ["data", "hole"]


@pytest.mark.parametrize("length", [0, 3, 4, 71, 72, 103, 104, _L1, _L1 + 7, _L2 + 8, _DATA - 1])
def test_a_file_cut_short_is_corrupt(length: int) -> None:
    with pytest.raises(CorruptDiskError):
        read_everything(bytes(image()[:length]))


def test_probe_never_raises() -> None:
    for data in (b"", b"Q", b"QFI", b"QFI\xfa", bytes(512)):
        assert not FORMAT.probe(MemoryBlob(data))
    assert FORMAT.probe(MemoryBlob(b"QFI\xfb"))


_HEADER_BYTES = st.integers(0, 111)
_TABLE_BYTES = st.one_of(st.integers(_L1, _L1 + 15), st.integers(_L2, _L2 + 47), st.integers(_DATA, len(image()) - 1))


@settings(deadline=None, max_examples=300)
@given(st.lists(st.tuples(st.one_of(_HEADER_BYTES, _TABLE_BYTES), st.integers(0, 255)), min_size=1, max_size=6))
def test_any_bytes_give_an_answer_or_an_error_of_ours(changes: list[tuple[int, int]]) -> None:
    data = image()
    for place, value in changes:
        data[place] = value
    with suppress(VmferryError):
        read_everything(bytes(data))

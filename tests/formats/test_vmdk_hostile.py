"""VMDKs that are damaged, made to do harm, or are pieces of something else: each is refused, with a reason."""

from __future__ import annotations

import random
import struct
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.formats.vmdk_builder import AT_END, DESCRIPTOR, Image, Layout, build, stream_descriptor
from vmferry.blob import Buffer, MemoryBlob, Part
from vmferry.errors import CorruptDiskError, FormatError, UnsafeDiskError, UnsupportedFeatureError, VmferryError
from vmferry.extent import ExtentKind
from vmferry.formats.vmdk import FORMAT
from vmferry.units import KIB, SECTOR, TIB

GRAIN = 64 * KIB
NAME = "guest\x1b[31m.vmdk"
CONTENT = {number: random.Random(number).randbytes(300) * 300 for number in (0, 1, 2, 5, 513)}
STREAM = Layout()
FRONT = Layout(place="front", all_tables=True)
SPARSE = Layout(place="front", compressed=False, version=1, all_tables=True)
LATE = Layout(place="end", compressed=False, version=1)
CAPACITY = 128 * 700


def read_all(data: bytes | bytearray, name: str = NAME) -> int:
    """Open, map and read everything that is stored; the number of bytes read from the file."""
    blob = CountingBlob(bytes(data), name)
    disk = FORMAT.open(blob)
    for extent in disk.extents():
        if extent.kind.value == "data":
            for start in range(extent.start, extent.end, 1 << 22):
                disk.read_at(start, min(1 << 22, extent.end - start))
    return blob.bytes_read


def check_parts(data: bytes | bytearray) -> None:
    """What is stored reads the same in parts as in one piece, or ends with the same words."""
    try:
        disk = FORMAT.open(MemoryBlob(bytes(data), NAME))
        stored = [extent for extent in disk.extents() if extent.kind is ExtentKind.DATA]
    except VmferryError:
        return
    for extent in stored:
        for start in range(extent.start, extent.end, 1 << 22):
            length = min(1 << 22, extent.end - start)
            parts = outcome(disk.read_parts, start, length)
            if parts is not None:
                assert parts == outcome(disk.read_at, start, length)


def outcome(read: Callable[[int, int], Buffer | Sequence[Part] | None], offset: int, length: int) -> bytes | str | None:
    """The bytes of what was read, or what was said instead."""
    try:
        found = read(offset, length)
    except VmferryError as error:
        return str(error)
    if found is None:
        return None
    return b"".join(found) if isinstance(found, list) else bytes(memoryview(cast("Buffer", found)))


class CountingBlob(MemoryBlob):
    def __init__(self, data: bytes, name: str) -> None:
        super().__init__(data, name)
        self.bytes_read = 0

    def read_at(self, offset: int, length: int) -> bytes:
        self.bytes_read += length
        return super().read_at(offset, length)


def both(**changes: int | bytes) -> Callable[[Image], None]:
    """Change fields of the header and, so that they agree, of the footer."""

    def change(image: Image) -> None:
        image.patch_header(**changes)
        if image.footer:
            image.patch_footer(**{name: value for name, value in changes.items() if name != "gd"})

    return change


def entry(grain: int, value: Callable[[Image], int] | int) -> Callable[[Image], None]:
    return lambda image: image.patch(image.entry(grain), "I", value(image) if callable(value) else value)


def directory(number: int, value: Callable[[Image], int] | int) -> Callable[[Image], None]:
    return lambda image: image.patch(image.directory + 4 * number, "I", value(image) if callable(value) else value)


def marker(grain: int, field: str, value: int) -> Callable[[Image], None]:
    offset, layout = {"sector": (0, "Q"), "length": (8, "I")}[field]
    return lambda image: image.patch(image.grains[grain] + offset, layout, value)


def stream(grain: int, content: bytes) -> Callable[[Image], None]:
    """Put another zlib stream into the place of ``grain``."""

    def change(image: Image) -> None:
        packed = zlib.compress(content)
        place = image.grains[grain]
        image.patch(place + 8, "I", len(packed))
        image.data[place + 12 : place + 12 + len(packed)] = packed

    return change


def flip(grain: int, offset: int) -> Callable[[Image], None]:
    def change(image: Image) -> None:
        image.data[image.grains[grain] + offset] ^= 0x55

    return change


def cut(length: Callable[[Image], int]) -> Callable[[Image], None]:
    def change(image: Image) -> None:
        del image.data[length(image) :]

    return change


def adler(grain: int) -> Callable[[Image], None]:
    def change(image: Image) -> None:
        place = image.grains[grain]
        (length,) = struct.unpack_from("<I", image.data, place + 8)
        image.data[place + 12 + length - 1] ^= 1

    return change


MUTATIONS: dict[str, tuple[Layout, Callable[[Image], None], str]] = {
    "version 0": (STREAM, both(version=0), "version 0"),
    "version 4": (STREAM, both(version=4), "version 4"),
    "compressed, no markers": (STREAM, both(flags=0x10001), "go together"),
    "markers, not compressed": (STREAM, both(flags=0x20001), "go together"),
    "unknown compression": (STREAM, both(method=2), "go together"),
    "compression without the flag": (SPARSE, both(method=1), "go together"),
    "grain of 0": (STREAM, both(grain=0), "grain is said"),
    "grain of 8": (STREAM, both(grain=8), "grain is said"),
    "grain of 127": (STREAM, both(grain=127), "grain is said"),
    "grain of 2^31": (STREAM, both(grain=1 << 31), "grain is said"),
    "grain of 2^63": (STREAM, both(grain=1 << 63), "grain is said"),
    "0 table entries": (STREAM, both(entries=0), "grain tables"),
    "2^32-1 table entries": (STREAM, both(entries=0xFFFFFFFF), "grain tables"),
    "capacity 0": (STREAM, both(capacity=0), "capacity 0"),
    "capacity over 64 TiB": (STREAM, both(capacity=64 * TIB // SECTOR + 1), "at most 64 TiB"),
    "capacity 2^63": (STREAM, both(capacity=1 << 63), "at most 64 TiB"),
    "capacity 2^64-1": (STREAM, both(capacity=AT_END), "at most 64 TiB"),
    "64 TiB in a small file": (SPARSE, both(capacity=64 * TIB // SECTOR), "past the end"),
    "line ends changed": (STREAM, both(ends=b"\n \n\n"), "binary mode"),
    "read as UTF-8": (SPARSE, lambda i: i.data.__setitem__(slice(20, 23), b"\xef\xbf\xbd"), "binary mode"),
    "descriptor of 2^32 sectors": (SPARSE, both(descriptor_size=1 << 32), "for its descriptor"),
    "descriptor past the end": (SPARSE, both(descriptor_offset=1 << 62), "descriptor ends"),
    "footer disagrees on capacity": (STREAM, lambda i: i.patch_footer(capacity=128), "does not agree"),
    "footer disagrees on grain": (STREAM, lambda i: i.patch_footer(grain=64), "does not agree"),
    "footer of a footer": (STREAM, lambda i: i.patch_footer(gd=AT_END), "does not agree"),
    "footer is no header": (STREAM, lambda i: i.patch_footer(magic=b"KDMW"), "cut short"),
    "footer without its marker": (STREAM, lambda i: i.patch(i.footer - SECTOR + 12, "I", 2), "cut short"),
    "no end marker": (STREAM, cut(lambda i: i.footer + SECTOR), "cut short"),
    "no footer": (STREAM, cut(lambda i: i.footer - SECTOR), "cut short"),
    "cut in the middle": (STREAM, cut(lambda i: i.grains[5] + 40), "cut short"),
    "only a header": (STREAM, cut(lambda _: 512), "cut short"),
    "half a header": (STREAM, cut(lambda _: 100), "cut short"),
    "only zeros behind the header": (
        STREAM,
        lambda i: i.data.__setitem__(slice(512, None), bytes(3 << 20)),
        "cut short",
    ),
    "no directory": (SPARSE, both(gd=0), "no grain directory"),
    "directory past the end": (SPARSE, both(gd=1 << 40), "past the end"),
    "directory at 2^63": (SPARSE, both(gd=1 << 63), "past the end"),
    "directory on the header": (
        FRONT,
        lambda i: (both(gd=1)(i), both(descriptor_offset=0)(i))[0],
        "share|past|lies on",
    ),
    "directory on the descriptor": (SPARSE, both(gd=2), "lies on its header or descriptor"),
    "table past the end": (SPARSE, directory(0, 0xFFFFFFFF), "past the end"),
    "table behind the footer": (STREAM, directory(0, lambda i: i.footer // SECTOR - 2), "past the end"),
    "table on the header": (SPARSE, directory(0, 1), "lies on its header"),
    "table on the directory": (SPARSE, directory(0, lambda i: i.directory // SECTOR), "lies on its header"),
    "table shared": (SPARSE, directory(1, lambda i: i.tables[0] // SECTOR), "share the table"),
    "tables overlap": (SPARSE, directory(1, lambda i: i.tables[0] // SECTOR + 2), "share the table"),
    "grain past the end": (SPARSE, entry(0, 0xFFFFFFFF), "past the end"),
    "grain across the end": (SPARSE, entry(0, lambda i: len(i.data) // SECTOR - 127), "past the end"),
    "compressed grain past the end": (STREAM, entry(0, 0xFFFFFFF0), "past the end"),
    "compressed grain in the footer": (STREAM, entry(0, lambda i: i.footer // SECTOR), "past the end"),
    "grain on the header": (SPARSE, entry(0, 1), "inside the file's own"),
    "grain reaches into a table": (LATE, entry(0, lambda i: i.tables[0] // SECTOR - 100), "inside the file's own"),
    "table points to itself": (SPARSE, entry(0, lambda i: i.tables[0] // SECTOR), "inside the file's own"),
    "table points into another": (FRONT, entry(0, lambda i: i.tables[1] // SECTOR + 3), "inside the file's own"),
    "grain on the directory": (STREAM, entry(0, lambda i: i.directory // SECTOR), "inside the file's own"),
    "two grains share a place": (SPARSE, entry(3, lambda i: i.grains[0] // SECTOR), "share the bytes"),
    "across tables too": (SPARSE, entry(600, lambda i: i.grains[0] // SECTOR), "share the bytes"),
    "two compressed grains share one": (STREAM, entry(3, lambda i: i.grains[0] // SECTOR), "marker for guest sector"),
    "marker of another grain": (STREAM, marker(1, "sector", 0), "marker for guest sector"),
    "marker at 2^64-1": (STREAM, marker(1, "sector", AT_END), "marker for guest sector"),
    "no compressed bytes": (STREAM, marker(0, "length", 0), "0 compressed bytes"),
    "one compressed byte": (STREAM, marker(0, "length", 1), "does not inflate"),
    "over two grains of compressed bytes": (STREAM, marker(0, "length", 2 * GRAIN + 1), "131,073 compressed"),
    "2^32-1 compressed bytes": (STREAM, marker(0, "length", 0xFFFFFFFF), "4,294,967,295 compressed"),
    "runs into the next grain": (STREAM, marker(0, "length", GRAIN), "run into"),
    "runs past the end": (FRONT, marker(513, "length", 2 * GRAIN), "run into"),
    "inflates to less": (STREAM, stream(1, b"x" * 1000), "inflates to 1,000 bytes, expected 65,536"),
    "inflates to more": (STREAM, stream(1, b"x" * (GRAIN + 1)), "does not inflate to 65,536"),
    "bomb": (STREAM, stream(1, bytes(200_000)), "does not inflate to 65,536"),
    "bad checksum": (STREAM, adler(2), "checksum"),
    "no zlib stream": (STREAM, flip(2, 12), "checksum"),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_damaged_or_hostile_file_is_refused_with_the_reason(name: str) -> None:
    layout, mutate, reason = MUTATIONS[name]
    image = build(CAPACITY, CONTENT, layout)
    read_all(image.data)
    mutate(image)
    with pytest.raises((FormatError, UnsafeDiskError), match=reason) as caught:
        read_all(image.data)
    sentence = str(caught.value)
    assert "\x1b" not in sentence
    assert "guest\\u001b[31m.vmdk" in sentence
    assert sentence.endswith(".")


def test_a_short_grain_is_good_at_the_end_only() -> None:
    image = build(128 * 3 + 40, {2: CONTENT[2], 3: CONTENT[1]})
    stream(3, CONTENT[1][: 40 * SECTOR])(image)
    read_all(image.data)
    stream(3, CONTENT[1][: 39 * SECTOR])(image)
    with pytest.raises(CorruptDiskError, match=f"inflates to {39 * SECTOR:,} bytes"):
        read_all(image.data)


def test_a_damaged_directory_is_no_worse_with_a_damaged_copy() -> None:
    image = build(CAPACITY, CONTENT, replace(SPARSE, redundant=True))
    image.patch(image.directory, "I", 0xFFFFFFFF)
    read_all(image.data)
    image.patch(image.redundant, "I", 1)
    with pytest.raises(CorruptDiskError, match="past the end"):
        read_all(image.data)


def described(text: bytes, layout: Layout = STREAM) -> bytes:
    return bytes(build(128, {0: CONTENT[0]}, replace(layout, descriptor=text)).data)


FLAT = b'# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType="%s"\nRW 4096 %s "%s" 0\n'
DELTA = stream_descriptor().replace(b"ffffffff", b"1234abcd")
ELSEWHERE = {
    "flat, inside": (
        described(stream_descriptor().replace(b"SPARSE", b"FLAT").replace(b"generated-stream.vmdk", b"/etc/passwd")),
        UnsafeDiskError,
        "never opened",
    ),
    "two extents": (described(stream_descriptor() + b'RW 10 SPARSE "b.vmdk"\n'), UnsafeDiskError, "further files"),
    "split": (described(DESCRIPTOR % b"twoGbMaxExtentSparse", SPARSE), UnsupportedFeatureError, "twoGbMaxExtentSparse"),
    "piece of a split disk": (
        bytes(build(128, {0: CONTENT[0]}, replace(SPARSE, descriptor=b"", descriptor_sectors=0)).data),
        UnsupportedFeatureError,
        "piece of a disk that is split",
    ),
    "blank descriptor": (described(b"", SPARSE), UnsupportedFeatureError, "no descriptor"),
    "delta": (described(DELTA), UnsupportedFeatureError, "CID 1234abcd"),
    "delta with a hint": (
        described(DELTA.replace(b"version=1", b'version=1\nparentFileNameHint="C:\\vm\\base.vmdk"')),
        UnsupportedFeatureError,
        r"parent, C:\\vm\\base.vmdk",
    ),
    "descriptor of a flat disk": (FLAT % (b"vmfs", b"VMFS", b"vm-flat.vmdk"), UnsupportedFeatureError, "vm-flat.vmdk"),
    "descriptor of a host file": (FLAT % (b"monolithicFlat", b"FLAT", b"/etc/passwd"), UnsafeDiskError, "/etc/passwd"),
    "descriptor of a device": (FLAT % (b"fullDevice", b"FLAT", b"\\\\.\\PhysicalDrive0"), UnsafeDiskError, "Physical"),
    "descriptor with a protocol": (FLAT % (b"vmfs", b"VMFS", b"nbd:evil"), UnsafeDiskError, "nbd:evil"),
    "descriptor of a raw mapping": (FLAT % (b"vmfsRDM", b"VMFSRDM", b"x.vmdk"), UnsafeDiskError, "VMFSRDM"),
    "descriptor of a delta": (b"# Disk DescriptorFile\nparentCID=00000001\n", UnsupportedFeatureError, "consolidate"),
    "empty descriptor": (b"# Disk DescriptorFile\n", UnsupportedFeatureError, "names no file"),
    "COWD": (b"COWD".ljust(2048, b"\0"), UnsupportedFeatureError, "consolidate"),
    "seSparse": (b"\xbe\xba\xfe\xca\0\0\0\0".ljust(512, b"\0"), UnsupportedFeatureError, "seSparse"),
    "something else": (b"QFI\xfb".ljust(512, b"\0"), CorruptDiskError, "does not begin"),
    "nothing": (b"", CorruptDiskError, "does not begin"),
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_disk_whose_data_lies_elsewhere_is_named_and_refused(name: str) -> None:
    data, kind, reason = ELSEWHERE[name]
    with pytest.raises(kind, match=reason) as caught:
        read_all(data, "disk.vmdk")
    assert "disk.vmdk" in str(caught.value)


def test_grains_that_overlap_by_all_but_a_sector_are_refused() -> None:
    image = build(CAPACITY, dict.fromkeys(range(8), b"x" * GRAIN), SPARSE)
    for grain in range(8, 500):
        entry(grain, image.grains[0] // SECTOR + grain)(image)
    with pytest.raises(UnsafeDiskError, match="share the bytes"):
        read_all(image.data)


@settings(deadline=None, max_examples=60)
@given(kept=st.floats(0, 1, exclude_max=True))
def test_a_stream_cut_anywhere_is_refused_as_cut_short(kept: float) -> None:
    data = build(CAPACITY, CONTENT).data
    with pytest.raises(CorruptDiskError):
        FORMAT.open(MemoryBlob(bytes(data[: int(len(data) * kept)])))


@settings(deadline=None, max_examples=150)
@given(
    layout=st.sampled_from([STREAM, FRONT, SPARSE, replace(SPARSE, redundant=True)]),
    flips=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1 << 20), st.integers(0, 255)), max_size=6),
    kept=st.one_of(st.none(), st.floats(0, 1)),
)
def test_random_damage_raises_nothing_but_our_errors_and_costs_little(
    layout: Layout, flips: list[tuple[int, int, int]], kept: float | None
) -> None:
    image = build(CAPACITY, CONTENT, layout)
    regions = [
        (0, 79),
        (image.directory, image.directory + 8),
        (min(image.tables.values()), min(image.tables.values()) + 2048),
        (0, len(image.data)),
    ]
    for region, offset, value in flips:
        low, high = regions[region]
        image.data[low + offset % (high - low)] = value
    if kept is not None:
        del image.data[int(len(image.data) * kept) :]
    started = time.monotonic()
    try:
        bytes_read = read_all(image.data)
    except VmferryError:
        bytes_read = 0
    assert bytes_read <= 3 * len(image.data) + (2 << 20)
    assert time.monotonic() - started < 5
    check_parts(image.data)

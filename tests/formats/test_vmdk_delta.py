"""ESX's deltas, COWD and seSparse: read as ``qemu-img`` reads them, and refused when they are damaged."""

from __future__ import annotations

import contextlib
import json
import random
import struct
import subprocess
import time
import tracemalloc
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.formats.test_vmdk_read import check_extents
from tests.formats.vmdk_builder import Image
from tests.formats.vmdk_deltas import GRAIN, UNMAPPED, ZEROED, cowd, describe, entry, sesparse
from vmferry.blob import Blob, MemoryBlob
from vmferry.disk import Disk, SupportsFacts, SupportsStoredSize
from vmferry.errors import CorruptDiskError, UnsafeDiskError, UnsupportedFeatureError, VmferryError
from vmferry.extent import ExtentKind
from vmferry.folder import Companions
from vmferry.formats.vmdk import FORMAT
from vmferry.units import GIB, KIB, MIB, SECTOR, TIB

pytestmark = pytest.mark.slow

KINDS = {"cowd": ("vmfsSparse", "VMFSSPARSE"), "sesparse": ("seSparse", "SESPARSE")}


def opened(kind: str, capacity: int, data: bytes | bytearray | Blob, **more: str) -> Disk:
    create_type, access = KINDS[kind]
    blob = data if isinstance(data, Blob) else MemoryBlob(bytes(data), "x-delta.vmdk")
    text = describe(create_type, f'RW {capacity} {access} "x-delta.vmdk"', **more)
    return FORMAT.open(MemoryBlob(text, "x.vmdk"), Companions(extent_files={"x-delta.vmdk": blob}))


def content(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


def expected(capacity: int, size: int, grains: Mapping[int, bytes | int]) -> bytes:
    out = bytearray(-(-capacity * SECTOR // size) * size)
    for grain, data in grains.items():
        if isinstance(data, bytes):
            out[grain * size : (grain + 1) * size] = data
    return bytes(out[: capacity * SECTOR])


def judge(folder: Path, kind: str, capacity: int, data: bytes | bytearray) -> tuple[bytes, list[tuple[int, int, bool]]]:
    """What ``qemu-img`` reads, and where it sees data."""
    (folder / "x-delta.vmdk").write_bytes(data)
    create_type, access = KINDS[kind]
    (folder / "x.vmdk").write_bytes(describe(create_type, f'RW {capacity} {access} "x-delta.vmdk"'))
    command = ["qemu-img", "convert", "-f", "vmdk", "-O", "raw", "x.vmdk", "x.raw"]
    subprocess.run(command, check=True, capture_output=True, cwd=folder, timeout=60)
    listed = subprocess.run(
        ["qemu-img", "map", "-f", "vmdk", "--output=json", "x.vmdk"], check=True, capture_output=True, cwd=folder
    )
    runs: list[tuple[int, int, bool]] = []
    for item in json.loads(listed.stdout):
        start, stop, is_data = item["start"], item["start"] + item["length"], bool(item["data"])
        if runs and runs[-1][2] == is_data:
            start = runs.pop()[0]
        runs.append((start, stop, is_data))
    return (folder / "x.raw").read_bytes(), runs


def data_runs(disk: Disk) -> list[tuple[int, int, bool]]:
    runs: list[tuple[int, int, bool]] = []
    for extent in disk.extents():
        start, is_data = extent.start, extent.kind is ExtentKind.DATA
        if runs and runs[-1][2] == is_data:
            start = runs.pop()[0]
        runs.append((start, extent.end, is_data))
    return runs


def sample(kind: str, tail: int = 3) -> tuple[int, Image, bytes]:
    """Three tables and a bit: first and last grain, a run, single ones, zeros where the format has them."""
    size = SECTOR if kind == "cowd" else GRAIN
    capacity = (3 * 4096 + 20) * size // SECTOR + (tail if kind == "sesparse" else 0)
    last = (capacity * SECTOR - 1) // size
    numbers = [0, 1, 2, 3, 9, 4095, 4096, 9000, last]
    grains: dict[int, bytes | int] = {number: content(number, size) for number in numbers}
    if kind == "cowd":
        stored = {number: data for number, data in grains.items() if isinstance(data, bytes)}
        return capacity, cowd(capacity, stored), expected(capacity, size, grains)
    grains |= {4: UNMAPPED, 5: ZEROED | 77, 8191: ZEROED}
    return capacity, sesparse(capacity, grains), expected(capacity, size, grains)


@pytest.mark.parametrize("kind", KINDS)
def test_qemu_reads_and_maps_a_delta_alike(kind: str, tmp_path: Path) -> None:
    capacity, image, whole = sample(kind, tail=0)
    disk = opened(kind, capacity, image.data)
    assert disk.size == len(whole)
    assert bytes(disk.read_at(0, disk.size)) == whole
    check_extents(disk, whole)
    read, mapped = judge(tmp_path, kind, capacity, image.data)
    assert read == whole
    assert data_runs(disk) == mapped
    assert isinstance(disk, SupportsFacts)
    assert disk.facts.subformat == KINDS[kind][0]
    assert isinstance(disk, SupportsStoredSize)
    assert 9 * SECTOR <= disk.stored_size() <= len(image.data)


@pytest.mark.parametrize("kind", KINDS)
def test_any_range_of_a_delta_reads_as_what_was_put_in(kind: str) -> None:
    capacity, image, whole = sample(kind)
    disk = opened(kind, capacity, image.data)
    picks = random.Random(kind)
    for _ in range(60):
        start = picks.randrange(disk.size)
        length = min(picks.choice((1, 511, 4096, 9000, 70_000, 3_000_000)), disk.size - start)
        assert bytes(disk.read_at(start, length)) == whole[start : start + length]


def test_unmapped_and_zeroed_grains_of_a_sesparse_are_zeros() -> None:
    disk = opened("sesparse", 80, sesparse(80, {1: UNMAPPED, 2: ZEROED, 3: b"x" * GRAIN}).data)
    kinds = [(extent.start // GRAIN, extent.kind.value) for extent in disk.extents()]
    assert kinds == [(0, "hole"), (1, "zero"), (3, "data"), (4, "hole")]


@settings(deadline=None, max_examples=12)
@given(
    kind=st.sampled_from(sorted(KINDS)),
    numbers=st.sets(st.integers(0, 9000), max_size=12),
    odd=st.integers(1, 9),
    last=st.booleans(),
    reverse=st.booleans(),
)
def test_qemu_agrees_on_any_allocation(
    tmp_path_factory: pytest.TempPathFactory, kind: str, numbers: set[int], odd: int, last: bool, reverse: bool
) -> None:
    size, count = (SECTOR, 9001 + odd) if kind == "cowd" else (GRAIN, 9001 + odd)
    capacity = count * size // SECTOR
    grains = {number: content(number, size) for number in numbers | ({count - 1} if last else set())}
    image = cowd(capacity, grains, reverse=reverse) if kind == "cowd" else sesparse(capacity, grains)
    disk = opened(kind, capacity, image.data)
    read, mapped = judge(tmp_path_factory.mktemp("judge"), kind, capacity, image.data)
    assert bytes(disk.read_at(0, disk.size)) == read == expected(capacity, size, grains)
    assert data_runs(disk) == mapped


@pytest.mark.parametrize("grain_sectors", [1, 2, 16, 2048])
def test_a_cowd_may_have_larger_grains(grain_sectors: int) -> None:
    capacity = grain_sectors * 5 - (grain_sectors > 1)
    grains = {number: content(number, grain_sectors * SECTOR) for number in (0, 2, 4)}
    disk = opened("cowd", capacity, cowd(capacity, grains, grain_sectors=grain_sectors).data)
    assert bytes(disk.read_at(0, disk.size)) == expected(capacity, grain_sectors * SECTOR, grains)


class Patched:
    """A blob of any size that is zeros but for the pieces given; it counts what is read of it."""

    def __init__(self, size: int, pieces: dict[int, bytes], name: str = "x-delta.vmdk") -> None:
        self.size, self.name, self._pieces, self.bytes_read = size, name, pieces, 0

    def read_at(self, offset: int, length: int) -> bytes:
        assert offset + length <= self.size
        self.bytes_read += length
        out = bytearray(length)
        for start, data in self._pieces.items():
            low, high = max(start, offset), min(start + len(data), offset + length)
            if low < high:
                out[low - offset : high - offset] = data[low - start : high - start]
        return bytes(out)

    def close(self) -> None:
        pass


def large(size: int) -> Patched:
    """A seSparse of ``size`` bytes whose last table has its last grain, and its first table the first."""
    capacity = size // SECTOR
    count = -(-capacity // (4096 * 8))
    image = sesparse(4096 * 8, {0: b"first" * 800, 4095: b"last!" * 800})
    room = -(-8 * count // SECTOR)
    tables, grains = 2 + room, 2 + room + 128
    head = bytearray(image.data[:1024])
    struct.pack_into("<Q", head, 16, capacity)
    struct.pack_into("<5Q", head, 128, 2, room, tables, 128, 0)
    struct.pack_into("<2Q", head, 192, grains, 16)
    first, last = bytearray(32 * KIB), bytearray(32 * KIB)
    struct.pack_into("<Q", first, 0, 3 << 60)
    struct.pack_into("<Q", last, 8 * 4095, 3 << 60 | 1 << 48)
    pieces = {
        0: bytes(head), 1024: struct.pack("<Q", 1 << 60), 1024 + 8 * (count - 1): struct.pack("<Q", 1 << 60 | 1),
        tables * SECTOR: bytes(first), (tables + 64) * SECTOR: bytes(last),
        grains * SECTOR: b"first" * 800, grains * SECTOR + GRAIN: b"last!" * 800,
    }  # fmt: skip
    return Patched((grains + 16) * SECTOR, pieces)


@pytest.mark.parametrize("size", [3 * TIB, 62 * TIB])
def test_62_tib_open_in_a_moment_and_only_the_directory_is_read(size: int) -> None:
    blob = large(size)
    started = time.monotonic()
    tracemalloc.start()
    disk = opened("sesparse", size // SECTOR, blob)
    assert time.monotonic() - started < 2
    assert blob.bytes_read < size // (16 * MIB) * 8 + MIB
    kinds = [(extent.start, extent.kind.value) for extent in disk.extents()]
    assert kinds == [(0, "data"), (GRAIN, "hole"), (size - GRAIN, "data")]
    assert bytes(disk.read_at(size - GRAIN, 5)) == b"last!"
    assert bytes(disk.read_at(size // 2, MIB)) == bytes(MIB)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 192 * MIB
    assert time.monotonic() - started < 5


def test_a_walk_through_many_tables_keeps_few_of_them() -> None:
    """2000 tables (32 GiB of disk), each with a grain."""
    grains: dict[int, bytes | int] = {table * 4096: ZEROED for table in range(2000)}
    image = sesparse(2000 * 4096 * 8, grains)
    disk = opened("sesparse", 2000 * 4096 * 8, image.data)
    tracemalloc.start()
    assert sum(1 for _ in disk.extents()) == 4000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 48 * MIB


def put(layout: str, place: int | Callable[[Image], int], value: int) -> Callable[[Image], None]:
    return lambda image: image.patch(place(image) if callable(place) else place, layout, value)


def share(kind: str) -> Callable[[Image], None]:
    def change(image: Image) -> None:
        size = 4 if kind == "cowd" else 8
        one, other = entry(image, 0, size), entry(image, 9000, size)
        image.data[other : other + size] = image.data[one : one + size]

    return change


def cut(by: int) -> Callable[[Image], None]:
    def change(image: Image) -> None:
        del image.data[-by:]

    return change


DAMAGE: dict[str, tuple[str, Callable[[Image], None], type[VmferryError], str]] = {
    "version": ("cowd", put("I", 4, 2), UnsupportedFeatureError, "version 2"),
    "grain 0": ("cowd", put("I", 16, 0), CorruptDiskError, "is no disk"),
    "grain 3": ("cowd", put("I", 16, 3), CorruptDiskError, "is no disk"),
    "grain 2^31": ("cowd", put("I", 16, 1 << 31), CorruptDiskError, "is no disk"),
    "no capacity": ("cowd", put("I", 12, 0), CorruptDiskError, "is no disk"),
    "2 TiB in a small file": ("cowd", put("I", 12, 0xFFFFFFFF), CorruptDiskError, "grain directory"),
    "directory too short": ("cowd", put("I", 24, 1), CorruptDiskError, "too short"),
    "directory on the header": ("cowd", put("I", 20, 1), CorruptDiskError, "not in the file"),
    "directory past the end": ("cowd", put("I", 20, 0xFFFFFFFF), CorruptDiskError, "not in the file"),
    "table past the end": ("cowd", put("I", 2048, 0xFFFFFFF0), CorruptDiskError, "past the end"),
    "table on the header": ("cowd", put("I", 2048, 1), CorruptDiskError, "lies on its header"),
    "table shared": ("cowd", put("I", 2052, 5), CorruptDiskError, "share a table"),
    "grain past the end": ("cowd", put("I", lambda i: entry(i, 1), 0xFFFFFFFF), CorruptDiskError, "past the end"),
    "grain on the header": ("cowd", put("I", lambda i: entry(i, 1), 1), CorruptDiskError, "no meaning"),
    "grain in a table": ("cowd", put("I", lambda i: entry(i, 1), 9), CorruptDiskError, "headers or tables"),
    "grain shared": ("cowd", share("cowd"), UnsafeDiskError, "share the bytes"),
    "cut by a sector": ("cowd", cut(1), CorruptDiskError, "cut short"),
    "cut in the header": ("cowd", lambda i: i.data.__delitem__(slice(600, None)), CorruptDiskError, "its header"),
    "flags": ("sesparse", put("Q", 40, 1), UnsupportedFeatureError, "flags 0x1"),
    "se version": ("sesparse", put("Q", 8, 3), UnsupportedFeatureError, "version 0x3"),
    "se grain": ("sesparse", put("Q", 24, 16), UnsupportedFeatureError, "grains of 16"),
    "journal": ("sesparse", put("Q", 512 + 24, 1), UnsupportedFeatureError, "journal"),
    "volatile header": ("sesparse", put("Q", 512, 1), CorruptDiskError, "volatile"),
    "se capacity 2^63": ("sesparse", put("Q", 16, 1 << 63), UnsafeDiskError, "at most 64 TiB"),
    "se capacity 128 PiB": ("sesparse", put("Q", 16, 1 << 48), UnsafeDiskError, "at most 64 TiB"),
    "se capacity": ("sesparse", put("Q", 16, 1 << 36), CorruptDiskError, "holds less"),
    "se no capacity": ("sesparse", put("Q", 16, 0), CorruptDiskError, "no sectors"),
    "se directory": ("sesparse", put("Q", 128, (1 << 64) - 1), CorruptDiskError, "past the end"),
    "se grains": ("sesparse", put("Q", 192, 1 << 63), CorruptDiskError, "past the end"),
    "se table mark": ("sesparse", put("Q", 1024, 2 << 60), CorruptDiskError, "no meaning"),
    "se table number": ("sesparse", put("Q", 1024, 1 << 60 | 99), CorruptDiskError, "behind the last"),
    "se table shared": ("sesparse", put("Q", 1032, 1 << 60), CorruptDiskError, "share a table"),
    "se entry 0": ("sesparse", put("Q", lambda i: entry(i, 0, 8), 5), CorruptDiskError, "no meaning"),
    "se entry 4": ("sesparse", put("Q", lambda i: entry(i, 0, 8), 4 << 60), CorruptDiskError, "no meaning"),
    "se entry far": ("sesparse", put("Q", lambda i: entry(i, 0, 8), (1 << 62) - 1), CorruptDiskError, "past the end"),
    "se shared": ("sesparse", share("sesparse"), UnsafeDiskError, "share the bytes"),
    "se grains on tables": ("sesparse", put("Q", 192, 3), CorruptDiskError, "headers or tables|past the end"),
    "se cut": ("sesparse", cut(4000), CorruptDiskError, "cut short"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_delta_is_refused_with_the_reason(name: str) -> None:
    kind, damage, error, reason = DAMAGE[name]
    capacity, image, _ = sample(kind, tail=0)
    damage(image)
    with pytest.raises(error, match=reason):
        walk(opened(kind, capacity, image.data))


def walk(disk: Disk) -> None:
    for extent in disk.extents():
        if extent.kind is ExtentKind.DATA:
            disk.read_at(extent.start, min(MIB, extent.length))


def test_a_lone_delta_is_refused_and_the_descriptor_asked_for() -> None:
    for kind in KINDS:
        with pytest.raises(UnsupportedFeatureError, match="Name the descriptor"):
            FORMAT.open(MemoryBlob(bytes(sample(kind)[1].data), "x-delta.vmdk"))


@settings(deadline=None, max_examples=50)
@given(
    kind=st.sampled_from(sorted(KINDS)),
    flips=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1 << 20), st.integers(0, 255)), max_size=6),
    kept=st.one_of(st.none(), st.floats(0, 1)),
)
def test_random_damage_to_a_delta_raises_nothing_but_our_errors(
    kind: str, flips: list[tuple[int, int, int]], kept: float | None
) -> None:
    capacity, image, _ = sample(kind)
    table = image.tables[0]
    regions = [(0, 210), (image.directory, image.directory + 32), (table, table + 64), (0, len(image.data))]
    for region, offset, value in flips:
        low, high = regions[region]
        image.data[low + offset % (high - low)] = value
    if kept is not None:
        del image.data[int(len(image.data) * kept) :]
    started = time.monotonic()
    with contextlib.suppress(VmferryError):
        walk(opened(kind, capacity, image.data))
    assert time.monotonic() - started < 2


def test_grains_are_counted_where_a_bit_for_each_is_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vmferry.formats.vmdk.claims._MAX_BITMAP", 1)
    capacity, image, whole = sample("cowd")
    disk = opened("cowd", capacity, image.data)
    assert bytes(disk.read_at(0, disk.size)) == whole
    room = len(image.data) // SECTOR
    for grain in range(4096):
        image.patch(entry(image, grain), "I", room - 1 - grain % 2)
        if grain % 2:
            image.patch(entry(image, grain), "I", 0)
    with pytest.raises(UnsafeDiskError, match="share the bytes"):
        walk(opened("cowd", capacity, image.data))


def test_a_gib_of_holes_is_one_extent() -> None:
    disk = opened("sesparse", GIB // SECTOR, sesparse(GIB // SECTOR, {}).data)
    assert [(extent.length, extent.kind) for extent in disk.extents()] == [(GIB, ExtentKind.HOLE)]

"""A streamOptimized VMDK of ours, by its markers alone: what whoever reads it from front to back finds."""

from __future__ import annotations

import random
import struct
import subprocess
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from isal import isal_zlib

from tests.formats.test_vmdk_writer import by_libvmdk, by_qemu, feed, make, ours, some_disk
from vmferry.blob import Buffer
from vmferry.formats import Compression
from vmferry.formats._deflate import LEVELS
from vmferry.formats.vmdk.stream_writer import StreamOptimizedWriter
from vmferry.stores.local import create_file
from vmferry.units import KIB, MIB, round_up

GRAIN = 64 * KIB
TABLE = 32 * MIB
SECTOR = 512
MAX_STREAM = 66_036
"""VirtualBox reads a grain with its marker into a buffer of 66,048 bytes; open-vmdk refuses what is longer."""


@dataclass
class Walked:
    """What stands in a stream. Places are sectors of the file."""

    grains: dict[int, tuple[int, bytes]] = field(default_factory=dict)
    """Guest sector → place of the marker, and bytes."""
    tables: list[tuple[int, tuple[int, ...]]] = field(default_factory=list)
    """Place, entries, and none but those."""
    directory: tuple[int, tuple[int, ...]] = (0, ())
    footer: bytes = b""
    kinds: list[str] = field(default_factory=list)
    longest: int = 0
    """Bytes of the longest grain's stream."""


def walk(stream: bytes) -> Walked:
    """Go from marker to marker, and check each on its own."""
    assert len(stream) % SECTOR == 0
    found = Walked()
    position = 128 * SECTOR
    while position < len(stream):
        value, size, kind = struct.unpack_from("<QII", stream, position)
        end = position + 12 + size if size else position + SECTOR * (1 + value)
        if size:
            data = zlib.decompress(stream[position + 12 : end])
            assert len(data) == GRAIN
            assert any(data)
            assert stream[position + 12 : position + 14] == b"\x78\x01"
            assert value % 128 == 0
            found.grains[value] = position // SECTOR, data
            found.longest = max(found.longest, size)
            assert not any(stream[end : round_up(end, SECTOR)])
        else:
            assert not any(stream[position + 16 : position + SECTOR])
            take_metadata(found, kind, position, stream[position + SECTOR : end])
        found.kinds.append("grain" if size else ("end", "table", "directory", "footer")[kind])
        position = round_up(end, SECTOR)
    return found


def take_metadata(found: Walked, kind: int, position: int, payload: bytes) -> None:
    words = struct.unpack(f"<{len(payload) // 4}I", payload)
    match kind:
        case 0:
            assert not payload
        case 1:
            assert len(payload) == 2048
            found.tables.append((position // SECTOR + 1, words))
        case 2:
            found.directory = position // SECTOR + 1, words
        case 3:
            assert len(payload) == SECTOR
            found.footer = payload


def check(stream: bytes, data: bytes) -> Walked:
    """All that a stream which holds ``data`` must be."""
    size = round_up(len(data), MIB)
    header = struct.unpack_from("<4sIIQQQQIQQQB4sH", stream)
    assert header[:8] == (b"KDMV", 3, 0x30001, size // 512, 128, 1, 20, 512)
    assert header[8:] == (0, (1 << 64) - 1, 128, 0, b"\n \r\n", 1)
    assert not any(stream[79:512])
    assert not any(stream[21 * SECTOR : 128 * SECTOR])

    found = walk(stream)
    assert found.kinds[-3:] == ["directory", "footer", "end"]
    assert set(found.kinds[:-3]) <= {"grain", "table"}
    assert list(found.grains) == sorted(found.grains), "guest sectors ascend"
    place, directory = found.directory
    assert found.footer == stream[:56] + struct.pack("<Q", place) + stream[64:512]
    assert len(directory) == round_up(-(-size // TABLE) * 4, SECTOR) // 4

    expected = {
        start // 512: data[start : start + GRAIN].ljust(GRAIN, b"\0")
        for start in range(0, len(data), GRAIN)
        if any(data[start : start + GRAIN])
    }
    assert {sector: grain for sector, (_, grain) in found.grains.items()} == expected
    used = sorted({sector * SECTOR // TABLE for sector in expected})
    assert [index for index, entry in enumerate(directory) if entry] == used, "no table where there is no grain"
    assert [directory[index] for index in used] == [table for table, _ in found.tables]
    for index, (table, entries) in zip(used, found.tables, strict=True):
        for slot, entry in enumerate(entries):
            sector = (index * 512 + slot) * 128
            assert entry == (found.grains[sector][0] if sector in expected else 0)
            assert entry < table, "a table stands behind its grains"
    return found


def test_a_stream_is_laid_out_as_vmware_does_it(tmp_path: Path) -> None:
    data = some_disk(100 * MIB, (0, 200_000), (70 * MIB, 200_000), (99 * MIB, 100_000))
    found = check(make(data, tmp_path / "made.vmdk", "streamOptimized"), data)
    tables = [*(["grain"] * 4 + ["table"] + ["grain"] * 4 + ["table"] + ["grain"] * 2 + ["table"])]
    assert found.kinds == [*tables, "directory", "footer", "end"]


@settings(deadline=None, max_examples=15)
@given(
    st.integers(1, 200_000),
    st.lists(st.tuples(st.integers(0, 199_999), st.integers(1, 300)), max_size=8),
    st.sampled_from([1, 3, 64, 1000]),
    st.sampled_from(Compression),
)
def test_any_stream_agrees_with_itself(
    tmp_path_factory: pytest.TempPathFactory,
    sectors: int,
    runs: list[tuple[int, int]],
    piece: int,
    compression: Compression,
) -> None:
    data = some_disk(sectors * 512, *((start % sectors * 512, length * 512) for start, length in runs))[: sectors * 512]
    path = tmp_path_factory.mktemp("any") / "made.vmdk"
    feed(StreamOptimizedWriter(create_file(path, sync=False), len(data), compression), data, piece * GRAIN)
    check(path.read_bytes(), data)


class Tape:
    """Takes bytes at its end only, and takes them whole."""

    def __init__(self) -> None:
        self.end = 0
        self.is_whole = False

    def write_at(self, offset: int, data: Buffer) -> None:
        assert offset == self.end
        self.end += len(data)

    def set_size(self, size: int) -> None:
        assert size == self.end

    def finish(self) -> None:
        self.is_whole = True

    def abort(self) -> None:
        raise AssertionError("nothing failed")


@pytest.mark.parametrize("places", [range(0, 100, 12), range(0), range(99, 100)])
def test_a_stream_is_written_from_front_to_back(places: range) -> None:
    tape = Tape()
    writer = StreamOptimizedWriter(tape, 100 * MIB, Compression.FAST)
    for place in places:
        writer.write(writer.place(writer.encode(place * MIB, some_disk(MIB, (GRAIN, 200_000)))))
    writer.finish()
    assert tape.is_whole
    assert tape.end % SECTOR == 0


def hard_grains() -> bytes:
    """Grains that deflate little or not at all: random bytes, alone and among text, and of few different values."""
    chance = random.Random(7)
    grains = [chance.randbytes(GRAIN) for _ in range(8)]
    for count in (1, 500, 5000, 20_000, 60_000):
        grains.append((chance.randbytes(count) + b"text that deflates. " * 4000)[:GRAIN])
        grains.append((b"text that deflates. " * 4000)[: GRAIN - count] + chance.randbytes(count))
    grains += (bytes(chance.choices(range(values), k=GRAIN)) for values in (64, 128, 200, 250, 255))
    return b"".join(grains)


@pytest.mark.parametrize("compression", Compression)
def test_no_grain_is_longer_than_the_buffers_of_virtualbox_and_vmware(compression: Compression, tmp_path: Path) -> None:
    data = hard_grains()
    stream = make(data, tmp_path / "made.vmdk", "streamOptimized", compression=compression)
    assert GRAIN < check(stream, data).longest <= MAX_STREAM


def test_a_grain_that_grows_too_much_is_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LEVELS, Compression.FAST, 0)
    data, path = hard_grains(), tmp_path / "made.vmdk"
    assert len(isal_zlib.compress(data[:GRAIN], 0)) > MAX_STREAM
    stream = make(data, path, "streamOptimized", compression=Compression.FAST)
    assert check(stream, data).longest <= MAX_STREAM
    whole = data.ljust(round_up(len(data), MIB), b"\0")
    assert ours(path) == by_qemu(path) == by_libvmdk(path) == whole


def test_best_is_no_larger_than_what_qemu_img_writes(tmp_path: Path) -> None:
    tree = b"".join(path.read_bytes() for path in sorted(Path(struct.__file__).parent.glob("*.py"))[:60])
    data = (tree + random.Random(1).randbytes(200_000)).ljust(24 * MIB, b"\0")[: 24 * MIB]
    sizes = {
        level: len(make(data, tmp_path / "made.vmdk", "streamOptimized", compression=level)) for level in Compression
    }
    options = ["-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized"]
    theirs = tmp_path / "theirs.vmdk"
    subprocess.run(["qemu-img", "convert", *options, tmp_path / "made.raw", theirs], check=True, timeout=120)
    assert sizes[Compression.BEST] <= theirs.stat().st_size
    assert sizes[Compression.BEST] < sizes[Compression.BALANCED] < sizes[Compression.FAST]
    assert sizes[Compression.BALANCED] < 1.12 * theirs.stat().st_size

"""VHDs are read as their makers meant them, and told apart from disks that merely look like one."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.formats.vhd_builder import BLOCK, DYNAMIC, bitmap, dynamic_header, fixed, footer, patched, sparse
from vmferry.blob import Blob, FileBlob, MemoryBlob
from vmferry.disk import Disk, DiskFacts, SupportsFacts, SupportsStoredSize
from vmferry.errors import CorruptDiskError, UnsupportedFeatureError
from vmferry.extent import Extent, ExtentKind
from vmferry.formats import FORMATS, by_ec2_name, detect, open_disk
from vmferry.formats.vhd import FORMAT
from vmferry.formats.vhd.footer import geometry
from vmferry.units import GIB, KIB, MIB, TIB

DATA, HOLE = ExtentKind.DATA, ExtentKind.HOLE


def content(seed: int, length: int = BLOCK) -> bytes:
    return random.Random(seed).randbytes(length)


def whole(disk: Disk) -> bytes:
    return bytes(disk.read_at(0, disk.size))


def facts(disk: Disk) -> DiskFacts:
    assert isinstance(disk, SupportsFacts)
    return disk.facts


def opened(image: bytes) -> Disk:
    return FORMAT.open(MemoryBlob(image, "disk.vhd"))


def test_ec2_and_the_detection_know_it() -> None:
    assert by_ec2_name("vhd") is FORMATS["vhd"]
    assert detect(MemoryBlob(sparse(BLOCK, {}))).name == "vhd"
    assert detect(MemoryBlob(fixed(content(1)))).name == "vhd"
    assert detect(MemoryBlob(fixed(content(1), length=511))).name == "vhd"
    assert detect(MemoryBlob(content(1) + b"conecti" + bytes(505))).name == "raw"


@pytest.mark.parametrize("length", [512, 511])
def test_a_fixed_disk_is_what_lies_in_front_of_its_footer(length: int) -> None:
    data = content(2, 10 * BLOCK + 512)
    disk = opened(fixed(data, length=length))
    assert disk.size == len(data)
    assert whole(disk) == data
    assert list(disk.extents()) == [Extent(0, len(data), DATA)]
    assert facts(disk).subformat == "fixed"
    assert facts(disk).warnings == ()


def test_the_holes_of_a_sparse_fixed_disk_are_known(tmp_path: Path) -> None:
    path = tmp_path / "disk.vhd"
    with path.open("wb") as file:
        file.seek(3 * MIB)
        file.write(content(3, MIB))
        file.seek(8 * MIB)
        file.write(footer(8 * MIB))
    disk = FORMAT.open(FileBlob(path))
    assert list(disk.extents()) == [
        Extent(0, 3 * MIB, HOLE),
        Extent(3 * MIB, MIB, DATA),
        Extent(4 * MIB, 4 * MIB, HOLE),
    ]
    assert isinstance(disk, SupportsStoredSize)
    assert disk.stored_size() == MIB
    disk.close()


def test_what_the_guest_wrote_at_the_start_of_a_fixed_disk_does_not_decide() -> None:
    inside = sparse(8 * BLOCK, {0: content(4)})
    assert whole(opened(fixed(inside))) == inside


def test_a_fixed_disk_that_is_cut_short_is_refused() -> None:
    with pytest.raises(CorruptDiskError, match=r"holds 4,096 bytes in front of its footer, .* 8,192"):
        opened(content(5) + footer(2 * BLOCK))


def test_a_little_surplus_is_told_and_much_is_refused() -> None:
    disk = opened(content(6, BLOCK + 512) + footer(BLOCK))
    assert whole(disk) == content(6, BLOCK + 512)[:BLOCK]
    assert "512 bytes between the end of the disk and its footer" in facts(disk).warnings[0]
    with pytest.raises(CorruptDiskError, match="the footer gives the disk 4,096"):
        opened(bytes(2 * MIB + BLOCK + 512) + footer(BLOCK))


def test_blocks_in_any_order_and_with_gaps_are_read() -> None:
    blocks = {0: content(7), 1: content(8), 3: content(9), 6: content(10)}
    expected = b"".join(blocks.get(number, bytes(BLOCK)) for number in range(7))
    for gap, order in ((0, [0, 1, 3, 6]), (3, [6, 0, 3, 1]), (200, [3, 1, 0, 6])):
        disk = opened(sparse(7 * BLOCK, blocks, order=order, gap=gap))
        assert whole(disk) == expected
        assert bytes(disk.read_at(BLOCK - 7, BLOCK + 20)) == expected[BLOCK - 7 : 2 * BLOCK + 13]
        assert bytes(disk.read_at(5 * BLOCK, 100)) == bytes(100)
        assert disk.read_at(disk.size, 0) == b""
        assert isinstance(disk, SupportsStoredSize)
        assert disk.stored_size() == 4 * BLOCK
        assert list(disk.extents(100, 7 * BLOCK)) == [
            Extent(100, 2 * BLOCK - 100, DATA),
            Extent(2 * BLOCK, BLOCK, HOLE),
            Extent(3 * BLOCK, BLOCK, DATA),
            Extent(4 * BLOCK, 2 * BLOCK, HOLE),
            Extent(6 * BLOCK, BLOCK, DATA),
        ]


def test_a_range_outside_the_disk_is_the_callers_mistake() -> None:
    disk = opened(sparse(BLOCK, {}))
    for offset, length in ((-1, 2), (0, -1), (0, BLOCK + 1), (BLOCK, 1)):
        with pytest.raises(ValueError, match="inside a disk"):
            disk.read_at(offset, length)


def test_the_bitmap_of_a_dynamic_disk_changes_nothing() -> None:
    image = sparse(2 * BLOCK, {1: content(11)}, bitmaps={1: bitmap([False] * 8)})
    assert whole(opened(image)) == bytes(BLOCK) + content(11)


def test_the_last_block_need_not_be_whole() -> None:
    data = content(12, 1024)
    image = sparse(BLOCK + 1024, {1: data})
    assert whole(opened(image)) == bytes(BLOCK) + data
    end = len(image) - 512
    assert whole(opened(image[: end - BLOCK + 1024] + image[end:])) == bytes(BLOCK) + data
    with pytest.raises(CorruptDiskError, match="cut short"):
        opened(image[: end - BLOCK + 512] + image[end:])


def test_a_table_longer_than_the_disk_and_a_header_elsewhere_are_fine() -> None:
    disk = opened(sparse(2 * BLOCK, {0: content(13)}, extra_entries=300, header_at=2048))
    assert whole(disk) == content(13) + bytes(BLOCK)


def test_the_current_size_counts() -> None:
    image = sparse(4 * BLOCK, {3: content(14)})
    ends = footer(4 * BLOCK, DYNAMIC, original=BLOCK)
    disk = opened(patched(image, 0, ends)[:-512] + ends)
    assert whole(disk)[3 * BLOCK :] == content(14)
    assert facts(disk).warnings == ()


@pytest.mark.parametrize("creator", [b"vpc ", b"qemu"])
def test_two_sizes_are_told(creator: bytes) -> None:
    data = content(15, 100 * 512)
    disk = opened(data + footer(len(data), creator=creator, chs=(1, 4, 17)))
    assert disk.size == len(data)
    assert "51,200 bytes, which is read, and a geometry of 34,816 bytes" in facts(disk).warnings[0]
    assert facts(opened(data + footer(len(data), chs=(1, 4, 17)))).warnings == ()


def test_a_suspended_machine_is_told() -> None:
    disk = opened(content(16) + footer(BLOCK, saved=1))
    assert "suspended" in facts(disk).warnings[0]
    assert facts(disk).creator == "win 10.0 (Wi2k)"


def test_a_damaged_footer_at_the_end_is_made_good_by_its_copy() -> None:
    image = sparse(2 * BLOCK, {1: content(17)})
    for damaged, words in (
        (patched(image, len(image) - 460, b"\1"), "has a wrong checksum"),
        (patched(image, len(image) - 512, b"C"), "is missing"),
        (image[:-512], "is missing"),
        (image[:-100], "is missing"),
    ):
        disk = opened(damaged)
        assert whole(disk) == bytes(BLOCK) + content(17)
        assert f"The footer at the end of the file {words}; its copy at the start" in facts(disk).warnings[0]


def test_a_damaged_copy_is_told() -> None:
    image = sparse(2 * BLOCK, {1: content(18)})
    assert "start of the file is missing" in facts(opened(bytes(512) + image[512:])).warnings[0]
    other = patched(image, 0, footer(BLOCK, DYNAMIC))
    assert "start of the file differs" in facts(opened(other)).warnings[0]
    assert opened(other).size == 2 * BLOCK


def test_with_both_footers_damaged_it_is_refused() -> None:
    image = sparse(2 * BLOCK, {1: content(19)})
    with pytest.raises(CorruptDiskError, match="wrong checksum, and there is no sound copy"):
        opened(patched(patched(image, 70, b"\1"), len(image) - 400, b"\1"))
    with pytest.raises(CorruptDiskError, match="no sound copy"):
        opened(patched(fixed(content(1)), BLOCK + 70, b"\1"))


def test_the_published_geometries_are_ours() -> None:
    assert [geometry(size * MIB) for size in (3, 10, 20, 31, 256, 504)] == [
        (90, 4, 17), (301, 4, 17), (602, 4, 17), (933, 4, 17), (520, 16, 63), (1024, 16, 63),
    ]  # fmt: skip
    assert [geometry(size * GIB) for size in (1, 8, 30, 127, 128, 2040)] == [
        (2080, 16, 63), (16644, 16, 63), (62415, 16, 63), (65278, 16, 255), (65535, 16, 255), (65535, 16, 255),
    ]  # fmt: skip
    cylinders, heads, sectors = geometry(127 * GIB)
    assert cylinders * heads * sectors * 512 == 136363130880


class SparseBlob:
    """A large file of zeros with some bytes in it, which counts what is read of it."""

    def __init__(self, size: int, parts: dict[int, bytes]) -> None:
        self.size = size
        self.name = "large.vhd"
        self.bytes_read = 0
        self._parts = parts

    def read_at(self, offset: int, length: int) -> bytes:
        assert 0 <= offset <= offset + length <= self.size
        self.bytes_read += length
        out = bytearray(length)
        for place, data in self._parts.items():
            low, high = max(place, offset), min(place + len(data), offset + length)
            if low < high:
                out[low - offset : high - offset] = data[low - place : high - place]
        return bytes(out)

    def close(self) -> None:
        pass


def test_a_disk_of_2040_gib_opens_from_its_table_alone() -> None:
    size, entries = 2040 * GIB, 2040 * 512
    last = (2 * TIB - 8 * MIB) // 512
    bat = bytearray(b"\xff" * entries * 4)
    bat[-4:] = last.to_bytes(4, "big")
    ends = footer(size, DYNAMIC)
    end = last * 512 + 512 + 2 * MIB
    block = bytes(2 * MIB - 512) + content(20, 512)
    parts = {
        0: ends,
        512: dynamic_header(1536, entries, 2 * MIB),
        1536: bytes(bat),
        last * 512 + 512: block,
        end: ends,
    }
    blob: Blob = SparseBlob(end + 512, parts)
    disk = open_disk(blob)
    assert list(disk.extents()) == [Extent(0, size - 2 * MIB, HOLE), Extent(size - 2 * MIB, 2 * MIB, DATA)]
    assert bytes(disk.read_at(size - 512, 512)) == content(20, 512)
    assert isinstance(blob, SparseBlob)
    assert blob.bytes_read < 5 * MIB


@pytest.mark.parametrize("subformat", ["dynamic", "fixed"])
def test_what_qemu_writes_is_read(subformat: str, tmp_path: Path) -> None:
    raw, vhd = tmp_path / "disk.raw", tmp_path / "disk.vhd"
    data = bytearray(9 * MIB)
    data[:512] = content(21, 512)
    data[5 * MIB + 4096 : 7 * MIB] = content(22, 2 * MIB - 4096)
    data[-512:] = content(23, 512)
    raw.write_bytes(data)
    command = ["qemu-img", "convert", "-f", "raw", "-O", "vpc", "-o", f"subformat={subformat},force_size=on"]
    subprocess.run([*command, str(raw), str(vhd)], check=True, timeout=60)
    disk = open_disk(FileBlob(vhd))
    assert whole(disk) == bytes(data)
    assert facts(disk).subformat == subformat
    assert facts(disk).creator == "qem2 5.3 (Wi2k)"
    disk.close()


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_any_allocation_is_read_back(draw: st.DataObject) -> None:
    block_size = draw.draw(st.sampled_from([4 * KIB, 8 * KIB, 64 * KIB]))
    sectors = draw.draw(st.integers(1, 12 * block_size // 512))
    count = -(-sectors * 512 // block_size)
    numbers = draw.draw(st.lists(st.integers(0, count - 1), unique=True))
    blocks = {number: content(number + 1, block_size) for number in numbers}
    gap = draw.draw(st.sampled_from([0, 0, 1, 7, 300]))
    image = sparse(sectors * 512, blocks, block_size=block_size, gap=gap, extra_entries=draw.draw(st.integers(0, 2)))
    expected = b"".join(blocks.get(number, bytes(block_size)) for number in range(count))[: sectors * 512]
    disk = opened(image)
    assert whole(disk) == expected
    low = draw.draw(st.integers(0, disk.size))
    high = draw.draw(st.integers(low, disk.size))
    assert bytes(disk.read_at(low, high - low)) == expected[low:high]
    position = low
    for extent in disk.extents(low, high):
        assert extent.start == position
        position = extent.end
        stored = set(range(extent.start // block_size, -(-extent.end // block_size))) & set(blocks)
        assert bool(stored) == (extent.kind is DATA)
    assert position == high


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(UnsupportedFeatureError, match="type 5"):
        opened(content(24) + footer(BLOCK, 5))

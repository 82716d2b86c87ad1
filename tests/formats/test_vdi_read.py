"""VDIs are read as their makers meant them, by themselves and over a parent that was supplied."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.formats.vdi_builder import BLOCK, DIFFERENCING, FIXED, sparse
from vmferry.blob import FileBlob, MemoryBlob
from vmferry.disk import Disk, DiskFacts, SupportsFacts, SupportsStoredSize
from vmferry.errors import UnknownFormatError, UnsafeDiskError, UnsupportedFeatureError
from vmferry.extent import Extent, ExtentKind
from vmferry.folder import Companions
from vmferry.formats import FORMATS, detect, open_disk
from vmferry.units import KIB, MIB

DATA, HOLE, ZERO = ExtentKind.DATA, ExtentKind.HOLE, ExtentKind.ZERO
PARENT_IDS = (b"P" * 16, b"Q" * 16, bytes(16), bytes(16))
CHILD_IDS = (b"C" * 16, b"D" * 16, b"P" * 16, b"Q" * 16)


def content(seed: int, length: int = BLOCK) -> bytes:
    return random.Random(seed).randbytes(length)


def opened(image: bytes, *parents: bytes) -> Disk:
    blobs = tuple(MemoryBlob(parent, f"parent{index}.vdi") for index, parent in enumerate(parents))
    return open_disk(MemoryBlob(image, "disk.vdi"), FORMATS["vdi"], Companions(parents=blobs))


def whole(disk: Disk) -> bytes:
    return bytes(disk.read_at(0, disk.size))


def facts(disk: Disk) -> DiskFacts:
    assert isinstance(disk, SupportsFacts)
    return disk.facts


def test_it_is_detected_and_told() -> None:
    image = sparse(BLOCK, {0: content(1)})
    assert detect(MemoryBlob(image)).name == "vdi"
    assert FORMATS["vdi"].ec2_name is None
    assert facts(opened(image)).creator == "Oracle VM VirtualBox Disk Image"
    assert facts(opened(image)).subformat == "dynamic"
    assert facts(opened(sparse(BLOCK, {0: content(1)}, kind=FIXED))).subformat == "fixed"


def test_blocks_in_any_order_are_read() -> None:
    blocks = {0: content(2), 1: content(3), 3: content(4), 6: content(5)}
    expected = b"".join(blocks.get(number, bytes(BLOCK)) for number in range(8))
    for order, extra in (([0, 1, 3, 6], 0), ([6, 3, 0, 1], 0), ([1, 6, 0, 3], 512)):
        disk = opened(sparse(8 * BLOCK, blocks, zeros=[4], order=order, extra=extra))
        assert whole(disk) == expected
        assert bytes(disk.read_at(BLOCK - 7, BLOCK + 20)) == expected[BLOCK - 7 : 2 * BLOCK + 13]
        assert isinstance(disk, SupportsStoredSize)
        assert disk.stored_size() == 4 * BLOCK
        assert list(disk.extents(512)) == [
            Extent(512, 2 * BLOCK - 512, DATA),
            Extent(2 * BLOCK, BLOCK, HOLE),
            Extent(3 * BLOCK, BLOCK, DATA),
            Extent(4 * BLOCK, BLOCK, ZERO),
            Extent(5 * BLOCK, BLOCK, HOLE),
            Extent(6 * BLOCK, BLOCK, DATA),
            Extent(7 * BLOCK, BLOCK, HOLE),
        ]
        with pytest.raises(ValueError, match="inside a disk"):
            disk.read_at(8 * BLOCK - 1, 2)


@pytest.mark.parametrize("header_size", [384, 400, 512])
def test_all_header_sizes_and_longer_maps_are_read(header_size: int) -> None:
    disk = opened(sparse(2 * BLOCK, {1: content(6)}, header_size=header_size, extra_entries=5, map_at=4096))
    assert whole(disk) == bytes(BLOCK) + content(6)


def test_version_1_0_is_read_and_others_are_not() -> None:
    assert whole(opened(sparse(BLOCK, {0: content(7)}, version=0x10000, header_size=384))) == content(7)
    for version in (1, 0x20000):
        with pytest.raises(UnsupportedFeatureError, match="version"):
            opened(sparse(BLOCK, {}, version=version))


def test_the_last_block_need_not_be_whole() -> None:
    image = sparse(BLOCK + 1024, {1: content(8, 1024)})
    assert whole(opened(image[: len(image) - BLOCK + 1024])) == bytes(BLOCK) + content(8, 1024)


@pytest.mark.parametrize("static", ["on", "off"])
def test_what_qemu_writes_is_read(static: str, tmp_path: Path) -> None:
    raw, vdi = tmp_path / "disk.raw", tmp_path / "disk.vdi"
    data = bytearray(9 * MIB + 1536)
    data[:512], data[-512:] = content(9, 512), content(10, 512)
    data[5 * MIB + 4096 : 7 * MIB] = content(11, 2 * MIB - 4096)
    raw.write_bytes(data)
    command = ["qemu-img", "convert", "-f", "raw", "-O", "vdi", "-o", f"static={static}", str(raw), str(vdi)]
    subprocess.run(command, check=True, timeout=60)
    disk = open_disk(FileBlob(vdi))
    assert whole(disk) == bytes(data)
    assert facts(disk).subformat == ("fixed" if static == "on" else "dynamic")
    disk.close()


def test_a_hole_shows_the_parent_and_a_zero_block_hides_it() -> None:
    base = sparse(5 * BLOCK, {0: content(12), 1: content(13), 2: content(14)}, ids=PARENT_IDS)
    image = sparse(6 * BLOCK, {2: content(15)}, zeros=[1], kind=DIFFERENCING, ids=CHILD_IDS)
    disk = opened(image, base)
    assert whole(disk) == content(12) + bytes(BLOCK) + content(15) + bytes(3 * BLOCK)
    assert list(disk.extents()) == [
        Extent(0, BLOCK, DATA),
        Extent(BLOCK, BLOCK, ZERO),
        Extent(2 * BLOCK, BLOCK, DATA),
        Extent(3 * BLOCK, 3 * BLOCK, HOLE),
    ]
    assert facts(disk).subformat == "differencing"
    assert facts(disk).parent is not None
    assert facts(disk).warnings == ()
    disk.close()


def test_a_chain_is_followed_in_the_order_given() -> None:
    base = sparse(3 * BLOCK, {0: content(16), 2: content(17)}, ids=(b"B" * 16, b"E" * 16, bytes(16), bytes(16)))
    middle_ids = (b"P" * 16, b"Q" * 16, b"B" * 16, b"E" * 16)
    middle = sparse(3 * BLOCK, {1: content(18)}, kind=DIFFERENCING, ids=middle_ids)
    top = sparse(3 * BLOCK, {2: content(19)}, kind=DIFFERENCING, ids=CHILD_IDS)
    assert whole(opened(top, middle, base)) == content(16) + content(18) + content(19)


def test_a_parent_that_is_missing_or_another_is_named() -> None:
    image = sparse(BLOCK, {}, kind=DIFFERENCING, ids=CHILD_IDS)
    with pytest.raises(UnsupportedFeatureError, match=r"UUID 50505050-5050-.*: give it with --parent"):
        opened(image)
    with pytest.raises(UnknownFormatError, match=r"parent0.vdi has the UUID 49494949-.* disk.vdi is .* 50505050-"):
        opened(image, sparse(BLOCK, {}))
    with pytest.raises(UnknownFormatError, match="has no parent"):
        opened(sparse(BLOCK, {}), sparse(BLOCK, {}))


def test_a_disk_that_is_its_own_parent_ends() -> None:
    loop = sparse(BLOCK, {}, kind=DIFFERENCING, ids=(b"P" * 16, b"Q" * 16, b"P" * 16, b"Q" * 16))
    with pytest.raises(UnsupportedFeatureError, match="give it with --parent"):
        opened(loop, loop, loop)
    with pytest.raises(UnsafeDiskError, match="chain of 33 parents is too long"):
        opened(loop, *[loop] * 33)


def test_a_parent_that_was_written_to_is_told() -> None:
    base = sparse(BLOCK, {}, ids=(b"P" * 16, b"Z" * 16, bytes(16), bytes(16)))
    disk = opened(sparse(BLOCK, {}, kind=DIFFERENCING, ids=CHILD_IDS), base)
    assert "was written to after the snapshot" in facts(disk).warnings[0]


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_any_allocation_is_read_back(draw: st.DataObject) -> None:
    block_size = draw.draw(st.sampled_from([4 * KIB, 8 * KIB, 64 * KIB]))
    sectors = draw.draw(st.integers(1, 12 * block_size // 512))
    count = -(-sectors * 512 // block_size)
    numbers = draw.draw(st.lists(st.integers(0, count - 1), unique=True))
    zeros = draw.draw(st.lists(st.integers(0, count - 1).filter(lambda number: number not in numbers), unique=True))
    blocks = {number: content(number + 1, block_size) for number in numbers}
    extra = draw.draw(st.sampled_from([0, 0, 512, 4096]))
    image = sparse(sectors * 512, blocks, zeros=zeros, block_size=block_size, extra=extra)
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
        touched = set(range(extent.start // block_size, -(-extent.end // block_size)))
        wanted = set(numbers) if extent.kind is DATA else set(zeros) if extent.kind is ZERO else None
        assert touched <= wanted if wanted is not None else not touched & {*numbers, *zeros}
    assert position == high

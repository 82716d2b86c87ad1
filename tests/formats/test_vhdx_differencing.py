"""A differencing VHDX over the parent that was supplied: each sector comes from the right one."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import pyvhdi
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.formats import vhdx_builder as vhdx
from tests.formats.vhdx_builder import MIB, Picture, linkage
from vmferry.blob import MemoryBlob
from vmferry.disk import Disk
from vmferry.errors import CorruptDiskError, UnknownFormatError, UnsafeDiskError, UnsupportedFeatureError
from vmferry.extent import Extent, ExtentKind
from vmferry.folder import Companions
from vmferry.formats import FORMATS, open_disk

ANOTHER_ID = b"\x55" * 16
NULL_ID = bytes(16)


def pattern(seed: int, length: int = MIB) -> bytes:
    return random.Random(seed).randbytes(length)


def opened(content: bytes | MemoryBlob, *parents: bytes) -> Disk:
    blob = content if isinstance(content, MemoryBlob) else MemoryBlob(content, "child.avhdx")
    blobs = tuple(MemoryBlob(parent, f"parent{number}.vhdx") for number, parent in enumerate(parents))
    return open_disk(blob, FORMATS["vhdx"], Companions(parents=blobs))


def whole(disk: Disk) -> bytes:
    return bytes(disk.read_at(0, disk.size))


def base(size: int, *blocks: int) -> bytes:
    """A parent of ``size`` bytes that holds ``blocks``."""
    return Picture(size, blocks={number: (vhdx.PRESENT, pattern(number)) for number in blocks}).build()


@settings(deadline=None, max_examples=20)
@given(st.data(), st.sampled_from([512, 4096]))
def test_any_bitmaps_are_obeyed(draw: st.DataObject, sector: int) -> None:
    count, per_block = draw.draw(st.integers(1, 4)), MIB // sector
    base_blocks = draw.draw(st.sets(st.integers(0, 3)))
    states = draw.draw(
        st.dictionaries(st.integers(0, count - 1), st.sampled_from([vhdx.ZERO, vhdx.PRESENT, vhdx.PARTIAL]))
    )
    cut = draw.draw(st.integers(0, per_block - 1)) * sector
    parent = Picture(4 * MIB, blocks={number: (vhdx.PRESENT, pattern(number)) for number in base_blocks}).build()
    expected = bytearray(whole(opened(parent)))
    own = {}
    for number, state in states.items():
        mine = pattern(number + 50)
        place = number * MIB
        if state == vhdx.PARTIAL:
            edges = sorted(draw.draw(st.sets(st.integers(0, per_block), min_size=2, max_size=8)))
            own[number] = [s for low, high in zip(edges[::2], edges[1::2], strict=False) for s in range(low, high)]
            for index in own[number] or []:
                expected[place + index * sector : place + (index + 1) * sector] = mine[
                    index * sector : (index + 1) * sector
                ]
        else:
            expected[place : place + MIB] = mine if state == vhdx.PRESENT else bytes(MIB)
    blocks = {
        number: (state, pattern(number + 50) if state >= vhdx.PRESENT else b"") for number, state in states.items()
    }
    size = count * MIB - cut
    disk = opened(Picture(size, sector=sector, blocks=blocks, own_sectors=own, parent=linkage()).build(), parent)
    assert whole(disk) == expected[:size]
    low = draw.draw(st.integers(0, size))
    high = draw.draw(st.integers(low, size))
    assert bytes(disk.read_at(low, high - low)) == expected[low:high]
    extents = list(disk.extents(low, high))
    assert sum(extent.length for extent in extents) == high - low
    assert all(extent.kind is ExtentKind.DATA or not any(expected[extent.start : extent.end]) for extent in extents)


def test_libvhdi_sees_the_same(tmp_path: Path) -> None:
    parent = base(4 * MIB, 0, 1, 3)
    own = {1: [index for index in range(2048) if index // 8 % 3 == 0]}
    blocks = {0: (vhdx.PRESENT, pattern(10)), 1: (vhdx.PARTIAL, pattern(11))}
    names = ("relative_path", "base.vhdx"), ("absolute_win32_path", "C:\\base.vhdx")
    child = Picture(4 * MIB, blocks=blocks, own_sectors=own, parent=linkage(*names)).build()
    paths = tmp_path / "base.vhdx", tmp_path / "child.avhdx"
    for path, content in zip(paths, (parent, child), strict=True):
        path.write_bytes(content)
    lower, upper = pyvhdi.file(), pyvhdi.file()
    lower.open(str(paths[0]))
    upper.open(str(paths[1]))
    upper.set_parent(lower)
    expected = upper.read_buffer_at_offset(4 * MIB, 0)
    upper.close()
    lower.close()
    assert whole(opened(child, parent)) == expected


def test_each_chunk_has_its_own_bitmap() -> None:
    """Past 4 GiB the second bitmap counts, and the entries of both stand between those of the blocks."""
    blocks = {number: (vhdx.PARTIAL, pattern(number)) for number in (0, 4095, 4096)}
    own = {0: [0], 4095: [2047], 4096: [1]}
    child = Picture(4100 * MIB, blocks=blocks, own_sectors=own, parent=linkage()).build()
    disk = opened(child, base(MIB, 0))
    expected = {0: 0, 4095 * MIB + 2047 * 512: 2047, 4096 * MIB + 512: 1}
    for place, sector in expected.items():
        assert bytes(disk.read_at(place, 512)) == pattern(place // MIB)[sector * 512 : sector * 512 + 512]
    data = [extent for extent in disk.extents() if extent.kind is ExtentKind.DATA]
    assert data == [
        Extent(0, MIB, ExtentKind.DATA),
        Extent(4096 * MIB - 512, 512, ExtentKind.DATA),
        Extent(4096 * MIB + 512, 512, ExtentKind.DATA),
    ]


class Counted(MemoryBlob):
    """Counts what is read of it."""

    reads = 0

    def read_at(self, offset: int, length: int) -> bytes:
        self.reads += 1
        return super().read_at(offset, length)


def test_a_map_costs_one_read_for_each_bitmap() -> None:
    blocks = dict.fromkeys(range(64), (vhdx.PARTIAL, b""))
    own = {number: [number] for number in range(64)}
    blob = Counted(Picture(64 * MIB, blocks=blocks, own_sectors=own, parent=linkage()).build())
    disk = opened(blob, base(64 * MIB))
    before = blob.reads
    assert sum(extent.kind is ExtentKind.DATA for extent in disk.extents()) == 64
    assert blob.reads - before == 2, "the block allocation table and the bitmap"


def test_parts_of_a_block_without_a_bitmap_are_no_guess() -> None:
    child = Picture(2 * MIB, blocks={0: (vhdx.PARTIAL, pattern(1))}, parent=linkage()).build()
    disk = opened(child, base(2 * MIB, 0))
    with pytest.raises(CorruptDiskError, match="no sector bitmap"):
        list(disk.extents())
    with pytest.raises(CorruptDiskError, match="no sector bitmap"):
        disk.read_at(0, 512)
    assert bytes(disk.read_at(MIB, MIB)) == bytes(MIB)


def test_while_a_merge_is_under_way_either_id_is_the_parents() -> None:
    parent = base(MIB, 0)
    (_, right), (_, wrong), (_, null) = (
        linkage(data_write_id=which)[0] for which in (vhdx.DATA_WRITE_ID, ANOTHER_ID, NULL_ID)
    )
    for first, second in ((right, null), (right, wrong), (wrong, right)):
        pairs = [("parent_linkage", first), ("parent_linkage2", second)]
        assert whole(opened(Picture(MIB, parent=pairs).build(), parent)) == pattern(0)
    for pairs in ([("parent_linkage", wrong), ("parent_linkage2", null)], [("parent_linkage", "{no id}")], []):
        with pytest.raises(UnknownFormatError, match="is not the parent of"):
            opened(Picture(MIB, parent=pairs).build(), parent)


def test_an_id_of_zeros_is_nobodys() -> None:
    parent = bytearray(base(MIB, 0))
    for place in (64 << 10, 128 << 10):
        head = bytearray(parent[place : place + 4096])
        head[32:48] = NULL_ID
        parent[place : place + 4096] = vhdx.resummed(head)
    pairs = [*linkage(data_write_id=ANOTHER_ID), ("parent_linkage2", linkage(data_write_id=NULL_ID)[0][1])]
    with pytest.raises(UnknownFormatError, match="is not the parent of"):
        opened(Picture(MIB, parent=pairs).build(), bytes(parent))


def test_a_chain_ends() -> None:
    """All files built here bear one id, so each may pass for the parent of any other, itself included."""
    middle = Picture(3 * MIB, blocks={1: (vhdx.PRESENT, pattern(11))}, parent=linkage()).build()
    top = Picture(3 * MIB, blocks={2: (vhdx.PRESENT, pattern(12))}, parent=linkage()).build()
    assert whole(opened(top, middle, base(3 * MIB, 0, 1, 2))) == pattern(0) + pattern(11) + pattern(12)
    with pytest.raises(UnsupportedFeatureError, match="give it with --parent"):
        opened(top, top, top)
    with pytest.raises(UnsafeDiskError, match="A chain of 40 parents is too long"):
        opened(top, *[top] * 40)

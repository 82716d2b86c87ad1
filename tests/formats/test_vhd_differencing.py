"""A differencing VHD over the parent that was supplied: each sector comes from the right one."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import pyvhdi
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.formats.vhd_builder import BLOCK, DIFFERENCING, bitmap, fixed, patched, sparse
from vmferry.blob import MemoryBlob
from vmferry.disk import Disk, SupportsFacts, SupportsStoredSize
from vmferry.errors import UnknownFormatError, UnsafeDiskError, UnsupportedFeatureError
from vmferry.extent import Extent, ExtentKind
from vmferry.folder import Companions
from vmferry.formats import FORMATS, open_disk
from vmferry.units import KIB, MIB

DATA, HOLE = ExtentKind.DATA, ExtentKind.HOLE
PARENT, CHILD, BASE = b"P" * 16, b"C" * 16, b"B" * 16


def content(seed: int, length: int = BLOCK) -> bytes:
    return random.Random(seed).randbytes(length)


def opened(image: bytes, *parents: bytes) -> Disk:
    blobs = tuple(MemoryBlob(parent, f"parent{index}.vhd") for index, parent in enumerate(parents))
    return open_disk(MemoryBlob(image, "child.vhd"), FORMATS["vhd"], Companions(parents=blobs))


def whole(disk: Disk) -> bytes:
    return bytes(disk.read_at(0, disk.size))


def child(
    size: int,
    blocks: dict[int, bytes],
    bitmaps: dict[int, bytes] | None = None,
    *,
    uid: bytes = CHILD,
    parent_id: bytes = PARENT,
    parent_name: str = "C:\\vm\\base.vhd",
    locators: bytes = b"",
) -> bytes:
    return sparse(
        size,
        blocks,
        kind=DIFFERENCING,
        bitmaps=bitmaps,
        uid=uid,
        parent_id=parent_id,
        parent_name=parent_name,
        locators=locators,
    )


def test_a_hole_shows_the_parent_sector_by_sector() -> None:
    base = content(1, 4 * BLOCK)
    own = [index in (0, 3, 4, 7) for index in range(8)]
    image = child(4 * BLOCK, {1: content(2), 3: content(3)}, {1: bitmap(own)})
    expected = bytearray(base)
    for index in (0, 3, 4, 7):
        expected[BLOCK + index * 512 : BLOCK + (index + 1) * 512] = content(2)[index * 512 : (index + 1) * 512]
    expected[3 * BLOCK :] = content(3)
    disk = opened(image, fixed(base, uid=PARENT))
    assert whole(disk) == expected
    assert bytes(disk.read_at(BLOCK + 100, 3000)) == expected[BLOCK + 100 : BLOCK + 3100]
    assert list(disk.extents()) == [Extent(0, 4 * BLOCK, DATA)]
    assert isinstance(disk, SupportsFacts)
    assert disk.facts.subformat == "differencing"
    assert disk.facts.parent is not None
    assert disk.facts.parent.size == 4 * BLOCK
    assert isinstance(disk, SupportsStoredSize)
    assert disk.stored_size() == 2 * BLOCK
    disk.close()


def test_the_map_is_exact_where_neither_has_data() -> None:
    own = [index in (1, 2) for index in range(8)]
    image = child(3 * BLOCK, {1: content(4)}, {1: bitmap(own)})
    disk = opened(image, sparse(3 * BLOCK, {2: content(5)}, uid=PARENT))
    assert list(disk.extents()) == [
        Extent(0, BLOCK + 512, HOLE),
        Extent(BLOCK + 512, 1024, DATA),
        Extent(BLOCK + 1536, BLOCK - 1536, HOLE),
        Extent(2 * BLOCK, BLOCK, DATA),
    ]
    assert whole(disk) == bytes(BLOCK + 512) + content(4)[512:1536] + bytes(BLOCK - 1536) + content(5)


def test_the_most_significant_bit_is_the_first_sector() -> None:
    image = child(BLOCK, {0: content(6)}, {0: b"\x80".ljust(512, b"\0")})
    disk = opened(image, fixed(bytes(BLOCK), uid=PARENT))
    assert whole(disk) == content(6)[:512] + bytes(BLOCK - 512)


@pytest.mark.parametrize(("base_size", "child_size"), [(2, 5), (5, 2)])
def test_child_and_parent_may_differ_in_size(base_size: int, child_size: int) -> None:
    base = content(7, base_size * BLOCK)
    disk = opened(child(child_size * BLOCK, {1: content(8)}), fixed(base, uid=PARENT))
    expected = bytearray(base[: child_size * BLOCK].ljust(child_size * BLOCK, b"\0"))
    expected[BLOCK : 2 * BLOCK] = content(8)
    assert whole(disk) == expected
    assert sum(extent.length for extent in disk.extents()) == disk.size


def test_child_and_parent_may_differ_in_block_size() -> None:
    base = sparse(64 * KIB, {0: content(9, 32 * KIB)}, block_size=32 * KIB, uid=PARENT)
    disk = opened(child(64 * KIB, {15: content(10), 2: content(11)}), base)
    expected = bytearray(content(9, 32 * KIB) + bytes(32 * KIB))
    expected[2 * BLOCK : 3 * BLOCK], expected[15 * BLOCK :] = content(11), content(10)
    assert whole(disk) == expected


def test_a_chain_is_followed_in_the_order_given() -> None:
    base = fixed(content(12, 3 * BLOCK), uid=BASE)
    middle = child(3 * BLOCK, {1: content(13)}, uid=PARENT, parent_id=BASE)
    top = child(3 * BLOCK, {2: content(14)})
    assert whole(opened(top, middle, base)) == content(12, 3 * BLOCK)[:BLOCK] + content(13) + content(14)


def test_without_its_parent_it_is_refused_and_the_parent_named() -> None:
    image = child(BLOCK, {}, parent_name="\\\\host\\share\\b\x1base.vhd")
    with pytest.raises(
        UnsupportedFeatureError, match=r"parent, .*\\b\\u001base.vhd .*50505050-.* give it with --parent"
    ):
        opened(image)


def test_another_disk_is_not_taken_for_the_parent() -> None:
    with pytest.raises(UnknownFormatError, match=r"parent0\.vhd .* is not the parent of child\.vhd"):
        opened(child(BLOCK, {}), fixed(bytes(BLOCK), uid=b"X" * 16))
    with pytest.raises(UnknownFormatError, match=r"parent0\.vhd was declared as vhd"):
        opened(child(BLOCK, {}), bytes(BLOCK))
    with pytest.raises(UnknownFormatError, match="has no parent"):
        opened(fixed(bytes(BLOCK)), fixed(bytes(BLOCK)))


def test_a_disk_that_is_its_own_parent_ends() -> None:
    loop = child(BLOCK, {}, uid=PARENT)
    with pytest.raises(UnsupportedFeatureError, match="give it with --parent"):
        opened(loop, loop, loop, loop)
    with pytest.raises(UnsafeDiskError, match="A chain of 40 parents is too long"):
        opened(loop, *[loop] * 40)


def test_locators_are_never_followed() -> None:
    """Whatever they name and however long they claim to be: nothing reads them."""
    secret = b"".join(
        code + (1 << 31).to_bytes(4, "big") + (1 << 31).to_bytes(4, "big") + bytes(4) + (1 << 63).to_bytes(8, "big")
        for code in (b"W2ku", b"W2ru", b"MacX", b"Wi2k")
    )
    image = child(BLOCK, {0: content(15)}, locators=secret, parent_name="https://host/x.vhd")
    assert whole(opened(image, fixed(bytes(BLOCK), uid=PARENT))) == content(15)
    with pytest.raises(UnsupportedFeatureError, match=r"https://host/x\.vhd"):
        opened(image)


def test_libvhdi_sees_the_same(tmp_path: Path) -> None:
    base_path, child_path = tmp_path / "base.vhd", tmp_path / "child.vhd"
    block = 2 * MIB
    base_path.write_bytes(
        sparse(3 * block, {0: content(16, block), 1: content(17, block)}, block_size=block, uid=PARENT)
    )
    own = [index // 8 % 3 == 0 for index in range(4096)]  # libvhdi takes eight sectors for its own where one of them is
    image = sparse(
        3 * block,
        {1: content(18, block), 2: content(19, block)},
        kind=DIFFERENCING,
        block_size=block,
        bitmaps={1: bitmap(own)},
        uid=CHILD,
        parent_id=PARENT,
        parent_name="base.vhd",
    )
    child_path.write_bytes(image)
    base, file = pyvhdi.file(), pyvhdi.file()
    base.open(str(base_path))
    file.open(str(child_path))
    file.set_parent(base)
    expected = file.read_buffer_at_offset(3 * block, 0)
    file.close()
    base.close()
    assert whole(opened(image, base_path.read_bytes())) == expected


def test_a_damaged_copy_of_the_footer_is_told_with_a_parent_too() -> None:
    disk = opened(patched(child(BLOCK, {}), 0, b"X"), fixed(bytes(BLOCK), uid=PARENT))
    assert isinstance(disk, SupportsFacts)
    assert "copy of the footer" in disk.facts.warnings[0]


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_any_bitmaps_are_obeyed(draw: st.DataObject) -> None:
    count = draw.draw(st.integers(1, 6))
    base_sectors, sectors = draw.draw(st.integers(1, 48)), count * 8 - draw.draw(st.integers(0, 7))
    numbers = draw.draw(st.lists(st.integers(0, count - 1), unique=True))
    maps = {number: draw.draw(st.lists(st.booleans(), min_size=8, max_size=8)) for number in numbers}
    blocks = {number: content(number + 1) for number in numbers}
    base = content(99, base_sectors * 512)
    expected = bytearray(base.ljust(count * BLOCK, b"\0")[: count * BLOCK])
    for number, own in maps.items():
        for index in (index for index in range(8) if own[index]):
            place = number * BLOCK + index * 512
            expected[place : place + 512] = blocks[number][index * 512 : (index + 1) * 512]
    image = child(sectors * 512, blocks, {number: bitmap(own) for number, own in maps.items()})
    disk = opened(image, fixed(base, uid=PARENT))
    assert whole(disk) == expected[: sectors * 512]
    low = draw.draw(st.integers(0, disk.size))
    high = draw.draw(st.integers(low, disk.size))
    assert bytes(disk.read_at(low, high - low)) == expected[low:high]
    assert sum(extent.length for extent in disk.extents(low, high)) == high - low
    for extent in disk.extents(low, high):
        assert extent.kind is DATA or not any(expected[extent.start : extent.end])

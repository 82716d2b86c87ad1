"""The guest digest against the definition in the documents, and disks against each other."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.convert.fakes import KeptWriter, MappedDisk, PackedWriter, lay_out
from vmferry.blob import MemoryBlob
from vmferry.convert import compare_disks, copy, count_data, digest_disk
from vmferry.convert.verify import NullWriter
from vmferry.digest import LEAF, DigestTree, check_guest_digest
from vmferry.errors import ConfigError
from vmferry.extent import Extent, ExtentKind
from vmferry.formats.raw import RawDisk
from vmferry.units import KIB, MIB, TIB

DATA, ZERO, HOLE = ExtentKind.DATA, ExtentKind.ZERO, ExtentKind.HOLE


def by_definition(content: bytes) -> str:
    """As ``docs/digest.md`` has it: no tree that is kept, no holes, nothing clever."""
    nodes = []
    for start in range(0, len(content), 65536):
        leaf = content[start : start + 65536].ljust(65536, b"\0")
        nodes.append(blake3(leaf).digest() if any(leaf) else bytes(32))
    while len(nodes) > 1:
        groups = [b"".join(nodes[start : start + 64]).ljust(2048, b"\0") for start in range(0, len(nodes), 64)]
        nodes = [blake3(group).digest() if any(group) else bytes(32) for group in groups]
    top = nodes[0] if nodes else bytes(32)
    return "guest1:" + blake3(f"vmferry guest digest 1\n{len(content)}\n".encode() + top).hexdigest()


LAYOUTS = st.lists(
    st.tuples(st.integers(1, 5000), st.sampled_from([DATA, DATA, ZERO, HOLE])), min_size=1, max_size=10
).map(lambda runs: lay_out(*((sectors * 512, kind) for sectors, kind in runs)))


@settings(deadline=None, max_examples=30)
@given(extents=LAYOUTS, workers=st.integers(1, 3))
def test_the_digest_is_that_of_the_definition(extents: list[Extent], workers: int) -> None:
    disk = MappedDisk(extents)
    assert digest_disk(disk, workers=workers) == by_definition(disk.whole())


@settings(deadline=None, max_examples=30)
@given(extents=LAYOUTS, granularity=st.sampled_from([512, 64 * KIB, 2 * MIB]))
def test_a_copy_takes_the_same_digest_on_its_way(extents: list[Extent], granularity: int) -> None:
    disk = MappedDisk(extents)
    expected = by_definition(disk.whole())
    for writer in (KeptWriter(disk.size, granularity), PackedWriter(granularity)):
        tree = DigestTree(disk.size)
        copy(disk, writer, workers=2, digest=tree)
        assert tree.finish() == expected


@settings(deadline=None, max_examples=30)
@given(extents=LAYOUTS, cuts=st.sets(st.integers(1, 600), max_size=6), seed=st.randoms(use_true_random=False))
def test_slices_merge_to_the_digest_of_the_whole(extents: list[Extent], cuts: set[int], seed: random.Random) -> None:
    disk = MappedDisk(extents)
    bounds = sorted({0, disk.size, *(cut * LEAF for cut in cuts if cut * LEAF < disk.size)})
    packed = []
    for start, end in pairwise(bounds):
        tree = DigestTree(disk.size)
        copy(disk, KeptWriter(disk.size, LEAF), start, end, workers=1, digest=tree)
        packed.append(tree.pack())
    seed.shuffle(packed)
    whole = DigestTree(disk.size)
    for part in packed:
        whole.merge(part)
    assert whole.finish() == by_definition(disk.whole())


def test_sizes_tell_disks_of_zeros_apart_and_cost_nothing() -> None:
    assert digest_disk(MappedDisk(lay_out((MIB, HOLE)))) == by_definition(bytes(MIB))
    huge = [digest_disk(MappedDisk(lay_out((size, HOLE)))) for size in (64 * TIB, 64 * TIB - 512)]
    assert len(set(huge)) == 2


def test_a_slice_of_many_data_is_stored_in_little() -> None:
    """What lies inside it whole is one node of a higher level."""
    tree = DigestTree(TIB)
    block = bytes([1]) * (4 * MIB)
    start, end = 3 * 4 * MIB, 300 * 4 * MIB
    for offset in range(start, end, len(block)):
        tree.add(offset, block)
    tree.collapse(start, end)
    assert len(tree.pack()) < 41 * 2 * 64 * 2


@pytest.mark.slow
def test_memory_does_not_grow_with_the_disk() -> None:
    """What is known of a part that lies whole behind all threads is one node."""
    full = bytes([7]) * (4 * MIB)

    class Endless(MappedDisk):
        def read_at(self, offset: int, length: int) -> bytes:
            return full[:length]

    disk = Endless(lay_out((3072 * MIB, DATA)))
    tree, held = DigestTree(disk.size), 0

    def look(_: int) -> None:
        nonlocal held
        held = max(held, len(tree.pack()))

    copy(disk, NullWriter(), workers=1, digest=tree, progress=look)
    assert held < 41 * 20_000  # of 49,152 leaves


@pytest.mark.parametrize("text", ["guest1:", "guest1:" + "0" * 63, "guest1:" + "G" * 64, "guest2:" + "0" * 64])
def test_what_is_no_digest_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="64 hexadecimal digits"):
        check_guest_digest(text)


def test_damaged_nodes_are_refused() -> None:
    tree = DigestTree(MIB)
    tree.add(0, b"x" * LEAF)
    with pytest.raises(ValueError, match="no nodes"):
        DigestTree(MIB).merge(tree.pack()[:-1])
    with pytest.raises(ValueError, match="another disk"):
        DigestTree(LEAF).merge(b"\5" + tree.pack()[1:])
    for offset, length in ((1, LEAF), (0, LEAF + 1), (MIB, LEAF)):
        with pytest.raises(ValueError, match="whole leaves"):
            tree.add(offset, bytes(length))


@settings(deadline=None, max_examples=20)
@given(extents=LAYOUTS, other=LAYOUTS, workers=st.integers(1, 3))
def test_the_first_difference_is_found(extents: list[Extent], other: list[Extent], workers: int) -> None:
    one, two = MappedDisk(extents), MappedDisk(other)
    length = max(one.size, two.size)
    first, second = one.whole().ljust(length, b"\0"), two.whole().ljust(length, b"\0")
    expected = next((index for index in range(length) if first[index] != second[index]), None)
    assert compare_disks(one, two, workers=workers) == expected
    assert compare_disks(two, one, workers=workers) == expected


@settings(deadline=None, max_examples=30)
@given(content=st.binary(min_size=1, max_size=600), extents=LAYOUTS)
def test_equal_disks_are_equal_whatever_their_maps(content: bytes, extents: list[Extent]) -> None:
    mapped = MappedDisk(extents)
    plain = RawDisk(MemoryBlob(mapped.whole() + bytes(len(content) * 512)))
    assert compare_disks(mapped, plain) is None
    assert compare_disks(plain, mapped) is None
    seen: list[int] = []
    assert compare_disks(mapped, plain, progress=seen.append) is None
    assert sum(seen) == count_data(mapped, plain)

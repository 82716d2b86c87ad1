"""Writers that pack: one that is told what another placed goes on as that one would have, whatever the cut."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from vmferry.disk import OrderedDiskWriter, SupportsReplay
from vmferry.extent import Extent, ExtentKind
from vmferry.formats import FORMATS, SupportsCreate, WriteOptions
from vmferry.stores.memory import MemoryStore
from vmferry.units import MIB

KINDS = [
    ("vmdk", None),
    ("vmdk", "monolithicSparse"),
    ("vhd", "dynamic"),
    ("vhd", "fixed"),
    ("vhdx", "dynamic"),
    ("vhdx", "fixed"),
    ("vdi", "dynamic"),
    ("vdi", "fixed"),
    ("qcow2", "zlib"),
    ("qcow2", "zstd"),
]
SIZE = 34 * MIB + 512
"""More than one grain table, and an end inside a block."""

pieces_of_disks = st.lists(
    st.tuples(st.integers(0, SIZE // (2 * MIB)), st.binary(min_size=1, max_size=64), st.integers(1, 40)),
    unique_by=lambda piece: piece[0],
    min_size=1,
    max_size=8,
)


def make_writer(store: MemoryStore, key: str, kind: tuple[str, str | None]) -> OrderedDiskWriter:
    maker = FORMATS[kind[0]]
    assert isinstance(maker, SupportsCreate)
    whole = [Extent(0, SIZE, ExtentKind.DATA)]
    writer = maker.create(store.create("disks", key), SIZE, whole, WriteOptions(kind[1]))
    assert isinstance(writer, OrderedDiskWriter)
    return writer


@settings(deadline=None, max_examples=60)
@given(kind=st.sampled_from(KINDS), pieces=pieces_of_disks, cut=st.floats(0, 1))
def test_a_replayed_writer_makes_the_same_file(
    kind: tuple[str, str | None], pieces: list[tuple[int, bytes, int]], cut: float
) -> None:
    store = MemoryStore()
    straight, broken = make_writer(store, "one", kind), make_writer(store, "two", kind)
    fresh = make_writer(store, "two", kind)
    assert isinstance(broken, SupportsReplay)
    assert isinstance(fresh, SupportsReplay)
    # What the broken one wrote is written by the fresh one here: a file of several writers is the store's matter.
    for number, (index, seed, repeats) in enumerate(sorted(pieces)):
        start = index * 2 * MIB
        length = min(2 * MIB, SIZE - start)
        data = (bytes(65536) * (repeats % 3) + (seed * repeats if repeats % 4 else b"")).ljust(length, b"\0")[:length]
        straight.write(straight.place(straight.encode(start, data)))
        if number < cut * len(pieces):
            encoded = broken.encode(start, data)
            fresh.write(broken.place(encoded))
            fresh.replay(broken.note(encoded))
        else:
            fresh.write(fresh.place(fresh.encode(start, data)))
    straight.finish()
    fresh.finish()
    one, two = store.open("disks", "one"), store.open("disks", "two")
    assert one.read_at(0, one.size) == two.read_at(0, two.size)

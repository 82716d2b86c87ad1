"""Writers that pack: slices that were packed apart are the same file as one that was written from front to back."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmferry.blob import Buffer
from vmferry.disk import OrderedDiskWriter, PackedSlice, SupportsSlices
from vmferry.errors import UnsupportedFeatureError
from vmferry.extent import Extent, ExtentKind
from vmferry.formats import FORMATS, SupportsCreate
from vmferry.units import KIB, MIB, SECTOR, TIB

SIZE = 194 * MIB + 512
"""Several grain tables, and an end inside a block."""
KINDS = [("vmdk", SIZE), ("vhd", SIZE), ("vhdx", SIZE), ("vhdx", 5 * TIB)]
"""The last has blocks of 32 MiB."""
PIECE = 2 * MIB

pieces_of_disks = st.lists(
    st.tuples(st.integers(0, SIZE // PIECE), st.binary(min_size=1, max_size=64), st.integers(0, 8), st.booleans()),
    unique_by=lambda piece: piece[0],
    max_size=8,
)
"""Where data lies, what it is made of, how many sixteenths of it are no zeros; whether a slice may begin there."""


class Sparse:
    """A ``BlobWriter`` into memory."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.is_whole = False

    def write_at(self, offset: int, data: Buffer) -> None:
        self.set_size(max(len(self.data), offset + len(data)))
        self.data[offset : offset + len(data)] = data

    def set_size(self, size: int) -> None:
        self.data.extend(bytes(max(size - len(self.data), 0)))

    def finish(self) -> None:
        self.is_whole = True

    def abort(self) -> None: ...


def make_writer(kind: tuple[str, int], target: Sparse) -> OrderedDiskWriter:
    name, size = kind
    maker = FORMATS[name]
    assert isinstance(maker, SupportsCreate)
    writer = maker.create(target, size, [Extent(0, size, ExtentKind.DATA)])
    assert isinstance(writer, OrderedDiskWriter)
    return writer


def content_of(size: int, piece: tuple[int, bytes, int, bool]) -> tuple[int, bytes]:
    index, seed, share, _ = piece
    start = index * PIECE
    length = min(PIECE, size - start)
    return start, (seed * (share * PIECE // 16))[: share * PIECE // 16].ljust(length, b"\0")[:length]


def write(writer: OrderedDiskWriter, size: int, pieces: list[tuple[int, bytes, int, bool]]) -> None:
    for start, data in (content_of(size, piece) for piece in pieces):
        writer.write(writer.place(writer.encode(start, data)))


def cut(pieces: list[tuple[int, bytes, int, bool]], unit: int) -> list[list[tuple[int, bytes, int, bool]]]:
    """``pieces`` in slices of whole units."""
    slices: list[list[tuple[int, bytes, int, bool]]] = []
    for piece in sorted(pieces):
        if slices and (not piece[3] or piece[0] * PIECE // unit == slices[-1][-1][0] * PIECE // unit):
            slices[-1].append(piece)
        else:
            slices.append([piece])
    return slices


def pack(kind: tuple[str, int], pieces: list[tuple[int, bytes, int, bool]]) -> tuple[PackedSlice, bytes]:
    """A slice, and its bytes."""
    target = Sparse()
    writer = make_writer(kind, target)
    assert isinstance(writer, SupportsSlices)
    writer.begin_slice()
    write(writer, kind[1], pieces)
    packed = writer.end_slice()
    target.set_size(writer.front + packed.length)
    assert not target.is_whole
    return packed, bytes(target.data[writer.front : writer.front + packed.length])


@settings(deadline=None, max_examples=30)
@given(kind=st.sampled_from(KINDS), pieces=pieces_of_disks, step=st.integers(60, 4000))
def test_joined_slices_are_the_file_of_one_pass(
    kind: tuple[str, int], pieces: list[tuple[int, bytes, int, bool]], step: int
) -> None:
    straight = Sparse()
    writer = make_writer(kind, straight)
    write(writer, kind[1], sorted(pieces))
    writer.finish()

    joined = Sparse()
    joiner = make_writer(kind, joined)
    assert isinstance(joiner, SupportsSlices)
    content = Sparse()
    start = joiner.front
    for slice_pieces in cut(pieces, joiner.slice_unit):
        packed, data = pack(kind, slice_pieces)
        for offset in range(0, len(data), step * SECTOR):  # however it is cut on its way
            part = data[offset : offset + step * SECTOR]
            content.write_at(start + offset, joiner.move(packed, offset, part, start))
        joiner.join(packed)
        start += packed.length
    joiner.finish()
    assert joined.is_whole
    assert not any(joined.data[joiner.front : start]), "what was packed is written already"
    content.set_size(len(joined.data))
    joined.data[joiner.front : start] = content.data[joiner.front : start]
    assert joined.data == straight.data


def test_a_stream_that_tables_do_not_reach_is_refused_before_it_is_sent() -> None:
    kind = ("vmdk", 4 * TIB)
    writer = make_writer(kind, Sparse())
    assert isinstance(writer, SupportsSlices)
    packed, data = pack(kind, [(0, b"data", 8, True)])
    with pytest.raises(UnsupportedFeatureError, match="would pass 2 TiB"):
        writer.move(packed, 0, data, 2 * TIB - SECTOR)
    writer.join(packed)
    with pytest.raises(UnsupportedFeatureError, match="would pass 2 TiB"):
        writer.join(PackedSlice(2 * TIB - 64 * KIB, packed.map))

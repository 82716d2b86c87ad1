"""Pieces of a range that lie apart in what they are read from, read at once where they lie near to each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vmferry.blob import Buffer
from vmferry.units import KIB, MIB

_MAX_GAP = 64 * KIB
"""Over a network a gap of this length costs less than another request."""
_MAX_READ = MIB
"""Bytes read at once, unless one piece is longer: a request of this length pays for itself, and a second large buffer
beside the one that is filled makes the allocator return and fetch its memory anew each time, which halves the speed."""


@dataclass(frozen=True, slots=True)
class Piece:
    """``length`` bytes that go to ``position`` of what was asked for, and lie at ``source`` of what is read."""

    position: int
    source: int
    length: int


def read_pieces(read_at: Callable[[int, int], Buffer], pieces: Sequence[Piece], out: memoryview) -> None:
    """Fill ``out`` with ``pieces``, in order, by ``read_at(offset, length)``; what lies between them stays as it is."""
    index = 0
    while index < len(pieces):
        begin, until = pieces[index].source, index + 1
        end = begin + pieces[index].length
        while until < len(pieces):
            after = pieces[until]
            if not (end <= after.source <= end + _MAX_GAP and after.source + after.length - begin <= _MAX_READ):
                break
            end, until = after.source + after.length, until + 1
        stored = memoryview(read_at(begin, end - begin))
        for piece in pieces[index:until]:
            at = piece.source - begin
            out[piece.position : piece.position + piece.length] = stored[at : at + piece.length]
        del stored  # before the next is read
        index = until

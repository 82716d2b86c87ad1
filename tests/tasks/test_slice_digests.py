"""The digests of slices: each of what lies in its slice, and of nothing else."""

from __future__ import annotations

import pytest

from vmferry.catalog.import_tasks import Slice
from vmferry.digest import DigestTree
from vmferry.tasks.import_image.conversion import _SliceDigests
from vmferry.units import MIB

SIZE = 12 * MIB
SLICES = [Slice(0, 0, 0, 4 * MIB, 4 * MIB), Slice(0, 1, 8 * MIB, 12 * MIB, 4 * MIB)]
LEAF = b"x" * 65536


def test_a_piece_of_two_slices_is_no_piece() -> None:
    digests = _SliceDigests(SIZE, SLICES)
    for offset, leaves in ((3 * MIB, 17), (5 * MIB, 16), (12 * MIB - 65536, 2)):
        with pytest.raises(ValueError, match="do not lie in one slice"):
            digests.add(offset, LEAF * leaves)
        with pytest.raises(ValueError, match="do not lie in one slice"):
            digests.add_parts(offset, [LEAF] * leaves)


def test_slices_make_the_digest_of_the_disk() -> None:
    digests, whole, joined = _SliceDigests(SIZE, SLICES), DigestTree(SIZE), DigestTree(SIZE)
    for piece in SLICES:
        whole.add(piece.start, LEAF * 64)
        digests.add_parts(piece.start, [LEAF] * 32)
        digests.add(piece.start + 2 * MIB, LEAF * 32)
    for index in range(len(SLICES)):
        joined.merge(digests.pack(index))
    assert joined.finish() == whole.finish()

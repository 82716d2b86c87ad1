"""The changes of an overlay as a file: applied elsewhere they give the same disk; what is damaged is refused whole."""

from __future__ import annotations

import random
import struct

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from vmferry.blob import MemoryBlob
from vmferry.errors import CorruptDiskError, DifferentError
from vmferry.formats import FORMATS, open_disk
from vmferry.guest.overlay import OverlayDisk
from vmferry.guest.overlay_file import apply_changes, save_changes
from vmferry.stores.memory import MemoryStore
from vmferry.units import KIB, MIB, SECTOR

SIZE = 64 * KIB


def make(size: int = SIZE) -> OverlayDisk:
    return OverlayDisk(open_disk(MemoryBlob(bytes(range(256)) * (size // 256)), FORMATS["raw"]))


def whole(overlay: OverlayDisk) -> bytes:
    return bytes(overlay.read_at(0, overlay.size))


def save(overlay: OverlayDisk) -> bytes:
    store = MemoryStore()
    writer = store.create("bucket", "changes")
    save_changes(overlay, writer)
    writer.finish()
    blob = store.open("bucket", "changes")
    return bytes(blob.read_at(0, blob.size))


@settings(max_examples=100, deadline=None)
@given(
    writes=st.lists(st.tuples(st.integers(0, 120), st.integers(1, 8), st.integers(0, 3)), max_size=10),
    others=st.lists(st.tuples(st.integers(0, 120), st.integers(1, 8), st.integers(0, 255)), max_size=4),
)
def test_applied_once_or_twice_it_is_the_same_disk(
    writes: list[tuple[int, int, int]], others: list[tuple[int, int, int]]
) -> None:
    first, second = make(), make()
    for place, count, value in writes:
        if value:
            first.write_at(place * SECTOR, bytes([value]) * (count * SECTOR))
        else:
            first.zero_at(place * SECTOR, count * SECTOR)
    kept = save(first)
    apply_changes(second, MemoryBlob(kept))
    assert whole(second) == whole(first)
    assert list(second.changed()) == list(first.changed())
    apply_changes(second, MemoryBlob(kept))
    assert whole(second) == whole(first)
    assert save(second) == kept
    for place, count, value in others:
        second.write_at(place * SECTOR, bytes([value]) * (count * SECTOR))
    apply_changes(second, MemoryBlob(kept))
    for start, end, _ in first.changed():
        assert whole(second)[start:end] == whole(first)[start:end]


def test_changes_of_many_mib_go_through() -> None:
    first, second = make(4 * MIB), make(4 * MIB)
    first.write_at(SECTOR, random.Random(1).randbytes(3 * MIB))
    apply_changes(second, MemoryBlob(save(first)))
    assert whole(second) == whole(first)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_damage_is_refused_and_nothing_applied(data: st.DataObject) -> None:
    first, second = make(), make()
    first.write_at(2 * SECTOR, b"\xaa" * KIB)
    first.write_at(20 * SECTOR, b"\xbb" * KIB)
    first.zero_at(22 * SECTOR, KIB)
    kept = bytearray(save(first))
    if data.draw(st.booleans()):
        kept[data.draw(st.integers(0, len(kept) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del kept[data.draw(st.integers(0, len(kept) - 1)) :]
    with pytest.raises((CorruptDiskError, DifferentError)):
        apply_changes(second, MemoryBlob(bytes(kept)))
    assert list(second.changed()) == []


def test_changes_that_an_older_version_kept_are_applied() -> None:
    ranges = struct.pack("<QQ", 2 * SECTOR, SECTOR)
    kept = struct.pack("<16sIIQ", b"VMFERRY CHANGES\n", 1, 1, SIZE) + ranges + b"\xaa" * SECTOR
    overlay = make()
    apply_changes(overlay, MemoryBlob(kept + blake3(kept).digest()))
    assert whole(overlay)[2 * SECTOR : 3 * SECTOR] == b"\xaa" * SECTOR


def test_another_disks_changes_are_refused() -> None:
    first = make()
    first.write_at(0, bytes(SECTOR))
    with pytest.raises(DifferentError, match=r"is of a disk of 65,536 bytes, this one has 131,072"):
        apply_changes(make(2 * SIZE), MemoryBlob(save(first)))

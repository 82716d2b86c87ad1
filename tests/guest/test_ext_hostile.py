"""Ext file systems that nobody's kernel made: what they claim costs no more than a sentence."""

from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from tests.guest.ext_images import cached_image, make_image, overlay_of, system_on
from vmferry.errors import GuestError
from vmferry.guest.ext_writer import ExtFileSystem, ExtWriter, replay_journal
from vmferry.guest.ext_writer.inodes import MAP, ROOT, Inode

PLAIN = "-t ext4 -b 1024 -O ^metadata_csum,^uninit_bg"
DESCRIPTOR, REVOKE = 1, 5


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Without checksums, in blocks of 1 KiB."""
    return make_image(PLAIN, tmp_path_factory.mktemp("plain"))


def journal_blocks(system: ExtFileSystem) -> list[int]:
    runs = system.maps.read(system.inodes.read(system.superblock.journal_inode)).runs
    return [run.block + step for run in runs for step in range(run.count)]


def with_journal(image: bytes, end: int, blocks: list[bytes]) -> ExtFileSystem:
    """The file system in ``image`` with ``blocks`` in its journal, which is to be replayed and ends at ``end``."""
    places = journal_blocks(system_on(overlay_of(image)))
    changed = bytearray(image)
    changed[1024 + 0x60] |= 0x4
    head = places[0] * 1024
    struct.pack_into(">II", changed, head + 0x10, end, 1)
    struct.pack_into(">I", changed, head + 0x1C, 1)
    for place, content in zip(places[1:], blocks, strict=False):
        changed[place * 1024 : place * 1024 + len(content)] = content
    return system_on(overlay_of(bytes(changed)))


def journal_header(image: bytes, kind: int) -> bytes:
    """The first bytes of a block of the journal's first transaction."""
    head = journal_blocks(system_on(overlay_of(image)))[0] * 1024
    return struct.pack(">II", 0xC03B3998, kind) + image[head + 0x18 : head + 0x1C]


@pytest.mark.parametrize("tags", [0, 1, 5])
def test_a_journal_that_is_one_descriptor_ends(tags: int, plain: bytes) -> None:
    """The ring is as long as what the descriptor says of it: behind it comes it itself, again and again."""
    listed = [struct.pack(">IHH", 20 + number, 0, 2) for number in range(tags)]
    listed.append(struct.pack(">IHH", 19, 0, 2 | 8))
    content = journal_header(plain, DESCRIPTOR) + b"".join(listed)
    assert replay_journal(with_journal(plain, 2 + len(listed), [content]))


def test_revoked_blocks_are_counted(plain: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vmferry.guest.ext_writer.journal._MAX_REVOKED", 1000)
    numbers = np.arange(5 * 252, dtype=">u4").reshape(5, 252)
    blocks = [journal_header(plain, REVOKE) + struct.pack(">I", 1024) + row.tobytes() for row in numbers]
    assert replay_journal(with_journal(plain, 4, blocks))
    with pytest.raises(GuestError, match="revokes more than 1,000 blocks"):
        replay_journal(with_journal(plain, 6, blocks))


def long_map(inode: Inode) -> None:
    """Let all four extents of ``inode`` be the same 10,000 blocks."""
    extents = [struct.pack("<IHHI", 10_000 * number, 10_000, 0, 100) for number in range(4)]
    inode.raw[MAP] = (struct.pack("<HHHHI", 0xF30A, 4, 4, 0, 0) + b"".join(extents)).ljust(60, b"\0")


def test_a_folder_has_no_more_blocks_than_its_size_says(plain: bytes) -> None:
    system = system_on(overlay_of(plain))
    folder = system.find("/etc")
    assert folder is not None
    long_map(folder)
    tracemalloc.start()
    try:
        assert system.folders.blocks(folder) == [100]
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_a_folder_with_blocks_behind_its_end_does_not_grow(plain: bytes) -> None:
    system = system_on(overlay_of(plain))
    writer = ExtWriter(system, 0)
    for number in range(40):  # until its one block is full
        writer.create_file(f"/etc/{'x' * 20}{number}", 0, [])
    folder = system.find("/etc")
    assert folder is not None
    first = system.folders.blocks(folder)[0]
    extents = struct.pack("<HHHHI", 0xF30A, 1, 4, 0, 0) + struct.pack("<IHHI", 0, 2000, 0, first)
    folder.raw[MAP] = extents.ljust(60, b"\0")
    folder.size = 1024
    system.inodes.write(folder)
    with pytest.raises(GuestError, match="more blocks than its size says"):
        writer.create_file(f"/etc/{'y' * 250}", 0, [])


def test_a_map_of_very_many_pieces_is_refused(plain: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists of blocks without extents: every block is its own piece."""
    monkeypatch.setattr("vmferry.guest.ext_writer.maps._MAX_PIECES", 5000)
    system = system_on(overlay_of(plain))
    inode = system.inodes.read(12)
    inode.flags &= ~0x80000
    numbers = iter(range(100, 20_000))
    pieces = [struct.pack("<256I", *(200 + number % 2 * 50 for number in range(256)))] * 4
    above = [next(numbers) for _ in pieces]
    for block, content in zip(above, pieces, strict=True):
        system.blocks.write(block, content)
    middle, top = next(numbers), next(numbers)
    system.blocks.write(middle, struct.pack("<256I", *(above * 64)))
    system.blocks.write(top, struct.pack("<256I", *([middle] * 256)))
    inode.raw[MAP] = struct.pack("<15I", *[0] * 14, top)
    with pytest.raises(GuestError, match="in more than 5,000 pieces"):
        system.maps.read(inode)


def test_a_folder_with_as_many_folders_as_can_be_gets_no_more(plain: bytes) -> None:
    system = system_on(overlay_of(plain))
    root = system.inodes.read(ROOT)
    root.links = 0xFFFF
    system.inodes.write(root)
    with pytest.raises(GuestError, match="no more folders"):
        ExtWriter(system, 0).make_folder("/new")


def test_a_group_with_as_many_folders_as_can_be_gets_no_more(tmp_path: Path) -> None:
    system = system_on(overlay_of(cached_image("ext4", tmp_path)))
    group = system.groups.read(0)
    group.put(0x10, 0x30, 0xFFFFFFFF, 2)
    system.groups.write(group)
    with pytest.raises(GuestError, match="run e2fsck"):
        ExtWriter(system, 0).make_folder("/new")


def test_a_file_system_that_is_read_for_ever_is_given_up(plain: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vmferry.guest.ext_writer.blocks.MAX_PREPARE_SECONDS", -1)
    system = system_on(overlay_of(plain))
    with pytest.raises(GuestError, match="was read for"):
        system.names("/")

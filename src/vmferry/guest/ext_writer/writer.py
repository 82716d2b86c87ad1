"""Files of an ext file system are replaced, and added. Nothing that was there is overwritten but what names it."""

from __future__ import annotations

import posixpath
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

from vmferry.errors import GuestError, quote
from vmferry.guest.ext_writer.allocation import Allocator, Span
from vmferry.guest.ext_writer.filesystem import ExtFileSystem
from vmferry.guest.ext_writer.folders import FILE, FOLDER
from vmferry.guest.ext_writer.inodes import Inode
from vmferry.units import MIB, SECTOR

_CHUNK = 4 * MIB
"""Bytes that are written at once."""
_MAX_LINKS = 65_000
"""Of a folder: one more for each folder in it. From there on it is no longer counted, and is 1."""


class ExtWriter:
    """Writes to ``filesystem``, for one thread. Paths are absolute, and lead through no links: see ``Tree.find``.

    Contents go into free blocks at once; what makes files of them, to the volume at ``commit``, all together. What
    raised an error was not done, whatever else is committed.
    Raises ``GuestError`` where the file system cannot be written to, and why.
    """

    def __init__(self, filesystem: ExtFileSystem, now: int) -> None:
        """``now``: seconds since 1970, for what is changed."""
        filesystem.superblock.check_writable()
        self._system = filesystem
        self._now = now
        self._allocator = Allocator(filesystem.groups, filesystem.superblock)

    def replace_file(self, path: str, size: int, content: Iterable[bytes], keep_as: str) -> None:
        """Let the file at ``path`` hold ``content``, ``size`` bytes in all; the old one stays, under the name
        ``keep_as`` beside it. Owner, rights and extended attributes are the old file's.

        Raises ``GuestError``: there is no such file, ``keep_as`` is taken, there is no room.
        """
        with self._system.blocks.all_or_nothing():
            folder, name = self._folder_of(path)
            old = self._system.find(path)
            if old is None or not old.is_file:
                raise GuestError(f"{quote(path)} in the guest is no file.")
            old.check_plain(f"{quote(path)} in the guest")
            if old.links != 1:
                raise GuestError(f"{quote(path)} in the guest has {old.links} names; only files with one are replaced.")
            kept = keep_as.encode("utf-8", "surrogateescape")
            if self._system.folders.find(folder, kept) is not None:
                raise GuestError(f"{quote(keep_as)} is there already, beside {quote(path)} in the guest.")
            self._check_room(size, quote(path))
            number = self._allocator.take_inode(self._group_of(old.number))
            inode = self._system.inodes.copy(old, number, self._now)
            self._fill(inode, size, content)
            self._system.folders.replace(folder, name, number)
            self._add_name(folder, kept, old.number, FILE)

    def create_file(
        self, path: str, size: int, content: Iterable[bytes], mode: int = 0o644, like: str | None = None
    ) -> None:
        """Make a file with ``content``, ``size`` bytes in all, owned by root; with owner and extended attributes of the
        file at ``like`` where one is named.

        Raises ``GuestError``: the path is taken, there is no folder, there is no room.
        """
        with self._system.blocks.all_or_nothing():
            folder, name = self._folder_of(path)
            self._check_absent(folder, name, path)
            self._check_room(size, quote(path))
            number = self._allocator.take_inode(self._group_of(folder.number))
            model = None if like is None else self._model(like)
            if model is not None:
                inode = self._system.inodes.copy(model, number, self._now)
            else:
                inode = self._system.inodes.make(number, stat.S_IFREG | mode, (0, 0), self._now)
            self._fill(inode, size, content)
            self._add_name(folder, name, number, FILE)

    def _model(self, path: str) -> Inode | None:
        """The file at ``path``, if there is a plain one: where its content is among its attributes, these stay."""
        inode = self._system.find(path)
        with suppress(GuestError):
            if inode is not None and inode.is_file:
                inode.check_plain(quote(path))
                return inode
        return None

    def make_folder(self, path: str, mode: int = 0o755) -> None:
        """Make an empty folder, owned by root. Raises as ``create_file``."""
        with self._system.blocks.all_or_nothing():
            folder, name = self._folder_of(path)
            self._check_absent(folder, name, path)
            self._check_room(self._system.superblock.block_size, quote(path))
            number = self._allocator.take_inode(self._group_of(folder.number), folder=True)
            inode = self._system.inodes.make(number, stat.S_IFDIR | mode, (0, 0), self._now)
            inode.links = 2
            spans = self._allocator.take_blocks(1, self._group_of(number))
            self._place(inode, spans, self._system.superblock.block_size)
            self._system.folders.make(inode, folder.number, spans[0].start)
            if not 2 <= folder.links < _MAX_LINKS:
                raise GuestError(f"The folder of {quote(path)} in the guest takes no more folders.")
            folder.links += 1
            self._add_name(folder, name, number, FOLDER)

    def commit(self) -> None:
        """Write everything that was done to the volume."""
        self._system.blocks.flush()
        self._system.superblock.flush()

    def _check_room(self, size: int, what: str) -> None:
        """Raise ``GuestError`` unless a file of ``size`` bytes, a map and a longer folder fit."""
        blocks = -(-size // self._system.superblock.block_size)
        sample = self._system.inodes.make(1, stat.S_IFREG, (0, 0), self._now)
        try:
            self._allocator.check_room(blocks + self._system.maps.node_count(sample, 1, blocks) + 1, 1)
        except GuestError as error:
            raise GuestError(f"{what} does not fit: {error}") from error

    def _check_absent(self, folder: Inode, name: bytes, path: str) -> None:
        if self._system.folders.find(folder, name) is not None:
            raise GuestError(f"{quote(path)} is there already, in the guest.")

    def _folder_of(self, path: str) -> tuple[Inode, bytes]:
        """The folder of ``path``, and the name in it."""
        above = posixpath.dirname(path)
        folder = self._system.find(above)
        if folder is None or not folder.is_folder:
            raise GuestError(f"{quote(above)} in the guest is no folder.")
        folder.check_plain(f"{quote(above)} in the guest")
        return folder, posixpath.basename(path).encode("utf-8", "surrogateescape")

    def _group_of(self, inode: int) -> int:
        return (inode - 1) // self._system.superblock.inodes_per_group

    def _fill(self, inode: Inode, size: int, content: Iterable[bytes]) -> None:
        """Let ``inode`` hold ``content``, and write it."""
        block = self._system.superblock.block_size
        spans = self._allocator.take_blocks(-(-size // block), self._group_of(inode.number))
        self._place(inode, spans, size)
        source = _Chunks(content)
        left = size
        for span in spans:
            for at in range(0, span.count, max(_CHUNK // block, 1)):
                room = min(max(_CHUNK // block, 1), span.count - at) * block
                data = source.read(min(room, left))
                left -= len(data)
                self._system.blocks.write_now(span.start + at, data + bytes(-len(data) % block))
        source.finish()

    def _place(self, inode: Inode, spans: Sequence[Span], size: int, nodes: Sequence[int] = ()) -> None:
        """Let ``inode`` have ``size`` bytes in ``spans``, and write it; ``nodes`` held its map, and can again."""
        block = self._system.superblock.block_size
        old, used = list(nodes), 0
        group = self._group_of(inode.number)

        def take() -> int:
            nonlocal used
            used += 1
            return old.pop(0) if old else self._allocator.take_blocks(1, group)[0].start

        self._system.maps.write(inode, spans, take)
        self._allocator.free_blocks(old)
        attributes = 1 if inode.attributes_block else 0
        inode.sectors = (sum(span.count for span in spans) + used + attributes) * (block // SECTOR)
        inode.size = size
        self._system.inodes.write(inode)

    def _add_name(self, folder: Inode, name: bytes, inode: int, kind: int) -> None:
        """Let ``inode`` be called ``name`` in ``folder``, which is written, and grows where there is no room."""
        folder.touch(self._now)
        if not self._system.folders.insert(folder, name, inode, kind):
            found = self._system.maps.read(folder)
            if found.count * self._system.superblock.block_size > folder.size:
                raise GuestError(
                    f"A folder of the guest (inode {folder.number}) takes more blocks than its size says: run e2fsck "
                    "on it."
                )
            added = self._allocator.take_blocks(1, self._group_of(folder.number))
            spans = [*(Span(run.block, run.count) for run in found.runs), *added]
            size = sum(span.count for span in spans) * self._system.superblock.block_size
            self._place(folder, spans, size, found.nodes)
            self._system.folders.append(folder, added[0].start, name, inode, kind)
        self._system.inodes.write(folder)


class _Chunks:
    """Pieces of bytes, read in other lengths."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces: Iterator[bytes] = iter(pieces)
        self._held = b""

    def read(self, length: int) -> bytes:
        """Exactly ``length`` bytes; ``ValueError`` where there are fewer."""
        parts, left = [], length
        while left:
            piece = self._held or next(self._pieces, None)
            if piece is None:
                raise ValueError(f"{left} bytes of the content are missing")
            parts.append(piece[:left])
            self._held = piece[left:]
            left -= len(parts[-1])
        return b"".join(parts)

    def finish(self) -> None:
        """``ValueError`` where there is more."""
        if self._held or any(self._pieces):
            raise ValueError("the content is longer than was said")

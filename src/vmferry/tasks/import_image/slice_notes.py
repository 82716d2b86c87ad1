"""How far slices are that workers have in hand, noted beside the image: who dies costs little of them.

In the folder of a task's notes each slice has a journal, and each disk whose file a manifest has a digest for the state
of that. What is noted of a digest holds for the file, however far the slices are.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from vmferry.catalog.import_tasks import Slice
from vmferry.convert.journal import STEPS, Journal
from vmferry.digest import DigestTree
from vmferry.stores import ResumableBlobWriter
from vmferry.stores.local import SharedFileWriter
from vmferry.units import MIB

_NOTED_BYTES = 16 * MIB
"""How many bytes of a slice are done again at the most, beside those in hand, when its worker dies."""
_CHECK = 4
"""Bytes of a CRC-32 behind what is noted of a digest: a note that was not written whole counts as none."""


class SliceNotes:
    """The notes of slices of one disk that are copied in order, one journal after the other."""

    def __init__(
        self,
        folder: Path | None,
        target: ResumableBlobWriter,
        slices: Sequence[Slice],
        tree: Callable[[int], DigestTree],
    ) -> None:
        """``tree`` is that of each slice. Nothing is noted without ``folder``, nor of a ``target`` that is whole.

        What is noted of the first slice is brought back. Raises ``StoreError``.
        """
        self._slices = slices
        self._tree = tree
        self._held = (folder, target) if folder is not None and isinstance(target, SharedFileWriter) else None
        self._journals: list[Journal] = []
        """Of the slices that were begun."""
        self._open()
        self.start = max([slices[0].start, *(journal.offset for journal in self._journals)])
        """The guest offset from which on there is something to do."""

    def __enter__(self) -> None:
        """Left by an error, the notes tell of no more than the kernel could write: see ``Journal.close``."""

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            for journal in self._journals:
                journal.close()

    def checkpoint(self, offset: int, copied: int) -> bool:
        """All before guest ``offset`` was written, by this process ``copied`` bytes of data. Whether it was noted now.

        Called by one thread at a time. Raises ``StoreError``.
        """
        if self._held is None:
            return False
        while offset >= self._slices[len(self._journals) - 1].end:
            if len(self._journals) == len(self._slices):
                return False
            self._open()
        index, journal = len(self._journals) - 1, self._journals[-1]
        self._tree(index).collapse(self._slices[index].start, offset)
        before = journal.offset
        journal.checkpoint(offset, copied)
        return journal.offset != before

    def kept(self, index: int) -> None:
        """Slice ``index`` is whole, and kept elsewhere. From any thread."""
        if index < len(self._journals):
            self._journals[index].remove()

    def note_digest(self, saved: bytes) -> None:
        """Note what ``HashedBlob.save`` answered. Where it cannot be, some more is read again, and nothing else.

        Called by one thread at a time.
        """
        if self._held is None:
            return
        path = _digest_path(self._held[0], self._slices[0].disk)
        partial = path.with_name(f"{path.name}.new")
        with suppress(OSError):
            partial.write_bytes(saved + zlib.crc32(saved).to_bytes(_CHECK, "little"))
            partial.replace(path)

    def _open(self) -> None:
        """Begin the journal of the next slice. Of all but the first it begins anew, since that is what is copied."""
        if self._held is None:
            return
        folder, target = self._held
        index = len(self._journals)
        piece = self._slices[index]
        path, facts = folder / f"{piece.disk}-{piece.number}", {"start": piece.start, "end": piece.end}
        journal = Journal(path, facts, target, self._tree(index), anew=index > 0)
        journal.plan(_NOTED_BYTES * STEPS)
        self._journals.append(journal)


def noted_digest(folder: Path, disk: int) -> bytes | None:
    """What was noted last of the digest of a disk's file, if anything was."""
    try:
        content = _digest_path(folder, disk).read_bytes()
    except OSError:
        return None
    saved, check = content[:-_CHECK], content[-_CHECK:]
    return saved if saved and zlib.crc32(saved).to_bytes(_CHECK, "little") == check else None


def _digest_path(folder: Path, disk: int) -> Path:
    return folder / f"{disk}.digest"

"""How far a copy got, kept beside what it makes, so that another process goes on from there."""

from __future__ import annotations

import base64
import json
import time
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from vmferry import __version__
from vmferry.blob import KeptBlobWriter, foreign_error
from vmferry.convert.copy import Cancelled, CopyResult, copy, find_unit
from vmferry.convert.placements import Placements
from vmferry.convert.plan import count_granules
from vmferry.digest import DigestTree
from vmferry.disk import Disk, DiskWriter, OrderedDiskWriter, SupportsReplay
from vmferry.errors import ConflictError, StoreError, quote

STEPS = 100
"""A hundredth of the data is the most that is done again, whenever the process is killed."""
_SYNC_SECONDS = 10.0
"""How often what was written is also made durable, for the day the power goes."""
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Journal:
    """The notes of one conversion into ``path``; ``checkpoint`` is called by one thread at a time."""

    def __init__(
        self,
        path: Path,
        facts: Mapping[str, Any],
        target: KeptBlobWriter,
        tree: DigestTree | None,
        *,
        anew: bool = False,
    ) -> None:
        """``facts`` say what is converted into what: notes of anything else are none of ours.

        Where there are none, or with ``anew``, ``offset`` is 0 and ``target`` as it was. Raises ``ConflictError`` where
        there are others.
        """
        self._path = path.with_name(f".{path.name}.resume")
        self._partial = path.with_name(f".{path.name}.resume.new")
        self._facts = dict(facts)
        self._target = target
        self._tree = tree
        self._boot_id = boot_id()
        self._synced_at = time.monotonic()
        self._noted, self._step = 0, 0
        self._durable: dict[str, Any] | None = None
        self._is_lost = False
        """Whether some of what was written may be gone: what was not durable before is not believed any more."""
        self._placements = Placements(path.with_name(f".{path.name}.placed"))
        self._placed = 0
        """Bytes of the notes of what was placed before ``offset``."""
        self.offset = 0
        """The guest offset before which all is there."""
        if not anew:
            self._load(path)
        if not self.offset:
            self.remove()  # notes that are not true now could be taken for true once the file has grown again

    def replay(self, writer: SupportsReplay) -> None:
        """Bring ``writer``, a new one, to where the one before it was. Raises ``StoreError`` where the notes do not go
        so far."""
        try:
            for note in self._placements.load(self._placed):
                writer.replay(note)
        except ValueError as error:
            raise StoreError(
                f"The notes of the unfinished conversion are damaged: {error}. "
                f"Remove {quote(self._path)} to begin anew."
            ) from error

    def placed(self, end: int, note: bytes) -> None:
        """What ends at guest offset ``end`` was placed; told in the order of placing, by one thread at a time."""
        self._target.reached = end
        self._placements.add(end, note)

    def plan(self, data: int) -> None:
        """Say how many guest bytes of data there are in all."""
        self._step = data // STEPS

    def checkpoint(self, offset: int, copied: int) -> None:
        """All before guest ``offset`` was written, in this process ``copied`` bytes of data. Raises ``StoreError``."""
        if self._is_lost or offset <= self.offset or copied - self._noted < self._step:
            return
        self.offset, self._noted = offset, copied
        try:
            self._note(offset)
        except OSError as error:
            raise foreign_error(error, str(self._path)) from error

    def _note(self, offset: int) -> None:
        digest = "" if self._tree is None else base64.b64encode(self._tree.pack()).decode()
        there = self._target.note(offset)
        note = {"offset": offset, "digest": digest, "placed": self._placements.save(offset), "target": there}
        if self._target.survives_power_cut and time.monotonic() - self._synced_at >= _SYNC_SECONDS:
            self._flush()
            self._durable, self._synced_at = note, time.monotonic()
        self._write(note)
        self._target.saved()

    def _flush(self) -> None:
        """Make what the notes tell of durable. Where that fails, the kernel has forgotten what it could not write: then
        they tell of what was durable before. Raises ``StoreError``, ``OSError``."""
        try:
            self._target.flush()
            self._placements.flush()
        except (StoreError, OSError):
            self._is_lost = True
            try:
                self._write(self._durable)
            except OSError:
                self.remove()
            raise

    def remove(self) -> None:
        """The conversion is at its end, or begins anew."""
        self._path.unlink(missing_ok=True)
        self._partial.unlink(missing_ok=True)
        self._placements.remove()

    def close(self) -> None:
        """Let go of the notes, which stay, as far as the kernel can write what they tell of. May be called twice.

        Where it cannot, whatever makes the target durable says so.
        """
        try:
            if self._target.survives_power_cut and self._path.exists():
                with suppress(StoreError, OSError):
                    self._flush()
        finally:
            self._placements.close()

    def _load(self, path: Path) -> None:
        try:
            notes = json.loads(self._path.read_text())
            # What was written but not made durable is there as long as the machine was not started again.
            same_boot = self._boot_id and notes["boot_id"] == self._boot_id
            note = notes["written" if same_boot else "durable"]
            if notes["made_by"] != _makers():
                return  # what comes now might be laid out, or packed, in another way
            offset, nodes, placed = int(note["offset"]), base64.b64decode(note["digest"]), int(note["placed"])
            if not self._target.is_there(note["target"]):
                return  # what was done was removed, or became the whole file
        except (OSError, ValueError, KeyError, TypeError):
            return  # none, or cut short by the power: begin at the beginning
        if notes["facts"] != self._facts:
            raise ConflictError(
                f"There is an unfinished conversion into {quote(path)}, but of another source, of this one before it "
                "was changed, or with other options. Call it again as it was called then; or remove "
                f"{quote(self._path)} to begin anew."
            )
        self._target.restore(note["target"])
        if self._tree is not None:
            self._tree.merge(nodes)
        self.offset, self._placed, self._durable = offset, placed, notes["durable"]

    def _write(self, note: Mapping[str, Any] | None) -> None:
        notes = {
            "made_by": _makers(),
            "facts": self._facts,
            "boot_id": self._boot_id,
            "written": note,
            "durable": self._durable,
        }
        self._partial.write_text(json.dumps(notes))
        self._partial.replace(self._path)


def boot_id() -> str:
    """What tells this start of the machine from others, and is empty where nothing does: what the kernel was given to
    write is there as long as it runs."""
    return _BOOT_ID.read_text().strip() if _BOOT_ID.exists() else ""


@cache
def _makers() -> list[str]:
    """The versions of all that decides which bytes are written for a guest's, and where."""
    libraries = (version(name) for name in ("deflate", "isal", "zstandard"))
    return [__version__, zlib.ZLIB_RUNTIME_VERSION, *libraries]


def copy_rest(
    disk: Disk,
    writer: DiskWriter | OrderedDiskWriter,
    journal: Journal,
    total: int,
    start: int = 0,
    end: int | None = None,
    *,
    workers: int | None,
    progress: Callable[[int], None],
    digest: DigestTree | None = None,
    cancelled: Cancelled | None = None,
) -> CopyResult:
    """Copy what ``journal`` says is not in ``writer`` yet, which is a new one, and note in it how far that is: of the
    disk, or of ``[start, end)``.

    ``total`` guest bytes are to be copied in all; ``progress`` is told of those that were there first. Raises as
    ``copy``.
    """
    copied = 0

    def tell(more: int) -> None:
        nonlocal copied
        copied += more
        progress(more)

    try:
        if isinstance(writer, SupportsReplay):
            journal.replay(writer)
        journal.plan(total)
        begin = max(journal.offset, start)
        progress(count_granules(disk, find_unit(writer, digest), begin, start))
        return copy(
            disk,
            writer,
            begin,
            end,
            workers=workers,
            digest=digest,
            progress=tell,
            checkpoint=lambda offset: journal.checkpoint(offset, copied),
            placed=_noting(writer, journal),
            cancelled=cancelled,
        )
    finally:
        journal.close()  # a server goes on, whatever became of this copy


def _noting(writer: DiskWriter | OrderedDiskWriter, journal: Journal) -> Callable[[int, Any], None] | None:
    """What writes down for ``journal`` what ``writer`` places."""
    if not isinstance(writer, SupportsReplay):
        return None
    return lambda end, encoded: journal.placed(end, writer.note(encoded))

"""An upload that another process goes on with: what was sent is in S3, what was not yet lies in local files."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from vmferry.blob import ByteRange, foreign_error
from vmferry.errors import StoreError, StoreUnavailableError, quote
from vmferry.stores._file_writers import open_alone
from vmferry.stores._s3_client import Multipart
from vmferry.stores._s3_upload import Part, PartSizes, S3Upload

_NEVER = sys.maxsize
"""A guest offset that no copy reaches."""
_PART_FILE = re.compile(r"part-[0-9]+")


class KeptUpload(S3Upload):
    """An ``S3Upload`` of which nothing is lost when its process dies; one process at a time has ``folder``.

    Every byte is written to a file of its part, too, until the part is in S3 for good. ``note`` says what there is
    once all before a guest offset was written; ``saved`` that this was written down; ``restore`` brings a new upload
    there. Then what was written behind that offset may be written again, to where it was or elsewhere: a part is kept
    in S3 only when all of it comes from before. The files are not made durable: most are gone before the kernel would
    write them.
    """

    survives_power_cut = False

    def __init__(self, multipart: Multipart, name: str, folder: Path, budget: int) -> None:
        """Raises ``StoreUnavailableError`` where another process holds ``folder``."""
        super().__init__(multipart, name, budget)
        self.reached = 0
        """The guest offset before which all lies that was written so far; 0 where what is written again is the same."""
        self._folder = folder
        self._files: dict[int, int] = {}
        """Descriptors of the files of parts that are being filled."""
        self._leaving: dict[int, tuple[int, list[ByteRange]]] = {}
        """Of each part that left and is not settled: ``reached`` then, and what was written of it; ``_NEVER`` where a
        process before this one may have written what lies elsewhere now."""
        self._settled: dict[int, list[ByteRange]] = {}
        """Parts in S3 that hold nothing from behind what was noted."""
        self._moves = False
        """Whether what a process before this one has written behind its note may lie elsewhere now."""
        self._lock = self._hold(folder)

    def is_there(self, note: Mapping[str, Any]) -> bool:
        """Whether S3 and the folder hold what ``note`` tells of."""
        there = self._multipart.parts(str(note["upload"]))
        if there is None or any(there.get(int(number) + 1) != etag for number, (etag, _) in note["settled"].items()):
            return False
        return all(self._is_kept_whole(int(number)) for number, ranges in note["open"].items() if ranges)

    def restore(self, note: Mapping[str, Any]) -> None:
        """Go on from ``note``, which ``is_there``. What was about to be sent is sent. Raises ``StoreError``.

        The parts stay as large as the upload was begun with; how many are held follows from what it may take now.
        """
        self._upload, self._first = str(note["upload"]), set(note["first"])
        self._sizes = PartSizes(int(note["budget"]))
        self._moves = bool(note["moves"])
        for name, (etag, ranges) in note["settled"].items():
            self._sent[int(name)], self._settled[int(name)] = etag, _pairs(ranges)
            self._size = max(self._size, *(high for _, high in ranges))
        for name, ranges in note["open"].items():
            part = self._open[int(name)] = self._load(int(name), _pairs(ranges))
            if part.complete:
                with self._changed:
                    self._send(part)

    def begin(self) -> None:
        """Begin anew: what is left of another upload is removed."""
        with suppress(StoreError):
            self._abort_begun()
        try:
            for path in self._part_files():
                path.unlink()
            begun = self._folder / "id.new"
            begun.write_text(self._begin())
            begun.replace(self._id_file)
        except OSError as error:
            raise foreign_error(error, str(self._folder)) from error

    def note(self, complete: int) -> dict[str, Any]:
        """What there is, all before guest offset ``complete`` being written. JSON's types."""
        with self._changed:
            for number, (reached, ranges) in list(self._leaving.items()):
                if self._sent[number] and reached <= complete:
                    self._settled[number] = ranges
                    del self._leaving[number]
            unsettled = {number: ranges for number, (_, ranges) in self._leaving.items()}
            filling = {number: list(part.ranges) for number, part in self._open.items()}
            return {
                "upload": self._upload,
                "budget": self._sizes.budget,
                "moves": self._moves or self.reached > 0,
                "first": sorted(self._first),
                "settled": {number: [self._sent[number], ranges] for number, ranges in self._settled.items()},
                "open": unsettled | filling,
            }

    def saved(self) -> None:
        """What ``note`` answered last is written down: what it needs no more is removed."""
        for path in self._part_files():
            if int(path.name.removeprefix("part-")) in self._settled:
                path.unlink(missing_ok=True)

    def data_ranges(self, start: int, end: int) -> Iterator[ByteRange]:
        """Ascending ranges of ``[start, end)`` that were written, by this process or by one before it."""
        with self._changed:
            sent = self._settled | {number: ranges for number, (_, ranges) in self._leaving.items()}
            parts = sent | {number: list(part.ranges) for number, part in self._open.items()}
        for number in sorted(parts):
            for low, high in parts[number]:
                if low < end and high > start:
                    yield max(low, start), min(high, end)

    def flush(self) -> None:
        """It does not survive one: see the class."""

    def finish(self) -> None:
        self._take_back()
        super().finish()
        shutil.rmtree(self._folder, ignore_errors=True)
        self.detach()

    def abort(self) -> None:
        """As ``S3Upload``; of one that was neither begun nor gone on with here it removes what others have begun, and
        raises ``StoreError`` where that cannot be: then all is as it was."""
        if self._lock < 0:
            return
        super().abort()
        try:
            if self._upload is None:
                self._abort_begun()
            shutil.rmtree(self._folder, ignore_errors=True)
        finally:
            self.detach()

    def detach(self) -> None:
        """Let go of the upload, which is gone on with later."""
        with self._changed:
            self._over = True
            self._changed.notify_all()
            files, self._files = self._files, {}
        for fd in [*files.values(), self._lock]:
            if fd >= 0:
                os.close(fd)
        self._lock = -1

    def _abort_begun(self) -> None:
        """Remove from S3 what was begun in the folder."""
        begun = self._id_file.read_text() if self._id_file.exists() else ""
        if begun:  # a power cut may have left an empty file
            self._multipart.abort(begun)

    def _take_back(self) -> None:
        """What was sent of places behind the object's end is no part of it: a process before this one was there."""
        with self._changed:
            for number, (_, ranges) in list(self._leaving.items()):
                start, size = self._sizes.locate(number)
                if start + size > self._size:
                    del self._sent[number], self._leaving[number]
                    if start < self._size:
                        self._open[number] = self._load(number, ranges)

    def _keep(self, part: Part, offset: int, data: memoryview) -> None:
        with self._changed:
            fd = self._files.get(part.number)
            if fd is None:
                fd = self._files[part.number] = self._open_file(part.number)
        try:
            offset -= part.start
            while data:
                written = os.pwrite(fd, data, offset)
                data, offset = data[written:], offset + written
        except OSError as error:
            raise foreign_error(error, str(self._path(part.number))) from error

    def _is_kept(self, number: int, low: int, data: memoryview) -> bool:
        high = low + len(data)
        while number not in self._open:
            if number in self._settled:
                return _covers(self._settled[number], low, high)
            _, ranges = self._leaving.get(number, (0, []))
            if not _covers(ranges, low, high):
                return False
            if self._load(number, ranges).holds(low, data):
                return True
            if self._sent[number]:  # it is sent again, with what comes now
                del self._sent[number], self._leaving[number]
                self._open[number] = self._load(number, ranges)
            elif self._sending:
                self._changed.wait()  # look again: who waits for the same part may have opened it
            else:
                return False
        return False

    def _leaves(self, part: Part) -> None:
        reached = _NEVER if part.again and self._moves else self.reached
        self._leaving[part.number] = reached, list(part.ranges)
        if (fd := self._files.pop(part.number, None)) is not None:
            os.close(fd)

    def _load(self, number: int, ranges: list[ByteRange]) -> Part:
        """The part ``number`` as its file holds it."""
        start, size = self._sizes.locate(number)
        path = self._path(number)
        try:
            content = path.read_bytes() if ranges else b""
        except OSError as error:
            raise foreign_error(error, str(path)) from error
        data = bytearray(content[:size].ljust(size, b"\0"))
        return Part(number, start, data, ranges, again=True)

    def _is_kept_whole(self, number: int) -> bool:
        """Whether the file of a part is there, and the kernel could write all that it had taken.

        A file system that tells so late (NFS) forgets what it could not write, and nobody is there to hear of it when
        the process dies before. The first who asks after that is told.
        """
        try:
            fd = os.open(self._path(number), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            os.fsync(fd)
        except OSError:
            return False
        finally:
            os.close(fd)
        return True

    def _remedy(self) -> str:
        if self._budget <= self._sizes.budget:
            return super()._remedy()
        return f"it was begun with that, remove the notes {quote(self._folder / '.*.resume')} to begin anew with more"

    @property
    def _id_file(self) -> Path:
        return self._folder / "id"

    def _path(self, number: int) -> Path:
        return self._folder / f"part-{number}"

    def _part_files(self) -> list[Path]:
        return [path for path in self._folder.iterdir() if _PART_FILE.fullmatch(path.name)]

    def _open_file(self, number: int) -> int:
        path = self._path(number)
        try:
            return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise foreign_error(error, str(path)) from error

    def _hold(self, folder: Path) -> int:
        try:
            while True:
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                with suppress(FileNotFoundError):  # who had the folder has ended just now, and removed it
                    return open_alone(folder / "lock", 0o600)
        except BlockingIOError as error:
            raise StoreUnavailableError(
                f"Another process writes {quote(self._name)} just now. Wait for it, or name another object."
            ) from error
        except OSError as error:
            raise foreign_error(error, str(folder)) from error


def _covers(ranges: list[ByteRange], low: int, high: int) -> bool:
    return any(start <= low and high <= end for start, end in ranges)


def _pairs(ranges: Any) -> list[ByteRange]:
    return [(int(low), int(high)) for low, high in ranges]

"""A blob on its way into S3: a multipart upload whose parts are sent as they become complete, in any order."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field

from vmferry.blob import Buffer, ByteRange
from vmferry.errors import StoreError, quote
from vmferry.stores._s3_client import Multipart
from vmferry.units import GIB, MIB, format_size

MAX_PARTS = 10_000
"""S3 API Reference, *Multipart upload limits*."""
MIN_PART = 8 * MIB
"""S3 takes no parts under 5 MiB but the last."""
MAX_PART = 5 * GIB
"""Nor any over this."""
DEFAULT_BUDGET = 128 * MIB
SENDERS = 4
"""Parts on their way at once when all that is left is sent."""


class PartSizes:
    """Where the parts of an upload of unknown size begin: they grow, so that small objects have many, and large ones
    come to an end within ``MAX_PARTS``.

    The first 1,000 have 8 MiB; the last 8,000 a quarter of ``budget`` bytes.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        largest = max(min(budget // 4, MAX_PART) // MIN_PART * MIN_PART, MIN_PART)
        counts = ((1000, MIN_PART), (1000, min(2 * MIN_PART, largest)), (MAX_PARTS - 2000, largest))
        self._starts: list[int] = []
        self._firsts: list[int] = []
        self._sizes = [size for _, size in counts]
        start = first = 0
        for count, size in counts:
            self._starts.append(start)
            self._firsts.append(first)
            start, first = start + count * size, first + count
        self.most = start
        """Bytes of the largest object."""

    @classmethod
    def least_budget(cls, size: int, budget: int) -> int:
        """``budget``, doubled until an object of ``size`` bytes can be sent with it, or with none."""
        while cls(budget).most < size and budget // 4 < MAX_PART:
            budget *= 2
        return budget

    def find(self, offset: int) -> tuple[int, int, int]:
        """The part that holds ``offset``: its number from 0, where it begins, and its bytes."""
        row = bisect_right(self._starts, offset) - 1
        size = self._sizes[row]
        number = (offset - self._starts[row]) // size
        return self._firsts[row] + number, self._starts[row] + number * size, size

    def locate(self, number: int) -> ByteRange:
        """Where part ``number``, from 0, begins, and its bytes."""
        row = bisect_right(self._firsts, number) - 1
        return self._starts[row] + (number - self._firsts[row]) * self._sizes[row], self._sizes[row]


@dataclass(slots=True)
class Part:
    """A part that is being filled."""

    number: int
    start: int
    data: bytearray
    ranges: list[ByteRange] = field(default_factory=list)
    """What was written of it, in order, neighbours joined; offsets in the blob."""
    busy: int = 0
    """How many threads write to it just now."""
    used_at: int = 0
    again: bool = False
    """Whether some of it was written by a process before this one, and may be written again."""

    def take(self, start: int, end: int) -> None:
        """Mark ``[start, end)`` as written. ``ValueError`` where it was already."""
        if self.again:
            self.ranges = add_range(self.ranges, start, end)
            return
        index = bisect_right(self.ranges, (start, end))
        before = self.ranges[index - 1] if index else None
        after = self.ranges[index] if index < len(self.ranges) else None
        if (before is not None and before[1] > start) or (after is not None and after[0] < end):
            raise ValueError(f"{start:,} to {end:,} were written already")
        if before is not None and before[1] == start:
            index, start = index - 1, before[0]
            del self.ranges[index]
        if after is not None and after[0] == end:
            end = after[1]
            del self.ranges[index]
        self.ranges.insert(index, (start, end))

    def holds(self, offset: int, data: memoryview) -> bool:
        """Whether ``data`` lies at ``offset``."""
        return memoryview(self.data)[offset - self.start : offset - self.start + len(data)] == data

    def close_gaps(self) -> None:
        """What was not written becomes zeros; before, it is whatever was in memory."""
        position, view = self.start, memoryview(self.data)
        for low, high in [*self.ranges, (self.start + len(self.data),) * 2]:
            view[position - self.start : low - self.start] = bytes(low - position)
            position = high

    @property
    def complete(self) -> bool:
        return not self.busy and self.ranges == [(self.start, self.start + len(self.data))]


class S3Upload:
    """Takes its bytes in any order, and keeps what is not yet a whole part in memory, up to ``budget`` bytes.

    Over that, the part that was not written to for longest is sent with zeros in its gaps; who writes to it later
    gets a ``StoreError``. On top of the budget, the parts that were the first ones so far, and those that hold what was
    reserved, wait for ``finish``, or until they are whole. ``write_at`` sends a part that
    it made whole, so a slow service slows its callers. Writing twice to one place is a ``ValueError``. Thread-safe.

    ``abort`` removes the parts from S3. A process that dies before leaves an unfinished multipart upload, which nobody
    sees but which takes room: give the bucket a lifecycle rule with ``AbortIncompleteMultipartUpload``.
    """

    def __init__(self, multipart: Multipart, name: str, budget: int = DEFAULT_BUDGET) -> None:
        """``name`` is the object's in messages. Nothing is asked of S3 yet."""
        self._multipart = multipart
        self._name = name
        self._budget = budget
        self._sizes = PartSizes(budget)
        self._open: dict[int, Part] = {}
        self._sent: dict[int, str] = {}
        self._reserved: list[ByteRange] = []
        self._first: set[int] = set()
        """Parts before which nothing had been written when they were begun: headers and tables come there last."""
        self._free: list[bytearray] = []
        self._zeros = b""
        self._sending = 0
        self._size = 0
        self._clock = 0
        self._upload: str | None = None
        self._over = False
        self._beginning = threading.Lock()
        self._changed = threading.Condition()

    def reserve(self, start: int, end: int) -> None:
        """``[start, end)`` will be written late, perhaps at the very end: see ``SupportsReserve``."""
        with self._changed:
            self._reserved.append((start, end))

    def write_at(self, offset: int, data: Buffer) -> None:
        view = memoryview(data).cast("B")
        self._check_size(offset + len(view))
        while view:
            number, start, size = self._sizes.find(offset)
            taken = min(len(view), start + size - offset)
            part = self._take(number, start, size, offset, view[:taken])
            if part is not None:
                try:
                    part.data[offset - start : offset - start + taken] = view[:taken]
                    self._keep(part, offset, view[:taken])
                finally:
                    self._settle(part)  # else others would wait for it
            view, offset = view[taken:], offset + taken

    def set_size(self, size: int) -> None:
        self._check_size(size)
        with self._changed:
            self._size = max(self._size, size)

    def finish(self) -> None:
        self._check_open()
        if self._upload is None and self._size <= MIN_PART:
            part = self._open.pop(0, None)
            self._multipart.put(bytes(self._size) if part is None else _content(part, self._size))
        else:
            with ThreadPoolExecutor(SENDERS, "upload") as pool:
                for _ in pool.map(self._send_rest, self._unsent()):
                    pass
            self._multipart.complete(self._begin(), [self._sent[number] for number in sorted(self._sent)])
        self._over = True

    def abort(self) -> None:
        with self._changed:
            done, self._over = self._over, True
            self._open.clear()
            self._changed.notify_all()
        if done or self._upload is None:
            return
        # What cannot be removed now (S3 may be away, which may be why) is swept later like any unfinished upload.
        with suppress(StoreError):
            self._multipart.abort(self._upload)

    def _keep(self, part: Part, offset: int, data: memoryview) -> None:
        """``data`` was written at ``offset``, into ``part``."""

    def _is_kept(self, number: int, low: int, data: memoryview) -> bool:
        """Whether part ``number`` was sent with these very bytes at ``low``, and they need not be written again; it may
        be opened for others. Called with the lock held."""
        return False

    def _take(self, number: int, start: int, size: int, low: int, data: memoryview) -> Part | None:
        """The part ``number``, to write ``data`` to it at ``low``; room for it is made first, where it is a new one.
        ``None`` where that need not be written."""
        high = low + len(data)
        with self._changed:
            while (part := self._open.get(number)) is None:
                self._check_open()
                if self._is_kept(number, low, data):
                    self._size = max(self._size, high)
                    return None
                if number in self._open:
                    continue
                if number in self._sent:
                    raise self._out_of_turn(f"offset {low:,} comes too late, that part is in S3 already")
                if self._has_room(size):
                    if not self._first or number < min(self._first):
                        self._first.add(number)
                    part = self._open[number] = Part(number, start, self._buffer(size))
                    break
            part.take(low, high)
            self._size = max(self._size, high)
            self._clock += 1
            part.used_at = self._clock
            part.busy += 1
            return part

    def _buffer(self, size: int) -> bytearray:
        """Memory for a part, used before where there is some: what is freed and taken anew grows without need."""
        fits = [buffer for buffer in self._free if len(buffer) == size]
        if fits:
            self._free.remove(fits[0])
            return fits[0]
        self._free.clear()  # parts have grown
        return bytearray(size)

    def _has_room(self, size: int) -> bool:
        """Whether ``size`` bytes more may be held. If not, something was done about it: look again."""
        loose = [part for part in self._open.values() if part.number not in self._first and not self._is_reserved(part)]
        # Two parts at the least, for who writes over the end of one: an upload may have been begun with more memory.
        if self._sending + sum(len(part.data) for part in loose) + size <= max(self._budget, 2 * size):
            return True
        if self._sending:
            self._changed.wait()
            return False
        # The last part so far is not sent before it is whole: it would make the object too long.
        idle = [part for part in loose if not part.busy and part.start + len(part.data) <= self._size]
        if idle:
            self._send(min(idle, key=lambda part: part.used_at))
            return False
        if any(part.busy for part in loose):  # it is whole in a moment, or may be sent
            self._changed.wait()
            return False
        return True

    def _is_reserved(self, part: Part) -> bool:
        end = part.start + len(part.data)
        return any(low < end and high > part.start for low, high in self._reserved)

    def _settle(self, part: Part) -> None:
        with self._changed:
            part.busy -= 1
            self._changed.notify_all()
            if part.complete and not self._over and part.number in self._open:
                self._send(part)

    def _send(self, part: Part) -> None:
        """Send a part as it is; others go on meanwhile. Called with the lock held, and returns with it."""
        del self._open[part.number]
        self._leaves(part)
        self._sending += len(part.data)
        self._sent[part.number] = ""
        self._changed.release()
        try:
            part.close_gaps()
            etag = self._multipart.send(self._begin(), part.number + 1, part.data)
        finally:
            self._changed.acquire()
            self._sending -= len(part.data)
            if not part.again:  # which had memory of its own
                self._free.append(part.data)
            self._changed.notify_all()
        self._sent[part.number] = etag

    def _leaves(self, part: Part) -> None:
        """``part`` is about to be sent. Called with the lock held."""

    def _unsent(self) -> Iterator[tuple[int, int]]:
        """Number and bytes of every part that was not sent yet, up to the size."""
        offset = 0
        while offset < self._size:
            number, start, size = self._sizes.find(offset)
            offset = start + size
            if number not in self._sent:
                yield number, min(size, self._size - start)

    def _send_rest(self, item: tuple[int, int]) -> None:
        number, size = item
        part = self._open.pop(number, None)
        content = self._zero_part(size) if part is None else _content(part, size)
        self._sent[number] = self._multipart.send(self._begin(), number + 1, content)

    def _zero_part(self, size: int) -> bytes:
        """``size`` zeros, which all parts without data share."""
        zeros = self._zeros  # other threads send parts of other sizes
        if len(zeros) != size:
            zeros = self._zeros = bytes(size)
        return zeros

    def _begin(self) -> str:
        with self._beginning:
            if self._upload is None:
                self._upload = self._multipart.begin()
            return self._upload

    def _out_of_turn(self, what: str) -> StoreError:
        return StoreError(
            f"{quote(self._name)}: {what}. S3 takes an object nearly from front to back: write it to a local file "
            "first, then copy it up."
        )

    def _check_size(self, size: int) -> None:
        if size > self._sizes.most:
            budget = format_size(self._sizes.budget)
            raise StoreError(
                f"{quote(self._name)} would be larger than {format_size(self._sizes.most)}, which is all that an "
                f"upload with {budget} of memory can send: {self._remedy()}, or write to a local file."
            )

    def _remedy(self) -> str:
        """What lets an object be larger."""
        return "give it more"

    def _check_open(self) -> None:
        if self._over:
            raise StoreError(f"{quote(self._name)}: the upload is over. Start it again.")


def add_range(ranges: Sequence[ByteRange], start: int, end: int) -> list[ByteRange]:
    """``ranges``, ascending and apart, with ``[start, end)`` added to them, neighbours joined."""
    before = [found for found in ranges if found[1] < start]
    after = [found for found in ranges if found[0] > end]
    touched = ranges[len(before) : len(ranges) - len(after)]
    return [*before, (min([start, *(low for low, _ in touched)]), max([end, *(high for _, high in touched)])), *after]


def _content(part: Part, size: int) -> Buffer:
    """The first ``size`` bytes of ``part``."""
    part.close_gaps()
    del part.data[size:]
    return part.data

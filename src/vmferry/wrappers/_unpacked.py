"""What is packed in a file as a blob of its own: decoded piece by piece where it is read, nothing kept but a window."""

from __future__ import annotations

import bisect
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Condition
from typing import Protocol

from vmferry.blob import Blob, check_range
from vmferry.errors import CorruptDiskError, UnsafeDiskError, UnsupportedFeatureError, quote
from vmferry.limits import MAX_UNPACK_AGAIN, MAX_UNPACK_RATIO, MAX_UNPACKED
from vmferry.units import GIB, KIB, MIB, format_size

PIECE = MIB
"""Unpacked bytes that are kept or dropped together."""
_KEPT_PIECES = 24
_MAX_RUNS = 4
"""Decoders alive at once, where they are small."""
_RUNS_MEMORY = 32 * MIB
"""Bytes that the decoders may take together; one is always allowed."""
_NEAR = 64 * MIB
"""Where places to begin lie no further apart than this, any byte can be reached at once."""
_UNSUSPECTED = 256 * MIB
"""Bytes that may come out of however few."""
_FEW_MEMBERS = 10_000
_SMALL_MEMBER = KIB
_FREE = GIB
"""Bytes that are decoded in any case, however often."""


class Decoder(Protocol):
    """The unpacked bytes from some place on, once, in order. For one thread."""

    def read(self, limit: int) -> bytes:
        """Between one and ``limit`` of the bytes that follow; none at the end. Raises ``CorruptDiskError``."""


class Packing(Protocol):
    """A packed file that was looked through: how long its content is, and where decoding can begin. Thread-safe."""

    @property
    def size(self) -> int:
        """Unpacked bytes."""

    @property
    def starts(self) -> Sequence[int]:
        """Unpacked offsets at which decoding can begin; ascending, the first is 0."""

    @property
    def window(self) -> int:
        """Bytes of memory that one decoder takes."""

    @property
    def lament(self) -> str:
        """Why the middle cannot be read: ``"is packed by xz in one block, which …: unpack it first (unxz)"``."""

    def begin(self, number: int) -> Decoder:
        """A decoder from ``starts[number]`` to the end."""


def check_size(name: str, size: int) -> None:
    """Raise ``UnsafeDiskError`` when a packed file has, or claims, more content than the limit."""
    if size > MAX_UNPACKED:
        raise UnsafeDiskError(
            f"{quote(name)} unpacks to more than {format_size(MAX_UNPACKED)}: no disk is so large. "
            "Unpack it yourself if you trust it."
        )


def check_growth(name: str, packed: int, size: int) -> None:
    """Raise ``UnsafeDiskError`` when ``packed`` bytes gave ``size``, more than a disk gives, and it goes on."""
    if size > _UNSUSPECTED + MAX_UNPACK_RATIO * packed:
        raise UnsafeDiskError(
            f"{quote(name)}: {format_size(packed)} unpack to more than {format_size(size)}, as a decompression bomb "
            "does. Unpack it yourself if you trust it."
        )


def check_members(name: str, count: int, size: int) -> None:
    """Raise ``UnsafeDiskError`` when ``count`` streams gave only ``size`` bytes: hardly anything would be in them."""
    if count > _FEW_MEMBERS + size // _SMALL_MEMBER:
        raise UnsafeDiskError(
            f"{quote(name)} consists of more than {count - 1:,} packed streams that hold next to nothing: "
            "unpack it first."
        )


@dataclass(slots=True)
class _Run:
    """A decoder on its way."""

    decoder: Decoder
    next_piece: int
    """Number of the piece that it gives next."""
    skip: int
    """Bytes that it must drop before that piece."""
    goal: int
    """Number of the piece it is decoding up to, while somebody uses it."""
    busy: bool = True


class UnpackedBlob:
    """The content of a packed file, readable at any offset by any number of threads; memory as ``_KEPT_PIECES`` say.

    Reading forwards decodes everything once. Reading elsewhere decodes from the nearest place where that can begin;
    where such places are rare and readers jump about, ``UnsupportedFeatureError`` is raised before the time is wasted.
    """

    def __init__(self, blob: Blob, packing: Packing, name: str) -> None:
        """``blob`` is owned from now on. Raises ``UnsafeDiskError`` when the content is too large."""
        check_size(blob.name, packing.size)
        self._blob = blob
        self._packing = packing
        self._name = name
        self._changed = Condition()
        self._pieces: OrderedDict[int, bytes] = OrderedDict()
        self._runs: list[_Run] = []
        self._max_runs = max(1, min(_MAX_RUNS, _RUNS_MEMORY // max(packing.window, 1)))
        self._decoded = 0
        self._budget = self._count_budget()

    def _count_budget(self) -> int | None:
        """Bytes that may be decoded in all; ``None`` where every byte is near a place to begin."""
        starts, size = self._packing.starts, self._packing.size
        after = max((high - low for low, high in zip(starts, [*starts[1:], size], strict=True)), default=0)
        return None if after <= _NEAR else max(_FREE, MAX_UNPACK_AGAIN * size)

    @property
    def size(self) -> int:
        return self._packing.size

    @property
    def name(self) -> str:
        return self._name

    @property
    def in_order(self) -> bool:
        return self._budget is not None

    def read_at(self, offset: int, length: int) -> bytes:
        check_range(self, offset, length)
        parts: list[memoryview] = []
        while length:
            number, low = divmod(offset, PIECE)
            part = memoryview(self._piece(number))[low : low + length]
            parts.append(part)
            offset += len(part)
            length -= len(part)
        return b"".join(parts)

    def close(self) -> None:
        with self._changed:
            self._pieces.clear()
            self._runs.clear()
        self._blob.close()

    def _piece(self, number: int) -> bytes:
        """Piece ``number``, from the window or decoded now."""
        while True:
            with self._changed:
                if (piece := self._pieces.get(number)) is not None:
                    self._pieces.move_to_end(number)
                    return piece
                run = self._claim(number)
                if run is None:
                    self._changed.wait()
                    continue
            return self._advance(run)

    def _claim(self, number: int) -> _Run | None:
        """The run to decode piece ``number`` with, busy now; ``None`` to wait for somebody who is on the way there."""
        place = bisect.bisect_right(self._packing.starts, number * PIECE) - 1
        start = self._packing.starts[place]
        first = -(-start // PIECE)
        idle = max(
            (run for run in self._runs if not run.busy and first <= run.next_piece <= number),
            key=lambda run: run.next_piece,
            default=None,
        )
        nearest = first if idle is None else idle.next_piece
        if any(run.busy and run.next_piece <= number and min(run.goal, number) + 1 > nearest for run in self._runs):
            return None
        if idle is not None:
            idle.busy, idle.goal = True, number
            self._runs.append(self._runs.pop(self._runs.index(idle)))  # the one that was used last stands last
            return idle
        return self._begin(place, first, number)

    def _begin(self, place: int, first: int, number: int) -> _Run | None:
        """A new run from ``starts[place]``; ``None`` to wait until one of those that are there is free."""
        if len(self._runs) >= self._max_runs:
            free = next((run for run in self._runs if not run.busy), None)
            if free is None:
                return None
            self._runs.remove(free)
        if self._budget is not None and self._decoded + (number + 1 - first) * PIECE > self._budget:
            raise UnsupportedFeatureError(f"{quote(self._blob.name)} {self._packing.lament}.")
        skip = first * PIECE - self._packing.starts[place]
        run = _Run(self._packing.begin(place), first, skip, number)
        self._runs.append(run)
        return run

    def _advance(self, run: _Run) -> bytes:
        """Decode up to the run's goal and answer that piece; those on the way are kept as far as there is room."""
        try:
            self._decode(run, run.skip)
            run.skip = 0
            while True:
                piece = self._decode(run, min(PIECE, self.size - run.next_piece * PIECE))
                with self._changed:
                    done = run.next_piece == run.goal
                    self._keep(run.next_piece, piece)
                    run.next_piece += 1
                    run.busy = not done
                    self._changed.notify_all()
                if done:
                    return piece
        except BaseException:
            with self._changed:
                if run in self._runs:
                    self._runs.remove(run)
                self._changed.notify_all()
            raise

    def _keep(self, number: int, piece: bytes) -> None:
        self._decoded += len(piece)
        self._pieces[number] = piece
        self._pieces.move_to_end(number)
        while len(self._pieces) > _KEPT_PIECES:
            self._pieces.popitem(last=False)

    def _decode(self, run: _Run, length: int) -> bytes:
        """The next ``length`` bytes of the run; they are there, or the file is not what it was measured to be."""
        parts: list[bytes] = []
        while length:
            part = run.decoder.read(length)
            if not part:
                raise cut_short(self._blob.name)
            parts.append(part)
            length -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)


def cut_short(name: str) -> CorruptDiskError:
    """The error about a packed file that ends too early."""
    return CorruptDiskError(
        f"{quote(name)}: the packed data ends too early. It is cut short or damaged: pack or upload it again."
    )

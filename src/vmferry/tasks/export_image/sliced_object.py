"""An export's object that any number of workers make together: who packed a slice sends parts, one sends the ends.

The object is cut into parts of one size, wherever the slices' borders lie. A part can be sent when all slices before
its end are known; it belongs to the slice in which it begins. Those that hold some of what stands before or behind the
slices are sent last, when that is known, by ``finish``. Which were sent is noted for each slice, in the plan's folder.
"""

from __future__ import annotations

import re
import threading
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from vmferry.blob import Buffer, foreign_error
from vmferry.errors import StoreError, TaskCancelledError
from vmferry.stores import UploadInParts
from vmferry.tasks._held import held_notes
from vmferry.tasks.export_image.listener import Listener
from vmferry.tasks.export_image.parts import MAX_HELD, ObjectView, Segment, StoppedError, ViewStream
from vmferry.tasks.export_image.plan import ExportPlan
from vmferry.tasks.export_image.slices import Slices

_SENDERS = 2
"""Parts on their way at once, of one step."""
_NOTE = re.compile(rb"([0-9]+) (\S+)\n")


class SlicedObject:
    """The object of one plan. One step uses it, from one thread; steps in other processes have their own."""

    def __init__(
        self, plan: ExportPlan, folder: Path, slices: Slices, upload: UploadInParts, listener: Listener
    ) -> None:
        """What is noted lies in ``folder``, which is there and no other plan's."""
        self._plan = plan
        self._folder = folder
        self._slices = slices
        self._upload = upload
        self._listener = listener
        self._noting = threading.Lock()

    def write_slice(self, number: int) -> None:
        """Pack slice ``number``, and send what can be sent by then and nobody else sends. Twice is the same as once.

        Raises ``PlanLostError``, ``StoreError``, ``TaskCancelledError``.
        """
        self._slices.pack(number)
        whole, layout = self._whole(), self._layout()
        for other in self._slices.may_send(number):
            if other not in whole and self._unsent(layout, other):
                with held_notes(self._folder, f"send-{other}") as held:
                    if held is not None:  # else another step sends these
                        self._send_slice(other)

    def finish(self, is_there: Callable[[int], bool]) -> None:
        """Pack and send what is not in S3 yet, and let the object appear. Raises as ``write_slice``.

        ``is_there`` tells whether it has appeared already, with so many bytes, where the upload is none any more.
        """
        for number in range(len(self._plan.slices)):
            self._slices.pack(number)
        view = self._view(self._layout(), *self._slices.join())
        parts, etags = range(-(-view.end // self._plan.part)), self._noted("sent-*")
        self._send(view, [part for part in parts if part not in etags], "sent-last")
        etags |= self._noted("sent-last")
        try:
            self._upload.complete(self._plan.upload, [etags[part] for part in parts])
        except StoreError as error:
            if error.facts.get("code") != "NoSuchUpload" or not is_there(view.end):
                raise

    def done(self, besides: int) -> int:
        """How much is done of the ``data`` of all slices but ``besides``."""
        known = self._slices.lengths() if self._slices.are_packed else self._whole()
        return sum(self._plan.slices[number].data for number in known if number != besides)

    def _layout(self) -> list[int]:
        """Where in the object each slice begins that is known, up to the first that is not, and where that one does."""
        lengths, starts = self._slices.lengths(), [self._slices.front]
        while len(starts) - 1 in lengths:
            starts.append(starts[-1] + lengths[len(starts) - 1])
        return starts

    def _begun(self, layout: list[int], number: int) -> range:
        """The parts that begin in slice ``number``, where that is known."""
        if number + 1 >= len(layout):
            return range(0)
        return range(-(-layout[number] // self._plan.part), -(-layout[number + 1] // self._plan.part))

    def _unsent(self, layout: list[int], number: int) -> list[int]:
        """Those of them that can be sent, and were not."""
        sent = self._noted(f"sent-{number}")
        known = layout[-1] // self._plan.part
        return [part for part in self._begun(layout, number) if part < known and part not in sent]

    def _send_slice(self, number: int) -> None:
        """Send the parts that begin in slice ``number``; who packs the next one meanwhile leaves theirs to us."""
        while unsent := self._unsent(layout := self._layout(), number):
            self._send(self._view(layout), unsent, f"sent-{number}")
        if set(self._begun(layout, number)) <= self._noted(f"sent-{number}").keys():
            (self._folder / f"whole-{number}").touch()
            self._release(layout, number)

    def _release(self, layout: list[int], number: int) -> None:
        """Let go of slices that are not needed, now that all parts are in S3 that begin in slice ``number``."""
        whole, end = self._whole(), self._begun(layout, number).stop * self._plan.part
        for other in range(number, bisect_left(layout, end)):
            first = layout[other] // self._plan.part * self._plan.part
            if first < self._slices.front:
                continue
            begin = bisect_right(layout, first) - 1
            if all(one in whole or not self._begun(layout, one) for one in range(begin, other + 1)):
                self._slices.release(other)

    def _view(self, layout: list[int], front: bytes = b"", back: bytes = b"") -> ObjectView:
        """The object as far as ``layout`` tells, with what stands before and behind, where that is known."""
        segments = [Segment(0, partial(_cut, front))]
        for number, start in enumerate(layout[:-1]):
            segments.append(Segment(start, partial(self._slices.read, number, start)))
        segments.append(Segment(layout[-1], partial(_cut, back)))
        return ObjectView(segments, layout[-1] + len(back))

    def _send(self, view: ObjectView, parts: Sequence[int], note: str) -> None:
        """Send ``parts``, by their numbers from 0, and note them."""

        def send(part: int) -> None:
            if self._listener.cancelled.is_set():
                raise TaskCancelledError("The export was cancelled.")
            start = part * self._plan.part
            end = min(start + self._plan.part, view.end)
            try:
                etag = self._upload.send(self._plan.upload, part + 1, self._body(view, start, end))
            except StoppedError as error:
                raise TaskCancelledError("The export was cancelled.") from error
            self._note(note, part, etag)
            self._listener.progress(0 if self._slices.are_packed else end - start)

        with ThreadPoolExecutor(_SENDERS, "send") as pool:
            for _ in pool.map(send, parts):
                pass

    def _body(self, view: ObjectView, start: int, end: int) -> Buffer | ViewStream:
        if end - start <= MAX_HELD:
            return view.read_at(start, end - start)
        return ViewStream(view, start, end, lambda: self._listener.progress(0), self._listener.cancelled)

    def _note(self, name: str, part: int, etag: str) -> None:
        try:
            with self._noting, (self._folder / name).open("a") as notes:
                notes.write(f"{part} {etag}\n")
        except OSError as error:
            raise foreign_error(error, str(self._folder / name)) from error

    def _noted(self, names: str) -> dict[int, str]:
        """The parts that were sent, by what is noted in the files ``names``, a pattern, and what S3 calls them. A line
        that was not written whole, as before a power cut, counts as none."""
        lines = [line for path in self._folder.glob(names) for line in path.read_bytes().splitlines(keepends=True)]
        found = (_NOTE.fullmatch(line) for line in lines)
        return {int(match[1]): match[2].decode() for match in found if match is not None}

    def _whole(self) -> set[int]:
        """The slices of which all parts that begin in them are in S3."""
        return {int(path.name.removeprefix("whole-")) for path in self._folder.glob("whole-*")}


def _cut(data: bytes, offset: int, length: int) -> bytes:
    return data[offset : offset + length]

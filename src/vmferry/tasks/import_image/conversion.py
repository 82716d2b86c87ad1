"""Slices of a disk on their way into its unfinished image: copied in one go, kept one by one."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from vmferry.appliances import HashedBlob
from vmferry.blob import Buffer, Part
from vmferry.catalog.import_tasks import ImportTasks, Slice
from vmferry.convert import copy, count_granules
from vmferry.digest import DigestTree
from vmferry.disk import Disk
from vmferry.formats.qcow2.layout import CLUSTER_SIZE, Layout
from vmferry.formats.qcow2.writer import Qcow2Writer
from vmferry.stores import ResumableBlobWriter
from vmferry.tasks._pulse import Pulse
from vmferry.tasks.import_image.slice_notes import SliceNotes
from vmferry.tasks.import_image.stages import Stage
from vmferry.tasks.import_image.traffic import Meter, MeteredWriter

_RECORD_SECONDS = 0.25
"""How often progress is written to the catalog."""


@dataclass(frozen=True, slots=True)
class Way:
    """How a disk is converted."""

    disk: Disk
    layout: Layout
    threads: int
    read: Meter
    """Of what is read for the task, by whichever step."""
    file: HashedBlob | None = None
    """What ``disk`` reads, where a manifest has a digest for it."""


class Conversion:
    """Some slices of one disk of a task, in order, converted by one step.

    A slice that is whole is made durable and kept with what it adds to the digests, while the next ones are copied: a
    worker's death costs those that were not whole, and the threads need not wait for each other at a slice's end.
    """

    def __init__(self, tasks: ImportTasks, task_id: str, slices: Sequence[Slice], way: Way, pulse: Pulse) -> None:
        """``slices``, one at the least, are all of one disk."""
        self._tasks = tasks
        self._task_id = task_id
        self._slices = slices
        self._way = way
        self._pulse = pulse
        self._digests = _SliceDigests(way.disk.size, slices)
        self._kept: list[Future[None]] = []
        self._notes: SliceNotes

    def run(
        self,
        target: ResumableBlobWriter,
        is_over: Callable[[], bool] = lambda: False,
        notes: Path | None = None,
    ) -> bool:
        """Copy into ``target``, which is not finished; whether all slices are converted.

        Before each slice ``is_over`` is asked whether it is left to another step. How far the slice in hand is is kept
        in the folder ``notes``, and gone on with from there; nobody else uses those of these slices meanwhile. Raises
        what ``copy`` does.
        """
        self._notes = SliceNotes(notes, target, self._slices, self._digests.tree)
        with self._notes:
            self._copy(target, is_over)
        return len(self._kept) == len(self._slices)

    def _copy(self, target: ResumableBlobWriter, is_over: Callable[[], bool]) -> None:
        """Copy and keep slices, from where the notes say it is."""
        written, start = Meter(), self._notes.start
        there = count_granules(self._way.disk, CLUSTER_SIZE, start, self._slices[0].start)
        progress = _Progress(self._tasks, self._task_id, self._slices, self._pulse, self._way.read, written, there)
        progress.record()  # the task's rate is measured from here on
        begins = {piece.start for piece in self._slices}

        def checkpoint(offset: int) -> None:
            if self._notes.checkpoint(offset, progress.copied):
                keeper.submit(self._note_file)
            self._keep_to(offset, keeper, target)

        with ThreadPoolExecutor(1, "keep") as keeper:
            copied = copy(
                self._way.disk,
                Qcow2Writer(MeteredWriter(target, written), self._way.layout),
                start,
                self._slices[-1].end,
                workers=self._way.threads,
                digest=self._digests,
                progress=progress,
                checkpoint=checkpoint,
                cancelled=self._pulse.stop,
                until=lambda offset: offset in begins and is_over(),
            )
            self._keep_to(copied.end, keeper, target)
        for kept in self._kept:
            kept.result()
        progress.record()

    def _keep_to(self, offset: int, keeper: ThreadPoolExecutor, target: ResumableBlobWriter) -> None:
        """Have the slices kept that end at ``offset`` or before. Called by one thread at a time."""
        while len(self._kept) < len(self._slices) and self._slices[len(self._kept)].end <= offset:
            self._kept.append(keeper.submit(self._keep, len(self._kept), target))

    def _keep(self, index: int, target: ResumableBlobWriter) -> None:
        if index:
            self._kept[index - 1].result()  # in order, or not at all: what is left to convert is then in one piece
        piece = self._slices[index]
        target.flush()
        file_digest = None if self._way.file is None else self._way.file.save()
        self._tasks.keep_digest(self._task_id, piece.disk, piece.number, self._digests.pack(index), file_digest)
        self._notes.kept(index)

    def _note_file(self) -> None:
        """Note how far the digest of the disk's file is."""
        if self._way.file is not None and (saved := self._way.file.save()) is not None:
            self._notes.note_digest(saved)


class _SliceDigests:
    """A tree of digests for each slice, as one ``SupportsDigest``."""

    def __init__(self, size: int, slices: Sequence[Slice]) -> None:
        self._slices = slices
        self._starts = [piece.start for piece in slices]
        self._trees = [DigestTree(size) for _ in slices]

    def tree(self, index: int) -> DigestTree:
        """Of slice ``index``."""
        return self._trees[index]

    def add(self, offset: int, data: Buffer) -> None:
        self._find(offset, len(data)).add(offset, data)

    def add_parts(self, offset: int, parts: Sequence[Part]) -> None:
        self._find(offset, sum(map(len, parts))).add_parts(offset, parts)

    def _find(self, offset: int, length: int) -> DigestTree:
        """The tree of the slice in which a piece lies. One that lay in two would be missed in the second's digest."""
        index = bisect_right(self._starts, offset) - 1
        if index < 0 or offset + length > self._slices[index].end:
            raise ValueError(f"{offset} to {offset + length} do not lie in one slice")
        return self._trees[index]

    def collapse(self, start: int, end: int) -> None:
        for piece, tree in zip(self._slices, self._trees, strict=True):
            if start < piece.end and piece.start < end:
                tree.collapse(max(start, piece.start), min(end, piece.end))

    def pack(self, index: int) -> bytes:
        """What slice ``index`` adds to the digest of its disk; its tree is let go of."""
        piece, tree = self._slices[index], self._trees[index]
        tree.collapse(piece.start, piece.end)
        self._trees[index] = DigestTree(0)
        return tree.pack()


class _Progress:
    """Takes the progress of a copy and writes it to the catalog now and then. Called by one thread at a time."""

    def __init__(
        self,
        tasks: ImportTasks,
        task_id: str,
        slices: Sequence[Slice],
        pulse: Pulse,
        read: Meter,
        written: Meter,
        there: int,
    ) -> None:
        """``there`` bytes of DATA of the first slice are converted already."""
        self._tasks = tasks
        self._task_id = task_id
        self._slices = slices
        self._pulse = pulse
        self._read = read
        self._written = written
        self._done = there
        self.copied = 0
        self._whole = 0
        """Slices of which nothing more is to be recorded."""
        self._before = 0
        """Bytes of DATA in those."""
        self._recorded_at = time.monotonic()

    def __call__(self, copied: int) -> None:
        """``copied`` more bytes of DATA are converted."""
        self._done += copied
        self.copied += copied
        self._pulse.moved()
        if time.monotonic() - self._recorded_at >= _RECORD_SECONDS:
            self.record()

    def record(self) -> None:
        """Write what is done."""
        disk, done = self._slices[0].disk, {}
        while self._whole < len(self._slices):
            piece = self._slices[self._whole]
            part = min(self._done - self._before, piece.data)
            done[piece.number] = part
            if part < piece.data:
                break
            self._whole, self._before = self._whole + 1, self._before + piece.data
        read, written = self._read.take(), self._written.take()
        finished, planned = self._tasks.record_slices(self._task_id, disk, done, read=read, written=written)
        self._tasks.advance(self._task_id, Stage.CONVERTING.message, Stage.CONVERTING.at(finished, planned))
        self._recorded_at = time.monotonic()

"""What the slices of an export's object hold: bytes that were packed, kept in files until they are sent, or the guest's
own."""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from vmferry.blob import BlobWriter, Buffer, FileBlob
from vmferry.convert import count_granules
from vmferry.convert.journal import Journal, boot_id, copy_rest
from vmferry.disk import Disk, PackedSlice
from vmferry.errors import StoreUnavailableError
from vmferry.stores.local import resume_file
from vmferry.tasks._held import held_notes
from vmferry.tasks.export_image.listener import Listener
from vmferry.tasks.export_image.packer import Ends, Packer, new_packer
from vmferry.tasks.export_image.plan import ExportPlan, PlanLostError, write_durably

_THREADS = 2
"""Threads that pack a slice."""
_MAP = re.compile(r"map-([0-9]+)-([0-9]+)")


class Slices(Protocol):
    """The slices of one object, as any process sees them."""

    front: int
    """Bytes of the object before the first slice."""
    are_packed: bool
    """Whether the work is to pack them, or else to send them."""

    def lengths(self) -> dict[int, int]:
        """Bytes of each slice that is known so far, by its number."""

    def pack(self, number: int) -> None:
        """Make slice ``number`` known. Raises ``StoreError``, and what ``copy`` raises."""

    def may_send(self, number: int) -> Iterator[int]:
        """The slices whose parts who packed ``number`` may send."""

    def read(self, number: int, start: int, offset: int, length: int) -> Buffer:
        """Bytes of slice ``number``, which begins at ``start`` of the object, from its ``offset`` on."""

    def release(self, number: int) -> None:
        """All of slice ``number`` is in S3."""

    def join(self) -> tuple[bytes, bytes]:
        """What stands before the slices, ``front`` bytes, and behind them, once all are known."""


class GuestSlices:
    """Slices of the guest's own bytes, as a raw disk has them: nothing is packed, and nothing kept."""

    front = 0
    are_packed = False

    def __init__(self, plan: ExportPlan, disk: Disk) -> None:
        self._disk = disk
        self._slices = plan.slices

    def lengths(self) -> dict[int, int]:
        return {number: piece.end - piece.start for number, piece in enumerate(self._slices)}

    def pack(self, number: int) -> None: ...

    def may_send(self, number: int) -> Iterator[int]:
        yield number

    def read(self, number: int, start: int, offset: int, length: int) -> Buffer:
        return self._disk.read_at(start + offset, length)

    def release(self, number: int) -> None: ...

    def join(self) -> tuple[bytes, bytes]:
        return b"", b""


class PackedSlices:
    """Slices of a format that packs. Each is packed into a file of ``folder``, which stays until it is in S3; where
    that file is gone, as after a power cut, it is packed again, which gives the same bytes."""

    are_packed = True

    def __init__(self, folder: Path, plan: ExportPlan, disk: Disk, name: str, listener: Listener) -> None:
        """Of ``disk`` in the format ``name``, whose writer is a ``SupportsSlices``."""
        self._folder = folder
        self._plan = plan
        self._disk = disk
        self._name = name
        self._listener = listener
        self._mover = self._packer(Ends(0, 0))
        self._maps: dict[int, PackedSlice] = {}
        self._again = threading.Lock()
        self.front = self._mover.front

    def lengths(self) -> dict[int, int]:
        found = (_MAP.fullmatch(path.name) for path in self._folder.iterdir())
        return {int(match[1]): int(match[2]) for match in found if match is not None}

    def pack(self, number: int) -> None:
        if number not in self.lengths():
            with self._alone(number):
                if number not in self.lengths():
                    self._keep(number, self._pack(number))

    def may_send(self, number: int) -> Iterator[int]:
        yield from range(len(self._plan.slices))

    def read(self, number: int, start: int, offset: int, length: int) -> Buffer:
        with self._content(number) as content:
            return self._mover.move(self._map(number), offset, content.read_at(offset, length), start)

    def release(self, number: int) -> None:
        self._path(number).unlink(missing_ok=True)

    def join(self) -> tuple[bytes, bytes]:
        pieces = [self._map(number) for number in range(len(self._plan.slices))]
        ends = Ends(self.front, self.front + sum(piece.length for piece in pieces))
        writer = self._packer(ends)
        for piece in pieces:
            writer.join(piece)
            self._listener.progress(0)
        writer.finish()
        return bytes(ends.head).ljust(self.front, b"\0"), bytes(ends.tail)

    def _packer(self, target: BlobWriter) -> Packer:
        packer = new_packer(self._name, target, self._disk)
        assert packer is not None, f"{self._name} packs nothing"
        return packer

    def _pack(self, number: int) -> PackedSlice:
        """Pack slice ``number``, or go on where a process before this one ended."""
        piece, path = self._plan.slices[number], self._path(number)
        target = resume_file(path, sync=False)
        try:
            writer = self._packer(_Behind(self.front, target))
            journal = Journal(path, {"disk": self._plan.identity}, target, None)
            if not journal.offset:
                target.begin()
            writer.begin_slice()
            copy_rest(
                self._disk,
                writer,
                journal,
                count_granules(self._disk, writer.granularity, piece.end, piece.start),
                piece.start,
                piece.end,
                workers=_THREADS,
                progress=self._listener.progress,
                cancelled=self._listener.cancelled,
            )
            packed = writer.end_slice()
            target.set_size(packed.length)
            target.finish()
            journal.remove()
            return packed
        finally:
            target.close()

    def _keep(self, number: int, packed: PackedSlice) -> None:
        facts = {"boot": boot_id(), "map": base64.b64encode(packed.map).decode()}
        write_durably(self._map_path(number, packed.length), json.dumps(facts))
        self._maps[number] = packed

    def _map(self, number: int) -> PackedSlice:
        """What was kept of slice ``number``, which is known."""
        found = self._maps.get(number)
        if found is None:
            length = self.lengths()[number]
            facts = json.loads(self._map_path(number, length).read_text())
            found = self._maps[number] = PackedSlice(length, base64.b64decode(facts["map"]))
        return found

    @contextmanager
    def _content(self, number: int) -> Iterator[FileBlob]:
        """The file of slice ``number``, which is known; packed again where it is gone."""
        with self._again:
            if not self._is_there(number):
                with self._alone(number):
                    self._pack_again(number)
        content = FileBlob(self._path(number))
        try:
            yield content
        finally:
            content.close()

    def _is_there(self, number: int) -> bool:
        """Whether the file of slice ``number`` is whole: one from before the machine's last start may not be."""
        length = self._map(number).length
        path = self._path(number)
        facts = json.loads(self._map_path(number, length).read_text())
        return facts["boot"] == boot_id() and path.is_file() and path.stat().st_size == length

    def _pack_again(self, number: int) -> None:
        """Raises ``PlanLostError`` where that gives other bytes: the versions of libraries may have changed."""
        known, packed = self._map(number), self._pack(number)
        if packed != known:
            raise PlanLostError(
                "What was packed of the disk is gone, and would be packed otherwise now: it begins anew."
            )
        self._keep(number, packed)

    @contextmanager
    def _alone(self, number: int) -> Iterator[None]:
        with held_notes(self._folder, f"pack-{number}") as held:
            if held is None:
                raise StoreUnavailableError("A step that was taken for dead packs the same slice: it is waited for.")
            yield

    def _path(self, number: int) -> Path:
        return self._folder / f"slice-{number}"

    def _map_path(self, number: int, length: int) -> Path:
        return self._folder / f"map-{number}-{length}"


def open_slices(folder: Path, plan: ExportPlan, disk: Disk, name: str, listener: Listener) -> Slices:
    """The slices of ``disk`` in the format ``name``; packed ones are kept in ``folder``, which is there."""
    if new_packer(name, Ends(0, 0), disk) is None:
        return GuestSlices(plan, disk)
    return PackedSlices(folder, plan, disk, name, listener)


@dataclass(slots=True)
class _Behind:
    """A ``BlobWriter`` of what stands from ``front`` on, which is all that a slice has."""

    front: int
    target: BlobWriter

    def write_at(self, offset: int, data: Buffer) -> None:
        if offset >= self.front:
            self.target.write_at(offset - self.front, data)

    def set_size(self, size: int) -> None:
        self.target.set_size(size - self.front)

    def finish(self) -> None: ...
    def abort(self) -> None: ...

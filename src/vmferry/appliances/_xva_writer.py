"""An XVA being written, from front to back: ``ova.xml``, then each disk as chunks of 1 MiB with their XXH64 digests.

Source: xapi's ``stream_vdi.ml``. Chunks of zeros are left out, their numbers too; the first and the last are always
there, so that a reader sees where a disk ends.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import xxhash

from vmferry.appliances._placement import plain_text
from vmferry.appliances._tar_writer import BLOCK, tar_header, tar_size
from vmferry.appliances._xva_records import disk_ref, render_ova_xml
from vmferry.blob import BlobWriter, Buffer
from vmferry.disk import OrderedDiskWriter, Placed
from vmferry.errors import UnsupportedFeatureError
from vmferry.extent import is_zero
from vmferry.limits import MAX_DISK_SIZE
from vmferry.machine import Machine, MachineDisk, NetworkInterface
from vmferry.units import MIB, format_size, round_up

CHUNK = MIB
_NETWORK = "Network 0"
_MAC = re.compile(r"(?:[0-9A-Fa-f]{2}[:-]?){6}")


@dataclass(frozen=True, slots=True)
class EncodedChunk:
    """A chunk's members as they will lie in the tar: ``parts`` by their distance from the first header."""

    number: int
    size: int
    parts: Sequence[Placed]


class XvaWriter:
    """The XVA of one machine, in ``target``, which it finishes or aborts: it appears whole, or not at all.

    The disks are written one after another; what is in them comes as guest bytes. All of it is written from front to
    back, so ``target`` may be S3, too. The same arguments and the same disks give the same bytes.
    """

    def __init__(self, target: BlobWriter, machine: Machine, capacities: Sequence[int]) -> None:
        """``capacities`` are bytes of the disks, in boot order: multiples of 512.

        Where the disks of ``machine`` hang is no matter: Xen has one bus. Raises ``UnsupportedFeatureError`` for a disk
        over 64 TiB, ``StoreError``; ``ValueError`` for no disk, and for sizes that are none.
        """
        if not capacities or any(size <= 0 or size % BLOCK for size in capacities):
            raise ValueError(f"{list(capacities)} are no sizes of disks")
        if max(capacities) > MAX_DISK_SIZE:
            raise UnsupportedFeatureError(
                f"A disk of {format_size(max(capacities))} goes into no XVA: {format_size(MAX_DISK_SIZE)} is the most. "
                "Leave it out."
            )
        self._target = target
        self._machine = _as_xen_has_it(machine, capacities)
        self._disks: list[XvaDiskWriter] = []
        content = render_ova_xml(self._machine)
        header = tar_header("ova.xml", len(content), gnu=False)
        target.write_at(0, header + content.ljust(round_up(len(content), BLOCK), b"\0"))
        self._end = BLOCK + round_up(len(content), BLOCK)

    @property
    def machine(self) -> Machine:
        """The machine as the package describes it: what a reader will find, but for its notes."""
        return self._machine

    def disk(self, index: int) -> OrderedDiskWriter:
        """A writer of disk ``index``; its ``finish`` leaves the package open.

        ``ValueError`` out of order (0, 1, …), and before the one before it is finished.
        """
        if index != len(self._disks) or index >= len(self._machine.disks):
            raise ValueError(f"disk {index} is asked for, disk {len(self._disks)} is next")
        if self._disks:
            self._end = self._disks[-1].end
        described = self._machine.disks[index]
        self._disks.append(XvaDiskWriter(self._target, described.name, described.capacity or 0, self._end))
        return self._disks[-1]

    def finish(self) -> None:
        """Make all of it durable, let the package appear. ``ValueError`` before all disks are finished."""
        if len(self._disks) != len(self._machine.disks):
            raise ValueError(f"{len(self._disks)} of {len(self._machine.disks)} disks are written")
        self._target.set_size(tar_size(self._disks[-1].end))
        self._target.finish()

    def abort(self) -> None:
        """Remove what was written. Harmless after ``finish`` and when called twice."""
        self._target.abort()


class XvaDiskWriter:
    """The OrderedDiskWriter of one disk in an XVA. ``encode`` and ``write`` may be called by any number of threads."""

    granularity = CHUNK

    def __init__(self, target: BlobWriter, ref: str, size: int, start: int) -> None:
        """A disk of ``size`` guest bytes, called ``ref``, whose first header lies at ``start`` of the tar."""
        self._target = target
        self._ref = ref
        self._size = size
        self._position = start
        self._next = 0
        self._finished = False

    @property
    def end(self) -> int:
        """Where the tar goes on behind the disk. ``ValueError`` before ``finish``."""
        if not self._finished:
            raise ValueError(f"the disk {self._ref} is not finished")
        return self._position

    def encode(self, offset: int, data: Buffer) -> Sequence[EncodedChunk]:
        """As ``OrderedDiskWriter``. ``ValueError`` for what is not whole chunks, the disk's end excepted."""
        end = offset + len(data)
        if offset % CHUNK or (end % CHUNK and end != self._size) or not 0 <= offset <= end <= self._size:
            raise ValueError(f"{offset} to {end} are not whole chunks of a disk of {self._size} bytes")
        view = memoryview(data)
        chunks = ((offset + start, view[start : start + CHUNK]) for start in range(0, len(data), CHUNK))
        return [self._encode(start // CHUNK, chunk) for start, chunk in chunks if not is_zero(chunk)]

    def place(self, encoded: Sequence[EncodedChunk]) -> Sequence[Placed]:
        placed: list[Placed] = []
        for chunk in encoded:
            if self._next == 0 and chunk.number > 0:
                placed += self._place(self._zeros(0))
            placed += self._place(chunk)
        return placed

    def write(self, placed: Sequence[Placed]) -> None:
        for host, data in placed:
            self._target.write_at(host, data)

    def finish(self) -> None:
        last = (self._size - 1) // CHUNK
        if self._next <= last:
            self.write(self.place([self._zeros(last)]))
        self._finished = True

    def abort(self) -> None:
        """The package, which cannot go without the disk, is aborted by its owner."""

    def _encode(self, number: int, data: Buffer) -> EncodedChunk:
        name = f"{self._ref}/{number:08d}"
        digest = xxhash.xxh64_hexdigest(data).upper().encode("ascii")
        padding = bytes(-len(data) % BLOCK)
        tail = padding + tar_header(f"{name}.xxhash", len(digest), gnu=False) + digest.ljust(BLOCK, b"\0")
        parts: list[Placed] = [
            (0, tar_header(name, len(data), gnu=False)),
            (BLOCK, data),
            (BLOCK + len(data), tail),
        ]
        return EncodedChunk(number, BLOCK + len(data) + len(tail), parts)

    def _zeros(self, number: int) -> EncodedChunk:
        return self._encode(number, bytes(min(CHUNK, self._size - number * CHUNK)))

    def _place(self, chunk: EncodedChunk) -> list[Placed]:
        start = self._position
        self._position += chunk.size
        self._next = chunk.number + 1
        return [(start + distance, data) for distance, data in chunk.parts]


def _as_xen_has_it(machine: Machine, capacities: Sequence[int]) -> Machine:
    disks = (MachineDisk(disk_ref(n), size, "xen", 0, n, "raw") for n, size in enumerate(capacities))
    return replace(
        machine,
        name=plain_text(machine.name) or "vm",
        cpus=max(machine.cpus, 1),
        disks=tuple(disks),
        interfaces=tuple(
            NetworkInterface(plain_text(card.network or "") or _NETWORK, None, _mac(card.mac))
            for card in machine.interfaces
        ),
        guest_os=None,
        hardware_family="xen-hvm",
        notes=(),
    )


def _mac(mac: str | None) -> str | None:
    """As XenServer takes it, ``52:54:00:11:22:33``."""
    if mac is None or not _MAC.fullmatch(mac):
        return None
    digits = re.sub("[:-]", "", mac).lower()
    return ":".join(digits[start : start + 2] for start in range(0, 12, 2))

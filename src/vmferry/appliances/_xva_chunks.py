"""Where the chunks of an XVA's disks lie: runs of them, found without going from header to header.

A disk is chunks ``Ref:7/00000000``, ``Ref:7/00000001`` …, each a member of the tar, each followed by a member with its
digest, or not. Chunks of zeros are left out, their numbers too. A chunk of no bytes only keeps a connection alive: it
takes a number, and no place in the disk. Source: xapi's ``stream_vdi.ml`` as ``disk-formats`` has it.
"""

from __future__ import annotations

import re
from array import array
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vmferry.appliances._tar import BLOCK, Member, TarWalk
from vmferry.blob import Blob, SupportsReadOrder
from vmferry.errors import CorruptDiskError, UnsafeDiskError, quote
from vmferry.limits import MAX_XVA_CHUNK, MAX_XVA_RUNS
from vmferry.units import format_size, round_up

_CHUNK = re.compile(r"((?:Ref:[0-9]{1,9})|(?:OpaqueRef:[0-9A-Za-z-]{1,64}))/([0-9]{8,12})(\.xxhash|\.checksum)?")
_READ_AHEAD = 4 * BLOCK
"""The header of a digest, the digest, and the header of the next chunk."""

SUFFIXES = ("", ".checksum", ".xxhash")
"""What a digest's member is called after its chunk: none, SHA-1, XXH64."""


@dataclass(slots=True)
class DiskChunks:
    """The chunks of one disk, as runs without a gap between them, in the order of the disk.

    A run lies in the tar from ``offsets[i]`` (of its first header) and holds ``counts[i]`` chunks from number
    ``numbers[i]`` on, ``guests[i]`` of the disk, each with a digest called ``SUFFIXES[kinds[i]]``.
    """

    ref: str
    chunk_size: int = 0
    last_size: int = 0
    """Bytes of the very last chunk, which may be shorter."""
    end: int = 0
    """Number of the chunk of the disk behind the last."""
    guests: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    numbers: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    offsets: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    counts: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    kinds: NDArray[np.int8] = field(default_factory=lambda: np.empty(0, np.int8))

    def name_of(self, number: int) -> str:
        """The tar member that chunk ``number`` is."""
        return f"{self.ref}/{number:08d}"


def record_size(chunk_size: int, kind: int) -> int:
    """Bytes of the tar from the header of a chunk to that of the next."""
    return BLOCK + round_up(chunk_size, BLOCK) + (2 * BLOCK if kind else 0)


def read_chunks(blob: Blob, wanted: set[str]) -> dict[str, DiskChunks]:
    """The chunks of the disks ``wanted``, by reference; a disk without chunks is not in it.

    Costs some small reads for each run of chunks, however long. What lies between the ends of a run is checked when it
    is read. Raises ``CorruptDiskError``, ``UnsafeDiskError``.
    """
    walk = TarWalk(blob, 4 * MAX_XVA_RUNS, _READ_AHEAD)
    in_order = isinstance(blob, SupportsReadOrder) and blob.in_order
    disks = {ref: _Builder(blob.name, ref) for ref in wanted}
    runs = 0
    member = walk.next()
    while member is not None:
        match = _CHUNK.fullmatch(member.name)
        if match is None or match[3]:  # a digest whose chunk does not lie before it, or what is no chunk at all
            member = walk.next()
            continue
        ref, number = match[1], int(match[2])
        start, size = member.offset - BLOCK, member.size
        if size > MAX_XVA_CHUNK:
            raise UnsafeDiskError(
                f"{quote(blob.name)}: the chunk {quote(member.name)} has {format_size(size)}; "
                f"at most {format_size(MAX_XVA_CHUNK)} is read. Export the machine again."
            )
        behind = walk.offset
        follower = walk.next()
        kind = _digest_kind(member, follower, behind)
        count = _count_run(walk, ref, number, start, size, kind, in_order=in_order) if size else 1
        if ref in disks:
            disks[ref].add(number, start, size, count, kind)
        runs += 1
        if runs > MAX_XVA_RUNS:
            raise UnsafeDiskError(
                f"{quote(blob.name)} holds more than {MAX_XVA_RUNS:,} separate runs of chunks; "
                "import its disks one by one, as VHD."
            )
        if count > 1:
            walk.offset = start + count * record_size(size, kind)
        member = walk.next() if kind or count > 1 else follower
    return {ref: builder.chunks() for ref, builder in disks.items() if builder.chunk_size}


def _digest_kind(member: Member, follower: Member | None, behind: int) -> int:
    """Which digest of ``member`` the member after it is, whose header must stand right ``behind`` it."""
    if follower is None or follower.offset != behind + BLOCK or follower.size > BLOCK:
        return 0
    suffix = follower.name.removeprefix(member.name)
    return SUFFIXES.index(suffix) if suffix in SUFFIXES and suffix != follower.name else 0


def _count_run(walk: TarWalk, ref: str, number: int, start: int, size: int, kind: int, *, in_order: bool) -> int:
    """How many chunks of this size follow one another from ``start`` on, found by looking far ahead and halving;
    or, ``in_order``, one after the other.

    The number of a chunk grows by one at least, and its bytes are one record at most: where the record ``n`` further
    is the chunk ``n`` further, all between them are there.
    """
    record = record_size(size, kind)

    def is_there(count: int) -> bool:
        """Whether the run goes on up to the chunk ``count`` further."""
        place, name = start + count * record, f"{ref}/{number + count:08d}"
        return _is_file(walk.header(place), name, size) and (
            not kind or _is_file(walk.header(place + BLOCK + round_up(size, BLOCK)), name + SUFFIXES[kind], None)
        )

    low, step = 0, 1
    while in_order and is_there(low + 1):
        low += 1
    if in_order:
        return low + 1
    while is_there(low + step):
        low += step
        step *= 2
    high = low + step
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if is_there(middle) else (low, middle)
    return low + 1


def _is_file(header: bytes | None, name: str, size: int | None) -> bool:
    """Whether ``header`` is that of the plain file ``name``."""
    return header is not None and header_says(header, name, size)


def header_says(header: bytes, name: str, size: int | None) -> bool:
    """Whether a tar header is that of the plain file ``name`` of ``size`` bytes (of 512 at most, where ``None``)."""
    digits = header[124:136].strip(b" \0")
    if header[156:157] not in (b"0", b"\0") or not re.fullmatch(rb"[0-7]{1,11}", digits):
        return False
    said = int(digits, 8)
    right = said <= BLOCK if size is None else said == size
    return right and header[:100].partition(b"\0")[0].removeprefix(b"./") == name.encode()


class _Builder:
    """Takes runs of one disk as they come."""

    def __init__(self, source: str, ref: str) -> None:
        self.chunk_size = 0
        self._source = source
        self._ref = ref
        self._next_number = 0
        self._empty = 0
        self._last_size = 0
        self._end = 0
        self._guests, self._numbers, self._offsets, self._counts = array("q"), array("q"), array("q"), array("q")
        self._kinds = array("b")

    def add(self, number: int, start: int, size: int, count: int, kind: int) -> None:
        """Take ``count`` chunks of ``size`` bytes each."""
        if number < self._next_number:
            raise self._damaged(f"chunk {number:,} comes after chunk {self._next_number - 1:,}")
        self._next_number = number + count
        if not size:
            self._empty += 1
            return
        self.chunk_size = self.chunk_size or size
        if self._last_size not in (0, self.chunk_size):
            raise self._damaged(f"chunk {number:,} comes after one that is shorter than the others")
        if size < self.chunk_size and count > 1:
            raise self._damaged(f"chunks {number:,} and {number + 1:,} are shorter than the others")
        if size > self.chunk_size:
            raise self._damaged(f"chunk {number:,} has {size:,} bytes, the first one {self.chunk_size:,}")
        self._last_size = size
        guest = number - self._empty
        self._end = guest + count
        self._guests.append(guest)
        self._numbers.append(number)
        self._offsets.append(start)
        self._counts.append(count)
        self._kinds.append(kind)

    def chunks(self) -> DiskChunks:
        """All that was taken."""
        guests, numbers, offsets, counts = (
            np.frombuffer(table, np.int64) for table in (self._guests, self._numbers, self._offsets, self._counts)
        )
        kinds = np.frombuffer(self._kinds, np.int8)
        return DiskChunks(
            self._ref, self.chunk_size, self._last_size, self._end, guests, numbers, offsets, counts, kinds
        )

    def _damaged(self, what: str) -> CorruptDiskError:
        return CorruptDiskError(f"{quote(self._source)}: the disk {self._ref} is damaged: {what}. Export it again.")

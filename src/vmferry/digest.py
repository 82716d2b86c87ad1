"""NOUN GuestDigest: a digest of what the guest sees, whatever format, slices and workers the bytes went through.

The disk is cut into leaves of 64 KiB, the last one filled up with zeros. A leaf of zeros counts as 32 zero bytes, any
other as its BLAKE3. Sixty-four neighbours, those behind the disk's end counting as zeros, make a node: 32 zero bytes
where all of them are, else the BLAKE3 of their 2048 bytes; and so on, until there is one node. The digest is the
BLAKE3 of ``vmferry guest digest 1``, a line feed, the disk's size in decimal, a line feed and that node's 32 bytes;
in text ``guest1:`` and 64 hexadecimal digits. ``docs/digest.md`` says it to those who want to compute it elsewhere.
"""

from __future__ import annotations

import re
import struct
import threading
from collections.abc import Sequence

from blake3 import blake3

from vmferry.blob import PART_SIZE, Buffer, Part
from vmferry.errors import ConfigError, quote
from vmferry.extent import is_zero, nonzero_runs

LEAF = PART_SIZE
"""Guest bytes of a leaf."""
_FANOUT = 64
_ZERO = bytes(32)
_PREFIX = "guest1:"
_TEXT = re.compile(_PREFIX + "[0-9a-f]{64}")
_NODE = struct.Struct("<BQ32s")
"""A node as it is stored: level (0 is a leaf), index within the level, digest."""


class DigestTree:
    """The digest of a disk of which pieces come in any order; what never comes is zeros.

    ``add`` may be called by any number of threads. Memory is a hundred bytes for each leaf that was added and could not
    be ``collapse``-d yet.
    """

    def __init__(self, size: int) -> None:
        """Of a disk of ``size`` bytes."""
        self._size = size
        leaves = -(-size // LEAF)
        height = 0
        while _FANOUT**height < leaves:
            height += 1
        self._levels: list[dict[int, bytes]] = [{} for _ in range(height + 1)]
        self._lock = threading.Lock()

    def add(self, offset: int, data: Buffer) -> None:
        """Count in ``data`` from guest ``offset``: whole leaves, the disk's end excepted (``ValueError`` else)."""
        self._check(offset, len(data))
        view, leaves = memoryview(data), self._levels[0]
        for low, high in nonzero_runs(data, LEAF):
            for start in range(low, high, LEAF):
                leaf = view[start : start + LEAF]
                whole = leaf if len(leaf) == LEAF else bytes(leaf).ljust(LEAF, b"\0")
                leaves[(offset + start) // LEAF] = blake3(whole).digest()

    def add_parts(self, offset: int, parts: Sequence[Part]) -> None:
        """As ``add`` of ``parts`` joined, each of which is a leaf."""
        self._check(offset, sum(map(len, parts)))
        leaves = self._levels[0]
        for number, part in enumerate(parts, offset // LEAF):
            if part[0] or not is_zero(part):
                whole = part if len(part) == LEAF else part.ljust(LEAF, b"\0")
                leaves[number] = blake3(whole).digest()

    def collapse(self, start: int, end: int) -> None:
        """Let go of details: all of ``[start, end)`` was added, or is zeros."""
        with self._lock:
            for level, children in enumerate(self._levels[:-1]):
                span = LEAF * _FANOUT ** (level + 1)
                first = -(-start // span)
                last = end // span if end < self._size else -(-self._size // span)
                parents = {child // _FANOUT for child in list(children)}
                for parent in parents:
                    if first <= parent < last:
                        below = range(parent * _FANOUT, (parent + 1) * _FANOUT)
                        joined = b"".join([children.pop(child, _ZERO) for child in below])
                        self._levels[level + 1][parent] = blake3(joined).digest()

    def _check(self, offset: int, length: int) -> None:
        end = offset + length
        if offset % LEAF or (end % LEAF and end != self._size) or not 0 <= offset <= end <= self._size:
            raise ValueError(f"{offset} to {end} are not whole leaves of a disk of {self._size} bytes")

    def pack(self) -> bytes:
        """What is known so far, for ``merge`` in another process."""
        with self._lock:
            known = [nodes.copy() for nodes in self._levels]  # others add meanwhile
        nodes = [(level, *node) for level, nodes in enumerate(known) for node in sorted(nodes.items())]
        return b"".join(_NODE.pack(*node) for node in nodes)

    def merge(self, packed: bytes) -> None:
        """Count in what another tree of the same disk knew, of other parts of it. ``ValueError`` if it is damaged."""
        if len(packed) % _NODE.size:
            raise ValueError(f"{len(packed)} bytes are no nodes of a digest")
        for level, index, digest in _NODE.iter_unpack(packed):
            if level >= len(self._levels):
                raise ValueError(f"a node of level {level} belongs to another disk")
            self._levels[level][index] = digest

    def finish(self) -> str:
        """The digest, in text. Everything was added."""
        self.collapse(0, self._size)
        top = self._levels[-1].get(0, _ZERO)
        return _PREFIX + blake3(b"vmferry guest digest 1\n%d\n" % self._size + top).hexdigest()


def is_guest_digest(text: str) -> bool:
    """Whether ``text`` begins as a guest digest does: a name of a file never should."""
    return text.startswith(_PREFIX)


def check_guest_digest(text: str) -> str:
    """``text``, which must be a guest digest. Raises ``ConfigError``."""
    if _TEXT.fullmatch(text) is None:
        raise ConfigError(f"{quote(text)} is no guest digest: '{_PREFIX}' and 64 hexadecimal digits are expected.")
    return text

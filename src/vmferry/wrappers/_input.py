"""The packed bytes of a blob in order, read in large pieces: what decoders are fed with."""

from __future__ import annotations

from vmferry.blob import Blob
from vmferry.errors import CorruptDiskError, quote
from vmferry.units import MIB

_READ = MIB
_FEED = 16 * 1024
"""Bytes given to a decoder at once: what comes out of them is bounded, and checkpoints can be taken between them."""


_MAX_REST = 64 * 1024
"""Bytes behind the packed data that are passed over."""


class PackedInput:
    """``[position, end)`` of ``blob``, in order. For one thread."""

    def __init__(self, blob: Blob, position: int = 0, end: int | None = None) -> None:
        self.position = position
        """Offset in the blob of the next byte."""
        self._blob = blob
        self._end = blob.size if end is None else end
        self._held = memoryview(b"")
        self._held_from = position

    @property
    def left(self) -> int:
        """Bytes from ``position`` to the end."""
        return self._end - self.position

    def peek(self, length: int = _FEED) -> memoryview:
        """The next bytes: ``length``, at most 1 MiB, or fewer at the end. ``skip`` says how many of them were used."""
        begin = self.position - self._held_from
        if begin + length > len(self._held) and self._held_from + len(self._held) < self._end:
            self._held = memoryview(self._blob.read_at(self.position, min(_READ, self.left)))
            self._held_from, begin = self.position, 0
        return self._held[begin : begin + length]

    def skip(self, length: int) -> None:
        """Go on ``length`` bytes behind ``position``; back, where negative, inside what was peeked last."""
        self.position += length

    def take(self, length: int) -> bytes:
        """Exactly the next ``length`` bytes, at most 1 MiB. Raises ``CorruptDiskError`` when the file ends before."""
        data = bytes(self.peek(length))
        if len(data) < length:
            raise CorruptDiskError(
                f"{quote(self._blob.name)}: the packed data ends inside a header or trailer. "
                "It is cut short or damaged: pack or upload it again."
            )
        self.skip(length)
        return data


def check_rest(name: str, feed: PackedInput) -> None:
    """Raise ``CorruptDiskError`` when what is left behind the packed data is too long to be passed over.

    Some programs pad what they write; but a stream whose first bytes are damaged would look the same.
    """
    if feed.left > _MAX_REST:
        raise CorruptDiskError(
            f"{quote(name)}: the {feed.left:,} bytes from offset {feed.position:,} on are no packed data. "
            "It is damaged: pack or upload it again."
        )

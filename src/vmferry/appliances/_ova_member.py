"""The window of an OVA that one disk's file is written into."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from typing import Protocol, runtime_checkable

from vmferry.appliances._written_digest import WrittenDigest
from vmferry.blob import BlobWriter, Buffer
from vmferry.errors import UnsupportedFeatureError
from vmferry.units import MIB

_STEP = 8 * MIB


@runtime_checkable
class SupportsReadBack(Protocol):
    """A blob being made that can be read already."""

    def read_back(self, offset: int, length: int) -> bytes:
        """What was written to ``[offset, offset + length)`` so far; zeros where nothing was. Raises ``StoreError``."""


class MemberWriter:
    """A ``BlobWriter`` over ``target`` from ``start`` on. Its ``finish`` ends the member, and leaves the package open.

    Given an ``algorithm``, a digest is taken: on the way where ``append_only`` says that the bytes come nearly in
    order, each once; else, and where they did not, by reading the member again from the target.
    """

    def __init__(
        self,
        target: BlobWriter,
        start: int,
        algorithm: str | None,
        on_finish: Callable[[int, bytes], None],
        *,
        append_only: bool,
    ) -> None:
        """``on_finish`` is told of the member's bytes, and of their digest: empty where none is taken."""
        self._target = target
        self._start = start
        self._algorithm = algorithm
        self._on_finish = on_finish
        self._digest = WrittenDigest(algorithm) if algorithm and append_only else None
        self._lock = threading.Lock()
        self._size = 0
        self._ended = False

    def write_at(self, offset: int, data: Buffer) -> None:
        """As ``BlobWriter``. A thread that is far ahead waits for those behind. ``ValueError`` when all is ended."""
        if offset < 0 or self._ended:
            raise ValueError(f"nothing can be written at {offset}: before the member, or when it has ended")
        with self._lock:
            self._size = max(self._size, offset + len(data))
        if self._digest is None:
            self._target.write_at(self._start + offset, data)
            return
        self._digest.add(offset, data)
        self._digest.store_begins()
        try:
            self._target.write_at(self._start + offset, data)
        finally:
            self._digest.store_ends()

    def set_size(self, size: int) -> None:
        with self._lock:
            if size < self._size:
                raise ValueError(f"{self._size} bytes of the member were written already, {size} are asked for")
            self._size = size

    def finish(self) -> None:
        """End the member. Raises ``UnsupportedFeatureError`` where its digest asks for reading it again, and the target
        does not allow that."""
        if self._ended:
            return
        self._ended = True
        self._on_finish(self._size, self._take_digest())

    def abort(self) -> None:
        """Nothing can be written any more. The package, which cannot go without the member, is aborted by its owner."""
        self._ended = True

    def _take_digest(self) -> bytes:
        if self._algorithm is None:
            return b""
        taken = self._digest.finish(self._size) if self._digest is not None else None
        if taken is not None:
            return taken
        if not isinstance(self._target, SupportsReadBack):
            raise UnsupportedFeatureError(
                "The file of a disk was not written from front to back, and cannot be read again for the manifest: "
                "write the OVA to a local file, or without a manifest."
            )
        state = hashlib.new(self._algorithm, usedforsecurity=False)
        for offset in range(0, self._size, _STEP):
            state.update(self._target.read_back(self._start + offset, min(_STEP, self._size - offset)))
        return state.digest()

"""A blob on its way into S3: a multipart upload that is completed at ``finish``."""

from __future__ import annotations

import threading
from contextlib import suppress

import obstore
from obstore.exceptions import BaseError

from vmferry.blob import Buffer
from vmferry.errors import StoreError, quote
from vmferry.stores._s3_errors import Request, translated
from vmferry.units import MIB, format_size

MIN_PART_SIZE = 16 * MIB
MAX_PARTS = 10_000
"""S3 API Reference, *Multipart upload limits*."""
IN_FLIGHT = 4
MAX_HELD = 32 * MIB
"""How many bytes may wait in memory for those before them."""
_ZEROS = bytes(MIB)


class S3Upload:
    """Takes its bytes nearly in order: S3 appends, so what comes early waits in memory, up to ``MAX_HELD`` bytes.

    Gaps and what ``set_size`` adds are written as zeros at ``finish``; a gap that stays open while more than
    ``MAX_HELD`` bytes came behind it is a ``StoreError``, and writing twice to one place is a ``ValueError``.
    Thread-safe. It holds ``MAX_HELD`` + (``IN_FLIGHT`` + 1) × ``part_size`` bytes at most.

    ``abort`` removes the parts from S3. A process that dies before leaves a dangling multipart upload, which nobody
    sees but which takes room: whoever runs the S3 service sweeps such uploads by age.
    """

    def __init__(self, objects: obstore.store.S3Store, request: Request, part_size: int = MIN_PART_SIZE) -> None:
        self._request = request
        self._part_size = part_size
        with translated(request):
            self._writer: obstore.WritableFile | None = obstore.open_writer(
                objects, request.key, buffer_size=part_size, max_concurrency=IN_FLIGHT
            )
        self._lock = threading.Lock()
        self._position = 0
        self._size = 0
        self._held: dict[int, bytes] = {}
        self._held_bytes = 0
        self._finished = False

    def write_at(self, offset: int, data: Buffer) -> None:
        kept = data if isinstance(data, bytes) else bytes(data)  # obstore sends it later, and copies nothing
        with self._lock:
            if offset < self._position:
                raise ValueError(f"{offset:,} lies before {self._position:,}, which is in S3 already")
            if not len(kept):
                return
            self._size = max(self._size, offset + len(kept))
            if offset > self._position:
                self._hold(offset, kept)
                return
            self._append(kept)
            while (waiting := self._held.pop(self._position, None)) is not None:
                self._held_bytes -= len(waiting)
                self._append(waiting)

    def set_size(self, size: int) -> None:
        with self._lock:
            self._size = max(self._size, size)

    def finish(self) -> None:
        with self._lock:
            for offset in sorted(self._held):
                self._fill(offset)
                self._append(self._held.pop(offset))
            self._fill(self._size)
            if self._writer is None:
                raise StoreError(f"{quote(self._request.name)}: the upload was aborted. Start it again.")
            with translated(self._request):
                self._writer.close()
            self._finished = True
            self._writer = None

    def abort(self) -> None:
        with self._lock:
            writer, self._writer = self._writer, None
            self._held.clear()
            if writer is None:
                return
            reason = StoreError(f"{quote(self._request.name)}: the upload was aborted.")
            # What cannot be removed now (S3 may be away, which may be why) is swept later like any dangling upload.
            with suppress(BaseError, OSError, ValueError, StoreError):
                writer.__exit__(StoreError, reason, None)

    def _hold(self, offset: int, data: bytes) -> None:
        if offset in self._held:
            raise ValueError(f"{offset:,} was written already")
        if self._held_bytes + len(data) > MAX_HELD:
            raise StoreError(
                f"{quote(self._request.name)}: offset {self._position:,} was not written, but {format_size(MAX_HELD)} "
                "behind it were. S3 takes an object from front to back: write it to a local file first, then upload it."
            )
        self._held[offset] = data
        self._held_bytes += len(data)

    def _fill(self, end: int) -> None:
        """Zeros up to ``end``."""
        if end < self._position:
            raise ValueError(f"{end:,} was written already")
        while self._position < end:
            self._append(memoryview(_ZEROS)[: end - self._position])

    def _append(self, data: Buffer) -> None:
        if self._writer is None:
            raise StoreError(f"{quote(self._request.name)}: the upload is over. Start it again.")
        most = MAX_PARTS * self._part_size
        if self._position + len(data) > most:
            raise StoreError(
                f"{quote(self._request.name)} would be larger than {format_size(most)}, which is all that one "
                "upload of unknown size may hold: write it to a local file first, then upload it."
            )
        with translated(self._request):
            self._writer.write(data)
        self._position += len(data)

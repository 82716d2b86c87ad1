"""A raw disk being made: the guest's bytes as they are, holes where there are none."""

from __future__ import annotations

from collections.abc import Sequence

from vmferry.blob import BlobWriter, Buffer, Part, SupportsReserve, write_parts
from vmferry.extent import nonzero_parts, nonzero_runs
from vmferry.ranges import StoredRanges, put_run
from vmferry.units import format_size

_BLOCK = 4096
"""What file systems allocate at once: smaller holes would save nothing."""


class RawWriter:
    """The DiskWriter of raw disks. Zeros are not written, so the file stays sparse where the store can keep it so."""

    granularity = _BLOCK

    def __init__(self, target: BlobWriter, size: int) -> None:
        """``size`` guest bytes, which is the length of the file, too."""
        self._target = target
        self._size = size
        if isinstance(target, SupportsReserve):  # what is too large for S3 is said before hours of work
            target.set_size(size)

    def write_at(self, offset: int, data: Buffer) -> None:
        self.write_stored(offset, data, None)

    def write_stored(self, offset: int, data: Buffer, stored: StoredRanges | None) -> None:
        """As ``SupportsSharing``."""
        self._check(offset, len(data))
        view = memoryview(data)
        for start, end in nonzero_runs(data, _BLOCK):
            put_run(self._target, offset + start, view[start:end], start, stored)

    def write_parts(self, offset: int, parts: Sequence[Part]) -> None:
        """As ``SupportsWriteParts``."""
        self._check(offset, sum(map(len, parts)))
        for start, run in nonzero_parts(parts, _BLOCK):
            write_parts(self._target, offset + start, run)

    def finish(self) -> None:
        self._target.set_size(self._size)
        self._target.finish()

    def abort(self) -> None:
        self._target.abort()

    def _check(self, offset: int, length: int) -> None:
        if offset < 0 or offset + length > self._size:
            raise ValueError(f"{length} bytes at {offset} do not lie in a disk of {format_size(self._size)}")

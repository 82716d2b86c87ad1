"""Stored grains into guest bytes: few reads of the file, each grain decoded straight to where it belongs."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from deflate import DeflateError, zlib_decompress

from vmferry.blob import Blob, Buffer, Part, read_view
from vmferry.errors import CorruptDiskError, quote
from vmferry.formats.vmdk.header import SparseHeader
from vmferry.units import KIB, MIB, SECTOR

Numbers = npt.NDArray[np.int64]

_READ_LIMIT = 8 * MIB
_READ_GAP = 128 * KIB
_MARKER = 12
_MARKER_SLACK = 2 * SECTOR
"""A grain that deflate could not shrink takes up to this many bytes more than the grain, marker included."""


def copy_grains(blob: Blob, size: int, grains: Numbers, hosts: Numbers, out: memoryview, offset: int) -> None:
    """Put uncompressed ``grains`` of ``size`` bytes into ``out``, one piece for each run of them that lies together.

    The arguments are as ``GrainReader`` has them.
    """
    end = offset + len(out)
    together = (np.diff(grains) == 1) & (np.diff(hosts) == size)
    together &= np.arange(1, grains.size) % (_READ_LIMIT // size) != 0
    firsts = np.flatnonzero(np.concatenate(([True], ~together)))
    guests = grains[firsts] * size
    cut = np.maximum(offset - guests, 0)
    lengths = np.minimum(guests + np.diff(firsts, append=grains.size) * size, end) - guests - cut
    starts, places = hosts[firsts] + cut, guests + cut - offset
    order = np.argsort(starts, kind="stable")
    starts, lengths, places = starts[order], lengths[order], places[order]
    for low, high in _batches(starts, starts + lengths):
        base = int(starts[low])
        data = read_view(blob, base, int((starts[low:high] + lengths[low:high]).max()) - base)
        froms, counts = (starts[low:high] - base).tolist(), lengths[low:high].tolist()
        for start, length, place in zip(froms, counts, places[low:high].tolist(), strict=True):
            out[place : place + length] = data[start : start + length]


class GrainReader:
    """Reads compressed grains. Holds nothing but the blob and the header, so any number of threads may use it.

    ``grains`` are grain numbers in ascending order, ``hosts`` the host offsets that the tables give for them; ``out``
    stands for the guest bytes from ``offset``, and the first and the last grain may stick out of it.
    """

    def __init__(self, blob: Blob, header: SparseHeader) -> None:
        self._blob = blob
        self._header = header

    def inflate(self, grains: Numbers, hosts: Numbers, out: memoryview, offset: int, hint: int) -> None:
        """Inflate compressed ``grains``, at whose host offsets their markers stand, into ``out``.

        Where a grain ends is said by its marker only, so the next one's host offset is taken for the end of the read;
        ``hint`` is that for the last of them, or 0. Raises ``CorruptDiskError``.
        """
        for data, rows, base in self._read_streams(grains, hosts, offset, hint):
            self._inflate_batch(data, rows, out, offset, base)

    def inflate_parts(self, grains: Numbers, hosts: Numbers, offset: int, length: int, hint: int) -> list[Part]:
        """As ``inflate``, each of ``grains``, which follow one another, into memory of its own: ``length`` bytes of the
        guest from ``offset`` on, where the first begins."""
        size = self._header.grain_size
        parts: list[Part] = [b""] * grains.size
        for data, rows, base in self._read_streams(grains, hosts, offset, hint):
            for begin, stop, place in rows:
                try:
                    part = zlib_decompress(data[begin:stop], size)
                except DeflateError as error:
                    raise self._undecodable(data[begin:stop], offset + place, base + begin - _MARKER) from error
                if len(part) != size and len(part) != length - place:
                    raise self._undecodable(data[begin:stop], offset + place, base + begin - _MARKER)
                parts[place // size] = part
        rest = length - (len(parts) - 1) * size
        if len(parts[-1]) > rest:
            parts[-1] = parts[-1][:rest]
        return parts

    def _read_streams(
        self, grains: Numbers, hosts: Numbers, offset: int, hint: int
    ) -> Iterator[tuple[memoryview, list[tuple[int, int, int]], int]]:
        """Compressed grains in the order of the file, as many as are read at once: the bytes, where in those each
        stream begins and ends and where it belongs behind guest ``offset``, and the bytes' host offset."""
        header = self._header
        order = np.argsort(hosts, kind="stable")
        grains, starts = grains[order], hosts[order]
        ends = np.minimum(starts + header.grain_size + _MARKER_SLACK, header.data_end)
        ends[:-1] = np.minimum(ends[:-1], starts[1:])
        if hint > starts[-1]:
            ends[-1] = min(int(ends[-1]), hint)
        for low, high in _batches(starts, ends):
            base, end = int(starts[low]), int(ends[high - 1])
            data = read_view(self._blob, base, end - base)
            stops = self._read_markers(grains[low:high], starts[low:high], data)
            if stops[-1] > end:  # it did not shrink, or the hint was no neighbour of its
                data = memoryview(b"".join((data, self._blob.read_at(end, int(stops[-1]) - end))))
            begins, lasts = (starts[low:high] - base + _MARKER).tolist(), (stops - base).tolist()
            places = (grains[low:high] * header.grain_size - offset).tolist()
            yield data, list(zip(begins, lasts, places, strict=True)), base

    def _read_markers(self, grains: Numbers, starts: Numbers, data: Buffer) -> Numbers:
        """The host offsets where compressed grains end; ``data`` is what lies from ``starts[0]`` on.

        A marker begins on a sector: u64 first guest sector, u32 compressed length, then the stream.
        """
        places = (starts - starts[0]) // 4
        words = np.frombuffer(data, "<u4", len(data) // 4)
        sectors: npt.NDArray[np.uint64] = words[places] | words[places + 1].astype(np.uint64) << np.uint64(32)
        lengths: Numbers = words[places + 2].astype(np.int64)
        expected = (grains * self._header.grain_sectors).astype(np.uint64)
        strange = (sectors != expected) | (lengths < 1) | (lengths > 2 * self._header.grain_size)
        if strange.any():
            first = int(np.argmax(strange))
            raise self._damaged(
                int(grains[first]),
                int(starts[first]),
                f"has a marker for guest sector {int(sectors[first]):,} and {int(lengths[first]):,} compressed bytes; "
                f"sector {int(expected[first]):,} is meant to stand there",
            )
        stops = starts + _MARKER + lengths
        crossing = stops > np.append(starts[1:], self._header.data_end)
        if crossing.any():
            first = int(np.argmax(crossing))
            what = f"takes {int(lengths[first]):,} compressed bytes, which run into what lies behind it"
            raise self._damaged(int(grains[first]), int(starts[first]), what)
        return stops

    def _inflate_batch(
        self, data: memoryview, rows: list[tuple[int, int, int]], out: memoryview, offset: int, base: int
    ) -> None:
        """Inflate the streams in ``data``, which lies at host offset ``base``; ``rows`` are from, to, place in ``out``.

        The hottest loop of the reader: what can be done outside of it is.
        """
        size = self._header.grain_size
        last_place = len(out) - size
        for begin, stop, place in rows:
            try:
                if 0 <= place <= last_place:
                    out[place : place + size] = zlib_decompress(data[begin:stop], size)
                else:
                    self._inflate_edge(data[begin:stop], out, offset, place)
            except (DeflateError, ValueError) as error:  # ValueError: the piece has another length than its place
                raise self._undecodable(data[begin:stop], offset + place, base + begin - _MARKER) from error

    def _inflate_edge(self, stream: memoryview, out: memoryview, offset: int, place: int) -> None:
        """Inflate a grain that sticks out of ``out``, or is the disk's short last one, and copy what belongs there."""
        size = self._header.grain_size
        piece = zlib_decompress(stream, size)
        if len(piece) not in (size, self._header.size - offset - place):
            raise ValueError(len(piece))
        low, high = max(0, -place), min(len(piece), len(out) - place)
        out[place + low : place + high] = memoryview(piece)[low:high]

    def _undecodable(self, stream: memoryview, guest: int, host: int) -> CorruptDiskError:
        """Why ``stream`` is no grain: the length that it has instead, or that it does not inflate at all."""
        size = self._header.grain_size
        try:
            what = f"inflates to {len(zlib_decompress(stream, size)):,} bytes, expected {size:,}"
        except DeflateError:
            what = f"does not inflate to {size:,} bytes: its code or its checksum is wrong"
        return self._damaged(guest // size, host, what)

    def _damaged(self, grain: int, host: int, what: str) -> CorruptDiskError:
        return CorruptDiskError(
            f"vmdk: {quote(self._blob.name)}: the grain at guest offset 0x{grain * self._header.grain_size:x} "
            f"(host offset 0x{host:x}) {what}. The file is damaged: export it again."
        )


def _batches(starts: Numbers, ends: Numbers) -> Iterator[tuple[int, int]]:
    """``[low, high)`` of ascending ranges to read in one go: near each other, and 8 MiB at the most together."""
    edges = (np.flatnonzero(starts[1:] - ends[:-1] > _READ_GAP) + 1).tolist()
    for first, last in pairwise([0, *edges, starts.size]):
        low = first
        while low < last:
            high = low + max(1, int(np.searchsorted(ends[low:last], starts[low] + _READ_LIMIT, side="right")))
            yield low, high
            low = high

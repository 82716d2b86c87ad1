"""Blobs in this process's memory: the smallest store, to read first and to test with. Nothing survives the process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import count
from threading import RLock

from vmferry.blob import Buffer, ByteRange, MemoryBlob
from vmferry.errors import BlobChangedError, BlobNotFoundError, StoreError, quote
from vmferry.stores import Pin, Store, StoreKind


class PinnedMemoryBlob(MemoryBlob):
    """A blob of a memory store; it keeps its bytes when the key gets others."""

    def __init__(self, data: bytes, name: str, pin: Pin) -> None:
        super().__init__(data, name)
        self._pin = pin

    @property
    def pin(self) -> Pin:
        return self._pin


class _Content:
    """The bytes of one blob, finished or not, and where somebody wrote. ``state`` says how far it is."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.ranges: list[ByteRange] = []
        self.state = "unfinished"
        self.pin = Pin(0)

    def write(self, offset: int, data: Buffer) -> None:
        end = offset + len(data)
        self.grow(end)
        self.data[offset:end] = data
        merged: list[ByteRange] = []
        for low, high in sorted([*self.ranges, (offset, end)]):
            if merged and low <= merged[-1][1]:
                merged[-1] = merged[-1][0], max(merged[-1][1], high)
            else:
                merged.append((low, high))
        self.ranges = merged

    def grow(self, size: int) -> None:
        self.data.extend(bytes(max(size - len(self.data), 0)))


class MemoryWriter:
    """A blob being made in memory, by one writer or by several that share its content."""

    def __init__(self, store: MemoryStore, bucket: str, key: str, content: _Content) -> None:
        self._store = store
        self._place = bucket, key
        self._content = content

    def write_at(self, offset: int, data: Buffer) -> None:
        with self._store.lock:
            if self._content.state != "finished":
                self._content.write(offset, data)

    def set_size(self, size: int) -> None:
        with self._store.lock:
            if self._content.state != "finished":
                self._content.grow(size)

    def data_ranges(self, start: int, end: int) -> Iterator[ByteRange]:
        with self._store.lock:
            ranges = list(self._content.ranges)
        return ((max(low, start), min(high, end)) for low, high in ranges if low < end and start < high)

    def detach(self) -> None:
        """Nothing to do: memory is as durable as it will be."""

    def finish(self) -> None:
        self._store.publish(self._place, self._content)

    def abort(self) -> None:
        self._store.discard(self._place, self._content)


class MemoryStore:
    """Buckets that are there from the first write on. Thread-safe; resumable within the process."""

    def __init__(self) -> None:
        self.lock = RLock()
        self._buckets: set[str] = set()
        self._finished: dict[tuple[str, str], _Content] = {}
        self._unfinished: dict[tuple[str, str], _Content] = {}
        self._generation = count(1)

    def open(self, bucket: str, key: str, pin: Pin | None = None) -> PinnedMemoryBlob:
        with self.lock:
            content = self._existing(bucket, key)
        if pin is not None and (content.pin.size != pin.size or pin.etag not in (None, content.pin.etag)):
            raise BlobChangedError(f"memory:{quote(bucket)}/{quote(key)} holds other bytes now. Start again.")
        return PinnedMemoryBlob(bytes(content.data), f"memory:{bucket}/{key}", content.pin)

    def create(self, bucket: str, key: str) -> MemoryWriter:
        with self.lock:
            self._buckets.add(bucket)
        return MemoryWriter(self, bucket, key, _Content())

    def resume(self, bucket: str, key: str) -> MemoryWriter:
        with self.lock:
            self._buckets.add(bucket)
            content = self._finished.get((bucket, key)) or self._unfinished.setdefault((bucket, key), _Content())
        return MemoryWriter(self, bucket, key, content)

    def locate(self, bucket: str, key: str) -> str:
        """No other tool can read it, but it has a name."""
        with self.lock:
            self._existing(bucket, key)
        return f"memory:{bucket}/{key}"

    def delete(self, bucket: str, key: str) -> None:
        with self.lock:
            self._finished.pop((bucket, key), None)

    def keys(self, bucket: str, prefix: str = "") -> Iterator[str]:
        with self.lock:
            if bucket not in self._buckets:
                raise _no_bucket(bucket)
            return iter(sorted(key for owner, key in self._finished if owner == bucket and key.startswith(prefix)))

    def publish(self, place: tuple[str, str], content: _Content) -> None:
        """Let ``content`` appear at ``place``; once more changes nothing."""
        with self.lock:
            if content.state == "aborted":
                raise StoreError(f"memory:{quote('/'.join(place))} was removed while it was written. Start again.")
            if content.state == "finished":
                return
            content.state = "finished"
            content.pin = Pin(len(content.data), f"generation-{next(self._generation)}")
            self._finished[place] = content
            self._forget(place, content)

    def discard(self, place: tuple[str, str], content: _Content) -> None:
        """Remove unfinished ``content``; what is finished stays."""
        with self.lock:
            if content.state == "unfinished":
                content.state = "aborted"
                self._forget(place, content)

    def _forget(self, place: tuple[str, str], content: _Content) -> None:
        if self._unfinished.get(place) is content:
            del self._unfinished[place]

    def _existing(self, bucket: str, key: str) -> _Content:
        if bucket not in self._buckets:
            raise _no_bucket(bucket)
        if (bucket, key) not in self._finished:
            raise BlobNotFoundError(f"There is no key {quote(key)} in bucket memory:{quote(bucket)}. Check its name.")
        return self._finished[bucket, key]


def _no_bucket(bucket: str) -> BlobNotFoundError:
    return BlobNotFoundError(f"There is no bucket {quote(bucket)} in memory. Check its name.")


class _Memory:
    name = "memory"

    def connect(self, options: Mapping[str, str]) -> Store:
        """A new, empty store each time. Takes no options."""
        del options
        return MemoryStore()


STORE: StoreKind = _Memory()

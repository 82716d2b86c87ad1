"""What an import would find out first of all, without one: the disks looked into for a request that is only tried."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from vmferry.blob import WrappedBlob
from vmferry.catalog.import_tasks import ImportTask
from vmferry.catalog.places import Place
from vmferry.errors import BlobNotFoundError, StoreUnavailableError, VmferryError, quote
from vmferry.stores import Pin, PinnedBlob, Store
from vmferry.tasks import Services
from vmferry.tasks._border import status_message
from vmferry.tasks.import_image.facts import find_facts
from vmferry.tasks.import_image.preflight import ready_to_look
from vmferry.tasks.import_image.source import Source, open_source

PREVIEW_SECONDS = 2.0
"""How long one may read: what has not shown itself by then is left to the task."""
_AT_ONCE = 2
"""Previews under way in this process, whose first work is to answer requests."""


class Previewer:
    """Looks at what tasks would import. Thread-safe."""

    def __init__(self, services: Services, seconds: float = PREVIEW_SECONDS) -> None:
        self._services = services
        self._seconds = seconds
        self._free = threading.BoundedSemaphore(_AT_ONCE)

    def preview(self, task: ImportTask) -> list[str]:
        """Sentences about what ``task``, which is recorded nowhere, would find; or why that was not looked for: clients
        try a request before they upload, the store may be away, the time may be up.

        Raises ``RefusedError`` for what would end the task.
        """
        until = time.monotonic() + self._seconds
        try:
            with self._turn(), ready_to_look(task) as looker, self._opened(task, until) as source:
                config = self._services.config
                facts = find_facts(task, source, config.limits, config.preflight, looker)
        except VmferryError as error:
            if isinstance(error, BlobNotFoundError):  # clients try a request before they upload
                return [f"The disks were not looked into: not all of them are there yet. {error}"]
            if error.retryable:
                return [f"The disks were not looked into: {error}"]
            words = status_message(error, task.request.containers[0].format or "disk image")
            raise RefusedError(words.removeprefix("ClientError: "), error) from error
        found = [] if facts.system is None else [f"The system is {quote(facts.system)}."]
        return [*found, *facts.notes, *(f"{one.severity}: {one.sentence}" for one in facts.findings)]

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._free.acquire(timeout=self._seconds):
            raise StoreUnavailableError("others are looked into just now. Try again.")
        try:
            yield
        finally:
            self._free.release()

    @contextmanager
    def _opened(self, task: ImportTask, until: float) -> Iterator[Source]:
        def objects(place: Place) -> Store:
            return _HurriedStore(self._services.objects(place), until)

        source = open_source(replace(self._services, objects=objects), task)
        try:
            yield source
        finally:
            source.close()


class RefusedError(VmferryError):
    """An import would end so: in the words of the task's StatusMessage. ``reason`` is what was raised."""

    client_fault = True

    def __init__(self, message: str, reason: VmferryError) -> None:
        super().__init__(message)
        self.reason = reason


class _HurriedStore:
    """Another store's blobs, which are read until a moment. What a preview asks of a ``Store``, which is to open."""

    def __init__(self, store: Store, until: float) -> None:
        self._store = store
        self._until = until
        self.create, self.delete, self.keys = store.create, store.delete, store.keys

    def open(self, bucket: str, key: str, pin: Pin | None = None) -> PinnedBlob:
        return _HurriedBlob(self._store.open(bucket, key, pin), self._until)


class _HurriedBlob(WrappedBlob):
    def __init__(self, blob: PinnedBlob, until: float) -> None:
        super().__init__(blob)
        self._until = until
        self.pin = blob.pin

    def read_at(self, offset: int, length: int) -> bytes:
        if time.monotonic() > self._until:
            raise StoreUnavailableError("that would take longer than a request may. The task looks at all of them.")
        return self._blob.read_at(offset, length)

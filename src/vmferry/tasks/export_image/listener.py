"""How far an export is, and who is told."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from vmferry.convert import Cancelled

_RECORD_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Listener:
    """Who is told how far a step is, and who may end it."""

    progress: Callable[[int], None]
    """Told of that many bytes more; of 0 where something moved that does not count. Called by any thread."""
    cancelled: Cancelled


class Recorder:
    """Takes the progress of a step and tells of that of the whole now and then. Thread-safe."""

    def __init__(self, planned: int, tell: Callable[[float], None], moved: Callable[[], None]) -> None:
        """Of ``planned`` bytes in all; ``tell`` is told of the share that is done, ``moved`` of every sign of life."""
        self._planned = max(planned, 1)
        self._tell = tell
        self._moved = moved
        self._done = 0
        self._told_at = time.monotonic()
        self._lock = threading.Lock()
        self.others: Callable[[], int] = lambda: 0
        """What is done of the whole by other steps."""

    def __call__(self, more: int) -> None:
        """``more`` bytes are done."""
        self._moved()
        with self._lock:
            self._done += more
            if time.monotonic() - self._told_at < _RECORD_SECONDS:
                return
            self._told_at = time.monotonic()
            share = min(self.others() + self._done, self._planned) / self._planned
            self._tell(share)

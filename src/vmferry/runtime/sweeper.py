"""Housekeeping: something small that is done again and again beside the requests."""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog


class Sweeper:
    """Calls ``job`` every so many seconds, in a thread of its own, from ``start`` to ``stop``: ``at_once`` or after the
    first of them."""

    def __init__(self, job: Callable[[], None], every_seconds: float, *, at_once: bool = False) -> None:
        self._job = job
        self._every_seconds = every_seconds
        self._at_once = at_once
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sweeper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread, after what it does just now."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def _run(self) -> None:
        pause = 0.0 if self._at_once else self._every_seconds
        while not self._ended.wait(pause):
            pause = self._every_seconds
            try:
                self._job()
            except Exception:  # noqa: BLE001 - whatever it was: the next time may go well, and nobody else does it
                structlog.get_logger("vmferry.runtime").exception("housekeeping failed")

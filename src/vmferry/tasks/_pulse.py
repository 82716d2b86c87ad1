"""Signs of life of a step: heartbeats while it moves, and the word to stop."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import structlog
from temporalio import activity
from temporalio.exceptions import ApplicationError, CancelledError

QUIET_SECONDS = 10.0
"""After how long without movement the task says what it waits for."""

HEARTBEAT_SECONDS = 1.0
"""How often a step says that it lives. A tenth of the time-out after which its worker is taken for dead."""


class Pulse:
    """Heartbeats for a synchronous activity, from a thread of its own.

    The workflow server takes a worker for dead that is silent; a step that is alive but moves nothing for
    ``stall_seconds`` stops its own heart, so that another worker begins the step again. ``stop`` is set when the
    step shall end early: cancelled, its worker shutting down, or stalled. ``on_quiet`` is called when nothing has
    moved for a while, once for each such while.
    """

    def __init__(self, stall_seconds: float, on_quiet: Callable[[], None]) -> None:
        self.stop = threading.Event()
        self._stall_seconds = stall_seconds
        self._on_quiet = on_quiet
        self._said_quiet = False
        self._moved_at = time.monotonic()
        self._done = threading.Event()
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._beat,), name="pulse", daemon=True)

    def moved(self) -> None:
        """The step got further."""
        self._moved_at = time.monotonic()
        self._said_quiet = False

    def raise_if_stopped(self) -> None:
        """End the step where it was told to, in the words of the workflow server: cancelled, or to be done again."""
        if not self.stop.is_set():
            return
        if activity.is_cancelled() and not activity.is_worker_shutdown():
            raise CancelledError("cancelled")
        what = "the worker is shutting down, or the step moved nothing for too long"
        raise ApplicationError(what, type="Interrupted")

    @property
    def stalled(self) -> bool:
        """Whether nothing has moved for too long."""
        return self._quiet_for() > self._stall_seconds

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._done.wait(HEARTBEAT_SECONDS):
            if activity.is_cancelled() or activity.is_worker_shutdown() or self.stalled:
                self.stop.set()
            if not self.stalled:
                activity.heartbeat()
            if not self._said_quiet and self._quiet_for() > QUIET_SECONDS:
                self._said_quiet = True
                self._say_quiet()

    def _say_quiet(self) -> None:
        """Call ``on_quiet``, whatever it raises: a step without a heart goes on, and is begun again beside itself."""
        try:
            self._on_quiet()
        except Exception:  # noqa: BLE001 - whatever it was: the heartbeats must go on
            structlog.get_logger("vmferry.tasks").exception("a step could not say that it waits")

    def _quiet_for(self) -> float:
        return time.monotonic() - self._moved_at

"""What another process does in between, at the moment that is asked for."""

from __future__ import annotations

import fcntl
from collections.abc import Callable

import pytest


def before_the_next_lock(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], None]) -> None:
    """Let ``happens`` happen when a file is open that is to be held next, and is not yet."""
    real = fcntl.flock

    def flock(fd: int, operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", real)
        happens()
        real(fd, operation)

    monkeypatch.setattr(fcntl, "flock", flock)

"""Processes that are to end by themselves."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tests.server.harness import is_alive

_SECONDS = 60


def await_end(pid: int) -> None:
    """Return when process ``pid`` has ended, which it does by itself; else it is ended, and the test fails."""
    until = time.monotonic() + _SECONDS
    while is_alive(pid) and time.monotonic() < until:
        time.sleep(0.02)
    if is_alive(pid):
        os.kill(pid, signal.SIGKILL)
        pytest.fail(f"process {pid} went on")

"""The heart of a step goes on beating, whatever becomes of what it says."""

from __future__ import annotations

import threading

import pytest
from temporalio.testing import ActivityEnvironment

from vmferry.tasks import _pulse


def test_a_word_that_cannot_be_said_stops_no_heart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_pulse, "HEARTBEAT_SECONDS", 0.01)
    monkeypatch.setattr(_pulse, "QUIET_SECONDS", -1.0)
    beats = threading.Semaphore(0)
    environment = ActivityEnvironment()
    environment.on_heartbeat = lambda *_: beats.release()

    def catalog_is_away() -> None:
        raise OSError("the catalog is away")

    def step() -> bool:
        with _pulse.Pulse(60, catalog_is_away):
            return all(beats.acquire(timeout=10) for _ in range(5))

    assert environment.run(step)

"""A task of the server, followed to its end."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from vmferry.cli._client import ApiError, Clients, api_errors
from vmferry.cli._stages import show_stages
from vmferry.units import format_duration

_LOOK_SECONDS = 0.5
_AWS_LOOK_SECONDS = 5.0

Look = Callable[[], dict[str, Any]]
"""The task as it stands now."""


def follow_task(clients: Clients, task_id: str, look: Look, cancel: str, *, as_json: bool) -> dict[str, Any]:
    """The task when it has completed. Ctrl-C ends the looking only, and says that ``cancel`` is the command to end it.

    Raises ``ApiError`` for one that ends otherwise, with its reason.
    """
    begun = time.monotonic()
    last: dict[str, Any] = {}
    percent = 0
    try:
        with show_stages(task_id, as_json=as_json) as show:
            for last in _looks(clients, look):
                percent = int(last.get("Progress") or (100 if last["Status"] == "completed" else percent))
                show(last.get("StatusMessage") or last["Status"], percent)
    except KeyboardInterrupt:
        print(f"The task goes on without you. To cancel it: {cancel}", file=sys.stderr)
        raise
    if last["Status"] != "completed":
        took = format_duration(time.monotonic() - begun)
        raise ApiError(f"{task_id} failed after {took}: {last.get('StatusMessage')}")
    return last


def _looks(clients: Clients, look: Look) -> Iterator[dict[str, Any]]:
    """The task as it changes, until it has ended."""
    while True:
        with api_errors():
            task = look()
        yield task
        if task["Status"] in ("completed", "deleted"):
            return
        time.sleep(_AWS_LOOK_SECONDS if clients.is_aws else _LOOK_SECONDS)

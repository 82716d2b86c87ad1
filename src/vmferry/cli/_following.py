"""A task of an endpoint, followed to its end."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any

from vmferry.cli._client import ApiError, Clients
from vmferry.cli._output import print_note
from vmferry.cli._stages import show_stages
from vmferry.cli._task_kinds import TaskKind, find_kind, view_task
from vmferry.units import format_duration

_LOOK_SECONDS = 0.5
_AWS_LOOK_SECONDS = 5.0
_PATIENCE_SECONDS = 300.0
"""How long an endpoint may be away: the task goes on, or will when its server is there again."""


def follow_task(clients: Clients, task_id: str, *, as_json: bool) -> dict[str, Any]:
    """The task when it has completed. Ctrl-C ends the looking only, and says which command ends the task.

    Raises ``ApiError`` for one that ends otherwise, with its reason; and for an endpoint that stays away.
    """
    begun = time.monotonic()
    last: dict[str, Any] = {}
    percent = 0
    try:
        with show_stages(task_id, as_json=as_json) as show:
            for last in _looks(clients, find_kind(task_id), task_id):
                view = view_task(last)
                percent = 100 if view.is_done else max(percent, view.percent or 0)
                if view.is_done or not view.has_ended:  # the reason of one that failed is told below
                    show(view.stage, percent, view.disks)
    except KeyboardInterrupt:
        print(
            f"The task goes on without you. To see it: {clients.command('tasks', 'show', task_id, '--wait')}\n"
            f"To cancel it: {clients.command('tasks', 'cancel', task_id)}",
            file=sys.stderr,
        )
        raise
    if not (view := view_task(last)).is_done:
        took = format_duration(time.monotonic() - begun)
        raise ApiError(f"{task_id} ended as {view.state} after {took}: {view.message or 'it says no reason.'}")
    return last


def _looks(clients: Clients, kind: TaskKind, task_id: str) -> Iterator[dict[str, Any]]:
    """The task as it changes, until it has ended."""
    away_since: float | None = None
    while True:
        try:
            task = kind.look(clients, task_id)
        except ApiError as error:
            now = time.monotonic()
            if away_since is None:
                away_since = now
                if error.retryable:
                    print_note(f"{error} Trying again for {format_duration(_PATIENCE_SECONDS)}.")
            if not error.retryable or now - away_since > _PATIENCE_SECONDS:
                raise
        else:
            away_since = None
            yield task
            if view_task(task).has_ended:
                return
        time.sleep(_AWS_LOOK_SECONDS if clients.is_aws else _LOOK_SECONDS)

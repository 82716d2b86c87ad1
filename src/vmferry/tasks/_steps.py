"""How workflows run their steps: again and again where that may help, and what is told of one that failed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.common import Priority, RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception

_ENDLESS = timedelta(days=3650)
"""No step has a limit in time: only a step that shows no life is begun again."""

_SILENCE = timedelta(seconds=10)
"""How long a worker may be silent before its step is given to another."""

_RETRY = RetryPolicy(
    initial_interval=timedelta(seconds=1), backoff_coefficient=2, maximum_interval=timedelta(seconds=30)
)

FIRST = Priority(1)
"""Of the short steps, which begin and end tasks: they go before those that convert."""


def in_turn(account: str) -> Priority:
    """Of steps that convert: accounts have theirs one after the other, however many each has waiting."""
    return Priority(3, account)


@dataclass(frozen=True, slots=True)
class CleanUp:
    """The end of a task that did not complete, and why."""

    task_id: str
    reason: str


async def run_step(name: str, argument: object, result: type | None = None, priority: Priority = FIRST) -> Any:
    """Run the activity ``name``; its answer. Cancelled, it ends when the activity has."""
    return await workflow.execute_activity(
        name,
        argument,
        result_type=result,
        start_to_close_timeout=_ENDLESS,
        heartbeat_timeout=_SILENCE,
        retry_policy=_RETRY,
        priority=priority,
        cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    )


async def run_all(steps: list[Callable[[], Awaitable[Any]]]) -> None:
    """Run ``steps`` together; the first that fails cancels the others, and is raised when they have ended."""
    running = [asyncio.ensure_future(step()) for step in steps]
    if not running:
        return
    try:
        await workflow.wait(running, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        unfinished = [future for future in running if not future.done()]
        for future in unfinished:
            future.cancel()
        if unfinished:
            await asyncio.shield(workflow.wait(unfinished))
    for future in running:
        future.result()


def reason_of(error: BaseException) -> str:
    """The status message inside a failed step; the activities have made it."""
    if isinstance(error, ActivityError) and isinstance(error.cause, ApplicationError):
        return error.cause.message
    if is_cancelled_exception(error):
        return "User initiated task cancelation"
    return f"ServerError: an internal error has occurred during conversion. | {error}"

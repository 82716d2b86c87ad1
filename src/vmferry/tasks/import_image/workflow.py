"""The order of an import's steps. Deterministic: no clock, no I/O, no catalog; everything that acts is an activity."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from temporalio import workflow
from temporalio.exceptions import is_cancelled_exception

from vmferry.tasks._steps import CleanUp, in_turn, reason_of, run_all, run_step


@dataclass(frozen=True, slots=True)
class DiskStep:
    """A step about one disk of a task."""

    task_id: str
    disk: int


@dataclass(frozen=True, slots=True)
class SliceStep:
    """A step about one slice of a disk."""

    task_id: str
    disk: int
    number: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What validation found to do."""

    task_id: str
    account: str
    """Whose turn a step takes: accounts have theirs one after the other."""
    at_once: int
    """Slices of one task that are offered to the workers at once: as many as these do at once. The next one goes behind
    those of other tasks."""
    slices: list[SliceStep]
    verified: list[int]
    """Disks that the manifest has a digest for: they are converted in order, and ``slices`` has none of theirs."""
    boots: bool = False
    """Whether the machine is started before it is registered."""


@workflow.defn
class ImportImage:
    """validating → converting → updating → preparing ami → completed, with booting before preparing ami where that is
    asked for; or, whatever happens, deleting → deleted."""

    @workflow.run
    async def run(self, task_id: str) -> None:
        try:
            plan = await run_step("validate", task_id, Plan)
            await self._convert(plan)
            await run_step("update", task_id)
            if plan.boots:
                await run_step("boot", task_id)
            await run_step("register", task_id)
        except BaseException as error:
            if not isinstance(error, Exception) and not is_cancelled_exception(error):
                raise  # the workflow is being evicted from a worker's memory, not ended
            reason = reason_of(error)
            await asyncio.shield(run_step("clean_up", CleanUp(task_id, reason)))
            raise

    async def _convert(self, plan: Plan) -> None:
        """All slices of all disks, whichever worker is free.

        The manifest's digest is a chain over a disk's whole file. A disk that has one is converted from front to back,
        by one worker at a time, so that its bytes are read once, for the copy and for the digest.
        """
        gate = asyncio.Semaphore(plan.at_once)

        async def convert(piece: SliceStep) -> None:
            async with gate:
                await run_step("convert_slice", piece, priority=in_turn(plan.account))

        async def convert_in_order(disk: DiskStep) -> None:
            while await run_step("convert_disk", disk, bool, in_turn(plan.account)):
                pass

        disks = [_bind(convert_in_order, DiskStep(plan.task_id, disk)) for disk in plan.verified]
        await run_all(disks + [_bind(convert, piece) for piece in plan.slices])


def _bind(function: Callable[..., Awaitable[Any]], *arguments: object) -> Callable[[], Awaitable[Any]]:
    return lambda: function(*arguments)

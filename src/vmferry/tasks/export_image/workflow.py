"""The order of an export's steps. Deterministic: no clock, no I/O, no catalog; everything that acts is an activity."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception

from vmferry.tasks._steps import CleanUp, in_turn, reason_of, run_all, run_step

BEGINS_ANEW = "BeginsAnew"
"""The type of a step's failure that says: what was done is good for nothing, and removed."""
_ATTEMPTS = 5
"""How often an export begins; a disk that is changed again and again is never whole."""


@dataclass(frozen=True, slots=True)
class Work:
    """What there is to do."""

    account: str
    """Whose turn a step takes: accounts have theirs one after the other."""
    at_once: int
    """Slices of one task that are offered to the workers at once: as many as these do at once."""
    token: str
    """Names the plan of the slices; empty for an object that one step writes."""
    slices: int


@dataclass(frozen=True, slots=True)
class ExportStep:
    """A step about one slice of an object, or about all of it."""

    task_id: str
    token: str
    number: int


@workflow.defn
class ExportImage:
    """validating → converting → completed; or, whatever happens, deleting → deleted."""

    @workflow.run
    async def run(self, task_id: str) -> None:
        try:
            for attempt in range(1, _ATTEMPTS + 1):
                try:
                    await self._export(task_id)
                    break
                except ActivityError as error:
                    if attempt == _ATTEMPTS or not _begins_anew(error):
                        raise
        except BaseException as error:
            if not isinstance(error, Exception) and not is_cancelled_exception(error):
                raise  # the workflow is being evicted from a worker's memory, not ended
            await asyncio.shield(run_step("end_export", CleanUp(task_id, reason_of(error))))
            raise

    async def _export(self, task_id: str) -> None:
        work = await run_step("begin_export", task_id, Work)
        if not work.token:
            await run_step("write_export", task_id, priority=in_turn(work.account))
            return
        await self._write_slices(task_id, work)
        await run_step("finish_export", ExportStep(task_id, work.token, work.slices), priority=in_turn(work.account))

    async def _write_slices(self, task_id: str, work: Work) -> None:
        """All slices, whichever worker is free. What is packed can be sent when all before it is packed: the slices
        that wait for that take room, so no more than a few are begun while one before them is not done."""
        gate = asyncio.Semaphore(work.at_once)
        undone = set(range(work.slices))

        async def write(number: int) -> None:
            async with gate:
                await workflow.wait_condition(lambda: number < min(undone) + 2 * work.at_once)
                await run_step("write_slice", ExportStep(task_id, work.token, number), priority=in_turn(work.account))
                undone.remove(number)

        await run_all([partial(write, number) for number in range(work.slices)])


def _begins_anew(error: ActivityError) -> bool:
    return isinstance(error.cause, ApplicationError) and error.cause.type == BEGINS_ANEW

"""The order of an export's steps. Deterministic: no clock, no I/O, no catalog; everything that acts is an activity."""

from __future__ import annotations

import asyncio

from temporalio import workflow
from temporalio.exceptions import is_cancelled_exception

from vmferry.tasks._steps import CleanUp, in_turn, reason_of, run_step


@workflow.defn
class ExportImage:
    """validating → converting → completed; or, whatever happens, deleting → deleted."""

    @workflow.run
    async def run(self, task_id: str) -> None:
        try:
            account = await run_step("check_export", task_id, str)
            await run_step("write_export", task_id, priority=in_turn(account))
        except BaseException as error:
            if not isinstance(error, Exception) and not is_cancelled_exception(error):
                raise  # the workflow is being evicted from a worker's memory, not ended
            await asyncio.shield(run_step("end_export", CleanUp(task_id, reason_of(error))))
            raise

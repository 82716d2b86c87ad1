"""The order of the steps. Deterministic: no clock, no I/O, no catalog; everything that acts is an activity."""

from __future__ import annotations

import asyncio

from temporalio import workflow
from temporalio.exceptions import is_cancelled_exception

from vmferry.tasks._steps import CleanUp, in_turn, reason_of, run_step


@workflow.defn
class CompleteSnapshot:
    """pending → completed; or, whatever happens, error."""

    @workflow.run
    async def run(self, snapshot_id: str) -> None:
        try:
            account = await run_step("find_snapshot_owner", snapshot_id, str)
            await run_step("make_snapshot", snapshot_id, priority=in_turn(account))
        except BaseException as error:
            if not isinstance(error, Exception) and not is_cancelled_exception(error):
                raise  # the workflow is being evicted from a worker's memory, not ended
            await asyncio.shield(run_step("end_snapshot", CleanUp(snapshot_id, reason_of(error))))
            raise

"""The embedded Temporal lets accounts have their turns: what imports rely on when many want to be converted at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.common import Priority
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from vmferry.embedded import temporal
from vmferry.embedded.ports import load_ports
from vmferry.embedded.supervisor import Supervisor
from vmferry.embedded.temporal import TemporalServer

pytestmark = pytest.mark.slow

QUEUE = "turns"
done: list[str] = []


@activity.defn
async def work(account: str) -> None:
    await asyncio.sleep(0.05)
    done.append(account)


@workflow.defn
class Steps:
    """Many steps of one account at once."""

    @workflow.run
    async def run(self, account: str, steps: int, priority: int) -> None:
        turn, limit = Priority(priority, account), timedelta(seconds=60)
        await asyncio.gather(
            *[
                workflow.execute_activity(work, account, start_to_close_timeout=limit, priority=turn)
                for _ in range(steps)
            ]
        )


async def run_steps(address: str, wanted: Sequence[tuple[str, int, int]]) -> None:
    """Each account's steps, begun half a second after those of the one before; one step is done at a time."""
    client = await Client.connect(address, namespace=temporal.NAMESPACE)
    runner = UnsandboxedWorkflowRunner()
    async with Worker(
        client, task_queue=QUEUE, workflows=[Steps], activities=[work], max_concurrent_activities=1,
        workflow_runner=runner,
    ):  # fmt: skip
        begun = []
        for account, steps, priority in wanted:
            arguments = [account, steps, priority]
            begun.append(await client.start_workflow(Steps.run, args=arguments, id=account, task_queue=QUEUE))
            await asyncio.sleep(0.5)
        for handle in begun:
            await handle.result()


def test_accounts_take_turns_and_short_steps_go_first(tmp_path: Path) -> None:
    server = TemporalServer(tmp_path, load_ports(tmp_path, temporal.PORT_NAMES))
    supervisor = Supervisor([server.service()], tmp_path / "run")
    supervisor.start()
    try:
        asyncio.run(run_steps(server.address, [("many", 60, 3), ("few", 5, 3), ("short", 3, 1)]))
    finally:
        supervisor.stop()
    order = "".join(account[0] for account in done)
    assert len(order) == 68
    assert order.rindex("f") < 40, order  # behind all that came before, it would be past 60
    assert order.rindex("s") < 45, order

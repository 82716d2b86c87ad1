"""A worker: a process that takes steps of tasks from the workflow server and does them."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import structlog
from temporalio.client import Client
from temporalio.worker import Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from vmferry import __version__
from vmferry.tasks import STEPS_AT_ONCE, TASK_QUEUE, TASKS, TEMPORAL_NAMESPACE, Services

_STICKY_SECONDS = 2
"""How long a workflow waits for the worker that had it in memory; a killed one never answers."""

_HEARTBEAT_THROTTLE_SECONDS = 0.5
"""How late a cancellation reaches a step at the most, beside the heartbeat's own pace."""

_GRACE_SECONDS = 4
"""How long steps may go on after SIGTERM; they stop at once and are given to another worker."""

_RECONNECT_SECONDS = 0.5


async def connect(address: str) -> Client:
    """A client of the workflow server at ``address``; waits, for as long as it takes, until there is one."""
    log = structlog.get_logger("vmferry.runtime")
    said = False
    while True:
        try:
            return await Client.connect(address, namespace=TEMPORAL_NAMESPACE)
        except RuntimeError as error:  # what the SDK raises when it cannot connect
            if not said:
                log.info("waiting for the workflow server", address=address, error=str(error))
                said = True
            await asyncio.sleep(_RECONNECT_SECONDS)


def run_worker(services: Services, address: str, on_ready: Callable[[], None]) -> None:
    """Do steps until SIGTERM or SIGINT. The steps in flight are then interrupted and go to another worker.

    ``on_ready`` is called when the first step is about to be taken.
    """
    asyncio.run(_run(services, address, on_ready))


async def _run(services: Services, address: str, on_ready: Callable[[], None]) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    client = await connect(address)
    with ThreadPoolExecutor(STEPS_AT_ONCE, thread_name_prefix="step") as threads:
        worker = Worker(
            client,
            task_queue=TASK_QUEUE,
            build_id=f"vmferry-{__version__}",  # else the SDK makes one of the code of every module that is loaded
            workflows=[kind.workflow for kind in TASKS.values()],
            activities=[step for kind in TASKS.values() for step in kind.activities(services)],
            activity_executor=threads,
            max_concurrent_activities=STEPS_AT_ONCE,
            max_heartbeat_throttle_interval=timedelta(seconds=_HEARTBEAT_THROTTLE_SECONDS),
            default_heartbeat_throttle_interval=timedelta(seconds=_HEARTBEAT_THROTTLE_SECONDS),
            sticky_queue_schedule_to_start_timeout=timedelta(seconds=_STICKY_SECONDS),
            graceful_shutdown_timeout=timedelta(seconds=_GRACE_SECONDS),
            workflow_runner=SandboxedWorkflowRunner(
                # Our own modules hold no state that a workflow could see; importing them anew for each would cost time.
                restrictions=SandboxRestrictions.default.with_passthrough_modules("vmferry", "structlog", "sqlalchemy")
            ),
        )
        on_ready()
        async with worker:
            await ended.wait()

"""The dispatcher: what the catalog records and the workflow server does not know yet is told to it.

The catalog is the truth. A request writes its task there and is answered; this loop starts the workflow, at once when
it is woken, and later when the workflow server was away or the process died in between. Likewise for cancellations.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

import structlog
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from vmferry.errors import NotFoundError
from vmferry.runtime.worker import connect
from vmferry.tasks import TASK_QUEUE, TASKS, Services

_LOOK_SECONDS = 2.0
"""How often the catalog is looked at without being woken."""

_RETRY_SECONDS = 1.0


class _Tasks(Protocol):
    """Tasks of a kind, as the catalog has them: see ``catalog._outbox``."""

    def undispatched(self) -> list[str]: ...
    def uncancelled(self) -> list[str]: ...
    def unfinished(self) -> list[str]: ...
    def mark_dispatched(self, task_id: str) -> None: ...
    def mark_cancel_sent(self, task_id: str) -> None: ...


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of tasks and the name of its workflow."""

    tasks: _Tasks
    workflow: str


class Dispatcher:
    """Runs in a thread with an event loop of its own, from ``start`` to ``stop``. Thread-safe."""

    def __init__(self, services: Services, address: str) -> None:
        catalog = services.catalog
        self._kinds = [
            _Kind(catalog.import_tasks, TASKS["import_image"].workflow.__name__),
            _Kind(catalog.export_tasks, TASKS["export_image"].workflow.__name__),
            _Kind(catalog.snapshot_uploads, TASKS["complete_snapshot"].workflow.__name__),
        ]
        self._address = address
        self._log = structlog.get_logger("vmferry.runtime")
        self._loop = asyncio.new_event_loop()
        self._work = asyncio.Event()
        self._main: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run, name="dispatcher", daemon=True)

    def start(self) -> None:
        """Begin to look, from a thread of its own."""
        self._thread.start()

    def wake(self) -> None:
        """Look now: something was recorded."""
        with contextlib.suppress(RuntimeError):  # it has ended: the next start does it
            self._loop.call_soon_threadsafe(self._work.set)

    def stop(self) -> None:
        """End the thread. What it did not get to is done after the next start."""
        with contextlib.suppress(RuntimeError):  # it has ended, or was not begun
            self._loop.call_soon_threadsafe(self._cancel)
            self._thread.join(timeout=5)

    def _cancel(self) -> None:
        if self._main is not None:
            self._main.cancel()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._main = self._loop.create_task(self._serve())
            self._loop.run_until_complete(self._main)
        except asyncio.CancelledError:
            pass
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        client = await connect(self._address)
        unseen = list(self._kinds)
        while True:
            unseen = [kind for kind in unseen if not await self._try(self._restart_lost, client, kind)]
            for kind in self._kinds:
                await self._try(self._start_new, client, kind)
                await self._try(self._send_cancels, client, kind)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._work.wait(), _LOOK_SECONDS)
            self._work.clear()

    async def _try(self, job: Callable[[Client, _Kind], Awaitable[None]], client: Client, kind: _Kind) -> bool:
        """Do one of the jobs below; whether it went well. Where the workflow server or the catalog is away, or there is
        a fault in us, the next look does it."""
        try:
            await job(client, kind)
        except (RPCError, OSError, RuntimeError) as error:
            self._log.warning("the workflow server did not answer", error=str(error))
        except Exception:  # noqa: BLE001 - whatever it was: nobody else begins tasks
            self._log.exception("tasks could not be dispatched", workflow=kind.workflow)
        else:
            return True
        await asyncio.sleep(_RETRY_SECONDS)
        return False

    async def _start_new(self, client: Client, kind: _Kind) -> None:
        for task_id in kind.tasks.undispatched():
            await self._start_workflow(client, kind, task_id)
            with contextlib.suppress(NotFoundError):  # removed meanwhile: its workflow finds that out
                kind.tasks.mark_dispatched(task_id)

    async def _restart_lost(self, client: Client, kind: _Kind) -> None:
        """Tasks that have not ended, but have no workflow that runs: the workflow server's database was lost or is new,
        or somebody ended the workflow by hand."""
        for task_id in kind.tasks.unfinished():
            try:
                found = await client.get_workflow_handle(task_id).describe()
            except RPCError as error:
                if error.status is not RPCStatusCode.NOT_FOUND:
                    raise
            else:
                if found.status is WorkflowExecutionStatus.RUNNING:
                    continue
            await self._start_workflow(client, kind, task_id)

    async def _send_cancels(self, client: Client, kind: _Kind) -> None:
        for task_id in kind.tasks.uncancelled():
            try:
                await client.get_workflow_handle(task_id).cancel()
            except RPCError as error:
                if error.status is not RPCStatusCode.NOT_FOUND:  # ended meanwhile: it has cleaned up
                    raise
            with contextlib.suppress(NotFoundError):
                kind.tasks.mark_cancel_sent(task_id)

    async def _start_workflow(self, client: Client, kind: _Kind, task_id: str) -> None:
        try:
            await client.start_workflow(kind.workflow, task_id, id=task_id, task_queue=TASK_QUEUE)
        except WorkflowAlreadyStartedError:
            self._log.debug("the workflow runs already", task=task_id)

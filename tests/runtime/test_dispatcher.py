"""The dispatcher with a real workflow server: nothing that happens to one task keeps it from the others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError
from temporalio.client import Client, WorkflowExecutionStatus

from vmferry.catalog._schema import SnapshotUploadRow
from vmferry.catalog.places import Place
from vmferry.catalog.snapshot_uploads import SnapshotUpload, SnapshotUploads
from vmferry.catalog.snapshots import PENDING, Snapshot
from vmferry.config import Config
from vmferry.embedded import temporal
from vmferry.embedded.ports import load_ports
from vmferry.embedded.supervisor import Supervisor
from vmferry.embedded.temporal import TemporalServer
from vmferry.runtime.dispatcher import Dispatcher
from vmferry.tasks import Services
from vmferry.units import GIB
from vmferry.work import open_services

pytestmark = pytest.mark.slow

HERE = Place("us-east-1", "111122223333")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("temporal")
    server = TemporalServer(folder, load_ports(folder, temporal.PORT_NAMES))
    supervisor = Supervisor([server.service()], folder / "run")
    supervisor.start()
    yield server.address
    supervisor.stop()


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    opened = open_services(Config(tmp_path), "http://127.0.0.1:9")
    opened.catalog.migrate()
    yield opened
    opened.catalog.close()


def begin(services: Services, snapshot_id: str) -> None:
    """Record a snapshot that is to be put together."""
    made: dict[str, Any] = {
        "id": snapshot_id,
        "place": HERE,
        "size": GIB,
        "created_at": datetime.now(UTC),
        "bucket": HERE.region,
    }
    snapshot = Snapshot(**made, state=PENDING, description=None, key=f"{snapshot_id}.qcow2", task_id=None)
    upload = SnapshotUpload(**made, key=snapshot.key, parent_id=None, timeout_minutes=60)
    services.catalog.snapshot_uploads.start(snapshot, upload, {}, None, 10)
    services.catalog.snapshot_uploads.ask_completion(snapshot_id, 0, "")


def remove(services: Services, snapshot_id: str) -> None:
    with services.catalog._database.write() as session:
        session.delete(session.get_one(SnapshotUploadRow, snapshot_id))


def lose_the_database(_: Services, __: str) -> None:
    raise OperationalError("UPDATE", {}, Exception("database is locked"))


async def status_of(address: str, snapshot_id: str) -> WorkflowExecutionStatus | None:
    client = await Client.connect(address, namespace=temporal.NAMESPACE)
    return (await client.get_workflow_handle(snapshot_id).describe()).status


@pytest.mark.parametrize("mishap", [remove, lose_the_database])
def test_what_happens_to_one_task_keeps_no_other_from_being_begun(
    services: Services, address: str, mishap: Callable[[Services, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the start of its workflow and the note of that, a task is removed, or the catalog is away."""
    first, second = f"snap-first-{mishap.__name__}", f"snap-second-{mishap.__name__}"
    begin(services, first)
    begin(services, second)
    noted: list[str] = []

    class Uploads(SnapshotUploads):
        def mark_dispatched(self, task_id: str) -> None:
            noted.append(task_id)
            if noted == [first]:
                mishap(services, first)
            super().mark_dispatched(task_id)

    monkeypatch.setattr(services.catalog, "snapshot_uploads", Uploads(services.catalog._database))
    dispatcher = Dispatcher(services, address)
    dispatcher.start()
    try:
        limit = time.monotonic() + 20
        while services.catalog.snapshot_uploads.undispatched():
            assert time.monotonic() < limit, noted
            time.sleep(0.05)
    finally:
        dispatcher.stop()
    assert set(noted) == {first, second}
    for begun in (first, second):
        assert asyncio.run(status_of(address, begun)) is WorkflowExecutionStatus.RUNNING

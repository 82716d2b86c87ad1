"""An import is cancelled, or its worker dies, behind each of its steps: nothing is left behind, or it ends as it would
have. What happens in the middle of a step is tried on a running server.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from tests.server.material import make_disk
from tests.tasks.material import PLACE, put_object
from vmferry.catalog.import_tasks import IMPORT_IMAGE, IMPORT_SNAPSHOT, DiskContainer, ImportRequest, ImportTask
from vmferry.tasks import Services
from vmferry.tasks._steps import CleanUp
from vmferry.tasks.import_image.activities import ImportImageActivities
from vmferry.tasks.import_image.workflow import SliceStep

pytestmark = pytest.mark.slow

REASON = "User initiated task cancelation"
DISKS = {IMPORT_IMAGE: 2, IMPORT_SNAPSHOT: 1}


@dataclass
class Run:
    """An import, step by step, each in a worker of its own: as if the one before had died."""

    services: Services
    task_id: str
    slices: list[SliceStep] = field(default_factory=list)

    def steps(self, kind: str) -> list[Callable[[], object]]:
        """Of ``kind``, up to where all is made and nothing has appeared: a slice for each disk."""
        conversions = [lambda number=number: self.convert(number) for number in range(DISKS[kind])]
        return [self.validate, *conversions, lambda: self.step("update", self.task_id)]

    def step(self, name: str, argument: object) -> Any:
        return ActivityEnvironment().run(getattr(ImportImageActivities(self.services), name), argument)

    def validate(self) -> None:
        self.slices = self.step("validate", self.task_id).slices

    def convert(self, number: int) -> None:
        self.step("convert_slice", self.slices[number])

    def images(self) -> set[str]:
        return {path.name for path in self.services.config.images_dir.rglob("*") if path.is_file()}


def begin(services: Services, folder: Path, kind: str) -> Run:
    put_object(services, make_disk(folder / "disk.raw", 8, 2))
    disk = DiskContainer(bucket="imports", key="disk.raw", format="RAW")
    request = ImportRequest((disk,) * DISKS[kind])
    task = ImportTask("import-1", PLACE, datetime.now(UTC), request, kind=kind)
    return Run(services, services.catalog.import_tasks.add(task, {}, None, "", most=20))


@pytest.mark.parametrize(("kind", "done"), [(kind, done) for kind, disks in DISKS.items() for done in range(disks + 3)])
def test_what_is_cancelled_leaves_its_record_alone(services: Services, tmp_path: Path, kind: str, done: int) -> None:
    run, tasks = begin(services, tmp_path, kind), services.catalog.import_tasks
    for step in run.steps(kind)[:done]:
        step()
    tasks.cancel(PLACE, run.task_id, REASON)
    if done:
        with pytest.raises(ApplicationError, match=REASON):
            run.step("register", run.task_id)  # however far it was, it ends without a result
    for _ in range(2):  # a worker may die while it cleans up
        run.step("clean_up", CleanUp(run.task_id, REASON))
    task = tasks.get(run.task_id)
    assert (task.status, task.reason, task.image_id) == ("deleted", REASON, None)
    assert run.images() == set()
    assert services.catalog.snapshots.describe(PLACE) == []
    assert services.catalog.images.describe(PLACE) == []


@pytest.mark.parametrize("kind", DISKS)
def test_every_step_may_be_done_again(services: Services, tmp_path: Path, kind: str) -> None:
    run, before = begin(services, tmp_path, kind), list[Callable[[], object]]()
    for step in run.steps(kind):
        for each in (step, *before[-1:], step):
            each()
        before.append(step)
    image_id = run.step("register", run.task_id)
    assert run.step("register", run.task_id) == image_id
    run.step("clean_up", CleanUp(run.task_id, REASON))  # too late: what it made is its owner's
    assert services.catalog.import_tasks.get(run.task_id).status == "completed"
    snapshots = services.catalog.snapshots.describe(PLACE)
    assert len(snapshots) == DISKS[kind]
    assert run.images() == {f"{snapshot.id}.qcow2" for snapshot in snapshots}
    assert [image.id for image in services.catalog.images.describe(PLACE)] == ([image_id] if image_id else [])

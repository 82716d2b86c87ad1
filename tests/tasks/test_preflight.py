"""Preflight in an import: what is on the disks is judged before a byte is copied, by the rules that are configured."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from tests.server.material import make_disk
from tests.tasks.material import PLACE, put_object
from vmferry import own_tags
from vmferry.catalog.import_tasks import DiskContainer, ImportRequest, ImportTask
from vmferry.config import load_config
from vmferry.errors import ConfigError
from vmferry.tasks import Services
from vmferry.tasks.import_image.activities import ImportImageActivities

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
from build_guest import cached_guest


def ruled_by(services: Services, rules: str) -> Services:
    return replace(services, config=replace(services.config, preflight=rules))


def begin(services: Services, kind: str = "import-image-task") -> str:
    container = DiskContainer(bucket="imports", key="disk.raw", format="RAW")
    task = ImportTask("import-ami-1", PLACE, datetime.now(UTC), ImportRequest((container,)), kind=kind)
    return services.catalog.import_tasks.add(task, {}, None, "", most=20)


def run(services: Services, task_id: str) -> str:
    """All steps; the AMI."""
    activities = ImportImageActivities(services)
    plan = ActivityEnvironment().run(activities.validate, task_id)
    for piece in plan.slices:
        ActivityEnvironment().run(activities.convert_slice, piece)
    ActivityEnvironment().run(activities.update, task_id)
    image_id = ActivityEnvironment().run(activities.register, task_id)
    assert image_id is not None
    return image_id


def test_by_our_rules_a_disk_without_a_system_is_imported_and_its_ami_says_so(
    services: Services, tmp_path: Path
) -> None:
    put_object(services, make_disk(tmp_path / "data.raw", 8, 2, boots=False))
    image_id = run(services, begin(services))
    tags = services.catalog.tags.of([image_id]).get(image_id, {})
    assert set(tags[own_tags.PREFLIGHT].split(", ")) <= {"no-partition-table", "no-boot-loader"}
    (finding, *_) = services.catalog.import_tasks.get("import-ami-1").facts.findings
    assert finding.severity == "will not boot"
    receipt = json.loads(services.catalog.import_tasks.receipt("import-ami-1") or "")
    assert receipt["preflight"][0]["id"] == finding.id


def test_by_ec2s_rules_it_is_refused_with_ec2s_words_before_anything_is_made(
    services: Services, tmp_path: Path
) -> None:
    services = ruled_by(services, "aws")
    put_object(services, make_disk(tmp_path / "data.raw", 8, 2, boots=False))
    with pytest.raises(ApplicationError, match=r"^GuestError: ClientError: .*\. \| .*") as raised:
        ActivityEnvironment().run(ImportImageActivities(services).validate, begin(services))
    assert raised.value.non_retryable
    assert list(services.catalog.snapshots.of_task("import-ami-1")) == []


def test_what_is_off_finds_nothing(services: Services, tmp_path: Path) -> None:
    services = ruled_by(services, "off")
    put_object(services, make_disk(tmp_path / "data.raw", 8, 2, boots=False))
    image_id = run(services, begin(services))
    assert own_tags.PREFLIGHT not in services.catalog.tags.of([image_id]).get(image_id, {})
    assert services.catalog.import_tasks.get("import-ami-1").facts.findings == ()


@pytest.mark.slow
def test_a_real_guest_is_recognised(services: Services) -> None:
    put_object(services, cached_guest("tiny", "uefi"))
    task_id = begin(services)
    ActivityEnvironment().run(ImportImageActivities(services).validate, task_id)
    facts = services.catalog.import_tasks.get(task_id).facts
    assert (facts.system, facts.platform, facts.architecture) == ("vmferry tiny guest, x86_64", "Linux", "x86_64")
    assert facts.boot_mode == "uefi"
    assert not [finding for finding in facts.findings if finding.severity == "will not boot"]


def test_rules_that_do_not_exist_are_refused_with_those_that_do(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('preflight = "strict"\n')
    with pytest.raises(ConfigError, match="preflight must be one of vmferry, aws, off, not strict"):
        load_config(tmp_path)

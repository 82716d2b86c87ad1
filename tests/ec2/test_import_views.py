"""Import tasks as the API shows them, at every point of their life."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tests.ec2.material import A_DISK
from vmferry.catalog.import_tasks import (
    DiskContainer,
    DiskConversion,
    ImportFacts,
    ImportRequest,
    ImportTask,
)
from vmferry.catalog.places import Place
from vmferry.ec2.import_task_views import describe_import_image_task


def a_task(**facts: object) -> ImportTask:
    container = DiskContainer(bucket="b", key="k", url="s3://b/k", format="OVA", description="root")
    known = {"id": "import-ami-1", "place": Place("us-east-1", "1"), "created_at": datetime.now(UTC), **facts}
    return ImportTask(request=ImportRequest(containers=(container,)), **known)  # type: ignore[arg-type]


def test_a_new_task_shows_no_disk_yet() -> None:
    shown = describe_import_image_task(a_task(), {"b": "2", "a": "1"})
    assert (shown["Status"], shown["StatusMessage"], shown["Progress"]) == ("active", "pending", "1")
    assert shown["SnapshotDetails"] == []
    assert shown["Tags"] == [{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}]
    assert shown["ImageId"] is None


def test_a_disk_is_shown_with_its_source_both_ways() -> None:
    shown = describe_import_image_task(a_task(stage="converting", progress=30, facts=ImportFacts(disks=(A_DISK,))), {})
    (detail,) = shown["SnapshotDetails"]
    assert detail["Url"] == "s3://b/k"
    assert detail["UserBucket"] == {"S3Bucket": "b", "S3Key": "k"}
    assert (detail["Format"], detail["DiskImageSize"], detail["DeviceName"]) == ("VMDK", 652_312_064.0, "/dev/sda1")


def test_each_disk_has_its_progress_while_it_is_converted() -> None:
    facts = ImportFacts(disks=(A_DISK, A_DISK, A_DISK))
    parts = (DiskConversion(0, 200), DiskConversion(199, 200), DiskConversion(0, 0))
    task = a_task(stage="converting", progress=30, facts=facts, conversion=parts)
    shown = describe_import_image_task(task, {})
    assert [detail["Progress"] for detail in shown["SnapshotDetails"]] == ["0", "99", "100"]
    ended = describe_import_image_task(replace(task, status="completed"), {})
    assert [detail["Progress"] for detail in ended["SnapshotDetails"]] == [None, None, None]


def test_a_completed_task_has_neither_progress_nor_message() -> None:
    facts = ImportFacts(disks=(A_DISK,), usage_operation="RunInstances")
    task = a_task(status="completed", progress=100, image_id="ami-1", facts=facts)
    shown = describe_import_image_task(task, {})
    assert shown["Progress"] is None
    assert shown["StatusMessage"] is None
    assert (shown["ImageId"], shown["LicenseType"], shown["UsageOperation"]) == ("ami-1", "BYOL", "RunInstances")
    windows = replace(task, facts=replace(facts, usage_operation="RunInstances:0002"))
    shown = describe_import_image_task(windows, {})
    assert (shown["LicenseType"], shown["UsageOperation"]) == ("AWS", "RunInstances:0002")


@pytest.mark.parametrize("status", ["deleting", "deleted"])
def test_a_task_that_failed_keeps_its_reason_and_names_no_snapshot(status: str) -> None:
    facts = ImportFacts(disks=(A_DISK,))
    shown = describe_import_image_task(a_task(status=status, reason="ClientError: x | y", facts=facts), {})
    assert shown["StatusMessage"] == "ClientError: x | y"
    assert shown["Progress"] is None
    assert shown["SnapshotDetails"][0]["SnapshotId"] is None


def test_a_short_wait_is_not_mentioned_and_a_long_one_is() -> None:
    for waited, message in ((1, "converting"), (60, "converting | waiting for room on the disk: full (since ")):
        task = a_task(
            stage="converting",
            waiting_for="waiting for room on the disk: full",
            waiting_since=datetime.now(UTC) - timedelta(seconds=waited),
        )
        assert describe_import_image_task(task, {})["StatusMessage"].startswith(message)


def test_a_task_that_no_worker_takes_says_so() -> None:
    task = a_task(created_at=datetime.now(UTC) - timedelta(minutes=2))
    assert describe_import_image_task(task, {})["StatusMessage"].startswith("pending | waiting for a worker (since ")

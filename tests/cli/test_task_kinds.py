"""Tasks of every kind, as commands look at them: from answers as AWS gives them."""

from __future__ import annotations

import io
import sys
from typing import Any

import pytest

from vmferry.cli._stages import show_stages
from vmferry.cli._task_kinds import KINDS, TaskView, find_kind, view_task
from vmferry.errors import ConfigError

IMAGE = {"ImportTaskId": "import-ami-1", "Status": "active", "StatusMessage": "converting", "Progress": "28"}
DONE = {"ImportTaskId": "import-ami-2", "Status": "completed", "ImageId": "ami-2", "Description": "web"}
SNAPSHOT = {
    "ImportTaskId": "import-snap-1",
    "SnapshotTaskDetail": {"Status": "deleted", "StatusMessage": "ClientError: Disk validation failed"},
}
EXPORT = {
    "ExportImageTaskId": "export-ami-1",
    "Status": "completed",
    "S3ExportLocation": {"S3Bucket": "exports", "S3Prefix": "web/"},
}
VOLUME_FACTS = {"Image": {"Size": 400}, "BytesConverted": 100, "Volume": {"Id": "vol-1"}}
VOLUME = {"ConversionTaskId": "import-vol-1", "State": "active", "ImportVolume": VOLUME_FACTS}
INSTANCE = {
    "ConversionTaskId": "import-i-1",
    "State": "cancelled",
    "ImportInstance": {"InstanceId": "i-1", "Description": "db", "Volumes": [{"StatusMessage": "no part 3"}]},
}
INSTANCE_EXPORT = {
    "ExportTaskId": "export-i-1",
    "State": "cancelling",
    "ExportToS3Task": {"S3Bucket": "exports", "S3Key": "export-i-1.ova"},
}


@pytest.mark.parametrize(
    ("task", "expected", "ended", "done"),
    [
        (IMAGE, TaskView("import-ami-1", "active", "converting", 28, None, None), False, False),
        (DONE, TaskView("import-ami-2", "completed", None, None, "ami-2", "web"), True, True),
        (
            SNAPSHOT,
            TaskView("import-snap-1", "deleted", "ClientError: Disk validation failed", None, None, None),
            True,
            False,
        ),
        (EXPORT, TaskView("export-ami-1", "completed", None, None, "s3://exports/web/", None), True, True),
        (VOLUME, TaskView("import-vol-1", "active", None, 25, "vol-1", None), False, False),
        (INSTANCE, TaskView("import-i-1", "cancelled", "no part 3", None, "i-1", "db"), True, False),
        (
            INSTANCE_EXPORT,
            TaskView("export-i-1", "cancelling", None, None, "s3://exports/export-i-1.ova", None),
            False,
            False,
        ),
    ],
)
def test_a_task_of_any_kind_is_seen_alike(task: dict[str, Any], expected: TaskView, *, ended: bool, done: bool) -> None:
    view = view_task(task)
    assert view == expected
    assert (view.has_ended, view.is_done) == (ended, done)


def test_disks_have_a_progress_each_where_there_are_several() -> None:
    disks = [{"Progress": "40"}, {"DeviceName": "/dev/sdf"}]
    assert view_task({**IMAGE, "SnapshotDetails": disks}).disks == (40, 0)
    assert view_task({**IMAGE, "SnapshotDetails": disks[:1]}).disks == ()
    assert view_task({**IMAGE, "SnapshotDetails": [{}, {}]}).disks == ()


def test_the_reason_of_a_task_that_is_being_removed_is_no_stage_of_it() -> None:
    leaving = {**IMAGE, "Status": "deleting", "StatusMessage": "ClientError: Disk validation failed"}
    assert view_task(IMAGE).stage == "converting"
    assert view_task(leaving).stage == "deleting"
    assert view_task(DONE).stage == "completed"


def test_a_terminal_has_a_bar_for_the_task_and_for_each_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with show_stages("import-ami-1") as show:
        show("converting [60 %]", 28, (40, 16))
        show("updating", 60, ())
    shown = terminal.getvalue()
    for word in ("import-ami-1", "disk 1", "disk 2", "40%", "16%", "updating", "60%"):
        assert word in shown


def test_an_id_says_its_kind() -> None:
    for kind in KINDS:
        for prefix in kind.prefixes:
            assert find_kind(f"{prefix}0123456789abcdef0") is kind
    with pytest.raises(ConfigError, match=r"ami-1 is not the id of a task: those are import-ami-…"):
        find_kind("ami-1")

"""The tasks of VM Import/Export, of every kind, as commands look at them: which kind an id is of, how it is asked for,
how far it is, how it is cancelled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vmferry.cli._client import ApiError, Clients, api_errors, list_all
from vmferry.errors import ConfigError, quote

_LEAVING = frozenset({"deleting", "cancelling"})
"""It failed or was cancelled, and what it had made is being removed."""
_IN_WORK = frozenset({"active", "pending", *_LEAVING})
_DONE = "completed"


@dataclass(frozen=True, slots=True)
class TaskKind:
    """One kind of task, in boto3's words."""

    name: str
    prefixes: tuple[str, ...]
    """How its ids begin."""
    method: str
    member: str
    """The list in the answer of ``method``."""
    id_name: str
    """A task's member that is its id; with an s, the parameter of ``method`` that names tasks."""
    cancel_method: str
    cancel_id: str
    reason: str | None
    """The parameter of ``cancel_method`` that says why, if it has one."""

    def look(self, clients: Clients, task_id: str) -> dict[str, Any]:
        """The task as it stands now. Raises ``ApiError``."""
        with api_errors():
            found = getattr(clients.ec2, self.method)(**{f"{self.id_name}s": [task_id]})[self.member]
        if not found:
            raise ApiError(f"There is no task {quote(task_id)}. `vmferry tasks` lists yours; --region looks elsewhere.")
        return dict(found[0])

    def list(self, clients: Clients) -> list[dict[str, Any]]:
        """All of the caller's. Raises ``ApiError``."""
        return list_all(clients.ec2, self.method, self.member)


KINDS = (
    TaskKind(
        "import of an image", ("import-ami-",), "describe_import_image_tasks", "ImportImageTasks", "ImportTaskId",
        "cancel_import_task", "ImportTaskId", "CancelReason",
    ),
    TaskKind(
        "import of a snapshot", ("import-snap-",), "describe_import_snapshot_tasks", "ImportSnapshotTasks",
        "ImportTaskId", "cancel_import_task", "ImportTaskId", "CancelReason",
    ),
    TaskKind(
        "export of an image", ("export-ami-",), "describe_export_image_tasks", "ExportImageTasks",
        "ExportImageTaskId", "cancel_export_task", "ExportTaskId", None,
    ),
    TaskKind(
        "import of an instance or volume", ("import-i-", "import-vol-"), "describe_conversion_tasks",
        "ConversionTasks", "ConversionTaskId", "cancel_conversion_task", "ConversionTaskId", "ReasonMessage",
    ),
    TaskKind(
        "export of an instance", ("export-i-",), "describe_export_tasks", "ExportTasks", "ExportTaskId",
        "cancel_export_task", "ExportTaskId", None,
    ),
)  # fmt: skip


def find_kind(task_id: str) -> TaskKind:
    """The kind that an id is of. Raises ``ConfigError`` for what is no task's id."""
    for kind in KINDS:
        if task_id.startswith(kind.prefixes):
            return kind
    known = ", ".join(f"{prefix}…" for kind in KINDS for prefix in kind.prefixes)
    raise ConfigError(f"{quote(task_id)} is not the id of a task: those are {known}.")


@dataclass(frozen=True, slots=True)
class TaskView:
    """A task of any kind, as a person sees it."""

    id: str
    state: str
    """AWS's word: ``active``, ``completed``, ``deleted``, ``cancelled`` …"""
    message: str | None
    """The stage of one in work; the reason of one that failed."""
    percent: int | None
    """Of one in work, where it is known."""
    result: str | None
    """What it makes: an id, or where it goes in S3."""
    description: str | None
    disks: tuple[int, ...] = ()
    """Percent of each disk of an import in work, where there are several."""

    @property
    def has_ended(self) -> bool:
        return self.state not in _IN_WORK

    @property
    def stage(self) -> str:
        """What is done for it now. One that is leaving says already why, and will say it again at its end."""
        return self.state if self.state in _LEAVING else self.message or self.state

    @property
    def is_done(self) -> bool:
        """Whether it ended well."""
        return self.state == _DONE


def view_task(task: Mapping[str, Any]) -> TaskView:
    """What the API tells of a task: of a snapshot's import it stands one level deeper."""
    facts = {**task, **task.get("SnapshotTaskDetail", {})}
    disks = conversion_disks(task)
    reasons = [disk["StatusMessage"] for disk in disks if disk.get("StatusMessage")]
    return TaskView(
        id=next(str(task[kind.id_name]) for kind in KINDS if kind.id_name in task),
        state=str(facts.get("Status") or facts.get("State")),
        message=facts.get("StatusMessage") or next(iter(reasons), None),
        percent=int(facts["Progress"]) if facts.get("Progress") else _converted(disks),
        result=_result(facts),
        description=facts.get("Description") or facts.get("ImportInstance", {}).get("Description"),
        disks=_disks_in_work(task.get("SnapshotDetails", ())),
    )


def conversion_disks(task: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The disks of a conversion task: those of an instance, or the one of a volume; none of another task."""
    if "ImportInstance" in task:
        return list(task["ImportInstance"].get("Volumes") or ())
    return [task["ImportVolume"]] if "ImportVolume" in task else []


def _disks_in_work(details: Sequence[Mapping[str, Any]]) -> tuple[int, ...]:
    if len(details) < 2 or not any(disk.get("Progress") for disk in details):
        return ()
    return tuple(int(disk.get("Progress") or 0) for disk in details)


def _converted(disks: Sequence[Mapping[str, Any]]) -> int | None:
    """Hundredths of the disks' bytes that are converted; ``None`` while their sizes are unknown."""
    total = sum(int((disk.get("Image") or {}).get("Size") or 0) for disk in disks)
    done = sum(int(disk.get("BytesConverted") or 0) for disk in disks)
    return min(100, 100 * done // total) if total else None


def _result(facts: Mapping[str, Any]) -> str | None:
    if location := facts.get("S3ExportLocation"):
        return f"s3://{location['S3Bucket']}/{location.get('S3Prefix', '')}"
    if target := facts.get("ExportToS3Task"):
        return f"s3://{target['S3Bucket']}/{target['S3Key']}"
    if instance := facts.get("ImportInstance"):
        return str(instance["InstanceId"])
    made = facts.get("ImageId") or facts.get("SnapshotId")
    return made or facts.get("ImportVolume", {}).get("Volume", {}).get("Id") or None

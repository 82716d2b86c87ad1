"""``vmferry tasks``: the import and export tasks of an endpoint."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import typer

from vmferry import own_tags
from vmferry.cli import _options as options
from vmferry.cli._client import ApiError, Clients, api_errors, open_clients, without_metadata
from vmferry.cli._following import follow_task
from vmferry.cli._listing import listing_group, show
from vmferry.cli._output import print_json, print_note, print_table
from vmferry.cli._task_kinds import KINDS, TaskKind, TaskView, conversion_disks, find_kind, view_task
from vmferry.config import default_data_dir, load_config
from vmferry.errors import NotFoundError, StoreError, quote
from vmferry.units import format_size

COMMAND = listing_group("Your import and export tasks: how far they are, or how they ended.")
_TASK: Any = typer.Argument(metavar="TASK", help="The task's id: import-ami-…, import-snap-…, export-ami-… and so on.")


@COMMAND.command("list")
def list_tasks(
    active: bool = typer.Option(False, "--active", help="Only those that have not ended."),
    data_dir: Path = options.DATA_DIR,
    aws: bool = options.AWS,
    region: str = options.REGION,
    as_json: bool = typer.Option(False, "--json", help="The API's answers as JSON."),
) -> None:
    """List your tasks of every kind."""
    clients = open_clients(data_dir, aws=aws, region=region)
    found = _find_all(clients)
    if active:
        found = {member: [one for one in tasks if not view_task(one).has_ended] for member, tasks in found.items()}
    if as_json:
        print_json(found)
        return
    print_table(
        ("task", "status", "progress", "result", "message"),
        [_row(view_task(task)) for tasks in found.values() for task in tasks],
        "No task is active." if active else "No tasks yet: import a machine, `vmferry import`.",
    )


@COMMAND.command("show")
def show_task(
    task_id: str = _TASK,
    wait: bool = typer.Option(False, "--wait", help="Follow it to its end."),
    evidence: Path = typer.Option(None, "--evidence", metavar="DIR", help="Copy what its boot check saw there."),
    data_dir: Path = options.DATA_DIR,
    aws: bool = options.AWS,
    region: str = options.REGION,
    as_json: bool = options.AS_JSON,
) -> None:
    """Show one task; with --wait when it has completed."""
    kind = find_kind(task_id)
    clients = open_clients(data_dir, aws=aws, region=region)
    task = follow_task(clients, task_id, as_json=as_json) if wait else kind.look(clients, task_id)
    if evidence is not None:
        _copy_evidence(clients, task, data_dir, evidence)
    show(task, list(_facts(kind.name, task)), as_json=as_json)


def _copy_evidence(clients: Clients, task: Mapping[str, Any], data_dir: Path | None, target: Path) -> None:
    """Copy what the boot check of a task saw: from the server's data directory, or from the object store that its tags
    name. Raises ``NotFoundError`` where it is in neither."""
    task_id = str(view_task(task).id)
    found = load_config(data_dir or default_data_dir()).evidence_dir / task_id
    tags = {tag["Key"]: tag["Value"] for tag in task.get("Tags", ()) if tag["Key"].startswith(own_tags.EVIDENCE)}
    if not found.is_dir() and not tags:
        raise NotFoundError(
            f"There is no evidence of a boot check of {task_id} in {quote(found)}, nor do tags of the task name any: "
            "none was asked for (vmferry import --boot-check), or it is older than it is kept."
        )
    try:
        if found.is_dir():
            shutil.copytree(found, target, dirs_exist_ok=True)
            return
        target.mkdir(parents=True, exist_ok=True)
        for name, place in tags.items():
            bucket, _, key = place.removeprefix("s3://").partition("/")
            with api_errors():
                content = clients.s3.get_object(Bucket=bucket, Key=key)["Body"].read()
            (target / Path(name.removeprefix(own_tags.EVIDENCE)).name).write_bytes(content)
    except (OSError, shutil.Error) as error:
        raise StoreError(f"The evidence cannot be copied to {quote(target)}: {quote(error)}.") from error


@COMMAND.command()
def cancel(
    task_id: str = _TASK,
    reason: str = typer.Option(None, metavar="TEXT", help="Why, for the task's record. Exports keep none."),
    data_dir: Path = options.DATA_DIR,
    aws: bool = options.AWS,
    region: str = options.REGION,
    as_json: bool = options.ANSWER_AS_JSON,
) -> None:
    """Cancel a task: what it made so far is removed."""
    kind = find_kind(task_id)
    if reason is not None and kind.reason is None:
        raise typer.BadParameter("an export keeps no reason. Leave --reason out.")
    clients = open_clients(data_dir, aws=aws, region=region)
    named = {kind.cancel_id: task_id, **({kind.reason: reason} if kind.reason and reason is not None else {})}
    with api_errors():
        answer = without_metadata(getattr(clients.ec2, kind.cancel_method)(**named))
    if as_json:
        print_json(answer)
    else:
        print(f"{task_id} is being cancelled.")


def _find_all(clients: Clients) -> dict[str, list[dict[str, Any]]]:
    """The list in the API's answer → the tasks in it, of every kind. A kind that is refused is noted and left out.

    Raises ``ApiError`` where the endpoint cannot be asked at all, or refuses all of them.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    refusals: list[tuple[TaskKind, ApiError]] = []
    for kind in KINDS:
        try:
            found[kind.member] = kind.list(clients)
        except ApiError as error:
            if error.retryable:
                raise
            refusals.append((kind, error))
    if not found:
        raise refusals[0][1]
    for kind, refusal in refusals:
        print_note(f"Every {kind.name} is left out: {refusal}")
    return found


def _row(view: TaskView) -> tuple[str | None, ...]:
    percent = None if view.percent is None or view.has_ended else f"{view.percent}%"
    return view.id, view.state, percent, view.result, view.message or view.description


def _facts(kind: str, task: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    """What is told of one task, a line each."""
    view = view_task(task)
    yield "task", view.id
    yield "kind", kind
    yield "description", view.description
    yield "status", view.state
    yield ("stage" if not view.has_ended else "reason"), view.message
    yield "progress", None if view.percent is None or view.has_ended else f"{view.percent}%"
    yield "result", view.result
    for number, disk in enumerate((*task.get("SnapshotDetails", ()), *conversion_disks(task)), 1):
        yield f"disk {number}", _disk(disk)


def _disk(disk: Mapping[str, Any]) -> str:
    """A disk of an import, in a line."""
    image: Mapping[str, Any] = disk.get("Image") or {}
    source: Mapping[str, Any] = disk.get("UserBucket") or {}
    size = disk.get("DiskImageSize") or image.get("Size")
    words = (
        disk.get("DeviceName"),
        disk.get("Format") or image.get("Format"),
        format_size(float(size)) if size else None,
        f"from s3://{source['S3Bucket']}/{source['S3Key']}" if source else None,
        f"{disk['Progress']}%" if disk.get("Progress") else disk.get("Status"),
        disk.get("SnapshotId") or (disk.get("Volume") or {}).get("Id"),
    )
    return " ".join(str(word) for word in words if word)

"""``vmferry tasks``: the import and export tasks of an endpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from vmferry.cli._client import api_errors, open_clients
from vmferry.cli._output import print_json, print_table
from vmferry.config import default_data_dir

_KINDS = {
    "describe_import_image_tasks": "ImportImageTasks",
    "describe_import_snapshot_tasks": "ImportSnapshotTasks",
    "describe_export_image_tasks": "ExportImageTasks",
    "describe_conversion_tasks": "ConversionTasks",
    "describe_export_tasks": "ExportTasks",
}
"""boto3's method → the list in its answer."""


def list_tasks(
    data_dir: Path = typer.Option(None, metavar="FOLDER", help="The data directory of the server to speak to."),
    aws: bool = typer.Option(False, "--aws", help="Speak to AWS itself."),
    as_json: bool = typer.Option(False, "--json", help="The API's answers as JSON."),
) -> None:
    """List your import and export tasks: how far they are, or how they ended."""
    clients = open_clients(data_dir or default_data_dir(), aws=aws)
    found: dict[str, list[dict[str, Any]]] = {}
    with api_errors():
        for method, member in _KINDS.items():
            can_page = clients.ec2.can_paginate(method)
            pages = clients.ec2.get_paginator(method).paginate() if can_page else [getattr(clients.ec2, method)()]
            found[member] = [task for page in pages for task in page[member]]
    if as_json:
        print_json(found)
        return
    rows = [_row(task) for tasks in found.values() for task in tasks]
    print_table(
        ("task", "status", "progress", "result", "message"), rows, "No tasks yet: import a machine, `vmferry import`."
    )


def _row(task: Mapping[str, Any]) -> tuple[str | None, ...]:
    """A task of any kind: what a snapshot's import tells stands one level deeper."""
    facts = {**task, **task.get("SnapshotTaskDetail", {})}
    ids = ("ImportTaskId", "ExportImageTaskId", "ConversionTaskId", "ExportTaskId")
    return (
        next(task[name] for name in ids if name in task),
        facts["Status"] if "Status" in facts else facts["State"],
        f"{facts['Progress']}%" if "Progress" in facts else None,
        _result(facts),
        facts.get("StatusMessage") or facts.get("Description"),
    )


def _result(facts: Mapping[str, Any]) -> str | None:
    if location := facts.get("S3ExportLocation"):
        return f"s3://{location['S3Bucket']}/{location.get('S3Prefix', '')}"
    if target := facts.get("ExportToS3Task"):
        return f"s3://{target['S3Bucket']}/{target['S3Key']}"
    if instance := facts.get("ImportInstance"):
        return str(instance["InstanceId"])
    made = facts.get("ImageId") or facts.get("SnapshotId")
    return made or facts.get("ImportVolume", {}).get("Volume", {}).get("Id") or None


COMMAND = list_tasks

"""Conversion tasks as the classic commands find them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vmferry.cli._client import ApiError, Clients, api_errors
from vmferry.cli.classic._lines import conversion_task_lines, disks_of
from vmferry.errors import quote


def find_task(clients: Clients, task_id: str) -> Mapping[str, Any]:
    """The conversion task with that id. Raises ``ApiError``."""
    (task,) = describe_tasks(clients, [task_id]) or [{}]
    if not task:
        raise ApiError(f"There is no conversion task {quote(task_id)}. `ec2-describe-conversion-tasks` lists them.")
    return task


def describe_tasks(clients: Clients, task_ids: Sequence[str]) -> list[Mapping[str, Any]]:
    """The conversion tasks with these ids, or all. Raises ``ApiError``."""
    named = {"ConversionTaskIds": list(task_ids)} if task_ids else {}
    with api_errors():
        return list(clients.ec2.describe_conversion_tasks(**named)["ConversionTasks"])


def manifest_url(task: Mapping[str, Any]) -> str:
    """Where the manifest of the task's disk lies. Raises ``ApiError`` for a task that has none."""
    urls = [disk.get("Image", {}).get("ImportManifestUrl") for disk in disks_of(task)]
    if not urls or not urls[0]:
        raise ApiError(f"{quote(task.get('ConversionTaskId'))} names no manifest: it was not imported from one.")
    return str(urls[0])


def print_task(task: Mapping[str, Any], *, transfer_details: bool = False) -> None:
    for line in conversion_task_lines(task, transfer_details=transfer_details):
        print(line, flush=True)

"""``ec2-describe-export-tasks``: how far exports of instances are."""

from __future__ import annotations

import argparse

from vmferry.cli._client import Clients, api_errors
from vmferry.cli.classic._command import Command, Options
from vmferry.cli.classic._lines import export_task_line


def _declare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("tasks", metavar="TASK", nargs="*", help="ids of export tasks (default: all)")


def _act(clients: Clients, options: Options) -> None:
    named = {"ExportTaskIds": options.tasks} if options.tasks else {}
    with api_errors():
        tasks = clients.ec2.describe_export_tasks(**named)["ExportTasks"]
    for task in tasks:
        print(export_task_line(task, show_empty=options.show_empty_fields))


COMMAND = Command("Show export tasks.", _declare, _act)

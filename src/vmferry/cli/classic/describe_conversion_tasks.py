"""``ec2-describe-conversion-tasks``: how far imports are."""

from __future__ import annotations

import argparse

from vmferry.cli._client import Clients
from vmferry.cli.classic._command import Command, Options
from vmferry.cli.classic._tasks import describe_tasks, print_task


def _declare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("tasks", metavar="TASK", nargs="*", help="ids of conversion tasks (default: all)")
    parser.add_argument("--show-transfer-details", action="store_true", help="show where the manifest lies, too")


def _act(clients: Clients, options: Options) -> None:
    for task in describe_tasks(clients, options.tasks):
        print_task(task, transfer_details=options.show_transfer_details)


COMMAND = Command("Show import tasks.", _declare, _act)

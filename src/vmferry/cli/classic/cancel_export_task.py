"""``ec2-cancel-export-task``: end an export, and remove what it has written."""

from __future__ import annotations

import argparse

from vmferry.cli._client import Clients, api_errors
from vmferry.cli.classic._command import Command, Options


def _declare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("task", metavar="TASK", help="the export task's id")


def _act(clients: Clients, options: Options) -> None:
    with api_errors():
        clients.ec2.cancel_export_task(ExportTaskId=options.task)
    print(f"EXPORTTASK\t{options.task}")


COMMAND = Command("Cancel an export task.", _declare, _act)

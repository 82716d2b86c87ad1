"""``ec2-cancel-conversion-task``: end an import, and remove what it has made."""

from __future__ import annotations

import argparse

from vmferry.cli._client import Clients, api_errors
from vmferry.cli.classic._command import Command, Options


def _declare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("task", metavar="TASK", help="the conversion task's id")
    parser.add_argument("--reason-message", metavar="TEXT", help="why, kept with the task")


def _act(clients: Clients, options: Options) -> None:
    reason = {} if options.reason_message is None else {"ReasonMessage": options.reason_message}
    with api_errors():
        clients.ec2.cancel_conversion_task(ConversionTaskId=options.task, **reason)
    print(f"CONVERSION-TASK\t{options.task}")


COMMAND = Command("Cancel an import task.", _declare, _act)

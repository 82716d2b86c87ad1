"""The classic commands of VM Import/Export, ``ec2-import-instance`` and its kin: clients of the public API.

They speak to vmferry or to AWS, print the lines that scripts cut columns from, and take the options of AWS's tools and
of euca2ools. One file per command, exporting ``COMMAND``; ``COMMANDS`` says which there are. Source: Amazon EC2 Command
Line Reference (2014-10-01), euca2ools 3.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from vmferry.cli import guard
from vmferry.cli.classic._command import Command
from vmferry.registry import Registry

COMMANDS: Registry[Command] = Registry(
    "vmferry.cli.classic",
    "COMMAND",
    [
        "cancel_conversion_task",
        "cancel_export_task",
        "create_instance_export_task",
        "delete_disk_image",
        "describe_conversion_tasks",
        "describe_export_tasks",
        "import_instance",
        "import_volume",
        "resume_import",
    ],
)
"""The program is called ``ec2-`` and the name, with hyphens."""


def run(program: str, arguments: Sequence[str]) -> int:
    """Run ``program`` (``ec2-import-volume``); answers the exit code: 0, 1 failed, 2 wrong usage, 130 interrupted."""
    name = program.removeprefix("ec2-").replace("-", "_")
    return guard(lambda: COMMANDS[name].run(program, arguments), program)


def main() -> None:
    """The console script of every one of them: it goes by the name that it was called by."""
    sys.exit(run(Path(sys.argv[0]).name.removesuffix(".exe"), sys.argv[1:]))

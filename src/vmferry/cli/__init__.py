"""The command line: one file per command. ``COMMANDS`` says which; a command is imported when it is called.

So ``vmferry convert`` does not pay for what only the server needs, and a missing extra hurts only who uses it.
Exit codes: 0 done, 1 failed (the reason on stderr, one line), 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import gc
import os
import re
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from vmferry import __version__
from vmferry.blob import foreign_error
from vmferry.cli._output import print_error
from vmferry.errors import ConfigError, VmferryError

COMMANDS = {
    "convert": ("convert", "Convert a disk to any other format, or disks into an appliance."),
    "inspect": ("inspect", "Say what a file is, what is in it, and whether it can be imported."),
    "prepare": ("prepare", "Convert a Linux guest's disk, with the drivers that it needs elsewhere."),
    "verify": ("verify", "Compare what two disks hold, or a disk with a digest or a receipt."),
    "boot-check": ("boot_check", "Start a machine, watch it, and say whether it boots."),
    "serve": ("serve", "Run the EC2 endpoint, the S3 server and the workers."),
    "env": ("env", 'Print export lines for a running server: eval "$(vmferry env)".'),
    "import": ("import_image", "Import a machine: upload it and follow it until there is an AMI."),
    "export": ("export_image", "Export an AMI into S3, in the format of another hypervisor."),
    "tasks": ("tasks", "Your import and export tasks: list, show, cancel."),
    "images": ("images", "Your AMIs: list, show, delete, share, copy."),
    "volumes": ("volumes", "Your volumes: list, show, create, attach, delete …"),
    "instances": ("instances", "Your instances: list, show, run, start, stop, image …"),
    "snapshots": ("snapshots", "Your snapshots: list, show, delete, share, copy, locate."),
    "accounts": ("accounts", "The accounts of a server and their keys, for whoever runs it."),
    "receipt": ("receipt", "Print the signed receipt of a completed import."),
    "worker": ("worker", "Do steps of tasks; `serve` starts these."),
}
"""Name on the command line → module in this folder, which exports ``COMMAND``: a function, or a Typer application; and
what the list of commands says of it, for which none of them is imported."""

_UsageError: Any = typer.BadParameter.__bases__[0]
"""Every kind of wrong usage. Typer carries its own copy of Click, whose other errors have no public name."""

_EXTRAS = {"boto3": "client", "botocore": "client", "cryptography": "certificates"}
"""Package → the extra that brings it; all others come with the server."""

_NO_NUMBER = re.compile(r"is not a valid (?:int|float)(?: range)?$")

_HIDDEN = frozenset({"worker"})


class _LazyGroup(TyperGroup):
    """The group of all commands, each imported when it is called."""

    _listing = False

    def format_help(self, ctx: Any, formatter: Any) -> None:
        self._listing = True
        super().format_help(ctx, formatter)

    def list_commands(self, ctx: Any) -> list[str]:
        return [name for name in COMMANDS if name not in _HIDDEN]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        module, summary = COMMANDS[cmd_name]
        if self._listing:
            return TyperCommand(cmd_name, help=summary)
        command = import_module(f"vmferry.cli.{module}").COMMAND
        gc.freeze()  # what is imported stays to the end: the collector need not look at it, not even then
        gc.enable()
        if not isinstance(command, typer.Typer):
            application = typer.Typer(add_completion=False)
            application.command(cmd_name)(command)
            command = application
        made = typer.main.get_command(command)
        made.name = cmd_name
        return made


def _show_version(shown: bool) -> None:
    if shown:
        typer.echo(f"vmferry {__version__}")
        raise typer.Exit


_application = typer.Typer(
    cls=_LazyGroup,
    add_completion=False,
    no_args_is_help=True,
    help="Virtual machines in and out of a private cloud, through EC2's VM Import/Export API.",
)


@_application.callback()
def _top_options(
    version: bool = typer.Option(False, "--version", callback=_show_version, is_eager=True, help="Show the version."),
) -> None:
    pass


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; answers the exit code. Nothing is raised, whatever happens."""
    os.environ.setdefault(
        "OPENBLAS_NUM_THREADS", "1"
    )  # numpy would start a thread for each core, and we multiply nothing

    def command() -> Any:
        given = None if arguments is None else list(arguments)
        return typer.main.get_command(_application)(args=given, prog_name="vmferry", standalone_mode=False)

    return guard(command, "vmferry")


def guard(command: Callable[[], Any], program: str) -> int:
    """Run ``command``; answers the exit code, and says on stderr in one line why it is not 0."""
    try:
        result = command()
    except _UsageError as error:
        if error.format_message():  # empty when the help was shown instead
            print_error(_usage(error, program), program)
        return 2
    except VmferryError as error:
        print_error(str(error), program)
        return 1
    except (typer.Abort, KeyboardInterrupt):
        result = 130
    except BrokenPipeError:  # whoever reads our output has seen enough
        sys.stderr.close()
        return 1
    except ImportError as error:
        if error.name is None or error.name.partition(".")[0] == "vmferry":
            raise
        print_error(str(missing_extra(error)), program)
        return 1
    except OSError as error:  # of a path that was looked at before it was opened
        if error.filename is None:
            raise
        print_error(str(foreign_error(error, str(error.filename))), program)
        return 1
    if result == 130:  # Typer answers it for a KeyboardInterrupt inside a command
        print_error("interrupted", program)
    return result if isinstance(result, int) else 0


def _usage(error: Any, program: str) -> str:
    """What was wrong with the command line, and where to read how it is meant."""
    command = error.ctx.command_path if error.ctx is not None else program
    return f"{_NO_NUMBER.sub('is not a number', error.format_message().rstrip('.'))}. Try `{command} --help`."


def missing_extra(error: ImportError) -> ConfigError:
    """What to say when a package is missing that only an extra brings."""
    extra = _EXTRAS.get((error.name or "").partition(".")[0], "server")
    return ConfigError(f"This command needs the package {error.name}: pip install 'vmferry[{extra}]'.")

#!/usr/bin/env python3
"""Write the tables of docs/cli.md from the commands themselves; with --check say whether they are true.

Everything between a line ``<!-- begin COMMAND -->`` and its ``<!-- end COMMAND -->`` is made; the rest is written by
hand.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import typer

from vmferry.cli import COMMANDS

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "cli.md"
SHOWN = ("import", "export", "tasks", "images", "snapshots", "volumes", "instances")
"""The commands that are clients of an endpoint."""
_COMMON = ("--data-dir", "--aws", "--region", "--json", "--dry-run", "--client-token", "--help")
"""Options that the page explains once."""


def main() -> int:
    """Answers the exit code: 1 when ``--check`` finds the document out of date."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="change nothing; fail when something would change")
    options = parser.parse_args()
    before = DOCUMENT.read_text(encoding="utf-8")
    after = fill(before)
    if options.check:
        if before != after:
            print("docs/cli.md is out of date: run tools/cli_doc.py", file=sys.stderr)
        return int(before != after)
    DOCUMENT.write_text(after, encoding="utf-8")
    return 0


def fill(document: str) -> str:
    """``document`` with its made parts made anew. Raises ``ValueError`` when one of them has no place in it."""
    for name in SHOWN:
        begin, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->"
        before, _, rest = document.partition(begin)
        _, found, after = rest.partition(end)
        if not found:
            raise ValueError(f"docs/cli.md has no place for {name}")
        document = before + begin + "".join(f"{line}\n" for line in _describe(name)) + end + after
    return document


def commands(name: str) -> Iterator[tuple[str, Any]]:
    """A command of vmferry with its words; of a group each of its commands."""
    command = import_module(f"vmferry.cli.{COMMANDS[name][0]}").COMMAND
    if isinstance(command, typer.Typer):
        group: Any = typer.main.get_command(command)
        for word, inner in group.commands.items():
            yield f"{name} {word}", inner
    else:
        application = typer.Typer(add_completion=False)
        application.command(name)(command)
        yield name, typer.main.get_command(application)


def _describe(name: str) -> Iterator[str]:
    yield "| command | does | options of its own |"
    yield "|---|---|---|"
    for words, command in commands(name):
        arguments = [
            one.make_metavar(None).strip("{}[]") for one in command.params if one.param_type_name == "argument"
        ]
        usage = " ".join((f"`vmferry {words}`", *(f"`{argument}`" for argument in arguments)))
        summary = " ".join((command.help or "").split())
        own = [one for one in command.params if one.param_type_name == "option" and one.opts[0] not in _COMMON]
        yield _row((usage, summary, "; ".join(_option(one) for one in own) or "—"))


def _option(option: Any) -> str:
    """An option with its help: ``--tag KEY=VALUE``: …"""
    names = "/".join((*option.opts, *option.secondary_opts))
    shown = f"`{names} {option.metavar}`" if option.metavar else f"`{names}`"
    return f"{shown} {(option.help or '').rstrip('.')}"


def _row(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    sys.exit(main())

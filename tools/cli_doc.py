#!/usr/bin/env python3
"""Write the tables of docs/cli.md from the commands themselves; with --check say whether they are true."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import typer

from made_pages import fill, page, row, run
from vmferry.cli import COMMANDS

DOCUMENT = page("cli.md")
SHOWN = ("import", "export", "tasks", "images", "snapshots", "volumes", "instances")
"""The commands that are clients of an endpoint."""
_COMMON = ("--data-dir", "--aws", "--region", "--json", "--dry-run", "--client-token", "--help")
"""Options that the page explains once."""


def fill_in(text: str) -> str:
    """``text`` with the commands as they are. Raises ``ValueError`` when one of them has no place in it."""
    return fill(text, {name: _describe(name) for name in SHOWN})


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
        yield row(usage, summary, "; ".join(_option(one) for one in own) or "—")


def _option(option: Any) -> str:
    """An option with its help: ``--tag KEY=VALUE``: …"""
    names = "/".join((*option.opts, *option.secondary_opts))
    shown = f"`{names} {option.metavar}`" if option.metavar else f"`{names}`"
    return f"{shown} {(option.help or '').rstrip('.')}"


if __name__ == "__main__":
    sys.exit(run(DOCUMENT, fill_in))

"""What ``--help`` prints is what the commands declare: no word is lost on the way to the terminal."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from tests.cli.material import call_vmferry
from vmferry.cli import COMMANDS, _application, _LazyGroup


def commands() -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command with its words."""
    group = typer.main.get_command(_application)
    assert isinstance(group, _LazyGroup)
    for name in group.list_commands(None):
        command = group.get_command(None, name)
        inner = getattr(command, "commands", None)
        if inner is None:
            yield (name,), command
        else:
            yield from (((name, word), found) for word, found in inner.items())


@pytest.mark.parametrize(("words", "command"), [pytest.param(*found, id=" ".join(found[0])) for found in commands()])
def test_the_help_says_every_word(words: tuple[str, ...], command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    done = call_vmferry(*words, "--help")
    assert done.returncode == 0
    shown = re.sub(r"[\s│]+", "", done.stdout)
    for parameter in command.params:
        assert re.sub(r"\s+", "", parameter.help or "") in shown
    options = [line for line in done.stdout.splitlines() if line.startswith("│ --")]
    assert not [line for line in options if re.search("<(str|path|int)>", line)]
    assert not [line for line in options if re.search("--[A-Z]", line)]  # Typer's, where metavar and name are the same


def test_the_list_of_commands_imports_none_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    shown = call_vmferry("--help").stdout
    for name, (_, summary) in COMMANDS.items():
        assert (f"{name} " in shown and summary in shown) == (name != "worker")
    program = "import sys, vmferry.cli; vmferry.cli.run(['--help']); print('numpy' in sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stderr.strip() == "False"

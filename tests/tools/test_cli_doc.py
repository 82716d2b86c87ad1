"""docs/cli.md says what the commands say of themselves, and is kept true."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools" / "cli_doc.py"
sys.path.insert(0, str(TOOL.parent))

import cli_doc  # noqa: E402 - a tool, which is no package


def test_the_document_is_what_the_commands_say() -> None:
    done = subprocess.run([sys.executable, TOOL, "--check"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", cli_doc.SHOWN)
def test_every_command_has_a_row_with_its_options(name: str) -> None:
    rows = cli_doc.DOCUMENT.read_text(encoding="utf-8").splitlines()
    for words, command in cli_doc.commands(name):
        (row,) = [line for line in rows if line.startswith(f"| `vmferry {words}`")]
        own = [one.opts[0] for one in command.params if one.param_type_name == "option"]
        assert [option for option in own if f"`{option}" not in row and option not in cli_doc._COMMON] == []


def test_a_page_without_a_place_for_a_command_is_told() -> None:
    with pytest.raises(ValueError, match="no place for import"):
        cli_doc.fill_in("# nothing")

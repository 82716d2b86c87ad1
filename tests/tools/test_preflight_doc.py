"""docs/preflight.md says what the table of rules does, and is kept true."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from vmferry.guest.rules import rules

ROOT = Path(__file__).resolve().parents[2]


def test_the_document_is_what_the_rules_say() -> None:
    tool = ROOT / "tools" / "preflight_doc.py"
    done = subprocess.run([sys.executable, tool, "--check"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_every_rule_has_a_row() -> None:
    document = (ROOT / "docs" / "preflight.md").read_text(encoding="utf-8")
    for rule in rules():
        assert f"| `{rule.id}` | " in document

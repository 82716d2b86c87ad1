"""docs/formats.md says what the code does: its tables are made from the registries, and kept true."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from vmferry import limits
from vmferry.formats import FORMATS

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools" / "formats_doc.py"


def test_the_document_is_what_the_code_says() -> None:
    done = subprocess.run([sys.executable, TOOL, "--check"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_every_format_and_every_limit_has_a_row() -> None:
    document = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    for name in FORMATS:
        assert f"| `{name}`: " in document
    for name in vars(limits):
        if name.startswith("MAX_"):
            assert f"| `{name}` | " in document

"""docs/quotas.md says what the code does: its table is made from quotas.py, and kept true."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from pathlib import Path

from vmferry.quotas import AWS, ImageBounds, Quotas

ROOT = Path(__file__).resolve().parents[2]


def test_the_document_is_what_the_code_says() -> None:
    command: list[str | Path] = [sys.executable, ROOT / "tools" / "quotas_doc.py", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_every_quota_has_a_row_with_what_it_is_of() -> None:
    rows = (ROOT / "docs" / "quotas.md").read_text(encoding="utf-8").partition("<!-- end quotas -->")[0].splitlines()
    for quota in fields(Quotas):
        held = getattr(AWS, quota.name)
        parts = [f".{part.name}" for part in fields(ImageBounds)] if isinstance(held, ImageBounds) else [""]
        for part in parts:
            (row,) = (row for row in rows if row.startswith(f"| `{quota.name}{part}` | "))
            assert row.endswith(". |")

"""The load test converts rightly however many processes share the work, and says what it measured."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).resolve().parents[2] / "tools" / "scaling.py"


@pytest.mark.slow
def test_processes_share_a_conversion() -> None:
    command = [sys.executable, str(TOOL), "--size", "64", "--delay", "0.01", "--processes", "1", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    rows = [line.split("|")[1].strip() for line in done.stdout.splitlines() if line.startswith("| ")]
    assert rows == ["processes", "1", "2", "8", "64"]
    assert "4 slices of 16 MiB" in done.stdout

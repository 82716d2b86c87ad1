"""What the benchmark says of a command is that command's alone."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from vmferry.errors import VmferryError
from vmferry.units import MIB

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
from bench_runs import timed


def test_the_memory_of_who_measures_does_not_count(tmp_path: Path) -> None:
    held = b"x" * (200 * MIB)
    assert timed(["true"], tmp_path / "out").peak_memory < 32 * MIB < len(held)


def test_a_command_is_measured_with_its_children(tmp_path: Path) -> None:
    taken = timed(["sh", "-c", "python3 -c 'b\"x\" * (64 << 20)'; sleep 0.2"], tmp_path / "out")
    assert taken.seconds >= 0.2
    assert taken.cpu_seconds > 0
    assert taken.peak_memory > 64 * MIB


@pytest.mark.parametrize("command", [["false"], ["a-program-that-is-not-there"], ["sh", "-c", "kill -9 $$"]])
def test_one_that_fails_is_an_error(command: list[str], tmp_path: Path) -> None:
    with pytest.raises(VmferryError, match=command[0]):
        timed(command, tmp_path / "out")

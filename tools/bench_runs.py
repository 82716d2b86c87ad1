"""What the benchmark measures, and how: programs in turns, their time, processor time and memory."""

from __future__ import annotations

import json
import math
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from programs import environment, run
from vmferry.errors import VmferryError, quote
from vmferry.units import KIB, MIB, format_size

MAX_MEMORY = 256 * MIB
_LAUNCHER = Path(__file__).with_name("bench_launch.py")
_OURS = ("vmferry", "16 GiB", "1 TiB")
"""The sides of a comparison that are vmferry."""


@dataclass(frozen=True, slots=True)
class Run:
    """One process, or the median of several."""

    seconds: float
    cpu_seconds: float
    peak_memory: int
    """Bytes."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two commands that do the same, or one command on two disks."""

    what: str
    left: str
    left_run: Run
    right: str
    right_run: Run
    at_least: float = 0.0
    """Bars for ``ratio``."""
    at_most: float = math.inf
    sizes: tuple[int, int] = (0, 0)
    """Bytes that the two have written."""
    size_at_most: float = math.inf
    """How many times what the right one has written the left one may write."""

    @property
    def held(self) -> bool:
        """Whether the bars were kept, vmferry's memory included."""
        ours = [run for name, run in ((self.left, self.left_run), (self.right, self.right_run)) if name in _OURS]
        dense = self.sizes[0] <= self.size_at_most * self.sizes[1] or not any(self.sizes)
        fast = self.at_least <= self.ratio <= self.at_most
        return fast and dense and all(run.peak_memory <= MAX_MEMORY for run in ours)

    @property
    def bar(self) -> str:
        """The bar for ``ratio``, in words."""
        bar = f"≥ {self.at_least:g}" if self.at_least else f"≤ {self.at_most:g}"
        return bar + (f", {self.size_at_most:g} × the bytes" if self.size_at_most < math.inf else "")

    @property
    def ratio(self) -> float:
        """How many times as long the right one took."""
        return self.right_run.seconds / self.left_run.seconds


@dataclass(frozen=True, slots=True)
class Figure:
    """One number that has a bar of its own."""

    what: str
    value: float
    """Seconds, bytes or percent."""
    unit: str
    """``s``, ``B`` or ``%``."""
    at_most: float

    @property
    def held(self) -> bool:
        """Whether the bar was kept."""
        return self.value <= self.at_most

    def __str__(self) -> str:
        def show(value: float) -> str:
            return format_size(int(value)) if self.unit == "B" else f"{value:.3g} {self.unit}"

        missed = "" if self.held else " (missed)"
        return f"{self.what}: {show(self.value)}{missed}; bar: {show(self.at_most)}"


def take_turns(left: Sequence[str], right: Sequence[str], out: Path, rounds: int) -> tuple[Run, Run]:
    """The medians of ``rounds`` runs of each command, in turns; one more of each goes before and is not counted."""
    pairs = [(timed(left, out), timed(right, out)) for _ in range(rounds + 1)][1:]
    return median([pair[0] for pair in pairs]), median([pair[1] for pair in pairs])


def timed(command: Sequence[str], out: Path, env: Mapping[str, str] | None = None) -> Run:
    """Run ``command``, which writes ``out``; no old output is there to be replaced. Raises ``VmferryError``."""
    out.unlink(missing_ok=True)
    said = run(sys.executable, "-I", "-S", _LAUNCHER, *command, env=env or installed(out.parent))
    seconds, cpu_seconds, peak_memory, status = json.loads(said)
    if status:
        raise VmferryError(f"{quote(' '.join(command))} failed with status {status}.")
    return Run(seconds, cpu_seconds, peak_memory * KIB)


def installed(folder: Path) -> dict[str, str]:
    """An environment in which Python finds its modules compiled, as they are once a package is installed."""
    env = {**environment(), "PYTHONPYCACHEPREFIX": str(folder / "pycache")}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    return env


def median(runs: Sequence[Run]) -> Run:
    return Run(
        round(statistics.median(taken.seconds for taken in runs), 3),
        round(statistics.median(taken.cpu_seconds for taken in runs), 3),
        max(taken.peak_memory for taken in runs),
    )


def say(what: str) -> None:
    """A line for whoever waits."""
    print(f"bench: {what}", file=sys.stderr, flush=True)

#!/usr/bin/env python3
"""Measure vmferry against qemu-img: same input, same machine, same output name, in turns, median of five.

bench.py [--json] [--size MIB] [--rounds N] [--quick]

The input is a file system full of this machine's own programs and documents, 1.8 GB of them unless ``--size`` (or
``BENCH_SIZE``) says otherwise; all of it lies in memory (``/dev/shm``). Times are those of whole processes, their start
included. What counts is the ratio; absolute times say more about the machine.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench_disks import make_file_system, make_sparse_disk, make_stream_optimized
from programs import environment, run
from vmferry.errors import VmferryError, quote
from vmferry.units import GIB, KIB, MIB, TIB, format_size

_VMFERRY = Path(sys.executable).with_name("vmferry")
_DEFAULT_SIZE_MIB = 1800
_QUICK_SIZE_MIB = 200
_MAX_MEMORY = 256 * MIB
_MAX_INSPECT = 16 * MIB


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

    @property
    def held(self) -> bool:
        """Whether the bars were kept, vmferry's memory included."""
        ours = [run for name, run in ((self.left, self.left_run), (self.right, self.right_run)) if name != "qemu-img"]
        return self.at_least <= self.ratio <= self.at_most and all(run.peak_memory <= _MAX_MEMORY for run in ours)

    @property
    def bar(self) -> str:
        """The bar for ``ratio``, in words."""
        return f"≥ {self.at_least:g}" if self.at_least else f"≤ {self.at_most:g}"

    @property
    def ratio(self) -> float:
        """How many times as long the right one took."""
        return self.right_run.seconds / self.left_run.seconds


@dataclass(frozen=True, slots=True)
class Inspected:
    """What ``vmferry inspect`` took."""

    seconds: float
    bytes_read: int


def main() -> int:
    """Run the benchmark. Answers the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    parser.add_argument("--size", type=int, default=int(os.environ.get("BENCH_SIZE", _DEFAULT_SIZE_MIB)), metavar="MIB")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="timed runs of each side [5]")
    parser.add_argument("--quick", action="store_true", help="200 MiB and one round: to see that it works, no figures")
    options = parser.parse_args()
    size, rounds = (_QUICK_SIZE_MIB, 1) if options.quick else (options.size, options.rounds)
    base = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="vmferry-bench-", dir=base) as folder:
        try:
            machine = describe_machine()
            comparisons, inspected = measure(Path(folder), size * MIB, rounds)
        except VmferryError as error:
            print(f"bench: {error}", file=sys.stderr)
            return 1
    if options.json:
        facts = [
            {
                **asdict(found),
                "at_most": None if found.at_least else found.at_most,
                "ratio": round(found.ratio, 2),
                "held": found.held,
            }
            for found in comparisons
        ]
        print(json.dumps({"machine": machine, "comparisons": facts, "inspect": asdict(inspected)}, indent=2))
    else:
        print_report(machine, comparisons, inspected)
        if options.quick:
            print("So small a disk shows that everything works, and no speed: starting takes most of the time.")
    held = all(found.held for found in comparisons) and inspected.bytes_read < _MAX_INSPECT
    return 0 if held or options.quick else 1


def describe_machine() -> dict[str, Any]:
    """What the figures depend on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": models[0] if models else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "qemu_img": run("qemu-img", "--version").split()[2],
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 1),
    }


def measure(folder: Path, size: int, rounds: int) -> tuple[list[Comparison], Inspected]:
    """Every comparison, and what ``inspect`` of a VMDK of 1 TiB takes."""
    say(f"collecting {format_size(size)} of files, and packing them as a streamOptimized VMDK (qemu-img, once)")
    raw = make_file_system(folder, size)
    stream = make_stream_optimized(folder, raw)
    comparisons = [
        compare(folder, stream, "vmdk", "raw", rounds, at_least=3),
        compare(folder, stream, "vmdk", "qcow2", rounds, at_least=3),
        compare(folder, raw, "raw", "qcow2", rounds, at_least=1),
    ]
    stream.unlink()
    say("making disks of 1 TiB and of 16 GiB with the same data")
    large, small = make_sparse_disk(folder, raw, TIB), make_sparse_disk(folder, raw, 16 * GIB)
    raw.unlink()
    comparisons.append(compare_sizes(folder, large, small, rounds))
    return comparisons, inspect(folder, large)


def inspect(folder: Path, disk: Path) -> Inspected:
    """``vmferry inspect`` of ``disk``; the second time, as the conversions are warmed up, too."""
    for _ in range(2):
        begun = time.monotonic()
        document = json.loads(run(_VMFERRY, "inspect", "--json", disk, env=_installed(folder)))
        seconds = time.monotonic() - begun
    return Inspected(round(seconds, 3), int(document["bytes_read"]))


def compare(
    folder: Path, source: Path, source_format: str, target_format: str, rounds: int, *, at_least: float
) -> Comparison:
    """``vmferry convert`` against ``qemu-img convert``, in turns; their results are compared in the end."""
    what = f"{source_format} → {target_format}"
    say(f"{what}: {rounds} rounds of both")
    out = folder / f"out.{target_format}"
    ours = [str(_VMFERRY), "convert", str(source), str(out)]
    theirs = ["qemu-img", "convert", "-f", source_format, "-O", target_format, str(source), str(out)]
    right, left = take_turns(theirs, ours, out, rounds)
    run("qemu-img", "compare", "-f", source_format, "-F", target_format, source, out)  # ours was the last
    out.unlink()
    return Comparison(what, "vmferry", left, "qemu-img", right, at_least=at_least)


def compare_sizes(folder: Path, large: Path, small: Path, rounds: int) -> Comparison:
    """``vmferry convert`` of a small disk against that of a large one with the same data."""
    say(f"cost of empty space: {rounds} rounds of both")
    out = folder / "out.qcow2"
    ours = [[str(_VMFERRY), "convert", str(source), str(out)] for source in (small, large)]
    left, right = take_turns(ours[0], ours[1], out, rounds)
    out.unlink()
    return Comparison("sparse vmdk → qcow2", "16 GiB", left, "1 TiB", right, at_most=1.3)


def take_turns(left: Sequence[str], right: Sequence[str], out: Path, rounds: int) -> tuple[Run, Run]:
    """The medians of ``rounds`` runs of each command, in turns; one more of each goes before and is not counted."""
    pairs = [(timed(left, out), timed(right, out)) for _ in range(rounds + 1)][1:]
    return _median([pair[0] for pair in pairs]), _median([pair[1] for pair in pairs])


def timed(command: Sequence[str], out: Path) -> Run:
    """Run ``command``, which writes ``out``; no old output is there to be replaced. Raises ``VmferryError``."""
    out.unlink(missing_ok=True)
    begun = time.monotonic()
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=_installed(out.parent)
    )
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise VmferryError(f"{quote(' '.join(command))} failed with status {process.returncode}.")
    return Run(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * KIB)


def _installed(folder: Path) -> dict[str, str]:
    """An environment in which Python finds its modules compiled, as they are once a package is installed."""
    env = {**environment(), "PYTHONPYCACHEPREFIX": str(folder / "pycache")}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    return env


def _median(runs: Sequence[Run]) -> Run:
    return Run(
        round(statistics.median(taken.seconds for taken in runs), 3),
        round(statistics.median(taken.cpu_seconds for taken in runs), 3),
        max(taken.peak_memory for taken in runs),
    )


def print_report(machine: dict[str, Any], comparisons: Sequence[Comparison], inspected: Inspected) -> None:
    """A Markdown table, as ``docs/benchmarks.md`` has it."""
    print(
        f"{machine['processor']}, {machine['cores']} cores; qemu-img {machine['qemu_img']}; Python "
        f"{machine['python']}; load before the start {machine['load']}.\n"
    )
    print("| what | | time | processor time | peak memory | ratio | bar |")
    print("|---|---|---|---|---|---|---|")
    for found in comparisons:
        for name, taken in ((found.left, found.left_run), (found.right, found.right_run)):
            first = name == found.left
            what, ratio, bar = (found.what, f"**{found.ratio:.2f}**", found.bar) if first else ("", "", "")
            missed = " (missed)" if first and not found.held else ""
            print(
                f"| {what} | {name} | {taken.seconds:.2f} s | {taken.cpu_seconds:.2f} s "
                f"| {format_size(taken.peak_memory)} | {ratio}{missed} | {bar} |"
            )
    print(
        f"\n`vmferry inspect` of the VMDK of 1 TiB read {format_size(inspected.bytes_read)} "
        f"in {inspected.seconds:.2f} s."
    )


def say(what: str) -> None:
    """A line for whoever waits."""
    print(f"bench: {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

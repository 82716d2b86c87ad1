#!/usr/bin/env python3
"""vmferry against qemu-img: the same disks, one machine, one run, taken in turns. What counts is the ratio.

The disks are made of real files of this machine and lie in memory (/dev/shm), so that no disk's speed is measured.
Both sides write to the same name; each is warmed up; the median of the rounds is shown. Whatever vmferry wrote is
compared with its source before anything is timed. Exit status 1: a bar was missed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench_disks import make_data_disk, make_sparse, make_stream_optimized
from programs import run
from vmferry.errors import VmferryError, quote
from vmferry.units import GIB, MIB, TIB, format_size

_VMFERRY = Path(sys.executable).with_name("vmferry")
_MIN_SPEEDUP = 3.0
_MAX_RSS = 256 * MIB
_MAX_EMPTY_SPACE = 1.3
_MAX_INSPECT = 16 * MIB


@dataclass(frozen=True, slots=True)
class Cost:
    """What a program took: medians over the rounds."""

    wall: float
    """Seconds, the program's start included."""
    cpu: float
    """Seconds of all cores, the kernel's included."""
    rss: int
    """Peak of resident memory in bytes; the maximum over the rounds."""


@dataclass(frozen=True, slots=True)
class Result:
    """One line of the report: ``ours`` against ``theirs``, whose ``ratio`` has to keep to ``bar``."""

    name: str
    ours: Cost
    theirs: Cost
    ratio: float
    bar: str
    held: bool


class Bench:
    """The disks and the rounds of one run."""

    def __init__(self, folder: Path, size: int, rounds: int) -> None:
        self._out = folder / "out"
        self._folder = folder
        self._size = size
        self._rounds = rounds

    def disk(self, name: str, make: Any, *arguments: Any) -> Path:
        """The disk ``name``, which ``make`` makes unless it lies there from the last time."""
        path = self._folder / name
        if not path.exists():
            _say(f"making {name}")
            partial = path.with_suffix(".partial")
            make(partial, *arguments)
            partial.replace(path)
        return path

    def results(self) -> list[Result]:
        """All measurements, one after the other."""
        raw = self.disk(f"data-{self._size}.raw", make_data_disk, self._size)
        vmdk = self.disk(f"data-{self._size}.vmdk", lambda path: make_stream_optimized(raw, path))
        results = [
            self._against_qemu("streamOptimized VMDK to raw", vmdk, "raw", _MIN_SPEEDUP),
            self._against_qemu("streamOptimized VMDK to qcow2", vmdk, "qcow2", _MIN_SPEEDUP),
            self._against_qemu("raw to qcow2", raw, "qcow2", 1.0),
        ]
        data = self._size * 10 // 9 // (8 * MIB) * 8 * MIB
        small, large = (
            self.disk(f"{name}-{data}.vmdk", lambda path, size=size: make_sparse(raw, path, data, size))
            for name, size in (("16gib", 16 * GIB), ("1tib", TIB))
        )
        return [*results, self._empty_space(f"1 TiB against 16 GiB, {format_size(data)} in both", large, small)]

    def inspect(self) -> dict[str, Any]:
        """What ``vmferry inspect`` of the 1 TiB disk reads and takes."""
        large = next(self._folder.glob("1tib-*.vmdk"))
        begun = time.perf_counter()
        document = json.loads(run(_VMFERRY, "inspect", large, "--json"))
        seconds = time.perf_counter() - begun
        read = int(document["bytes_read"])
        return {"seconds": seconds, "bytes_read": read, "held": read < _MAX_INSPECT and seconds < 1}

    def _against_qemu(self, name: str, source: Path, target: str, bar: float) -> Result:
        kind = "raw" if source.suffix == ".raw" else "vmdk"
        ours, theirs = self._compare(
            name,
            [str(_VMFERRY), "convert", str(source), str(self._out), "--to", target],
            ["qemu-img", "convert", "-f", kind, "-O", target, str(source), str(self._out)],
            ["qemu-img", "compare", "-f", kind, "-F", target, str(source), str(self._out)],
        )
        ratio = theirs.wall / ours.wall
        return Result(name, ours, theirs, ratio, f"at least {bar:g}", ratio >= bar and ours.rss <= _MAX_RSS)

    def _empty_space(self, name: str, large: Path, small: Path) -> Result:
        large_command, small_command = (
            [str(_VMFERRY), "convert", str(source), str(self._out), "--to", "qcow2"] for source in (large, small)
        )
        check = ["qemu-img", "compare", "-f", "vmdk", "-F", "qcow2", str(large), str(self._out)]
        ours, theirs = self._compare(name, large_command, small_command, check)
        ratio = ours.wall / theirs.wall
        held = ratio <= _MAX_EMPTY_SPACE and ours.rss <= _MAX_RSS
        return Result(name, ours, theirs, ratio, f"at most {_MAX_EMPTY_SPACE:g}", held)

    def _compare(self, name: str, ours: list[str], theirs: list[str], check: list[str]) -> tuple[Cost, Cost]:
        """Check what ``ours`` writes, warm up, then take turns."""
        _say(name)
        self._measure(theirs)
        self._measure(ours)
        run(*check)
        rounds = [(self._measure(ours), self._measure(theirs)) for _ in range(self._rounds)]
        self._out.unlink()
        return _median([ours for ours, _ in rounds]), _median([theirs for _, theirs in rounds])

    def _measure(self, command: list[str]) -> Cost:
        self._out.unlink(missing_ok=True)
        begun = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
        with process:
            if process.returncode:
                said = process.stderr.read().decode(errors="replace") if process.stderr else ""
                raise VmferryError(f"{quote(' '.join(command))} failed: {quote(said.strip())}")
        return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def _median(costs: Sequence[Cost]) -> Cost:
    return Cost(
        statistics.median(cost.wall for cost in costs),
        statistics.median(cost.cpu for cost in costs),
        max(cost.rss for cost in costs),
    )


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def _machine() -> dict[str, Any]:
    with Path("/proc/cpuinfo").open() as lines:
        models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": models[0] if models else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "qemu_img": run("qemu-img", "--version").splitlines()[0].removeprefix("qemu-img version "),
        "python": platform.python_version(),
        "load": os.getloadavg()[0],
    }


def _print_report(machine: dict[str, Any], results: Sequence[Result], inspected: dict[str, Any]) -> None:
    print(
        f"{machine['processor']}, {machine['cores']} cores; qemu-img {machine['qemu_img']}; "
        f"Python {machine['python']}; load when it began {machine['load']:.1f}\n"
    )
    print("| | ratio | bar | wall s | CPU s | peak RSS |\n|---|---|---|---|---|---|")
    for result in results:
        mark = "" if result.held else " **missed**"
        costs = [
            f"{result.ours.wall:.2f} / {result.theirs.wall:.2f}",
            f"{result.ours.cpu:.2f} / {result.theirs.cpu:.2f}",
            f"{format_size(result.ours.rss)} / {format_size(result.theirs.rss)}",
        ]
        print(f"| {result.name} | {result.ratio:.2f}× | {result.bar}{mark} | {' | '.join(costs)} |")
    mark = "" if inspected["held"] else " **missed**"
    print(
        f"\n`vmferry inspect` of the 1 TiB disk: {format_size(inspected['bytes_read'])} read, "
        f"{inspected['seconds']:.2f} s{mark}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=int, default=1800, help="data in the disks, in MB [1800]")
    parser.add_argument("--rounds", type=int, default=5, help="timed runs of each side [5]")
    parser.add_argument("--quick", action="store_true", help="200 MB and one round: to see that it works")
    parser.add_argument("--folder", type=Path, help="where the disks are made and kept [/dev/shm, removed at the end]")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    options = parser.parse_args()
    size, rounds = (200, 1) if options.quick else (options.size, options.rounds)
    if options.folder:
        options.folder.mkdir(parents=True, exist_ok=True)
    folder = options.folder or Path(tempfile.mkdtemp(prefix="vmferry-bench-", dir="/dev/shm"))
    machine = _machine()
    try:
        bench = Bench(folder, size * 1_000_000, rounds)
        results, inspected = bench.results(), bench.inspect()
    except VmferryError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    finally:
        (folder / "out").unlink(missing_ok=True)
        if not options.folder:
            shutil.rmtree(folder, ignore_errors=True)
    if options.json:
        document = {"machine": machine, "results": [asdict(result) for result in results], "inspect": inspected}
        print(json.dumps(document, indent=2))
    else:
        _print_report(machine, results, inspected)
    return 0 if inspected["held"] and all(result.held for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Measure vmferry against qemu-img: same input, same machine, same output name, in turns, median of five.

bench.py [--json] [--size MIB] [--rounds N] [--quick] [--pairs]

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
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from bench_cases import CASES, ROUNDS, Case, every_pair
from bench_disks import make_file_system, make_source, make_sparse_disk
from bench_prepare import measure_preparing
from bench_runs import Comparison, Figure, installed, median, say, take_turns, timed
from bench_service import measure_service
from programs import run
from vmferry.errors import VmferryError
from vmferry.units import GIB, MIB, TIB, format_size

_VMFERRY = Path(sys.executable).with_name("vmferry")
_LIMIT = Path(__file__).with_name("bench_limit.py")
_DEFAULT_SIZE_MIB = 1800
_QUICK_SIZE_MIB = 200
_MAX_INSPECT = 16 * MIB
_SERVICE = "service"
"""The word for ``--only`` that asks for what goes through a server."""
_PREPARE = "prepare"
"""The word for ``--only`` that asks for the preparing of a guest."""
_SERVICE_ROUNDS = 3
_MAX_START = 0.25
"""Seconds that `vmferry --help` may take."""


def main() -> int:
    """Run the benchmark. Answers the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    parser.add_argument("--size", type=int, default=int(os.environ.get("BENCH_SIZE", _DEFAULT_SIZE_MIB)), metavar="MIB")
    parser.add_argument(
        "--rounds", type=int, metavar="N", help="timed runs of each side [5; 9 of short ones, 3 of long ones]"
    )
    parser.add_argument("--quick", action="store_true", help="200 MiB and one round: to see that it works, no figures")
    parser.add_argument(
        "--only", default="", metavar="WORDS", help="only cases with one of these, between commas, in their name"
    )
    parser.add_argument("--pairs", action="store_true", help="only conversions, of every pair of formats; an hour")
    options = parser.parse_args()
    size, rounds = (_QUICK_SIZE_MIB, 1) if options.quick else (options.size, options.rounds or ROUNDS)
    only = options.only or ("→" if options.pairs else "")
    base = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="vmferry-bench-", dir=base) as folder:
        try:
            machine = describe_machine()
            cases = list(every_pair() if options.pairs else CASES)
            if rounds != ROUNDS:
                cases = [replace(case, rounds=min(rounds, case.rounds)) for case in cases]
            comparisons, figures = measure(Path(folder), size * MIB, cases, rounds, only)
        except VmferryError as error:
            print(f"bench: {error}", file=sys.stderr)
            return 1
    if options.json:
        facts = [
            {
                **asdict(found),
                "at_most": None if found.at_least else found.at_most,
                "size_at_most": None if math.isinf(found.size_at_most) else found.size_at_most,
                "ratio": round(found.ratio, 2),
                "held": found.held,
            }
            for found in comparisons
        ]
        singles = [{**asdict(figure), "held": figure.held} for figure in figures]
        print(json.dumps({"machine": machine, "comparisons": facts, "figures": singles}, indent=2))
    else:
        print_report(machine, comparisons, figures)
        if options.quick:
            print("So small a disk shows that everything works, and no speed: starting takes most of the time.")
    held = all(found.held for found in comparisons) and all(figure.held for figure in figures)
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


_QEMU_NAMES = {"vhd": "vpc"}


def measure(
    folder: Path, size: int, every: Sequence[Case], rounds: int, only: str
) -> tuple[list[Comparison], list[Figure]]:
    """Every comparison whose name has a part of ``only`` in it, and the figures that stand alone."""
    words = only.split(",")
    prepared = measure_preparing(folder, _VMFERRY, rounds) if not only or _PREPARE in words else ([], [])
    if words == [_PREPARE]:
        return prepared
    say(f"collecting {format_size(size)} of files in a raw disk")
    raw = make_file_system(folder, size)
    comparisons = prepared[0]
    cases = [case for case in every if any(word in case.what for word in words)]
    for source, group in groupby(cases, key=lambda case: case.source):
        say(f"making the {source} disk (qemu-img, once)")
        disk = make_source(folder, raw, source)
        for case in group:
            comparisons.append(compare(folder, disk, case))
            if case.limited:
                comparisons.append(compare_limit(folder, disk, rounds))
        if disk != raw:
            disk.unlink()
    if only and _SERVICE not in words:
        return comparisons, prepared[1]
    say("making disks of 1 TiB and of 16 GiB with the same data")
    large, small = make_sparse_disk(folder, raw, TIB), make_sparse_disk(folder, raw, 16 * GIB)
    if not only:
        comparisons.append(compare_sizes(folder, large, small, rounds))
    small.unlink()
    through_server, figures = measure_service(folder, raw, large, min(rounds, _SERVICE_ROUNDS))
    return comparisons + through_server, [*prepared[1], *figures, inspect(folder, large), start(folder, rounds)]


def inspect(folder: Path, disk: Path) -> Figure:
    """What ``vmferry inspect`` reads of ``disk``."""
    document = json.loads(run(_VMFERRY, "inspect", "--json", disk, env=installed(folder)))
    return Figure("bytes that `vmferry inspect` reads of a VMDK of 1 TiB", document["bytes_read"], "B", _MAX_INSPECT)


def start(folder: Path, rounds: int) -> Figure:
    """What the shortest command takes; the first call, which compiles the modules, is not counted."""
    runs = [timed([str(_VMFERRY), "--help"], folder / "no-output") for _ in range(rounds + 1)][1:]
    return Figure("`vmferry --help`", median(runs).seconds, "s", _MAX_START)


def compare(folder: Path, source: Path, case: Case) -> Comparison:
    """``vmferry convert`` against ``qemu-img convert``, in turns; their results are compared in the end."""
    say(f"{case.what}: {case.rounds} rounds of both")
    known = case.source.rpartition("-")[2]
    formats = _QEMU_NAMES.get(known, known), _QEMU_NAMES.get(case.target, case.target)
    out = folder / f"out.{case.target}"
    ours = [str(_VMFERRY), "convert", *case.ours, str(source), str(out)]
    theirs = ["qemu-img", "convert", "-f", formats[0], "-O", formats[1], *case.theirs, str(source), str(out)]
    right, left = take_turns(theirs, ours, out, case.rounds)
    run("qemu-img", "compare", "-f", formats[0], "-F", formats[1], source, out)  # ours was the last
    size = out.stat().st_blocks * 512
    timed(theirs, out)
    sizes = size, out.stat().st_blocks * 512
    out.unlink()
    return Comparison(
        case.what,
        "vmferry",
        left,
        "qemu-img",
        right,
        case.at_least,
        sizes=sizes,
        size_at_most=1.0 if case.no_larger else math.inf,
    )


def compare_limit(folder: Path, source: Path, rounds: int) -> Comparison:
    """``vmferry convert`` of a streamOptimized VMDK against a program that only inflates and writes its grains."""
    say(f"the limit: {rounds} rounds of both")
    out = folder / "out.raw"
    ours = [str(_VMFERRY), "convert", str(source), str(out)]
    left, right = take_turns([sys.executable, str(_LIMIT), str(source), str(out)], ours, out, rounds)
    out.unlink()
    return Comparison("vmdk → raw, nothing checked", "the limit", left, "vmferry", right, at_most=1.2)


def compare_sizes(folder: Path, large: Path, small: Path, rounds: int) -> Comparison:
    """``vmferry convert`` of a small disk against that of a large one with the same data."""
    say(f"cost of empty space: {rounds} rounds of both")
    out = folder / "out.qcow2"
    ours = [[str(_VMFERRY), "convert", str(source), str(out)] for source in (small, large)]
    left, right = take_turns(ours[0], ours[1], out, rounds)
    out.unlink()
    return Comparison("sparse vmdk → qcow2", "16 GiB", left, "1 TiB", right, at_most=1.3)


def print_report(machine: dict[str, Any], comparisons: Sequence[Comparison], figures: Sequence[Figure]) -> None:
    """A Markdown table, as ``docs/benchmarks.md`` has it."""
    print(
        f"{machine['processor']}, {machine['cores']} cores; qemu-img {machine['qemu_img']}; Python "
        f"{machine['python']}; load before the start {machine['load']}.\n"
    )
    print("| what | time | ratio | processor time | peak memory | file | bar |")
    print("|---|---|---|---|---|---|---|")
    for found in comparisons:
        left, right = found.left_run, found.right_run
        missed = "" if found.held else " (missed)"
        sizes = " / ".join(format_size(size) for size in found.sizes) if any(found.sizes) else "—"
        what = found.what if found.right == "qemu-img" else f"{found.what}: {found.left} / {found.right}"
        print(
            f"| {what} | {left.seconds:.2f} / {right.seconds:.2f} | **{found.ratio:.2f}**{missed} "
            f"| {left.cpu_seconds:.2f} / {right.cpu_seconds:.2f} "
            f"| {format_size(left.peak_memory)} / {format_size(right.peak_memory)} | {sizes} | {found.bar} |"
        )
    print()
    for figure in figures:
        print(f"- {figure}")


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Measure vmferry against qemu-img: same input, same machine, same output name, in turns, median of five.

bench.py [--json] [--size MIB] [--runs N]

The input is a file system full of this machine's own programs and documents, 1.8 GB of them unless ``--size`` (or
``BENCH_SIZE``) says otherwise; all of it lies in memory (``/dev/shm``). Times are those of whole processes, their start
included. What counts is the ratio; absolute times say more about the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from programs import environment, run
from vmferry.errors import VmferryError, quote
from vmferry.units import GIB, KIB, MIB, TIB, format_size

_VMFERRY = Path(sys.executable).with_name("vmferry")
_TREES = ("/usr/bin", "/usr/lib", "/usr/share")
_DEFAULT_SIZE_MIB = 1800
_SPREAD = 64
"""Pieces in which the sparse disks hold their data, evenly over the whole disk."""


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

    @property
    def ratio(self) -> float:
        """How many times as long the right one took."""
        return self.right_run.seconds / self.left_run.seconds


def main() -> int:
    """Run the benchmark. Answers the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    parser.add_argument("--size", type=int, default=int(os.environ.get("BENCH_SIZE", _DEFAULT_SIZE_MIB)), metavar="MIB")
    parser.add_argument("--runs", type=int, default=5, metavar="N")
    options = parser.parse_args()
    base = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="vmferry-bench-", dir=base) as folder:
        try:
            comparisons, read = measure(Path(folder), options.size * MIB, options.runs)
        except VmferryError as error:
            print(f"bench: {error}", file=sys.stderr)
            return 1
    if options.json:
        facts = [{**asdict(comparison), "ratio": round(comparison.ratio, 2)} for comparison in comparisons]
        print(json.dumps({"comparisons": facts, "inspect_bytes_read": read, "cores": os.cpu_count()}, indent=2))
    else:
        print_report(comparisons, read)
    return 0


def measure(folder: Path, size: int, runs: int) -> tuple[list[Comparison], int]:
    """Every comparison, and how many bytes ``inspect`` reads of a VMDK of 1 TiB."""
    raw = make_file_system(folder, size)
    stream = folder / "in.vmdk"
    say("packing it as a streamOptimized VMDK (qemu-img, once)")
    run("qemu-img", "convert", "-O", "vmdk", "-o", "subformat=streamOptimized", raw, stream)
    comparisons = [
        compare(folder, stream, "vmdk", "raw", runs),
        compare(folder, stream, "vmdk", "qcow2", runs),
        compare(folder, raw, "raw", "qcow2", runs),
    ]
    stream.unlink()
    large, small = make_sparse_disk(folder, raw, TIB), make_sparse_disk(folder, raw, 16 * GIB)
    raw.unlink()
    comparisons.append(compare_sizes(folder, large, small, runs))
    inspected = json.loads(run(_VMFERRY, "inspect", "--json", large))
    return comparisons, int(inspected["bytes_read"])


def make_file_system(folder: Path, size: int) -> Path:
    """A raw disk of twice ``size`` with an ext4 file system that holds about ``size`` bytes of real files."""
    say(f"collecting {format_size(size)} of files")
    tree = folder / "tree"
    left = size
    for number, source in enumerate(_real_files()):
        if left <= 0:
            break
        target = tree / f"{number // 500:04d}" / source.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        left -= target.stat().st_size
    raw = folder / "in.raw"
    run("mke2fs", "-q", "-t", "ext4", "-F", "-d", tree, raw, f"{max(2 * size, 64 * MIB) // KIB}k")
    shutil.rmtree(tree)
    return raw


def _real_files() -> Iterator[Path]:
    """Regular files of this machine, in an order that is the same each time."""
    for top in _TREES:
        for folder, folders, names in os.walk(top):
            folders.sort()
            for name in sorted(names):
                path = Path(folder, name)
                if path.is_file() and not path.is_symlink() and os.access(path, os.R_OK):
                    yield path


def make_sparse_disk(folder: Path, raw: Path, size: int) -> Path:
    """A monolithicSparse VMDK of ``size`` that holds what ``raw`` does, in pieces spread over all of it."""
    say(f"making a disk of {format_size(size)} with the same data")
    spread, out = folder / "spread.raw", folder / f"sparse-{size // GIB}.vmdk"
    piece = -(-raw.stat().st_size // _SPREAD // MIB) * MIB
    with raw.open("rb") as source, spread.open("wb") as target:
        target.truncate(size)
        for number in range(_SPREAD):
            target.seek(size // _SPREAD * number)
            for _ in range(piece // MIB):
                data = source.read(MIB)
                if data.count(0) == len(data):
                    target.seek(len(data), os.SEEK_CUR)
                else:
                    target.write(data)
    run("qemu-img", "convert", "-O", "vmdk", "-o", "subformat=monolithicSparse", spread, out)
    spread.unlink()
    return out


def compare(folder: Path, source: Path, source_format: str, target_format: str, runs: int) -> Comparison:
    """``vmferry convert`` against ``qemu-img convert``, in turns; their results are compared in the end."""
    what = f"{source_format} → {target_format}"
    say(f"{what}: {runs} runs of each")
    out = folder / f"out.{target_format}"
    ours = [str(_VMFERRY), "convert", str(source), str(out)]
    theirs = ["qemu-img", "convert", "-f", source_format, "-O", target_format, str(source), str(out)]
    left, right = take_turns(ours, theirs, out, runs)
    timed(ours, out)
    run("qemu-img", "compare", "-f", source_format, "-F", target_format, source, out)
    out.unlink()
    return Comparison(what, "vmferry", left, "qemu-img", right)


def compare_sizes(folder: Path, large: Path, small: Path, runs: int) -> Comparison:
    """``vmferry convert`` of a small disk against that of a large one with the same data."""
    say(f"cost of empty space: {runs} runs of each")
    out = folder / "out.qcow2"
    ours = [[str(_VMFERRY), "convert", str(source), str(out)] for source in (small, large)]
    left, right = take_turns(ours[0], ours[1], out, runs)
    out.unlink()
    return Comparison("sparse vmdk → qcow2", "16 GiB", left, "1 TiB", right)


def take_turns(left: Sequence[str], right: Sequence[str], out: Path, runs: int) -> tuple[Run, Run]:
    """The medians of ``runs`` runs of each command, in turns; one more of each goes before and is not counted."""
    pairs = [(timed(left, out), timed(right, out)) for _ in range(runs + 1)][1:]
    return _median([pair[0] for pair in pairs]), _median([pair[1] for pair in pairs])


def timed(command: Sequence[str], out: Path) -> Run:
    """Run ``command``, which writes ``out``; no old output is there to be replaced. Raises ``VmferryError``."""
    out.unlink(missing_ok=True)
    begun = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment())
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise VmferryError(f"{quote(' '.join(command))} failed with status {process.returncode}.")
    return Run(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * KIB)


def _median(runs: Sequence[Run]) -> Run:
    return Run(
        round(statistics.median(taken.seconds for taken in runs), 3),
        round(statistics.median(taken.cpu_seconds for taken in runs), 3),
        max(taken.peak_memory for taken in runs),
    )


def print_report(comparisons: Sequence[Comparison], read: int) -> None:
    """A Markdown table, as ``docs/benchmarks.md`` has it."""
    print("| what | | time | processor time | peak memory | ratio |")
    print("|---|---|---|---|---|---|")
    for comparison in comparisons:
        for name, taken in ((comparison.left, comparison.left_run), (comparison.right, comparison.right_run)):
            first = name == comparison.left
            what, ratio = (comparison.what, f"**{comparison.ratio:.2f}**") if first else ("", "")
            print(
                f"| {what} | {name} | {taken.seconds:.2f} s | {taken.cpu_seconds:.2f} s "
                f"| {format_size(taken.peak_memory)} | {ratio} |"
            )
    print(f"\n`vmferry inspect` of the VMDK of 1 TiB read {format_size(read)}.")


def say(what: str) -> None:
    """A line for whoever waits."""
    print(f"bench: {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

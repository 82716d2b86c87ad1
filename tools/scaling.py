#!/usr/bin/env python3
"""How one conversion gets faster with more processes, when the store and not the processor is what it waits for.

scaling.py [--size MIB] [--delay SECONDS] [--processes N …]

Slices of a disk are converted into one qcow2 by 1, 2 … processes, as workers do it, from a store whose every answer
comes ``--delay`` late. From the time of one process follows the model that ``docs/scaling.md`` speaks of; what it says
for more processes stands beside what was measured.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from programs import run
from vmferry.blob import FileBlob
from vmferry.convert import Slice, copy, plan_slices
from vmferry.formats.qcow2.layout import Layout
from vmferry.formats.qcow2.writer import Qcow2Writer
from vmferry.formats.raw import RawDisk
from vmferry.stores.local import LocalStore
from vmferry.units import MIB

_SLICE = 16 * MIB
"""Small slices: a small disk then has as many of them as a large one."""
_MODEL = (8, 64)
"""Numbers of processes that the model is asked about, and nobody tried here."""


class LateBlob:
    """A local file that answers as late as a far store."""

    def __init__(self, path: Path, delay: float) -> None:
        self._file = FileBlob(path)
        self._delay = delay
        self.size, self.name = self._file.size, self._file.name

    def read_at(self, offset: int, length: int) -> bytes:
        time.sleep(self._delay)
        return self._file.read_at(offset, length)

    def data_ranges(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        return self._file.data_ranges(start, end)

    def close(self) -> None:
        self._file.close()


def convert_slice(folder: Path, delay: float, piece: Slice) -> None:
    """What a worker does with a slice."""
    disk = RawDisk(LateBlob(folder / "disk.raw", delay))
    target = LocalStore(folder).resume("images", "disk.qcow2")
    copy(disk, Qcow2Writer(target, Layout(disk.size, disk.extents())), piece.start, piece.end, workers=2)
    target.detach()
    disk.close()


def convert(folder: Path, delay: float, processes: int) -> tuple[float, int]:
    """Convert all of the disk; answers the seconds that the slices took, and how many they were."""
    disk = RawDisk(FileBlob(folder / "disk.raw"))
    slices = plan_slices(disk.extents(), disk.size, Qcow2Writer.granularity, target=_SLICE)
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        list(pool.map(_start, range(processes)))  # they are there before the clock starts
        begun = time.monotonic()
        list(pool.map(convert_slice, [folder] * len(slices), [delay] * len(slices), slices))
        seconds = time.monotonic() - begun
    Qcow2Writer(LocalStore(folder).resume("images", "disk.qcow2"), Layout(disk.size, disk.extents())).finish()
    disk.close()
    run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", folder / "disk.raw", folder / "images" / "disk.qcow2")
    (folder / "images" / "disk.qcow2").unlink()
    return seconds, len(slices)


def _start(number: int) -> int:
    return number


def main() -> int:
    """Measure, and print a Markdown table. Answers the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--size", type=int, default=512, metavar="MIB", help="data of the disk [512]")
    parser.add_argument("--delay", type=float, default=0.1, metavar="SECONDS", help="of every read [0.1]")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2], metavar="N", help="[1 2]")
    options = parser.parse_args()
    base = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="vmferry-scaling-", dir=base) as name:
        folder = Path(name)
        with (folder / "disk.raw").open("wb") as disk:
            for _ in range(options.size):
                disk.write(os.urandom(MIB))
        print("| processes | measured | gain | the model |\n|---|---|---|---|")
        one, count = convert(folder, options.delay, 1)
        for processes in sorted({*options.processes, *_MODEL}):
            said = math.ceil(count / processes) * one / count
            if processes in options.processes:
                taken = one if processes == 1 else convert(folder, options.delay, processes)[0]
                print(f"| {processes} | {taken:.2f} s | {one / taken:.2f} | {said:.2f} s |")
            else:
                print(f"| {processes} | — | — | {said:.2f} s |")
        print(f"\n{count} slices of {_SLICE // MIB} MiB, every read {options.delay:g} s late.")
    return 0


if __name__ == "__main__":
    sys.exit(main())

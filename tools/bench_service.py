"""What the benchmark measures through a running server: an OVA in S3 that becomes an AMI, and what a task costs."""

from __future__ import annotations

import os
import shutil
import statistics
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench_calls import measure_calls
from bench_runs import Comparison, Figure, Run, installed, median, say, timed
from demo_server import BIN, client_environment, leftovers, start_server, stop_server
from programs import run
from vmferry.errors import VmferryError
from vmferry.units import KIB, MIB
from wrap_ova import wrap_ova

_BUCKET = "imports"
_MAX_TASK_SECONDS = 1.5
_MAX_ERROR = 10
"""Percent."""
_POLL_SECONDS = 0.05
_QUIET = 0.9
"""Of the time that an import took before: so long the next one is asked nothing. A question costs client and server 4
ms of the cores that convert."""
_TICKS = os.sysconf("SC_CLK_TCK")
_DOWNLOAD = """
set -e
aws s3 cp --only-show-errors "s3://$1/$2" "$3/$2"
tar -C "$3" -xf "$3/$2"
qemu-img convert -f vmdk -O qcow2 "$3"/*.vmdk "$3/out.qcow2"
"""
"""The usual way: the disk is written three times."""


@dataclass(frozen=True, slots=True)
class Bench:
    """A running server and what speaks to it."""

    data_dir: Path
    variables: Mapping[str, str]
    ec2: Any
    """boto3's client."""
    account_id: str

    def aws(self, *words: str | Path) -> str:
        """What the AWS CLI answers."""
        return run(BIN / "aws", *words, env=self.variables)

    def import_image(self, key: str, declared: str, quiet: float = 0) -> tuple[Run, int]:
        """Import an object into an AMI and remove that again; what it took, and how many bytes the images had.

        It is asked for the first time after ``quiet`` seconds.
        """
        disk = {"Format": declared, "UserBucket": {"S3Bucket": _BUCKET, "S3Key": key}}
        before, begun = self.processor_seconds(), time.monotonic()
        ids = [self.ec2.import_image(DiskContainers=[disk])["ImportTaskId"]]
        time.sleep(quiet)
        while (task := self._task(ids))["Status"] == "active":
            time.sleep(_POLL_SECONDS)
        taken = Run(time.monotonic() - begun, self.processor_seconds() - before, self._peak_memory())
        if task["Status"] != "completed":
            raise VmferryError(f"The import of {key} ended as {task['Status']}: {task.get('StatusMessage')}")
        written = allocated(self.data_dir / "images")
        self._remove(task)
        return taken, written

    def _remove(self, task: Mapping[str, Any]) -> None:
        self.ec2.deregister_image(ImageId=task["ImageId"])
        for detail in task["SnapshotDetails"]:
            self.ec2.delete_snapshot(SnapshotId=detail["SnapshotId"])

    def watch_estimate(self, key: str) -> float:
        """Import an OVA, and ask all the while how long it will take: the worst error after a tenth of the run.

        In hundredths of the run, which is the conversion's: nothing but that is estimated.
        """
        disk = {"Format": "OVA", "UserBucket": {"S3Bucket": _BUCKET, "S3Key": key}}
        ids = [self.ec2.import_image(DiskContainers=[disk])["ImportTaskId"]]
        guesses, begun, ended = [], 0.0, 0.0
        while (task := self._task(ids))["Status"] == "active":
            now = time.monotonic()
            if task["StatusMessage"].startswith("converting"):
                begun, ended = begun or now, now
                if (left := self._seconds_left()) is not None:
                    guesses.append((now, left))
            time.sleep(_POLL_SECONDS)
        self._remove(task)
        run = ended - begun
        return max(abs(at + left - ended) / run * 100 for at, left in guesses if at - begun >= run / 10)

    def _seconds_left(self) -> float | None:
        with urllib.request.urlopen(f"{self.variables['AWS_ENDPOINT_URL_EC2']}/metrics") as answer:
            lines = answer.read().decode().splitlines()
        values = [line.split()[-1] for line in lines if line.startswith("vmferry_task_seconds_left{")]
        return float(values[0]) if values else None

    def _task(self, ids: Sequence[str]) -> dict[str, Any]:
        (task,) = self.ec2.describe_import_image_tasks(ImportTaskIds=list(ids))["ImportImageTasks"]
        return dict(task)

    def processor_seconds(self) -> float:
        """Of the server and all its children, since they started."""
        total = 0
        for pid in leftovers(self.data_dir):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
        return total / _TICKS

    def _peak_memory(self) -> int:
        """Of the worker that took most, since it started."""
        peaks = [0]
        for pid in leftovers(self.data_dir):
            if b"\0worker\0" in Path(f"/proc/{pid}/cmdline").read_bytes():
                lines = Path(f"/proc/{pid}/status").read_text().splitlines()
                peaks += [int(line.split()[1]) * KIB for line in lines if line.startswith("VmHWM:")]
        return max(peaks)


def allocated(folder: Path) -> int:
    """Bytes that the files below ``folder`` take on their disk."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def measure_service(folder: Path, raw: Path, large: Path, rounds: int) -> tuple[list[Comparison], list[Figure]]:
    """An OVA of the disk ``raw``, the sparse VMDK ``large`` and a tiny disk, through a server of their own."""
    say(f"through a server: {rounds} rounds")
    tiny = folder / "tiny.raw"
    tiny.write_bytes(bytes(MIB - 512) + os.urandom(512))
    ova = folder / "machine.ova"
    wrap_ova(ova, [raw])
    with _running(folder) as bench:
        bench.aws("s3", "mb", f"s3://{_BUCKET}")
        for path in (tiny, ova, large):
            bench.aws("s3", "cp", "--only-show-errors", path, f"s3://{_BUCKET}/{path.name}")
        comparisons = [_compare_import(bench, folder, ova, rounds), _compare_inspect(bench, folder, large, rounds)]
        error = statistics.median(bench.watch_estimate(ova.name) for _ in range(rounds))
        tasks = [bench.import_image(tiny.name, "RAW")[0] for _ in range(rounds + 1)][1:]
        calls = measure_calls(bench.data_dir, bench.variables, bench.account_id)
    for path in (tiny, ova):
        path.unlink()
    return comparisons, [
        Figure("task that imports 1 MiB", median(tasks).seconds, "s", _MAX_TASK_SECONDS),
        Figure("worst error of the time left, of an import's conversion, after a tenth of it", error, "%", _MAX_ERROR),
        *calls,
    ]


@contextmanager
def _running(folder: Path) -> Iterator[Bench]:
    data_dir = folder / "server"
    compiled = installed(folder)
    server = start_server(data_dir, folder / "server.log", compiled)
    try:
        told = client_environment(data_dir)
        variables = {**compiled, **{key: told[key] for key in told if key.startswith("AWS_")}}
        variables["PATH"] = f"{BIN}:{variables['PATH']}"
        yield Bench(data_dir, variables, _connect(told), server.ready["account_id"])
    finally:
        stop_server(server.process, data_dir)
        shutil.rmtree(data_dir, ignore_errors=True)


def _connect(variables: Mapping[str, str]) -> Any:
    import boto3  # not before: a child process counts its parent's memory as its own peak

    return boto3.client(
        "ec2",
        endpoint_url=variables["AWS_ENDPOINT_URL_EC2"],
        region_name=variables["AWS_DEFAULT_REGION"],
        aws_access_key_id=variables["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=variables["AWS_SECRET_ACCESS_KEY"],
    )


def _compare_import(bench: Bench, folder: Path, ova: Path, rounds: int) -> Comparison:
    """Import the OVA against download, untar and ``qemu-img convert``, in turns."""
    pairs: list[tuple[Run, Run]] = []
    work = folder / "peer"
    command = ["bash", "-c", _DOWNLOAD, "bash", _BUCKET, ova.name, str(work)]
    for _ in range(rounds + 1):  # each side begins with the memory that the other's files have just let go of
        quiet = _QUIET * min((before.seconds for before, _ in pairs), default=0)
        ours, written = bench.import_image(ova.name, "OVA", quiet)
        work.mkdir()
        pairs.append((ours, _timed(bench, command, work / "out.qcow2")))
        sizes = written, allocated(work)
        shutil.rmtree(work)
    left, right = (median(runs) for runs in zip(*pairs[1:], strict=True))
    peer = "aws s3 cp, tar, qemu-img"
    return Comparison("OVA in S3 → AMI", "vmferry", left, peer, right, 3, sizes=sizes, size_at_most=0.5)


def _compare_inspect(bench: Bench, folder: Path, large: Path, rounds: int) -> Comparison:
    """``vmferry inspect`` of an object against one request by the AWS CLI, which tells nothing but its size."""
    ours = [str(BIN / "vmferry"), "inspect", f"s3://{_BUCKET}/{large.name}"]
    theirs = [str(BIN / "aws"), "s3api", "head-object", "--bucket", _BUCKET, "--key", large.name]
    none = folder / "no-output"
    pairs = [(_timed(bench, ours, none), _timed(bench, theirs, none)) for _ in range(rounds + 1)][1:]
    left, right = (median(runs) for runs in zip(*pairs, strict=True))
    return Comparison("inspect of 1 TiB in S3", "vmferry", left, "aws s3api head-object", right, 1)


def _timed(bench: Bench, command: Sequence[str], out: Path) -> Run:
    """As ``timed``, with the processor time of the store that answers."""
    before = bench.processor_seconds()
    taken = timed(command, out, bench.variables)
    store = bench.processor_seconds() - before
    return Run(taken.seconds, taken.cpu_seconds + store, taken.peak_memory)

#!/usr/bin/env python3
"""The demo: a real machine's way from an OVA through S3 to an AMI that boots, with unmodified AWS tools.

A Debian (or Ubuntu) guest is built and wrapped as VMware would; `vmferry serve` is started, `aws s3 cp` uploads the
OVA, plain `aws ec2 import-image` imports it, and then two things are proved: the AMI's disk is the source's, byte for
byte, and it boots to a login prompt. Exit status 0: all of it held. KEEP=1 leaves the server up.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from build_guest import cached_guest
from demo_server import BIN, Server, client_environment, start_server, stop_server
from programs import run
from vmferry.errors import ComputeError, VmferryError, quote
from vmferry.units import MIB, format_size
from wrap_ova import Hardware, wrap_ova

_BUILD = Path(__file__).resolve().parent.parent / "build" / "demo"
_BUCKET, _KEY = "imports", "guest.ova"
_IMPORT_SECONDS = 300.0
_LOGIN_PROMPT = "vmferry-guest login:"
_BOOT_SECONDS = 300
"""TCG on a loaded machine takes three times what it takes on an idle one."""


@dataclass(slots=True)
class Report:
    """The steps as they go by, and the table of them at the end."""

    console: Console
    rows: list[tuple[str, str, float, str]] = field(default_factory=list)

    @contextmanager
    def step(self, name: str) -> Iterator[list[str]]:
        """Time one step; the body appends what is worth telling to the list it gets."""
        self.console.print(f"[bold]•[/] {escape(name)}")
        start, facts, mark = time.monotonic(), list[str](), "[red]failed[/]"
        try:
            yield facts
            mark = "[green]ok[/]"
        finally:
            took = time.monotonic() - start
            self.rows.append((name, mark, took, "; ".join(facts)))
            self.say(f"{mark} {took:.1f} s  {escape('; '.join(facts))}")

    def say(self, markup: str) -> None:
        self.console.print(f"  {markup}", highlight=False)

    def print_table(self) -> None:
        table = Table("step", "", "seconds", "what", title="OVA → S3 → AMI → login prompt")
        table.columns[2].justify = "right"
        for name, mark, took, facts in self.rows:
            table.add_row(escape(name), mark, f"{took:.1f}", escape(facts))
        table.add_row("in all", "", f"{sum(row[2] for row in self.rows):.1f}", "", style="bold")
        self.console.print(table)


def wrap_cached(guest: Path) -> Path:
    """The guest as an OVA, kept below build/demo/ until the guest or the wrapper changes."""
    _BUILD.mkdir(parents=True, exist_ok=True)
    wrapper = sha256_of(Path(__file__).with_name("wrap_ova.py"))
    ova = _BUILD / f"{guest.stem}-{wrapper[:8]}.ova"
    if not ova.exists():
        for stale in _BUILD.glob("*.ova"):
            stale.unlink()
        wrap_ova(ova, [guest], Hardware("vmferry-guest", "bios", "scsi"))
    return ova


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def aws(env: dict[str, str], *words: str) -> str:
    """Run the AWS CLI as anybody would; its standard output."""
    return run(BIN / "aws", *words, env=env, timeout=300)


def import_image(env: dict[str, str], report: Report) -> dict[str, Any]:
    """``aws ec2 import-image``, then wait, telling each change; the completed task as EC2 describes it.

    Raises ``ComputeError`` when the import fails or does not end in time.
    """
    container = f"Format=ova,UserBucket={{S3Bucket={_BUCKET},S3Key={_KEY}}}"
    report.say(f"[dim]$ aws ec2 import-image --disk-containers '{escape(container)}'[/]")
    answer = aws(
        env, "ec2", "import-image", "--description", "demo", "--disk-containers", container, "--output", "json"
    )
    task_id = json.loads(answer)["ImportTaskId"]
    ec2 = boto3.client(
        "ec2",
        endpoint_url=env["AWS_ENDPOINT_URL_EC2"],
        region_name=env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION"),
        aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
    )
    end, last = time.monotonic() + _IMPORT_SECONDS, ""
    while time.monotonic() < end:
        try:
            task: dict[str, Any] = ec2.describe_import_image_tasks(ImportTaskIds=[task_id])["ImportImageTasks"][0]
        except (BotoCoreError, ClientError) as error:
            raise ComputeError(f"describe-import-image-tasks failed: {quote(error)}") from error
        state = f"{task['Status']} {task.get('StatusMessage', '')} {task.get('Progress', '')}".rstrip()
        if state != last:
            report.say(escape(f"{task_id} {state}" + (" %" if task.get("Progress") else "")))
            last = state
        if task["Status"] == "completed":
            return task
        if task["Status"] in ("deleting", "deleted"):
            raise ComputeError(f"{task_id} failed: {quote(task.get('StatusMessage', 'no reason given'))}")
        time.sleep(0.25)
    raise ComputeError(f"{task_id} did not end within {_IMPORT_SECONDS:.0f} s; last it was {quote(last)}.")


def describe_image(env: dict[str, str], image_id: str) -> str:
    """Check with ``aws ec2 describe-images`` that the AMI is there to be used; its snapshot's id."""
    images = json.loads(aws(env, "ec2", "describe-images", "--image-ids", image_id, "--output", "json"))["Images"]
    if len(images) != 1 or images[0]["State"] != "available":
        raise ComputeError(f"{image_id} is not one available image: {quote(images)}")
    devices = {device["DeviceName"]: device for device in images[0]["BlockDeviceMappings"]}
    return str(devices[images[0]["RootDeviceName"]]["Ebs"]["SnapshotId"])


def locate(snapshot_id: str, data_dir: Path) -> Path:
    """The snapshot's disk image: a qcow2 that needs no other file, so that any tool can read it."""
    path = Path(run(BIN / "vmferry", "snapshots", "locate", snapshot_id, "--data-dir", data_dir).strip())
    facts = json.loads(run("qemu-img", "info", "-f", "qcow2", "--output=json", path))
    if facts["format"] != "qcow2" or "backing-filename" in facts:
        raise ComputeError(f"{quote(path)} is not a qcow2 that stands alone.")
    return path


def guest_bytes_sha256(image: Path, scratch: Path) -> str:
    """SHA-256 of what the guest sees of ``image``, read by qemu-img."""
    raw = scratch / "ami.raw"
    run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", image, raw)
    try:
        return sha256_of(raw)
    finally:
        raw.unlink()


def prove(report: Report, image: Path, source: Future[str], pool: ThreadPoolExecutor, scratch: Path) -> None:
    """The AMI's disk is the source's, byte for byte, and it boots to its login prompt."""
    copied = pool.submit(guest_bytes_sha256, image, scratch)
    with report.step("boot the AMI's disk until its login prompt stands on the serial port") as facts:
        options = ("--bus", "virtio", "--expect", _LOGIN_PROMPT, "--seconds", str(_BOOT_SECONDS), "--json")
        booted = json.loads(run(BIN / "vmferry", "boot-check", image, *options))
        facts.append(f"“{_LOGIN_PROMPT}” after {booted['seconds']} s ({booted['accelerator']})")
    with report.step("compare the AMI's bytes with the source disk's (begun beside the boot)") as facts:
        if copied.result() != source.result():
            raise ComputeError(f"The AMI's disk is another: SHA-256 {copied.result()}, the source's {source.result()}.")
        facts.append(f"SHA-256 {source.result()[:16]}… both")


def go_the_way(report: Report, server: Server, ova: Path) -> Path:
    """From the OVA on disk to the AMI's disk image, by the tools that users of EC2 have."""
    with report.step('eval "$(vmferry env)"') as facts:
        env = client_environment(server.data_dir)
        facts.append(env["AWS_ENDPOINT_URL_EC2"])
    with report.step(f"aws s3 mb s3://{_BUCKET}; aws s3 cp {_KEY} s3://{_BUCKET}/") as facts:
        aws(env, "s3", "mb", f"s3://{_BUCKET}")
        aws(env, "s3", "cp", "--only-show-errors", str(ova), f"s3://{_BUCKET}/{_KEY}")
        facts.append(format_size(ova.stat().st_size))
    with report.step("aws ec2 import-image") as facts:
        task = import_image(env, report)
        facts.append(f"{task['ImportTaskId']} → {task['ImageId']}")
    with report.step("aws ec2 describe-images; vmferry snapshots locate") as facts:
        snapshot_id = describe_image(env, task["ImageId"])
        image = locate(snapshot_id, server.data_dir)
        facts.append(f"{task['ImageId']} available, {snapshot_id}, {format_size(image.stat().st_size)}")
    return image


def demonstrate(report: Report, scratch: Path, *, keep: bool) -> Server:
    """All steps in their order; the server is stopped at the end, however it comes, unless ``keep`` and all held."""
    with ThreadPoolExecutor(2) as pool:
        with report.step("build a guest from the distribution's packages") as facts:
            guest = cached_guest("demo")
            facts.append(f"{guest.stat().st_blocks * 512 // MIB} MiB of data on {format_size(guest.stat().st_size)}")
        source = pool.submit(sha256_of, guest)
        with report.step("wrap it as an OVA with a streamOptimized VMDK (qemu-img)") as facts:
            ova = wrap_cached(guest)
            facts.append(format_size(ova.stat().st_size))
        with report.step("vmferry serve") as facts:
            server = start_server(scratch / "data", scratch / "serve.log")
            facts.append(str(server.ready["endpoint"]))
        held = False
        try:
            image = go_the_way(report, server, ova)
            prove(report, image, source, pool, scratch)
            held = True
        finally:
            if not (keep and held):
                _stop(report, server, held=held)
    return server


def _stop(report: Report, server: Server, *, held: bool) -> None:
    with report.step("stop the server") as facts:
        early = server.process.poll()
        left = stop_server(server.process, server.data_dir)
        facts.append("nothing left running" if not left else f"had to kill {left}")
        if held and (left or early is not None):
            raise ComputeError(f"The server did not stop in order: ended early {early}, had to be killed {left}.")


def _say_how_to_go_on(console: Console, server: Server, scratch: Path) -> None:
    pid = server.process.pid
    console.print(
        f'The server is up. To go on with aws, boto3 or a browser:\n'
        f'  eval "$({BIN}/vmferry env --data-dir {server.data_dir})"\n'
        f"To stop it and remove everything:\n"
        f"  kill {pid}; tail --pid={pid} -f /dev/null; rm -r {scratch}",
        highlight=False, soft_wrap=True, markup=False,
    )  # fmt: skip


def keep_logs(scratch: Path) -> Path:
    """Save what the failed run said, before its folder goes."""
    logs = _BUILD / "failed"
    shutil.rmtree(logs, ignore_errors=True)
    logs.mkdir(parents=True)
    for name in ("serve.log", "serial.log"):
        if (scratch / name).exists():
            shutil.copy(scratch / name, logs)
    if (scratch / "data" / "log").is_dir():
        shutil.copytree(scratch / "data" / "log", logs / "server", dirs_exist_ok=True)
    return logs


def main() -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    keep = os.environ.get("KEEP", "") not in ("", "0")
    report = Report(Console())
    scratch = Path(tempfile.mkdtemp(prefix="vmferry-demo-"))
    failure, status, server = None, 1, None
    try:
        server = demonstrate(report, scratch, keep=keep)
        status = 0
    except VmferryError as error:
        failure = str(error)
    except (OSError, subprocess.SubprocessError, KeyError, ValueError) as error:
        failure = f"unexpected answer: {type(error).__name__}: {quote(error)}"
    except KeyboardInterrupt:
        failure, status = "interrupted", 130
    report.print_table()
    if failure is not None:
        logs = keep_logs(scratch)
        report.console.print(f"[red]demo: {escape(failure)}[/]\n  Logs: {logs}", highlight=False, soft_wrap=True)
    if server is not None and keep:
        _say_how_to_go_on(report.console, server, scratch)
    else:
        shutil.rmtree(scratch, ignore_errors=True)
    return status


if __name__ == "__main__":
    sys.exit(main())

"""A whole vmferry server for tests: the real command, its real children, boto3 and the AWS CLI as its clients."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, cast

import boto3
from botocore.config import Config

from vmferry.config import load_config
from vmferry.data_directory import snapshot_path

BIN = Path(sys.executable).parent
READY_SECONDS = 60
STOP_SECONDS = 10


class Server:
    """A running ``vmferry serve``, and clients that are signed with its first account's keys."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.ready: dict[str, Any] = {}
        self._uploaded: dict[tuple[str, str], tuple[Path, int]] = {}
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        command = [str(BIN / "vmferry"), "serve", "--data-dir", str(self.data_dir), "--port", "0"]
        with (self.data_dir / "serve.stderr").open("a") as errors:
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the server did not start: {(self.data_dir / 'serve.stderr').read_text()[-2000:]}"
        self.ready = json.loads(line)
        assert self.ready["ready"] is True

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def stop(self, number: signal.Signals = signal.SIGTERM) -> float:
        """Send ``number`` and answer how long it took until the server and all its children were gone."""
        assert self._process is not None
        assert self._process.stdout is not None
        family = [self.pid, *descendants(self.pid)]
        begun = time.monotonic()
        self._process.send_signal(number)
        self._process.wait(timeout=STOP_SECONDS + 20)
        self._process.stdout.close()
        while alive := [pid for pid in family if is_alive(pid)]:
            assert time.monotonic() - begun < STOP_SECONDS + 20, f"still there: {alive}"
            time.sleep(0.05)
        return time.monotonic() - begun

    def kill_everything(self) -> None:
        """SIGKILL to the server and every child at once, as a power cut would."""
        assert self._process is not None
        assert self._process.stdout is not None
        for pid in [*descendants(self.pid), self.pid]:
            if is_alive(pid):
                os.kill(pid, signal.SIGKILL)
        self._process.wait(timeout=10)
        self._process.stdout.close()

    @contextmanager
    def held_up(self, word: str = " worker ") -> Iterator[None]:
        """Meanwhile the children whose command line holds ``word`` do nothing: a task is where it is. Workers are taken
        for dead after ten seconds."""
        held = self.children(word)
        for pid in held:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in held:
                os.kill(pid, signal.SIGCONT)

    @contextmanager
    def amid_conversion(self) -> Iterator[None]:
        """A task that is cancelled here is so in the middle of its conversion: the object store hangs until the step
        has been told, which its next heartbeat does."""
        with self.held_up("bin/weed"):
            yield
            time.sleep(2)

    def children(self, word: str) -> list[int]:
        """The pids of the children whose command line holds ``word``."""
        return [pid for pid in descendants(self.pid) if word in command_line(pid)]

    @property
    def environment(self) -> dict[str, str]:
        """What ``vmferry env`` exports, for the AWS CLI."""
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
            "AWS_ENDPOINT_URL_EC2": self.ready["endpoint"],
            "AWS_ENDPOINT_URL_EBS": self.ready["endpoint"],
            "AWS_ENDPOINT_URL_S3": self.ready["s3_endpoint"],
            "AWS_ACCESS_KEY_ID": self.ready["access_key_id"],
            "AWS_SECRET_ACCESS_KEY": self.ready["secret_access_key"],
            "AWS_DEFAULT_REGION": self.ready["region"],
            "AWS_MAX_ATTEMPTS": "1",
        }

    def client(self, service: str, **options: Any) -> Any:
        """boto3's client, unmodified but for the endpoint."""
        endpoint = self.ready["s3_endpoint" if service == "s3" else "endpoint"]
        keys = {
            "aws_access_key_id": self.ready["access_key_id"],
            "aws_secret_access_key": self.ready["secret_access_key"],
            "region_name": self.ready["region"],
        }
        config = Config(retries={"total_max_attempts": 1}, signature_version="s3v4" if service == "s3" else None)
        return boto3.client(service, endpoint_url=endpoint, config=config, **{**keys, **options})

    def aws(self, *arguments: str) -> Any:
        """The AWS CLI's answer, parsed; its own error on failure."""
        done = self.run([str(BIN / "aws"), *arguments, "--output", "json"])
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout.strip().startswith(("{", "[")) else done.stdout

    def run(self, command: Sequence[str], seconds: float = 300) -> subprocess.CompletedProcess[str]:
        """Run a command with ``vmferry env``'s environment."""
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=seconds
        )

    def vmferry(self, *arguments: str, seconds: float = 300) -> subprocess.CompletedProcess[str]:
        return self.run([str(BIN / "vmferry"), *arguments], seconds)

    def upload(self, path: Path, bucket: str, key: str | None = None) -> str:
        """Put a file into a bucket, which is made when it is not there; answers the key. What was put there before and
        still is there is not sent again."""
        s3, key, version = self.client("s3"), key or path.name, (path, path.stat().st_mtime_ns)
        if bucket not in [b["Name"] for b in s3.list_buckets()["Buckets"]]:
            s3.create_bucket(Bucket=bucket)
        if (
            self._uploaded.get((bucket, key)) != version
            or not s3.list_objects_v2(Bucket=bucket, Prefix=key)["KeyCount"]
        ):
            s3.upload_file(str(path), bucket, key)
            self._uploaded[bucket, key] = version
        return key

    def import_image(self, *containers: dict[str, Any], **parameters: Any) -> str:
        """Start an import and answer the task's id."""
        answer = self.client("ec2").import_image(DiskContainers=list(containers), **parameters)
        return cast("str", answer["ImportTaskId"])

    def task(self, task_id: str) -> dict[str, Any]:
        tasks = self.client("ec2").describe_import_image_tasks(ImportTaskIds=[task_id])["ImportImageTasks"]
        return cast("dict[str, Any]", tasks[0])

    def follow(self, task_id: str, seconds: float = 120, pause: float = 0.1) -> Iterator[dict[str, Any]]:
        """The task as it changes, looked at every ``pause`` seconds, until it has ended."""
        limit = time.monotonic() + seconds
        while time.monotonic() < limit:
            task = self.task(task_id)
            yield task
            if task["Status"] in ("completed", "deleted"):
                return
            time.sleep(pause)
        raise AssertionError(f"{task_id} did not end within {seconds} s: {self.task(task_id)}")

    def wait(self, task_id: str, seconds: float = 120) -> dict[str, Any]:
        """The task when it has ended."""
        return list(self.follow(task_id, seconds, pause=0.25))[-1]

    def wait_for_progress(self, task_id: str, percent: int, seconds: float = 60) -> None:
        """Until the task's Progress has reached ``percent``; it must not end before."""
        for task in self.follow(task_id, seconds, pause=0.05):
            if int(task.get("Progress", 100)) >= percent:
                assert task["Status"] == "active", task
                return

    def locate(self, snapshot_id: str) -> Path:
        """The disk image of a snapshot, as ``vmferry snapshots locate`` says: it does no more than this."""
        return snapshot_path(load_config(self.data_dir), snapshot_id)

    def leftovers(self) -> list[Path]:
        """Every file below the images' folder."""
        return [path for path in (self.data_dir / "images").rglob("*") if path.is_file()]

    def settled(self, seconds: float = 120) -> set[Path]:
        """``leftovers``, once no import of an AMI or a snapshot that an earlier test has begun is on its way."""
        query = "SELECT id FROM import_image_task WHERE status IN ('active', 'deleting') AND kind != 'conversion-task'"
        limit = time.monotonic() + seconds
        with closing(sqlite3.connect(f"file:{self.data_dir / 'catalog.sqlite'}?mode=ro", uri=True)) as catalog:
            while left := catalog.execute(query).fetchall():
                assert time.monotonic() < limit, f"earlier tests left imports: {left}"
                time.sleep(0.1)
        return set(self.leftovers())


@contextmanager
def running_server(data_dir: Path) -> Iterator[Server]:
    """A server on ``data_dir``, stopped at the end however the test went."""
    data_dir.mkdir(parents=True, exist_ok=True)
    server = Server(data_dir)
    server.start()
    try:
        yield server
    finally:
        if is_alive(server.pid):
            server.stop()


def descendants(pid: int) -> list[int]:
    """The children of a process and theirs, from /proc."""
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        children = [int(child) for thread in threads for child in (thread / "children").read_text().split()]
    except OSError:
        return []
    return [found for child in children for found in (child, *descendants(child))]


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""

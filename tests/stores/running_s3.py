"""A real SeaweedFS for the tests of the S3 store."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vmferry.embedded import seaweedfs
from vmferry.embedded.ports import load_ports
from vmferry.embedded.seaweedfs import Identity, SeaweedFS
from vmferry.embedded.supervisor import Supervisor

ROOT = Identity("root", "ROOTKEY", "root-secret")
READER = Identity("reader", "READERKEY", "reader-secret", ("Read:bucket", "List:bucket"))
WRITER = Identity("writer", "WRITERKEY", "writer-secret", ("Write:bucket",))


@dataclass(frozen=True)
class RunningS3:
    """A SeaweedFS with the buckets ``bucket`` and ``versioned`` (which keeps no versions until a test asks for it)."""

    server: SeaweedFS
    supervisor: Supervisor

    @property
    def endpoint(self) -> str:
        return self.server.endpoint

    @property
    def pid(self) -> int:
        pid = self.supervisor.status()[0].pid
        assert pid is not None
        return pid

    def options(self, identity: Identity = ROOT, retry_seconds: float = 10) -> dict[str, str]:
        return {
            "endpoint": self.endpoint,
            "access_key_id": identity.access_key_id,
            "secret_access_key": identity.secret_access_key,
            "region": "us-east-1",
            "allow_http": "true",
            "retry_seconds": str(retry_seconds),
        }


@contextmanager
def running_s3(data_dir: Path) -> Iterator[RunningS3]:
    """A running SeaweedFS, stopped and removed at the end."""
    running = _start(data_dir)
    try:
        yield running
    finally:
        running.supervisor.stop()
        shutil.rmtree(data_dir, ignore_errors=True)


def _start(data_dir: Path) -> RunningS3:
    ports = load_ports(data_dir, seaweedfs.PORT_NAMES)
    server = SeaweedFS(data_dir, [ROOT, READER, WRITER], ports)
    supervisor = Supervisor([server.service()], data_dir / "run")
    supervisor.start()
    for bucket in ("bucket", "versioned"):
        server.ensure_bucket(bucket)
    return RunningS3(server, supervisor)

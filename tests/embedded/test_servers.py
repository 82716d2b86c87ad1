"""SeaweedFS and Temporal themselves, as ``vmferry serve`` runs them."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client, WorkflowExecutionStatus

from vmferry.embedded import seaweedfs, temporal
from vmferry.embedded.child import is_running
from vmferry.embedded.ports import check_free, load_ports
from vmferry.embedded.seaweedfs import Identity, SeaweedFS
from vmferry.embedded.supervisor import State, Status, Supervisor, end_leftovers
from vmferry.embedded.temporal import NAMESPACE, RETENTION, TemporalServer
from vmferry.errors import ConfigError, StoreError

pytestmark = pytest.mark.server

ROOT = Identity("root", "ROOTKEY", "root-secret")
ALICE = Identity("alice", "ALICEKEY", "alice-secret", ("Read:alice", "Write:alice", "List:alice"))


class Servers:
    """Both servers in one data directory."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.ports = load_ports(data_dir, [*seaweedfs.PORT_NAMES, *temporal.PORT_NAMES])
        self.weed = SeaweedFS(data_dir, [ROOT, ALICE], self.ports)
        self.temporal = TemporalServer(data_dir, self.ports)
        self.supervisor = Supervisor([self.weed.service(), self.temporal.service()], data_dir / "run")

    def status(self, name: str) -> Status:
        return next(status for status in self.supervisor.status() if status.name == name)

    def kill(self, name: str) -> None:
        """SIGKILL it, and wait until it is back."""
        before = self.status(name)
        assert before.pid is not None
        os.kill(before.pid, signal.SIGKILL)
        wait_for(
            lambda: self.status(name).restarts > before.restarts and self.status(name).state is State.READY, seconds=30
        )
        assert self.status(name).pid != before.pid

    def client(self, identity: Identity = ROOT) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.weed.endpoint,
            aws_access_key_id=identity.access_key_id,
            aws_secret_access_key=identity.secret_access_key,
            region_name="us-east-1",
            config=Config(retries={"max_attempts": 0}),
        )


def wait_for(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    data_dir = tmp_path_factory.mktemp("servers")
    running = Servers(data_dir)
    running.supervisor.start()
    yield running
    running.supervisor.stop()
    shutil.rmtree(data_dir, ignore_errors=True)


def test_all_listen_on_loopback_alone(servers: Servers) -> None:
    for status in servers.supervisor.status():
        sockets = {str(path.readlink()) for path in Path(f"/proc/{status.pid}/fd").iterdir() if path.is_symlink()}
        addresses = set()
        for table in ("tcp", "tcp6"):
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                columns = line.split()
                if columns[3] == "0A" and f"socket:[{columns[9]}]" in sockets:
                    addresses.add(columns[1].rpartition(":")[0])
        assert addresses == {"0100007F"}, status.name


def test_secrets_are_kept_from_others(servers: Servers) -> None:
    config = servers.data_dir / "seaweedfs" / "s3.json"
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert "alice-secret" in config.read_text()
    assert stat.S_IMODE(config.parent.stat().st_mode) == 0o700


def test_an_identity_may_do_what_its_actions_say(servers: Servers) -> None:
    for bucket in ("alice", "other"):
        servers.weed.ensure_bucket(bucket)
        servers.weed.ensure_bucket(bucket)
    alice = servers.client(ALICE)
    alice.put_object(Bucket="alice", Key="key", Body=b"content")
    assert alice.get_object(Bucket="alice", Key="key")["Body"].read() == b"content"
    with pytest.raises(ClientError, match="AccessDenied"):
        alice.put_object(Bucket="other", Key="key", Body=b"content")
    assert [bucket["Name"] for bucket in alice.list_buckets()["Buckets"]] == ["alice"]


def test_an_impossible_bucket_is_refused(servers: Servers) -> None:
    with pytest.raises(StoreError, match="InvalidBucketName"):
        servers.weed.ensure_bucket("A_B")


def test_identities_change_while_it_runs(servers: Servers) -> None:
    bob = Identity("bob", "BOBKEY", "bob-secret")
    pid = servers.status("seaweedfs").pid
    servers.weed.set_identities([ROOT, bob], servers.supervisor)

    def bob_may() -> bool:
        try:
            servers.client(bob).list_buckets()
        except ClientError:
            return False
        return True

    wait_for(bob_may, seconds=5)
    with pytest.raises(ClientError, match="InvalidAccessKeyId"):
        servers.client(ALICE).list_buckets()
    servers.weed.set_identities([ROOT, ALICE], servers.supervisor)
    wait_for(lambda: not bob_may(), seconds=5)
    servers.weed.ensure_bucket("after-change")  # our own key is never among those taken away
    assert servers.status("seaweedfs").pid == pid


def test_a_killed_s3_service_comes_back_with_its_objects(servers: Servers) -> None:
    servers.weed.ensure_bucket("kept")
    client = servers.client()
    content = os.urandom(9 << 20)
    client.put_object(Bucket="kept", Key="big", Body=content)
    for index in range(20):
        client.put_object(Bucket="kept", Key=f"small/{index}", Body=b"%d" % index)
    servers.kill("seaweedfs")

    def read() -> bool:
        try:
            return bool(client.get_object(Bucket="kept", Key="big")["Body"].read() == content)
        except (ClientError, BotoCoreError):
            return False  # it answers 500 for a moment

    wait_for(read, seconds=20)
    for index in range(20):
        assert client.get_object(Bucket="kept", Key=f"small/{index}")["Body"].read() == b"%d" % index


def test_a_killed_temporal_comes_back_with_its_workflows(servers: Servers) -> None:
    name = str(uuid.uuid4())

    async def start() -> None:
        client = await Client.connect(servers.temporal.address, namespace=NAMESPACE)
        await client.start_workflow("Import", id=name, task_queue="nobody-listens")

    async def status() -> WorkflowExecutionStatus | None:
        client = await Client.connect(servers.temporal.address, namespace=NAMESPACE)
        return (await client.get_workflow_handle(name).describe()).status

    asyncio.run(start())
    servers.kill("temporal")
    assert asyncio.run(status()) is WorkflowExecutionStatus.RUNNING


def test_histories_are_kept_for_days(servers: Servers) -> None:
    async def retention() -> object:
        client = await Client.connect(servers.temporal.address, namespace=NAMESPACE)
        found = await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace=NAMESPACE))
        return found.config.workflow_execution_retention_ttl.ToTimedelta()

    assert asyncio.run(retention()) == RETENTION


def test_taken_ports_are_said_while_it_runs(servers: Servers) -> None:
    with pytest.raises(ConfigError, match=f"process {servers.status('seaweedfs').pid} \\(weed\\)"):
        check_free(servers.ports, servers.data_dir)


@pytest.mark.slow
def test_all_is_kept_over_a_stop_which_is_quick(tmp_path: Path) -> None:
    first = Servers(tmp_path)
    first.supervisor.start()
    first.weed.ensure_bucket("kept")
    first.client().put_object(Bucket="kept", Key="key", Body=b"content")
    pids = [status.pid for status in first.supervisor.status()]
    stopping = time.monotonic()
    first.supervisor.stop()
    assert time.monotonic() - stopping < 8
    assert [pid for pid in pids if pid and is_running(pid)] == []
    check_free(first.ports, tmp_path)
    assert not [path for path in Path("/tmp").glob("seaweedfs-*") if re.search(_any_of(first.ports), path.name)]
    second = Servers(tmp_path)
    assert second.ports == first.ports
    second.supervisor.start()
    try:
        assert second.client().get_object(Bucket="kept", Key="key")["Body"].read() == b"content"
    finally:
        second.supervisor.stop()
    shutil.rmtree(tmp_path)


def _any_of(ports: dict[str, int]) -> str:
    return "|".join(f"-{port}\\." for port in ports.values())


PARENT = """
import json, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_servers import Servers
servers = Servers(Path(sys.argv[1]))
servers.supervisor.start()
print(json.dumps([status.pid for status in servers.supervisor.status()]), file=sys.stderr, flush=True)
time.sleep(1000)
"""


@pytest.mark.slow
def test_both_are_gone_when_their_parent_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "STRANGER")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "stranger-secret")
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path), str(Path(__file__).parent)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as parent:
        assert parent.stderr is not None
        pids = json.loads(parent.stderr.readline())
        assert all(is_running(pid) for pid in pids)
        stranger = Identity("stranger", "STRANGER", "stranger-secret")
        with pytest.raises(ClientError, match="InvalidAccessKeyId"):  # the parent's environment opens no door
            Servers(tmp_path).client(stranger).list_buckets()
        parent.kill()
        parent.wait()
    wait_for(lambda: not any(is_running(pid) for pid in pids), seconds=2)
    after = Servers(tmp_path)
    end_leftovers(tmp_path / "run")
    check_free(after.ports, tmp_path)
    after.supervisor.start()
    after.supervisor.stop()
    shutil.rmtree(tmp_path)

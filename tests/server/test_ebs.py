"""The EBS direct API of the running server, by a client that does as coldsnap does: threads, retries, any order."""

from __future__ import annotations

import base64
import hashlib
import random
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from tests.server.harness import Server, running_server
from tests.server.material import MIB, holds, make_disk, same_guest

pytestmark = [pytest.mark.server, pytest.mark.slow]

BLOCK = 512 * 1024
THREADS = 16
GIVE_UP_SECONDS = 120


class Client:
    """Uploads and downloads snapshots; a call that fails is repeated, at wherever the server is then."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._clients: dict[str, Any] = {}
        self._lock = threading.Lock()

    def call(self, operation: str, **arguments: Any) -> Any:
        """An answer's members; a body is read, for it may break off, too."""
        ends_at = time.monotonic() + GIVE_UP_SECONDS
        while True:
            try:
                answer = getattr(self._client(), operation)(**arguments)
                if "BlockData" in answer:
                    answer["BlockData"] = answer["BlockData"].read()
            except (BotoCoreError, OSError):
                if time.monotonic() > ends_at:
                    raise
                time.sleep(0.1)
            else:
                return answer

    def upload(self, disk: Path, size_gib: int) -> str:
        return self.complete(*self.put(disk, size_gib))

    def put(self, disk: Path, size_gib: int) -> tuple[str, int, str]:
        """Put a disk's blocks: the snapshot, how many they are, and their checksum."""
        data = disk.read_bytes()
        blocks = [(index, data[index * BLOCK : (index + 1) * BLOCK]) for index in range(len(data) // BLOCK)]
        blocks = [(index, part) for index, part in blocks if part.strip(b"\0")]
        token = str(uuid.uuid4())
        snapshot_id = self.call("start_snapshot", VolumeSize=size_gib, Timeout=10, ClientToken=token)["SnapshotId"]
        random.Random(1).shuffle(blocks)
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(lambda item: self._put(snapshot_id, *item), blocks))
        digests = b"".join(hashlib.sha256(part).digest() for _, part in sorted(blocks))
        return snapshot_id, len(blocks), base64.b64encode(hashlib.sha256(digests).digest()).decode()

    def complete(self, snapshot_id: str, count: int, checksum: str) -> str:
        self.call(
            "complete_snapshot",
            SnapshotId=snapshot_id,
            ChangedBlocksCount=count,
            Checksum=checksum,
            ChecksumAlgorithm="SHA256",
            ChecksumAggregationMethod="LINEAR",
        )
        return snapshot_id

    def download(self, snapshot_id: str, target: Path) -> None:
        with target.open("wb") as file, ThreadPoolExecutor(THREADS) as pool:
            for page in self._pages(snapshot_id):
                file.truncate(page["VolumeSize"] << 30)
                for index, data in pool.map(lambda block: self._get(snapshot_id, block), page["Blocks"]):
                    file.seek(index * BLOCK)
                    file.write(data)

    def _pages(self, snapshot_id: str) -> Iterator[dict[str, Any]]:
        page = self.call("list_snapshot_blocks", SnapshotId=snapshot_id, MaxResults=100)
        yield page
        while token := page.get("NextToken"):
            page = self.call("list_snapshot_blocks", SnapshotId=snapshot_id, MaxResults=100, NextToken=token)
            yield page

    def _put(self, snapshot_id: str, index: int, part: bytes) -> None:
        checksum = base64.b64encode(hashlib.sha256(part).digest()).decode()
        self.call(
            "put_snapshot_block",
            SnapshotId=snapshot_id,
            BlockIndex=index,
            BlockData=part,
            DataLength=len(part),
            Checksum=checksum,
            ChecksumAlgorithm="SHA256",
        )

    def _get(self, snapshot_id: str, block: dict[str, Any]) -> tuple[int, bytes]:
        index, token = block["BlockIndex"], block["BlockToken"]
        answer = self.call("get_snapshot_block", SnapshotId=snapshot_id, BlockIndex=index, BlockToken=token)
        data = bytes(answer["BlockData"])
        assert base64.b64encode(hashlib.sha256(data).digest()).decode() == answer["Checksum"]
        return index, data

    def _client(self) -> Any:
        with self._lock:
            endpoint = self._server.ready["endpoint"]
            if endpoint not in self._clients:
                self._clients[endpoint] = self._server.client("ebs")
            return self._clients[endpoint]


def killed_meanwhile(server: Server, work: Callable[[], Any], after: Callable[[], bool]) -> Any:
    """What ``work`` answers, in whose middle, once ``after`` says so, the server is killed and started again."""
    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(work)
        while not (result.done() or after()):
            time.sleep(0.02)
        assert not result.done(), f"it ended before the server could be killed: {result.result()}"
        server.stop(signal.SIGKILL)
        assert not result.done()
        server.start()
        return result.result(timeout=GIVE_UP_SECONDS)


def test_a_snapshot_goes_up_and_down_while_the_server_is_killed(tmp_path: Path) -> None:
    disk = make_disk(tmp_path / "disk.raw", 1024, 100)
    with running_server(tmp_path / "data") as server:
        client, images = Client(server), server.data_dir / "images"

        def put() -> int:
            return sum(path.stat().st_blocks * 512 for path in images.rglob("*.partial"))

        snapshot_id = killed_meanwhile(server, lambda: client.upload(disk, 1), lambda: put() > 20 * MIB)
        server.client("ec2").get_waiter("snapshot_completed").wait(
            SnapshotIds=[snapshot_id], WaiterConfig={"Delay": 1, "MaxAttempts": 60}
        )
        assert holds(server, snapshot_id, disk)
        back = tmp_path / "back.raw"

        def got() -> bool:
            return back.exists() and back.stat().st_blocks * 512 > 10 * MIB

        killed_meanwhile(server, lambda: client.download(snapshot_id, back), got)
        assert same_guest(server.locate(snapshot_id), back)
        assert [path.name for path in server.leftovers()] == [f"{snapshot_id}.qcow2"]
        listed = server.aws("ebs", "list-snapshot-blocks", "--snapshot-id", snapshot_id, "--max-results", "100")
        assert listed["BlockSize"] == BLOCK
        check_deletion(server, client)


def check_deletion(server: Server, client: Client) -> None:
    """A pending snapshot that is deleted leaves nothing, and what a killed server has left goes at the next start."""
    before = server.leftovers()
    pending = client.call("start_snapshot", VolumeSize=1)["SnapshotId"]
    assert len(server.leftovers()) == len(before) + 2
    server.client("ec2").delete_snapshot(SnapshotId=pending)
    assert server.leftovers() == before
    with pytest.raises(ClientError, match="does not exist"):
        client.call("list_snapshot_blocks", SnapshotId=pending)
    orphan = before[0].with_name("snap-0.qcow2.parent")
    orphan.hardlink_to(before[0])
    orphan.with_name(".snap-0.qcow2.blocks.partial").touch()
    kept = client.call("start_snapshot", VolumeSize=1)["SnapshotId"]
    server.stop(signal.SIGKILL)
    server.start()
    names = {path.name for path in server.leftovers()}
    assert names == {before[0].name, f".{kept}.qcow2.partial", f".{kept}.qcow2.blocks.partial"}

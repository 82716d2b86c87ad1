"""A gateway with EC2 and the EBS direct API over one catalog and one folder of images; tasks are done by who asks."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.config import Config as BotoConfig
from temporalio.testing import ActivityEnvironment

from tests.ec2.running_gateway import ACCOUNT, REGIONS, Endpoint, run_gateway
from vmferry.catalog import Catalog, open_catalog
from vmferry.catalog.places import Place
from vmferry.catalog.snapshots import COMPLETED, Snapshot
from vmferry.config import Config
from vmferry.convert import digest_disk
from vmferry.ebs.gateway import EbsFrontEnd
from vmferry.ebs.services import Services as EbsServices
from vmferry.ebs.tokens import load_token_key
from vmferry.ec2.actions import ACTIONS
from vmferry.ec2.services import Services as Ec2Services
from vmferry.extent import Extent, ExtentKind
from vmferry.formats import FORMATS, open_disk
from vmferry.formats.qcow2.layout import Layout
from vmferry.formats.qcow2.writer import Qcow2Writer
from vmferry.quotas import AWS, Quotas
from vmferry.snapshot_blocks import EBS_BLOCK_SIZE
from vmferry.stores import STORES
from vmferry.stores.local import LocalStore
from vmferry.tasks import Services as TaskServices
from vmferry.tasks.complete_snapshot.activities import CompleteSnapshotActivities

ROOMY = replace(AWS, snapshot_gib=2048)
PLACE = Place("us-east-1", ACCOUNT)


@dataclass
class House:
    """The server's parts, and clients of it."""

    folder: Path
    catalog: Catalog
    images: LocalStore
    ahead: timedelta = timedelta()
    """How far the clock of the EBS direct API is ahead."""
    works: bool = True
    """Whether tasks are done as soon as they are recorded."""
    endpoint: Endpoint = field(init=False)
    ebs_services: EbsServices = field(init=False)
    activities: CompleteSnapshotActivities = field(init=False)

    @property
    def ebs(self) -> Any:
        return self.endpoint.client("ebs")

    @property
    def rude(self) -> Any:
        """A client that lets everything through to the server."""
        config = BotoConfig(retries={"total_max_attempts": 1}, parameter_validation=False)
        return self.endpoint.client("ebs", config=config)

    @property
    def ec2(self) -> Any:
        return self.endpoint.client("ec2")

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def work(self) -> None:
        """Do the tasks that are recorded, as the dispatcher and a worker would."""
        uploads = self.catalog.snapshot_uploads
        while self.works and (waiting := uploads.undispatched()):
            for snapshot_id in waiting:
                uploads.mark_dispatched(snapshot_id)
                ActivityEnvironment().run(self.activities.make_snapshot, snapshot_id)

    def path(self, snapshot_id: str) -> Path:
        snapshot = self.catalog.snapshots.find(snapshot_id)
        assert snapshot is not None
        return Path(self.images.locate(snapshot.bucket, snapshot.key))

    def files(self) -> set[str]:
        return {path.name for path in (self.folder / "images").rglob("*") if path.is_file()}

    def state(self, snapshot_id: str) -> dict[str, Any]:
        (snapshot,) = self.ec2.describe_snapshots(SnapshotIds=[snapshot_id])["Snapshots"]
        return dict(snapshot)

    def put(self, snapshot_id: str, index: int, data: bytes, **more: Any) -> dict[str, Any]:
        return dict(self.ebs.put_snapshot_block(**put_arguments(snapshot_id, index, data), **more))

    def make(self, blocks: Mapping[int, bytes], size_gib: int = 1, **more: Any) -> str:
        """A completed snapshot with ``blocks``."""
        snapshot_id = str(self.ebs.start_snapshot(VolumeSize=size_gib, **more)["SnapshotId"])
        for index, data in blocks.items():
            self.put(snapshot_id, index, data)
        self.ebs.complete_snapshot(SnapshotId=snapshot_id, ChangedBlocksCount=len(blocks))
        return snapshot_id

    def listed(self, snapshot_id: str, **more: Any) -> dict[int, str]:
        """Every block that is listed, with its token."""
        pages = self.ebs.list_snapshot_blocks, {"SnapshotId": snapshot_id, **more}
        return {block["BlockIndex"]: block["BlockToken"] for page in follow(*pages) for block in page["Blocks"]}

    def read(self, snapshot_id: str) -> dict[int, bytes]:
        """Every block that is listed, read and held against its checksum."""
        return {index: self.get(snapshot_id, index, token) for index, token in self.listed(snapshot_id).items()}

    def get(self, snapshot_id: str, index: int, token: str) -> bytes:
        answer = self.ebs.get_snapshot_block(SnapshotId=snapshot_id, BlockIndex=index, BlockToken=token)
        data = bytes(answer["BlockData"].read())
        assert (answer["DataLength"], answer["ChecksumAlgorithm"]) == (EBS_BLOCK_SIZE, "SHA256")
        assert answer["Checksum"] == checksum(data)
        return data

    def changed(self, first: str, second: str, **more: Any) -> list[dict[str, Any]]:
        arguments = {"FirstSnapshotId": first, "SecondSnapshotId": second, **more}
        return [block for page in follow(self.ebs.list_changed_blocks, arguments) for block in page["ChangedBlocks"]]

    def imported(self, data: Mapping[int, bytes], size: int, snapshot_id: str) -> str:
        """A snapshot as an import makes it: ``data`` by guest offset, in a disk of ``size`` bytes."""
        extents = [Extent(offset, len(part), ExtentKind.DATA) for offset, part in sorted(data.items())]
        key = f"{ACCOUNT}/{snapshot_id}.qcow2"
        writer = Qcow2Writer(self.images.create("us-east-1", key), Layout(size, extents))
        for offset, part in data.items():
            writer.write_at(offset, part)
        writer.finish()
        disk = open_disk(self.images.open("us-east-1", key), FORMATS["qcow2"])
        digest = digest_disk(disk)
        disk.close()
        made = Snapshot(snapshot_id, PLACE, COMPLETED, size, None, self.now(), "us-east-1", key, "import-ami-1", digest)
        self.catalog.snapshots.begin(made)
        return snapshot_id


def follow(call: Any, arguments: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All pages."""
    page = call(**arguments)
    yield page
    while token := page.get("NextToken"):
        page = call(**arguments, NextToken=token)
        yield page


def checksum(data: bytes) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


def put_arguments(snapshot_id: str, index: int, data: bytes) -> dict[str, Any]:
    return {
        "SnapshotId": snapshot_id,
        "BlockIndex": index,
        "BlockData": data,
        "DataLength": len(data),
        "Checksum": checksum(data),
        "ChecksumAlgorithm": "SHA256",
    }


def block(seed: int | None = None) -> bytes:
    """A block of random bytes; the same for the same ``seed``."""
    return os.urandom(EBS_BLOCK_SIZE) if seed is None else hashlib.shake_128(b"%d" % seed).digest(EBS_BLOCK_SIZE)


def refusal(call: Any, **arguments: Any) -> tuple[str, str | None]:
    """The exception that botocore makes of an answer, and its reason."""
    with pytest.raises(call.__self__.exceptions.ClientError) as caught:
        call(**arguments)
    assert type(caught.value).__name__ == caught.value.response["Error"]["Code"]
    return type(caught.value).__name__, caught.value.response.get("Reason")


@contextmanager
def running_house(folder: Path, quotas: Quotas = ROOMY) -> Iterator[House]:
    """Everything over an empty catalog in ``folder``."""
    catalog = open_catalog(f"sqlite:///{folder / 'catalog.sqlite'}")
    catalog.migrate()
    images = LocalStore(folder / "images")
    house = House(folder, catalog, images)
    config = Config(data_dir=folder)
    objects = STORES["memory"].connect({})
    house.activities = CompleteSnapshotActivities(TaskServices(config, catalog, lambda _: objects, images))
    house.ebs_services = EbsServices(
        catalog=catalog,
        images=images,
        token_key=load_token_key(config.token_key_path),
        wake=house.work,
        quotas=quotas,
        clock=house.now,
    )
    ec2 = Ec2Services(REGIONS, catalog, lambda _: objects, None, images, AWS, lambda: None)
    with run_gateway(ACTIONS, ec2, EbsFrontEnd(house.ebs_services)) as house.endpoint:
        yield house
    catalog.close()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """One for a test alone."""
    with running_house(tmp_path) as running:
        yield running


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One in which nothing ever happens."""
    with running_house(tmp_path_factory.mktemp("quiet")) as running:
        yield running
        assert running.files() == set()
        assert running.ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"] == []

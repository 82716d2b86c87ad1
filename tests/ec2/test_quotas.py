"""What requests ask for against the server's quotas, in both profiles: the last that goes, and the first refused."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.ec2.material import HERE, make_image, make_snapshot
from tests.ec2.running_gateway import ACCOUNT, KEY, REGIONS, SECRET, run_gateway
from tests.test_import_manifest import make_manifest
from vmferry.catalog import open_catalog
from vmferry.catalog.accounts import AccessKey
from vmferry.catalog.snapshots import COMPLETED, Snapshot
from vmferry.ec2.actions import ACTIONS
from vmferry.ec2.copy_counter import CopyCounter
from vmferry.ec2.errors import Ec2Error
from vmferry.ec2.ids import new_id
from vmferry.ec2.services import Services
from vmferry.import_manifest import render_manifest
from vmferry.quotas import AWS, PROFILES, Quotas
from vmferry.stores.local import LocalStore
from vmferry.units import GIB, TIB

pytestmark = pytest.mark.slow

VMDK = {"Format": "VMDK", "Bytes": 1 << 20, "ImportManifestUrl": "s3://imports/none.manifest.xml"}
both_profiles = pytest.mark.parametrize("quotas", PROFILES.values(), ids=PROFILES)


@dataclass(frozen=True)
class House:
    """A gateway with quotas of its own; its objects are files, which may have holes."""

    ec2: Any
    services: Services
    objects: Path

    def put(self, key: str, content: bytes = b"", size: int | None = None) -> dict[str, str]:
        """An object in the bucket, as large as is said; where it is."""
        path = self.objects / "imports" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.write(content)
            file.truncate(len(content) if size is None else size)
        return {"S3Bucket": "imports", "S3Key": key}


@contextmanager
def opened(folder: Path, quotas: Quotas) -> Iterator[House]:
    with ExitStack() as life:
        catalog = open_catalog(f"sqlite:///{folder / 'catalog.sqlite'}")
        life.callback(catalog.close)
        catalog.migrate()
        catalog.accounts.add(AccessKey(KEY, SECRET, ACCOUNT))
        objects = LocalStore(folder / "objects")
        images = LocalStore(folder / "images")
        services = Services(REGIONS, catalog, lambda _: objects, None, images, quotas, lambda: None)
        endpoint = life.enter_context(run_gateway(ACTIONS, services))
        yield House(endpoint.client(), services, folder / "objects")


def refusal(call: Callable[..., Any], **parameters: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


@both_profiles
def test_a_raw_object_that_is_too_large_is_refused_when_it_is_asked_for(tmp_path: Path, quotas: Quotas) -> None:
    quotas = replace(
        quotas, import_image=replace(quotas.import_image, size_gib=min(quotas.import_image.size_gib, 8192))
    )
    with opened(tmp_path, quotas) as house:
        most = 8 * TIB
        fits, large = house.put("fits.raw", size=most), house.put("large.raw", size=most + 512)
        house.ec2.import_image(DiskContainers=[{"Format": "RAW", "UserBucket": fits}])
        code, message = refusal(house.ec2.import_image, DiskContainers=[{"Format": "raw", "UserBucket": large}])
        assert code == "DiskImageSizeTooLarge"
        assert "as the object's size says; at most 8,192 GiB" in message
        asked = {"DiskContainer": {"Format": "RAW", "UserBucket": large}}
        if quotas.import_snapshot.size_gib > 8192:
            house.ec2.import_snapshot(**asked)
        else:
            assert refusal(house.ec2.import_snapshot, **asked)[0] == "DiskImageSizeTooLarge"


@both_profiles
def test_formats_are_the_profile_s(tmp_path: Path, quotas: Quotas) -> None:
    with opened(tmp_path, quotas) as house:
        place = house.put("disk", b"disk")
        for name in ("OVA", "RAW", "VHD", "VHDX", "VMDK", "QCOW2", "VDI", "XVA", "ISO"):
            asked = {"DiskContainers": [{"Format": name, "UserBucket": place}]}
            if name in quotas.import_image.formats:
                house.ec2.import_image(**asked)
            else:
                assert refusal(house.ec2.import_image, **asked)[0] == "InvalidParameter"
        for name in ("RAW", "VHD", "VHDX", "VMDK", "QCOW2"):
            wanted = {"DiskContainer": {"Format": name, "UserBucket": place}}
            if name in quotas.import_snapshot.formats:
                house.ec2.import_snapshot(**wanted)
            else:
                assert refusal(house.ec2.import_snapshot, **wanted)[0] == "InvalidParameter"
        image = {**VMDK, "Format": "VHDX"}
        volume = {"AvailabilityZone": "us-east-1a", "Image": image, "Volume": {"Size": 1}}
        assert refusal(house.ec2.import_volume, **volume)[0] == "InvalidFormat"


@both_profiles
def test_a_machine_has_no_more_disks_than_the_profile_says(tmp_path: Path, quotas: Quotas) -> None:
    with opened(tmp_path, quotas) as house:
        container = {"Format": "VMDK", "UserBucket": house.put("disk", b"disk")}
        disk = {"Image": VMDK, "Volume": {"Size": 1}}
        house.ec2.import_image(DiskContainers=[container] * quotas.disks)
        house.ec2.import_instance(Platform="Linux", DiskImages=[disk] * quotas.disks)
        more = quotas.disks + 1
        for call, asked, noun in (
            (house.ec2.import_image, {"DiskContainers": [container] * more}, "disk containers"),
            (house.ec2.import_instance, {"Platform": "Linux", "DiskImages": [disk] * more}, "disk images"),
        ):
            said = f"{more} {noun} were given; at most {quotas.disks} may be."
            assert refusal(call, **asked) == ("InvalidParameterValue", said)


@both_profiles
def test_a_conversion_s_image_is_no_larger_than_its_action_takes(tmp_path: Path, quotas: Quotas) -> None:
    with opened(tmp_path, quotas) as house:
        for call, bounds in (("import_volume", quotas.import_volume), ("import_instance", quotas.import_instance)):
            most = bounds.size_gib

            def ask(size: int, url: str = VMDK["ImportManifestUrl"], call: str = call) -> dict[str, Any]:  # type: ignore[assignment]
                image, volume = {"Format": "RAW", "Bytes": size, "ImportManifestUrl": url}, {"Size": quotas.volume_gib}
                if call == "import_volume":
                    return {"AvailabilityZone": "us-east-1a", "Image": image, "Volume": volume}
                return {"Platform": "Linux", "DiskImages": [{"Image": image, "Volume": volume}]}

            code, message = refusal(getattr(house.ec2, call), **ask(most * GIB + 1))
            assert code == "DiskImageSizeTooLarge"
            assert f"as the parameter bytes says; at most {most:,} GiB" in message
            getattr(house.ec2, call)(**ask(most * GIB))
            house.put("wide.xml", render_manifest(make_manifest([most * GIB, 1])))
            code, message = refusal(getattr(house.ec2, call), **ask(1, "s3://imports/wide.xml"))
            assert (code, "as its manifest says" in message) == ("DiskImageSizeTooLarge", True)


@both_profiles
def test_a_volume_is_no_larger_than_the_profile_says(tmp_path: Path, quotas: Quotas) -> None:
    with opened(tmp_path, quotas) as house:
        ec2, most, zone = house.ec2, quotas.volume_gib, {"AvailabilityZone": "us-east-1a"}
        ec2.create_volume(Size=most, **zone)
        said = ("InvalidParameterValue", f"The volume size must be from 1 to {most} GiB; it is {most + 1}.")
        assert refusal(ec2.create_volume, Size=most + 1, **zone) == said
        assert refusal(ec2.import_volume, Image=VMDK, Volume={"Size": most + 1}, **zone) == said
        snapshot_id = make_snapshot(house.services)
        image_id = make_image(ec2, snapshot_id)
        wide = [{"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": most + 1}}]
        asked = {"ImageId": image_id, "MinCount": 1, "MaxCount": 1, "BlockDeviceMappings": wide}
        assert refusal(ec2.run_instances, **asked) == said
        wide[0]["Ebs"]["SnapshotId"] = snapshot_id  # type: ignore[index]
        named = {"Name": "wide", "VirtualizationType": "hvm", "BlockDeviceMappings": wide}
        assert refusal(ec2.register_image, **named) == said


@both_profiles
def test_what_is_exported_is_no_larger_than_the_profile_says(tmp_path: Path, quotas: Quotas) -> None:
    with opened(tmp_path, replace(quotas, volume_gib=65536)) as house:
        most = quotas.export_gib
        (house.objects / "exports").mkdir(parents=True)
        asked = {"DiskImageFormat": "RAW", "S3ExportLocation": {"S3Bucket": "exports"}}
        house.ec2.export_image(ImageId=image_of(house, most * GIB), **asked)
        if most < 65536:
            code, message = refusal(house.ec2.export_image, ImageId=image_of(house, most * GIB + 1), **asked)
            assert code == "InvalidParameter"
            assert message.endswith(f"is not exportable. | A disk has {most + 1:,} GiB; at most {most:,} are exported.")


def image_of(house: House, size: int) -> str:
    """An AMI over a snapshot of so many bytes."""
    snapshot_id = new_id("snap-")
    kept = Snapshot(snapshot_id, HERE, COMPLETED, size, None, datetime.now(UTC), HERE.region, snapshot_id, None)
    house.services.catalog.snapshots.begin(kept)
    return make_image(house.ec2, snapshot_id)


TASKS = {
    "import image": ("concurrent_import_tasks", "import image"),
    "import snapshot": ("concurrent_import_tasks", "import snapshot"),
    "import volume": ("concurrent_conversion_tasks", "import volume"),
    "import instance": ("concurrent_conversion_tasks", "import instance"),
    "export image": ("concurrent_export_tasks", "export image"),
}


def start(house: House, noun: str) -> None:
    ec2, place = house.ec2, house.put("disk", b"disk")
    match noun:
        case "import image":
            ec2.import_image(DiskContainers=[{"Format": "RAW", "UserBucket": place}])
        case "import snapshot":
            ec2.import_snapshot(DiskContainer={"Format": "RAW", "UserBucket": place})
        case "import volume":
            ec2.import_volume(AvailabilityZone="us-east-1a", Image=VMDK, Volume={"Size": 1})
        case "import instance":
            ec2.import_instance(Platform="Linux", DiskImages=[{"Image": VMDK, "Volume": {"Size": 1}}])
        case _:
            (house.objects / "exports").mkdir(parents=True, exist_ok=True)
            image_id = image_of(house, GIB)
            ec2.export_image(ImageId=image_id, DiskImageFormat="RAW", S3ExportLocation={"S3Bucket": "exports"})


@pytest.mark.parametrize("noun", TASKS)
def test_tasks_under_way_are_as_many_as_aws_allows(tmp_path: Path, noun: str) -> None:
    name, words = TASKS[noun]
    most = getattr(AWS, name)
    with opened(tmp_path, AWS) as house:
        for _ in range(most):
            start(house, noun)
        code, message = refusal(lambda: start(house, noun))
        assert code == "ResourceCountLimitExceeded"
        assert message.startswith(f"Concurrent {words} tasks limit ({most}) reached | {most} tasks")


@pytest.mark.parametrize("noun", TASKS)
def test_tasks_under_way_are_as_many_as_the_configuration_allows(tmp_path: Path, noun: str) -> None:
    name, _ = TASKS[noun]
    with opened(tmp_path, replace(PROFILES["vmferry"], **dict[str, Any]({name: 2}))) as house:
        start(house, noun)
        start(house, noun)
        code, message = refusal(lambda: start(house, noun))
        assert (code, "limit (2) reached" in message) == ("ResourceCountLimitExceeded", True)


@both_profiles
def test_snapshot_copies_at_the_same_time_are_limited(quotas: Quotas) -> None:
    """The counter itself: a copy here is over in milliseconds."""
    copies, most = CopyCounter(), quotas.concurrent_snapshot_copies
    inside, leave = threading.Semaphore(0), threading.Event()

    def copy() -> None:
        with copies.one_more(HERE, most):
            inside.release()
            leave.wait(30)

    with ThreadPoolExecutor(most) as pool:
        running = [pool.submit(copy) for _ in range(most)]
        for _ in range(most):
            assert inside.acquire(timeout=30)
        with pytest.raises(Ec2Error) as refused, copies.one_more(HERE, most):
            pass
        with copies.one_more(replace(HERE, region="us-west-2"), most):
            pass  # another region has copies of its own
        leave.set()
        for one in running:
            one.result()
    with copies.one_more(HERE, most):
        pass
    assert refused.value.code == "ResourceLimitExceeded"
    assert str(refused.value) == (
        f"Too many snapshot copies in progress. The limit is {most} for this destination region."
    )


def test_a_copy_that_would_be_one_too_many_leaves_nothing(tmp_path: Path) -> None:
    with opened(tmp_path, AWS) as house:
        snapshot_id = make_snapshot(house.services)
        with ExitStack() as busy:
            for _ in range(AWS.concurrent_snapshot_copies):
                busy.enter_context(house.services.copies.one_more(HERE, AWS.concurrent_snapshot_copies))
            asked = {"SourceRegion": "us-east-1", "SourceSnapshotId": snapshot_id}
            assert refusal(house.ec2.copy_snapshot, **asked)[0] == "ResourceLimitExceeded"
            image_id = make_image(house.ec2, snapshot_id)
            copied = {"SourceRegion": "us-east-1", "SourceImageId": image_id, "Name": "copy"}
            assert refusal(house.ec2.copy_image, **copied)[0] == "ResourceLimitExceeded"
        assert len(house.ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]) == 1
        house.ec2.copy_image(**copied)

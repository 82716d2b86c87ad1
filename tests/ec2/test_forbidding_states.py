"""States that forbid: every action, on what is in each state that does not allow it, gets EC2's code and sentence.

An action that names something which has states stands in ``FORBIDDEN`` or in ``ALLOWED``; the first test misses one
that comes later until it does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
from botocore.exceptions import ClientError
from sqlalchemy import update

from tests.ec2.material import A_DISK, HERE, make_snapshot
from tests.ec2.running_gateway import Endpoint
from tests.ec2.specimens import ACTION_NAMES, BUCKET, Request, World, id_prefix, leaves, make_objects, operation_of
from vmferry.aws.model import snake_case
from vmferry.catalog._schema import ImageRow, SnapshotRow
from vmferry.catalog.import_facts import ImportFacts
from vmferry.ec2.services import Services

Maker = Callable[[World], str]
DISK = {"Format": "VMDK", "Bytes": 1 << 20, "ImportManifestUrl": f"s3://{BUCKET}/disk.manifest.xml"}


@pytest.fixture(scope="module")
def world(endpoint: Endpoint, services: Services) -> World:
    make_objects(services)
    return World(endpoint.client(), services)


# --- things in a state


def pending_instance(world: World) -> str:
    """One that is being imported."""
    task = world.ec2.import_instance(Platform="Linux", DiskImages=[{"Image": DISK, "Volume": {"Size": 1}}])
    return str(task["ConversionTask"]["ImportInstance"]["InstanceId"])


def terminated_instance(world: World) -> str:
    instance_id = world.instance()
    world.ec2.terminate_instances(InstanceIds=[instance_id])
    return instance_id


def protected_instance(world: World) -> str:
    instance_id = world.instance()
    world.ec2.modify_instance_attribute(InstanceId=instance_id, DisableApiTermination={"Value": True})
    return instance_id


def terminated_import(world: World) -> str:
    instance_id = world.imported_instance()
    world.ec2.terminate_instances(InstanceIds=[instance_id])
    return instance_id


def exported_instance(world: World) -> str:
    """One that is on its way out."""
    instance_id = world.imported_instance()
    world.ec2.create_instance_export_task(
        InstanceId=instance_id, TargetEnvironment="vmware", ExportToS3Task={"S3Bucket": BUCKET}
    )
    return instance_id


def creating_volume(world: World) -> str:
    """One that is being imported."""
    (container,) = world.services.catalog.import_tasks.get(world.conversion_task()).request.containers
    return str(container.volume_id)


def used_volume(world: World) -> str:
    return world.attached_volume()[0]


def pending_snapshot(world: World) -> str:
    return make_snapshot(world.services, whole=False)


def failed_snapshot(world: World) -> str:
    return in_state(world, SnapshotRow, make_snapshot(world.services, whole=False), "error")


def used_snapshot(world: World) -> str:
    """One that an AMI stands on."""
    (image,) = world.services.catalog.images.describe(HERE, [world.image()])
    return image.block_devices[0].snapshot_id


def imported_snapshot(world: World) -> str:
    """One that a task writes."""
    snapshot_id, task_id = pending_snapshot(world), world.import_snapshot_task()
    with world.services.catalog._database.write() as session:
        session.get_one(SnapshotRow, snapshot_id).task_id = task_id
    return snapshot_id


def pending_image(world: World) -> str:
    return in_state(world, ImageRow, world.image(), "pending")


def exported_image(world: World) -> str:
    """One that is on its way out."""
    image_id = world.image()
    world.ec2.export_image(ImageId=image_id, DiskImageFormat="VMDK", S3ExportLocation={"S3Bucket": BUCKET})
    return image_id


def in_state(world: World, row: type[ImageRow | SnapshotRow], resource_id: str, state: str) -> str:
    with world.services.catalog._database.write() as session:
        session.execute(update(row).where(row.id == resource_id).values(state=state))
    return resource_id


def completed(make: Maker) -> Maker:
    """What ``make`` begins, and it went well."""

    def made(world: World) -> str:
        task_id = make(world)
        if task_id.startswith("export-"):
            world.services.catalog.export_tasks.complete(task_id)
        else:
            disk = replace(A_DISK, snapshot_id=pending_snapshot(world))
            world.services.catalog.import_tasks.advance(task_id, "converting", 60, ImportFacts(disks=(disk,)))
            world.services.catalog.import_tasks.complete(task_id, None)
        return task_id

    return made


def ended(make: Maker) -> Maker:
    """What ``make`` begins, and it was cancelled or failed."""

    def made(world: World) -> str:
        task_id, catalog = make(world), world.services.catalog
        tasks = catalog.export_tasks if task_id.startswith("export-") else catalog.import_tasks
        tasks.fail(task_id, "ClientError: it failed")
        tasks.mark_deleted(task_id)
        return task_id

    return made


# --- what is answered


@dataclass(frozen=True)
class Case:
    """An action on something in a state, and its answer; ``{id}`` stands for the thing."""

    action: str
    make: Maker
    request: Callable[[World, str], Request]
    code: str
    message: str
    """A pattern for all of it, ours behind the bar left out."""

    def __str__(self) -> str:
        return f"{self.action}-{getattr(self.make, '__name__', 'task')}"


def only(name: str, listed: bool = False, **others: Any) -> Callable[[World, str], Request]:
    """A request that names the thing, and has ``others`` besides."""
    return lambda _, it: {name: [it] if listed else it, **others}


def mapped(name: str, **others: Any) -> Callable[[World, str], Request]:
    """A request that maps the snapshot to the device ``name``."""
    return lambda world, it: {
        **{key: value(world) if callable(value) else value for key, value in others.items()},
        "BlockDeviceMappings": [{"DeviceName": name, "Ebs": {"SnapshotId": it}}],
    }


INSTANCES, INSTANCE, VOLUME = only("InstanceIds", listed=True), only("InstanceId"), only("VolumeId")
TYPE = only("InstanceId", InstanceType={"Value": "m5.large"})
OUT = only("InstanceId", TargetEnvironment="vmware", ExportToS3Task={"S3Bucket": BUCKET})
IMAGE_OUT = only("ImageId", DiskImageFormat="VMDK", S3ExportLocation={"S3Bucket": BUCKET})
NOT_STOPPED = "The instance '{id}' is not in the 'stopped' state."
NOT_IN_STATE = "Instance is not in state 'running' or 'stopped'."
NOT_RUNNING = "Instance '.*' is not 'running'."
TOO_LATE = "The task {id} is (completed|deleted) and cannot be cancelled."
INVALID = "Snapshot is in invalid state - (pending|error)"


def attach(world: World, volume_id: str) -> Request:
    return {"VolumeId": volume_id, "InstanceId": world.instance(), "Device": "/dev/sdh"}


def attach_to(world: World, instance_id: str) -> Request:
    return {"VolumeId": world.volume(), "InstanceId": instance_id, "Device": "/dev/sdh"}


def detach_from_another(world: World, volume_id: str) -> Request:
    return {"VolumeId": volume_id, "InstanceId": world.instance()}


FORBIDDEN = [
    Case("StartInstances", pending_instance, INSTANCES, "IncorrectInstanceState",
         r"Invalid value '{id}' for instanceId. Instance does not have a volume attached at root \(/dev/sda1\)"),
    Case("StartInstances", terminated_instance, INSTANCES, "IncorrectInstanceState",
         "The instance '{id}' is not in a state from which it can be started."),
    Case("StopInstances", pending_instance, INSTANCES, "IncorrectInstanceState",
         "Instance '{id}' cannot be stopped as it has never reached the 'running' state."),
    Case("StopInstances", terminated_instance, INSTANCES, "IncorrectInstanceState",
         "This instance '{id}' is not in a state from which it can be stopped."),
    Case("TerminateInstances", pending_instance, INSTANCES, "IncorrectInstanceState",
         "The instance '{id}' is not in a state from which it can be terminated."),
    Case("TerminateInstances", protected_instance, INSTANCES, "OperationNotPermitted",
         "The instance '{id}' may not be terminated. Modify its 'disableApiTermination' instance attribute and try "
         "again."),
    Case("ModifyInstanceAttribute", pending_instance, TYPE, "IncorrectInstanceState", NOT_STOPPED),
    Case("ModifyInstanceAttribute", terminated_instance, TYPE, "IncorrectInstanceState", NOT_STOPPED),
    Case("CreateImage", pending_instance, only("InstanceId", Name="of-nothing"), "IncorrectState", NOT_IN_STATE),
    Case("CreateImage", terminated_instance, only("InstanceId", Name="of-nothing"), "IncorrectState", NOT_IN_STATE),
    Case("CreateInstanceExportTask", pending_instance, OUT, "IncorrectInstanceState", NOT_STOPPED),
    Case("CreateInstanceExportTask", terminated_import, OUT, "IncorrectInstanceState", NOT_STOPPED),
    Case("CreateInstanceExportTask", World.instance, OUT, "NotExportable", "Only imported instances can be exported."),
    Case("CreateInstanceExportTask", exported_instance, OUT, "IncorrectState",
         "The instance {id} is being exported by export-i-.*"),
    Case("AttachVolume", creating_volume, attach, "IncorrectState", "{id} is not 'available'."),
    Case("AttachVolume", used_volume, attach, "VolumeInUse", "{id} is already attached to an instance"),
    Case("AttachVolume", pending_instance, attach_to, "IncorrectState", NOT_RUNNING),
    Case("AttachVolume", terminated_instance, attach_to, "IncorrectState", NOT_RUNNING),
    Case("DetachVolume", World.volume, VOLUME, "IncorrectState", "Volume '{id}' is in the 'available' state."),
    Case("DetachVolume", creating_volume, VOLUME, "IncorrectState", "Volume '{id}' is in the 'creating' state."),
    Case("DetachVolume", used_volume, detach_from_another, "InvalidAttachment.NotFound",
         "Volume {id} can not be detached from i-.* because it is not attached"),
    Case("DeleteVolume", used_volume, VOLUME, "VolumeInUse", "Volume {id} is currently attached to i-.*"),
    Case("DeleteVolume", creating_volume, VOLUME, "IncorrectState", "The volume {id} is being made by import-vol-.*"),
    Case("CreateSnapshot", creating_volume, VOLUME, "IncorrectState", "The volume '{id}' is 'creating'"),
    Case("DeleteSnapshot", used_snapshot, only("SnapshotId"), "InvalidSnapshot.InUse",
         "The snapshot {id} is currently in use by ami-.*"),
    Case("DeleteSnapshot", imported_snapshot, only("SnapshotId"), "IncorrectState",
         "The snapshot {id} is being written by import-snap-.*"),
    Case("DeleteSnapshot", pending_snapshot, only("SnapshotId"), "IncorrectState",
         "The snapshot {id} is being copied.*"),
    *(
        case
        for snapshot in (pending_snapshot, failed_snapshot)
        for case in (
            Case("CreateVolume", snapshot, only("SnapshotId", AvailabilityZone="us-east-1a"),
                 "IncorrectState", INVALID),
            Case("CopySnapshot", snapshot, only("SourceSnapshotId", SourceRegion=HERE.region),
                 "IncorrectState", INVALID),
            Case("RegisterImage", snapshot, mapped("/dev/sda1", Name="of-nothing", VirtualizationType="hvm"),
                 "IncorrectState", INVALID),
            Case("RunInstances", snapshot, mapped("/dev/sdh", ImageId=World.image, MinCount=1, MaxCount=1),
                 "IncorrectState", INVALID),
        )
    ),
    Case("RunInstances", pending_image, only("ImageId", MinCount=1, MaxCount=1), "InvalidAMIID.Unavailable",
         r"The image id '\[{id}\]' is no longer available"),
    Case("CopyImage", pending_image, only("SourceImageId", SourceRegion=HERE.region, Name="of-nothing"),
         "IncorrectState", "The image {id} is pending.*"),
    Case("ExportImage", pending_image, IMAGE_OUT, "IncorrectState", "The image {id} is pending.*"),
    Case("ExportImage", exported_image, IMAGE_OUT, "IncorrectState",
         "The image {id} is being exported by export-ami-.*"),
    *(
        case
        for end in (completed, ended)
        for case in (
            *(
                Case("CancelImportTask", end(make), only("ImportTaskId"), "DeleteConversionTaskError", TOO_LATE)
                for make in (World.import_image_task, World.import_snapshot_task)
            ),
            Case("CancelConversionTask", end(World.conversion_task), only("ConversionTaskId"),
                 "DeleteConversionTaskError", TOO_LATE),
            *(
                Case("CancelExportTask", end(make), only("ExportTaskId"), "IncorrectState", TOO_LATE)
                for make in (World.export_image_task, World.export_instance_task)
            ),
        )
    ),
]  # fmt: skip
ALLOWED: Mapping[str, str] = {
    "CreateTags": "whatever is there may be tagged",
    "DeleteTags": "whatever is there may be tagged",
    "DeregisterImage": "an export of it goes on, or says that it is gone",
    "ModifyImageAttribute": "an AMI in any state is its owner's",
    "ModifySnapshotAttribute": "a snapshot in any state is its owner's",
    "ResetImageAttribute": "an AMI in any state is its owner's",
    "ResetSnapshotAttribute": "a snapshot in any state is its owner's",
}
"""Actions that no state forbids, beside those that only read."""
STATELESS = {"subnet-", "sg-", None}


def test_every_action_on_something_with_states_is_thought_of() -> None:
    naming = {
        name
        for name in ACTION_NAMES
        if not name.startswith("Describe")
        and {id_prefix(name, path) for path, _ in leaves(operation_of(name).input)} - STATELESS
    }
    forbidden = {case.action for case in FORBIDDEN}
    assert forbidden & ALLOWED.keys() == set()
    assert naming - forbidden - ALLOWED.keys() == {"ImportImage"}, "whose containers name no snapshot yet"


@pytest.mark.parametrize("case", FORBIDDEN, ids=str)
def test_a_state_that_forbids_says_so(case: Case, world: World) -> None:
    it = case.make(world)
    with pytest.raises(ClientError) as refused:
        getattr(world.ec2, snake_case(case.action))(**case.request(world, it))
    error = refused.value.response["Error"]
    pattern = case.message.replace("{id}", re.escape(it))
    assert error["Code"] == case.code, error
    assert re.fullmatch(f"{pattern}( \\| .+)?", error["Message"]), error
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400


@pytest.mark.parametrize(
    ("cancel", "name", "make"),
    [
        ("cancel_import_task", "ImportTaskId", World.import_image_task),
        ("cancel_import_task", "ImportTaskId", World.import_snapshot_task),
        ("cancel_conversion_task", "ConversionTaskId", World.conversion_task),
        ("cancel_export_task", "ExportTaskId", World.export_image_task),
        ("cancel_export_task", "ExportTaskId", World.export_instance_task),
    ],
)
def test_cancelling_what_is_being_cancelled_changes_nothing(world: World, cancel: str, name: str, make: Maker) -> None:
    task_id = make(world)
    for _ in range(2):
        getattr(world.ec2, cancel)(**{name: task_id})
    catalog = world.services.catalog
    tasks = catalog.export_tasks if task_id.startswith("export-") else catalog.import_tasks
    kept = tasks.get(task_id)
    assert (kept.status, kept.reason) == ("deleting", "User initiated task cancelation")


def test_one_instance_in_a_wrong_state_keeps_the_others_as_they_are(world: World) -> None:
    good, bad = world.instance(), pending_instance(world)
    with pytest.raises(ClientError, match="IncorrectInstanceState"):
        world.ec2.terminate_instances(InstanceIds=[good, bad])
    (reservation,) = world.ec2.describe_instances(InstanceIds=[good])["Reservations"]
    assert reservation["Instances"][0]["State"]["Name"] == "stopped"

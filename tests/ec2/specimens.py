"""Requests made from the model: a good one for every action, and that one with any of its parameters besides.

What a parameter is given follows from its name, so that an action that comes later is covered without a word here; what
the model does not tell of an action stands in ``_BASES``.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tests.ec2.material import HERE, make_image, make_snapshot
from tests.ec2.running_gateway import OTHER_ACCOUNT
from vmferry.aws.model import Kind, Operation, Shape, load_service
from vmferry.ec2.actions import ACTIONS
from vmferry.ec2.services import Services
from vmferry.import_manifest import ImportManifest, ManifestPart, render_manifest

BUCKET, KEY = "imports", "disk.vmdk"
Request = dict[str, Any]
_numbers = itertools.count(1)


def operation_of(action: str) -> Operation:
    """The action as the model has it."""
    found = load_service("ec2").operation(action)
    assert found is not None
    return found


def leaves(shape: Shape, path: str = "") -> Iterator[tuple[str, Shape]]:
    """Every parameter below a structure that is no structure itself: path and shape, lists passed over."""
    for member in shape.members.values():
        inner, here = member.shape, path + member.name
        while inner.element is not None:
            inner = inner.element
        if inner.kind is Kind.STRUCTURE:
            yield from leaves(inner, f"{here}.")
        else:
            yield here, member.shape


def make_objects(services: Services) -> None:
    """What the requests name in the users' object store."""
    store = services.objects(HERE)
    part = ManifestPart(0, 0, (1 << 20) - 1, KEY, f"s3://{BUCKET}/{KEY}")
    manifest = render_manifest(ImportManifest("VMDK", 1 << 20, 1, (part,)))
    for key, content in ((KEY, b"specimen"), ("disk.manifest.xml", manifest)):
        writer = store.create(BUCKET, key)
        writer.write_at(0, content)
        writer.finish()


@dataclass(frozen=True)
class World:
    """What requests can speak of, made when it is asked for and each time anew: actions change and remove things."""

    ec2: Any
    services: Services

    def image(self) -> str:
        return make_image(self.ec2, self.snapshot())

    def snapshot(self) -> str:
        return make_snapshot(self.services)

    def volume(self) -> str:
        return str(self.ec2.create_volume(AvailabilityZone="us-east-1a", Size=1)["VolumeId"])

    def instance(self) -> str:
        launched = self.ec2.run_instances(ImageId=self.image(), MinCount=1, MaxCount=1)
        return str(launched["Instances"][0]["InstanceId"])

    def imported_instance(self) -> str:
        """An instance as a conversion leaves it."""
        task = self.ec2.import_instance(Platform="Linux", DiskImages=[_disk_image()])["ConversionTask"]
        instance_id = str(task["ImportInstance"]["InstanceId"])
        self.services.catalog.instances.change_state(instance_id, "stopped", None)
        (found,) = self.services.catalog.import_tasks.get(task["ConversionTaskId"]).request.containers
        self._settle(instance_id, str(found.volume_id))
        return instance_id

    def _settle(self, instance_id: str, volume_id: str) -> None:
        from vmferry.catalog._schema import VolumeRow

        with self.services.catalog._database.write() as session:
            row = session.get_one(VolumeRow, volume_id)
            row.state, row.instance_id, row.device_name = "in-use", instance_id, "/dev/sda1"
            row.attached_at = datetime.now(UTC)

    def import_image_task(self) -> str:
        return str(self.ec2.import_image(DiskContainers=[_container()])["ImportTaskId"])

    def import_snapshot_task(self) -> str:
        return str(self.ec2.import_snapshot(DiskContainer=_container())["ImportTaskId"])

    def conversion_task(self) -> str:
        asked = {**_disk_image(), "AvailabilityZone": "us-east-1a"}
        return str(self.ec2.import_volume(**asked)["ConversionTask"]["ConversionTaskId"])

    def export_image_task(self) -> str:
        location = {"S3Bucket": BUCKET}
        asked = {"ImageId": self.image(), "DiskImageFormat": "VMDK", "S3ExportLocation": location}
        return str(self.ec2.export_image(**asked)["ExportImageTaskId"])

    def export_instance_task(self) -> str:
        asked = {"InstanceId": self.imported_instance(), "TargetEnvironment": "vmware"}
        made = self.ec2.create_instance_export_task(**asked, ExportToS3Task={"S3Bucket": BUCKET})
        return str(made["ExportTask"]["ExportTaskId"])

    def attached_volume(self) -> tuple[str, str]:
        """A volume and the instance that it hangs on, at /dev/sdf."""
        volume_id, instance_id = self.volume(), self.instance()
        self.ec2.attach_volume(VolumeId=volume_id, InstanceId=instance_id, Device="/dev/sdf")
        return volume_id, instance_id


def _container() -> Request:
    return {"UserBucket": {"S3Bucket": BUCKET, "S3Key": KEY}}


def _disk_image() -> Request:
    image = {"Format": "VMDK", "Bytes": 1 << 20, "ImportManifestUrl": f"s3://{BUCKET}/disk.manifest.xml"}
    return {"Image": image, "Volume": {"Size": 1}}


_IDS: Mapping[str, Callable[[World], str]] = {
    "ami-": World.image,
    "export-ami-": World.export_image_task,
    "export-i-": World.export_instance_task,
    "i-": World.instance,
    "import-ami-": World.import_image_task,
    "import-i-": World.conversion_task,
    "import-snap-": World.import_snapshot_task,
    "snap-": World.snapshot,
    "vol-": World.volume,
}
"""How an id of each kind comes about."""
_PREFIXES = {
    "ConversionTaskId": "import-i-",
    "ExportImageTaskId": "export-ami-",
    "ExportTaskId": "export-i-",
    "ImageId": "ami-",
    "ImportTaskId": "import-ami-",
    "InstanceId": "i-",
    "Resource": "ami-",
    "SnapshotId": "snap-",
    "SourceImageId": "ami-",
    "SourceSnapshotId": "snap-",
    "VolumeId": "vol-",
}
"""What kind of id a parameter takes, by its name without the plural."""
_PREFIXES_OF: Mapping[tuple[str, str], str] = {("DescribeImportSnapshotTasks", "ImportTaskIds"): "import-snap-"}
"""Where the name alone does not tell."""


def id_prefix(action: str, path: str) -> str | None:
    """The prefix of the ids that a parameter takes, if it takes any that the catalog knows."""
    name = path.rpartition(".")[2]
    return _PREFIXES_OF.get((action, path)) or _PREFIXES.get(name) or _PREFIXES.get(name.removesuffix("s"))


_VALUES: Mapping[str, Any] = {
    "Architecture": "x86_64",
    "AvailabilityZone": "us-east-1a",
    "AvailabilityZoneId": "use1-az1",
    "BootMode": "uefi",
    "Bytes": 1 << 20,
    "ContainerFormat": "ova",
    "Device": "/dev/sdg",
    "DeviceName": "/dev/sdb",
    "DiskImageFormat": "VMDK",
    "Format": "VMDK",
    "ImportManifestUrl": f"s3://{BUCKET}/disk.manifest.xml",
    "InstanceInitiatedShutdownBehavior": "stop",
    "InstanceType": "m5.large",
    "LicenseType": "BYOL",
    "MaxCount": 1,
    "MaxResults": 50,
    "MinCount": 1,
    "Platform": "Linux",
    "RootDeviceName": "/dev/sda1",
    "RoleName": "vmimport",
    "S3Bucket": BUCKET,
    "S3Key": KEY,
    "Size": 1,
    "SourceRegion": "us-east-1",
    "TargetEnvironment": "vmware",
    "UserId": OTHER_ACCOUNT,
    "UsageOperation": "RunInstances",
    "Url": f"s3://{BUCKET}/{KEY}",
    "VirtualizationType": "hvm",
    "VolumeSize": 1,
    "VolumeType": "gp2",
}
"""What parameters are given, by their names; others get something of their type."""
_BY_KIND: Mapping[Kind, Any] = {
    Kind.STRING: "dGV4dA==",
    Kind.BOOLEAN: True,
    Kind.INTEGER: 7,
    Kind.LONG: 7,
    Kind.FLOAT: 1.5,
    Kind.DOUBLE: 1.5,
    Kind.TIMESTAMP: datetime(2026, 11, 23, 10, tzinfo=UTC),
    Kind.BLOB: b"blob",
}
_TAGGED = {
    "CopyImage": "image",
    "CopySnapshot": "snapshot",
    "CreateImage": "image",
    "CreateInstanceExportTask": "export-instance-task",
    "CreateSnapshot": "snapshot",
    "CreateVolume": "volume",
    "ExportImage": "export-image-task",
    "ImportImage": "import-image-task",
    "ImportSnapshot": "import-snapshot-task",
    "RegisterImage": "image",
    "RunInstances": "instance",
}
"""What an action's tags may be for."""
_FILTER = {
    "DescribeAvailabilityZones": "state",
    "DescribeInstanceTypes": "instance-type",
    "DescribeRegions": "region-name",
    "DescribeSecurityGroups": "group-name",
}
"""A filter that an action has; others have tags."""


def _companions(action: str, name: str) -> Request:
    """What a structure called ``name`` has beside the parameter that it is made for."""
    if name == "Filters":
        return {"Name": _FILTER.get(action, "tag:Name"), "Values": ["*"]}
    if name == "TagSpecifications":
        tags = [{"Key": "Name", "Value": "specimen"}]
        return {"ResourceType": _TAGGED.get(action, "instance"), "Tags": tags}
    known: Mapping[str, Request] = {
        "BlockDeviceMappings": {"DeviceName": "/dev/sdb"},
        "DiskContainer": _container(),
        "DiskContainers": _container(),
        "DiskImages": _disk_image(),
        "Monitoring": {"Enabled": False},
        "Tags": {"Key": "Name", "Value": "specimen"},
        "UserBucket": _container()["UserBucket"],
    }
    return copy.deepcopy(known.get(name, {}))


_INSTEAD = {"DiskContainers.SnapshotId": "UserBucket"}
"""What a parameter stands in the place of."""


def _root_mapping(world: World) -> Request:
    return {"DeviceName": "/dev/sda1", "Ebs": {"SnapshotId": world.snapshot()}}


def _detachable(world: World) -> Request:
    volume_id, instance_id = world.attached_volume()
    return {"VolumeId": volume_id, "InstanceId": instance_id, "Device": "/dev/sdf"}


_BASES: Mapping[str, Callable[[World], Request]] = {
    "CancelImportTask": lambda world: {"ImportTaskId": world.import_image_task()},
    "CopySnapshot": lambda world: {"SourceSnapshotId": world.snapshot()},
    "CreateInstanceExportTask": lambda world: {
        "InstanceId": world.imported_instance(),
        "ExportToS3Task": {"S3Bucket": BUCKET},
    },
    "CreateTags": lambda _: {"Tags": [{"Key": "Name", "Value": "specimen"}]},
    "CreateVolume": lambda _: {"AvailabilityZone": "us-east-1a", "Size": 1},
    "DescribeImageAttribute": lambda _: {"Attribute": "description"},
    "DescribeInstanceAttribute": lambda _: {"Attribute": "instanceType"},
    "DescribeSnapshotAttribute": lambda _: {"Attribute": "createVolumePermission"},
    "DetachVolume": _detachable,
    "ImportImage": lambda _: {"DiskContainers": [_container()]},
    "ImportInstance": lambda _: {"DiskImages": [_disk_image()]},
    "ImportSnapshot": lambda _: {"DiskContainer": _container()},
    "ImportVolume": lambda _: {"AvailabilityZone": "us-east-1a"},
    "ModifyImageAttribute": lambda _: {"Description": {"Value": "anew"}},
    "ModifyInstanceAttribute": lambda _: {"InstanceType": {"Value": "m5.xlarge"}},
    "ModifySnapshotAttribute": lambda _: {"OperationType": "add", "UserIds": [OTHER_ACCOUNT]},
    "RegisterImage": lambda world: {
        "VirtualizationType": "hvm",
        "RootDeviceName": "/dev/sda1",
        "BlockDeviceMappings": [_root_mapping(world)],
    },
    "ResetImageAttribute": lambda _: {"Attribute": "launchPermission"},
    "ResetSnapshotAttribute": lambda _: {"Attribute": "createVolumePermission"},
    "RunInstances": lambda world: {"ImageId": world.image()},
}
"""What a good request has beyond what the model requires."""


def good_request(action: str, world: World) -> Request:
    """A request that succeeds: what the model requires, and ``_BASES``."""
    maker = _BASES.get(action)
    base = {} if maker is None else maker(world)
    shape = operation_of(action).input
    return {**{name: _required(action, name, shape, world) for name in shape.required if name not in base}, **base}


def _required(action: str, name: str, parent: Shape, world: World) -> Any:
    return _fill(action, name, name, parent.members[name].shape, world)


def _fill(action: str, path: str, name: str, shape: Shape, world: World) -> Any:
    if shape.element is not None:
        return [_fill(action, path, name, shape.element, world)]
    if shape.kind is Kind.STRUCTURE:
        needed = {one: _fill(action, f"{path}.{one}", one, shape.members[one].shape, world) for one in shape.required}
        return {**needed, **_companions(action, name)}
    return value_of(action, path, shape, world)


def value_of(action: str, path: str, shape: Shape, world: World) -> Any:
    """Something that the parameter may well be given."""
    if shape.element is not None:
        return [value_of(action, path, shape.element, world)]
    name = path.rpartition(".")[2]
    if (prefix := id_prefix(action, path)) is not None and prefix in _IDS:
        return _IDS[prefix](world)
    if name == "Name" and "." not in path:
        return f"specimen-{next(_numbers)}"
    if name == "ClientToken":
        return f"token-{next(_numbers)}"
    return copy.deepcopy(_VALUES.get(name, _VALUES.get(name.removesuffix("s"), _BY_KIND[shape.kind])))


def with_parameter(action: str, path: str, world: World, value: Any = None) -> Request:
    """A good request that gives the parameter at ``path``, too: ``value``, or what it may well be given."""
    request, shape = good_request(action, world), operation_of(action).input
    here: Any = request
    *parents, last = path.split(".")
    for name in parents:
        member = shape.members[name].shape
        shape = member.element or member
        found = here.get(name)
        if not found:
            made = _fill(action, name, name, shape, world)
            found = here[name] = [made] if member.element is not None else made
        here = found[0] if isinstance(found, list) else found
    here.pop(_INSTEAD.get(path), None)
    chosen = here.get(last) and last in _companions(action, parents[-1] if parents else "")
    if value is not None or not chosen:
        here[last] = value_of(action, path, shape.members[last].shape, world) if value is None else value
    return request


ACTION_NAMES = sorted(action.name for action in ACTIONS.values())

"""DescribeImages: the AMIs that an account owns or may launch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vmferry.catalog.images import Image
from vmferry.ec2.actions import Action, RequestContext
from vmferry.ec2.filters import Filters
from vmferry.ec2.ids import check_ids
from vmferry.ec2.image_views import describe_image
from vmferry.ec2.owners import is_named, known_users
from vmferry.ec2.paging import Paging


@dataclass(frozen=True, slots=True)
class _Tagged:
    image: Image
    view: Mapping[str, Any]
    tags: Mapping[str, str]

    def member(self, name: str) -> object:
        """A member as the answer has it."""
        return self.view.get(name)

    def devices(self, name: str) -> list[object]:
        """A member of each block device, or of its volume."""
        mappings = self.view["BlockDeviceMappings"]
        return [mapping[name] if name in mapping else mapping["Ebs"][name] for mapping in mappings]


_FILTERS = Filters[_Tagged](
    {
        "architecture": lambda item: item.member("Architecture"),
        "block-device-mapping.delete-on-termination": lambda item: item.devices("DeleteOnTermination"),
        "block-device-mapping.device-name": lambda item: item.devices("DeviceName"),
        "block-device-mapping.encrypted": lambda item: item.devices("Encrypted"),
        "block-device-mapping.snapshot-id": lambda item: item.devices("SnapshotId"),
        "block-device-mapping.volume-size": lambda item: item.devices("VolumeSize"),
        "block-device-mapping.volume-type": lambda item: item.devices("VolumeType"),
        "boot-mode": lambda item: item.member("BootMode"),
        "creation-date": lambda item: item.member("CreationDate"),
        "description": lambda item: item.member("Description"),
        "ena-support": lambda item: item.member("EnaSupport"),
        "free-tier-eligible": lambda _: False,
        "hypervisor": lambda item: item.member("Hypervisor"),
        "image-allowed": lambda _: True,
        "image-id": lambda item: item.image.id,
        "image-type": lambda item: item.member("ImageType"),
        "is-public": lambda item: item.member("Public"),
        "kernel-id": lambda _: None,
        "manifest-location": lambda item: item.member("ImageLocation"),
        "name": lambda item: item.image.name,
        "owner-alias": lambda _: None,
        "owner-id": lambda item: item.member("OwnerId"),
        "platform": lambda item: item.member("Platform"),
        "product-code": lambda _: None,
        "product-code.type": lambda _: None,
        "ramdisk-id": lambda _: None,
        "root-device-name": lambda item: item.member("RootDeviceName"),
        "root-device-type": lambda item: item.member("RootDeviceType"),
        "source-image-id": lambda _: None,
        "source-image-region": lambda _: None,
        "source-instance-id": lambda _: None,
        "sriov-net-support": lambda _: None,
        "state": lambda item: item.member("State"),
        "state-reason-code": lambda _: None,
        "state-reason-message": lambda _: None,
        "virtualization-type": lambda item: item.member("VirtualizationType"),
    },
    tags=lambda item: item.tags,
)
_PAGING = Paging[_Tagged]("DescribeImages", lambda item: item.image.id, lowest=1, alone="ImageIds")


def describe_images(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    """The AMIs that the caller may see: its own, and those that are shared with it."""
    ids = check_ids(request.get("ImageIds", ()), "ami-") or None
    catalog = context.services.catalog
    found = catalog.images.describe(context.place, ids, shared=True)
    permitted = catalog.permissions.of([one.id for one in found])
    images = [
        one
        for one in found
        if is_named(context, request.get("Owners"), [one.place.account_id])
        and is_named(context, request.get("ExecutableUsers"), known_users(context, one.place, permitted[one.id]))
    ]
    tags = catalog.tags.of([one.id for one in images if one.place == context.place])
    items = [_Tagged(one, describe_image(one, tags.get(one.id, {})), tags.get(one.id, {})) for one in images]
    page = _PAGING.page(_FILTERS.select(items, request.get("Filters", ())), request)
    return {"Images": [item.view for item in page.items], "NextToken": page.next_token}


ACTION = Action(
    "DescribeImages",
    describe_images,
    idle={"IncludeDeprecated": "no image is deprecated", "IncludeDisabled": "no image is disabled"},
)

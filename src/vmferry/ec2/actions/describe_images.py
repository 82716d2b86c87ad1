"""DescribeImages: the AMIs that an account owns or may launch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from vmferry.catalog.images import Image
from vmferry.ec2.actions import Action, RequestContext
from vmferry.ec2.filters import Filters
from vmferry.ec2.ids import check_ids
from vmferry.ec2.image_views import describe_image
from vmferry.ec2.import_task_views import tags_of_view
from vmferry.ec2.listing import Listing, Tags
from vmferry.ec2.owners import is_named, known_users
from vmferry.ec2.paging import Paging

_View = Mapping[str, Any]


def _member(name: str) -> Callable[[_View], object]:
    return lambda view: view[name]


def _devices(name: str) -> Callable[[_View], object]:
    """A member of each block device, or of its volume."""
    return lambda view: [one[name] if name in one else one["Ebs"][name] for one in view["BlockDeviceMappings"]]


_FILTERS = Filters[_View](
    {
        "architecture": _member("Architecture"),
        "block-device-mapping.delete-on-termination": _devices("DeleteOnTermination"),
        "block-device-mapping.device-name": _devices("DeviceName"),
        "block-device-mapping.encrypted": _devices("Encrypted"),
        "block-device-mapping.snapshot-id": _devices("SnapshotId"),
        "block-device-mapping.volume-size": _devices("VolumeSize"),
        "block-device-mapping.volume-type": _devices("VolumeType"),
        "boot-mode": _member("BootMode"),
        "creation-date": _member("CreationDate"),
        "description": _member("Description"),
        "ena-support": _member("EnaSupport"),
        "free-tier-eligible": lambda _: False,
        "hypervisor": _member("Hypervisor"),
        "image-allowed": lambda _: True,
        "image-id": _member("ImageId"),
        "image-type": _member("ImageType"),
        "is-public": _member("Public"),
        "kernel-id": lambda _: None,
        "manifest-location": _member("ImageLocation"),
        "name": _member("Name"),
        "owner-alias": lambda _: None,
        "owner-id": _member("OwnerId"),
        "platform": _member("Platform"),
        "product-code": lambda _: None,
        "product-code.type": lambda _: None,
        "ramdisk-id": lambda _: None,
        "root-device-name": _member("RootDeviceName"),
        "root-device-type": _member("RootDeviceType"),
        "source-image-id": lambda _: None,
        "source-image-region": lambda _: None,
        "source-instance-id": lambda _: None,
        "sriov-net-support": _member("SriovNetSupport"),
        "state": _member("State"),
        "state-reason-code": lambda _: None,
        "state-reason-message": lambda _: None,
        "virtualization-type": _member("VirtualizationType"),
    },
    tags=tags_of_view,
    fields={"image-id": "id", "name": "name", "state": "state"},
)


def _views(_: RequestContext, images: list[Image], tags: Tags) -> list[_View]:
    return [describe_image(image, tags[image.id]) for image in images]


_LISTING = Listing[Image, _View](
    lambda catalog, place, ids: catalog.images.describe(place, ids, shared=True),
    lambda catalog, *asked: catalog.images.page(*asked),
    _views,
    _FILTERS,
    Paging("DescribeImages", lambda image: image.id, lowest=1, alone="ImageIds"),
)


def describe_images(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    """The AMIs that the caller may see: its own, and those that are shared with it."""

    def allowed(images: list[Image]) -> set[str]:
        owners, users = request.get("Owners"), request.get("ExecutableUsers")
        owned = [one for one in images if is_named(context, owners, [one.place.account_id])]
        permitted = context.services.catalog.permissions.of([one.id for one in owned] if users else [])
        return {
            one.id
            for one in owned
            if is_named(context, users, known_users(context, one.place, permitted.get(one.id, ())))
        }

    page = _LISTING.page(context, request, check_ids(request.get("ImageIds", ()), "ami-"), allowed)
    return {"Images": page.items, "NextToken": page.next_token}


ACTION = Action(
    "DescribeImages",
    describe_images,
    idle={"IncludeDeprecated": "no image is deprecated", "IncludeDisabled": "no image is disabled"},
)

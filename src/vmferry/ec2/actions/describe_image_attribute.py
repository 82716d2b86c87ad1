"""DescribeImageAttribute: one attribute of an AMI, for its owner."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vmferry.ec2.actions import Action, RequestContext
from vmferry.ec2.ids import check_id
from vmferry.ec2.image_support import attribute_value
from vmferry.ec2.image_views import describe_image
from vmferry.ec2.owners import find_own_image
from vmferry.ec2.permission_changes import describe_permissions, unknown_attribute


def describe_image_attribute(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    """The attribute as the request names it. Raises ``Ec2Error`` for one that AMIs have not here."""
    image = find_own_image(context, check_id(request["ImageId"], "ami-"))
    users = context.services.catalog.permissions.of([image.id])[image.id]
    found: Mapping[str, dict[str, Any]] = {
        "blockDeviceMapping": {"BlockDeviceMappings": describe_image(image, {})["BlockDeviceMappings"]},
        "bootMode": {"BootMode": {"Value": image.boot_mode}},
        "description": {"Description": {"Value": image.description or ""}},
        "imdsSupport": {"ImdsSupport": attribute_value(image.support.imds)},
        "kernel": {"KernelId": {}},
        "launchPermission": {"LaunchPermissions": describe_permissions(users)},
        "productCodes": {"ProductCodes": []},
        "ramdisk": {"RamdiskId": {}},
        "sriovNetSupport": {"SriovNetSupport": attribute_value(image.support.sriov_net)},
        "tpmSupport": {"TpmSupport": attribute_value(image.support.tpm)},
        "uefiData": {"UefiData": attribute_value(image.support.uefi_data)},
    }
    if request["Attribute"] not in found:
        raise unknown_attribute(request["Attribute"])
    return {"ImageId": image.id, **found[request["Attribute"]]}


ACTION = Action("DescribeImageAttribute", describe_image_attribute)

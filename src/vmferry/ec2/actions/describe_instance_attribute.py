"""DescribeInstanceAttribute: one attribute of one instance."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from vmferry.catalog.instances import Instance
from vmferry.ec2.actions import Action, RequestContext
from vmferry.ec2.errors import Ec2Error
from vmferry.ec2.ids import check_id
from vmferry.ec2.image_support import attribute_value
from vmferry.ec2.instance_views import describe_instance
from vmferry.errors import quote

_READERS: Mapping[str, Callable[[Instance], dict[str, Any]]] = {
    "disableApiStop": lambda one: {"DisableApiStop": {"Value": one.disable_api_stop}},
    "disableApiTermination": lambda one: {"DisableApiTermination": {"Value": one.disable_api_termination}},
    "ebsOptimized": lambda one: {"EbsOptimized": {"Value": one.ebs_optimized}},
    "enaSupport": lambda one: {"EnaSupport": {"Value": one.support.ena}},
    "groupSet": lambda one: {"Groups": [{"GroupId": group} for group in one.security_groups]},
    "instanceInitiatedShutdownBehavior": lambda one: {
        "InstanceInitiatedShutdownBehavior": {"Value": one.shutdown_behavior}
    },
    "instanceType": lambda one: {"InstanceType": {"Value": one.instance_type}},
    "kernel": lambda _: {"KernelId": {}},
    "productCodes": lambda _: {"ProductCodes": []},
    "ramdisk": lambda _: {"RamdiskId": {}},
    "rootDeviceName": lambda one: {"RootDeviceName": {"Value": one.root_device_name}},
    "sourceDestCheck": lambda _: {"SourceDestCheck": {"Value": True}},
    "sriovNetSupport": lambda one: {"SriovNetSupport": attribute_value(one.support.sriov_net)},
    "userData": lambda one: {"UserData": {"Value": one.user_data} if one.user_data else {}},
}


def describe_instance_attribute(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    """The attribute as the request names it. Raises ``Ec2Error`` for one that instances have not here."""
    instance_id, name = check_id(request["InstanceId"], "i-"), request["Attribute"]
    (instance,) = context.services.catalog.instances.describe(context.place, [instance_id])
    if name == "blockDeviceMapping":
        volumes = context.services.catalog.volumes.of_instances([instance_id])[instance_id]
        found = {"BlockDeviceMappings": describe_instance(instance, volumes, {})["BlockDeviceMappings"]}
    elif (reader := _READERS.get(name)) is not None:
        found = reader(instance)
    else:
        raise Ec2Error(
            "InvalidParameterValue", f"Value ({quote(name)}) for parameter attribute is invalid. Unknown attribute."
        )
    return {"InstanceId": instance_id, **found}


ACTION = Action("DescribeInstanceAttribute", describe_instance_attribute)

"""ModifyInstanceAttribute: one attribute of a stopped instance."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any

from vmferry.catalog.instances import PENDING, TERMINATED
from vmferry.ec2.actions import Action, RequestContext
from vmferry.ec2.choices import choose
from vmferry.ec2.default_network import find_groups
from vmferry.ec2.errors import Ec2Error
from vmferry.ec2.ids import check_id
from vmferry.ec2.instance_types import find_instance_type
from vmferry.ec2.refusals import all_but
from vmferry.errors import quote

_BEHAVIORS = ("stop", "terminate")
_ATTRIBUTES: Mapping[str, tuple[str, Callable[[Any], object]]] = {
    "DisableApiStop": ("disable_api_stop", lambda given: bool(given["Value"])),
    "DisableApiTermination": ("disable_api_termination", lambda given: bool(given["Value"])),
    "EbsOptimized": ("ebs_optimized", lambda given: bool(given["Value"])),
    "InstanceInitiatedShutdownBehavior": (
        "shutdown_behavior",
        lambda given: choose(given["Value"], _BEHAVIORS, "InstanceInitiatedShutdownBehavior"),
    ),
    "InstanceType": ("instance_type", lambda given: find_instance_type(given["Value"]).name),
    "UserData": ("user_data", lambda given: base64.b64encode(given["Value"]).decode() or None),
}
"""Member of the request → the name that ``Instance`` has for it, and how its value is read."""
_BY_NAME = {name[0].lower() + name[1:]: name for name in _ATTRIBUTES}
"""As ``Attribute`` names them, whose value comes in ``Value`` then."""
_WHEN_STOPPED = {"instance_type", "user_data", "ebs_optimized"}
"""What changes of a stopped instance only."""
_TRUTH = {"true": True, "false": False}


def modify_instance_attribute(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    """Change what the request names. Raises ``Ec2Error`` for what would have no effect."""
    instance_id = check_id(request["InstanceId"], "i-")
    (instance,) = context.services.catalog.instances.describe(context.place, [instance_id])
    changes = _read_changes(context, request)
    if instance.state == TERMINATED or (instance.state == PENDING and _WHEN_STOPPED & changes.keys()):
        raise Ec2Error(
            "IncorrectInstanceState",
            f"The instance '{instance_id}' is not in the 'stopped' state. | It is {instance.state}.",
        )
    mappings = request.get("BlockDeviceMappings", ())
    if not changes and not mappings:
        raise Ec2Error("InvalidParameterCombination", "No attributes specified.")
    for mapping in mappings:
        if mapping.get("NoDevice") is not None:
            raise Ec2Error("UnsupportedOperation", "A volume is detached by DetachVolume: leave NoDevice out.")
        ebs = mapping.get("Ebs") or {}
        context.services.catalog.volumes.set_delete_on_termination(
            instance_id, mapping.get("DeviceName") or "", delete=bool(ebs.get("DeleteOnTermination"))
        )
    if changes:
        context.services.catalog.instances.modify(context.place, instance_id, **changes)
    return {}


_TAKEN = ("Attribute", "BlockDeviceMappings", "Groups", "InstanceId", "Value", *_ATTRIBUTES)
ACTION = Action(
    "ModifyInstanceAttribute",
    modify_instance_attribute,
    refuses={
        **all_but("ModifyInstanceAttribute", _TAKEN, "nothing here would come of it"),
        "BlockDeviceMappings.Ebs.VolumeId": "a volume is attached by AttachVolume",
        "BlockDeviceMappings.VirtualName": "there is no instance store",
    },
)


def _read_changes(context: RequestContext, request: Mapping[str, Any]) -> dict[str, object]:
    changes = {
        field: read(request[name]) for name, (field, read) in _ATTRIBUTES.items() if request.get(name) is not None
    }
    if request.get("Groups"):
        groups = tuple(check_id(one, "sg-") for one in request["Groups"])
        changes["security_groups"] = find_groups(context.place, groups, ())
    if request.get("Value") is not None and not request.get("Attribute"):
        raise Ec2Error("MissingParameter", "The request must contain the parameter attribute")
    if request.get("Attribute"):
        name = _BY_NAME.get(request["Attribute"])
        if name is None or request.get("Value") is None:
            raise Ec2Error(
                "InvalidParameterValue",
                f"Value ({quote(request['Attribute'])}) for parameter attribute is invalid. | With a Value these can "
                f"be changed: {', '.join(_BY_NAME)}.",
            )
        field, read = _ATTRIBUTES[name]
        value = request["Value"]
        changes[field] = read({"Value": value.encode() if name == "UserData" else _TRUTH.get(value.lower(), value)})
    return changes

"""Parameters that vmferry cannot honour: an action declares them with the reason, and the gateway refuses them.

A parameter is named by its path in the model's member names, lists passed over: ``BlockDeviceMappings.Ebs.Iops``. What
says nothing (a plain false, zero, an empty text) counts as not given: clients send that in plenty.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from vmferry.aws.model import Shape, load_service
from vmferry.ec2.errors import Ec2Error


@dataclass(frozen=True, slots=True)
class Refusal:
    """A refusal for which EC2 has a code and a sentence of its own."""

    code: str
    sentence: str


Refusals = Mapping[str, str | Refusal]
"""Path → why: the reason, which stands in a sentence with ``UnsupportedOperation``; or the refusal itself."""

NO_RATE: Refusals = {
    "Iops": "volumes have no guaranteed rate",
    "Throughput": "volumes have no guaranteed rate",
    "OutpostArn": "there are no Outposts",
    "VolumeInitializationRate": "volumes are whole at once",
}
"""What asks for a volume of a certain rate or place."""

OF_EBS: Refusals = {
    **NO_RATE,
    "Encrypted": "volumes are not encrypted yet",
    "KmsKeyId": "volumes are not encrypted yet",
    "EbsCardIndex": "machines have one EBS card",
    "AvailabilityZone": "a volume is where its instance is",
    "AvailabilityZoneId": "a volume is where its instance is",
}
"""Members of a volume, wherever a request maps one."""

ENCRYPTION: Refusals = {
    "Encrypted": "snapshots and volumes are not encrypted yet",
    "KmsKeyId": Refusal(
        "InvalidParameterDependency", "The parameter [KmsKeyId] requires the parameter Encrypted to be set."
    ),
}
"""What asks for encryption: never accepted and ignored."""


def check_refused(request: Mapping[str, object], refusals: Refusals) -> None:
    """Raise ``Ec2Error`` for the first of ``refusals`` that ``request`` gives."""
    for path, why in refusals.items():
        if _is_given(request, path.split(".")):
            if isinstance(why, Refusal):
                raise Ec2Error(why.code, why.sentence)
            raise Ec2Error("UnsupportedOperation", f"vmferry does not take {path}: {why}. Leave it out.")


def under(path: str, refusals: Refusals) -> dict[str, str | Refusal]:
    """``refusals`` of the members of ``path``."""
    return {f"{path}.{name}": why for name, why in refusals.items()}


def all_but(action: str, taken: Collection[str], why: str, path: str = "") -> dict[str, str | Refusal]:
    """Refusals of all that ``action`` has in the model, or its parameter ``path``, but ``taken`` and DryRun."""
    operation = load_service("ec2").operation(action)
    assert operation is not None, f"EC2 has no {action}"
    shape = operation.input
    for name in path.split(".") if path else ():
        shape = _structure(shape.members[name].shape)
    refused = {name: why for name in sorted(shape.members) if name not in taken and name != "DryRun"}
    return under(path, refused) if path else dict(refused)


def _structure(shape: Shape) -> Shape:
    return shape if shape.element is None else _structure(shape.element)


def _is_given(value: object, path: list[str]) -> bool:
    if isinstance(value, list) and path:
        return any(_is_given(one, path) for one in value)
    if not path:
        return bool(value)
    return isinstance(value, Mapping) and _is_given(value.get(path[0]), path[1:])

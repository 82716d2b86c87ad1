"""Instance types as requests name them."""

from __future__ import annotations

from vmferry.catalog.instance_types import INSTANCE_TYPES, InstanceType
from vmferry.ec2.errors import Ec2Error
from vmferry.errors import quote

DEFAULT_TYPE = "m1.small"
"""EC2's for a request that names none, of an AMI that says nothing of the machine it was."""


def find_instance_type(name: str) -> InstanceType:
    """The type called ``name``. Raises ``Ec2Error``."""
    found = INSTANCE_TYPES.get(name)
    if found is None:
        raise Ec2Error(
            "InvalidParameterValue",
            f"Invalid value '{quote(name)}' for InstanceType. | Types here: {', '.join(INSTANCE_TYPES)}.",
        )
    return found

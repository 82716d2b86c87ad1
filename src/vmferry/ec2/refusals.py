"""Parameters that would have no effect: they are refused, never accepted and ignored."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from vmferry.ec2.errors import Ec2Error

REFUSED_OF_EBS = {
    "Iops": "volumes have no guaranteed rate",
    "Throughput": "volumes have no guaranteed rate",
    "KmsKeyId": "volumes are not encrypted",
    "OutpostArn": "there are no Outposts",
    "VolumeInitializationRate": "volumes are whole at once",
    "EbsCardIndex": "machines have one EBS card",
}
"""Members of a volume, wherever a request describes one."""


def refuse(given: Mapping[str, Any], refused: Mapping[str, str]) -> None:
    """Raise ``Ec2Error`` for the first of ``refused`` (name → why) that is given."""
    for name, why in refused.items():
        if given.get(name):
            raise Ec2Error("UnsupportedOperation", f"vmferry does not take {name}: {why}. Leave it out.")


def take_only(given: Mapping[str, Any], taken: Collection[str], why: str) -> None:
    """Raise ``Ec2Error`` for the first member of ``given`` that is not ``taken``; ``why`` says what it would need."""
    refuse(given, {name: why for name in given if name not in taken})


def refuse_encryption(ebs: Mapping[str, Any]) -> None:
    """Raise ``Ec2Error`` where a volume is to be encrypted."""
    if ebs.get("Encrypted"):
        raise Ec2Error("UnsupportedOperation", "vmferry does not encrypt volumes yet: leave Encrypted out.")

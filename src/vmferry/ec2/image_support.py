"""What a request says that an image supports: network cards, TPM, metadata service, and its UEFI variables."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from vmferry.catalog.images import ImageSupport
from vmferry.ec2.choices import choose
from vmferry.ec2.errors import Ec2Error
from vmferry.machine import Firmware

_MAX_UEFI_DATA = 64_000
"""Characters, as EC2 has it."""


def read_support(request: Mapping[str, Any], boot_mode: str) -> ImageSupport:
    """What RegisterImage is told, for an image of ``boot_mode``. Raises ``Ec2Error``."""
    tpm, uefi_data = request.get("TpmSupport"), request.get("UefiData")
    for name, value in (("TpmSupport", tpm), ("UefiData", uefi_data)):
        if value and boot_mode != Firmware.UEFI.value:
            raise Ec2Error(
                "InvalidParameterCombination", f"{name} goes with BootMode uefi only; BootMode is {boot_mode}."
            )
    sriov_net = request.get("SriovNetSupport")
    return ImageSupport(
        ena=bool(request.get("EnaSupport")),
        sriov_net=choose(sriov_net, ("simple",), "SriovNetSupport") if sriov_net else None,
        tpm=choose(tpm, ("v2.0",), "TpmSupport") if tpm else None,
        imds=read_imds_support(request["ImdsSupport"]) if request.get("ImdsSupport") else None,
        uefi_data=_check_uefi_data(uefi_data) if uefi_data else None,
    )


def read_imds_support(given: str) -> str:
    """The one version of the metadata service that an image can ask for. Raises ``Ec2Error``."""
    return choose(given, ("v2.0",), "ImdsSupport")


def attribute_value(value: str | None) -> dict[str, str]:
    """``value`` as an attribute is shown: a structure, which is empty where there is none."""
    return {} if value is None else {"Value": value}


def _check_uefi_data(given: str) -> str:
    if len(given) > _MAX_UEFI_DATA:
        raise Ec2Error(
            "InvalidParameterValue", f"UefiData has {len(given):,} characters; at most {_MAX_UEFI_DATA:,} may be given."
        )
    try:
        base64.b64decode(given, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Ec2Error("InvalidParameterValue", "UefiData is not Base64: give it as `uefivars` writes it.") from error
    return given

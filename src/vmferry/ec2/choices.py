"""A value out of a list: the parser takes any text where the model has an enum, and the action says what it allows."""

from __future__ import annotations

from collections.abc import Iterable

from vmferry.ec2.errors import Ec2Error
from vmferry.errors import quote


def choose(value: str, allowed: Iterable[str], parameter: str) -> str:
    """``value`` as ``allowed`` spells it, whatever its case: ``choose("vmdk", ["OVA", "VMDK"], …)`` → ``"VMDK"``.

    Raises ``Ec2Error``: ``InvalidParameterValue``, naming ``parameter`` and what is allowed.
    """
    spellings = list(allowed)
    for spelling in spellings:
        if spelling.lower() == value.lower():
            return spelling
    raise Ec2Error(
        "InvalidParameterValue",
        f"Value ({quote(value)}) for parameter {parameter} is invalid. Expected one of {', '.join(spellings)}.",
    )

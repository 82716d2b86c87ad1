"""DescribeKeyPairs: there are none, for nothing puts a key into a guest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vmferry.ec2.actions import Action, RequestContext
from vmferry.ec2.errors import Ec2Error
from vmferry.ec2.filters import Filters
from vmferry.errors import quote

_NONE: list[Mapping[str, Any]] = []
_FILTERS = Filters[Mapping[str, Any]](
    {name: lambda _: None for name in ("key-pair-id", "fingerprint", "key-name")}, tags=lambda _: {}
)


def describe_key_pairs(_: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    """None; with names or ids, that they do not exist."""
    for asked in (*request.get("KeyNames", ()), *request.get("KeyPairIds", ())):
        raise Ec2Error("InvalidKeyPair.NotFound", f"The key pair '{quote(asked)}' does not exist")
    return {"KeyPairs": _FILTERS.select(_NONE, request.get("Filters", ()))}


ACTION = Action("DescribeKeyPairs", describe_key_pairs, idle={"IncludePublicKey": "there are no key pairs"})

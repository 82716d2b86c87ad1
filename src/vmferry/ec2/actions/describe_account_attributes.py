"""DescribeAccountAttributes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vmferry.ec2.actions import Action, RequestContext
from vmferry.ec2.choices import choose
from vmferry.ec2.default_network import network_of


def describe_account_attributes(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    """What is true of every account here; limits that do not exist are not made up."""
    found = {"supported-platforms": "VPC", "default-vpc": network_of(context.place).vpc_id}
    names = [choose(name, found, "attributeName") for name in request.get("AttributeNames", ())] or list(found)
    return {
        "AccountAttributes": [
            {"AttributeName": name, "AttributeValues": [{"AttributeValue": found[name]}]} for name in names
        ]
    }


ACTION = Action("DescribeAccountAttributes", describe_account_attributes)

"""DescribeVpcs: the default VPC."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vmferry.ec2.actions import Action, RequestContext
from vmferry.ec2.default_network import VPC_CIDR, network_of
from vmferry.ec2.errors import Ec2Error
from vmferry.ec2.filters import Filters
from vmferry.ec2.ids import check_ids
from vmferry.ec2.paging import Paging
from vmferry.errors import quote

_View = Mapping[str, Any]
_FILTERS = Filters[_View](
    {
        "cidr": lambda view: view["CidrBlock"],
        "is-default": lambda view: view["IsDefault"],
        "isDefault": lambda view: view["IsDefault"],
        "owner-id": lambda view: view["OwnerId"],
        "state": lambda view: view["State"],
        "vpc-id": lambda view: view["VpcId"],
    },
    tags=lambda _: {},
)
_PAGING = Paging[_View]("DescribeVpcs", lambda view: str(view["VpcId"]), alone="VpcIds")


def describe_vpcs(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    """The one there is."""
    vpc_id = network_of(context.place).vpc_id
    for asked in check_ids(request.get("VpcIds", ()), "vpc-"):
        if asked != vpc_id:
            raise Ec2Error("InvalidVpcID.NotFound", f"The vpc ID '{quote(asked)}' does not exist")
    view = {
        "CidrBlock": VPC_CIDR,
        "InstanceTenancy": "default",
        "IsDefault": True,
        "OwnerId": context.account_id,
        "State": "available",
        "Tags": [],
        "VpcId": vpc_id,
    }
    page = _PAGING.page(_FILTERS.select([view], request.get("Filters", ())), request)
    return {"Vpcs": page.items, "NextToken": page.next_token}


ACTION = Action("DescribeVpcs", describe_vpcs)

"""DescribeSubnets: the default subnet of each zone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vmferry.ec2.actions import Action, RequestContext
from vmferry.ec2.default_network import Subnet, find_subnet, network_of
from vmferry.ec2.filters import Filters
from vmferry.ec2.ids import check_ids
from vmferry.ec2.paging import Paging

_View = Mapping[str, Any]
_FILTERS = Filters[_View](
    {
        "availability-zone": lambda view: view["AvailabilityZone"],
        "availability-zone-id": lambda view: view["AvailabilityZoneId"],
        "cidr-block": lambda view: view["CidrBlock"],
        "default-for-az": lambda view: view["DefaultForAz"],
        "defaultForAz": lambda view: view["DefaultForAz"],
        "owner-id": lambda view: view["OwnerId"],
        "state": lambda view: view["State"],
        "subnet-id": lambda view: view["SubnetId"],
        "vpc-id": lambda view: view["VpcId"],
    },
    tags=lambda _: {},
)
_PAGING = Paging[_View]("DescribeSubnets", lambda view: str(view["SubnetId"]), alone="SubnetIds")


def describe_subnets(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    """Subnets by id, each of which must exist, then the filters."""
    ids = check_ids(request.get("SubnetIds", ()), "subnet-")
    subnets = [find_subnet(context.place, one) for one in ids] or list(network_of(context.place).subnets)
    views = [_view(context, subnet) for subnet in subnets]
    page = _PAGING.page(_FILTERS.select(views, request.get("Filters", ())), request)
    return {"Subnets": page.items, "NextToken": page.next_token}


ACTION = Action("DescribeSubnets", describe_subnets)


def _view(context: RequestContext, subnet: Subnet) -> dict[str, Any]:
    return {
        "AvailabilityZone": subnet.zone.name,
        "AvailabilityZoneId": subnet.zone.id,
        "AvailableIpAddressCount": 4091,
        "CidrBlock": subnet.cidr,
        "DefaultForAz": True,
        "MapPublicIpOnLaunch": False,
        "OwnerId": context.account_id,
        "State": "available",
        "SubnetId": subnet.id,
        "Tags": [],
        "VpcId": network_of(context.place).vpc_id,
    }

"""DescribeSecurityGroups: the default one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vmferry.ec2.actions import Action, RequestContext
from vmferry.ec2.default_network import GROUP_NAME, find_groups, network_of
from vmferry.ec2.filters import Filters
from vmferry.ec2.ids import check_ids
from vmferry.ec2.paging import Paging

_View = Mapping[str, Any]
_FILTERS = Filters[_View](
    {
        "description": lambda view: view["Description"],
        "group-id": lambda view: view["GroupId"],
        "group-name": lambda view: view["GroupName"],
        "owner-id": lambda view: view["OwnerId"],
        "vpc-id": lambda view: view["VpcId"],
    },
    tags=lambda _: {},
)
_PAGING = Paging[_View]("DescribeSecurityGroups", lambda view: str(view["GroupId"]), alone="GroupIds")


def describe_security_groups(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    """The one there is. It has no rules, for no packet is looked at."""
    ids = tuple(check_ids(request.get("GroupIds", ()), "sg-"))
    (group_id,) = find_groups(context.place, ids, tuple(request.get("GroupNames", ())))
    view = {
        "Description": "default VPC security group",
        "GroupId": group_id,
        "GroupName": GROUP_NAME,
        "IpPermissions": [],
        "IpPermissionsEgress": [],
        "OwnerId": context.account_id,
        "Tags": [],
        "VpcId": network_of(context.place).vpc_id,
    }
    page = _PAGING.page(_FILTERS.select([view], request.get("Filters", ())), request)
    return {"SecurityGroups": page.items, "NextToken": page.next_token}


ACTION = Action("DescribeSecurityGroups", describe_security_groups)

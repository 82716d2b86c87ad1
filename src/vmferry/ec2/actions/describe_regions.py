"""DescribeRegions: the regions of this installation, all of them open to everybody."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vmferry.ec2.actions import Action, RequestContext
from vmferry.ec2.errors import Ec2Error
from vmferry.ec2.filters import Filters
from vmferry.errors import quote

FILTERS = Filters[dict[str, Any]](
    {
        "endpoint": lambda region: region["Endpoint"],
        "opt-in-status": lambda region: region["OptInStatus"],
        "region-name": lambda region: region["RegionName"],
    }
)


def describe_regions(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    """Every region has the endpoint the caller is talking to: the region is a matter of the signature alone."""
    names = request.get("RegionNames", ())
    for name in names:
        if name not in context.services.regions:
            raise Ec2Error("InvalidParameterValue", f"Invalid region name: '{quote(name)}'")
    regions = [
        {"RegionName": name, "Endpoint": context.host, "OptInStatus": "opt-in-not-required"}
        for name in context.services.regions
        if not names or name in names
    ]
    return {"Regions": FILTERS.select(regions, request.get("Filters", ()))}


ACTION = Action("DescribeRegions", describe_regions, idle={"AllRegions": "every region takes part"})

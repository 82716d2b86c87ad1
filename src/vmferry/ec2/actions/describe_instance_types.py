"""DescribeInstanceTypes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vmferry.catalog.instance_types import INSTANCE_TYPES, InstanceType
from vmferry.ec2.actions import Action, RequestContext
from vmferry.ec2.errors import Ec2Error
from vmferry.ec2.filters import Filters
from vmferry.ec2.paging import Paging
from vmferry.errors import quote

_View = Mapping[str, Any]
_FILTERS = Filters[_View](
    {
        "bare-metal": lambda view: view["BareMetal"],
        "current-generation": lambda view: view["CurrentGeneration"],
        "hypervisor": lambda view: view["Hypervisor"],
        "instance-type": lambda view: view["InstanceType"],
        "memory-info.size-in-mib": lambda view: view["MemoryInfo"]["SizeInMiB"],
        "processor-info.supported-architecture": lambda view: view["ProcessorInfo"]["SupportedArchitectures"],
        "supported-boot-mode": lambda view: view["SupportedBootModes"],
        "supported-root-device-type": lambda view: view["SupportedRootDeviceTypes"],
        "supported-virtualization-type": lambda view: view["SupportedVirtualizationTypes"],
        "vcpu-info.default-vcpus": lambda view: view["VCpuInfo"]["DefaultVCpus"],
    }
)
_PAGING = Paging[_View](
    "DescribeInstanceTypes", lambda view: str(view["InstanceType"]), highest=100, alone="InstanceTypes"
)


def describe_instance_types(_: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    """Types by name, each of which must exist, then the filters."""
    names = request.get("InstanceTypes", ())
    if missing := [name for name in names if name not in INSTANCE_TYPES]:
        listed = ", ".join(quote(name) for name in missing)
        raise Ec2Error("InvalidInstanceType", f"The following supplied instance types do not exist: [{listed}]")
    kinds = [kind for kind in INSTANCE_TYPES.values() if not names or kind.name in names]
    page = _PAGING.page(_FILTERS.select(map(_view, kinds), request.get("Filters", ())), request)
    return {"InstanceTypes": page.items, "NextToken": page.next_token}


ACTION = Action(
    "DescribeInstanceTypes",
    describe_instance_types,
    idle={"IncludeUnsupportedInRegion": "every type is in every region"},
)


def _view(kind: InstanceType) -> dict[str, Any]:
    return {
        "BareMetal": False,
        "CurrentGeneration": not kind.name.startswith(("m1.", "t2.")),
        "Hypervisor": "nitro",
        "InstanceStorageSupported": False,
        "InstanceType": kind.name,
        "MemoryInfo": {"SizeInMiB": kind.memory_mib},
        "ProcessorInfo": {"SupportedArchitectures": ["x86_64"]},
        "SupportedBootModes": ["legacy-bios", "uefi"],
        "SupportedRootDeviceTypes": ["ebs"],
        "SupportedUsageClasses": ["on-demand"],
        "SupportedVirtualizationTypes": ["hvm"],
        "VCpuInfo": {"DefaultVCpus": kind.vcpus},
    }

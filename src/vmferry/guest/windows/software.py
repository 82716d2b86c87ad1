"""What is installed in a Windows that matters to whoever moves it: hypervisors' tools, agents, virus scanners, .NET.

Sources: the makers' own pages on their services; Microsoft, "How to determine which .NET Framework versions are
installed"; AWS, "EC2Launch v2", "EC2Config".
"""

from __future__ import annotations

from collections.abc import Mapping

from vmferry.guest.files import Files
from vmferry.guest.windows.registry import Registry

_DISABLED = 4
_TOOLS = {
    "parallels-tools": ("prl_tools", "prl_tools_service"),
    "qemu-ga": ("QEMU-GA",),
    "virtualbox-guest-additions": ("VBoxGuest", "VBoxService"),
    "vmware-tools": ("VMTools", "vmhgfs", "vmmemctl"),
    "xen-tools": ("xenagent", "xensvc", "xenbus_monitor", "XenServer Tools Agent"),
}
"""Services that each kind of tools has."""
_AGENTS = {
    "cloudbase-init": ("cloudbase-init",),
    "ec2config": ("Ec2Config",),
    "ec2launch-v2": ("Amazon EC2Launch",),
}
_EC2LAUNCH = "/ProgramData/Amazon/EC2-Windows/Launch"
_PROTECTION = {
    "Avast": ("avast! Antivirus",),
    "AVG": ("AVG Antivirus", "avgsvc"),
    "Avira": ("AntiVirService",),
    "Bitdefender": ("VSSERV", "EPSecurityService"),
    "Carbon Black": ("CbDefense", "CarbonBlack"),
    "Cortex XDR": ("cyserver", "CyveraService"),
    "CrowdStrike Falcon": ("CSFalconService", "CSAgent"),
    "Cylance": ("CylanceSvc",),
    "ESET": ("ekrn",),
    "F-Secure": ("FSMA", "fshoster"),
    "FortiClient": ("FA_Scheduler",),
    "G DATA": ("AVKService",),
    "Kaspersky": ("AVP", "klif"),
    "Malwarebytes": ("MBAMService",),
    "McAfee": ("McShield", "mfemms", "mfehidk"),
    "Panda": ("NanoServiceMain", "PSUAService"),
    "SentinelOne": ("SentinelAgent",),
    "Sophos": ("SAVService", "Sophos Endpoint Defense Service"),
    "Symantec": ("SepMasterService", "ccSvcHst", "Norton AntiVirus", "Norton Security"),
    "Trend Micro": ("ntrtscan", "ds_agent", "TMBMServer"),
    "Webroot": ("WRSVC",),
}
"""Services of virus scanners. Windows' own is part of every Windows and stops no driver of ours."""
_NET_BEFORE_4 = {"2.0": "v2.0.50727", "3.0": "v3.0", "3.5": "v3.5"}
_NET_SINCE_45 = (
    (533320, "4.8.1"), (528040, "4.8"), (461808, "4.7.2"), (461308, "4.7.1"), (460798, "4.7"), (394802, "4.6.2"),
    (394254, "4.6.1"), (393295, "4.6"), (379893, "4.5.2"), (378675, "4.5.1"), (378389, "4.5"),
)  # fmt: skip
"""The least number of each release."""


def find_tools(registry: Registry) -> tuple[str, ...]:
    """Tools of hypervisors. Those of Hyper-V are part of Windows: they count where Hyper-V was the host once."""
    host = registry.software.key("Microsoft\\Virtual Machine\\Guest\\Parameters")
    found = _find(registry, _TOOLS)
    return tuple(sorted([*found, *(["hyper-v"] if host.value_names() else [])]))


def find_agents(files: Files, registry: Registry) -> tuple[str, ...]:
    """What sets the system up in a cloud."""
    found = _find(registry, _AGENTS)
    return tuple(sorted([*found, *(["ec2launch"] if files.is_folder(_EC2LAUNCH) else [])]))


def find_protection(registry: Registry) -> tuple[str, ...]:
    """Virus scanners that start."""
    return _find(registry, _PROTECTION)


def is_hyper_v_host(registry: Registry) -> bool:
    """Whether it runs virtual machines of its own."""
    start = registry.services.key("vmms").number("Start")
    return start is not None and start != _DISABLED


def find_net_framework(registry: Registry) -> tuple[str, ...]:
    """Versions of .NET Framework, ascending."""
    setup = registry.software.key("Microsoft\\NET Framework Setup\\NDP")
    found = [version for version, name in _NET_BEFORE_4.items() if setup.key(name).number("Install")]
    full = setup.key("v4\\Full")
    if full.number("Install"):
        release = full.number("Release") or 0
        found.append(next((version for least, version in _NET_SINCE_45 if release >= least), "4.0"))
    return tuple(found)


def find_leftovers(registry: Registry) -> tuple[str, ...]:
    """What other converters leave behind: virt-v2v's ``guestor`` stands in the way of Windows' upgrades."""
    packages = registry.system.key("DriverDatabase\\DriverInfFiles")
    return ("guestor",) if packages.key("guestor.inf").exists else ()


def _find(registry: Registry, table: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    services = registry.services
    return tuple(
        name for name, signs in table.items() if any(_starts(services.key(sign).number("Start")) for sign in signs)
    )


def _starts(start: int | None) -> bool:
    return start is not None and start != _DISABLED

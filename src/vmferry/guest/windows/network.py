"""How a Windows is reached: its addresses, its firewall, Remote Desktop.

Sources: Microsoft, "TCP/IP and NBT configuration parameters"; "[MS-GPFAS]: Group Policy: Firewall and Advanced Security
Data Structure", section 2.2.2 on the texts of firewall rules.
"""

from __future__ import annotations

import ipaddress
from itertools import islice

from vmferry.guest.windows.hive import Key
from vmferry.guest.windows.registry import Registry

_POLICY = "Parameters\\FirewallPolicy"
_PROFILES = {"domain": "DomainProfile", "private": "StandardProfile", "public": "PublicProfile"}
_RDP_PORT = 3389
_RDP_RULES = ("RemoteDesktop-UserMode-In-TCP", "RemoteDesktop-In-TCP")
"""Of Windows 8 and later; of Windows Vista and 7."""
_DISABLED = 4
_MAX_INTERFACES = 256
_MAX_ADDRESSES = 64


def find_static_addresses(registry: Registry) -> tuple[str, ...]:
    """IPv4 addresses that interfaces have of their own, those of cards that are gone included: ``10.0.0.5/24``."""
    found: dict[str, None] = {}
    for interface in islice(registry.services.key("Tcpip\\Parameters\\Interfaces").below(), _MAX_INTERFACES):
        if interface.number("EnableDHCP") != 0:
            continue
        masks = interface.texts("SubnetMask")
        for index, address in enumerate(interface.texts("IPAddress")[:_MAX_ADDRESSES]):
            if address != "0.0.0.0" and len(found) < _MAX_ADDRESSES:
                found[_with_prefix(address, masks[index] if index < len(masks) else "")] = None
    return tuple(found)


def find_firewall(registry: Registry) -> tuple[str, ...]:
    """Profiles whose firewall is on; what a policy says goes before what was set by hand."""
    services = registry.services
    engine = services.key("MpsSvc")
    own = services.key("SharedAccess")
    if (engine if engine.exists else own).number("Start") == _DISABLED:
        return ()
    policies = registry.software.key("Policies\\Microsoft\\WindowsFirewall")
    found = []
    for profile, name in _PROFILES.items():
        said = policies.key("PrivateProfile" if profile == "private" else name).number("EnableFirewall")
        said = policies.key(name).number("EnableFirewall") if said is None else said
        said = own.key(f"{_POLICY}\\{name}").number("EnableFirewall") if said is None else said
        if said:
            found.append(profile)
    return tuple(found)


def find_remote_desktop(registry: Registry) -> bool | None:
    """Whether Remote Desktop takes connections; ``None`` where nothing says so."""
    policy = registry.software.key("Policies\\Microsoft\\Windows NT\\Terminal Services").number("fDenyTSConnections")
    own = _terminal_server(registry).number("fDenyTSConnections")
    denied = own if policy is None else policy
    if registry.services.key("TermService").number("Start") == _DISABLED:
        return False
    return None if denied is None else denied == 0


def find_remote_desktop_port(registry: Registry) -> int | None:
    """The port that it listens on."""
    return _terminal_server(registry).key("WinStations\\RDP-Tcp").number("PortNumber")


def find_remote_desktop_profiles(registry: Registry) -> tuple[str, ...]:
    """Profiles whose firewall lets Remote Desktop in, where it is on."""
    policy = registry.services.key(f"SharedAccess\\{_POLICY}")
    rules = policy.key("FirewallRules")
    found = set(_profiles_with_open_port(policy))
    for name in _RDP_RULES:
        found |= _profiles_of_rule(rules.text(name) or "")
    return tuple(profile for profile in _PROFILES if profile in found)


def _terminal_server(registry: Registry) -> Key:
    return registry.control.key("Terminal Server")


def _profiles_with_open_port(policy: Key) -> list[str]:
    """Of Windows XP and 2003, which list open ports: ``3389:TCP:*:Enabled:Remote Desktop``."""
    ports = {
        profile: policy.key(f"{name}\\GloballyOpenPorts\\List").text(f"{_RDP_PORT}:TCP") or ""
        for profile, name in _PROFILES.items()
    }
    return [profile for profile, port in ports.items() if ":enabled:" in port.lower() + ":"]


def _profiles_of_rule(rule: str) -> set[str]:
    """``v2.10|Action=Allow|Active=TRUE|Dir=In|Profile=Domain|…``; a rule without a profile is for all."""
    parts = [part.lower() for part in rule.split("|")]
    if not {"action=allow", "active=true", "dir=in"} <= set(parts):
        return set()
    named = {part.removeprefix("profile=") for part in parts if part.startswith("profile=")}
    return named & set(_PROFILES) if named else set(_PROFILES)


def _with_prefix(address: str, mask: str) -> str:
    try:
        return str(ipaddress.IPv4Interface(f"{address}/{mask}"))
    except ValueError:
        return address

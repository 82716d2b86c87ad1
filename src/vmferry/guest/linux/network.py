"""How a Linux system sets its network interfaces up, whatever of the six usual ways it goes.

Sources: interfaces(5), sysconfig.txt of initscripts, ifcfg(5) of wicked, nm-settings-keyfile(5), netplan's YAML
reference, systemd.network(5), systemd.link(5), udev(7).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from vmferry.guest.files import Files
from vmferry.guest.linux.facts import InterfaceFacts
from vmferry.guest.linux.network_settings import ANY_CARD
from vmferry.guest.linux.services import Services
from vmferry.guest.linux.yaml import Yaml, read_yaml
from vmferry.limits import MAX_GUEST_MOUNTS

_MAX_INTERFACES = MAX_GUEST_MOUNTS
_MAX_ADDRESSES = 64
_INTERFACES = "/etc/network/interfaces"
_IFCFG = ("/etc/sysconfig/network-scripts/ifcfg-*", "/etc/sysconfig/network/ifcfg-*")
_KEYFILES = ("/etc/NetworkManager/system-connections/*", "/usr/lib/NetworkManager/system-connections/*")
_NETPLAN = ("/lib/netplan/*.yaml", "/etc/netplan/*.yaml")
_NETWORKS = ("/etc/systemd/network/*.network", "/usr/lib/systemd/network/*.network")
_LEFT_OUT = re.compile(r"(~|\.bak|\.orig|\.old|\.rpmnew|\.rpmsave|\.rpmorig|\.template|\.swp|\.range)$")
"""What ifup passes over, too."""
_OWN_NETWORKS = re.compile(r"/usr/lib/systemd/network/80-")
"""systemd's own, for containers and its virtual machines."""
_LINKS = "/etc/systemd/network/*.link"
_RULES = ("/etc/udev/rules.d/*net*.rules", _LINKS)
_BINDING = re.compile(r"""(?:ATTRS?\{address\}|SYSFS\{address\})==|^(?:PermanentMACAddress|MACAddress)=""")
_NAMING = re.compile(r"""\bNAME\s*:?=|^Name=""")
_MANAGERS = {
    "NetworkManager": ("NetworkManager",),
    "systemd-networkd": ("systemd-networkd", "systemd-networkd.socket"),
    "wicked": ("wicked", "wickedd"),
    "ifupdown": ("networking",),
    "network-scripts": ("network",),
    "connman": ("connman",),
    "dhcpcd": ("dhcpcd",),
}
"""What sets the network up → its services."""
_DHCP_CLIENTS = {
    "dhclient": ("/sbin/dhclient", "/usr/sbin/dhclient"),
    "dhcpcd": ("/sbin/dhcpcd", "/usr/sbin/dhcpcd", "/usr/bin/dhcpcd"),
    "udhcpc": ("/sbin/udhcpc", "/usr/bin/udhcpc"),
    "pump": ("/sbin/pump",),
}
_OWN_CLIENT = {"NetworkManager", "systemd-networkd", "wicked", "connman"}
"""Managers that ask for an address themselves."""


def find_interfaces(files: Files) -> tuple[InterfaceFacts, ...]:
    """Every set-up of an interface that is written down, the loopback's left out; at most 512."""
    found: list[InterfaceFacts] = []
    for reader in (_read_ifupdown, _read_ifcfg, _read_keyfiles, _read_netplan, _read_networkd):
        for interface in reader(files):
            if interface.name != "lo" and interface not in found:
                found.append(interface)
            if len(found) == _MAX_INTERFACES:
                files.report(f"More than {_MAX_INTERFACES} network interfaces are set up: the rest was not looked at.")
                return tuple(found)
    return tuple(found)


def find_persistent_names(files: Files) -> tuple[str, ...]:
    """The files of udev that give a name to the interface with a certain hardware address."""
    return tuple(
        path
        for path in files.glob(*_RULES)
        if any(_BINDING.search(line) and not line.startswith("#") for line in files.lines(path))
        and any(_NAMING.search(line) and not line.startswith("#") for line in files.lines(path))
    )


def find_kept_names(files: Files) -> tuple[str, ...]:
    """The names that .link files give to a card whatever its address, and wherever on the PCI bus it sits."""
    found: dict[str, None] = {}
    for path in files.glob(_LINKS):
        sections = {name: dict(pairs) for name, pairs in _read_sections(files.lines(path)).items()}
        if sections.get("[Match]", {}).get("Path") == ANY_CARD and (name := sections.get("[Link]", {}).get("Name")):
            found[name] = None
    return tuple(found)


def find_managers(services: Services) -> tuple[str, ...]:
    """What sets the network up at the start: ``NetworkManager``, ``ifupdown``."""
    return tuple(name for name, units in _MANAGERS.items() if services.starts(*units))


def find_dhcp_clients(files: Files, managers: Iterable[str]) -> tuple[str, ...]:
    """What can ask for an address: programs, and managers that do it themselves."""
    programs = [name for name, paths in _DHCP_CLIENTS.items() if any(files.exists(path) for path in paths)]
    return tuple(sorted({*programs, *_OWN_CLIENT.intersection(managers)}))


def _read_ifupdown(files: Files) -> Iterator[InterfaceFacts]:
    paths = [_INTERFACES]
    for line in files.lines(_INTERFACES):
        words = line.split()
        if len(words) > 1 and words[0] in ("source", "source-directory"):
            pattern = words[1] if words[1].startswith("/") else f"/etc/network/{words[1]}"
            paths += files.glob(pattern if words[0] == "source" else f"{pattern}/*")
    for path in paths[:_MAX_INTERFACES]:
        yield from _read_stanzas(files.lines(path), path)


def _read_stanzas(lines: list[str], path: str) -> Iterator[InterfaceFacts]:
    """Each ``iface`` stanza: what follows it belongs to it, up to the next word that begins another."""
    name, method, settings = "", "", dict[str, list[str]]()
    for line in [*lines, "iface"]:
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if words[0] in ("iface", "auto", "mapping", "source", "source-directory") or words[0].startswith("allow-"):
            if name:
                yield _make(name, path, method, settings.get("address", ()), settings.get("hwaddress", ()))
            name = words[1] if words[0] == "iface" and len(words) > 3 else ""
            method, settings = (words[3] if name else ""), {}
        elif len(words) > 1:
            settings.setdefault(words[0], []).append(words[-1])


def _read_ifcfg(files: Files) -> Iterator[InterfaceFacts]:
    for path in files.glob(*_IFCFG):
        settings = files.settings(path)
        if _LEFT_OUT.search(path) or not settings:
            continue
        name = settings.get("DEVICE") or path.rpartition("/ifcfg-")[2]
        addresses = [value for key, value in settings.items() if re.fullmatch(r"IPADDR[0-9_]*|IPV6ADDR", key) and value]
        method = settings.get("BOOTPROTO", "").lower()
        yield _make(name, path, method, addresses, [settings.get("HWADDR") or settings.get("LLADDR") or ""])


def _read_keyfiles(files: Files) -> Iterator[InterfaceFacts]:
    for path in files.glob(*_KEYFILES):
        sections = {name: dict(pairs) for name, pairs in _read_sections(files.lines(path)).items()}
        connection = sections.get("[connection]", {})
        kind = connection.get("type", "")
        if not connection or kind in ("loopback", "wifi", "802-11-wireless", "vpn", "wireguard"):
            continue
        methods = [sections.get(f"[{family}]", {}).get("method", "") for family in ("ipv4", "ipv6")]
        addresses = [
            value.split(",")[0]
            for family in ("ipv4", "ipv6")
            for key, value in sections.get(f"[{family}]", {}).items()
            if re.fullmatch(r"address(?:es)?[0-9]*", key) and value
        ]
        wired = sections.get("[ethernet]") or sections.get("[802-3-ethernet]") or {}
        method = methods[0] if methods[0] not in ("", "disabled", "ignore") else methods[1]
        name = connection.get("interface-name") or "*"
        yield _make(name, path, "static" if method == "manual" else method, addresses, [wired.get("mac-address", "")])


def _read_netplan(files: Files) -> Iterator[InterfaceFacts]:
    for path in files.glob(*_NETPLAN):
        network = _mapping(_mapping(read_yaml(files.lines_as_they_are(path))).get("network"))
        for kind in ("ethernets", "bonds", "bridges", "vlans"):
            for name, settings in _mapping(network.get(kind)).items():
                yield _read_netplan_interface(name, path, _mapping(settings))


def _read_netplan_interface(name: str, path: str, settings: dict[str, Yaml]) -> InterfaceFacts:
    match = _mapping(settings.get("match"))
    listed = settings.get("addresses")
    addresses = [
        next(iter(item)) if isinstance(item, dict) and item else item
        for item in (listed if isinstance(listed, list) else [])
    ]
    dhcp = any(str(settings.get(key)).lower() in ("true", "yes", "on") for key in ("dhcp4", "dhcp6"))
    pattern = match.get("name") if match else name
    method = "dhcp" if dhcp else "static" if addresses else "manual"
    mac = str(match.get("macaddress", ""))
    texts = [item for item in addresses if isinstance(item, str)]
    return _make(pattern if isinstance(pattern, str) else "*", path, method, texts, [mac])


def _read_networkd(files: Files) -> Iterator[InterfaceFacts]:
    for path in files.glob(*_NETWORKS):
        if _OWN_NETWORKS.match(path):
            continue
        sections = _read_sections(files.lines(path))
        match = sections.get("[Match]", [])
        network = sections.get("[Network]", [])
        names = [name for key, value in match if key == "Name" for name in value.split()][:_MAX_ADDRESSES]
        macs = [value for key, value in match if key in ("MACAddress", "PermanentMACAddress")]
        addresses = [value for key, value in (*network, *sections.get("[Address]", ())) if key == "Address"]
        asks = dict(network).get("DHCP", "no").lower() not in ("", "no", "false", "none")
        for name in names or ["*"]:
            yield _make(name, path, "dhcp" if asks else "manual", addresses, macs)


def _make(name: str, path: str, method: str, addresses: Iterable[str], macs: Iterable[str]) -> InterfaceFacts:
    addresses = tuple(addresses)[:_MAX_ADDRESSES]
    if method.startswith(("dhcp", "auto", "bootp")):
        kind = "dhcp"
    else:
        kind = "static" if method == "static" or addresses else "manual"
    mac = next((mac.strip("\"' ").lower().removeprefix("ether ") for mac in macs if mac), None)
    return InterfaceFacts(name, path, kind, addresses, mac)


def _mapping(value: Yaml | None) -> dict[str, Yaml]:
    return value if isinstance(value, dict) else {}


def _read_sections(lines: list[str]) -> dict[str, list[tuple[str, str]]]:
    """The settings in each section, in order: ``[Match]`` → ``Name``, ``en*``."""
    sections: dict[str, list[tuple[str, str]]] = {}
    here: list[tuple[str, str]] = []
    for line in lines:
        if line.startswith("[") and line.endswith("]"):
            here = sections.setdefault(line, [])
        elif "=" in line and not line.startswith(("#", ";")):
            key, _, value = line.partition("=")
            here.append((key.strip(), value.strip()))
    return sections

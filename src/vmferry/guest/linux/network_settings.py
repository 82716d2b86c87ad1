"""Files that set a network up, changed line by line: no hardware address of another machine, DHCP instead of addresses.

What is not changed stays to the byte, and a line that no longer counts stays as a comment. Whoever changes a file so
reads it again and looks whether it now says what it should: a file may be laid out in ways that are not known here.

Sources: interfaces(5), sysconfig.txt of initscripts, ifcfg(5) of wicked, nm-settings-keyfile(5), netplan's YAML
reference, systemd.network(5), systemd.link(5), udev(7).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

Edit = Callable[[list[str]], Iterator[str]]
"""Lines without their ends → lines."""

KEEP = "keep"
"""Addresses stay as they are."""
DHCP = "dhcp"
"""The guest asks for its addresses."""
CHOICES = (KEEP, DHCP)

ANY_CARD = "pci-*"
"""What ``Path=`` of systemd matches with every card of a machine, and no bridge, veth or WLAN."""

_MARK = "# vmferry: "
_ADDRESS = r"(?:[0-9A-Fa-f]{1,2}[:-]){5}[0-9A-Fa-f]{1,2}"
_SECTION = re.compile(r"\s*(\[.*\])\s*$")
_KEY = re.compile(r"(\s*)(?:-\s*)?([\w-]+)\s*:(?:\s|$)")
_STATIC_OPTIONS = {"address", "netmask", "network", "broadcast", "gateway", "pointopoint", "dns-nameservers"}
_BEGINS_STANZA = re.compile(r"\s*(iface|auto|mapping|source|source-directory|allow-\S+|rename|template)\b")
_IFACE = re.compile(r"(\s*iface\s+\S+\s+)(inet6?)(\s+)static\b(.*)")
_IFCFG_STATIC = re.compile(
    r"\s*(?:export\s+)?(?:IPADDR|IPV6ADDR|NETMASK|PREFIX|PREFIXLEN|GATEWAY|IPV6_DEFAULTGW|BROADCAST|NETWORK|DNS)\w*="
)
_IFCFG_METHOD = re.compile(r"\s*(?:export\s+)?BOOTPROTO=")
_IFCFG_BOUND = re.compile(r"\s*(?:export\s+)?(?:HWADDR|LLADDR)=")
_RULE_BOUND = re.compile(r"(?:ATTRS?|SYSFS)\{address\}==")
_LINK_BOUND = re.compile(rf"\s*(?:PermanentMACAddress|MACAddress)=\s*{_ADDRESS}")
_FLOW_ADDRESS = re.compile(rf"\bmacaddress:\s*[\"']?{_ADDRESS}[\"']?")


def unbind(path: str, text: bytes) -> bytes:
    """``text`` of the file at ``path`` without the hardware address that it asks of the card; as it is where it asks
    for none, or in a way that is not known."""
    return _edit(text, _find(path, _UNBINDING))


def ask_for_address(path: str, text: bytes) -> bytes:
    """``text`` of the file at ``path`` with DHCP in the place of static addresses, their gateways and name servers."""
    return _edit(text, _find(path, _ASKING))


def _find(path: str, edits: tuple[tuple[str, Edit], ...]) -> Edit:
    return next((edit for pattern, edit in edits if re.search(pattern, path)), iter)


def _edit(text: bytes, edit: Edit) -> bytes:
    """Latin-1 gives every byte back as it was, whatever the file's encoding."""
    lines = text.decode("latin-1").split("\n")
    return "\n".join(edit(lines)).encode("latin-1")


def _comment(line: str) -> str:
    """``line`` as a comment, at the depth at which it was."""
    bare = line.lstrip()
    return line[: len(line) - len(bare)] + _MARK + bare


def _comment_where(pattern: re.Pattern[str]) -> Edit:
    def edit(lines: list[str]) -> Iterator[str]:
        return (_comment(line) if pattern.match(line) else line for line in lines)

    return edit


def _unbind_rules(lines: list[str]) -> Iterator[str]:
    """A rule that goes by an address says nothing else that is worth keeping; a .link file goes by it as a whole."""
    for line in lines:
        yield _comment(line) if _RULE_BOUND.search(line) and not line.lstrip().startswith("#") else line


def _unbind_link(lines: list[str]) -> Iterator[str]:
    """A .link file without its match would count for every card: nothing of it may."""
    bound = any(map(_LINK_BOUND.match, lines))
    return (_comment(line) if bound and line.strip() and line.lstrip()[0] not in "#;" else line for line in lines)


def _unbind_keyfile(lines: list[str]) -> Iterator[str]:
    for section, line in _in_sections(lines):
        bound = section in ("[ethernet]", "[802-3-ethernet]") and re.match(r"\s*mac-address\s*=", line)
        yield _comment(line) if bound else line


def _unbind_networkd(lines: list[str]) -> Iterator[str]:
    for section, line in _in_sections(lines):
        if section == "[Match]" and re.match(r"\s*(?:Permanent)?MACAddress\s*=", line):
            yield from (_comment(line), f"Path={ANY_CARD}")
        else:
            yield line


def _unbind_netplan(lines: list[str]) -> Iterator[str]:
    """In ``match`` alone: elsewhere ``macaddress`` sets the address, which does no harm."""
    above: list[tuple[int, str]] = []
    for line in lines:
        key = _KEY.match(line)
        if key is None or line.lstrip().startswith("#"):
            yield line
            continue
        depth = len(key[1])
        while above and above[-1][0] >= depth:
            above.pop()
        parent = above[-1][1] if above else ""
        above.append((depth, key[2]))
        if key[2] == "macaddress" and parent == "match":
            yield from (_comment(line), f'{key[1]}name: "e*"')
        elif key[2] == "match" and _FLOW_ADDRESS.search(line):
            yield from (_comment(line), _FLOW_ADDRESS.sub('name: "e*"', line))
        else:
            yield line


def _ask_in_interfaces(lines: list[str]) -> Iterator[str]:
    static = False
    for line in lines:
        found = _IFACE.match(line)
        if found:
            static = True
            yield f"{found[1]}{found[2]}{found[3]}{'dhcp' if found[2] == 'inet' else 'auto'}{found[4]}"
            continue
        static = static and not _BEGINS_STANZA.match(line)
        words = line.split(maxsplit=1)
        yield _comment(line) if static and words and words[0] in _STATIC_OPTIONS else line


def _ask_in_ifcfg(lines: list[str]) -> Iterator[str]:
    """Shell settings, the last of each name counts."""
    yield "BOOTPROTO=dhcp"
    for line in lines:
        yield _comment(line) if _IFCFG_METHOD.match(line) or _IFCFG_STATIC.match(line) else line


def _ask_in_keyfile(lines: list[str]) -> Iterator[str]:
    for section, line in _in_sections(lines):
        name = line.partition("=")[0].strip()
        if section not in ("[ipv4]", "[ipv6]"):
            yield line
        elif name == "method":
            yield "method=auto" if line.partition("=")[2].strip() == "manual" else line
        else:
            yield _comment(line) if re.fullmatch(r"(?:address|addresses|route)\d*|gateway|dns", name) else line


def _ask_in_networkd(lines: list[str]) -> Iterator[str]:
    for section, line in _in_sections(lines):
        name = line.partition("=")[0].strip()
        is_setting = bool(line.strip()) and line.lstrip()[0] not in "#;"
        is_own = section == "[Network]" and name in ("Address", "Gateway", "DNS", "DHCP")
        if is_own or (section in ("[Address]", "[Route]") and is_setting):
            yield _comment(line)
        else:
            yield line
            if section == "[Network]" and _SECTION.match(line):
                yield "DHCP=yes"


def _ask_in_netplan(lines: list[str]) -> Iterator[str]:
    """What is below a key that is left out is deeper than it, or a list at its depth."""
    out: int | None = None
    for line in lines:
        depth = len(line) - len(line.lstrip())
        if not line.strip() or line.lstrip().startswith("#"):
            yield line
            continue
        if out is not None and (depth > out or (depth == out and line.lstrip().startswith("- "))):
            yield _comment(line)
            continue
        out, key = None, _KEY.match(line)
        name = key[2] if key else ""
        if name in ("addresses", "gateway4", "gateway6", "nameservers", "routes", "dhcp4"):
            out = depth
            yield _comment(line)
            if name == "addresses":
                yield f"{' ' * depth}dhcp4: true"
        else:
            yield line


def _in_sections(lines: list[str]) -> Iterator[tuple[str, str]]:
    """Each line with the section that it is in; a section's own line is in it."""
    section = ""
    for line in lines:
        found = _SECTION.match(line)
        section = found[1] if found else section
        yield section, line


_KEYFILES = r"/NetworkManager/system-connections/"
_UNBINDING: tuple[tuple[str, Edit], ...] = (
    (r"/ifcfg-[^/]*$", _comment_where(_IFCFG_BOUND)),
    (_KEYFILES, _unbind_keyfile),
    (r"\.yaml$", _unbind_netplan),
    (r"\.network$", _unbind_networkd),
    (r"\.link$", _unbind_link),
    (r"\.rules$", _unbind_rules),
)
_ASKING: tuple[tuple[str, Edit], ...] = (
    (r"/ifcfg-[^/]*$", _ask_in_ifcfg),
    (_KEYFILES, _ask_in_keyfile),
    (r"\.yaml$", _ask_in_netplan),
    (r"\.network$", _ask_in_networkd),
    (r"^/etc/network/", _ask_in_interfaces),
)

"""Settings of networks, changed line by line: what they say afterwards, and that nothing is lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmferry.guest.files import Files
from vmferry.guest.filesystems.memory import MemoryFileSystem
from vmferry.guest.linux.facts import InterfaceFacts
from vmferry.guest.linux.network import find_interfaces, find_persistent_names
from vmferry.guest.linux.network_settings import ask_for_address, unbind
from vmferry.guest.tree import Tree

MAC = "00:50:56:aa:bb:cc"
INTERFACES = "/etc/network/interfaces"
IFCFG = "/etc/sysconfig/network-scripts/ifcfg-ens192"
SUSE = "/etc/sysconfig/network/ifcfg-eth0"
KEYFILE = "/etc/NetworkManager/system-connections/ens192.nmconnection"
NETPLAN = "/etc/netplan/50-cloud-init.yaml"
NETWORKD = "/etc/systemd/network/10-lan.network"
LINK = "/etc/systemd/network/10-lan.link"
RULES = "/etc/udev/rules.d/70-persistent-net.rules"

BOUND = {
    IFCFG: f'TYPE=Ethernet\nDEVICE=ens192\nHWADDR="{MAC.upper()}"\nBOOTPROTO=dhcp\nONBOOT=yes\n',
    SUSE: f"BOOTPROTO='dhcp'\nSTARTMODE='auto'\nLLADDR='{MAC}'",
    KEYFILE: f"[connection]\nid=lan\ntype=ethernet\n\n[ethernet]\nmac-address={MAC.upper()}\nmtu=1500\n\n"
    "[ipv4]\nmethod=auto\n",
    NETPLAN: "network:\n  version: 2\n  ethernets:\n    ens192:\n      dhcp4: true\n"
    f"      match:\n        macaddress: '{MAC}'\n      set-name: ens192\n",
    NETWORKD: f"[Match]\nMACAddress={MAC}\n\n[Network]\nDHCP=ipv4\n",
}
STATIC = {
    INTERFACES: "auto lo\niface lo inet loopback\n\nallow-hotplug ens192\niface ens192 inet static\n"
    "\taddress 10.0.0.5/24\n\tgateway 10.0.0.1\n\tmtu 9000\n\tdns-nameservers 10.0.0.2\n"
    "iface ens192 inet6 static\n\taddress fd00::5/64\n",
    IFCFG: "TYPE=Ethernet\nDEVICE=ens192\nBOOTPROTO=none\nIPADDR=10.0.0.5\nPREFIX=24\nGATEWAY=10.0.0.1\nDNS1=10.0.0.2\n"
    "ONBOOT=yes\n",
    SUSE: "BOOTPROTO='static'\nIPADDR_1='10.0.0.5/24'\nSTARTMODE='auto'\n",
    KEYFILE: "[connection]\nid=lan\ntype=ethernet\ninterface-name=ens192\n\n[ipv4]\nmethod=manual\n"
    "address1=10.0.0.5/24,10.0.0.1\ndns=10.0.0.2;\ndns-search=example.org;\n\n[ipv6]\nmethod=ignore\n",
    NETPLAN: "# mine\nnetwork:\n  version: 2\n  ethernets:\n    ens192:\n      dhcp4: no\n      addresses:\n"
    "      - 10.0.0.5/24\n      - fd00::5/64:\n          lifetime: 0\n      gateway4: 10.0.0.1\n      mtu: 9000\n"
    "      nameservers:\n        addresses: [10.0.0.2]\n        search:\n        - example.org\n      optional: true\n",
    NETWORKD: "[Match]\nName=ens192\n\n[Network]\nAddress=10.0.0.5/24\nGateway=10.0.0.1\nDNS=10.0.0.2\nLLDP=yes\n\n"
    "[Address]\nAddress=10.0.0.6/24\n\n[Link]\nMTUBytes=9000\n",
}
LINES = st.lists(
    st.sampled_from(sorted({line for text in (*BOUND.values(), *STATIC.values()) for line in text.split("\n")}))
    | st.text(st.characters(max_codepoint=255, exclude_characters="\n"), max_size=30),
    max_size=20,
)


def interfaces(path: str, text: str) -> tuple[InterfaceFacts, ...]:
    return find_interfaces(Files(Tree({"/": MemoryFileSystem({path: text.encode()})})))


@pytest.mark.parametrize("path", BOUND)
def test_no_hardware_address_is_asked_for(path: str) -> None:
    (before,) = interfaces(path, BOUND[path])
    text = unbind(path, BOUND[path].encode()).decode()
    (after,) = interfaces(path, text)
    assert (before.mac, after.mac, after.method) == (MAC, None, "dhcp")
    assert unbind(path, text.encode()).decode() == text


@pytest.mark.parametrize("path", STATIC)
def test_addresses_are_asked_for(path: str) -> None:
    assert all(found.method == "static" for found in interfaces(path, STATIC[path]))
    text = ask_for_address(path, STATIC[path].encode()).decode()
    after = interfaces(path, text)
    assert {(found.name, found.method, found.addresses) for found in after} == {(after[0].name, "dhcp", ())}
    assert "10.0.0.1\n" not in "\n".join(line for line in text.split("\n") if not line.lstrip().startswith("#"))
    assert [word for word in ("9000", "example.org", "ONBOOT", "STARTMODE", "LLDP") if word in STATIC[path]] == [
        word for word in ("9000", "example.org", "ONBOOT", "STARTMODE", "LLDP") if word in text
    ]


def test_a_list_in_a_line_is_understood_too() -> None:
    text = f'network:\n  ethernets:\n    id0:\n      match: {{macaddress: "{MAC}"}}\n      addresses: [10.0.0.5/24]\n'
    (after,) = interfaces(NETPLAN, ask_for_address(NETPLAN, unbind(NETPLAN, text.encode())).decode())
    assert (after.name, after.mac, after.method) == ("e*", None, "dhcp")


def test_rules_that_go_by_an_address_are_comments() -> None:
    kept = 'SUBSYSTEM=="net", KERNEL=="tun*", NAME="tun%n"'
    rules = f'# made by the machine\nSUBSYSTEM=="net", ATTR{{address}}=="{MAC}", NAME="eth0"\n{kept}\n'
    link = f"[Match]\nMACAddress={MAC}\n[Link]\nName=lan0\n"
    after = {path: unbind(path, text.encode()) for path, text in ((RULES, rules), (LINK, link))}
    assert find_persistent_names(Files(Tree({"/": MemoryFileSystem(after)}))) == ()
    assert kept.encode() in after[RULES].split(b"\n")
    assert all(not line or line.startswith(b"#") for line in after[LINK].split(b"\n"))


@pytest.mark.parametrize("text", ["[Match]\nPath=pci-0000:03:00.0\n[Link]\nName=lan0\n", "[Link]\nWakeOnLan=magic\n"])
def test_a_link_that_goes_by_something_else_stays(text: str) -> None:
    assert unbind(LINK, text.encode()) == text.encode()


@given(path=st.sampled_from([*STATIC, LINK, RULES]), lines=LINES)
def test_no_line_is_lost(path: str, lines: list[str]) -> None:
    """Each is there in its order, as it was or as a comment, or is the method's own, which is put in its place."""
    old = "\n".join(lines).encode("latin-1")
    for edit in (unbind, ask_for_address):
        new = iter(edit(path, old).decode("latin-1").split("\n"))
        for line in old.decode("latin-1").split("\n"):
            method = line.replace("static", "").split("=")[0].split()[:1]
            wanted = {line, line[: len(line) - len(line.lstrip())] + "# vmferry: " + line.lstrip()}
            if method and method[0] in ("iface", "method"):
                continue
            assert any(one in wanted for one in new), (path, line)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("filling", [" ", "] ", "- ", "macaddress: ", "a:", "iface "])
@pytest.mark.parametrize("path", [*STATIC, LINK, RULES])
def test_a_line_of_a_megabyte_takes_no_time(path: str, filling: str) -> None:
    for begin in ("", "[", "match: {", "iface ens192 inet"):
        text = f"[Match]\n{begin}{filling * (1_000_000 // len(filling))}x\n".encode()
        for edit in (unbind, ask_for_address):
            edit(path, text)

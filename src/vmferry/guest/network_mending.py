"""The network of a Linux guest on other hardware: its card keeps its name, whatever bus and address it comes with.

What ``ens192`` was on one hypervisor is ``enp1s0`` on the next, and a network that is set up for the one name stays
down. With a single card there is no doubt which is meant: systemd is told to call it so, and settings that go by the
old card's hardware address go by none. With several nobody knows here which is which, and they are left alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from vmferry.errors import quote
from vmferry.guest.files import Files
from vmferry.guest.filesystems.memory import MemoryFileSystem
from vmferry.guest.linux.facts import InterfaceFacts
from vmferry.guest.linux.network import find_interfaces, find_persistent_names
from vmferry.guest.linux.network_settings import ANY_CARD, CHOICES, DHCP, ask_for_address, unbind
from vmferry.guest.tree import Tree
from vmferry.guest.workbench import Workbench

_CARD = re.compile(r"(?:en[a-z][a-z0-9]*|eth\d+|em\d+|p\d+p\d+)", re.ASCII)
"""Names of cards; no VLAN (``eth0.5``), bond or bridge."""
_NAMES_BY_LINK = ("/usr/lib/systemd/network/99-default.link", "/lib/systemd/network/99-default.link")
"""Where systemd names interfaces, by .link files."""
_PARAMETERS = ("/boot/grub/grub.cfg", "/boot/grub2/grub.cfg", "/boot/loader/entries/*.conf", "/etc/kernel/cmdline")
_NO_NAMES = b"net.ifnames=0"
"""Of the kernel's command line: cards are called as the kernel calls them."""
_INTERFACES_FOLDER, _INTERFACES = "/etc/network/", "/etc/network/interfaces"
_UNBOUND = "it went by the hardware address of the old card"
_ASKS = "the guest asks for its addresses (DHCP), as was chosen"
_LINK = """# vmferry: the network of this machine is set up for {name}. Its only card is called that, wherever it sits.
# Remove this file before a second card is added.
[Match]
Type=ether
Path={path}

[Link]
Name={name}
"""


def mend_network(bench: Workbench, addresses: str) -> None:
    """Let the network come up on another card, with ``addresses``, one of ``CHOICES``.

    Raises ``GuestError`` where a file cannot be read or written; what was changed before stays changed.
    """
    interfaces = find_interfaces(Files(bench.tree))
    cards = sorted({_card(found) for found in interfaces} - {""})
    changes = _Changes(bench)
    if len(cards) > 1:
        named = ", ".join(map(quote, cards))
        bench.done.notes.append(
            f"The network is set up for {named}: which card is which is not known here. Where it stays down after the "
            "first start, put the new names in (ip link shows them)."
        )
    else:
        bound = [found.where for found in interfaces if found.mac is not None]
        changes.change(bound, unbind, lambda found: found.mac is None, _UNBOUND)
        for path in find_persistent_names(Files(bench.tree)):
            changes.change([path], unbind, lambda _: False, _UNBOUND)
    if addresses not in CHOICES:
        bench.done.notes.append(
            f"The addresses are kept: {' or '.join(CHOICES)} can be chosen, not {quote(addresses)}."
        )
    if addresses == DHCP:
        static = [found.where for found in interfaces if found.method == "static"]
        changes.change(static, ask_for_address, lambda found: found.method != "static", _ASKS)
    changes.write()
    for name in cards if len(cards) == 1 else ():
        _keep_name(bench, name)


def _card(found: InterfaceFacts) -> str:
    """What tells the card from others: its name, its hardware address where it has none; empty for what is no card."""
    return found.name if _CARD.fullmatch(found.name) else found.mac or ""


def _keep_name(bench: Workbench, name: str) -> None:
    """Call the only card ``name``, where it would not be called that anyway."""
    path = f"/etc/systemd/network/10-vmferry-{name}.link"
    tree = bench.tree
    by_kernel = name == "eth0" and any(_NO_NAMES in (tree.read(at) or b"") for at in _parameters(tree))
    if by_kernel or not _CARD.fullmatch(name) or tree.is_file(path) or not any(map(tree.is_file, _NAMES_BY_LINK)):
        return
    text = _LINK.format(name=name, path=ANY_CARD)
    bench.add(path, text.encode(), f"the network is set up for {quote(name)}, which the card would not be called here")


def _parameters(tree: Tree) -> Iterator[str]:
    """Where the kernel's command line is written."""
    return (path for pattern in _PARAMETERS for path in tree.glob(pattern) if tree.is_file(path))


class _Changes:
    """Texts of files as they are to be, of which each is written once."""

    def __init__(self, bench: Workbench) -> None:
        self._bench = bench
        self._texts: dict[str, bytes] = {}
        self._whys: dict[str, list[str]] = {}

    def change(
        self,
        paths: Iterable[str],
        edit: Callable[[str, bytes], bytes],
        is_right: Callable[[InterfaceFacts], bool],
        why: str,
    ) -> None:
        """Let ``edit`` change the files at ``paths``: those after which each of their interfaces ``is_right``."""
        for path in dict.fromkeys(paths):
            old = self._texts.get(path, self._bench.tree.read(path) or b"")
            new = edit(path, old)
            if new == old or not all(map(is_right, _interfaces_of(path, new))):
                self._bench.done.notes.append(
                    f"{quote(path)} was left as it is: it is not written in a way that is changed here."
                )
                continue
            self._texts[path] = new
            self._whys.setdefault(path, []).append(why)

    def write(self) -> None:
        for path, new in self._texts.items():
            self._bench.replace(path, len(new), [new], "; ".join(self._whys[path]))


def _interfaces_of(path: str, text: bytes) -> Sequence[InterfaceFacts]:
    """What the file at ``path`` would set up if it held ``text``."""
    files: dict[str, bytes | str | None] = {path: text}
    if path.startswith(_INTERFACES_FOLDER) and path != _INTERFACES:
        files[_INTERFACES] = f"source {path}\n".encode()
    return find_interfaces(Files(Tree({"/": MemoryFileSystem(files)})))

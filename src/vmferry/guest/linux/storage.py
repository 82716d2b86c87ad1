"""What stands between a Linux system's disks and its file systems: encryption, LVM's choice of devices, multipath; and
a system's memory in its swap.

Sources: crypttab(5), lvmdevices(8), lvm.conf(5), multipath.conf(5).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from vmferry.guest.files import Files
from vmferry.guest.linux.devices import unescape
from vmferry.guest.linux.facts import MountFacts
from vmferry.guest.linux.services import Services
from vmferry.guest.superblocks.linux import HIBERNATED, SWAP_PAGES
from vmferry.guest.tree import Tree
from vmferry.limits import MAX_GUEST_MOUNTS

_PINNED = re.compile(r"\bIDTYPE=(?:sys_serial|sys_wwid|wwid_\w+)\b")
"""Serial numbers and world wide names are the old hypervisor's; by a plain device name LVM looks for its PVID, too."""
_FILTER = re.compile(r"(?:global_)?filter\s*=\s*\[(.*)\]?")
_MAX_FILTER = 64
_KEY_OPTIONS = ("tpm2-device", "fido2-device", "pkcs11-uri")


@dataclass(frozen=True, slots=True)
class Crypttab:
    """Sources of its lines, and what opens each, as ``LinuxFacts`` has them."""

    sources: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()


def read_crypttab(files: Files) -> Crypttab:
    """Its lines, at most ``MAX_GUEST_MOUNTS``; nothing where there is none."""
    lines = [line.split() for line in files.lines("/etc/crypttab") if line and not line.startswith("#")]
    lines = [words for words in lines if len(words) > 1][:MAX_GUEST_MOUNTS]
    return Crypttab(tuple(unescape(words[1]) for words in lines), tuple(_key(words) for words in lines))


def _key(words: list[str]) -> str:
    options = words[3].split(",") if len(words) > 3 else []
    for name in _KEY_OPTIONS:
        if any(option.startswith(name) for option in options):
            return name.partition("-")[0]
    if len(words) < 3 or words[2] in ("none", "-"):
        return "passphrase"
    return "random" if words[2] in ("/dev/urandom", "/dev/random", "/dev/hw_random") else "file"


def pins_lvm_devices(files: Files) -> bool:
    """Whether LVM's devices file names devices by what does not outlive the move."""
    return any(
        _PINNED.search(line) for line in files.lines("/etc/lvm/devices/system.devices") if not line.startswith("#")
    )


def find_lvm_filters(files: Files) -> tuple[str, ...]:
    """The patterns of devices that lvm.conf lets LVM see, or not: ``a|^/dev/sda|``."""
    found = []
    for line in files.lines("/etc/lvm/lvm.conf"):
        if match := _FILTER.fullmatch(line):
            found += [part.strip(" \"'") for part in match[1].rstrip("] ").split(",")]
    return tuple(part for part in found if part)[:_MAX_FILTER]


def uses_multipath(files: Files, services: Services) -> bool:
    """Whether multipath may claim the disks: its service starts, and it is set up."""
    return bool(services.starts("multipathd")) and files.exists("/etc/multipath.conf")


def find_hibernated(files: Files | Tree, mounts: Iterable[MountFacts]) -> tuple[str, ...]:
    """Paths of the files among ``mounts`` that are swap, and hold the memory of a system that is to wake up."""
    paths = (mount.source for mount in mounts if mount.kind == "swap" and mount.source.startswith("/"))
    return tuple(path for path in paths if _holds_memory(files, path))


def _holds_memory(files: Files | Tree, path: str) -> bool:
    return files.is_file(path) and any(files.read_at(path, page - 10, 10) in HIBERNATED for page in SWAP_PAGES)

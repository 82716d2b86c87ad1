"""How a Linux system is started: its boot loader's menu, and what firmware finds on the EFI system partition.

Source: the UEFI Specification 2.10, section 3.5.1.1, for the names of the fallback loaders.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from vmferry.guest.facts import VolumeFacts
from vmferry.guest.files import Files
from vmferry.guest.linux.extlinux import read_extlinux
from vmferry.guest.linux.grub import read_grub
from vmferry.guest.linux.grub_legacy import read_grub_legacy
from vmferry.guest.linux.lilo import read_lilo
from vmferry.guest.linux.menu import Menu
from vmferry.guest.linux.systemd_boot import read_systemd_boot

_ESPS = ("/boot/efi", "/efi", "/boot", "/boot/EFI", "/esp")
"""Where systems mount the EFI system partition."""
_FALLBACKS = {"x86_64": "BOOTX64.EFI", "aarch64": "BOOTAA64.EFI", "i386": "BOOTIA32.EFI", "riscv64": "BOOTRISCV64.EFI"}
_DEVICE_MAP = re.compile(r"\((hd\d+)\)\s+(\S+)")
_MAX_LOADERS = 64


@dataclass(frozen=True, slots=True)
class EfiLoaders:
    """As ``LinuxFacts`` has them."""

    loaders: tuple[str, ...] = ()
    fallback: str | None = None


def find_menu(files: Files, volumes: Sequence[VolumeFacts]) -> Menu | None:
    """The menu of the boot loader that counts: of several, the first that can start a Linux kernel."""
    esps = find_esps(files)
    menus = [
        read_grub(files, esps, volumes),
        read_systemd_boot(files, esps),
        read_extlinux(files),
        read_grub_legacy(files, esps),
        read_lilo(files),
    ]
    found = [menu for menu in menus if menu is not None]
    with_kernels = (menu for menu in found if any(entry.kernel for entry in menu.entries))
    return next(with_kernels, None) or next(iter(found), None)


def find_esps(files: Files) -> tuple[str, ...]:
    """Where EFI system partitions are mounted: folders in which a folder ``EFI`` holds programs."""
    return tuple(path for path in _ESPS if files.glob(*_programs(path)))


def find_efi_loaders(files: Files, architecture: str | None) -> EfiLoaders:
    """The programs on the EFI system partitions; the fallback is that of the system's architecture."""
    found: dict[str, None] = {}
    for esp in find_esps(files):
        for path in files.glob(*_programs(esp)):
            found[path.removeprefix(esp)] = None
    loaders = [path for path in found if not path.lower().startswith("/efi/linux/")]
    names = (_FALLBACKS[architecture],) if architecture in _FALLBACKS else tuple(_FALLBACKS.values())
    fallback = (path for path in loaders if path.upper() in {f"/EFI/BOOT/{name}" for name in names})
    return EfiLoaders(tuple(loaders[:_MAX_LOADERS]), next(fallback, None))


def read_device_map(files: Files) -> tuple[str, ...]:
    """The devices that GRUB's device.map names: ``/dev/sda``."""
    lines = [line for path in ("/boot/grub2/device.map", "/boot/grub/device.map") for line in files.lines(path)]
    return tuple(dict.fromkeys(match[2] for line in lines[:_MAX_LOADERS] if (match := _DEVICE_MAP.match(line))))


def _programs(esp: str) -> tuple[str, ...]:
    return (f"{esp}/[Ee][Ff][Ii]/*/*.[Ee][Ff][Ii]",)

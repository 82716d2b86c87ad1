"""The boot loader that firmware starts which knows nothing of a machine: ``/EFI/BOOT/BOOTX64.EFI``.

Where a system put its own, the firmware of the old machine has written down, and no export carries that. Debian is one
that installs no other. Sources: UEFI specification 2.10, section 3.5.1.1 (removable media); the manual of shim.
"""

from __future__ import annotations

from dataclasses import dataclass

from vmferry.errors import GuestError, quote
from vmferry.guest.fat_writer import FatFileSystem
from vmferry.guest.overlay_volume import OverlayVolume

_FOLDER = "/EFI/BOOT"
_ARCHITECTURES = ("x64", "aa64")
_LOADERS = ("shim{}.efi", "grub{}.efi", "systemd-boot{}.efi")
"""What is started first, the surest first."""
_COMPANIONS = ("grub{}.efi", "mm{}.efi")
"""What shim looks for beside itself."""
_CONFIGURATION = "grub.cfg"
"""What a GRUB that was not signed for its own folder looks for beside itself."""
_MAX_FOLDERS = 16
"""Below ``/EFI``, one for each system that was ever installed."""


@dataclass(frozen=True, slots=True)
class AddedLoader:
    """A file that was added to an EFI system partition."""

    path: str
    size: int
    source: str
    """The file that it is a copy of."""


def add_fallback(volume: OverlayVolume, prefer: str, now: int) -> list[AddedLoader]:
    """Add the loader for firmware without boot entries to the EFI system partition ``volume``, where it has none.

    ``prefer``: the folder below ``/EFI`` whose loader is taken, where there are several. Answers the files that were
    added: none where there is one already, or nothing to make one from. Raises ``GuestError`` where the partition is
    damaged or full; nothing is written then.
    """
    system = FatFileSystem(volume)
    for architecture in _ARCHITECTURES:
        fallback = f"{_FOLDER}/BOOT{architecture.upper()}.EFI"
        if system.size(fallback) is not None:
            return []
        sources = [path for path in _loaders(system, prefer) if path.lower().endswith(f"{architecture}.efi")]
        if sources:
            return _copy(system, sources[0], fallback, architecture, now)
    return []


def _loaders(system: FatFileSystem, prefer: str) -> list[str]:
    """Paths of what could be started, the best first."""
    folders = sorted(system.names("/EFI"), key=lambda name: (name.lower() != prefer.lower(), name))[:_MAX_FOLDERS]
    names = [loader.format(architecture) for loader in _LOADERS for architecture in _ARCHITECTURES]
    paths = [f"/EFI/{folder}/{name}" for folder in folders if folder.upper() != "BOOT" for name in names]
    return [path for path in paths if system.size(path)]


def _copy(system: FatFileSystem, source: str, fallback: str, architecture: str, now: int) -> list[AddedLoader]:
    """Add ``fallback`` as a copy of ``source``, with what that needs beside it."""
    above = source.rpartition("/")[0]
    wanted = [(source, fallback)]
    beside = [_CONFIGURATION, *(name.format(architecture) for name in _COMPANIONS)]
    for name in beside if "systemd" not in source else ():
        target = f"{_FOLDER}/{name.upper()}"
        if system.size(f"{above}/{name}") and system.size(target) is None and f"{above}/{name}" != source:
            wanted.append((f"{above}/{name}", target))
    contents = [(path, target, system.read(path)) for path, target in wanted]
    if not contents[0][2].startswith(b"MZ"):
        raise GuestError(f"{quote(source)} on the EFI system partition is no program: install the boot loader again.")
    system.check_room([len(content) for _, _, content in contents])
    system.make_folder(_FOLDER, now)
    for _, target, content in contents:
        system.create_file(target, content, now)
    system.commit()
    return [AddedLoader(target, len(content), path) for path, target, content in contents]

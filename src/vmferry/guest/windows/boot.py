"""What starts a Windows: where its boot configuration lies, which partition that names, and what firmware without boot
entries would start.

Sources: Microsoft, "BCD WMI Provider" and "Boot.ini"; the layout of BCD's devices as the BCDEdit notes of
mistyprojects.co.uk have it.
"""

from __future__ import annotations

import re
import struct
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vmferry.guest.facts import VolumeFacts
from vmferry.guest.files import Files
from vmferry.guest.windows.hive import Key
from vmferry.guest.windows.registry import Registry, open_hive

_BIOS, _UEFI = "legacy-bios", "uefi"
_MANAGER = "{9dea862c-5cdd-4e70-acc1-f32b344d4795}"
_DEFAULT, _SYSTEM_DEVICE = "23000003", "21000001"
_CONSOLES = ("16000020", "260000b0")
"""Elements that send the boot manager's, or the kernel's, console to a serial port."""
_NO_GRAPHICS = "16000046"
_BOOT_DEVICE, _PARTITION = 5, 6
_DEVICE = struct.Struct("<16xI12x16s4xI16s")
"""Of an element that is a device: its type, the partition, the kind of partition table, the disk."""
_GPT, _MBR = 0, 1
_FALLBACKS = {"x86_64": "BOOTX64.EFI", "i386": "BOOTIA32.EFI", "aarch64": "BOOTAA64.EFI"}
_LOADER = "/EFI/Microsoft/Boot/bootmgfw.efi"
_COMPARED = 4096
"""Bytes at the start of two loaders that are compared: their headers hold a checksum of all and a time."""
_ARC_PATH = re.compile(r"(?i)default\s*=\s*(?:multi|scsi)\(\d+\)disk\(\d+\)rdisk\((\d{1,2})\)partition\((\d{1,3})\)")
_GUID_LENGTH = 36


@dataclass(frozen=True, slots=True)
class BootConfig:
    """What lies beside the boot manager. See ``WindowsFacts``."""

    mode: str | None = None
    path: str | None = None
    root_named: str | None = None
    root_volume: str | None = None
    serial_console: bool = False
    graphics_disabled: bool = False


@dataclass(frozen=True, slots=True)
class EfiLoaders:
    """On the EFI system partition, paths on it."""

    own: str | None = None
    fallback: str | None = None
    fallback_is_own: bool | None = None


def find_boot_config(files: Files, registry: Registry, volumes: Sequence[VolumeFacts]) -> BootConfig:
    """The configuration that will be used. Where both kinds lie about, the partition table tells; where none is found,
    it tells the mode at least."""
    by_table = _mode_by_table(volumes)
    found = [(mode, path) for mode, path in _candidates(files) if files.is_file(path)]
    found.sort(key=lambda item: item[0] != (by_table or _UEFI))
    if not found:
        said = {1: _BIOS, 2: _UEFI}.get(registry.control.number("PEFirmwareType") or 0)
        return BootConfig(by_table or said)
    mode, path = found[0]
    if path.lower().endswith("boot.ini"):
        named, volume = _read_boot_ini(files, path, volumes)
        return BootConfig(mode, path, named, volume)
    return _read_bcd(open_hive(files, path), mode, path, volumes)


def find_efi_loaders(files: Files, architecture: str | None) -> EfiLoaders:
    """The loader of Windows, and the one that firmware without boot entries starts."""
    names = (_FALLBACKS[architecture],) if architecture in _FALLBACKS else tuple(_FALLBACKS.values())
    for mount in _mounts(files):
        own = files.find(_join(mount, _LOADER))
        fallback = next((path for name in names if (path := files.find(_join(mount, f"/EFI/BOOT/{name}")))), None)
        if own or fallback:
            same = _look_the_same(files, own, fallback) if own and fallback else None
            return EfiLoaders(_inside(mount, own), _inside(mount, fallback), same)
    return EfiLoaders()


def _mounts(files: Files) -> list[str]:
    return sorted(files.tree.mounts, key=lambda mount: (mount != "/boot/efi", mount))


def _candidates(files: Files) -> list[tuple[str, str]]:
    """Mode and path of all places where a boot configuration may lie."""
    found = []
    for mount in _mounts(files):
        found.append((_UEFI, _join(mount, "/EFI/Microsoft/Boot/BCD")))
        if files.is_file(_join(mount, "/bootmgr")):
            found.append((_BIOS, _join(mount, "/Boot/BCD")))
        if files.is_file(_join(mount, "/ntldr")):
            found.append((_BIOS, _join(mount, "/boot.ini")))
    return found


def _mode_by_table(volumes: Sequence[VolumeFacts]) -> str | None:
    """How Windows starts from the disks that its file systems are on: by UEFI from a GPT and by a BIOS from an MBR; it
    knows no other way. ``None`` where the disks differ."""
    names = {len(volume.partition_uuid) for volume in volumes if volume.kind == "ntfs" and volume.partition_uuid}
    if len({length == _GUID_LENGTH for length in names}) != 1:
        return None
    return _UEFI if _GUID_LENGTH in names else _BIOS


def _read_bcd(bcd: Key, mode: str, path: str, volumes: Sequence[VolumeFacts]) -> BootConfig:
    manager = _elements(bcd, _MANAGER)
    loader = _elements(bcd, manager.key(_DEFAULT).text("Element") or "")
    named, volume = _read_device(loader.key(_SYSTEM_DEVICE).data("Element"), volumes)
    return BootConfig(
        mode,
        path,
        named,
        volume,
        serial_console=any(_is_on(key, name) for key in (manager, loader) for name in _CONSOLES),
        graphics_disabled=any(_is_on(key, _NO_GRAPHICS) for key in (manager, loader)),
    )


def _elements(bcd: Key, name: str) -> Key:
    return bcd.key(f"Objects\\{name}\\Elements")


def _is_on(elements: Key, name: str) -> bool:
    return (elements.key(name).data("Element") or b"\0")[:1] != b"\0"


def _read_device(data: bytes | None, volumes: Sequence[VolumeFacts]) -> tuple[str | None, str | None]:
    """What a device of BCD is called, and the place of the volume that it is."""
    if data is None or len(data) < 20:
        return None, None
    kind = int.from_bytes(data[16:20], "little")
    if kind == _BOOT_DEVICE:
        return "boot", None
    if kind != _PARTITION or len(data) < _DEVICE.size:
        return None, None
    _, partition, table, disk = _DEVICE.unpack_from(data)
    if table == _GPT:
        name = str(uuid.UUID(bytes_le=partition))
        return f"partition {name}", _place(volumes, lambda volume: volume.partition_uuid == name)
    if table != _MBR:
        return None, None
    start, signature = int.from_bytes(partition[:8], "little"), f"{int.from_bytes(disk[:4], 'little'):08x}"
    return f"disk {signature}, byte {start}", _place(
        volumes,
        lambda volume: volume.start == start and (volume.partition_uuid or "").partition("-")[0] == signature,
    )


def _read_boot_ini(files: Files, path: str, volumes: Sequence[VolumeFacts]) -> tuple[str | None, str | None]:
    default = next((line for line in files.lines(path) if _ARC_PATH.match(line)), "")
    match = _ARC_PATH.match(default)
    if match is None:
        return None, None
    disk, partition = int(match[1]) + 1, int(match[2])
    place = _place(volumes, lambda volume: volume.disk == disk and volume.partition == partition)
    return default.partition("=")[2].strip(), place


def _place(volumes: Sequence[VolumeFacts], fits: Callable[[VolumeFacts], bool]) -> str | None:
    return next((volume.place for volume in volumes if fits(volume)), None)


def _look_the_same(files: Files, one: str, other: str) -> bool:
    return files.size(one) == files.size(other) and files.read_at(one, 0, _COMPARED) == files.read_at(
        other, 0, _COMPARED
    )


def _join(mount: str, path: str) -> str:
    return path if mount == "/" else mount + path


def _inside(mount: str, path: str | None) -> str | None:
    return path if path is None or mount == "/" else path.removeprefix(mount)

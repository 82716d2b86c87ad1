"""A Windows on disks of real file systems, looked at by the child process without rights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.guest.disks import START, partitioned
from tests.guest.images import make_fat, make_ntfs, mounted_ntfs
from tests.guest.trees import open_raw
from tests.guest.windows_trees import BOOT_DEVICE, VIRTIO_FILE, bcd, files, mbr_device, virtio
from vmferry.errors import GuestError
from vmferry.guest.facts import GuestFacts
from vmferry.guest.guestfish import Guestfish
from vmferry.guest.look import look
from vmferry.guest.prepare import prepare_guest
from vmferry.guest.virt_v2v import VirtV2v
from vmferry.guest.windows.facts import WindowsFacts
from vmferry.units import MIB

_SIZE = 32 * MIB
_SIGNATURE = 0x1234ABCD
_NTFS, _ESP, _DATA = "7", "C12A7328-F81F-11D2-BA4B-00A0C93EC93B", "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7"


def write(folder: Path, content: Mapping[str, bytes | str | None]) -> Path:
    """``content`` in ``folder``."""
    for name, data in content.items():
        path = folder / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        assert isinstance(data, bytes)
        path.write_bytes(data)
    return folder


def ntfs(tmp_path: Path, name: str, content: Mapping[str, bytes | str | None]) -> Path:
    """An NTFS with ``content``."""
    image = make_ntfs(tmp_path / f"{name}.raw", size=_SIZE)
    with mounted_ntfs(image, tmp_path / f"mounted-{name}") as mounted:
        write(mounted, content)
    return image


def windows(facts: GuestFacts) -> WindowsFacts:
    """What was seen of the only Windows, and nothing else."""
    assert facts.problems == ()
    assert facts.bytes_read < 16 * MIB
    assert facts.system is not None
    assert facts.system.windows is not None
    assert facts.system.windows.problems == ()
    return facts.system.windows


def test_windows_of_a_bios_with_its_system_partition(tmp_path: Path) -> None:
    device = mbr_device(START + _SIZE, _SIGNATURE)
    reserved = ntfs(tmp_path, "reserved", {"/bootmgr": b"x", "/Boot/BCD": bcd(device)})
    drive = ntfs(tmp_path, "drive", files("2012r2", virtio(), more=VIRTIO_FILE))
    disk = partitioned(tmp_path / "disk.raw", [(_NTFS, reserved), (_NTFS, drive)], label="dos")
    facts = look([open_raw(disk)])
    seen = windows(facts)
    assert facts.system is not None
    assert (seen.product, seen.boot_mode) == ("Windows Server 2012 R2 Standard", "legacy-bios")
    assert seen.boot_drivers == ("storahci", "stornvme", "storvsc", "viostor")
    assert seen.root_volume == facts.system.root == "disk 1, partition 2"


def test_a_windows_is_not_told_what_a_linux_would_do(tmp_path: Path) -> None:
    drive = ntfs(tmp_path, "drive", files("2022"))
    disk = open_raw(partitioned(tmp_path / "disk.raw", [(_NTFS, drive)], label="dos"))
    with pytest.raises(GuestError, match=r"^The guest is a Windows, to which drivers are not added by our own means"):
        prepare_guest(disk, ["virtio"], 0, Guestfish("none"), VirtV2v("none"))


def test_windows_of_uefi_with_its_system_partition(tmp_path: Path) -> None:
    esp = {
        "/EFI/Microsoft/Boot/BCD": bcd(BOOT_DEVICE),
        "/EFI/Microsoft/Boot/bootmgfw.efi": b"MZ" * 4096,
        "/EFI/Boot/bootx64.efi": b"MZ" * 4096,
    }
    efi = make_fat(write(tmp_path / "esp", esp), tmp_path / "esp.raw", size=16 * MIB)
    hibernated = {"/hiberfil.sys": b"HIBR" + bytes(8188)}
    drive = ntfs(tmp_path, "drive", files("2025", more=hibernated))
    disk = partitioned(tmp_path / "disk.raw", [(_ESP, efi), (_DATA, drive)])
    seen = windows(look([open_raw(disk)]))
    assert (seen.product, seen.boot_mode) == ("Windows Server 2025 Standard", "uefi")
    assert seen.hibernated
    assert seen.boot_config == "/boot/efi/EFI/Microsoft/Boot/BCD"
    assert (seen.efi_fallback, seen.efi_fallback_is_own) == ("/EFI/BOOT/BOOTX64.EFI", True)

"""The system that will start is found by what is on the disks, not by where; its volumes stand where it mounts them."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from tests.guest.disks import partitioned
from tests.guest.images import install_grub, make_ext, make_fat, make_ntfs, make_xfs, mounted_ntfs
from tests.guest.lvm_builder import EXTENT, Group, striped
from tests.guest.trees import OS_RELEASE, open_raw
from tests.guest.windows_trees import bcd
from tests.guest.windows_trees import files as windows_files
from vmferry.guest.facts import GuestFacts
from vmferry.guest.inside import look_inside
from vmferry.guest.look import look as look_by_child

pytestmark = pytest.mark.slow

ROOT_ID = "0b5c64e2-51ba-4a0e-9e7a-d2c8b3a4a6f1"
OTHER_ID = "7f3a0d7c-3a40-4c52-8a43-1d1f0b9a0c11"


def tree(folder: Path, files: Mapping[str, bytes | None]) -> Path:
    """A folder of ``files``; ``None`` is an empty folder."""
    for name, content in files.items():
        path = folder / name
        (path if content is None else path.parent).mkdir(parents=True, exist_ok=True)
        if content is not None:
            path.write_bytes(content)
    folder.mkdir(exist_ok=True)
    return folder


def system(folder: Path, fstab: str = "", **more: bytes) -> Path:
    """A small Debian."""
    named = {name.replace("__", "/"): content for name, content in more.items()}
    return tree(
        folder,
        {
            "etc/os-release": OS_RELEASE,
            "etc/fstab": fstab.encode(),
            "boot/efi": None,
            "var": None,
            "usr": None,
            **named,
        },
    )


def look(*disks: Path) -> GuestFacts:
    return look_inside([open_raw(disk) for disk in disks])


def last_used(image: Path, seconds: int) -> Path:
    """``image`` (ext3), as if it had been mounted then; it has no checksums."""
    content = bytearray(image.read_bytes())
    struct.pack_into("<II", content, 1024 + 44, seconds, seconds)
    image.write_bytes(content)
    return image


def test_a_system_is_put_together_as_its_fstab_says(tmp_path: Path) -> None:
    fstab = (
        f"UUID={ROOT_ID} / ext4 defaults 0 1\nLABEL=boot /boot xfs defaults 0 2\n"
        "UUID=1A2B-3C4D /boot/efi vfat umask=0077 0 1\n"
        "/dev/mapper/vg0-usr /usr ext4 defaults 0 2\n/dev/sdb1 /var ext4 nofail 0 2\n/dev/sdz9 /nope ext4 nofail 0 2\n"
        "//server/share /mnt cifs guest 0 0\nproc /proc proc defaults 0 0\n"
    )
    root = make_ext(system(tmp_path / "root", fstab), tmp_path / "root.raw", "-t", "ext4", size="16M")
    boot = make_xfs(tree(tmp_path / "boot", {"vmlinuz": b"k"}), tmp_path / "boot.raw", "-L", "boot")
    efi = make_fat(tree(tmp_path / "efi", {"EFI/BOOT/BOOTX64.EFI": b"MZ"}), tmp_path / "efi.raw", size=8 << 20)
    usr = make_ext(
        tree(tmp_path / "usr", {"bin/ls": b"x"}), tmp_path / "usr.raw", "-t", "ext4", "-U", OTHER_ID, size="8M"
    )
    content = usr.read_bytes()
    pieces = {(0, at): content[at * EXTENT : (at + 1) * EXTENT] for at in range(8)}
    group = tmp_path / "group.raw"
    group.write_bytes(Group("vg0", [8], {"usr": [striped(0, 8, (0, 0))]}, contents=pieces).build()[0])
    var = make_ext(
        tree(tmp_path / "var", {"log/syslog": b"x"}),
        tmp_path / "var.raw",
        "-t",
        "ext4",
        "-U",
        OTHER_ID.replace("7f", "8f"),
        size="8M",
    )
    first = partitioned(tmp_path / "a.raw", [("U", efi), ("L", boot), ("L", root), ("V", group)])
    second = partitioned(tmp_path / "b.raw", [("83", var)], label="dos")
    facts = look(first, second)
    assert facts.problems == ()
    assert [volume.problem for volume in facts.volumes] == [None] * 6
    assert facts.system is not None
    assert facts.system.root == "disk 1, partition 3"
    assert set(facts.system.volumes) == {
        "disk 1, partition 1",
        "disk 1, partition 2",
        "disk 1, partition 3",
        "disk 2, partition 1",
        "vg0/usr",
    }
    assert facts.system.linux is not None
    assert {mount.target: mount.volume for mount in facts.system.linux.mounts}["/usr"] == "vg0/usr"


def test_the_efi_system_partition_is_found_where_fstab_leaves_it_out(tmp_path: Path) -> None:
    root = make_ext(system(tmp_path / "root"), tmp_path / "root.raw", "-t", "ext4", size="16M")
    efi = make_fat(tree(tmp_path / "efi", {"EFI/BOOT/BOOTX64.EFI": b"MZ"}), tmp_path / "efi.raw", size=8 << 20)
    facts = look(partitioned(tmp_path / "a.raw", [("L", root), ("U", efi)]))
    assert facts.system is not None
    assert facts.system.volumes == ("disk 1, partition 1", "disk 1, partition 2")


def two_systems(tmp_path: Path, efi_files: Mapping[str, bytes]) -> GuestFacts:
    old = make_ext(system(tmp_path / "old"), tmp_path / "old.raw", "-t", "ext3", size="16M")
    new = make_ext(system(tmp_path / "new"), tmp_path / "new.raw", "-t", "ext3", "-U", OTHER_ID, size="16M")
    last_used(old, 1_700_000_000)
    last_used(new, 1_790_000_000)
    efi = make_fat(tree(tmp_path / "efi", efi_files), tmp_path / "efi.raw", size=8 << 20)
    return look(partitioned(tmp_path / "a.raw", [("L", old), ("L", new), ("U", efi)]))


def test_of_two_systems_the_one_used_last_is_taken(tmp_path: Path) -> None:
    facts = two_systems(tmp_path, {"EFI/BOOT/BOOTX64.EFI": b"MZ"})
    assert [(found.root, found.chosen_by, found.last_used) for found in facts.systems] == [
        ("disk 1, partition 2", "it was used last", 1_790_000_000),
        ("disk 1, partition 1", "another is started", 1_700_000_000),
    ]


def test_of_two_systems_the_one_that_the_loader_names_is_taken(tmp_path: Path) -> None:
    config = f"search.fs_uuid {ROOT_ID} root hd0,gpt1\nset prefix=($root)'/boot/grub'\nconfigfile $prefix/grub.cfg\n"
    facts = two_systems(tmp_path, {"EFI/debian/grub.cfg": config.encode()})
    assert [(found.root, found.chosen_by) for found in facts.systems] == [
        ("disk 1, partition 1", "the boot loader names it"),
        ("disk 1, partition 2", "another is started"),
    ]


def test_of_two_systems_the_one_that_grub_in_the_mbr_names_is_taken(tmp_path: Path) -> None:
    old = make_ext(system(tmp_path / "old"), tmp_path / "old.raw", "-t", "ext3", size="16M")
    new = make_ext(system(tmp_path / "new"), tmp_path / "new.raw", "-t", "ext3", "-U", OTHER_ID, size="16M")
    last_used(old, 1_700_000_000)
    last_used(new, 1_790_000_000)
    disk = partitioned(tmp_path / "a.raw", [("83", old), ("83", new)], label="dos")
    content = bytearray(disk.read_bytes())
    for prefix, wanted in (("(,msdos1)/boot/grub", 1), ("(,msdos2)/boot/grub", 2)):
        boot = install_grub(tmp_path, prefix)
        content[:440], content[512 : 1 << 20] = boot[:440], boot[512 : 1 << 20]
        disk.write_bytes(content)
        facts = look(disk)
        assert [found.chosen_by for found in facts.systems] == ["the boot loader names it", "another is started"]
        assert facts.systems[0].root == f"disk 1, partition {wanted}"


def test_of_two_systems_the_one_on_the_active_partition_is_taken(tmp_path: Path) -> None:
    old = make_ext(system(tmp_path / "old"), tmp_path / "old.raw", "-t", "ext3", size="16M")
    new = make_ext(system(tmp_path / "new"), tmp_path / "new.raw", "-t", "ext3", "-U", OTHER_ID, size="16M")
    disk = partitioned(tmp_path / "a.raw", [("83,bootable", last_used(old, 1_700_000_000)), ("83", new)], label="dos")
    assert look(disk).systems[0].root == "disk 1, partition 1"


def test_the_system_may_be_on_any_disk(tmp_path: Path) -> None:
    data = make_ext(tree(tmp_path / "data", {"photos/1.jpg": b"x"}), tmp_path / "data.raw", "-t", "ext4", size="8M")
    root = make_ext(system(tmp_path / "root"), tmp_path / "root.raw", "-t", "ext4", "-U", OTHER_ID, size="16M")
    facts = look(data, partitioned(tmp_path / "b.raw", [("83", root)], label="dos"))
    assert facts.system is not None
    assert facts.system.root == "disk 2, partition 1"


def test_a_damaged_volume_does_not_hide_the_system_beside_it(tmp_path: Path) -> None:
    root = make_ext(system(tmp_path / "root"), tmp_path / "root.raw", "-t", "ext4", size="16M")
    for name, broken in (
        ("xfs", make_xfs(tree(tmp_path / "x", {}), tmp_path / "x.raw")),
        ("ntfs", make_ntfs(tmp_path / "n.raw")),
    ):
        content = bytearray(broken.read_bytes())
        for at in range(4096, len(content), 4096):
            content[at : at + 512] = b"\xff" * 512
        broken.write_bytes(content)
        facts = look(partitioned(tmp_path / f"{name}.disk", [("83", broken), ("83", root)], label="dos"))
        assert facts.system is not None
        assert facts.system.root == "disk 1, partition 2"
        assert facts.volumes[0].kind == name
        assert facts.volumes[0].problem is not None


@pytest.mark.parametrize(("kind", "name"), [("a5", "FreeBSD"), ("a6", "OpenBSD"), ("bf", "Solaris")])
def test_a_system_that_only_its_partition_tells_of_is_named(tmp_path: Path, kind: str, name: str) -> None:
    image = tmp_path / "slice.raw"
    image.write_bytes(bytes(2 << 20))
    facts = look(partitioned(tmp_path / "a.raw", [(kind, image)], label="dos"))
    assert facts.system is not None
    assert (facts.system.other, facts.system.root) == (name, "disk 1, partition 1")


def test_a_windows_is_found_with_the_volume_that_it_starts_from(tmp_path: Path) -> None:
    drive, reserved = make_ntfs(tmp_path / "c.raw", size=48 << 20), make_ntfs(tmp_path / "reserved.raw", size=8 << 20)
    with mounted_ntfs(drive, tmp_path / "mounted") as mounted:
        tree(
            mounted,
            {
                name.lstrip("/"): content
                for name, content in windows_files("2019").items()
                if isinstance(content, bytes)
            },
        )
    with mounted_ntfs(reserved, tmp_path / "system") as mounted:
        tree(mounted, {"bootmgr": b"BOOTMGR", "Boot/BCD": bcd(None)})
    disk = partitioned(tmp_path / "a.raw", [("7", reserved), ("7", drive)], label="dos")
    facts = look(disk)
    assert facts == replace(look_by_child([open_raw(disk)]), bytes_read=0, seconds=0.0)
    assert facts.problems == ()
    assert facts.system is not None
    assert facts.system.root == "disk 1, partition 2"
    assert facts.system.volumes == ("disk 1, partition 2", "disk 1, partition 1")
    assert facts.system.windows is not None
    assert "2019" in facts.system.windows.product
    assert facts.system.windows.boot_mode == "legacy-bios"
    assert facts.system.last_used > 1_700_000_000

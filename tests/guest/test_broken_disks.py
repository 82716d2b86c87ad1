"""Machines broken in one way each, as whole disks: ``vmferry inspect`` finds that and blames nothing else."""

from __future__ import annotations

import json
import struct
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.material import call_vmferry
from tests.guest.debian_disk import DRIVERS, GRUB, UUID, VERSION, debian, grub_cfg, make_disk, make_root, without
from tests.guest.disks import partitioned
from tests.guest.images import make_fat, make_ntfs, mounted_ntfs
from tests.guest.linux_trees import AARCH64, I386, bzimage, cpio, elf, gzipped
from tests.guest.lvm_builder import Group, striped
from tests.guest.trees import run
from tests.guest.windows_trees import bcd, files, mbr_device
from vmferry.guest.findings import RuleSet
from vmferry.guest.rules import rules
from vmferry.units import KIB, MIB, SECTOR, TIB

pytestmark = pytest.mark.slow

Break = Callable[[Path], Path]
"""Makes the broken disk in a folder."""

ESP, BIOS_BOOT = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B", "21686148-6449-6E6F-744E-656564454649"
_INITRAMFS = f"/boot/initrd.img-{VERSION}"


def findings(disk: Path) -> dict[str, dict[str, str]]:
    """Id → severity of what each set of rules finds, as ``vmferry inspect --json`` tells it."""
    done = call_vmferry("inspect", disk, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)["preflight"]
    return {rule_set: {found["id"]: found["severity"] for found in told[rule_set]} for rule_set in told}


def expected(*ids: str) -> dict[str, dict[str, str]]:
    """What ``findings`` gives where ``ids`` are found, and no other."""
    known = {rule.id: rule for rule in rules()}
    return {
        rule_set.value: {id_: known[id_].severities[rule_set].words for id_ in ids if rule_set in known[id_].severities}
        for rule_set in RuleSet
    }


def test_what_is_broken_below_is_sound_before(tmp_path: Path) -> None:
    assert findings(make_disk(tmp_path, debian())) == expected()


def put(path: str, content: bytes | str) -> Break:
    """The Debian with another file at ``path``."""
    return lambda folder: make_disk(folder, debian(more={path: content}))


def fstab(line: str, root: str = f"UUID={UUID}") -> Break:
    return put("/etc/fstab", f"{root} / ext4 errors=remount-ro 0 1\n{line}\n".encode())


def take_away(*paths: str) -> Break:
    return lambda folder: make_disk(folder, without(debian(), *paths))


def patched(make: Break, offset: int, data: bytes) -> Break:
    """The disk that ``make`` makes, with ``data`` at ``offset``, which from the disk's end is negative."""

    def change(folder: Path) -> Path:
        disk = make(folder)
        with disk.open("r+b") as file:
            file.seek(offset, 2 if offset < 0 else 0)
            file.write(data)
        return disk

    return change


def with_drivers(*drivers: str) -> Break:
    return lambda folder: make_disk(folder, debian(*drivers))


def full(folder: Path) -> Path:
    root = make_root(folder, debian(more={"/var/log/journal": b"x" * (48 * MIB)}), size="96M")
    return partitioned(folder / "disk.raw", [("83", root)], "dos", GRUB)


def without_inodes(folder: Path) -> Path:
    """mke2fs makes 400 inodes at least."""
    spool = {f"/var/spool/mail/{number}": b"" for number in range(330)}
    root = make_root(folder, debian(more=spool), "-N", "400")
    return partitioned(folder / "disk.raw", [("83", root)], "dos", GRUB)


def paravirtual(folder: Path) -> Path:
    """As Red Hat 5 installs it in a guest of Xen's."""
    version = "2.6.18-398.el5xen"
    tree = without(debian(), "/boot", "/usr/lib/modules") | {
        "/etc/os-release": b'ID=rhel\nVERSION_ID="5.11"\n',
        f"/boot/vmlinuz-{version}": gzipped(elf(62)),
        f"/boot/initrd-{version}.img": gzipped(cpio({"lib/xennet.ko": b"", "lib/xenblk.ko": b""})),
        f"/usr/lib/modules/{version}/modules.dep": b"",
        "/boot/grub/menu.lst": b"default 0\ntitle Xen\nroot (hd0,0)\nkernel /boot/xen.gz-2.6.18-398.el5\n"
        b"module /boot/vmlinuz-2.6.18-398.el5xen ro root=UUID=%b\n"
        b"module /boot/initrd-2.6.18-398.el5xen.img\n" % UUID.encode(),
    }
    return make_disk(folder, tree)


def luks(version: int) -> Break:
    """Debian's installer, "encrypted": the root inside LUKS, /boot outside."""
    header = b"LUKS\xba\xbe" + struct.pack(">H", version)
    header = header.ljust(168, b"\0") + str(uuid.UUID(int=7)).encode()

    def make(folder: Path) -> Path:
        boot = {path.removeprefix("/boot"): data for path, data in debian().items() if path.startswith("/boot/")}
        locked = folder / "locked"
        locked.write_bytes(header.ljust(16 * MIB, b"\x5a"))
        return make_disk(folder, boot, ("83", locked))

    return make


def tpm_key(folder: Path) -> Path:
    return make_disk(folder, debian(more={"/etc/crypttab": b"data UUID=7 none tpm2-device=auto\n"}))


def beside(kind: str, content: bytes, place: int = 0, size: int = 8 * MIB) -> Break:
    """The Debian, and a partition of ``kind`` that has ``content`` at ``place``."""

    def make(folder: Path) -> Path:
        (folder / "beside").write_bytes((bytes(place) + content).ljust(size, b"\0"))
        return make_disk(folder, debian(), (kind, folder / "beside"))

    return make


def dynamic(folder: Path) -> Path:
    """A dynamic disk with an MBR: one partition of LDM's type, its head in sector 6, its database in the last MiB."""
    (folder / "volumes").write_bytes(b"x" * MIB)
    disk = partitioned(folder / "disk.raw", [("42", folder / "volumes")], "dos", b"\x33\xc0\x8e")
    return patched(patched(lambda _: disk, 6 * SECTOR, b"PRIVHEAD\0\2\0\x0c"), -MIB, b"TOCBLOCK")(folder)


def raid(folder: Path) -> Path:
    """One of two members of a stripe set, superblock 1.2: the root is on both."""
    head = struct.pack("<IIII", 0xA92B4EFC, 1, 0, 0) + uuid.UUID(int=9).bytes + b"host:0".ljust(32, b"\0")
    head += struct.pack("<QiIQII", 0, 0, 128, 4096, 0, 2).ljust(64, b"\0")
    head = head.ljust(128, b"\0") + struct.pack("<QQQ", 2048, 4096, 8)
    (folder / "member").write_bytes((bytes(4096) + head).ljust(8 * MIB, b"\0"))
    return partitioned(folder / "disk.raw", [("fd", folder / "member")], "dos", GRUB)


def lacking_a_disk(folder: Path) -> Path:
    """Volume group over two disks, of which one was exported."""
    group = Group("vg0", [16, 16], {"root": [striped(0, 16, (0, 0)), striped(16, 16, (1, 0))]})
    (folder / "physical").write_bytes(group.build()[0])
    return partitioned(folder / "disk.raw", [("8e", folder / "physical")], "dos", GRUB)


def damaged_group(folder: Path) -> Path:
    """The text of the group's metadata has a bad sector."""
    content = bytearray(Group("vg0", [16], {"root": [striped(0, 16, (0, 0))]}).build()[0])
    content[4096 + 512 : 4096 + 1024] = b"\xff" * 512
    (folder / "physical").write_bytes(content)
    return partitioned(folder / "disk.raw", [("8e", folder / "physical")], "dos", GRUB)


def gpt(folder: Path, *, fallback: bool = True) -> Path:
    """The Debian on a GPT that UEFI starts."""
    loaders = ["/EFI/debian/grubx64.efi", *(["/EFI/BOOT/BOOTX64.EFI"] if fallback else [])]
    tree = folder / "efi"
    for loader in loaders:
        (tree / loader.lstrip("/")).parent.mkdir(parents=True)
        (tree / loader.lstrip("/")).write_bytes(b"MZ" * 4096)
    esp = make_fat(tree, folder / "esp.raw", size=16 * MIB)
    mounted = f"UUID={UUID} / ext4 defaults 0 1\nUUID=1A2B-3C4D /boot/efi vfat umask=0077 0 1\n".encode()
    root = make_root(folder, debian(more={"/etc/fstab": mounted}))
    return partitioned(folder / "disk.raw", [(ESP, esp), ("L", root)])


def test_a_gpt_with_an_efi_system_partition_is_sound_before_it_is_broken(tmp_path: Path) -> None:
    assert findings(gpt(tmp_path)) == expected()


def large_sectors(folder: Path) -> Path:
    """A GPT that counts in sectors of 4,096 bytes: the copy of a physical disk."""
    disk = folder / "disk.raw"
    content = bytearray(64 * MIB)
    small = partitioned(folder / "small.raw", [("L", write(folder / "data", bytes(MIB)))]).read_bytes()
    content[: 4 * KIB] = small[:SECTOR].ljust(4 * KIB, b"\0")
    content[4 * KIB : 4 * KIB + SECTOR] = small[SECTOR : 2 * SECTOR]
    return write(disk, bytes(content))


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def vast(folder: Path) -> Path:
    """3 TiB, of which the MBR reaches two."""
    disk = make_disk(folder, debian())
    with disk.open("r+b") as file:
        file.truncate(3 * TIB)
    return disk


def in_use(folder: Path) -> Path:
    """Switched off, as a snapshot of a running machine is: the journal is to be replayed."""
    disk = make_disk(folder, debian())
    run("debugfs", "-w", "-R", "feature needs_recovery", f"{disk}?offset={MIB}")
    return disk


def bsd(folder: Path) -> Path:
    (folder / "slice").write_bytes(bytes(4 * MIB))
    return partitioned(folder / "disk.raw", [("a5", folder / "slice")], "dos", GRUB)


def two_systems(folder: Path) -> Path:
    other = make_root(folder, debian(), "-U", str(uuid.UUID(int=3)), name="other")
    return make_disk(folder, debian(), ("83", other))


def without_root_inode(folder: Path) -> Path:
    root = make_root(folder, debian(), size="64M")
    run("debugfs", "-w", "-R", "clri <2>", root)
    return partitioned(folder / "disk.raw", [("83", root)], "dos", GRUB)


def dirty_ntfs(folder: Path) -> Path:
    """A data partition that Windows, on the same machine, did not leave cleanly."""
    return make_disk(folder, debian(), ("7", mark_dirty(make_ntfs(folder / "ntfs.raw", size=8 * MIB))))


def mark_dirty(image: Path) -> Path:
    """``image``, an NTFS whose $Volume says that it is in use."""
    content = bytearray(image.read_bytes())
    cluster_size = content[13] * SECTOR
    record = struct.unpack_from("<Q", content, 48)[0] * cluster_size + 3 * KIB
    at = content.index(b"\x70\0\0\0", record)  # the attribute $VOLUME_INFORMATION
    content[at + 24 + 10] |= 1
    image.write_bytes(content)
    return image


BROKEN: dict[str, tuple[Break, tuple[str, ...]]] = {
    "nothing on it": (lambda folder: write(folder / "disk.raw", bytes(4 * MIB)), ("no-partition-table",)),
    "no boot loader": (lambda folder: make_disk(folder, debian(), code=b""), ("no-boot-loader",)),
    "GPT header damaged": (patched(gpt, SECTOR + 16, b"\xff" * 4), ("partition-table-damaged",)),
    "GPT entries damaged": (patched(gpt, 2 * SECTOR + 4, b"\xff" * 8), ("partition-table-damaged",)),
    "sectors of 4,096 bytes": (large_sectors, ("disk-sectors-4k",)),
    "MBR over 2 TiB": (vast, ("mbr-over-2tib",)),
    "no fallback loader": (lambda folder: gpt(folder, fallback=False), ("no-uefi-fallback",)),
    "LUKS1 root": (luks(1), ("encrypted-linux",)),
    "LUKS2 root": (luks(2), ("encrypted-linux",)),
    "a key in the TPM": (tpm_key, ("keys-stay-behind", "encrypted-volumes-listed")),
    "BitLocker": (beside("7", b"\xeb\x58\x90-FVE-FS-"), ("encrypted-windows",)),
    "hibernated": (beside("82", b"S1SUSPEND\0", 4 * KIB - 10), ("linux-hibernated",)),
    "dynamic disk": (dynamic, ("dynamic-disk",)),
    "Storage Spaces": (beside("e7", b"SPACEDB ", 4 * KIB), ("storage-spaces",)),
    "half a RAID": (raid, ("software-raid",)),
    "half a volume group": (lacking_a_disk, ("lvm-incomplete",)),
    "volume group damaged": (damaged_group, ("lvm-incomplete",)),
    "root damaged": (
        patched(lambda folder: make_disk(folder, debian()), MIB + 1024, b"\xff" * 48),
        ("file-system-unreadable", "no-system"),
    ),
    "root folder damaged": (without_root_inode, ("file-system-unreadable", "no-system")),
    "another system": (bsd, ("system-of-another-kind",)),
    "two systems": (two_systems, ("several-systems",)),
    "switched off": (in_use, ("not-shut-down-linux",)),
    "unclean NTFS": (dirty_ntfs, ("unclean-ntfs",)),
    "for ARM": (put("/usr/bin/sh", AARCH64), ("wrong-architecture",)),
    "32-bit": (
        lambda folder: make_disk(
            folder, debian(more={"/usr/bin/sh": I386, f"/boot/vmlinuz-{VERSION}": bzimage(VERSION, wide=False)})
        ),
        ("linux-32-bit",),
    ),
    "no kernel": (take_away("/boot/vmlinuz", "/boot/initrd", "/usr/lib/modules"), ("no-kernel",)),
    "kernel missing": (put("/boot/grub/grub.cfg", grub_cfg(version="6.1.0-99-amd64")), ("kernel-missing",)),
    "paravirtual kernel": (paravirtual, ("xen-kernel-only",)),
    "initramfs damaged": (put(_INITRAMFS, gzipped(b"0")[:9] + b"\xff" * 4000), ("initramfs-unreadable",)),
    "no driver in the initramfs": (with_drivers("hv_storvsc"), ("no-disk-driver",)),
    "no virtio in the initramfs": (with_drivers("ahci", "nvme"), ("no-virtio-driver",)),
    "no NVMe in the initramfs": (with_drivers(*(set(DRIVERS) - {"nvme"})), ("no-nvme-driver",)),
    "no boot configuration": (take_away("/boot/grub"), ("no-boot-configuration",)),
    "root by its device name": (put("/boot/grub/grub.cfg", grub_cfg("/dev/sda1")), ("root-by-device-name",)),
    "no fstab": (take_away("/etc/fstab"), ("fstab-unreadable",)),
    "fstab by the device's name": (fstab("", "/dev/sda1"), ("fstab-device-name",)),
    "fstab names a disk that is not there": (fstab("/dev/sdb1 /data ext4 defaults 0 2"), ("fstab-missing-device",)),
    "fstab mounts a share": (fstab("//nas/data /data cifs guest 0 0"), ("fstab-foreign-mount",)),
    "root full": (full, ("little-room", "little-room-for-ec2")),
    "no inodes": (without_inodes, ("no-inodes-left",)),
    "udev's names": (
        put(
            "/etc/udev/rules.d/70-persistent-net.rules",
            b'SUBSYSTEM=="net", ACTION=="add", ATTR{address}=="00:50:56:00:00:01", NAME="eth0"\n',
        ),
        ("interface-names-pinned",),
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_broken_is_found_and_nothing_else_is_blamed(kind: str, tmp_path: Path) -> None:
    make, ids = BROKEN[kind]
    assert findings(make(tmp_path)) == expected(*ids)


def windows_disk(folder: Path, *, dirty: bool = False, hibernated: bool = False) -> Path:
    """A Windows Server on one NTFS partition, started by its BIOS."""
    image = make_ntfs(folder / "drive.raw", size=32 * MIB)
    more = {"/bootmgr": b"x", "/Boot/BCD": bcd(mbr_device(MIB, 0x1234ABCD))}
    more |= {"/hiberfil.sys": b"HIBR" + bytes(8188)} if hibernated else {}
    with mounted_ntfs(image, folder / "mounted") as mounted:
        for name, data in files("2012r2", more=more).items():
            path = mounted / name.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            assert isinstance(data, bytes)
            path.write_bytes(data)
    if dirty:
        mark_dirty(image)
    return partitioned(folder / "disk.raw", [("7,bootable", image)], "dos", b"\x33\xc0\x8e")


@pytest.mark.parametrize(
    ("states", "more"),
    [
        (["dirty"], {"unclean-ntfs"}),
        (["hibernated"], {"windows-hibernated"}),
        (["dirty", "hibernated"], {"windows-hibernated"}),
    ],
    ids=" and ".join,
)
def test_a_windows_that_was_not_shut_down_is_found(states: list[str], more: set[str], tmp_path: Path) -> None:
    sound, broken = tmp_path / "sound", tmp_path / "broken"
    sound.mkdir()
    broken.mkdir()
    before, after = findings(windows_disk(sound)), findings(windows_disk(broken, **dict.fromkeys(states, True)))
    assert {rule_set: set(found) - set(before[rule_set]) for rule_set, found in after.items()} == dict.fromkeys(
        after, more
    )

"""A folder becomes a bootable raw disk: partition table, GRUB, file system. No root, no mounts, no loop devices.

BIOS: MBR with one partition, GRUB's core in the gap before it. UEFI: GPT with an EFI system partition of 64 MiB. The
root is the last partition, or a logical volume on it.
Sources: GRUB manual, "BIOS installation" and ``grub-mkimage``; mke2fs(8), options ``-d`` and ``-E offset``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from linear_volume import make_physical_volume
from programs import run
from vmferry.errors import ConfigError

MIB = 1 << 20
_ESP_MIB = 64
_GRUB = Path("/usr/lib/grub")
_MODULES = ["part_msdos", "part_gpt", "ext2", "search", "search_fs_uuid", "configfile", "linux", "boot", "serial"]
_MODULES += ["terminal", "normal", "echo", "lvm"]
_BOOT_CODE = 440
"""Bytes of a master boot record that are code; the disk signature and the partition table follow."""


@dataclass(frozen=True, slots=True)
class Tree:
    """A guest's root file system as a folder."""

    root: Path
    kernel: str
    """Path of the kernel inside ``root``, absolute."""
    initrd: str
    title: str
    namespace: Sequence[str] = ()
    """The command that shows the folder's owners as they are meant (a user namespace), or nothing."""


def write_disk(out: Path, tree: Tree, size_mib: int, firmware: str, uuid: UUID, *, lvm: bool = False) -> None:
    """Write ``tree`` as a bootable disk of ``size_mib`` MiB; ``uuid`` is its root file system's, which with ``lvm`` is
    on a logical volume.

    Adds ``/boot/grub/grub.cfg`` to the tree. Raises ``ConfigError`` for a missing program or GRUB image, and
    ``VmferryError`` when one of them fails (a tree that does not fit, most often).
    """
    grub = tree.root / "boot" / "grub"
    grub.mkdir(parents=True, exist_ok=True)
    (grub / "grub.cfg").write_text(_grub_configuration(tree, uuid))
    start = 1 if firmware == "bios" else 1 + _ESP_MIB
    with out.open("wb") as disk:
        disk.truncate(size_mib * MIB)
    # The last MiB stays free: GPT's second header and table are there.
    _partition(out, start, firmware, "V" if lvm else "L")
    if lvm:
        _write_volume(out, tree, start, size_mib - start - 2, uuid)
    else:
        _write_root(out, tree, start, size_mib - start - 1, uuid)
    embedded = out.with_suffix(".grub")
    embedded.write_text(
        f"search --no-floppy --set=root --fs-uuid {uuid}\nset prefix=($root)/boot/grub\nconfigfile $prefix/grub.cfg\n"
    )
    try:
        _install_bios(out, embedded) if firmware == "bios" else _install_uefi(out, embedded)
    finally:
        embedded.unlink()


def _write_root(out: Path, tree: Tree, start: int, room: int, uuid: UUID) -> None:
    """A file system that holds ``tree``, at the MiB ``start`` of ``out``, of ``room`` MiB."""
    place = f"root_owner=0:0,offset={start * MIB}"
    options = ["-q", "-F", "-t", "ext4", "-U", str(uuid), "-L", "root", "-E", place]
    run(*tree.namespace, "mke2fs", *options, "-d", tree.root, out, f"{room}M")


def _write_volume(out: Path, tree: Tree, start: int, room: int, uuid: UUID) -> None:
    """As ``_write_root``, on a logical volume; the physical one has a MiB of metadata before it."""
    image = out.with_suffix(".volume")
    try:
        with image.open("wb") as volume:
            volume.truncate(room * MIB)
        _write_root(image, tree, 0, room, uuid)
        physical = make_physical_volume([(0, image.read_bytes())], room)
    finally:
        image.unlink(missing_ok=True)
    with out.open("r+b") as disk:
        disk.seek(start * MIB)
        disk.write(physical)


def _grub_configuration(tree: Tree, uuid: UUID) -> str:
    # A console on the serial port alone needs GRUB's own terminal there and ttyS0 last on the kernel's line.
    return f"""serial --unit=0 --speed=115200
terminal_input serial console
terminal_output serial console
set timeout=0
search --no-floppy --set=root --fs-uuid {uuid}
menuentry "{tree.title}" {{
linux {tree.kernel} root=UUID={uuid} ro console=tty0 console=ttyS0,115200 panic=10
initrd {tree.initrd}
}}
"""


def _partition(out: Path, start: int, firmware: str, kind: str) -> None:
    """``kind``: the root's partition type as sfdisk(8) abbreviates it, L or V."""
    table = f"label: dos\nlabel-id: 0x766d6665\nstart=1MiB, type={kind}, bootable\n"
    if firmware == "uefi":
        table = f"label: gpt\nstart=1MiB, size={_ESP_MIB}MiB, type=U\nstart={start}MiB, type={kind}\n"
    run("sfdisk", "--quiet", out, stdin=table)


def _make_image(platform: str, embedded: Path, image: Path, modules: Sequence[str]) -> None:
    if not (_GRUB / platform).is_dir():
        package = "grub-pc-bin" if platform == "i386-pc" else "grub-efi-amd64-bin"
        raise ConfigError(f"{_GRUB / platform} is missing: install the package {package} (`make setup`).")
    run("grub-mkimage", "-O", platform, "-c", embedded, "-p", "/boot/grub", "-o", image, *modules)


def _install_bios(out: Path, embedded: Path) -> None:
    core = out.with_suffix(".core")
    _make_image("i386-pc", embedded, core, ["biosdisk", *_MODULES])
    with out.open("r+b") as disk:
        disk.write((_GRUB / "i386-pc" / "boot.img").read_bytes()[:_BOOT_CODE])
        disk.seek(512)
        disk.write(core.read_bytes())
    core.unlink()


def _install_uefi(out: Path, embedded: Path) -> None:
    loader = out.with_suffix(".efi")
    _make_image("x86_64-efi", embedded, loader, [*_MODULES, "all_video"])
    run("mkfs.vfat", "-F", "32", "-n", "ESP", "--offset", str(MIB // 512), out, str(_ESP_MIB * 1024))
    esp = f"{out}@@{MIB}"
    run("mmd", "-i", esp, "::/EFI", "::/EFI/BOOT")
    run("mcopy", "-i", esp, loader, "::/EFI/BOOT/BOOTX64.EFI")
    loader.unlink()

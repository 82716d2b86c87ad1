"""Disks with a Linux that has drivers on its root and not in its initramfs, as far as preparing looks at it."""

from __future__ import annotations

import gzip
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from tests.guest.tables import make_mbr
from vmferry.units import MIB, SECTOR

ROOT_UUID, BOOT_UUID = str(UUID(int=1 << 100)), str(UUID(int=2 << 100))
VERSION = "6.1.0-9-amd64"
DEPENDENCIES = """kernel/drivers/virtio/virtio.ko:
kernel/drivers/virtio/virtio_ring.ko: kernel/drivers/virtio/virtio.ko
kernel/drivers/virtio/virtio_pci.ko.xz: kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/block/virtio_blk.ko: kernel/drivers/virtio/virtio.ko
kernel/drivers/scsi/virtio_scsi.ko: kernel/drivers/virtio/virtio.ko
kernel/drivers/scsi/sd_mod.ko:
kernel/drivers/net/virtio_net.ko: kernel/drivers/virtio/virtio.ko
kernel/drivers/nvme/host/nvme-core.ko:
kernel/drivers/nvme/host/nvme.ko: kernel/drivers/nvme/host/nvme-core.ko
"""
MODULES = tuple(line.partition(":")[0] for line in DEPENDENCIES.splitlines())
SECTORS_PER_MIB = MIB // SECTOR


@dataclass
class LinuxGuest:
    """What is in it. ``files``: path → content, a link where it begins with ``->``."""

    files: dict[str, bytes] = field(default_factory=dict)

    def add_kernel(self, version: str = VERSION, names: tuple[str, ...] = (), *, prefix: str = "usr/lib") -> None:
        """A kernel with all modules on the root, and an initramfs with files called ``names``."""
        folder = f"usr/lib/modules/{version}"
        self.files[f"{folder}/modules.dep"] = DEPENDENCIES.encode()
        self.files[f"{folder}/modules.alias"] = b"alias pci:v00001AF4d* virtio_pci\n" * 2000
        self.files[f"{folder}/modules.builtin"] = b"kernel/drivers/ata/ahci.ko\n"
        for path in MODULES:
            self.files[f"{folder}/{path}"] = path.encode() * 100
        self.files[f"boot/vmlinuz-{version}"] = b"kernel"
        inside = ("init", "etc/modprobe.conf", f"{prefix}/modules/{version}/kernel/fs/ext4.ko", *names)
        self.files[f"boot/initrd.img-{version}"] = make_initramfs(inside)

    def write(self, folder: Path) -> Path:
        """The tree below ``folder``."""
        for path, content in self.files.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            if content.startswith(b"->"):
                target.symlink_to(content[2:].decode())
            else:
                target.write_bytes(content)
        return folder


def debian(*names: str) -> LinuxGuest:
    """A Debian as its installer leaves it, with one kernel whose initramfs also holds ``names``."""
    guest = LinuxGuest(
        {
            "etc/os-release": b'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\n',
            "etc/fstab": f"UUID={ROOT_UUID} / ext4 errors=remount-ro 0 1\n".encode(),
            "etc/initramfs-tools/modules": b"# List of modules\n",
            "lib": b"->usr/lib",
        }
    )
    guest.add_kernel(VERSION, names)
    return guest


def make_initramfs(names: tuple[str, ...]) -> bytes:
    """A packed archive of small files, its end not aligned."""
    out = b""
    for name in (*names, "TRAILER!!!"):
        path, content = name.encode() + b"\0", b"#" * 7
        fields = (1, 0o100644, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(path), 0)
        out += b"070701" + b"".join(b"%08X" % value for value in fields) + path
        out += bytes(-len(out) % 4) + content
        out += bytes(-len(out) % 4)
    packed = gzip.compress(out, mtime=0)
    return packed if len(packed) % 4 else gzip.compress(out + bytes(512), 1, mtime=0)


def make_ext(tree: Path, image: Path, mib: int, uuid: str, *options: str) -> bytes:
    """A file system of ``mib`` MiB that holds ``tree``."""
    command: list[str | Path] = [
        "mke2fs",
        "-q",
        "-F",
        "-t",
        "ext4",
        "-U",
        uuid,
        *options,
        "-E",
        "root_owner=0:0",
        "-d",
        tree,
        image,
    ]
    subprocess.run([*command, f"{mib}M"], check=True)
    return image.read_bytes()


def make_disk(*partitions: bytes) -> bytes:
    """A disk with an MBR and those partitions, of whole MiB, one behind the other."""
    out, start = b"", MIB
    entries: list[tuple[int, int, int, int]] = []
    for content in partitions:
        entries.append((0x80 if not entries else 0, 0x83, start // SECTOR, len(content) // SECTOR))
        out += content
        start += len(content)
    return bytes(make_mbr(entries, b"\xeb\x63GRUB")).ljust(MIB, b"\0") + out

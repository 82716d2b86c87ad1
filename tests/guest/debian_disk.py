"""A Debian on a real disk that preflight has nothing against, to be broken: its files, and disks for them."""

from __future__ import annotations

import gzip
from pathlib import Path

from tests.guest.disks import partitioned
from tests.guest.linux_trees import UNITS, X86_64, Contents, initramfs, kernel
from tests.guest.trees import run

UUID = "0a1b2c3d-1111-2222-3333-444455556666"
"""Of its root."""
VERSION = "6.1.0-28-amd64"
GRUB = b"\xeb\x63\x90".ljust(0x180, b"\x90") + b"GRUB \0Geom\0"
"""Boot code that is known for GRUB's."""
DRIVERS = ("virtio_blk", "virtio_pci", "virtio_scsi", "ahci", "nvme")
"""What its initramfs drives disks by."""
_SSH = "/usr/lib/systemd/system/ssh.service"


def grub_cfg(root: str = f"UUID={UUID}", version: str = VERSION) -> bytes:
    """One entry, that of ``version``."""
    return f"""set default="0"
menuentry 'Debian GNU/Linux' --class debian {{
\tsearch --no-floppy --fs-uuid --set=root {UUID}
\tlinux\t/boot/vmlinuz-{version} root={root} ro quiet
\tinitrd\t/boot/initrd.img-{version}
}}
""".encode()


def debian(*drivers: str, more: Contents | None = None) -> dict[str, bytes | str | None]:
    """The files of a Debian as its installer leaves it, whose initramfs has ``drivers``, else all of ``DRIVERS``.

    ``more`` files are put over them.
    """
    packed = gzip.compress(initramfs(VERSION, *(drivers or DRIVERS)), 1, mtime=0)
    return {
        **UNITS,
        **kernel(VERSION, packed, built_in=("sd_mod",), modules=("virtio_net", "e1000e")),
        "/usr/bin/sh": X86_64,
        "/bin": "usr/bin",
        "/etc/os-release": b'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
        "/etc/hostname": b"web\n",
        "/etc/fstab": f"UUID={UUID} / ext4 errors=remount-ro 0 1\n".encode(),
        "/etc/systemd/network/80-dhcp.network": b"[Match]\nName=en*\n[Network]\nDHCP=yes\n",
        "/etc/systemd/system/multi-user.target.wants/systemd-networkd.service": "/usr/lib/systemd/networkd.service",
        "/usr/lib/systemd/networkd.service": b"[Service]\n",
        _SSH: b"[Service]\n",
        "/etc/systemd/system/multi-user.target.wants/ssh.service": _SSH,
        "/boot/grub/grub.cfg": grub_cfg(),
        **(more or {}),
    }


def write_tree(folder: Path, files: Contents) -> Path:
    """``files`` below ``folder``: bytes are a file, a string is a link, ``None`` an empty folder."""
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        path = folder / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            path.mkdir()
        elif isinstance(content, str):
            path.symlink_to(content)
        else:
            path.write_bytes(content)
    return folder


def make_root(tmp_path: Path, files: Contents, *options: str, size: str = "400M", name: str = "root") -> Path:
    """An ext4 file system that holds ``files``."""
    image = tmp_path / f"{name}.ext4"
    tree = write_tree(tmp_path / name, files)
    run("mke2fs", "-q", "-F", "-t", "ext4", "-U", UUID, *options, "-E", "root_owner=0:0", "-d", tree, image, size)
    return image


def make_disk(tmp_path: Path, files: Contents, *beside: tuple[str, Path], code: bytes = GRUB) -> Path:
    """A disk with an MBR, ``files`` in its first partition, and ``beside`` it others: type and image."""
    return partitioned(tmp_path / "disk.raw", [("83", make_root(tmp_path, files)), *beside], "dos", code)


def without(files: Contents, *paths: str) -> dict[str, bytes | str | None]:
    """``files`` but those whose paths begin with one of ``paths``."""
    return {path: content for path, content in files.items() if not path.startswith(paths)}

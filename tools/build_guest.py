#!/usr/bin/env python3
"""Build a bootable guest as a raw disk, from the host distribution's own packages.

build_guest.py demo|complete|tiny|hostonly [OUT.raw] [--firmware bios|uefi] [--lvm]      prints the disk's path

demo  a real Debian (or Ubuntu): systemd, stock kernel, login prompt "vmferry-guest login:" on the serial port
      (root, password vmferry). 2 GiB, some 620 MB of files, half a minute. Made by root or in a user namespace.
complete  as demo, with GRUB's own tools, which virt-v2v wants, and an initramfs without virtio; starts by BIOS
tiny  the same kernel with busybox; prints VMFERRY-GUEST-READY. 96 MiB, a few seconds, no root.
hostonly  as tiny, but its initramfs has no virtio drivers, as if made on a machine without: they are on its root only

With --lvm the root of a tiny or hostonly guest is a logical volume. Without OUT the disk is kept below build/guests/
and only built again when the builder changes.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import re
import sys
import tempfile
from pathlib import Path
from uuid import NAMESPACE_DNS, uuid5

from guest_disk import write_disk
from guest_trees import demo_tree, remove, tiny_tree
from vmferry.errors import ConfigError, VmferryError, quote

_HERE = Path(__file__).resolve().parent
CACHE = _HERE.parent / "build" / "guests"
SIZE_MIB = {"demo": 2048, "complete": 2048, "tiny": 96, "hostonly": 96}
_ROOM = 2 << 30
"""Bytes that a guest's tree and the packages it comes from take, with a margin."""
_SOURCES = ("build_guest.py", "guest_disk.py", "guest_trees.py", "linear_volume.py")


def build_guest(kind: str, out: Path, firmware: str = "bios", *, lvm: bool = False) -> None:
    """Write a guest of ``kind``, one of ``SIZE_MIB``, to ``out``; it appears whole or not at all.

    Raises ``ConfigError`` when something is not installed or not allowed, ``VmferryError`` when a program fails.
    """
    uuid = uuid5(NAMESPACE_DNS, f"{_name(kind, firmware, lvm)}.vmferry.invalid")
    partial = out.with_name(out.name + ".partial")
    try:
        with tempfile.TemporaryDirectory(prefix="vmferry-guest-", dir=_scratch_folder()) as name:
            work = Path(name)
            # mmdebstrap's own child processes, which are not root in a user namespace, pass through here.
            work.chmod(0o755)
            if kind in ("demo", "complete"):
                tree = demo_tree(work, uuid, complete=kind == "complete")
            else:
                tree = tiny_tree(work, CACHE / "packages", hostonly=kind == "hostonly", lvm=lvm)
            try:
                write_disk(partial, tree, SIZE_MIB[kind], firmware, uuid, lvm=lvm)
            finally:
                remove(tree)
        partial.rename(out)
    except OSError as error:
        raise ConfigError(f"The guest cannot be written: {quote(error)}. Make room, or give the rights.") from error
    finally:
        partial.unlink(missing_ok=True)


def _scratch_folder() -> Path | None:
    """Memory, where there is plenty: dpkg's thousands of small synchronised writes take half as long there."""
    memory = Path("/dev/shm")
    try:
        facts = os.statvfs(memory)
        available = (
            int(re.findall(r"^MemAvailable: *(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)[0]) << 10
        )
    except (OSError, IndexError):
        return None
    roomy = facts.f_bavail * facts.f_frsize > _ROOM and available > 2 * _ROOM
    return memory if roomy and os.access(memory, os.W_OK) and not facts.f_flag & os.ST_NOEXEC else None


def _name(kind: str, firmware: str, lvm: bool) -> str:
    return f"{kind}-{firmware}{'-lvm' if lvm else ''}"


def cached_guest(kind: str, firmware: str = "bios", *, lvm: bool = False) -> Path:
    """The path of a guest of ``kind`` that is built when it is not there yet; safe when several processes ask at once.

    Nobody may write to it. Raises as ``build_guest``.
    """
    digest = hashlib.sha256(b"".join((_HERE / name).read_bytes() for name in _SOURCES)).hexdigest()
    CACHE.mkdir(parents=True, exist_ok=True)
    name = _name(kind, firmware, lvm)
    path = CACHE / f"{name}-{digest[:12]}.raw"
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            for stale in CACHE.glob(f"{name}-{'[0-9a-f]' * 12}.raw"):
                stale.unlink()
            build_guest(kind, path, firmware, lvm=lvm)
    return path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=sorted(SIZE_MIB))
    parser.add_argument("out", nargs="?", type=Path)
    parser.add_argument("--firmware", default="bios", choices=["bios", "uefi"])
    parser.add_argument("--lvm", action="store_true")
    args = parser.parse_args()
    if args.lvm and args.kind not in ("tiny", "hostonly"):
        parser.error("--lvm is for tiny and hostonly guests")
    try:
        if args.out:
            build_guest(args.kind, args.out, args.firmware, lvm=args.lvm)
        print(args.out or cached_guest(args.kind, args.firmware, lvm=args.lvm))
    except VmferryError as error:
        print(f"build_guest: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""A Linux guest is made to start on other hardware, without running any of its programs.

The drivers that its initramfs lacks are appended to it, its configuration is told to keep them when the initramfs is
made anew, and an EFI system partition gets the loader that firmware starts which does not know the guest. Everything is
checked before anything is written, and written to an overlay: the source stays as it is.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from vmferry.errors import GuestError, quote
from vmferry.guest.efi_fallback import add_fallback
from vmferry.guest.ext_writer import ExtWriter
from vmferry.guest.linux.driver_modules import DRIVERS, Modules, module_name, read_modules
from vmferry.guest.linux.initramfs import read_initramfs
from vmferry.guest.linux.initramfs_writer import ALIGNMENT, find_prefix, make_archive
from vmferry.guest.overlay import OverlayDisk
from vmferry.guest.system import LinuxSystem, find_linux
from vmferry.units import MIB, format_size

KEPT = ".pre-vmferry"
"""What the name of an old file gets behind it."""
_INITRAMFS = ("initrd.img-{}", "initramfs-{}.img", "initrd-{}", "initrd-{}.img", "initramfs-{}")
_LONE = ("initrd.img", "initramfs.img", "initramfs-linux.img", "initramfs-linux-lts.img", "initramfs-vanilla")
"""Names without a version, of systems with one kernel."""
_OLD_LOADER = "bin/nash"
"""In an initramfs of before 2010, which loads what a script of its own names and nothing else."""
_SQUASHED = ("squashfs-root.img", "squash-root.img", "squash/root.img", "erofs-root.img")
"""In an initramfs of dracut's that holds everything else inside that file."""
_NEEDED = {"virtio": ("virtio_pci", "virtio_blk", "virtio_scsi"), "nvme": ("nvme",), "ahci": ("ahci",)}
"""What has to be in the initramfs: the root disk's drivers; those of networks are loaded from the root later."""
_MAX_INITRAMFS = 512 * MIB
_MAX_SECONDS = 60
"""Seconds of a processor for the list of an initramfs' names: a look has less, for an answer at once."""


@dataclass(frozen=True, slots=True)
class Change:
    """One file that was changed or added."""

    path: str
    """In the guest."""
    what: str
    """``replaced`` or ``added``."""
    before: int | None
    """Bytes of the old file."""
    after: int
    """Bytes."""
    why: str
    kept_as: str | None = None
    """Where the old file is."""


@dataclass(slots=True)
class Preparation:
    """What was done to a guest. Texts of the guest's own are quoted."""

    system: str = ""
    """What it calls itself."""
    changes: list[Change] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What was not done, and why; a sentence each."""

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def prepare_linux(overlay: OverlayDisk, drivers: Sequence[str], now: int) -> Preparation:
    """Let the Linux on ``overlay`` start on hardware that takes ``drivers``, names of ``DRIVERS``.

    ``now``: seconds since 1970, for the files that are changed. No change in the answer: there is nothing to do.
    Raises ``GuestError`` with what is to be done instead where this guest cannot be prepared: then ``overlay`` is to be
    thrown away. Raises as ``Disk.read_at`` besides.
    """
    system = find_linux(overlay)
    work = _Work(system, drivers, now)
    work.prepare_kernels()
    if work.done.changes:
        work.configure()
    for writer in work.writers.values():
        writer.commit()
    work.add_fallbacks()
    return work.done


class _Work:
    """The preparation of one system."""

    def __init__(self, system: LinuxSystem, drivers: Sequence[str], now: int) -> None:
        self.system = system
        self.tree = system.tree
        self.drivers = drivers
        self.now = now
        self.done = Preparation(quote(system.title))
        self.writers: dict[str, ExtWriter] = {}
        self.wanted = tuple(dict.fromkeys(name for driver in drivers for name in DRIVERS[driver]))
        self.needed = tuple(dict.fromkeys(name for driver in drivers for name in _NEEDED[driver]))

    def prepare_kernels(self) -> None:
        """Append the drivers to the initramfs of every kernel that lacks some; the newest kernel's must succeed."""
        kernels = [(modules, path) for modules in read_modules(self.tree) if (path := self._initramfs(modules))]
        if not kernels:
            raise GuestError(
                "No kernel of the guest has both modules in /lib/modules and an initramfs in /boot: nothing can be "
                "added to it. Let the guest start on the bus that it knows, such as SATA."
            )
        for number, (modules, path) in enumerate(kernels):
            try:
                self._prepare_kernel(modules, path)
            except GuestError as error:
                if number == 0:
                    raise
                self.done.notes.append(f"Linux {quote(modules.version)} was left as it is: {error}")

    def _initramfs(self, modules: Modules) -> str | None:
        names = [name.format(modules.version) for name in _INITRAMFS]
        if len([True for path in self.tree.glob("/lib/modules/*") if self.tree.is_folder(path)]) == 1:
            names += _LONE
        paths = (posixpath.join("/boot", name) for name in names)
        return next((found for path in paths if self.tree.is_file(path) and (found := self.tree.find(path))), None)

    def _prepare_kernel(self, modules: Modules, path: str) -> None:
        size = self.tree.size(path) or 0
        if size > _MAX_INITRAMFS:
            raise GuestError(f"{quote(path)} in the guest has {format_size(size)}, more than an initramfs ever has.")
        inside = read_initramfs(
            lambda offset, length: self.tree.read_at(path, offset, length),
            size,
            limit=_MAX_INITRAMFS + MIB,
            seconds=_MAX_SECONDS,
        )
        if inside.problem is not None:
            self.done.notes.append(f"{quote(path)} could not be read to its end: {inside.problem}.")
        if any(name.endswith(_OLD_LOADER) for name in inside.names):
            raise GuestError(
                f"{quote(path)} in the guest loads the drivers that a script in it names, and no others: run mkinitrd "
                f"on the guest with {' '.join(f'--with={name}' for name in self.needed)}."
            )
        if any(name.endswith(_SQUASHED) for name in inside.names):
            raise GuestError(
                f"{quote(path)} in the guest holds its drivers in a squashfs image, which is not looked into: run "
                f'`dracut --force --add-drivers "{" ".join(self.needed)}"` on the guest.'
            )
        there = {module_name(name) for name in inside.names if ".ko" in name}
        missing = [name for name in self.needed if name not in there and name not in modules.built_in]
        if not missing:
            return
        paths = modules.find(self.wanted)
        archive = make_archive(self.tree, modules, paths, find_prefix(inside.names, modules.version))
        total = size + -size % ALIGNMENT + len(archive)
        writer, mount = self._writer(path)
        kept = self._free_name(path)
        writer.replace_file(path[len(mount) :], total, self._longer(path, size, archive), kept)
        why = f"Linux {quote(modules.version)} starts without {', '.join(missing)}: {len(paths)} modules are appended"
        self.done.changes.append(Change(quote(path), "replaced", size, total, why, quote(kept)))

    def _longer(self, path: str, size: int, archive: bytes) -> Iterator[bytes]:
        """The file at ``path`` as it is, with ``archive`` behind it."""
        for offset in range(0, size, 4 * MIB):
            yield self.tree.read_at(path, offset, min(4 * MIB, size - offset))
        yield bytes(-size % ALIGNMENT) + archive

    def configure(self) -> None:
        """Tell what makes the initramfs anew to keep the drivers."""
        if self.tree.is_file("/etc/initramfs-tools/modules"):
            self._append("/etc/initramfs-tools/modules", "".join(f"{name}\n" for name in self.wanted))
        if self.tree.is_folder("/usr/lib/dracut") or self.tree.is_folder("/etc/dracut.conf.d"):
            self._add("/etc/dracut.conf.d/vmferry.conf", f'add_drivers+=" {" ".join(self.wanted)} "\n')
        if self.tree.is_folder("/etc/mkinitcpio.conf.d") or self.tree.is_file("/usr/bin/mkinitcpio"):
            self._add("/etc/mkinitcpio.conf.d/vmferry.conf", f"MODULES+=({' '.join(self.wanted)})\n")

    def add_fallbacks(self) -> None:
        """Add the loader that firmware without boot entries starts, where an EFI system partition lacks it."""
        found = re.search(r"^ID=[\"']?([\w.-]+)", self.tree.read_text("/etc/os-release") or "", re.MULTILINE)
        for place, volume in self.system.esps.items():
            try:
                added = add_fallback(volume, found[1] if found else "", self.now)
            except GuestError as error:
                self.done.notes.append(f"{place} got no loader for firmware that does not know the guest: {error}")
                continue
            for loader in added:
                why = f"a copy of {quote(loader.source)}, for firmware that does not know the guest"
                self.done.changes.append(Change(f"{place}: {quote(loader.path)}", "added", None, loader.size, why))

    def _append(self, path: str, lines: str) -> None:
        found = self.tree.find(path) or path
        old = self.tree.read(found) or b""
        there = {line.split("#")[0].strip() for line in old.decode("utf-8", "replace").splitlines()}
        added = "".join(line for line in lines.splitlines(keepends=True) if line.strip() not in there)
        if not added:
            return
        new = old + (b"" if old.endswith(b"\n") or not old else b"\n") + b"# vmferry\n" + added.encode()
        writer, mount = self._writer(found)
        kept = self._free_name(found)
        writer.replace_file(found[len(mount) :], len(new), [new], kept)
        why = "the drivers stay when the initramfs is made anew"
        self.done.changes.append(Change(quote(found), "replaced", len(old), len(new), why, quote(kept)))

    def _add(self, path: str, text: str) -> None:
        if self.tree.is_file(path):
            return
        above = self.tree.find(posixpath.dirname(path))
        if above is None:
            above = posixpath.dirname(path)
            writer, mount = self._writer(above)
            writer.make_folder(above[len(mount) :])
        path = posixpath.join(above, posixpath.basename(path))
        writer, mount = self._writer(path)
        data = text.encode()
        like = self.tree.find("/etc/fstab")  # its SELinux label is that of files in /etc
        writer.create_file(path[len(mount) :], len(data), [data], like=like if not mount else None)
        why = "the drivers stay when the initramfs is made anew"
        self.done.changes.append(Change(quote(path), "added", None, len(data), why))

    def _free_name(self, path: str) -> str:
        """A name beside ``path`` for the old file."""
        name, number = posixpath.basename(path) + KEPT, 1
        there = set(self.tree.names(posixpath.dirname(path)))
        while name in there:
            number += 1
            name = f"{posixpath.basename(path)}{KEPT}-{number}"
        return name

    def _writer(self, path: str) -> tuple[ExtWriter, str]:
        """What writes to the file system that holds ``path``, and where that is mounted, without its last slash."""
        mount = self.system.mount_of(path)
        if mount not in self.writers:
            self.writers[mount] = ExtWriter(self.system.mounts[mount], self.now)
        return self.writers[mount], mount.rstrip("/")

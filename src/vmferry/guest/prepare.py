"""A Linux guest is made to start on other hardware, without running any of its programs.

The drivers that its initramfs lacks are appended to it, its configuration is told to keep them when the initramfs is
made anew; names of disks that change with the bus become UUIDs, and an EFI system partition gets the loader that
firmware starts which does not know the guest. All of it is written to an overlay: the source stays as it is.

Files on ext2, ext3 and ext4 are written by our own writer, at once; those on XFS, Btrfs and an ext4 with features that
it does not know by guestfish, where that is installed, which takes some twenty seconds under TCG. What neither does is
left to virt-v2v.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Collection, Iterator, Sequence

from vmferry.disk import Disk
from vmferry.errors import GuestError, UnpreparableError, quote
from vmferry.guest.boot import find_boot_facts
from vmferry.guest.confinement import NONE
from vmferry.guest.device_names import Renamer
from vmferry.guest.efi_fallback import add_fallback
from vmferry.guest.evidence import DiskEvidence, Evidence, name_system
from vmferry.guest.facts import GuestFacts
from vmferry.guest.firstboot import add_firstboot
from vmferry.guest.guestfish import Guestfish, GuestfishOpener, open_session
from vmferry.guest.linux.driver_modules import DRIVERS, Modules, module_name, read_modules
from vmferry.guest.linux.initramfs import read_initramfs
from vmferry.guest.linux.initramfs_writer import ALIGNMENT, find_prefix, make_archive
from vmferry.guest.linux.serial_console import add_serial_console
from vmferry.guest.look import look
from vmferry.guest.network_mending import mend_network
from vmferry.guest.overlay import OverlayDisk
from vmferry.guest.preparation import AS_IT_IS, Change, Preparation, Wishes
from vmferry.guest.tools_masking import mask_tools
from vmferry.guest.tree import Tree
from vmferry.guest.virt_v2v import VirtV2v, prepare_by_virt_v2v
from vmferry.guest.workbench import KEPT, Workbench
from vmferry.guest.writable_linux import MOUNTS, REMEDY, ExtOpener, find_writable_linux
from vmferry.units import MIB, format_size

_FSTAB = "/etc/fstab"
_BY_UUID = "file systems are named by UUID: names of disks change with the bus"
_SERIAL = "the kernel shows what it does on the serial port, too"
_LASTS = "the drivers stay when the initramfs is made anew"
_BOOT_SETTINGS = (
    "/boot/grub/grub.cfg",
    "/boot/grub2/grub.cfg",
    "/boot/grub/menu.lst",
    "/boot/grub/grub.conf",
    "/boot/loader/entries/*.conf",
    "/boot/extlinux/extlinux.conf",
    "/etc/default/grub",
    "/etc/kernel/cmdline",
    "/etc/initramfs-tools/conf.d/resume",
)
"""Where the kernel's command line is written, or made from."""
_INITRAMFS = ("initrd.img-{}", "initramfs-{}.img", "initrd-{}", "initrd-{}.img", "initramfs-{}")
_LONE = ("initrd.img", "initramfs.img", "initramfs-linux.img", "initramfs-linux-lts.img", "initramfs-vanilla")
"""Names without a version, of systems with one kernel."""
_OLD_LOADER = "bin/nash"
"""In an initramfs of before 2010, which loads what a script of its own names and nothing else."""
_SQUASHED = ("squashfs-root.img", "squash-root.img", "squash/root.img", "erofs-root.img")
"""In an initramfs of dracut's that holds everything else inside that file."""
_NEEDED = {"virtio": ("virtio_pci", "virtio_blk", "virtio_scsi"), "nvme": ("nvme",), "ahci": ("ahci",)}
"""What has to be in the initramfs: the root disk's drivers; those of networks are loaded from the root later."""
_LEAST = {**_NEEDED, "virtio": ("virtio_pci", "virtio_blk")}
"""What no program makes it start without, whatever it does to the initramfs."""
_OPTIONAL = {"virtio": ("virtio_scsi", "virtio_net", "sd_mod")}
"""What a kernel may lack, and yet starts from a disk of virtio-blk: it is taken along where it is there."""
_MAX_INITRAMFS = 512 * MIB
_MAX_SECONDS = 60
"""Seconds of a processor for the list of an initramfs' names: a look has less, for an answer at once."""


_WINDOWS = (
    "The guest is a Windows, to which drivers are not added by our own means. Let it start on SATA with an e1000e "
    "network card, which it knows, or install virtio-win on it, with an empty virtio disk beside it, before the export."
)
_BY_VIRT_V2V = "virtio"
"""All that virt-v2v prepares for."""


def prepare_guest(
    disk: Disk, drivers: Sequence[str], now: int, guestfish: Guestfish, virt_v2v: VirtV2v, wishes: Wishes = AS_IT_IS
) -> tuple[OverlayDisk, Preparation]:
    """Let the guest on ``disk`` start on hardware that takes ``drivers``: by our own means, else by virt-v2v.

    The overlay, which owns ``disk``, and what was done. Raises as ``prepare_linux`` and ``prepare_by_guestfish`` where
    neither can, and as ``prepare_by_virt_v2v``; ``disk`` then stays open. Other programs take seconds and minutes: they
    are not asked for what is not in the guest.
    """
    overlay = OverlayDisk(disk)
    try:
        return overlay, prepare_linux(overlay, drivers, now, wishes)
    except UnpreparableError:
        raise
    except GuestError as error:
        facts = look([disk])
        refusal = GuestError(_WINDOWS) if facts.system is not None and facts.system.windows is not None else error
    wanted, kinds = _where_files_are(facts)
    is_unknown_here = "feature" in refusal.facts or not kinds <= set(ExtOpener.kinds)
    if wanted and is_unknown_here and guestfish.program != NONE:
        overlay = OverlayDisk(disk)
        try:
            return overlay, prepare_by_guestfish(overlay, drivers, now, guestfish, wanted, wishes)
        except UnpreparableError:
            raise
        except GuestError as error:
            # Both end in the same remedy where no system was found: the one that knows more file systems is enough.
            refusal = error if REMEDY in str(error) else GuestError(f"{refusal} {error}", **error.facts)
    system = name_system(Evidence([DiskEvidence(disk.size, find_boot_facts(disk))], facts))
    if system is None or virt_v2v.program == NONE or set(drivers) != {_BY_VIRT_V2V}:
        raise refusal
    overlay = OverlayDisk(disk)
    try:
        done = prepare_by_virt_v2v(overlay, virt_v2v)
    except GuestError as error:
        raise GuestError(f"{refusal} {error}") from error
    done.system = system
    done.notes.insert(0, f"virt-v2v prepared the guest, as it is not done otherwise: {refusal}")
    if wishes != AS_IT_IS:
        done.notes.append("virt-v2v keeps the addresses of a guest, and adds no script of its first start.")
    return overlay, done


def _where_files_are(facts: GuestFacts) -> tuple[frozenset[str], frozenset[str | None]]:
    """Places of the volumes with the files that matter of the Linux that ``facts`` tell of, none where there is none;
    and what kinds of file systems they are."""
    if facts.system is None or facts.system.linux is None:
        return frozenset(), frozenset()
    mounts = (mount.volume for mount in facts.system.linux.mounts if mount.target.rstrip("/") in MOUNTS)
    places = frozenset((facts.system.root, *(place for place in mounts if place)))
    return places, frozenset(volume.kind for volume in facts.volumes if volume.place in places)


def prepare_linux(overlay: OverlayDisk, drivers: Sequence[str], now: int, wishes: Wishes = AS_IT_IS) -> Preparation:
    """Let the Linux on ``overlay`` start on hardware that takes ``drivers``, names of ``DRIVERS``.

    ``now``: seconds since 1970, for the files that are changed; ``wishes``: what was chosen. No change in the
    answer: there is nothing to do. Raises ``GuestError`` with what is to be done instead where this guest cannot be
    prepared, ``UnpreparableError`` where by no other means either: then ``overlay`` is to be thrown away. Raises as
    ``Disk.read_at`` besides.
    """
    bench = Workbench(find_writable_linux(overlay, ExtOpener(overlay)), now)
    _change_files(bench, drivers, wishes)
    bench.commit()
    _add_fallbacks(bench, _distribution(bench))
    return _finished(bench)


def prepare_by_guestfish(
    overlay: OverlayDisk,
    drivers: Sequence[str],
    now: int,
    way: Guestfish,
    wanted: Collection[str],
    wishes: Wishes = AS_IT_IS,
) -> Preparation:
    """As ``prepare_linux``, with the volumes at ``wanted`` mounted and written by guestfish.

    What it writes is not the same twice, byte for byte. Raises as ``open_session`` besides.
    """
    with open_session(overlay, way) as session:
        bench = Workbench(find_writable_linux(overlay, GuestfishOpener(session, wanted)), now)
        _change_files(bench, drivers, wishes)
        distribution = _distribution(bench)
        bench.commit()
        if bench.done.changes:
            session.finish()
            bench.done.notes.append("guestfish wrote the files: our own writer does not know their file systems.")
    _add_fallbacks(bench, distribution)
    return _finished(bench)


def _change_files(bench: Workbench, drivers: Sequence[str], wishes: Wishes) -> None:
    """Change what is to be changed in the files of the system."""
    kernels = _Kernels(bench, drivers)
    kernels.prepare()
    if bench.done.changes:
        kernels.configure()
    _mend_settings(bench)
    _mend_the_rest(bench, wishes)


def _finished(bench: Workbench) -> Preparation:
    """What was done at ``bench``, in full."""
    if bench.done.changes and bench.system.replayed:
        bench.done.notes.append(
            f"The guest was not shut down: the journal of {', '.join(bench.system.replayed)} was replayed."
        )
    return bench.done


class _Kernels:
    """The kernels of a system, and what they are to start with."""

    def __init__(self, bench: Workbench, drivers: Sequence[str]) -> None:
        self._bench = bench
        self._tree = bench.tree
        self._wanted = tuple(dict.fromkeys(name for driver in drivers for name in DRIVERS[driver]))
        self._needed = tuple(dict.fromkeys(name for driver in drivers for name in _NEEDED[driver]))
        self._least = frozenset(name for driver in drivers for name in _LEAST[driver])
        self._must = frozenset(
            name for driver in drivers for name in DRIVERS[driver] if name not in _OPTIONAL.get(driver, ())
        )
        self._kept: tuple[str, ...] = ()
        """Those of the wanted that a kernel has which was changed."""

    def prepare(self) -> None:
        """Append the drivers to the initramfs of every kernel that lacks some; the newest kernel's must succeed."""
        found = read_modules(self._tree)
        if not found:
            raise UnpreparableError(
                "The guest has no modules of any kernel in /lib/modules, and so no drivers to add: install a kernel on "
                "the guest, or let the guest start on the bus that it knows, such as SATA."
            )
        kernels = [(modules, path) for modules in found if (path := self._initramfs(modules))]
        if not kernels:
            raise GuestError(
                "No kernel of the guest has both modules in /lib/modules and an initramfs in /boot: nothing can be "
                "added to it. Let the guest start on the bus that it knows, such as SATA."
            )
        for number, (modules, path) in enumerate(kernels):
            try:
                self._prepare_kernel(modules, path)
            except GuestError as error:
                if number == 0 and not any(modules.has(self._least) for modules in found):
                    raise UnpreparableError(str(error), **error.facts) from error
                if number == 0:
                    raise
                self._bench.done.notes.append(f"Linux {quote(modules.version)} was left as it is: {error}")

    def _initramfs(self, modules: Modules) -> str | None:
        names = [name.format(modules.version) for name in _INITRAMFS]
        if len([True for path in self._tree.glob("/lib/modules/*") if self._tree.is_folder(path)]) == 1:
            names += _LONE
        paths = (posixpath.join("/boot", name) for name in names)
        return next((found for path in paths if self._tree.is_file(path) and (found := self._tree.find(path))), None)

    def _prepare_kernel(self, modules: Modules, path: str) -> None:
        size = self._tree.size(path) or 0
        if size > _MAX_INITRAMFS:
            raise GuestError(f"{quote(path)} in the guest has {format_size(size)}, more than an initramfs ever has.")
        inside = read_initramfs(
            lambda offset, length: self._tree.read_at(path, offset, length),
            size,
            limit=_MAX_INITRAMFS + MIB,
            seconds=_MAX_SECONDS,
        )
        if inside.problem is not None:
            self._bench.done.notes.append(f"{quote(path)} could not be read to its end: {inside.problem}.")
        if any(name.endswith(_OLD_LOADER) for name in inside.names):
            raise GuestError(
                f"{quote(path)} in the guest loads the drivers that a script in it names, and no others: run mkinitrd "
                f"on the guest with {' '.join(f'--with={name}' for name in self._needed)}."
            )
        if any(name.endswith(_SQUASHED) for name in inside.names):
            raise GuestError(
                f"{quote(path)} in the guest holds its drivers in a squashfs image, which is not looked into: run "
                f'`dracut --force --add-drivers "{" ".join(self._needed)}"` on the guest.'
            )
        wanted = [name for name in self._wanted if name in self._must or modules.has([name])]
        there = {*modules.built_in, *(module_name(name) for name in inside.names if ".ko" in name)}
        missing = [name for name in self._needed if name in wanted and name not in there]
        paths = modules.find(wanted) if missing else []
        lacking = [name for name in self._wanted if name not in wanted]
        if lacking:
            self._bench.done.notes.append(f"Linux {quote(modules.version)} has no driver {', '.join(lacking)}.")
        if not missing:
            return
        self._kept = tuple(name for name in self._wanted if name in {*self._kept, *wanted})
        archive = make_archive(self._tree, modules, paths, find_prefix(inside.names, modules.version))
        total = size + -size % ALIGNMENT + len(archive)
        why = f"Linux {quote(modules.version)} starts without {', '.join(missing)}: {len(paths)} modules are appended"
        self._bench.replace(path, total, self._longer(path, size, archive), why)

    def _longer(self, path: str, size: int, archive: bytes) -> Iterator[bytes]:
        """The file at ``path`` as it is, with ``archive`` behind it."""
        for offset in range(0, size, 4 * MIB):
            yield self._tree.read_at(path, offset, min(4 * MIB, size - offset))
        yield bytes(-size % ALIGNMENT) + archive

    def configure(self) -> None:
        """Tell what makes the initramfs anew to keep the drivers."""
        if self._tree.is_file("/etc/initramfs-tools/modules"):
            self._list_modules("/etc/initramfs-tools/modules")
        if self._tree.is_folder("/usr/lib/dracut") or self._tree.is_folder("/etc/dracut.conf.d"):
            self._settle("/etc/dracut.conf.d/vmferry.conf", f'add_drivers+=" {" ".join(self._kept)} "\n')
        if self._tree.is_folder("/etc/mkinitcpio.conf.d") or self._tree.is_file("/usr/bin/mkinitcpio"):
            self._settle("/etc/mkinitcpio.conf.d/vmferry.conf", f"MODULES+=({' '.join(self._kept)})\n")

    def _list_modules(self, path: str) -> None:
        """Add what is missing to a list of modules, a name a line."""
        old = self._tree.read(path) or b""
        there = {line.split("#")[0].strip() for line in old.decode("utf-8", "replace").splitlines()}
        added = [name for name in self._kept if name not in there]
        if added:
            new = old + (b"" if old.endswith(b"\n") or not old else b"\n")
            new += b"# vmferry\n" + "".join(f"{name}\n" for name in added).encode()
            self._bench.replace(path, len(new), [new], _LASTS)

    def _settle(self, path: str, text: str) -> None:
        """Let there be a file with ``text``."""
        if not self._tree.is_file(path):
            self._bench.add(path, text.encode(), _LASTS)


def _mend_the_rest(bench: Workbench, wishes: Wishes) -> None:
    """What a guest starts without, each for itself; but what was asked for has to succeed."""
    steps: dict[str, Callable[[], None]] = {
        "network": lambda: mend_network(bench, wishes.addresses),
        "tools of its hypervisor": lambda: mask_tools(bench),
    }
    if wishes.firstboot:
        add_firstboot(bench, wishes.firstboot)
    for what, step in steps.items():
        try:
            step()
        except GuestError as error:
            bench.done.notes.append(f"The guest keeps its {what} as it is: {error}")


def _mend_settings(bench: Workbench) -> None:
    """Let fstab and the boot loader name file systems by what they are, not by the bus that they hang on, and the
    kernel show on the serial port what it does."""
    renamer, tree = Renamer(bench.system.volumes), bench.tree
    is_sure = renamer.is_sure_of(bench.system.root, tree.read("/etc/fstab") or b"")
    if not is_sure:
        bench.done.notes.append(
            "/etc/fstab names another disk than this one as the root: names of disks were left as they are."
        )
    for path, found in _settings(tree):
        old = new = tree.read(found) or b""
        unknown: list[str] = []
        if is_sure:
            new, unknown = renamer.in_fstab(old) if path == _FSTAB else renamer.in_parameters(old)
        whys = [_BY_UUID] if new != old else []
        if path != _FSTAB:
            shown = add_serial_console(path, new)
            whys += [_SERIAL] if shown != new else []
            new = shown
        if unknown:
            bench.done.notes.append(
                f"{quote(found)} names {', '.join(unknown)}, which is not on this disk or has no UUID of its own: on "
                "another bus it may have another name."
            )
        if whys:
            bench.replace(found, len(new), [new], "; ".join(whys))


def _settings(tree: Tree) -> Iterator[tuple[str, str]]:
    """The files that name file systems, and where each really is, each once."""
    seen: set[str] = set()
    for path in (_FSTAB, *(path for pattern in _BOOT_SETTINGS for path in tree.glob(pattern))):
        found = tree.find(path)
        if found is not None and found not in seen and KEPT not in found and tree.is_file(found):
            seen.add(found)
            yield path, found


def _distribution(bench: Workbench) -> str:
    """What the distribution calls itself in paths: ``debian``; nothing where it does not say."""
    release = bench.tree.read_text("/etc/os-release") or ""
    found = re.search(r"^ID=[\"']?([\w.-]+)", release, re.MULTILINE)
    return found[1] if found else ""


def _add_fallbacks(bench: Workbench, distribution: str) -> None:
    """Add the loader that firmware without boot entries starts, where an EFI system partition lacks it."""
    for place, volume in bench.system.esps.items():
        try:
            added = add_fallback(volume, distribution, bench.now)
        except GuestError as error:
            bench.done.notes.append(f"{place} got no loader for firmware that does not know the guest: {error}")
            continue
        for loader in added:
            why = f"a copy of {quote(loader.source)}, for firmware that does not know the guest"
            bench.done.changes.append(Change(f"{place}: {quote(loader.path)}", "added", None, loader.size, why))

"""The kernels of a Linux system: their images, versions and drivers, and what is in their initramfs."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace

from vmferry.errors import quote
from vmferry.guest.files import Files
from vmferry.guest.linux.compression import ReadAt
from vmferry.guest.linux.facts import KernelFacts
from vmferry.guest.linux.initramfs import Initramfs, read_initramfs
from vmferry.guest.linux.kernel_image import KernelImage, read_kernel_image
from vmferry.guest.linux.menu import Entry, Menu, is_rescue, locate, version_key
from vmferry.guest.linux.modules import (
    FOLDERS,
    find_built_in,
    find_drivers,
    find_folder,
    find_modules,
    of_version,
    read_config,
)
from vmferry.limits import MAX_GUEST_KERNELS, MAX_INITRAMFS_READ, MAX_INITRAMFS_SECONDS
from vmferry.units import format_size

_IMAGES = (
    "/boot/vmlinuz-*",
    "/boot/vmlinuz",
    "/boot/kernel-*",
    "/boot/Image-*",
    "/boot/vmlinux-*",
    "/boot/*/vmlinuz*",
    "/usr/lib/modules/*/vmlinuz",
    "/lib/modules/*/vmlinuz",
    "/vmlinuz",
)
_NOT_IMAGES = (".hmac", ".old", ".signed", ".sig", ".bak", ".rpmsave")
_NAME = re.compile(r"(?:vmlinu[xz]|kernel|Image)-(.+?)(?:\.efi|\.gz)?$")
_MICROCODE = re.compile(r"(?:^|/)(?:intel-uc|amd-ucode|intel-ucode|early_ucode|ucode|microcode)[^/]*$")
_INITRAMFS = (
    "{folder}/initrd.img-{version}",
    "{folder}/initramfs-{version}.img",
    "{folder}/initrd-{version}",
    "{folder}/initrd-{version}.img",
    "{folder}/initramfs-{version}",
    "{modules}/initramfs.img",
    "{modules}/initrd",
    "{folder}/initrd.img",
)
_ELSEWHERE = ("squashfs-root.img", "squash-root.img", "squash/root.img", "erofs-root.img")
"""Files in an initramfs that hold the modules themselves: dracut's squash."""


@dataclass(frozen=True, slots=True)
class _Found:
    """A kernel that was seen, before its initramfs is read."""

    facts: KernelFacts
    image: KernelImage
    parts: tuple[str, ...]
    """Paths of what is loaded as its initramfs, one behind the other."""
    rescue: bool


def find_kernels(
    files: Files, menu: Menu | None, architecture: str | None, policy: str | None
) -> tuple[KernelFacts, ...]:
    """The kernels, the default first, then by version, the newest first, rescue systems last.

    ``architecture`` is that of the system's programs, for kernels of old that do not tell their own. ``policy`` is what
    the guest takes into an initramfs, for one that is too large to be read to its end: see ``find_policy``.
    """
    default = locate(files, menu.default.kernel, menu.bases) if menu and menu.default and menu.default.kernel else None
    entries = _located(files, menu)
    paths = dict.fromkeys([*([default] if default else []), *entries, *_images(files)])
    found: dict[tuple[str, bool], _Found] = {}
    for path in list(paths)[:MAX_GUEST_KERNELS]:
        kernel = _look(files, path, entries.get(path), menu, architecture, path == default)
        if kernel is not None:
            found.setdefault((kernel.facts.version, kernel.rescue), kernel)
    if len(paths) > MAX_GUEST_KERNELS:
        files.report(f"There are more than {MAX_GUEST_KERNELS} kernels: the rest was not looked at.")
    ordered = sorted(
        found.values(), key=lambda one: (one.facts.default, not one.rescue, version_key(one.facts.version))
    )
    return _read_all(files, ordered[::-1], policy)


def find_missing(files: Files, menu: Menu | None) -> tuple[str | None, str | None]:
    """The kernel and the initramfs that the default entry names and that are not there."""
    if menu is None or menu.default is None:
        return None, None
    entry = menu.default
    kernel = entry.kernel if entry.kernel and locate(files, entry.kernel, menu.bases) is None else None
    return kernel, next((path for path in entry.initramfs if locate(files, path, menu.bases) is None), None)


def _located(files: Files, menu: Menu | None) -> dict[str, Entry]:
    """Where the kernels of a menu lie → the first entry that starts each."""
    found: dict[str, Entry] = {}
    for entry in menu.entries if menu else ():
        if entry.kernel and (path := locate(files, entry.kernel, menu.bases if menu else ())):
            found.setdefault(path, entry)
    if menu and menu.default and menu.default.kernel and (path := locate(files, menu.default.kernel, menu.bases)):
        found[path] = menu.default
    return found


def _images(files: Files) -> list[str]:
    """Where else kernels lie, links followed; SUSE keeps an unpacked copy for debuggers beside each."""
    paths = (files.find(path) for path in files.glob(*_IMAGES) if not path.endswith(_NOT_IMAGES))
    found = [path for path in paths if path is not None and files.is_file(path)]
    return [
        path
        for path in found
        if "vmlinux" not in path or path.replace("vmlinux", "vmlinuz").removesuffix(".gz") not in found
    ]


def _look(
    files: Files, path: str, entry: Entry | None, menu: Menu | None, architecture: str | None, default: bool
) -> _Found | None:
    image = read_kernel_image(_reader(files, path))
    if image is None:
        if entry is not None:
            files.report(f"{quote(path)} is started by the boot loader, and is no kernel that we know.")
        return None
    version = _version(files, path, image)
    folder = find_folder(files, version)
    facts = KernelFacts(
        version,
        path,
        built_in=find_built_in(files, folder, version),
        as_module=find_modules(files, folder) if folder else (),
        default=default,
        xen_only=_is_xen_only(files, image, version, folder, architecture),
        architecture=image.architecture or architecture,
        modules=folder,
    )
    rescue = (entry is not None and is_rescue(entry)) or "rescue" in path
    return _Found(facts, image, _initramfs_paths(files, facts, entry, menu), rescue)


def _version(files: Files, path: str, image: KernelImage) -> str:
    """The version whose folder of modules is there; else what the kernel itself says, else its name."""
    name = _NAME.search(path.rpartition("/")[2])
    parent = path.split("/")[-2] if any(path.startswith(f"{folder}/") for folder in FOLDERS) else None
    known = [text for text in (image.version, name[1] if name else None, parent) if text]
    return next((text for text in known if find_folder(files, text)), known[0] if known else "")


def _is_xen_only(files: Files, image: KernelImage, version: str, folder: str | None, architecture: str | None) -> bool:
    """Kernels for Xen alone are plain or packed ELF files; those that start anywhere are bzImages."""
    if image.format != "elf" or (image.architecture or architecture) not in ("x86_64", "i386"):
        return False
    settings = read_config(files, folder, version)
    return "xen" in version.lower() or "y" in (settings.get("CONFIG_X86_64_XEN"), settings.get("CONFIG_X86_XEN"))


def _initramfs_paths(files: Files, facts: KernelFacts, entry: Entry | None, menu: Menu | None) -> tuple[str, ...]:
    """What the boot loader loads with a kernel, microcode left out; by its usual name where no entry says so."""
    if entry is not None and entry.initramfs:
        paths = [locate(files, path, menu.bases if menu else ()) for path in entry.initramfs]
        return tuple(path for path in paths if path is not None and not _MICROCODE.search(path))
    folder = facts.image.rpartition("/")[0]
    name = _NAME.search(facts.image.rpartition("/")[2])
    for version in dict.fromkeys((name[1] if name else facts.version, facts.version)):
        for pattern in _INITRAMFS:
            path = pattern.format(folder=folder, version=version, modules=facts.modules or folder)
            if files.is_file(path):
                return (files.find(path) or path,)
    return ()


def _read_all(files: Files, kernels: Iterable[_Found], policy: str | None) -> tuple[KernelFacts, ...]:
    """Read the initramfs of each as long as they are not too much; of the first as much as may be."""
    done: list[KernelFacts] = []
    left = MAX_INITRAMFS_READ
    end = time.process_time() + MAX_INITRAMFS_SECONDS
    for kernel in kernels:
        facts, image = kernel.facts, kernel.image
        parts = [(path, 0, files.size(path) or 0) for path in kernel.parts]
        if image.initramfs is not None:
            parts = [(facts.image, *image.initramfs), *parts]
        size = sum(length for _, _, length in parts)
        if not parts:
            done.append(facts)
            continue
        if done and size > left:
            done.append(replace(_with_initramfs(facts, parts, [], _unread(parts)), initramfs_partly=True))
            continue
        read = []
        for path, start, length in parts:
            seconds = end - time.process_time()
            read.append(read_initramfs(_reader(files, path, start), length, limit=left, seconds=seconds))
            left -= read[-1].bytes_read
        names = [name for one in read for name in one.names]
        found = _with_initramfs(facts, parts, names, _problem(facts, parts, read, names))
        if any(one.partly for one in read) and all(one.partly or not one.problem for one in read):
            found = replace(found, initramfs_partly=True)
            found = _expect_all(found) if policy == "generic" else found
        done.append(found)
    return tuple(done)


def _with_initramfs(
    facts: KernelFacts, parts: list[tuple[str, int, int]], names: list[str], problem: str | None
) -> KernelFacts:
    own, _ = of_version(names, facts.version)
    return replace(
        facts,
        initramfs=parts[-1][0],
        initramfs_size=sum(length for _, _, length in parts),
        initramfs_problem=problem,
        in_initramfs=find_drivers(own),
    )


def _expect_all(facts: KernelFacts) -> KernelFacts:
    """A generic initramfs takes in the drivers of all disks and networks that there are modules of."""
    expected = tuple(sorted({*facts.in_initramfs, *facts.as_module}))
    return replace(facts, in_initramfs=expected, initramfs_problem=None, initramfs_expected=True)


def _problem(
    facts: KernelFacts, parts: list[tuple[str, int, int]], read: list[Initramfs], names: list[str]
) -> str | None:
    """What is odd about an initramfs, as a sentence that names its file."""
    for (path, _, _), one in zip(parts, read, strict=True):
        if one.problem is not None:
            return f"{quote(path)} could not be read to its end: {one.problem}."
    path = quote(parts[-1][0])
    if any(name.endswith(_ELSEWHERE) for name in names):
        return f"{path} keeps its modules in a file system of its own, which is not looked into."
    own, others = of_version(names, facts.version)
    if others and not find_drivers(own) and not any(f"lib/modules/{facts.version}/" in name for name in own):
        return f"{path} has modules of {quote(min(others))}, and none of {quote(facts.version)}."
    return None


def _unread(parts: list[tuple[str, int, int]]) -> str:
    path, most = quote(parts[-1][0]), format_size(MAX_INITRAMFS_READ)
    return f"{path} was not read: with those of the kernels before it they are more than {most}."


def _reader(files: Files, path: str, start: int = 0) -> ReadAt:
    return lambda offset, length: files.read_at(path, start + offset, length)

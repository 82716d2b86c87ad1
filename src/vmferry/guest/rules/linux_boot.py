"""Rules about what a Linux needs to start: kernel, initramfs, drivers, boot loader, and the root that they look for."""

from __future__ import annotations

import re
from collections.abc import Iterator

from vmferry.errors import quote
from vmferry.guest.evidence import Evidence
from vmferry.guest.findings import RuleTable, Seen, Severity
from vmferry.guest.linux.facts import KernelFacts, LinuxFacts
from vmferry.machine import Firmware

RULES = RuleTable()

_EC2_DISKS = frozenset({"nvme"})
_VIRTIO_DISKS = frozenset({"virtio_blk", "virtio_scsi"})
_DISKS = frozenset({"ahci", "ata_piix", "nvme", "mptspi", "mptsas", "megaraid_sas", "vmw_pvscsi"})
"""Drivers of the disks that our compute can show instead of virtio."""
_DEVICE = re.compile(r"/dev/(sd|hd|vd|xvd)[a-z]+\d*$")


@RULES.rule(
    "wrong-architecture",
    "the system is not for x86-64",
    aws=Severity.STOPS,
    vmferry=Severity.WILL_NOT_BOOT,
    remedy="Install the system anew for x86-64.",
    message=None,
)
def wrong_architecture(evidence: Evidence) -> Iterator[Seen]:
    found = evidence.linux or evidence.windows
    if found is not None and found.architecture not in (None, "x86_64", "i386"):
        yield Seen(_root(evidence), f"The system is for {quote(found.architecture)}; machines here are x86-64.")


@RULES.rule(
    "linux-32-bit",
    "the Linux is a 32-bit one",
    aws=Severity.STOPS,
    vmferry=Severity.NOTE,
    remedy="It starts here; on EC2 it would not: install a 64-bit one there.",
)
def linux_32_bit(evidence: Evidence) -> Iterator[Seen]:
    if evidence.linux is not None and evidence.linux.architecture == "i386":
        yield Seen(_root(evidence), "The system is a 32-bit Linux.")


@RULES.rule(
    "no-kernel",
    "no kernel was found",
    aws=Severity.STOPS,
    vmferry=Severity.WILL_NOT_BOOT,
    message="Unable to determine kernel version.",
)
def no_kernel(evidence: Evidence) -> Iterator[Seen]:
    linux = evidence.linux
    if linux is not None and not linux.kernels:
        yield Seen(
            "/boot", "No kernel was found there, nor in /usr/lib/modules.", f"Install one: {_install_kernel(linux)}."
        )


@RULES.rule(
    "kernel-missing",
    "the boot loader starts a kernel, or an initramfs, that is not there",
    aws=Severity.STOPS,
    vmferry=Severity.WILL_NOT_BOOT,
    remedy="Write the boot loader's configuration anew on the guest: update-grub (Red Hat and SUSE: grub2-mkconfig -o "
    "/boot/grub2/grub.cfg); where the file itself is gone, install the kernel again.",
    message="Unable to determine kernel version.",
    unless=("no-kernel",),
)
def kernel_missing(evidence: Evidence) -> Iterator[Seen]:
    linux = evidence.linux
    if linux is not None:
        for path in filter(None, (linux.missing_kernel, linux.missing_initramfs)):
            yield Seen(linux.boot_config or "/boot", f"The default entry loads {quote(path)}, which is not there.")


@RULES.rule(
    "xen-kernel-only",
    "every kernel is a paravirtual one of Xen's",
    aws=Severity.STOPS,
    vmferry=Severity.WILL_NOT_BOOT,
    message="Unable to determine kernel version.",
)
def xen_kernel_only(evidence: Evidence) -> Iterator[Seen]:
    linux = evidence.linux
    if linux is not None and linux.kernels and all(kernel.xen_only for kernel in linux.kernels):
        names = ", ".join(quote(kernel.version) for kernel in linux.kernels[:4])
        yield Seen(
            "/boot",
            f"Only paravirtual Xen kernels are installed ({names}), which start nowhere else.",
            f"Install a common one: {_install_kernel(linux)}.",
        )


@RULES.rule(
    "initramfs-unreadable",
    "the initramfs could not be read",
    aws=Severity.STOPS,
    vmferry=Severity.SHOULD_MEND,
    message="We were unable to read your import's initramfs/initrd to determine what drivers your import "
    "requires to run "
    "in EC2",
)
def initramfs_unreadable(evidence: Evidence) -> Iterator[Seen]:
    kernel = _kernel(evidence)
    if kernel is None or kernel.initramfs_partly or evidence.linux is None:
        return
    if kernel.initramfs_problem:
        remedy = f"Make it anew: {_rebuild(evidence.linux, kernel, ())}."
        yield Seen(kernel.initramfs or kernel.image, quote(kernel.initramfs_problem), remedy)


@RULES.rule(
    "initramfs-too-large",
    "the initramfs is too large to be looked into to its end",
    aws=Severity.NOTE,
    vmferry=Severity.NOTE,
    remedy="See on the guest that it holds the drivers of the new disks, virtio_blk or nvme: lsinitramfs (Red Hat and "
    "SUSE: lsinitrd).",
)
def initramfs_too_large(evidence: Evidence) -> Iterator[Seen]:
    kernel = _kernel(evidence)
    if kernel is not None and kernel.initramfs_partly and kernel.initramfs_problem:
        yield Seen(kernel.initramfs or kernel.image, quote(kernel.initramfs_problem))


@RULES.rule(
    "no-disk-driver",
    "nothing that the kernel has before it sees its root drives a disk of ours",
    aws=Severity.WILL_NOT_BOOT,
    vmferry=Severity.WILL_NOT_BOOT,
    unless=("initramfs-unreadable", "initramfs-too-large", "no-kernel", "xen-kernel-only"),
)
def no_disk_driver(evidence: Evidence) -> Iterator[Seen]:
    kernel = _kernel(evidence)
    if kernel is None or evidence.linux is None or _early(kernel) & (_VIRTIO_DISKS | _DISKS):
        return
    yield Seen(
        kernel.initramfs or kernel.image,
        f"Kernel {quote(kernel.version)} has no driver of a disk in itself or in its initramfs: it will not find "
        f"its root.",
        f"Rebuild the initramfs: {_rebuild(evidence.linux, kernel, ('virtio_pci', 'virtio_blk', 'virtio_scsi'))}; "
        "or import it with preparation.",
    )


@RULES.rule(
    "no-virtio-driver",
    "the kernel does not start from a virtio disk",
    vmferry=Severity.NOTE,
    unless=("no-disk-driver", "initramfs-unreadable", "initramfs-too-large", "no-kernel", "xen-kernel-only"),
)
def no_virtio_driver(evidence: Evidence) -> Iterator[Seen]:
    kernel = _kernel(evidence)
    if kernel is None or evidence.linux is None:
        return
    early = _early(kernel)
    if not early & _VIRTIO_DISKS or "virtio_pci" not in early:
        buses = ", ".join(sorted(early & _DISKS))
        yield Seen(
            kernel.initramfs or kernel.image,
            f"Kernel {quote(kernel.version)} starts from a disk by {buses}, not by virtio: it will be given such "
            f"a disk.",
            "For a faster one import it with preparation, or rebuild the initramfs: "
            f"{_rebuild(evidence.linux, kernel, ('virtio_pci', 'virtio_blk', 'virtio_scsi'))}.",
        )


@RULES.rule(
    "no-nvme-driver",
    "the kernel does not start from an NVMe disk, as EC2's are",
    aws=Severity.WILL_NOT_BOOT,
    unless=("no-disk-driver", "initramfs-unreadable", "initramfs-too-large", "no-kernel", "xen-kernel-only"),
)
def no_nvme_driver(evidence: Evidence) -> Iterator[Seen]:
    kernel = _kernel(evidence)
    if kernel is not None and evidence.linux is not None and not _early(kernel) & _EC2_DISKS:
        yield Seen(
            kernel.initramfs or kernel.image,
            f"Kernel {quote(kernel.version)} has no nvme in itself or in its initramfs.",
            f"Rebuild the initramfs: {_rebuild(evidence.linux, kernel, ('nvme', 'xen_blkfront'))}.",
        )


@RULES.rule(
    "no-boot-configuration",
    "no configuration of a boot loader was found",
    aws=Severity.STOPS,
    vmferry=Severity.SHOULD_MEND,
    remedy="Write it on the guest: update-grub (Red Hat and SUSE: grub2-mkconfig -o /boot/grub2/grub.cfg).",
    message="Unable to determine kernel version.",
    unless=("no-kernel",),
)
def no_boot_configuration(evidence: Evidence) -> Iterator[Seen]:
    if evidence.linux is not None and evidence.linux.boot_loader is None:
        yield Seen("/boot", "No configuration of GRUB, systemd-boot or extlinux was found.")


@RULES.rule(
    "default-kernel-guessed",
    "the boot loader's configuration names no default",
    aws=Severity.STOPS,
    vmferry=Severity.NOTE,
    remedy="Name one on the guest: grubby --set-default /boot/vmlinuz-VERSION.",
    message="BLSC-style GRUB found, but unable to detect default kernel.",
)
def default_kernel_guessed(evidence: Evidence) -> Iterator[Seen]:
    linux = evidence.linux
    if linux is not None and linux.default_guessed and linux.kernels:
        yield Seen(
            linux.boot_config or "/boot",
            f"No default is named: the newest is taken, {quote(linux.kernels[0].version)}.",
        )


@RULES.rule(
    "no-uefi-fallback",
    "the EFI system partition has no loader that a new machine would find",
    aws=Severity.WILL_NOT_BOOT,
    vmferry=Severity.WILL_NOT_BOOT,
)
def no_uefi_fallback(evidence: Evidence) -> Iterator[Seen]:
    found = evidence.linux or evidence.windows
    if found is None or evidence.firmwares != (Firmware.UEFI,) or found.efi_fallback is not None:
        return
    loaders = evidence.linux.efi_loaders if evidence.linux else ()
    shown = f" (there is {', '.join(quote(loader) for loader in loaders[:3])})" if loaders else ""
    yield Seen(
        "the EFI system partition",
        f"/EFI/BOOT/BOOTX64.EFI is missing{shown}; the boot entry that the old firmware had does not come along.",
        _fallback_remedy(evidence, loaders),
    )


@RULES.rule(
    "root-by-device-name",
    "the kernel is told its root by a device name that changes with the bus",
    aws=Severity.WILL_NOT_BOOT,
    vmferry=Severity.SHOULD_MEND,
    remedy="Name the root by its UUID: in /etc/default/grub and fstab (blkid shows it), then update-grub or "
    "grub2-mkconfig.",
)
def root_by_device_name(evidence: Evidence) -> Iterator[Seen]:
    linux = evidence.linux
    if linux is None:
        return
    for word in linux.command_line.split():
        name, _, value = word.partition("=")
        if name in ("root", "resume") and _DEVICE.match(value):
            yield Seen(linux.boot_config or "/boot", f"The kernel is started with {quote(word)}.")


@RULES.rule(
    "fstab-unreadable",
    "there is no fstab",
    aws=Severity.STOPS,
    vmferry=Severity.NOTE,
    remedy="Write one on the guest, of what findmnt and blkid show; systems that find their root otherwise need "
    "none here.",
    message="Invalid configuration - Could not read fstab",
)
def fstab_unreadable(evidence: Evidence) -> Iterator[Seen]:
    if evidence.linux is not None and not evidence.linux.mounts:
        yield Seen("/etc/fstab", "It is missing or names nothing.")


@RULES.rule(
    "fstab-device-name",
    "fstab names a device by a name that changes with the bus",
    aws=Severity.SHOULD_MEND,
    vmferry=Severity.SHOULD_MEND,
    remedy="Name it by its UUID (blkid shows it).",
)
def fstab_device_name(evidence: Evidence) -> Iterator[Seen]:
    for mount in evidence.linux.mounts if evidence.linux else ():
        if _DEVICE.match(mount.source) and mount.volume is not None:
            yield Seen("/etc/fstab", f"{quote(mount.source)} is mounted at {quote(mount.target)} by its device name.")


@RULES.rule(
    "fstab-missing-device",
    "fstab names a device that none of the imported disks holds",
    aws=Severity.WILL_NOT_BOOT,
    vmferry=Severity.WILL_NOT_BOOT,
    remedy="Import all disks of the machine, or give the line the option nofail; without it the start ends in "
    "emergency mode.",
    unless=("lvm-incomplete", "encrypted-linux"),
)
def fstab_missing_device(evidence: Evidence) -> Iterator[Seen]:
    for mount in evidence.linux.mounts if evidence.linux else ():
        is_device = mount.source.startswith(
            ("/dev/sd", "/dev/hd", "/dev/vd", "/dev/xvd", "UUID=", "LABEL=", "PARTUUID=")
        )
        waits = not {"nofail", "noauto"} & set(mount.options) and mount.kind != "swap"
        if is_device and waits and mount.volume is None:
            what = f"{quote(mount.source)}, mounted at {quote(mount.target)}, is on none of the disks."
            yield Seen("/etc/fstab", what)


@RULES.rule(
    "fstab-foreign-mount",
    "fstab mounts something that the new side does not have",
    aws=Severity.SHOULD_MEND,
    vmferry=Severity.SHOULD_MEND,
    remedy="Give the line the options nofail,_netdev, or comment it out: the start may hang there.",
)
def fstab_foreign_mount(evidence: Evidence) -> Iterator[Seen]:
    for mount in evidence.linux.mounts if evidence.linux else ():
        if mount.kind in _FOREIGN and not {"nofail", "noauto"} & set(mount.options):
            yield Seen(
                "/etc/fstab", f"{quote(mount.source)} ({quote(mount.kind)}) is mounted at {quote(mount.target)}."
            )


_FOREIGN = frozenset(
    {"cifs", "smbfs", "smb3", "nfs", "nfs4", "vboxsf", "vmhgfs", "fuse.vmhgfs-fuse", "fuse.sshfs", "9p"}
)


@RULES.rule(
    "lvm-devices-file",
    "LVM uses only disks whose old serial numbers it knows",
    aws=Severity.SHOULD_MEND,
    vmferry=Severity.SHOULD_MEND,
    remedy="Remove it on the guest before the export: rm /etc/lvm/devices/system.devices, then dracut -f.",
)
def lvm_devices_file(evidence: Evidence) -> Iterator[Seen]:
    if evidence.linux is not None and evidence.linux.lvm_devices_file:
        yield Seen("/etc/lvm/devices/system.devices", "It lists disks by identities of the old hypervisor.")


def _root(evidence: Evidence) -> str:
    return evidence.system.root if evidence.system else "the machine"


def _kernel(evidence: Evidence) -> KernelFacts | None:
    """The kernel that will start."""
    kernels = evidence.linux.kernels if evidence.linux else ()
    return next((kernel for kernel in kernels if kernel.default), kernels[0] if kernels else None)


def _early(kernel: KernelFacts) -> frozenset[str]:
    """The drivers that it has before it sees its root; without an initramfs those in itself."""
    return frozenset(kernel.built_in) | frozenset(kernel.in_initramfs)


def _is(linux: LinuxFacts, *names: str) -> bool:
    return bool({linux.distribution, *linux.like} & set(names))


def _install_kernel(linux: LinuxFacts) -> str:
    if _is(linux, "ubuntu"):
        return "apt-get install linux-image-generic"
    if _is(linux, "debian"):
        return "apt-get install linux-image-amd64"
    if _is(linux, "suse", "sles", "opensuse"):
        return "zypper install kernel-default"
    if _is(linux, "rhel", "fedora", "centos", "ol", "amzn"):
        return "dnf install kernel"
    return "your distribution's package of it"


def _rebuild(linux: LinuxFacts, kernel: KernelFacts, drivers: tuple[str, ...]) -> str:
    """The command that makes the initramfs anew, with ``drivers``, by the family of the system."""
    version = quote(kernel.version)
    if _is(linux, "debian", "ubuntu"):
        lines = "".join(f"{driver}\\n" for driver in drivers)
        write = f"printf '{lines}' >> /etc/initramfs-tools/modules && " if drivers else ""
        return f"{write}update-initramfs -u -k {version}"
    if _is(linux, "alpine"):
        return "mkinitfs"
    if _is(linux, "arch"):
        return "mkinitcpio -P"
    add = f' --add-drivers "{" ".join(drivers)}"' if drivers else ""
    return f"dracut -f{add} {quote(kernel.initramfs or '/boot/initramfs-' + kernel.version + '.img')} {version}"


def _fallback_remedy(evidence: Evidence, loaders: tuple[str, ...]) -> str:
    if evidence.windows is not None:
        copy = r"copy S:\EFI\Microsoft\Boot\bootmgfw.efi S:\EFI\BOOT\BOOTX64.EFI"
        return f"Copy it on the guest: mountvol S: /s, then {copy}."
    if evidence.linux is not None and _is(evidence.linux, "debian", "ubuntu"):
        return "Install it on the guest: grub-install --target=x86_64-efi --force-extra-removable."
    shim = next(
        (loader for loader in loaders if "shim" in loader.lower()), loaders[0] if loaders else "/EFI/…/shimx64.efi"
    )
    folder = "/boot/efi/EFI/BOOT"
    return f"Copy it on the guest: mkdir -p {folder} && cp /boot/efi{quote(shim)} {folder}/BOOTX64.EFI."

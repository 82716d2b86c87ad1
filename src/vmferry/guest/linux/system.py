"""A Linux system in a tree of files: all that is known of it, gathered from the files beside this one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from vmferry.guest._clean import clean
from vmferry.guest.facts import VolumeFacts
from vmferry.guest.files import Files
from vmferry.guest.linux.boot_loader import find_efi_loaders, find_menu, read_device_map
from vmferry.guest.linux.devices import Devices
from vmferry.guest.linux.distribution import (
    Distribution,
    find_distribution,
    find_image_base,
    is_foreign,
)
from vmferry.guest.linux.elf import find_architecture
from vmferry.guest.linux.facts import LinuxFacts
from vmferry.guest.linux.fstab import read_fstab
from vmferry.guest.linux.kernels import find_kernels, find_missing
from vmferry.guest.linux.menu import Menu
from vmferry.guest.linux.modules import FOLDERS
from vmferry.guest.linux.network import (
    find_dhcp_clients,
    find_interfaces,
    find_kept_names,
    find_managers,
    find_persistent_names,
)
from vmferry.guest.linux.rebuilding import find_policy, find_rebuilders
from vmferry.guest.linux.services import Services, find_firewalls, starts_serial_console, starts_ssh
from vmferry.guest.linux.storage import (
    find_hibernated,
    find_lvm_filters,
    pins_lvm_devices,
    read_crypttab,
    uses_multipath,
)
from vmferry.guest.linux.tools import (
    find_cloud_init,
    find_datasources,
    find_subscription,
    find_tools,
)
from vmferry.guest.tree import Tree


def find_linux(tree: Tree, volumes: Sequence[VolumeFacts]) -> LinuxFacts | None:
    """The Linux system whose files are ``tree``, or ``None`` where there is none.

    ``volumes`` are all of the machine's: what fstab and the command line name is looked for among them. Never raises
    for what a guest wrote: what is damaged or odd is a sentence in ``problems``. No text in the answer has control
    characters; all lists are bounded. Reads some MiB, most of them of the initramfs. For one thread.
    """
    files = Files(tree)
    distribution = _find_distribution(files)
    if distribution is None:
        return None
    services = Services(files)
    menu = find_menu(files, volumes)
    facts = LinuxFacts(
        distribution.name,
        distribution.version,
        distribution.title,
        distribution.like,
        distribution.point_release,
        image_based=find_image_base(files, distribution.name),
        architecture=find_architecture(files),
        hostname=_find_hostname(files),
        mounts=read_fstab(files, volumes),
        ssh=starts_ssh(files, services),
        firewall=find_firewalls(files, services),
        selinux=_find_selinux(files),
        cloud_datasources=find_datasources(files),
        local_time="LOCAL" in files.lines("/etc/adjtime")[2:3],
        tools=find_tools(files),
        subscription=find_subscription(files, distribution.name),
    )
    facts = _with_storage(_with_network(facts, files, services), files, services)
    # Last, as the initramfs may take all that a look may read.
    facts = _with_kernels(_with_boot(facts, files, services, menu, volumes), files, menu)
    return clean(replace(facts, problems=files.problems))


def _find_distribution(files: Files) -> Distribution | None:
    """A system without any release file is taken for a Linux by its modules and its settings."""
    if is_foreign(files):
        return None
    found = find_distribution(files)
    if found is None and any(files.names(folder) for folder in FOLDERS):
        found = Distribution("linux") if files.is_file("/etc/fstab") or files.is_file("/etc/passwd") else None
    return found


def _with_boot(
    facts: LinuxFacts, files: Files, services: Services, menu: Menu | None, volumes: Sequence[VolumeFacts]
) -> LinuxFacts:
    entry = menu.default if menu else None
    choices = {one.kernel for one in menu.entries if one.kernel} if menu else set()
    command_line = entry.options if entry else ""
    kernel, initramfs = find_missing(files, menu)
    efi = find_efi_loaders(files, facts.architecture)
    return replace(
        facts,
        boot_loader=menu.loader if menu else None,
        boot_config=menu.config if menu else None,
        command_line=command_line,
        missing_kernel=kernel,
        missing_initramfs=initramfs,
        device_map=read_device_map(files),
        default_guessed=menu is not None and (entry is None or (menu.guessed and len(choices) > 1)),
        root_volume=_find_root(command_line, volumes),
        efi_loaders=efi.loaders,
        efi_fallback=efi.fallback,
        initramfs_policy=find_policy(files),
        initramfs_rebuilders=find_rebuilders(files),
        cloud_init=find_cloud_init(files, services, command_line),
        serial_console=starts_serial_console(files, services, command_line),
    )


def _with_kernels(facts: LinuxFacts, files: Files, menu: Menu | None) -> LinuxFacts:
    """A system without programs, an image's, has its kernels' architecture."""
    kernels = find_kernels(files, menu, facts.architecture, facts.initramfs_policy)
    if facts.architecture is None and kernels:
        architecture = kernels[0].architecture
        fallback = find_efi_loaders(files, architecture).fallback
        facts = replace(facts, architecture=architecture, efi_fallback=fallback)
    return replace(facts, kernels=kernels)


def _find_root(command_line: str, volumes: Sequence[VolumeFacts]) -> str | None:
    roots = [word.removeprefix("root=") for word in command_line.split() if word.startswith("root=")]
    return Devices(volumes).find(roots[-1].removeprefix("block:").strip("\"'")) if roots else None


def _with_network(facts: LinuxFacts, files: Files, services: Services) -> LinuxFacts:
    managers = find_managers(services)
    return replace(
        facts,
        interfaces=find_interfaces(files),
        persistent_names=find_persistent_names(files),
        kept_names=find_kept_names(files),
        network_managers=managers,
        dhcp_clients=find_dhcp_clients(files, managers),
    )


def _with_storage(facts: LinuxFacts, files: Files, services: Services) -> LinuxFacts:
    crypttab = read_crypttab(files)
    return replace(
        facts,
        crypttab=crypttab.sources,
        crypttab_keys=crypttab.keys,
        hibernated=find_hibernated(files, facts.mounts),
        lvm_devices_file=pins_lvm_devices(files),
        lvm_filters=find_lvm_filters(files),
        multipath=uses_multipath(files, services),
    )


def _find_hostname(files: Files) -> str | None:
    for path in ("/etc/hostname", "/etc/HOSTNAME"):
        for line in files.lines(path):
            if line and not line.startswith("#"):
                return line
    return files.settings("/etc/sysconfig/network").get("HOSTNAME") or None


def _find_selinux(files: Files) -> str | None:
    mode = files.settings("/etc/selinux/config").get("SELINUX", "").lower()
    return mode if mode in ("enforcing", "permissive", "disabled") else None

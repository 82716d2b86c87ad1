"""A Windows system in a tree of files: all that is known of it, gathered from the files beside this one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from vmferry.guest._clean import clean
from vmferry.guest.facts import VolumeFacts
from vmferry.guest.files import Files
from vmferry.guest.tree import Tree
from vmferry.guest.windows.activation import find_activation, find_kms_server
from vmferry.guest.windows.boot import find_boot_config, find_efi_loaders
from vmferry.guest.windows.drivers import find_drivers, starts_at_boot
from vmferry.guest.windows.facts import WindowsFacts
from vmferry.guest.windows.network import (
    find_firewall,
    find_remote_desktop,
    find_remote_desktop_port,
    find_remote_desktop_profiles,
    find_static_addresses,
)
from vmferry.guest.windows.registry import Registry, find_registry
from vmferry.guest.windows.settings import (
    find_domain,
    find_execution_policy,
    find_hostname,
    find_languages,
    find_page_file_drives,
    find_san_policy,
    has_secure_boot,
    has_universal_clock,
    logs_on_by_itself,
    restarts_after_crash,
    restricts_devices,
)
from vmferry.guest.windows.software import (
    find_agents,
    find_leftovers,
    find_net_framework,
    find_protection,
    find_tools,
    is_hyper_v_host,
)
from vmferry.guest.windows.state import (
    find_image_state,
    find_pending,
    is_being_set_up,
    is_hibernated,
    starts_fast,
)
from vmferry.guest.windows.version import find_architecture, find_version, takes_sha2_drivers


def find_windows(tree: Tree, volumes: Sequence[VolumeFacts]) -> WindowsFacts | None:
    """The Windows system whose drive C: is ``tree``, or ``None`` where there is none.

    The file system that the boot manager lies on is mounted anywhere in ``tree``, where it is another: ``/boot/efi``.
    ``volumes`` are all of the machine's: what the boot configuration names is looked for among them. Never raises for
    what a guest wrote: what is damaged or odd is a sentence in ``problems``. No text in the answer has control
    characters; all lists are bounded. Reads some MiB at the most. For one thread.
    """
    files = Files(tree)
    registry = find_registry(files)
    if registry is None:
        return None
    facts = _with_boot(_with_drivers(_find_basics(files, registry), files, registry), files, registry, volumes)
    facts = _with_software(_with_settings(_with_network(facts, registry), registry), files, registry)
    return clean(replace(facts, problems=files.problems))


def _find_basics(files: Files, registry: Registry) -> WindowsFacts:
    version = find_version(registry)
    return WindowsFacts(
        version.product,
        version.number,
        version.build,
        version.edition,
        version.kind,
        find_architecture(files, registry),
        find_hostname(registry),
        hibernated=is_hibernated(files),
        pending=find_pending(files, registry),
        sysprep=find_image_state(files, registry),
        activation=find_activation(registry),
        update=version.update,
        release=version.release,
        service_pack=version.service_pack,
        control_set=registry.control_set,
        sha2_drivers=takes_sha2_drivers(files, registry, version),
        fast_startup=starts_fast(files, registry),
        setup_unfinished=is_being_set_up(registry),
        kms_server=find_kms_server(registry),
    )


def _with_drivers(facts: WindowsFacts, files: Files, registry: Registry) -> WindowsFacts:
    drivers = find_drivers(files, registry, find_version(registry))
    return replace(
        facts,
        drivers=tuple(driver.name for driver in drivers),
        boot_drivers=tuple(driver.name for driver in drivers if starts_at_boot(driver)),
        bound_drivers=tuple(driver.name for driver in drivers if driver.bound),
        driver_details=drivers,
    )


def _with_boot(facts: WindowsFacts, files: Files, registry: Registry, volumes: Sequence[VolumeFacts]) -> WindowsFacts:
    config = find_boot_config(files, registry, volumes)
    efi = find_efi_loaders(files, facts.architecture)
    return replace(
        facts,
        boot_mode=config.mode,
        boot_config=config.path,
        root_named=config.root_named,
        root_volume=config.root_volume,
        serial_console=config.serial_console,
        graphics_disabled=config.graphics_disabled,
        efi_loader=efi.own,
        efi_fallback=efi.fallback,
        efi_fallback_is_own=efi.fallback_is_own,
    )


def _with_network(facts: WindowsFacts, registry: Registry) -> WindowsFacts:
    return replace(
        facts,
        remote_desktop=find_remote_desktop(registry),
        remote_desktop_port=find_remote_desktop_port(registry),
        remote_desktop_profiles=find_remote_desktop_profiles(registry),
        firewall=find_firewall(registry),
        static_addresses=find_static_addresses(registry),
        domain=find_domain(registry),
    )


def _with_settings(facts: WindowsFacts, registry: Registry) -> WindowsFacts:
    return replace(
        facts,
        real_time_is_universal=has_universal_clock(registry),
        page_file_drives=find_page_file_drives(registry),
        auto_logon=logs_on_by_itself(registry),
        languages=find_languages(registry),
        secure_boot=has_secure_boot(registry),
        san_policy=find_san_policy(registry),
        auto_reboot=restarts_after_crash(registry),
        device_restrictions=restricts_devices(registry),
        execution_policy=find_execution_policy(registry),
    )


def _with_software(facts: WindowsFacts, files: Files, registry: Registry) -> WindowsFacts:
    return replace(
        facts,
        protection=find_protection(registry),
        tools=find_tools(registry),
        agents=find_agents(files, registry),
        net_framework=find_net_framework(registry),
        hyper_v_role=is_hyper_v_host(registry),
        leftovers=find_leftovers(registry),
    )

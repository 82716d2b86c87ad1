"""Rules about Windows systems."""

from __future__ import annotations

from collections.abc import Iterator

from vmferry.errors import quote
from vmferry.guest.evidence import Evidence
from vmferry.guest.findings import RuleTable, Seen, Severity
from vmferry.guest.windows.facts import WindowsFacts
from vmferry.units import GIB, MIB, format_size

RULES = RuleTable()

_DISKS = frozenset({"storahci", "msahci", "stornvme", "viostor", "vioscsi", "iaStorV", "LSI_SAS", "intelide", "atapi"})
_NEEDED = 100 * MIB
_NEEDED_BY_EC2 = 6 * GIB
_SHUT_DOWN = "Shut Windows down fully: powercfg /h off, then shutdown /s /f /t 0, and export again."


@RULES.rule(
    "windows-hibernated",
    "Windows is hibernated, or was shut down by fast start",
    aws=Severity.STOPS,
    vmferry=Severity.SHOULD_MEND,
    remedy=_SHUT_DOWN,
)
def windows_hibernated(evidence: Evidence) -> Iterator[Seen]:
    if evidence.windows is not None and evidence.windows.hibernated:
        yield Seen("/hiberfil.sys", "It holds a session that the new hardware cannot go on with.")


@RULES.rule(
    "windows-no-boot-driver",
    "no driver of a disk of ours starts at boot",
    vmferry=Severity.WILL_NOT_BOOT,
    remedy="Start storahci at boot: reg add HKLM\\SYSTEM\\CurrentControlSet\\Services\\storahci /v Start /t "
    "REG_DWORD /d 0 /f, and delete "
    "its key StartOverride; else the first start ends with stop code 0x7B.",
)
def windows_no_boot_driver(evidence: Evidence) -> Iterator[Seen]:
    windows = evidence.windows
    if windows is not None and not _DISKS & set(windows.boot_drivers):
        known = ", ".join(quote(driver) for driver in windows.boot_drivers) or "none"
        yield Seen("the registry", f"Of the drivers of disks only {known} start at boot{_why_not(windows)}.")


@RULES.rule(
    "windows-no-virtio-driver",
    "Windows does not start from a virtio disk",
    vmferry=Severity.NOTE,
    remedy="It is given a SATA disk and an e1000e network card. For faster ones install virtio-win, add an empty "
    "virtio disk, "
    "start once, then change the root disk's bus.",
    unless=("windows-no-boot-driver",),
)
def windows_no_virtio_driver(evidence: Evidence) -> Iterator[Seen]:
    if evidence.windows is not None and not {"viostor", "vioscsi"} & set(evidence.windows.boot_drivers):
        installed = {"viostor", "vioscsi"} & set(evidence.windows.drivers)
        how = "is installed, but does not start at boot" if installed else "is not installed"
        yield Seen("the registry", f"A virtio driver of disks {how}.")


@RULES.rule(
    "windows-root-elsewhere",
    "the boot configuration names a partition that is not there",
    aws=Severity.WILL_NOT_BOOT,
    vmferry=Severity.WILL_NOT_BOOT,
    remedy="Give the machine the disk that it means; where a disk's signature was changed, start Windows' installation "
    "medium and type bootrec /rebuildbcd, else the first start ends with 0xc000000e.",
)
def windows_root_elsewhere(evidence: Evidence) -> Iterator[Seen]:
    windows = evidence.windows
    named = windows.root_named if windows is not None and windows.root_volume is None else None
    if windows is not None and named is not None and named != "boot":
        yield Seen(
            quote(windows.boot_config),
            f"The boot configuration starts {quote(named)}, which none of the machine's partitions is.",
        )


@RULES.rule(
    "windows-old-signatures",
    "drivers of today have signatures that this Windows does not know",
    vmferry=Severity.NOTE,
    remedy="Install KB4474419 before virtio-win, or stay on SATA and e1000e.",
)
def windows_old_signatures(evidence: Evidence) -> Iterator[Seen]:
    if evidence.windows is not None and evidence.windows.sha2_drivers is False:
        yield Seen("the system", "No update that brings SHA-2 signatures is installed.")


@RULES.rule(
    "windows-device-restrictions",
    "a policy keeps drivers of new devices from being installed",
    aws=Severity.SHOULD_MEND,
    vmferry=Severity.SHOULD_MEND,
    remedy="Lift it before the export: reg delete "
    "HKLM\\SOFTWARE\\Policies\\Microsoft\\Windows\\DeviceInstall\\Restrictions /f.",
)
def windows_device_restrictions(evidence: Evidence) -> Iterator[Seen]:
    if evidence.windows is not None and evidence.windows.device_restrictions:
        yield Seen("the registry", "A policy lets new disks and network cards have no driver.")


@RULES.rule(
    "windows-offline-disks",
    "disks after the first stay offline",
    vmferry=Severity.NOTE,
    remedy="Before the export type in diskpart: san policy=OnlineAll; or set the disks online after the first start.",
)
def windows_offline_disks(evidence: Evidence) -> Iterator[Seen]:
    policy = evidence.windows.san_policy if evidence.windows else None
    if policy is not None and policy.startswith("offline") and len(evidence.disks) > 1:
        yield Seen("the registry", f"SanPolicy is {quote(policy)}, and the disks' bus changes.")


@RULES.rule(
    "windows-leftovers",
    "another converter left something behind",
    vmferry=Severity.NOTE,
    remedy="Remove the package guestor.inf, which stands in the way of Windows' upgrades.",
)
def windows_leftovers(evidence: Evidence) -> Iterator[Seen]:
    if evidence.windows is not None and evidence.windows.leftovers:
        yield Seen("the registry", f"Another converter has left {', '.join(map(quote, evidence.windows.leftovers))}.")


@RULES.rule(
    "windows-pending-restart",
    "Windows waits for a restart",
    aws=Severity.SHOULD_MEND,
    vmferry=Severity.SHOULD_MEND,
    remedy="Restart it on the old side until nothing waits, then shut it down and export.",
)
def windows_pending_restart(evidence: Evidence) -> Iterator[Seen]:
    if evidence.windows is not None and evidence.windows.pending:
        yield Seen(
            "the registry", f"Windows waits for a restart because of {', '.join(map(quote, evidence.windows.pending))}."
        )


@RULES.rule(
    "windows-no-remote-desktop",
    "Remote Desktop is off",
    aws=Severity.SHOULD_MEND,
    vmferry=Severity.NOTE,
    remedy='Turn it on: reg add "HKLM\\SYSTEM\\CurrentControlSet\\Control\\Terminal Server" /v '
    "fDenyTSConnections /t REG_DWORD /d 0 /f.",
)
def windows_no_remote_desktop(evidence: Evidence) -> Iterator[Seen]:
    if evidence.windows is not None and evidence.windows.remote_desktop is False:
        yield Seen("the registry", "Remote Desktop lets nobody in.")


@RULES.rule(
    "windows-firewall",
    "Windows' firewall is on",
    aws=Severity.SHOULD_MEND,
    vmferry=Severity.NOTE,
    remedy="See that it lets Remote Desktop in for all profiles.",
)
def windows_firewall(evidence: Evidence) -> Iterator[Seen]:
    if evidence.windows is not None and evidence.windows.firewall:
        yield Seen("the registry", f"Windows' firewall is on for: {', '.join(map(quote, evidence.windows.firewall))}.")


@RULES.rule(
    "windows-protection",
    "a virus scanner is installed, which may stop new drivers",
    aws=Severity.SHOULD_MEND,
    vmferry=Severity.SHOULD_MEND,
    remedy="Turn it off or remove it before the export.",
)
def windows_protection(evidence: Evidence) -> Iterator[Seen]:
    if evidence.windows is not None and evidence.windows.protection:
        yield Seen("the system", f"A virus scanner is installed: {', '.join(map(quote, evidence.windows.protection))}.")


@RULES.rule(
    "windows-little-room",
    "drive C: has hardly any room left",
    vmferry=Severity.SHOULD_MEND,
    remedy="Make room before the export.",
)
def windows_little_room(evidence: Evidence) -> Iterator[Seen]:
    yield from _little_room(evidence, _NEEDED)


@RULES.rule(
    "windows-little-room-for-ec2",
    "drive C: has less room left than EC2's import asks for",
    aws=Severity.SHOULD_MEND,
    remedy="Make room before the export.",
)
def windows_little_room_for_ec2(evidence: Evidence) -> Iterator[Seen]:
    yield from _little_room(evidence, _NEEDED_BY_EC2)


@RULES.rule(
    "windows-static-address",
    "an interface has an address of its own",
    aws=Severity.SHOULD_MEND,
    vmferry=Severity.SHOULD_MEND,
    remedy="Set it to DHCP before the export: Windows binds the address to the old card, and the new one will "
    "not have it.",
)
def windows_static_address(evidence: Evidence) -> Iterator[Seen]:
    addresses = evidence.windows.static_addresses[:4] if evidence.windows is not None else ()
    if addresses:
        named = ", ".join(map(quote, addresses))
        yield Seen("the registry", f"A network interface has an address of its own: {named}.")


@RULES.rule(
    "windows-sysprep",
    "the system is generalised",
    aws=Severity.NOTE,
    vmferry=Severity.NOTE,
    remedy="Its first start asks for the rest on the console, if no answer file does.",
)
def windows_sysprep(evidence: Evidence) -> Iterator[Seen]:
    state = evidence.windows.sysprep if evidence.windows else None
    if state and "GENERALIZE" in state:
        yield Seen("the registry", f"ImageState is {quote(state)}.")


@RULES.rule(
    "windows-setup-unfinished",
    "setup goes on at the next start",
    aws=Severity.SHOULD_MEND,
    vmferry=Severity.NOTE,
    remedy="Start it on the old side until setup is through, where it is not meant so.",
    unless=("windows-sysprep",),
)
def windows_setup_unfinished(evidence: Evidence) -> Iterator[Seen]:
    if evidence.windows is not None and evidence.windows.setup_unfinished:
        yield Seen("the registry", "SystemSetupInProgress or OOBEInProgress is set.")


@RULES.rule(
    "windows-no-net-framework",
    ".NET Framework is missing, which EC2's import needs",
    aws=Severity.SHOULD_MEND,
    remedy="Install .NET Framework 4.5 or later, 3.5 SP1 where that is not to be had.",
)
def windows_no_net_framework(evidence: Evidence) -> Iterator[Seen]:
    windows = evidence.windows
    if (
        windows is not None
        and windows.build is not None
        and not any(version.startswith(("3.5", "4.")) for version in windows.net_framework)
    ):
        yield Seen("the registry", "No .NET Framework from 3.5 on is installed.")


@RULES.rule(
    "windows-auto-logon",
    "somebody is logged on at the start, without a password",
    aws=Severity.STOPS,
    vmferry=Severity.NOTE,
    remedy='Turn it off: reg delete "HKLM\\SOFTWARE\\Microsoft\\Windows NT\\CurrentVersion\\Winlogon" /v '
    "AutoAdminLogon /f.",
)
def windows_auto_logon(evidence: Evidence) -> Iterator[Seen]:
    if evidence.windows is not None and evidence.windows.auto_logon:
        yield Seen("the registry", "AutoAdminLogon is set: somebody is logged on at the start.")


@RULES.rule(
    "windows-client-licence",
    "a client of Windows is imported on EC2 by its owner's licence only",
    aws=Severity.NOTE,
    remedy="Say LicenseType BYOL.",
)
def windows_client_licence(evidence: Evidence) -> Iterator[Seen]:
    windows = evidence.windows
    if windows is not None and windows.is_client:
        yield Seen("the system", f"{quote(windows.product)} is a client.")


@RULES.rule(
    "windows-client-language",
    "a client of Windows that is not in US English",
    aws=Severity.STOPS,
    remedy="EC2 takes clients in US English only.",
)
def windows_client_language(evidence: Evidence) -> Iterator[Seen]:
    windows = evidence.windows
    languages = windows.languages if windows is not None and windows.is_client else ()
    if languages and not any(language.lower() == "en-us" for language in languages):
        yield Seen("the system", f"The languages of this client of Windows are {', '.join(map(quote, languages))}.")


@RULES.rule(
    "windows-activation",
    "Windows may have to be activated again",
    aws=Severity.NOTE,
    vmferry=Severity.NOTE,
    remedy="The hardware changes once: have the key at hand, or a KMS server in reach.",
)
def windows_activation(evidence: Evidence) -> Iterator[Seen]:
    if evidence.windows is not None and evidence.windows.activation:
        yield Seen("the system", f"Windows' licence is of the kind {quote(evidence.windows.activation)}.")


def _little_room(evidence: Evidence, needed: int) -> Iterator[Seen]:
    drive = evidence.volume(evidence.system.root) if evidence.system and evidence.windows else None
    if drive is not None and drive.free is not None and drive.free < needed:
        yield Seen(drive.place, f"{format_size(drive.free)} are free; {format_size(needed)} are asked for.")


def _why_not(windows: WindowsFacts) -> str:
    """Why drivers of disks that are to start at boot do not."""
    meant = [driver for driver in windows.driver_details if driver.name in _DISKS and driver.start == 0]
    overridden = [quote(driver.name) for driver in meant if driver.overridden]
    without = [quote(driver.path) for driver in meant if not driver.file_exists]
    said = [f"StartOverride turns off {', '.join(overridden)}"] if overridden else []
    said += [f"missing are {', '.join(without)}"] if without else []
    return f" ({'; '.join(said)})" if said else ""

"""What of a Windows' settings matters to whoever moves it: clock, disks, page files, languages, policies.

Sources: Microsoft, "SanPolicy", "Configure Windows to automate logon", "PagingFiles", "MUI Settings", "[MS-LCID]".
"""

from __future__ import annotations

from vmferry.guest.windows.registry import Registry

_SAN_POLICIES = {1: "online-all", 2: "offline-shared", 3: "offline-all", 4: "offline-internal"}
_MAX_LANGUAGES = 64
_MAX_PAGE_FILES = 26
_LANGUAGES = {
    0x0401: "ar-SA", 0x0404: "zh-TW", 0x0405: "cs-CZ", 0x0406: "da-DK", 0x0407: "de-DE", 0x0408: "el-GR",
    0x0409: "en-US", 0x040A: "es-ES", 0x040B: "fi-FI", 0x040C: "fr-FR", 0x040D: "he-IL", 0x040E: "hu-HU",
    0x0410: "it-IT", 0x0411: "ja-JP", 0x0412: "ko-KR", 0x0413: "nl-NL", 0x0414: "nb-NO", 0x0415: "pl-PL",
    0x0416: "pt-BR", 0x0419: "ru-RU", 0x041D: "sv-SE", 0x041F: "tr-TR", 0x0804: "zh-CN", 0x0816: "pt-PT",
    0x0C0A: "es-ES",
}  # fmt: skip
"""Languages that Windows XP and 2003 come in."""
_POLICIES = "Policies\\Microsoft\\Windows"
_DENIALS = ("DenyDeviceClasses", "DenyDeviceIDs", "DenyInstanceIDs", "DenyRemovableDevices", "DenyUnspecified")


def find_hostname(registry: Registry) -> str | None:
    """The name that it has from the next start on."""
    name = registry.control.key("ComputerName\\ComputerName").text("ComputerName")
    return registry.services.key("Tcpip\\Parameters").text("NV Hostname") or name or None


def find_domain(registry: Registry) -> str | None:
    """The DNS name of the domain that it is a member of, or has as its own suffix."""
    parameters = registry.services.key("Tcpip\\Parameters")
    return parameters.text("NV Domain") or parameters.text("Domain") or None


def has_universal_clock(registry: Registry) -> bool:
    """Whether the hardware's clock is taken for UTC, and not for local time."""
    return bool(registry.control.key("TimeZoneInformation").number("RealTimeIsUniversal"))


def find_san_policy(registry: Registry) -> str | None:
    """Which new disks are used without asking; ``None`` where nothing says so."""
    return _SAN_POLICIES.get(registry.services.key("partmgr\\Parameters").number("SanPolicy") or 0)


def restarts_after_crash(registry: Registry) -> bool | None:
    """Whether a stop code is shown for a moment only."""
    return registry.control.key("CrashControl").flag("AutoReboot")


def has_secure_boot(registry: Registry) -> bool | None:
    """Whether it ran with Secure Boot last; ``None`` where nothing says so."""
    return registry.control.key("SecureBoot\\State").flag("UEFISecureBootEnabled")


def find_page_file_drives(registry: Registry) -> tuple[str, ...]:
    """Drives with a page file: ``C:``; those that Windows chooses by itself where it did."""
    memory = registry.control.key("Session Manager\\Memory Management")
    found: dict[str, None] = {}
    for said in memory.texts("PagingFiles"):
        chosen = memory.texts("ExistingPageFiles") or ("C:",) if said.startswith("?:") else (said,)
        for path in chosen:
            drive = path.removeprefix("\\??\\")[:2].upper()
            if len(drive) == 2 and drive[0].isalpha() and drive[1] == ":" and len(found) < _MAX_PAGE_FILES:
                found[drive] = None
    return tuple(found)


def logs_on_by_itself(registry: Registry) -> bool:
    """Whether somebody is logged on at the start."""
    return bool(registry.current_version.key("Winlogon").flag("AutoAdminLogon"))


def find_languages(registry: Registry) -> tuple[str, ...]:
    """The languages that it speaks."""
    languages = registry.control.key("MUI\\UILanguages").names()[:_MAX_LANGUAGES]
    if languages:
        return tuple(languages)
    text = registry.control.key("Nls\\Language").text("InstallLanguage") or ""
    try:
        return (_LANGUAGES.get(int(text, 16), f"LCID {text}"),) if text else ()
    except ValueError:
        return ()


def restricts_devices(registry: Registry) -> bool:
    """Whether a policy keeps drivers of new devices from being installed."""
    policy = registry.software.key(f"{_POLICIES}\\DeviceInstall\\Restrictions")
    return any(policy.flag(name) for name in _DENIALS)


def find_execution_policy(registry: Registry) -> str | None:
    """What PowerShell runs: ``AllSigned`` stops every script of ours."""
    shell = registry.software.key("Microsoft\\PowerShell\\1\\ShellIds\\Microsoft.PowerShell")
    return (
        registry.software.key(f"{_POLICIES}\\PowerShell").text("ExecutionPolicy")
        or shell.text("ExecutionPolicy")
        or None
    )

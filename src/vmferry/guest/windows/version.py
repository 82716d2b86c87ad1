"""Which Windows it is: product, version, edition, architecture.

Source: Microsoft, "Operating System Version"; "PE Format".
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from vmferry.errors import quote
from vmferry.guest.files import Files
from vmferry.guest.windows.hive import Key
from vmferry.guest.windows.registry import Registry

_WINDOWS_11 = 22000
"""Its first build: ProductName still says 10."""
_PE_MACHINES = {0x8664: "x86_64", 0x14C: "i386", 0xAA64: "aarch64", 0x200: "ia64"}
_ARCHITECTURES = {"amd64": "x86_64", "x86": "i386", "arm64": "aarch64", "ia64": "ia64"}
_MAX_PE_HEADER = 4096
_PAIR = re.compile(r"([0-9]{1,9})\.([0-9]{1,9})")
_BUILD = re.compile(r"[0-9]{1,9}")
_RELEASES = {
    "5.1": "Windows XP",
    "5.2": "Windows Server 2003",
    "6.0": "Windows Vista or Server 2008",
    "6.1": "Windows 7 or Server 2008 R2",
    "6.2": "Windows 8 or Server 2012",
    "6.3": "Windows 8.1 or Server 2012 R2",
}
_SHA2_PATCHES = ("KB3033929", "KB4474419", "ROLLUPFIX")
"""Updates of Windows 7 after which it takes drivers signed by SHA-2: the first, a later one, every monthly rollup."""


@dataclass(frozen=True, slots=True)
class Version:
    """See ``WindowsFacts``."""

    product: str
    number: str
    build: int | None
    update: int | None
    release: str
    service_pack: str
    edition: str
    kind: str

    @property
    def pair(self) -> tuple[int, int]:
        """``(6, 1)``; ``(0, 0)`` where it is not known."""
        match = _PAIR.fullmatch(self.number)
        return (int(match[1]), int(match[2])) if match else (0, 0)


def find_version(registry: Registry) -> Version:
    """What SOFTWARE says; where it cannot be read, little."""
    key = registry.current_version
    number = _find_number(key)
    build = _find_build(key)
    kind = key.text("InstallationType") or _find_kind(registry)
    product = key.text("ProductName") or _RELEASES.get(number, "Windows")
    if build is not None and build >= _WINDOWS_11 and kind.lower() == "client":
        product = product.replace("Windows 10", "Windows 11", 1)
    return Version(
        product,
        number,
        build,
        key.number("UBR"),
        key.text("DisplayVersion") or key.text("ReleaseId") or "",
        key.text("CSDVersion") or "",
        key.text("EditionID") or "",
        kind,
    )


def find_architecture(files: Files, registry: Registry) -> str | None:
    """The kernel's; the registry's word where it cannot be read."""
    path = f"{registry.folder}/System32/ntoskrnl.exe"
    if not files.is_file(path):
        files.report(f"{quote(path)} is missing: Windows does not start without it.")
    else:
        found = read_machine(files.read_at(path, 0, _MAX_PE_HEADER))
        if found is not None:
            return found
        files.report(f"{quote(path)} does not begin as a program does: it is damaged, or packed as is not read here.")
    environment = registry.control.key("Session Manager\\Environment")
    return _ARCHITECTURES.get((environment.text("PROCESSOR_ARCHITECTURE") or "").lower())


def read_machine(head: bytes) -> str | None:
    """The architecture of a program that begins with ``head``; ``None`` where it is none."""
    if len(head) < 64 or head[:2] != b"MZ":
        return None
    (start,) = struct.unpack_from("<I", head, 60)
    if head[start : start + 4] != b"PE\0\0" or len(head) < start + 6:
        return None
    return _PE_MACHINES.get(struct.unpack_from("<H", head, start + 4)[0])


def takes_sha2_drivers(files: Files, registry: Registry, version: Version) -> bool | None:
    """Whether Windows 7 takes drivers that are signed by SHA-2; ``None`` for all others, which do or never will."""
    if version.pair != (6, 1):
        return None
    names = files.names(f"{registry.folder}/servicing/Packages")
    return any(patch in name.upper() for name in names for patch in _SHA2_PATCHES)


def _find_number(key: Key) -> str:
    major, minor = key.number("CurrentMajorVersionNumber"), key.number("CurrentMinorVersionNumber")
    return f"{major}.{minor or 0}" if major is not None else key.text("CurrentVersion") or ""


def _find_build(key: Key) -> int | None:
    """Windows XP has ``1.511.1 () (Obsolete data)`` in the first."""
    texts = (key.text(name) or "" for name in ("CurrentBuild", "CurrentBuildNumber"))
    return next((int(text) for text in texts if _BUILD.fullmatch(text)), None)


def _find_kind(registry: Registry) -> str:
    """What versions before Windows 7 say elsewhere."""
    product = (registry.control.key("ProductOptions").text("ProductType") or "").lower()
    return {"winnt": "Client", "servernt": "Server", "lanmannt": "Server"}.get(product, "")

"""How much may be asked of a server: AWS's limits, or the widest that vmferry can serve, each to be set alone.

What a stranger's file may claim before a reader calls it an attack is another thing: ``limits``. The table in
``docs/quotas.md`` is made from this file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

from vmferry.errors import ConfigError, quote
from vmferry.limits import MAX_DISK_SIZE, MAX_MACHINE_DISKS
from vmferry.units import GIB

_WIDEST_GIB = MAX_DISK_SIZE // GIB


@dataclass(frozen=True, slots=True)
class ImageBounds:
    """What one action imports."""

    size_gib: int
    """GiB of a disk once it is expanded: what the guest sees of it."""
    formats: tuple[str, ...]
    """formats that an object may have, whether the request names it or its bytes show it."""


@dataclass(frozen=True, slots=True)
class Quotas:
    """What one server allows. Counts are those of an account in a region."""

    import_image: ImageBounds
    """ImportImage."""
    import_snapshot: ImageBounds
    """ImportSnapshot."""
    import_instance: ImageBounds
    """ImportInstance."""
    import_volume: ImageBounds
    """ImportVolume."""
    disks: int
    """Disks of a machine that is imported, the root's included."""
    network_interfaces: int
    """Network cards of a machine that is imported which are kept; of further ones the task has a note."""
    volume_gib: int
    """GiB of a volume, and of a device of an AMI."""
    snapshot_gib: int
    """GiB of the volume that a snapshot put together through EBS direct is of."""
    export_gib: int
    """GiB of each disk of an AMI or an instance that is exported."""
    concurrent_import_tasks: int
    """ImportImage and ImportSnapshot tasks that have not ended."""
    concurrent_conversion_tasks: int
    """ImportInstance and ImportVolume tasks that have not ended, those that wait for their upload included."""
    concurrent_export_tasks: int
    """ExportImage and CreateInstanceExportTask tasks that have not ended."""
    concurrent_snapshot_copies: int
    """Snapshots that CopySnapshot and CopyImage copy into a region at the same time."""
    pending_snapshots: int
    """Snapshots that were begun through EBS direct and are not completed."""


AWS = Quotas(
    import_image=ImageBounds(8 * 1024, ("OVA", "RAW", "VHD", "VHDX", "VMDK")),
    import_snapshot=ImageBounds(8 * 1024, ("RAW", "VHD", "VHDX", "VMDK")),
    import_instance=ImageBounds(16 * 1024 - 1, ("RAW", "VHD", "VMDK")),
    import_volume=ImageBounds(16 * 1024 - 1, ("RAW", "VHD", "VMDK")),
    disks=21,
    network_interfaces=1,
    volume_gib=16 * 1024,
    snapshot_gib=16 * 1024,
    export_gib=1024,
    concurrent_import_tasks=20,
    concurrent_conversion_tasks=5,
    concurrent_export_tasks=5,
    concurrent_snapshot_copies=5,
    pending_snapshots=100,
)
"""VM Import/Export User Guide, *Requirements and limitations*; EBS User Guide; the EC2 API's list of error codes.

A disk must be smaller than 16 TiB, and one over 8 TiB needs a manifest, which only the classic actions take here.
"""

_DISKS = ("QCOW2", "RAW", "VDI", "VHD", "VHDX", "VMDK")
VMFERRY = Quotas(
    import_image=ImageBounds(_WIDEST_GIB, ("OVA", *_DISKS, "XVA")),
    import_snapshot=ImageBounds(_WIDEST_GIB, _DISKS),
    import_instance=ImageBounds(_WIDEST_GIB, AWS.import_instance.formats),
    import_volume=ImageBounds(_WIDEST_GIB, AWS.import_volume.formats),
    disks=MAX_MACHINE_DISKS,
    network_interfaces=10,
    volume_gib=_WIDEST_GIB,
    snapshot_gib=_WIDEST_GIB,
    export_gib=_WIDEST_GIB,
    concurrent_import_tasks=1000,
    concurrent_conversion_tasks=1000,
    concurrent_export_tasks=1000,
    concurrent_snapshot_copies=100,
    pending_snapshots=10_000,
)
"""The most that each may be set to: what the readers read, what an import manifest can name, and more tasks than one
machine has in hand."""

PROFILES = {"aws": AWS, "vmferry": VMFERRY}
"""By their names in the configuration, the default one first."""

_Bounds = TypeVar("_Bounds", Quotas, ImageBounds)


def read_quotas(given: object) -> Quotas:
    """The quotas that the configuration's table ``limits`` stands for: a profile, and what differs from it.

    Raises ``ConfigError``.
    """
    values = dict(_table(given, "limits"))
    profile = values.pop("profile", next(iter(PROFILES)))
    if not isinstance(profile, str) or profile not in PROFILES:
        known = " or ".join(f'"{name}"' for name in PROFILES)
        raise ConfigError(f"limits.profile must be {known}, not {quote(repr(profile))}.")
    return _lay_over(PROFILES[profile], VMFERRY, values, "limits")


def _lay_over(base: _Bounds, widest: _Bounds, values: Mapping[str, object], path: str) -> _Bounds:
    known: list[str] = [one.name for one in fields(base)]
    if unknown := sorted(values.keys() - set(known)):
        listed = ", ".join(["profile", *known] if path == "limits" else known)
        raise ConfigError(f"There is no {path}.{quote(unknown[0])}; known keys of {path} are {listed}.")
    changed: dict[str, Any] = {}
    for name, value in values.items():
        place, held, most = f"{path}.{name}", getattr(base, name), getattr(widest, name)
        if isinstance(most, ImageBounds):
            changed[name] = _lay_over(held, most, _table(value, place), place)
        elif isinstance(most, tuple):
            changed[name] = _formats(value, most, place)
        else:
            changed[name] = _number(value, most, place)
    return replace(base, **changed)


def _table(value: object, place: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise ConfigError(f"{place} must be a table with keys of its own, not {quote(repr(value))}.")
    return value


def _number(value: object, most: int, place: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise ConfigError(f"{place} must be a whole number from 1 to {most}, not {quote(repr(value))}.")
    return value


def _formats(value: object, known: tuple[str, ...], place: str) -> tuple[str, ...]:
    names = [one.upper() if isinstance(one, str) else one for one in value] if isinstance(value, list) else []
    if not names or any(one not in known for one in names):
        raise ConfigError(f"{place} must be a list of one or more of {', '.join(known)}, not {quote(repr(value))}.")
    return tuple(sorted(set(names)))

"""What a Linux system mounts: /etc/fstab. Source: fstab(5)."""

from __future__ import annotations

from collections.abc import Sequence

from vmferry.errors import quote
from vmferry.guest.facts import VolumeFacts
from vmferry.guest.files import Files
from vmferry.guest.linux.devices import Devices, unescape
from vmferry.guest.linux.facts import MountFacts
from vmferry.limits import MAX_GUEST_MOUNTS

_PATH = "/etc/fstab"


def read_fstab(files: Files, volumes: Sequence[VolumeFacts]) -> tuple[MountFacts, ...]:
    """Its lines in their order, swap included, at most ``MAX_GUEST_MOUNTS``; none where it is missing."""
    devices = Devices(volumes)
    mounts: list[MountFacts] = []
    for number, line in enumerate(files.lines(_PATH), 1):
        if not line or line.startswith("#"):
            continue
        fields = [unescape(field) for field in line.split(None, 6)]
        if len(fields) < 3:
            files.report(f"{_PATH}, line {number}, has no type of file system: {quote(line)}")
            continue
        if len(mounts) == MAX_GUEST_MOUNTS:
            files.report(f"{_PATH} mounts more than {MAX_GUEST_MOUNTS} file systems: the rest was not looked at.")
            break
        mounts.append(_read_mount(fields, devices))
    return tuple(mounts)


def _read_mount(fields: list[str], devices: Devices) -> MountFacts:
    source, target, kind = fields[:3]
    options = tuple(option for option in fields[3].split(",")[:64] if option) if len(fields) > 3 else ()
    tag, found, value = source.partition("=")
    if found:
        source = f"{tag}={value.strip(chr(34) + chr(39))}"
    return MountFacts(source, target, kind, options, devices.find(source))

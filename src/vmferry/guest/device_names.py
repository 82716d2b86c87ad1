"""Names of disks that do not outlive a change of bus: what was ``/dev/sda1`` is ``/dev/vda1`` on virtio."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from vmferry.guest.facts import VolumeFacts
from vmferry.guest.linux.devices import Devices

_DEVICE = rb"/dev/(?:(?:sd|hd|xvd)[a-z]{1,2}\d{1,3}|nvme\d{1,2}n1p\d{1,3})(?![\w/-])"
_FIRST_FIELD = re.compile(rb"^([ \t]*)(" + _DEVICE + rb")(?=[ \t])", re.MULTILINE)
_PARAMETER = re.compile(rb"\b((?i:root|resume)=[\"']?)(" + _DEVICE + rb")")
_IS_UUID = re.compile(r"[0-9A-Za-z-]+").fullmatch
_IS_DEVICE = re.compile(_DEVICE).fullmatch


class Renamer:
    """Puts UUIDs in the place of device names."""

    def __init__(self, volumes: Sequence[VolumeFacts]) -> None:
        """``volumes``: those of the machine, as far as they are here."""
        self._devices = Devices(volumes)
        times = Counter(volume.uuid for volume in volumes)
        self._uuids = {
            volume.place: volume.uuid
            for volume in volumes
            if volume.uuid and _IS_UUID(volume.uuid) and times[volume.uuid] == 1  # a copy of it may be found as well
        }

    def is_sure_of(self, root: str, fstab: bytes) -> bool:
        """Whether ``fstab`` does not name, by its device, another volume than ``root`` as the root: then the disks have
        another order in the guest."""
        lines = (line.split() for line in fstab.splitlines())
        names = [line[0] for line in lines if len(line) > 1 and line[1] == b"/"]
        return all(self._devices.find(name.decode("ascii", "replace")) == root for name in names if _IS_DEVICE(name))

    def in_fstab(self, text: bytes) -> tuple[bytes, list[str]]:
        """``text`` of an fstab, and the names that stayed because it is not known what they mean."""
        return self._rename(_FIRST_FIELD, text)

    def in_parameters(self, text: bytes) -> tuple[bytes, list[str]]:
        """The same of the settings of a boot loader: what is behind ``root=`` and ``resume=``."""
        return self._rename(_PARAMETER, text)

    def _rename(self, pattern: re.Pattern[bytes], text: bytes) -> tuple[bytes, list[str]]:
        unknown: dict[str, None] = {}

        def one(match: re.Match[bytes]) -> bytes:
            name = match[2].decode("ascii")
            uuid = self._uuids.get(self._devices.find(name) or "")
            if uuid is None:
                unknown[name] = None
                return match[0]
            return match[1] + b"UUID=" + uuid.encode("ascii")

        return pattern.sub(one, text), list(unknown)

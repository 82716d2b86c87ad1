"""Which volume of the machine a Linux system means: ``UUID=…``, ``/dev/mapper/vg0-root``, ``/dev/sdb1``."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from vmferry.guest.facts import VolumeFacts

_DISK = re.compile(r"/dev/(?:(?:sd|vd|xvd|hd)([a-z])(\d{0,3})|nvme(\d{1,2})n1(?:p(\d{1,3}))?)")
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|[0-7]{3})")


class Devices:
    """The machine's volumes by the names that a Linux system has for them."""

    def __init__(self, volumes: Sequence[VolumeFacts]) -> None:
        self._volumes = volumes

    def find(self, source: str) -> str | None:
        """The place of the volume that ``source`` means, or ``None``. A plain device name is taken at its word: the
        disks in the machine's order, which need not be the order in which the guest finds them."""
        tag, found, value = source.partition("=")
        if found and tag.isupper():
            return self._by_tag(tag, value.strip("\"'"))
        for folder, name in (("by-uuid", "UUID"), ("by-label", "LABEL"), ("by-partuuid", "PARTUUID")):
            if source.startswith(f"/dev/disk/{folder}/"):
                return self._by_tag(name, unescape(source.rpartition("/")[2]))
        return self._by_name(source)

    def _by_tag(self, tag: str, value: str) -> str | None:
        if not value:
            return None
        if tag == "UUID":
            return self._first(lambda volume: (volume.uuid or "").lower() == value.lower())
        if tag == "PARTUUID":
            return self._first(lambda volume: (volume.partition_uuid or "").lower() == value.lower())
        return self._first(lambda volume: volume.label == value) if tag == "LABEL" else None

    def _by_name(self, source: str) -> str | None:
        disk = _DISK.fullmatch(source)
        if disk:
            number = ord(disk[1]) - ord("a") if disk[1] else int(disk[3])
            partition = disk[2] or disk[4]
            wanted = (number + 1, int(partition) if partition else None)
            return self._first(
                lambda volume: volume.place.startswith("disk ") and (volume.disk, volume.partition) == wanted
            )
        if source.startswith("/dev/mapper/"):
            name = source.removeprefix("/dev/mapper/")
            return self._first(lambda volume: name == _mapper_name(volume.place))
        return self._first(lambda volume: source == f"/dev/{volume.place}")

    def _first(self, test: Callable[[VolumeFacts], bool]) -> str | None:
        return next((volume.place for volume in self._volumes if test(volume)), None)


def unescape(text: str) -> str:
    """``text`` with fstab's ``\\040`` and udev's ``\\x20`` as the characters that they stand for."""
    return _ESCAPE.sub(lambda match: chr(int(match[1][1:], 16) if match[1][0] == "x" else int(match[1], 8)), text)


def _mapper_name(place: str) -> str | None:
    """``my-vg/root`` → ``my--vg-root``, as the device mapper names logical volumes."""
    group, found, volume = place.partition("/")
    return f"{group.replace('-', '--')}-{volume.replace('-', '--')}" if found else None

"""NOUN Description: what a hypervisor's own file says of a machine, whatever the dialect; and the way to an appliance.

The files that hold its disks are looked for among the names of its folder: by the path that the description has, where
that is relative and leads there, else by its last component. No path is ever opened.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from vmferry.appliances._contents import around, nfc
from vmferry.appliances._probing import name_in
from vmferry.appliances._units import parse_whole
from vmferry.blob import Blob
from vmferry.errors import CorruptDiskError, UnsafeDiskError, UnsupportedFeatureError, quote
from vmferry.folder import Companions, Folder
from vmferry.limits import MAX_MACHINE_DISKS
from vmferry.machine import Appliance, Firmware, Machine, MachineDisk, NetworkInterface
from vmferry.units import GIB, TIB

_MAX_CPUS = 4096
_MAX_MEMORY = 64 * TIB
_MAX_NOTES = 50
_MAC = re.compile(r"(?:[0-9A-Fa-f]{2}[:-]?){6}")
_DRIVE_LETTER = re.compile(r"[A-Za-z]:[\\/]")
_SEPARATORS = re.compile(r"[\\/]")


@dataclass(frozen=True, slots=True)
class DescribedDrive:
    """A hard disk of the machine; ``path`` is what the description says of its file, in its own words."""

    path: str
    bus: str | None
    controller: int
    unit: int
    format: str | None = None
    """Our name of the image's format, where the description fixes it."""


@dataclass(slots=True)
class Description:
    """What a machine is, in one dialect's words. ``drives`` stand in boot order as far as it tells."""

    name: str = ""
    cpus: int = 1
    memory: int = GIB
    firmware: Firmware | None = None
    guest_os: str | None = None
    hardware_family: str | None = None
    drives: list[DescribedDrive] = field(default_factory=list)
    interfaces: list[NetworkInterface] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    shows_moves: bool = False
    """Whether a disk whose path leads elsewhere, and that is found in the folder all the same, is worth a note."""

    def set_cpus(self, text: str | None) -> None:
        """Take a number of processors; none, or what makes no sense, leaves 1."""
        count = parse_whole(text)
        if count is not None and 0 < count <= _MAX_CPUS:
            self.cpus = count
        elif text:
            self.notes.append(f"The number of processors, {quote(text)}, makes no sense; 1 is taken.")

    def set_memory(self, text: str | None, unit: int) -> None:
        """Take a size of the memory in units of ``unit`` bytes; none, or what makes no sense, leaves 1 GiB."""
        count = parse_whole(text)
        if count is not None and 0 < count * unit <= _MAX_MEMORY:
            self.memory = count * unit
        elif text:
            self.notes.append(f"The size of the memory, {quote(text)}, makes no sense; 1 GiB is taken.")

    def add_interface(self, network: str | None, model: str | None, mac: str | None) -> None:
        """Take a network card, as it may be shown."""
        known = mac if mac and _MAC.fullmatch(mac) else None
        self.interfaces.append(
            NetworkInterface(quote(network) if network else None, quote(model) if model else None, known)
        )


def assemble(blob: Blob, folder: Folder, description: Description) -> Appliance:
    """The appliance of what ``blob``, which lies in ``folder``, describes; it owns ``blob`` and its open disks.

    Raises ``UnsafeDiskError`` for a path that cannot be a disk's and for too many disks, ``CorruptDiskError`` when a
    file is not in the folder, ``UnsupportedFeatureError`` when there is no disk. Nothing but ``blob`` is open then.
    """
    drives = description.drives
    if len(drives) > MAX_MACHINE_DISKS:
        raise UnsafeDiskError(
            f"{quote(blob.name)} has {len(drives)} disks, but at most {MAX_MACHINE_DISKS} can be imported: "
            "remove some, or import them one by one as disk images."
        )
    search = _Search(blob, folder)
    notes = list(description.notes)
    disks: list[MachineDisk] = []
    blobs: dict[str, Blob] = {}
    with ExitStack() as opened:
        for drive in drives:
            file = search.find(drive.path)
            if file in blobs:
                notes.append(f"Two drives hold {quote(file)}; it is taken once.")
                continue
            if description.shows_moves and not search.is_own(drive.path, file):
                notes.append(f"{quote(drive.path)} is taken to be {quote(file)}, which lies beside the description.")
            blobs[file] = folder.open(file)
            opened.callback(blobs[file].close)
            disks.append(MachineDisk(file, None, drive.bus, drive.controller, drive.unit, drive.format))
        opened.pop_all()
    if not disks:
        raise UnsupportedFeatureError(
            f"{quote(blob.name)}: the machine has no disk with contents: export it again with its disks."
        )
    companions = {file: Companions(beside=around(folder, file)) for file in blobs}
    machine = Machine(
        name=quote(description.name or _stem(blob.name)),
        cpus=description.cpus,
        memory=description.memory,
        firmware=description.firmware,
        disks=tuple(disks),
        interfaces=tuple(description.interfaces),
        guest_os=quote(description.guest_os) if description.guest_os else None,
        hardware_family=quote(description.hardware_family) if description.hardware_family else None,
        notes=tuple(notes[:_MAX_NOTES]),
    )
    return Appliance(machine, blobs, {}, blob, companions)


class _Search:
    """Finds the files of one description among the names of its folder."""

    def __init__(self, blob: Blob, folder: Folder) -> None:
        self._source = quote(blob.name)
        self._names = folder.names()
        own = name_in(self._names, blob)
        self._base = own[: own.rfind("/") + 1]
        self._by_name = {nfc(name): name for name in self._names}

    def find(self, path: str) -> str:
        """The name in the folder of the file that the description calls ``path``."""
        own = self._by_name.get(nfc(self._base + path.replace("\\", "/").removeprefix("./")))
        plain = self._last_component(path)
        if own is not None:
            return own
        for fold in (str, str.casefold):
            alike = [name for name in self._names if fold(nfc(name.rpartition("/")[2])) == fold(nfc(plain))]
            beside = [name for name in alike if name.rpartition("/")[0] == self._base.rstrip("/")]
            for found in (alike, beside):
                if len(found) == 1:
                    return found[0]
            if alike:
                raise CorruptDiskError(
                    f"{self._source}: the disk {quote(path)} may be any of {_list(alike)}: "
                    "leave the right one in the folder."
                )
        raise CorruptDiskError(
            f"{self._source}: the disk {quote(path)} is not in its folder: put {quote(plain)} beside the description."
        )

    def is_own(self, path: str, name: str) -> bool:
        """Whether ``path``, as it stands, leads to the file ``name``."""
        return nfc(self._base + path.replace("\\", "/").removeprefix("./")) == nfc(name)

    def _last_component(self, path: str) -> str:
        """The plain name at the end of ``path``, which may be absolute, on Windows, on a datastore, on a share."""
        rest = path.removeprefix("\\\\?\\")  # how Windows spells a path that is not to be interpreted
        rest = rest[2:] if _DRIVE_LETTER.match(rest) else rest
        parts = _SEPARATORS.split(rest)
        if ".." in parts or parts[-1] in ("", ".") or re.search(r"[\0:]", rest):
            raise UnsafeDiskError(
                f"{self._source} refers to {quote(path)}, which cannot be a file of its folder: "
                "put the disk beside the description, and name it there."
            )
        return parts[-1]


def _list(names: Sequence[str]) -> str:
    return ", ".join(quote(name) for name in names[:4])


def _stem(name: str) -> str:
    return name.rpartition("/")[2].rpartition(".")[0] or name

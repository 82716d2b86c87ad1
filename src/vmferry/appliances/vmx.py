"""VMX: VMware's own description of a machine, with its VMDKs beside it. Source: files of Workstation, Fusion and ESXi.

Lines of ``key = "value"``; keys in any case; ``|22`` in a value is the character with that hexadecimal number.
"""

from __future__ import annotations

import re

from vmferry.appliances._contents import read_small
from vmferry.appliances._description import DescribedDrive, Description, assemble
from vmferry.appliances._probing import is_called, need_folder, read_head
from vmferry.blob import Blob
from vmferry.errors import UnsafeDiskError, UnsupportedFeatureError, quote
from vmferry.folder import Folder
from vmferry.limits import MAX_MACHINE_DISKS, MAX_OVF_DESCRIPTOR, MAX_OVF_ITEMS, MAX_VMX_LINES
from vmferry.machine import Appliance, Firmware
from vmferry.registry import About
from vmferry.units import MIB

_LINE = re.compile(r'\s*([.\w:-]+)\s*=\s*(?:"([^"]*)"|(\S*))\s*')
_ENCODING = re.compile(rb'^\s*\.encoding\s*=\s*"([A-Za-z0-9_-]{1,40})"', re.IGNORECASE | re.MULTILINE)
_ENCODINGS = {"utf-8", "utf8", "us-ascii", "iso-8859-1", "gbk", "gb18030", "big5", "shift_jis", "euc-jp", "euc-kr"} | {
    f"windows-{number}" for number in (874, *range(1250, 1259))
}
"""What VMware may write in ``.encoding``, as far as it is known; Python knows others that cost too much to decode."""
_DRIVE = re.compile(r"(ide|scsi|sata|nvme)([0-9]{1,4}):([0-9]{1,4})\.filename")
_CARD = re.compile(r"(ethernet[0-9]{1,4})\.present")
_SNAPSHOT = re.compile(r"-[0-9]{6}\.vmdk$", re.IGNORECASE)
_BUSES = ("ide", "scsi", "sata", "nvme")
_ESCAPE = re.compile(r"\|([0-9A-Fa-f]{2})")
_DATASTORE = re.compile(r"\[[^\]/\\]*\] ?")


class Vmx:
    """The VMware folder."""

    name = "vmx"
    ec2_name = None
    about = About(
        title="VMware folder (.vmx)",
        reads="processors, memory, firmware, cards, the VMDKs on IDE, SCSI, SATA and NVMe; any of VMware's encodings",
        writes="",
        refuses="encrypted machines, disks outside the folder",
        limits=f"{MAX_MACHINE_DISKS} disks; 8 MiB and 100,000 lines of description",
    )

    def probe(self, blob: Blob) -> bool:
        """Whether it is called ``….vmx`` and the first line that is none of comment says ``key = "value"``."""
        if not is_called(blob, (".vmx",)):
            return False
        lines = (line.strip() for line in read_head(blob).decode("latin-1").removeprefix("ï»¿").splitlines())
        first = next((line for line in lines if line and not line.startswith("#")), "")
        return _LINE.fullmatch(first) is not None

    def open(self, blob: Blob, folder: Folder | None = None) -> Appliance:
        beside = need_folder(blob, folder)
        content = read_small(blob, MAX_OVF_DESCRIPTOR, quote(blob.name))
        return assemble(blob, beside, _describe(parse_vmx(content, blob.name), blob.name))


PACKAGE = Vmx()


def parse_vmx(content: bytes, name: str) -> dict[str, str]:
    """Key in lower case → value; a key that comes twice has its last value.

    Lines that are no such pair count for nothing. Raises ``UnsafeDiskError`` for more than 100,000 lines.
    """
    if content.count(b"\n") + content.count(b"\r") > 2 * MAX_VMX_LINES:
        raise UnsafeDiskError(
            f"{quote(name)} has more than {MAX_VMX_LINES:,} lines; it describes no machine: name another file."
        )
    values: dict[str, str] = {}
    for line in re.split(r"\r\n|\r|\n", _decode(content)):
        match = _LINE.fullmatch(line)
        if match is not None:
            said = match[2] if match[2] is not None else match[3]
            values[match[1].lower()] = _ESCAPE.sub(lambda found: chr(int(found[1], 16)), said)
    return values


def _decode(content: bytes) -> str:
    """By the file's own word where that is known, else UTF-8, else Latin-1."""
    said = _ENCODING.search(content)
    asked = said[1].decode("ascii").lower() if said else "utf-8"
    for encoding in (asked if asked in _ENCODINGS else "utf-8", "utf-8"):
        try:
            return content.decode(encoding).removeprefix("\ufeff")
        except UnicodeDecodeError:
            continue
    return content.decode("latin-1")


def _describe(values: dict[str, str], name: str) -> Description:
    if "encryption.keysafe" in values or "encryption.data" in values:
        raise UnsupportedFeatureError(f"{quote(name)} is encrypted: remove the encryption in VMware, or export an OVF.")
    version = values.get("virtualhw.version")
    described = Description(
        name=values.get("displayname", ""),
        firmware={"efi": Firmware.UEFI, "bios": Firmware.BIOS}.get(values.get("firmware", "").lower()),
        guest_os=values.get("guestos"),
        hardware_family=f"vmx-{version}" if version else None,
        shows_moves=True,
    )
    described.set_cpus(values.get("numvcpus"))
    described.set_memory(values.get("memsize"), MIB)
    described.drives = _drives(values, described.notes)
    for match in filter(None, map(_CARD.fullmatch, values)):
        card = match[1]
        if values[f"{card}.present"].lower() == "true":
            network = values.get(f"{card}.networkname") or values.get(f"{card}.connectiontype")
            mac = values.get(f"{card}.generatedaddress") or values.get(f"{card}.address")
            described.add_interface(network, values.get(f"{card}.virtualdev"), mac)
        if len(described.interfaces) > MAX_OVF_ITEMS:
            raise UnsafeDiskError(
                f"{quote(name)} has more than {MAX_OVF_ITEMS:,} cards; it describes no machine: name another file."
            )
    return described


def _drives(values: dict[str, str], notes: list[str]) -> list[DescribedDrive]:
    """Hard disks that are there, by bus, controller and place; CD drives and devices of the host left out."""
    found = []
    for match in filter(None, map(_DRIVE.fullmatch, values)):
        place = f"{match[1]}{match[2]}:{match[3]}"
        path, kind = values[match[0]], values.get(f"{place}.devicetype", "").lower()
        absent = any(values.get(f"{key}.present", "").lower() == "false" for key in (place, f"{match[1]}{match[2]}"))
        if absent or not path or "cdrom" in kind or path.lower().endswith((".iso", ".flp")):
            continue
        if "passthru" in kind or "raw" in kind:
            notes.append(f"The drive {place} is a device of the host ({quote(kind)}); it is left out.")
            continue
        plain = _DATASTORE.sub("/", path, count=1) if path.startswith("[") else path
        found.append(DescribedDrive(plain, match[1], int(match[2]), int(match[3])))
        if _SNAPSHOT.search(path):
            notes.append(f"{quote(path)} looks like a snapshot's: what it was made from is given with --parent.")
    return sorted(found, key=lambda drive: (_BUSES.index(drive.bus or ""), drive.controller, drive.unit))

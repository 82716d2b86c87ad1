"""The descriptor: the text that says what kind of VMDK a file is. No name in it is ever opened."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

from vmferry.errors import UnsafeDiskError, UnsupportedFeatureError, quote
from vmferry.formats.vmdk.header import SparseHeader
from vmferry.units import KIB

MAX_DESCRIPTOR_FILE = 64 * KIB
"""A stand-alone descriptor is never longer; the largest in the field take a few KiB."""

_BOM = b"\xef\xbb\xbf"
_SIGNATURE = re.compile(rb"^[ \t]*#[ \t]*disk[ \t]+descriptorfile[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
_BINARY = re.compile(rb"[\x00-\x08\x0e-\x1f]")
_EXTENT_LINE = re.compile(
    r'(?P<access>RW|RDONLY|NOACCESS)\s+(?P<sectors>\d{1,19})\s+(?P<kind>[A-Z]+)(?:\s+"(?P<name>[^"]*)")?', re.IGNORECASE
)
_NO_PARENT = {"ffffffff", "4294967295"}  # at least one product writes content ids in decimal
_SELF_CONTAINED = {"monolithicsparse", "streamoptimized"}
_REMEDY = "Export the disk again as an OVA or as a streamOptimized VMDK."
_DELTA_REMEDY = "Consolidate the machine's snapshots, then export it again as an OVA or as a streamOptimized VMDK."


@dataclass(frozen=True, slots=True)
class ExtentLine:
    """One file that a disk's data lies in, as the descriptor has it. The name is a label, never a path."""

    access: str
    sectors: int
    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A descriptor's keys (in lower case, values without quotes; the first of several wins) and its extent lines."""

    values: Mapping[str, str]
    extent_lines: tuple[ExtentLine, ...]

    @property
    def create_type(self) -> str:
        """``createType`` as written; empty where there is none."""
        return self.values.get("createtype", "")

    @property
    def parent(self) -> str | None:
        """The content id of the parent, when the descriptor names one."""
        parent = self.values.get("parentcid", "ffffffff").lower()
        return None if parent in _NO_PARENT else parent


def looks_like_descriptor(head: bytes) -> bool:
    """Whether the first KiB of a file is text with the line that marks a descriptor."""
    text = head.removeprefix(_BOM)
    return _SIGNATURE.search(text) is not None and _BINARY.search(text.rstrip(b"\0")) is None


def parse_descriptor(data: bytes) -> Descriptor:
    """The descriptor in ``data``, up to the first NUL. Lines that are none of ours are passed over.

    Every byte stands for one character: which code page the names are in changes nothing that is used here.
    """
    values: dict[str, str] = {}
    extent_lines: list[ExtentLine] = []
    text = data.removeprefix(_BOM).partition(b"\0")[0].decode("latin-1")
    for line in re.split(r"[\r\n]+", text):
        entry = line.strip(" \t")
        if not entry or entry.startswith("#"):
            continue
        match = _EXTENT_LINE.match(entry)
        if match is not None:
            extent_lines.append(
                ExtentLine(match["access"].upper(), int(match["sectors"]), match["kind"].upper(), match["name"] or "")
            )
            continue
        key, separator, value = entry.partition("=")
        if separator:
            values.setdefault(key.strip().lower(), value.strip().strip('"'))
    return Descriptor(values, tuple(extent_lines))


def check_embedded(descriptor: Descriptor, header: SparseHeader, name: str) -> None:
    """Raise unless ``descriptor``, taken from the file itself, says that the disk lies in this one file, whole.

    The extent's name is not looked at: exports carry stale ones. Raises ``UnsupportedFeatureError``,
    ``UnsafeDiskError``.
    """
    if descriptor.parent is not None:
        _refuse_delta(descriptor, name)
    create_type = descriptor.create_type.lower()
    if create_type and create_type not in _SELF_CONTAINED:
        raise UnsupportedFeatureError(
            f"vmdk: {quote(name)} is of the type {quote(descriptor.create_type)}, whose data lies in several files; "
            f"one file with everything in it is needed. {_REMEDY}"
        )
    foreign = [line for line in descriptor.extent_lines if line.kind != "SPARSE"] or descriptor.extent_lines[1:]
    if foreign:
        raise UnsafeDiskError(
            f"vmdk: the descriptor inside {quote(name)} names further files ({quote(foreign[0].kind)} "
            f"{quote(foreign[0].name)}); names inside a disk image are never opened. {_REMEDY}"
        )
    if not header.compressed and not (create_type or descriptor.extent_lines):
        raise UnsupportedFeatureError(
            f"vmdk: {quote(name)} has no descriptor: it is one piece of a disk that is split over several files. "
            f"{_REMEDY}"
        )


def refuse_descriptor_file(descriptor: Descriptor, name: str) -> NoReturn:
    """Say what the disk is that a stand-alone ``descriptor`` describes, and what to do.

    Raises ``UnsafeDiskError`` when it points to a path or a device, else ``UnsupportedFeatureError``.
    """
    for line in descriptor.extent_lines:
        if re.search(r"[/\\:]", line.name) or line.kind in ("VMFSRDM", "VMFSRAW"):
            raise UnsafeDiskError(
                f"vmdk: {quote(name)} is a descriptor that points to {quote(line.name)} ({quote(line.kind)}), outside "
                f"its own folder; names inside a disk image are never opened. {_REMEDY}"
            )
    if descriptor.parent is not None:
        _refuse_delta(descriptor, name)
    files = ", ".join(dict.fromkeys(line.name for line in descriptor.extent_lines if line.name))
    kind = f" ({quote(descriptor.create_type)})" if descriptor.create_type else ""
    where = f"the data lies in other files: {quote(files)}" if files else "it names no file that holds the data"
    raise UnsupportedFeatureError(f"vmdk: {quote(name)} is only the descriptor of a disk{kind}; {where}. {_REMEDY}")


def _refuse_delta(descriptor: Descriptor, name: str) -> NoReturn:
    hint = descriptor.values.get("parentfilenamehint")
    parent = f"{quote(hint)} (CID {quote(descriptor.parent)})" if hint else f"CID {quote(descriptor.parent)}"
    raise UnsupportedFeatureError(
        f"vmdk: {quote(name)} is a snapshot's delta: it holds only what changed since its parent, {parent}. "
        f"{_DELTA_REMEDY}"
    )

"""The descriptor: the text that says what kind of VMDK a file is. No name in it is ever opened."""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from dataclasses import dataclass

from vmferry.errors import UnsafeDiskError, UnsupportedFeatureError, quote
from vmferry.formats.vmdk.header import SparseHeader
from vmferry.formats.vmdk.kinds import BOM

_CREATED_BY = re.compile(r"#[ \t]*Description file created by[ \t]+(?P<name>\S.*)", re.IGNORECASE)
_ENCODING = re.compile(
    rb"^[ \t]*encoding[ \t]*=[ \t]*\"?([A-Za-z0-9_-]{1,20})\"?[ \t]*\r?$", re.IGNORECASE | re.MULTILINE
)
_ENCODINGS = {
    "utf-8",
    "cp1252",
    "gbk",
    "big5",
    "shift_jis",
    "euc_kr",
    "euc_jp",
    "gb18030",
    "iso8859-1",
    "cp932",
    "cp949",
}
_EXTENT_START = re.compile(r"(?:RW|RDONLY|NOACCESS)\s", re.IGNORECASE | re.ASCII)
_EXTENT_LINE = re.compile(
    r"(?P<access>RW|RDONLY|NOACCESS)\s+(?P<sectors>\d{1,19})\s+(?P<kind>[A-Z]+)"
    r'(?:\s+"(?P<name>[^"]*)"(?:\s+(?P<offset>\d{1,19})(?!\S))?)?\s*(?P<rest>.*)',
    re.IGNORECASE | re.ASCII,
)
_NO_PARENT = {"ffffffff", "4294967295"}  # at least one product writes content ids in decimal
_CONTENT_ID = re.compile(r"[0-9a-f]{1,8}|[0-9]{1,10}")
_SELF_CONTAINED = {"monolithicsparse", "streamoptimized"}
_REMEDY = "Export the disk again as an OVA or as a streamOptimized VMDK."


@dataclass(frozen=True, slots=True)
class ExtentLine:
    """One piece of the disk, as the descriptor has it. The name is a label, never a path."""

    access: str
    sectors: int
    kind: str
    name: str
    offset: int | None = None
    """The sector of the file where a piece of raw bytes begins; ``None`` where the line does not say."""


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A descriptor's keys (in lower case, values without quotes; the first of several wins) and its extent lines."""

    values: Mapping[str, str]
    extent_lines: tuple[ExtentLine, ...]
    unread_line: str | None = None
    """The first line that begins as an extent line does, and is none."""
    created_by: str | None = None
    """The program that a comment names as the writer. A stranger's words."""

    @property
    def create_type(self) -> str:
        """``createType`` as written; empty where there is none."""
        return self.values.get("createtype", "")

    @property
    def content_id(self) -> str | None:
        """``CID`` in lower case, which a child repeats; ``None`` where there is none."""
        return self.values.get("cid", "").lower() or None

    @property
    def parent(self) -> str | None:
        """The content id of the parent, when the descriptor names one."""
        parent = self.values.get("parentcid", "ffffffff").lower()
        return None if parent in _NO_PARENT else parent

    @property
    def creator(self) -> str | None:
        """Who wrote the descriptor, where it tells. A stranger's words."""
        return "VirtualBox" if "ddb.uuid.image" in self.values else self.created_by


def parse_descriptor(data: bytes) -> Descriptor:
    """The descriptor in ``data``, up to the first NUL. Lines that are none of ours are passed over."""
    values: dict[str, str] = {}
    extent_lines: list[ExtentLine] = []
    unread: str | None = None
    created_by: str | None = None
    for line in re.split(r"[\r\n]+", _decode(data.removeprefix(BOM).partition(b"\0")[0])):
        entry = line.strip(" \t")
        if entry.startswith("#"):
            made = _CREATED_BY.fullmatch(entry)
            created_by = made["name"] if made is not None and created_by is None else created_by
        elif (match := _EXTENT_LINE.match(entry)) is not None:
            extent_lines.append(_extent_line(match))
            if match["rest"] and match["offset"] is None:
                unread = entry if unread is None else unread
        elif _EXTENT_START.match(entry):
            unread = entry if unread is None else unread
        else:
            key, separator, value = entry.partition("=")
            if separator:
                values.setdefault(key.strip().lower(), value.strip().strip('"'))
    return Descriptor(values, tuple(extent_lines), unread, created_by)


def _extent_line(match: re.Match[str]) -> ExtentLine:
    offset = None if match["offset"] is None else int(match["offset"])
    return ExtentLine(
        match["access"].upper(), int(match["sectors"]), match["kind"].upper(), match["name"] or "", offset
    )


def _decode(text: bytes) -> str:
    """``text`` as UTF-8, else as the encoding that it names, which is wrong often enough, else byte by byte."""
    named = _ENCODING.search(text)
    for encoding in ("utf-8", named[1].decode() if named is not None else "utf-8"):
        try:
            if codecs.lookup(encoding).name in _ENCODINGS:
                return text.decode(encoding)
        except (LookupError, UnicodeDecodeError):
            continue
    return text.decode("latin-1")


def same_content(one: str, other: str) -> bool:
    """Whether two content ids are the same number: eight hexadecimal digits, which some products write in decimal."""
    return bool(_readings(one) & _readings(other))


def _readings(content_id: str) -> set[int]:
    if _CONTENT_ID.fullmatch(content_id) is None:
        return set()
    return {int(content_id, base) for base in (10, 16) if base == 16 or content_id.isdecimal()}


def check_embedded(descriptor: Descriptor, header: SparseHeader, name: str) -> None:
    """Raise unless ``descriptor``, taken from the file itself, says that the disk lies in this one file, whole.

    The extent's name is not looked at: exports carry stale ones. Raises ``UnsupportedFeatureError``,
    ``UnsafeDiskError``.
    """
    create_type = descriptor.create_type.lower()
    if create_type and create_type not in _SELF_CONTAINED:
        raise UnsupportedFeatureError(
            f"vmdk: {quote(name)} is of the type {quote(descriptor.create_type)}, whose data lies in several files: "
            "name the file that is their descriptor."
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
            "Name the descriptor, the small VMDK that lists them."
        )

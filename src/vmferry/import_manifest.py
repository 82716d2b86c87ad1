"""The manifest of ImportInstance and ImportVolume: a disk image in parts, each an object of its own in S3.

Version ``2010-11-15``: an XML document without a namespace, written by AWS's tools, euca2ools and our own commands, and
read by whoever imports. What is read is a stranger's: bounded, without DOCTYPE, its parts complete and without gaps or
overlaps. URLs are facts here; whether one is opened, and with whose rights, is for the reader's store to say.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from lxml import etree

from vmferry.errors import FormatError, quote
from vmferry.units import MIB, format_size

VERSION = "2010-11-15"
MAX_MANIFEST_SIZE = 16 * MIB
"""Bytes of XML: about 12,000 parts with presigned URLs, each of which takes 400 characters."""
MAX_PARTS = 100_000
_MAX_NUMBER = 1 << 63
_FORMATS = ("RAW", "VHD", "VMDK")
_DOCTYPE = re.compile(rb"<\s*!\s*DOCTYPE", re.IGNORECASE)
_NUMBER = re.compile(r"[0-9]{1,19}", re.ASCII)

_Element = etree._Element  # noqa: SLF001 - lxml has no public name for the type


class ManifestError(FormatError):
    """What was to be a manifest is none, or its parts do not make up a file."""


@dataclass(frozen=True, slots=True)
class ManifestPart:
    """A run of the uploaded file. The URLs are presigned; all but ``get_url`` may be absent."""

    index: int
    start: int
    end: int
    """The last byte, inclusive."""
    key: str
    get_url: str
    head_url: str | None = None
    delete_url: str | None = None

    @property
    def length(self) -> int:
        return self.end + 1 - self.start


@dataclass(frozen=True, slots=True)
class ImportManifest:
    """A disk image in parts, which are in order and contiguous."""

    file_format: str
    """``RAW``, ``VHD`` or ``VMDK``."""
    size: int
    """Bytes as the tool says: the file's length, or the virtual disk's (euca2ools). Never the length to check by."""
    volume_gib: int
    parts: Sequence[ManifestPart]
    self_destruct_url: str | None = None

    @property
    def length(self) -> int:
        """Bytes of the uploaded file."""
        return self.parts[-1].end + 1


def render_manifest(manifest: ImportManifest) -> bytes:
    """The document, its elements in the order of the specification."""
    root = etree.Element("manifest")
    _add(root, "version", VERSION)
    _add(root, "file-format", manifest.file_format)
    importer = etree.SubElement(root, "importer")
    for name, text in (("name", "vmferry"), ("version", "1.0.0"), ("release", VERSION)):
        _add(importer, name, text)
    _add(root, "self-destruct-url", manifest.self_destruct_url)
    body = etree.SubElement(root, "import")
    _add(body, "size", str(manifest.size))
    _add(body, "volume-size", str(manifest.volume_gib))
    parts = etree.SubElement(body, "parts", count=str(len(manifest.parts)))
    for part in manifest.parts:
        element = etree.SubElement(parts, "part", index=str(part.index))
        etree.SubElement(element, "byte-range", start=str(part.start), end=str(part.end))
        _add(element, "key", part.key)
        _add(element, "head-url", part.head_url)
        _add(element, "get-url", part.get_url)
        _add(element, "delete-url", part.delete_url)
    return bytes(etree.tostring(root, xml_declaration=True, encoding="UTF-8", standalone=True))


def parse_manifest(content: bytes) -> ImportManifest:
    """The manifest in ``content``. Raises ``ManifestError``."""
    root = _parse(content)
    if root.tag != "manifest" or _text(root, "version") != VERSION:
        raise _wrong(f"it is no manifest of version {VERSION}")
    file_format = _text(root, "file-format").upper()
    if file_format not in _FORMATS:
        raise _wrong(f"its file-format {quote(file_format)} is none of {', '.join(_FORMATS)}")
    body = _child(root, "import")
    parts = sorted(map(_part, _part_elements(_child(body, "parts"))), key=lambda part: part.index)
    _check_parts(parts)
    return ImportManifest(
        file_format=file_format,
        size=_number(_text(body, "size"), "size"),
        volume_gib=_number(_text(body, "volume-size"), "volume-size"),
        parts=tuple(parts),
        self_destruct_url=_optional(root, "self-destruct-url"),
    )


def _parse(content: bytes) -> _Element:
    if len(content) > MAX_MANIFEST_SIZE:
        raise _wrong(f"it has more than the {format_size(MAX_MANIFEST_SIZE)} that are read; take larger parts")
    if _DOCTYPE.search(content.replace(b"\0", b"")):  # without NUL bytes UTF-16 looks like ASCII
        raise _wrong("it has a DOCTYPE, which no manifest needs")
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, remove_comments=True, remove_pis=True
    )
    try:
        root = etree.fromstring(content, parser)
    except (etree.XMLSyntaxError, ValueError, LookupError) as error:
        raise _wrong(f"it is not well-formed XML: {quote(error)}") from error
    if root.getroottree().docinfo.internalDTD is not None:  # in an encoding that hid it from the search
        raise _wrong("it has a DOCTYPE, which no manifest needs")
    return root


def _part_elements(parts: _Element) -> list[_Element]:
    elements = parts.findall("part")
    count = _number(parts.get("count", ""), "count of parts")
    if not elements or len(elements) != count:
        raise _wrong(f"it says {count:,} parts and has {len(elements):,}")
    if count > MAX_PARTS:
        raise _wrong(f"it has {count:,} parts; at most {MAX_PARTS:,} are read; take larger ones")
    return elements


def _part(element: _Element) -> ManifestPart:
    index = _number(element.get("index", ""), "index of a part")
    run = _child(element, "byte-range")
    return ManifestPart(
        index=index,
        start=_number(run.get("start", ""), f"start of part {index}"),
        end=_number(run.get("end", ""), f"end of part {index}"),
        key=_text(element, "key"),
        get_url=_text(element, "get-url"),
        head_url=_optional(element, "head-url"),
        delete_url=_optional(element, "delete-url"),
    )


def _check_parts(parts: Sequence[ManifestPart]) -> None:
    """Parts are numbered from 0 and begin where the one before ends."""
    place = 0
    for number, part in enumerate(parts):
        if part.index != number:
            raise _wrong(f"part {number} is missing, or there twice")
        if part.start != place or part.end < part.start:
            raise _wrong(f"part {number} is bytes {part.start:,} to {part.end:,}, and it should begin at {place:,}")
        place = part.end + 1


def _child(parent: _Element, name: str) -> _Element:
    found = parent.findall(name)
    if len(found) != 1:
        raise _wrong(f"{quote(parent.tag)} has {len(found)} elements {name}, and needs one")
    return found[0]


def _text(parent: _Element, name: str) -> str:
    text = (_child(parent, name).text or "").strip()
    if not text:
        raise _wrong(f"its {name} is empty")
    return text


def _optional(parent: _Element, name: str) -> str | None:
    return (parent.findtext(name) or "").strip() or None


def _number(text: str, what: str) -> int:
    if not _NUMBER.fullmatch(text.strip()) or int(text) >= _MAX_NUMBER:
        raise _wrong(f"the {what} is no number: {quote(text)}")
    return int(text)


def _add(parent: _Element, name: str, text: str | None) -> None:
    if text is not None:
        etree.SubElement(parent, name).text = text


def _wrong(what: str) -> ManifestError:
    return ManifestError(f"The import manifest cannot be used: {what}. Upload the disk again.", code="InvalidManifest")

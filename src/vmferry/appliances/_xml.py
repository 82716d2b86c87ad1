"""XML from strangers: no entities, no DTD, no network, bounded in size, elements and depth.

Names are matched as producers write them: an element or attribute of the standard's namespaces first, else one with the
same local name, whatever its prefix or namespace.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from lxml import etree

from vmferry.errors import CorruptDiskError, UnsafeDiskError, quote
from vmferry.limits import MAX_OVF_DESCRIPTOR, MAX_XML_ATTRIBUTES, MAX_XML_DEPTH, MAX_XML_TAGS
from vmferry.units import format_size

_STANDARD = ("http://schemas.dmtf.org/", "http://www.vmware.com/schema/ovf/1/envelope")
"""How the namespaces of OVF 1.x, 2.0 and their CIM classes begin; OVF 0.9."""
_TYPE = "{http://www.w3.org/2001/XMLSchema-instance}type"
_DOCTYPE = re.compile(rb"<\s*!\s*DOCTYPE", re.IGNORECASE)

_DECLARATION = 400
"""Bytes that hold an XML declaration."""
_ENCODING = re.compile(rb"""<\?xml[^>]*?encoding\s*=\s*["']([^"'>]*)""")
_LIKE_ASCII = re.compile(
    rb"utf-?8|utf-?16(le|be)?|ucs-?2|(us-)?ascii|iso[-_]8859-\d+|latin-?1|windows-\d+|gb\w+|big5|shift[-_]jis|euc-\w+",
    re.IGNORECASE,
)

Element = etree._Element  # noqa: SLF001 - lxml has no public name for the type


def parse_xml(content: bytes, name: str) -> Element:
    """The root element of ``content``, which comes from the file ``name``.

    Raises ``CorruptDiskError`` for what is not well-formed, ``UnsafeDiskError`` for a DOCTYPE and for more than 8 MiB,
    300,000 tags or 64 levels.
    """
    if len(content) > MAX_OVF_DESCRIPTOR:
        raise UnsafeDiskError(
            f"{quote(name)} has {format_size(len(content))}; at most {format_size(MAX_OVF_DESCRIPTOR)} is read: "
            "export it again."
        )
    if content.count(b"<") > MAX_XML_TAGS or content.count(b"=") > MAX_XML_TAGS:
        raise UnsafeDiskError(
            f"{quote(name)} has more than {MAX_XML_TAGS:,} tags or attributes; it describes no machine: "
            "export it again."
        )
    plain = content.replace(b"\0", b"")  # without NUL bytes UTF-16 looks like ASCII
    _check_encoding(plain, name)
    if any(tag.count(b"=") > MAX_XML_ATTRIBUTES for tag in plain.split(b"<")):
        raise UnsafeDiskError(
            f"{quote(name)} has an element of more than {MAX_XML_ATTRIBUTES:,} attributes; "
            "it describes no machine: export it again."
        )
    if _DOCTYPE.search(plain):
        raise _doctype(name)
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, remove_comments=True, remove_pis=True
    )
    try:
        root = etree.fromstring(content, parser)
    except (etree.XMLSyntaxError, ValueError, LookupError) as error:
        raise CorruptDiskError(
            f"{quote(name)} is not well-formed XML: {quote(error)}. Export the machine again."
        ) from error
    if root.getroottree().docinfo.internalDTD is not None:  # in an encoding that hid it from the search
        raise _doctype(name)
    _check_depth(root, name)
    return root


def _check_encoding(plain: bytes, name: str) -> None:
    """Raise ``CorruptDiskError`` for an encoding in which what is searched for does not look as it does in ASCII."""
    start = plain.lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n")
    declared = _ENCODING.match(start[:_DECLARATION])
    if (start and not start.startswith(b"<")) or (declared and not _LIKE_ASCII.fullmatch(declared[1])):
        encoding = quote(declared[1].decode("ascii", "replace")) if declared else "unknown"
        raise CorruptDiskError(
            f"{quote(name)} is not well-formed XML, or its encoding ({encoding}) is not read: save it as UTF-8."
        )


def _doctype(name: str) -> UnsafeDiskError:
    return UnsafeDiskError(
        f"{quote(name)} has a DOCTYPE, which no description of a machine needs: remove it, or export again."
    )


def _check_depth(root: Element, name: str) -> None:
    depth = 0
    for event, _ in etree.iterwalk(root, events=("start", "end")):
        depth += 1 if event == "start" else -1
        if depth > MAX_XML_DEPTH:
            raise UnsafeDiskError(
                f"{quote(name)} has elements nested over {MAX_XML_DEPTH} deep; it describes no machine: "
                "export it again."
            )


def local_name(element: Element) -> str:
    """``{uri}Envelope`` → ``Envelope``; empty for what is no element."""
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def children(parent: Element, *names: str) -> list[Element]:
    """Direct children with one of these local names, in order; only the standard's own where there are such."""
    found = [child for child in parent if local_name(child) in names]
    standard = [child for child in found if str(child.tag)[1:].startswith(_STANDARD)]
    return standard or found


def text(parent: Element, *names: str) -> str | None:
    """The text of the first child with one of these names that has any."""
    return next((content for child in children(parent, *names) if (content := (child.text or "").strip())), None)


def attribute(element: Element, name: str) -> str | None:
    """An attribute: the standard's, else the unqualified one, else any with this local name; stripped."""
    found = {str(key): str(value) for key, value in element.attrib.items() if str(key).rpartition("}")[2] == name}
    standard = next((value for key, value in found.items() if key[1:].startswith(_STANDARD)), None)
    value = standard if standard is not None else found.get(name, next(iter(found.values()), None))
    return value.strip() if value is not None else None


def sections(parent: Element, name: str) -> list[Element]:
    """Sections by name: ``<DiskSection>``, or as OVF 0.9 says it ``<Section xsi:type="ovf:DiskSection_Type">``."""
    return [
        *children(parent, name),
        *(child for child in children(parent, "Section", "Content") if _is_type(child, name)),
    ]


def anywhere(root: Element, name: str) -> Iterator[Element]:
    """Elements below ``root`` with this local name, at any depth."""
    return (element for element in root.iter() if local_name(element) == name)


def _is_type(element: Element, name: str) -> bool:
    return element.get(_TYPE, "").rpartition(":")[2] == f"{name}_Type"

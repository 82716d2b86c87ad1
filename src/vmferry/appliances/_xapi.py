"""Records of XenServer's management interface (XAPI), as ``ova.xml`` holds them: values in the manner of XML-RPC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vmferry.appliances._xml import Element, children, local_name
from vmferry.errors import CorruptDiskError, quote

Value = str | list["Value"] | dict[str, "Value"]


@dataclass(frozen=True, slots=True)
class Record:
    """One object. A field that is not there, or of another kind than asked for, is empty."""

    ref: str
    kind: str
    fields: Mapping[str, Value]

    def text(self, name: str) -> str:
        """A field's text, blanks around it left out."""
        value = self.fields.get(name)
        return value.strip() if isinstance(value, str) else ""

    def flag(self, name: str) -> bool:
        """A truth value, as ``1`` or ``true``."""
        return self.text(name).lower() in ("1", "true")

    def refs(self, name: str) -> list[str]:
        """References to other objects."""
        value = self.fields.get(name)
        return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []

    def table(self, name: str) -> Mapping[str, Value]:
        """Keys and values."""
        value = self.fields.get(name)
        return value if isinstance(value, dict) else {}


class Records:
    """All objects of an export."""

    def __init__(self, records: list[Record]) -> None:
        self._records = records
        self._by_ref = {(record.kind, record.ref): record for record in records}

    def of_class(self, kind: str) -> list[Record]:
        """Those of one class (``VM``), in order."""
        return [record for record in self._records if record.kind == kind]

    def get(self, ref: str, kind: str) -> Record | None:
        """The object of this reference and class."""
        return self._by_ref.get((kind, ref))


def read_records(root: Element, name: str) -> Records:
    """The objects in the value ``root`` of the file ``name``. Raises ``CorruptDiskError`` where there are none."""
    whole = _value(root)
    objects = whole.get("objects") if isinstance(whole, dict) else None
    if not isinstance(objects, list):
        raise CorruptDiskError(f"{quote(name)} has no list of objects: it is no XVA's, or damaged. Export it again.")
    records = []
    for one in objects:
        if isinstance(one, dict):
            ref, kind, fields = one.get("id"), one.get("class"), one.get("snapshot")
            if isinstance(ref, str) and isinstance(kind, str) and isinstance(fields, dict):
                records.append(Record(ref.strip(), kind.strip(), fields))
    return Records(records)


def _value(element: Element) -> Value:
    """What a ``<value>`` holds; its depth is that of the XML, which is bounded."""
    inside: Element | None = element
    if local_name(element) == "value":
        inside = next((child for child in element if local_name(child)), None)
    if inside is None:
        return element.text or ""
    match local_name(inside):
        case "struct":
            members: dict[str, Value] = {}
            for member in children(inside, "member"):
                named, held = children(member, "name"), children(member, "value")
                if named and held:
                    members[(named[0].text or "").strip()] = _value(held[0])
            return members
        case "array":
            return [_value(value) for data in children(inside, "data") for value in children(data, "value")]
        case _:
            return inside.text or ""

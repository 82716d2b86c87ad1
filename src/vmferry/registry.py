"""One rule for every family: a name in the list is a module in the folder that exports the family's noun."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TypeVar, cast

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class About:
    """What a format or package says of itself in ``docs/formats.md``: half-sentences for the cells of a table."""

    title: str
    """The name that users know: ``VHD (Virtual PC, Hyper-V)``."""
    reads: str
    writes: str
    """Empty where nothing is written."""
    refuses: str
    limits: str


class Registry(Mapping[str, T]):
    """``Registry("vmferry.formats", "FORMAT", ["vmdk", "raw"])`` maps ``"vmdk"`` to ``vmferry.formats.vmdk.FORMAT``.

    A module is imported when its name is first looked up, so a missing optional dependency hurts only who uses it.
    Iteration is in the order of the list, which is the probe order where the family has one. Thread-safe.
    """

    def __init__(self, package: str, attribute: str, names: Sequence[str]) -> None:
        self._package = package
        self._attribute = attribute
        self._names = tuple(names)

    def __getitem__(self, name: str) -> T:
        if name not in self._names:
            raise KeyError(name)
        return cast("T", getattr(import_module(f"{self._package}.{name}"), self._attribute))

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names

#!/usr/bin/env python3
"""Write the tables of docs/formats.md from the registries and limits.py; with --check say whether they are true."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Protocol

from made_pages import fill, page, row, run
from vmferry import limits
from vmferry.appliances import PACKAGES
from vmferry.formats import FORMATS, SupportsCreate
from vmferry.registry import About
from vmferry.units import GIB, KIB, MIB, TIB
from vmferry.wrappers import WRAPPERS

DOCUMENT = page("formats.md")


class _Member(Protocol):
    @property
    def about(self) -> About: ...


def parts() -> dict[str, Iterator[str]]:
    """The made parts, by name."""
    return {
        "formats": _table(FORMATS),
        "appliances": _table(PACKAGES),
        "wrappers": _table(WRAPPERS),
        "writers": _writers(),
        "limits": _limits(),
    }


def _table(members: Mapping[str, _Member]) -> Iterator[str]:
    yield "| format | read | written | refused | limits |"
    yield "|---|---|---|---|---|"
    for name, member in members.items():
        about = member.about
        yield row(f"`{name}`: {about.title}", about.reads, about.writes or "—", about.refuses, about.limits)


def _writers() -> Iterator[str]:
    yield "| format | `--subformat`, the default first | EC2's name | `qemu-img -f` |"
    yield "|---|---|---|---|"
    for name, member in FORMATS.items():
        if isinstance(member, SupportsCreate):
            kinds = ", ".join(f"`{kind}`" for kind in member.subformats) or "—"
            yield row(f"`{name}`", kinds, member.ec2_name or "—", f"`{member.qemu_name}`")


def _limits() -> Iterator[str]:
    """Each constant of ``limits`` with the sentence below it."""
    yield "| limit | value | of what |"
    yield "|---|---|---|"
    tree = ast.parse(Path(limits.__file__).read_text(encoding="utf-8")).body
    for statement, sentence in pairwise(tree):
        if not isinstance(statement, ast.Assign) or not isinstance(sentence, ast.Expr):
            continue
        (target,) = statement.targets
        text = ast.literal_eval(sentence.value)
        if isinstance(target, ast.Name):
            yield row(f"`{target.id}`", _number(getattr(limits, target.id), text), " ".join(text.split()))


def _number(value: int, sentence: str) -> str:
    """``value`` as a person reads it; in binary units where the sentence speaks of bytes."""
    if "bytes" in sentence.lower():
        for unit, name in ((TIB, "TiB"), (GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
            if value >= unit and value % unit == 0:
                return f"{value // unit:,} {name}"
    return f"{value:,}"


if __name__ == "__main__":
    sys.exit(run(DOCUMENT, lambda text: fill(text, parts())))

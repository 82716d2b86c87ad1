#!/usr/bin/env python3
"""Write the tables of docs/formats.md from the registries and from limits.py; with --check say whether they are true.

Everything between a line ``<!-- begin NAME -->`` and its ``<!-- end NAME -->`` is made; the rest is written by hand.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Protocol

from vmferry import limits
from vmferry.appliances import PACKAGES
from vmferry.formats import FORMATS, SupportsCreate
from vmferry.registry import About
from vmferry.units import GIB, KIB, MIB, TIB
from vmferry.wrappers import WRAPPERS

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "formats.md"


class _Member(Protocol):
    @property
    def about(self) -> About: ...


def main() -> int:
    """Answers the exit code: 1 when ``--check`` finds the document out of date."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="change nothing; fail when something would change")
    options = parser.parse_args()
    before = DOCUMENT.read_text(encoding="utf-8")
    after = fill(before)
    if options.check:
        if before != after:
            print("docs/formats.md is out of date: run tools/formats_doc.py", file=sys.stderr)
        return int(before != after)
    DOCUMENT.write_text(after, encoding="utf-8")
    return 0


def fill(document: str) -> str:
    """``document`` with its made parts made anew. Raises ``ValueError`` when one of them has no place in it."""
    for name, lines in parts().items():
        begin, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->"
        before, _, rest = document.partition(begin)
        _, found, after = rest.partition(end)
        if not found:
            raise ValueError(f"docs/formats.md has no place for {name}")
        document = before + begin + "".join(f"{line}\n" for line in lines) + end + after
    return document


def parts() -> dict[str, list[str]]:
    """The made parts, by name."""
    return {
        "formats": list(_table(FORMATS)),
        "appliances": list(_table(PACKAGES)),
        "wrappers": list(_table(WRAPPERS)),
        "writers": list(_writers()),
        "limits": list(_limits()),
    }


def _table(members: Mapping[str, _Member]) -> Iterator[str]:
    yield "| format | read | written | refused | limits |"
    yield "|---|---|---|---|---|"
    for name, member in members.items():
        about = member.about
        cells = (f"`{name}`: {about.title}", about.reads, about.writes or "—", about.refuses, about.limits)
        yield _row(cells)


def _writers() -> Iterator[str]:
    yield "| format | `--subformat`, the default first | EC2's name | `qemu-img -f` |"
    yield "|---|---|---|---|"
    for name, member in FORMATS.items():
        if isinstance(member, SupportsCreate):
            kinds = ", ".join(f"`{kind}`" for kind in member.subformats) or "—"
            yield _row((f"`{name}`", kinds, member.ec2_name or "—", f"`{member.qemu_name}`"))


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
            yield _row((f"`{target.id}`", _number(getattr(limits, target.id), text), " ".join(text.split())))


def _number(value: int, sentence: str) -> str:
    """``value`` as a person reads it; in binary units where the sentence speaks of bytes."""
    if "bytes" in sentence.lower():
        for unit, name in ((TIB, "TiB"), (GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
            if value >= unit and value % unit == 0:
                return f"{value // unit:,} {name}"
    return f"{value:,}"


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    sys.exit(main())

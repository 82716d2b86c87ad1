#!/usr/bin/env python3
"""Write the table of docs/quotas.md from quotas.py; with --check say whether it is true."""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from vmferry import quotas
from vmferry.quotas import AWS, VMFERRY, ImageBounds, Quotas

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "quotas.md"
_BEGIN, _END = "<!-- begin quotas -->\n", "<!-- end quotas -->"


def main() -> int:
    """Answers the exit code: 1 when ``--check`` finds the document out of date."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="change nothing; fail when something would change")
    options = parser.parse_args()
    before = DOCUMENT.read_text(encoding="utf-8")
    after = fill(before)
    if options.check:
        if before != after:
            print("docs/quotas.md is out of date: run tools/quotas_doc.py", file=sys.stderr)
        return int(before != after)
    DOCUMENT.write_text(after, encoding="utf-8")
    return 0


def fill(document: str) -> str:
    """``document`` with its made part made anew. Raises ``ValueError`` when that has no place in it."""
    before, begin, rest = document.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError("docs/quotas.md has no place for the table")
    return before + begin + "".join(f"{line}\n" for line in _table()) + end + after


def _table() -> Iterator[str]:
    yield "| `limits.` | `aws` | `vmferry` | of what |"
    yield "|---|---|---|---|"
    parts = _sentences(ImageBounds)
    for name, sentence in _sentences(Quotas).items():
        narrow, wide = getattr(AWS, name), getattr(VMFERRY, name)
        if not isinstance(narrow, ImageBounds):
            yield _row(name, narrow, wide, sentence)
            continue
        for part, about in parts.items():
            said = f"{sentence.removesuffix('.')}: {about}"
            yield _row(f"{name}.{part}", getattr(narrow, part), getattr(wide, part), said)


def _sentences(kind: type) -> dict[str, str]:
    """Each field of a class of ``quotas`` with the sentence below it, in order."""
    tree = ast.parse(Path(quotas.__file__).read_text(encoding="utf-8")).body
    (found,) = (one for one in tree if isinstance(one, ast.ClassDef) and one.name == kind.__name__)
    return {
        field.target.id: " ".join(str(ast.literal_eval(text.value)).split())
        for field, text in pairwise(found.body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr)
    }


def _row(name: str, narrow: object, wide: object, sentence: str) -> str:
    return f"| `{name}` | {_value(narrow)} | {_value(wide)} | {sentence} |"


def _value(value: object) -> str:
    return ", ".join(value) if isinstance(value, tuple) else f"{value:,}"


if __name__ == "__main__":
    sys.exit(main())

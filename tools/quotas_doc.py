#!/usr/bin/env python3
"""Write the table of docs/quotas.md from quotas.py; with --check say whether it is true."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from made_pages import fill, page, row, run
from vmferry import quotas
from vmferry.quotas import AWS, VMFERRY, ImageBounds, Quotas


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
    return row(f"`{name}`", _value(narrow), _value(wide), sentence)


def _value(value: object) -> str:
    return ", ".join(value) if isinstance(value, tuple) else f"{value:,}"


if __name__ == "__main__":
    sys.exit(run(page("quotas.md"), lambda text: fill(text, {"quotas": _table()})))

"""Pages of docs/ that are made from the code: the whole page, or what stands between two marks in it.

The marks of a part are the lines ``<!-- begin NAME -->`` and ``<!-- end NAME -->``; the rest is written by hand. Each
such page has a tool that writes it and, with ``--check``, says whether it is true.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

_FOLDER = Path(__file__).resolve().parents[1] / "docs"


def page(name: str) -> Path:
    """The page of docs/ with that name."""
    return _FOLDER / name


def run(page: Path, make: Callable[[str], str]) -> int:
    """The command line of the tool that keeps ``page`` true: ``make`` takes its text and gives it as it has to be.

    Answers the exit code: 1 when ``--check`` finds the page out of date. Raises ``OSError``, and what ``make`` raises.
    """
    parser = argparse.ArgumentParser(description=f"Write docs/{page.name} from the code.")
    parser.add_argument("--check", action="store_true", help="change nothing; fail when something would change")
    options = parser.parse_args()
    before = page.read_text(encoding="utf-8")
    after = make(before)
    if not options.check:
        page.write_text(after, encoding="utf-8")
    elif before != after:
        print(f"docs/{page.name} is out of date: run tools/{Path(sys.argv[0]).name}", file=sys.stderr)
        return 1
    return 0


def fill(text: str, parts: Mapping[str, Iterable[str]]) -> str:
    """``text`` of a page with its made parts, name → lines, made anew. Raises ``ValueError`` when one has no place."""
    for name, lines in parts.items():
        begin, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->"
        before, begun, rest = text.partition(begin)
        _, ended, after = rest.partition(end)
        if not begun or not ended:
            raise ValueError(f"the page has no place for {name}")
        text = before + begin + "".join(f"{line}\n" for line in lines) + end + after
    return text


def row(*cells: str) -> str:
    """A row of a table."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

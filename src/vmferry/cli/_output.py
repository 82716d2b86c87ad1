"""What a person or a script sees: bars on a terminal, plain lines elsewhere, JSON where asked for, one-line errors."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from vmferry.errors import quote
from vmferry.units import format_size

if TYPE_CHECKING:  # imported where there is a terminal: scripts need not wait for it
    from rich.progress import Progress

_PLAIN_SECONDS = 5.0
"""How often a line is printed where there is no terminal for a bar."""
_JSON_SECONDS = 1.0


def print_error(message: str, program: str = "vmferry") -> None:
    """``vmferry: message`` on stderr, in one line."""
    line = " ".join(message.split())
    print(f"{program}: {line}", file=sys.stderr)


def print_note(message: str) -> None:
    """``vmferry: note: message`` on stderr, in one line: something to know about work that goes on."""
    print_error(f"note: {message}")


def print_json(document: Any) -> None:
    """One JSON document on stdout."""
    print(json.dumps(document, indent=2, ensure_ascii=False, default=str), flush=True)


def print_facts(facts: Iterable[tuple[str, str]]) -> None:
    """``name: value`` lines on stdout; on a terminal the names stand out."""
    if not sys.stdout.isatty():
        print("\n".join(f"{name}: {value}" for name, value in facts), flush=True)
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    for name, value in facts:
        style = {"yes": "green", "no": "red"}.get(value, "")
        console.print(Text.assemble((f"{name}:", "bold"), " ", (value, style)), soft_wrap=True)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], empty: str) -> None:
    """A table on stdout; ``empty`` where there is nothing in it. Where stdout is no terminal: tabs, no frame."""
    if not rows:
        print(empty)
        return
    if not sys.stdout.isatty():
        for row in rows:
            print("\t".join(quote(cell) if cell is not None else "-" for cell in row))
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, no_wrap=number == 0, overflow="fold")  # ids are copied, and stay whole
    for row in rows:
        table.add_row(*(escape(quote(cell)) if cell is not None else "-" for cell in row))
    Console().print(table)


@contextmanager
def show_progress(what: str, total: int, *, as_json: bool = False) -> Iterator[Callable[[int], None]]:
    """Show how far something is, on stderr: calls to the function yielded say how many more bytes are done.

    Called by one thread at a time.
    """
    if as_json:
        yield _JsonLines(what, total)
    elif sys.stderr.isatty():
        from rich.markup import escape

        with _bar() as bar:
            task = bar.add_task(escape(what), total=total)
            yield lambda done: bar.advance(task, done)
    else:
        yield _PlainLines(what, total)


def _bar() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )


class _PlainLines:
    """A line now and then."""

    def __init__(self, what: str, total: int) -> None:
        self._what = what
        self._total = total
        self._done = 0
        self._begun = self._said = time.monotonic()

    def __call__(self, done: int) -> None:
        self._done += done
        now = time.monotonic()
        if now - self._said < _PLAIN_SECONDS:
            return
        self._said = now
        percent = 100 * self._done // max(self._total, 1)
        rate = self._done / (now - self._begun)
        left = (self._total - self._done) / max(rate, 1)
        line = f"{self._what}: {percent}% of {format_size(self._total)}, {format_size(rate)}/s, {left:.0f} s left"
        print(line, file=sys.stderr, flush=True)


class _JsonLines:
    """A JSON object a line, on stderr, so that stdout holds the one document of the end."""

    def __init__(self, what: str, total: int) -> None:
        self._what = what
        self._total = total
        self._done = 0
        self._said = 0.0

    def __call__(self, done: int) -> None:
        self._done += done
        now = time.monotonic()
        if now - self._said >= _JSON_SECONDS or self._done >= self._total:
            self._said = now
            facts = {"progress": self._what, "done": self._done, "total": self._total}
            print(json.dumps(facts), file=sys.stderr, flush=True)

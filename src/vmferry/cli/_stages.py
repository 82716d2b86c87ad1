"""How a task that runs elsewhere is shown: its stage and how far it is."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

ShowStage = Callable[[str, int], None]
"""Called with the stage's word and the percentage, again and again; calls that say nothing new show nothing."""


@contextmanager
def show_stages(task_id: str, *, as_json: bool = False) -> Iterator[ShowStage]:
    """On stderr: a bar on a terminal, a JSON object or a plain line for each change elsewhere."""
    if not as_json and sys.stderr.isatty():
        with _bar(task_id) as show:
            yield show
    else:
        yield _Lines(task_id, as_json=as_json)


class _Lines:
    """A line for each new stage; as JSON for each new percentage, too."""

    def __init__(self, task_id: str, *, as_json: bool) -> None:
        self._task_id = task_id
        self._as_json = as_json
        self._said: tuple[str, int] | None = None

    def __call__(self, stage: str, percent: int) -> None:
        if self._said is not None and self._said[0] == stage and (not self._as_json or self._said[1] == percent):
            return
        self._said = (stage, percent)
        facts = {"task": self._task_id, "stage": stage, "progress": percent}
        line = json.dumps(facts) if self._as_json else f"{self._task_id}: {stage}, {percent}%"
        print(line, file=sys.stderr, flush=True)


@contextmanager
def _bar(task_id: str) -> Iterator[ShowStage]:
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn(escape(task_id)),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        shown = bar.add_task("pending", total=100)
        yield lambda stage, percent: bar.update(shown, completed=percent, description=escape(stage))

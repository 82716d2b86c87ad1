"""How a task that runs elsewhere is shown: its stage and how far it is."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

ShowStage = Callable[[str, int, Sequence[int]], None]
"""Called with the stage's word, the percentage, and that of each disk where there are several that are in work, again
and again; calls that say nothing new show nothing."""


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

    def __call__(self, stage: str, percent: int, disks: Sequence[int] = ()) -> None:
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
        TextColumn("{task.fields[name]}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        shown = bar.add_task("pending", total=100, name=escape(task_id))
        bars: list[TaskID] = []

        def show(stage: str, percent: int, disks: Sequence[int]) -> None:
            bar.update(shown, completed=percent, description=escape(stage))
            _show_disks(bar, bars, disks)

        yield show


def _show_disks(bar: Progress, bars: list[TaskID], disks: Sequence[int]) -> None:
    """A bar for each disk, below the task's own; those that are no longer told of stay as they are."""
    while len(bars) < len(disks):
        bars.append(bar.add_task("", total=100, name=f"disk {len(bars) + 1}"))
    for shown, percent in zip(bars, disks, strict=False):
        bar.update(shown, completed=percent)

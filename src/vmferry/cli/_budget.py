"""How much memory a conversion may take, and what follows from it: threads, and what an upload may hold."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import typer

from vmferry.cli._output import print_note
from vmferry.cli._source import SCHEME, default_threads
from vmferry.convert import MAX_THREADS, default_workers
from vmferry.units import GIB, MIB, format_size

DEFAULT_MEMORY = "256M"
_BASE = 72 * MIB
"""Python, its libraries and the tables of a disk of some TiB, before a byte moves."""
_THREAD = 12 * MIB
"""A thread's piece as it is read, decoded, encoded, and what waits for its turn; measured, with room to spare."""
_REMOTE_THREAD = 16 * MIB
"""The same with a block that is fetched from S3."""
_SENDING_THREAD = 28 * MIB
"""The same where it sends parts to S3 as well."""
_UPLOAD_CLIENT = 24 * MIB
"""What speaks to S3, and a part's copies on their way."""
_UPLOAD_SHARE = 4
"""A quarter of the memory is the upload's."""
_SMALLEST = 192 * MIB
_SIZE = re.compile(r"(?P<number>[0-9]{1,6})(?P<unit>[MG])?(i?B)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Budget:
    """What a conversion may take."""

    workers: int
    """Threads."""
    upload: int
    """Bytes that an upload may hold, where there is one."""


def parse_memory(text: str) -> int:
    """``512M``, ``2G``, ``2GiB``; a bare number is MiB. Raises ``typer.BadParameter``."""
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise typer.BadParameter(f"--memory takes a size like 512M or 2G, not {text!r}.")
    size = int(found["number"]) * (GIB if (found["unit"] or "M").upper() == "G" else MIB)
    if size < _SMALLEST:
        raise typer.BadParameter(f"--memory: a conversion takes {format_size(_SMALLEST)} at the least.")
    return size


def plan_budget(memory: int, sources: Sequence[str], target: str, workers: int | None) -> Budget:
    """Threads and upload that fit into ``memory`` bytes; ``workers`` are wanted, as many as pay when ``None``."""
    uploads = target.startswith(SCHEME)
    upload = memory // _UPLOAD_SHARE if uploads else 0
    left = memory - _BASE - upload - (_UPLOAD_CLIENT if uploads else 0)
    remote = any(source.startswith(SCHEME) for source in sources)
    fitting = max(left // (_SENDING_THREAD if uploads else _REMOTE_THREAD if remote else _THREAD), 1)
    wanted = min(workers or default_threads([*sources, target]) or default_workers(), MAX_THREADS)
    if workers is not None and fitting < wanted:
        print_note(f"{fitting} threads instead of {wanted}: more need more than {format_size(memory)} (--memory).")
    return Budget(min(wanted, fitting), upload)

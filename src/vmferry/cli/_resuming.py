"""``convert --resume``: a conversion that goes on where it was killed, interrupted or ran out of room."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vmferry.cli._container import Said
from vmferry.cli._destination import Destination, Unfinished
from vmferry.cli._output import print_note, show_progress
from vmferry.cli._source import identify
from vmferry.cli._writing import Effort, InputDisk, Made, Output, Writer, made_size, report_file
from vmferry.convert import copy, find_granules, find_unit
from vmferry.convert.journal import Journal
from vmferry.digest import DigestTree
from vmferry.disk import Disk, SupportsReplay
from vmferry.errors import BlobChangedError, FormatError, UnsafeDiskError, quote


def describe_conversion(source: str, said: Said, found: InputDisk, output: Output) -> dict[str, Any]:
    """All that decides what is written, to be compared when the conversion is gone on with. Raises ``StoreError``."""
    files = {source, found.name, *said.parents, *said.extents}
    return {
        "sources": sorted(identify(name) for name in files if name == source or Path(name).is_file()),
        "disk": found.name,
        "format": found.format.name,
        "snapshot": said.snapshot,
        "size": found.disk.size,
        "target": [output.format.name, output.options.subformat],
    }


def resume_conversion(
    found: InputDisk, output: Output, destination: Destination, effort: Effort, facts: dict[str, Any]
) -> None:
    """Make ``destination``, or go on making it; ``facts`` are those of ``describe_conversion``."""
    path, target = destination.resume()
    tree = DigestTree(found.disk.size) if effort.digests else None
    with _kept(path, target) as kept:
        kept.journal = journal = Journal(path, {**facts, "digest": effort.digests}, target, tree)
        writer = output.maker.create(target, found.disk.size, found.disk.extents(), output.options)
        if isinstance(writer, SupportsReplay):
            journal.replay(writer)
        made = _copy(found, writer, journal, tree, destination.path.name, effort)
        if found.file is not None:
            found.file.finish()
        writer.finish()
        journal.remove()
    report_file(made, output, destination, effort)


class _Kept:
    """What is there to be kept, or removed, when a conversion ends early."""

    journal: Journal | None = None


@contextmanager
def _kept(path: Path, target: Unfinished) -> Iterator[_Kept]:
    """What was done is kept when the conversion may be gone on with, and removed when that would fail again."""
    kept = _Kept()
    try:
        yield kept
    except (FormatError, UnsafeDiskError, BlobChangedError):
        target.abort()
        if kept.journal is not None:
            kept.journal.remove()
        raise
    except BaseException:
        target.detach()
        if kept.journal is not None:
            print_note(f"What was done is kept beside {quote(path)}; the same command goes on from there.")
        raise


def _copy(
    found: InputDisk, writer: Writer, journal: Journal, tree: DigestTree | None, title: str, effort: Effort
) -> Made:
    disk, start = found.disk, journal.offset
    unit = find_unit(writer, tree)
    before, left = _count(disk, unit, 0, start), _count(disk, unit, start, disk.size)
    journal.plan(before + left)
    copied = 0
    with show_progress(title, before + left, as_json=effort.as_json) as progress:
        progress(before)

        def tell(more: int) -> None:
            nonlocal copied
            copied += more
            progress(more)

        result = copy(
            disk,
            writer,
            start,
            workers=effort.workers,
            digest=tree,
            progress=tell,
            checkpoint=lambda offset: journal.checkpoint(offset, copied),
            placed=_noting(writer, journal),
        )
    digest = None if tree is None else tree.finish()
    return Made(found, made_size(writer, disk), result.data, result.seconds, digest, resumed_at=start or None)


def _noting(writer: Writer, journal: Journal) -> Callable[[int, Any], None] | None:
    """What writes down for ``journal`` what ``writer`` places."""
    if not isinstance(writer, SupportsReplay):
        return None
    return lambda end, encoded: journal.placed(end, writer.note(encoded))


def _count(disk: Disk, unit: int, start: int, end: int) -> int:
    return sum(high - low for low, high in find_granules(disk.extents(start, end), unit, end)) if start < end else 0

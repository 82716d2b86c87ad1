"""``convert --resume``: a conversion that goes on where it was killed, interrupted or ran out of room."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vmferry.blob import KeptBlobWriter
from vmferry.cli._container import Said
from vmferry.cli._destination import Destination
from vmferry.cli._output import print_note, show_progress
from vmferry.cli._source import identify
from vmferry.cli._writing import Effort, InputDisk, Made, Output, Writer, made_size, report_file
from vmferry.convert import count_granules, find_unit
from vmferry.convert.journal import Journal, copy_rest
from vmferry.digest import DigestTree
from vmferry.disk import Disk, DiskFacts, SupportsFacts
from vmferry.errors import BlobChangedError, FormatError, UnsafeDiskError, quote


def describe_conversion(source: str, said: Said, found: InputDisk, output: Output) -> dict[str, Any]:
    """All that decides what is written, to be compared when the conversion is gone on with. Raises ``StoreError``."""
    files = {source, found.name, *said.parents, *said.extents, *_found_files(found.disk)}
    return {
        "sources": sorted(identify(name) for name in files if name == source or Path(name).is_file()),
        "disk": found.name,
        "format": found.format.name,
        "snapshot": said.snapshot,
        "size": found.disk.size,
        "target": [output.format.name, output.options.subformat, output.options.compression.value],
    }


def _found_files(disk: Disk | None) -> Iterator[str]:
    """The files beside the images of ``disk`` and all its parents that hold its data, too."""
    while disk is not None:
        facts = disk.facts if isinstance(disk, SupportsFacts) else DiskFacts()
        yield from facts.found_files
        disk = facts.parent


def resume_conversion(
    found: InputDisk, output: Output, destination: Destination, effort: Effort, facts: dict[str, Any]
) -> None:
    """Make ``destination``, or go on making it; ``facts`` are those of ``describe_conversion``.

    Raises ``BlobChangedError`` where a source was written to meanwhile; then nothing is left.
    """
    path, target = destination.resume()
    tree = DigestTree(found.disk.size) if effort.digests else None
    with _kept(path, target) as kept:
        kept.journal = journal = Journal(path, {**facts, "digest": effort.digests}, target, tree)
        if not journal.offset:
            target.begin()  # nothing of an older conversion may show through where this one writes no zeros
        writer = output.maker.create(target, found.disk.size, found.disk.extents(), output.options)
        made = _copy(found, writer, journal, tree, destination.path.name, effort)
        if found.file is not None:
            found.file.finish()
        found.check_unchanged()
        writer.finish()
        journal.remove()
    report_file(made, output, destination, effort)


class _Kept:
    """What is there to be kept, or removed, when a conversion ends early."""

    journal: Journal | None = None


@contextmanager
def _kept(path: Path, target: KeptBlobWriter) -> Iterator[_Kept]:
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
    total = count_granules(disk, find_unit(writer, tree))
    with show_progress(title, total, as_json=effort.as_json) as progress:
        result = copy_rest(disk, writer, journal, total, workers=effort.workers, progress=progress, digest=tree)
    digest = None if tree is None else tree.finish()
    return Made(found, made_size(writer, disk), result.data, result.seconds, digest, resumed_at=start or None)

"""What ``convert`` and ``prepare`` are to make: the format that a name or the user says, and how."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import typer

from vmferry import formats
from vmferry.cli._destination import Destination
from vmferry.cli._writing import Output
from vmferry.errors import quote
from vmferry.formats import Compression, SupportsCreate, WriteOptions

_SUFFIXES = {
    ".raw": "raw",
    ".img": "raw",
    ".qcow2": "qcow2",
    ".vmdk": "vmdk",
    ".vhd": "vhd",
    ".vhdx": "vhdx",
    ".vdi": "vdi",
    ".ova": "ova",
    ".xva": "xva",
}
APPLIANCES = ("ova", "xva")
"""Those of them that hold a whole machine."""


def check_sources(sources: Sequence[str], destination: Destination) -> None:
    """Raise ``typer.BadParameter`` where one of ``sources`` is to be overwritten."""
    for source in sources:
        if source == destination.name or (destination.is_local and _same_file(Path(source), destination.path)):
            raise typer.BadParameter(f"{quote(source)} is source and target; name another target.")


def _same_file(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and one.samefile(other)


def find_target_format(destination: Destination, to: str | None) -> str:
    """The format that was asked for, or that the suffix of ``destination`` says. Raises ``typer.BadParameter``."""
    path = destination.path
    name = to.lower() if to else _SUFFIXES.get(path.suffix.lower())
    if name is None and destination.is_local and path.is_dir():
        raise typer.BadParameter(f"{quote(destination.name)} is a directory; name a file in it.")
    if name is None:
        raise typer.BadParameter(f"the suffix of {quote(path.name)} names no format; say it with --to: {_known()}.")
    return name


def _known() -> str:
    return ", ".join(dict.fromkeys(_SUFFIXES.values()))


def choose_output(name: str, subformat: str | None, compress: Compression | None) -> Output:
    """An image of format ``name``. Raises ``typer.BadParameter`` for what is not written so."""
    if name in APPLIANCES:
        raise typer.BadParameter(f"an {name} holds a whole machine; name a disk image, and pack it with `convert`.")
    made = formats.FORMATS.get(name)
    if made is None or not isinstance(made, SupportsCreate):
        raise typer.BadParameter(f"{quote(name)} is no format that is written; use one of {_known()}.")
    if subformat is not None and subformat not in made.subformats:
        there = ", ".join(made.subformats) or "none"
        raise typer.BadParameter(f"{name} has no subformat {quote(subformat)}; it has: {there}.")
    if compress is not None and (subformat or next(iter(made.subformats), None)) not in made.compressed:
        instead = f"add --subformat {' or '.join(made.compressed)}, or " if made.compressed else ""
        raise typer.BadParameter(f"--compress: such a {name} is not compressed; {instead}leave it out.")
    return Output(made, WriteOptions(subformat, compress or Compression.BALANCED))

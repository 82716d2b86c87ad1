"""Options that several commands have."""

from __future__ import annotations

from typing import Any

import typer

READ_AS: Any = typer.Option(None, "--from", metavar="FORMAT", help="The format of SRC (default: what it shows).")
DISK: Any = typer.Option(None, metavar="NUMBER", help="Which disk of a machine, from 1 (default: the one that boots).")
PARENT: Any = typer.Option([], metavar="FILE", help="The parent of a snapshot, then its own parent, down to the base.")
EXTENT: Any = typer.Option(
    [], metavar="FILE", help="A file that holds a part of the disk and lies elsewhere or is named oddly."
)
SNAPSHOT: Any = typer.Option(None, metavar="NAME", help="Read this internal snapshot of a qcow2.")
WORKERS: Any = typer.Option(None, metavar="NUMBER", min=1, help="Threads (default: one for each core).")
AS_JSON: Any = typer.Option(False, "--json", help="The result as JSON; progress as JSON lines on stderr.")

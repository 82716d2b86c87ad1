"""``vmferry snapshots``: the disk images behind snapshots, for whoever runs the server."""

from __future__ import annotations

from pathlib import Path

import typer

from vmferry.cli._output import print_json
from vmferry.config import default_data_dir, load_config

COMMAND = typer.Typer(no_args_is_help=True, help="The disk images behind snapshots.")


@COMMAND.callback()
def _group() -> None:
    pass


@COMMAND.command()
def locate(
    snapshot_id: str = typer.Argument(metavar="SNAP", help="The snapshot's id: snap-…"),
    data_dir: Path = typer.Option(None, metavar="FOLDER", help="The server's data directory."),
    as_json: bool = typer.Option(False, "--json", help="One JSON object instead of a line."),
) -> None:
    """Print the path of the disk image that holds a snapshot: a standalone qcow2, for any tool."""
    from vmferry.app import snapshot_path

    path = snapshot_path(load_config(data_dir or default_data_dir()), snapshot_id)
    if as_json:
        print_json({"SnapshotId": snapshot_id, "Path": str(path), "Format": "qcow2"})
    else:
        print(path)

"""``vmferry receipt``: what an import read, made and changed, signed by the server."""

from __future__ import annotations

from pathlib import Path

import typer

from vmferry.config import default_data_dir, load_config


def print_receipt(
    task_id: str = typer.Argument(metavar="TASK", help="The import task's id: import-ami-…"),
    data_dir: Path = typer.Option(None, metavar="FOLDER", help="The server's data directory."),
) -> None:
    """Print the signed receipt of a completed import, as JSON; `vmferry verify` checks it anywhere."""
    from vmferry.data_directory import task_receipt

    print(task_receipt(load_config(data_dir or default_data_dir()), task_id), end="")


COMMAND = print_receipt

"""``vmferry worker``: a process that does steps of tasks. ``serve`` starts these; they can run on other hosts, too."""

from __future__ import annotations

import gc
from pathlib import Path

import typer

from vmferry.config import load_config


def be_worker(
    data_dir: Path = typer.Option(..., help="The server's data directory."),
    temporal: str = typer.Option(..., help="host:port of the workflow server."),
    s3_endpoint: str = typer.Option(..., help="URL of the object store."),
) -> None:
    """Take steps of tasks from the workflow server and do them, until SIGTERM."""
    gc.disable()  # until all is loaded
    from vmferry.work import work

    work(load_config(data_dir), temporal, s3_endpoint, _wake_collector)


def _wake_collector() -> None:
    gc.freeze()
    gc.enable()


COMMAND = be_worker

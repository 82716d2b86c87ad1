"""``vmferry serve``: everything on one machine."""

from __future__ import annotations

import gc
import json
from pathlib import Path
from typing import Any

import typer

from vmferry.config import default_data_dir, load_config


def serve_everything(
    data_dir: Path = typer.Option(
        None,
        metavar="FOLDER",
        help="Where everything is kept; made when it is not there (default: ~/.local/share/vmferry).",
    ),
    port: int = typer.Option(
        None,
        metavar="NUMBER",
        min=0,
        max=65535,
        help="Port of the EC2 endpoint on 127.0.0.1; 0 for any that is free (default: 8773).",
    ),
    workers: int = typer.Option(
        None, metavar="NUMBER", min=1, max=256, help="Worker processes (default: one for each core)."
    ),
) -> None:
    """Run the EC2 endpoint, the S3 server and the workers, until SIGTERM or Ctrl-C.

    Prints one line of JSON when it is ready: the endpoints and the keys.
    """
    gc.disable()  # until all is loaded, EC2's model with its hundred thousand entries too
    from vmferry.app import serve

    serve(load_config(data_dir or default_data_dir(), port=port, workers=workers), _announce)


def _announce(facts: dict[str, Any]) -> None:
    gc.freeze()
    gc.enable()
    print(json.dumps(facts), flush=True)


COMMAND = serve_everything

"""``vmferry volumes``: the volumes of an endpoint, and the disk images behind them for whoever runs the server."""

from __future__ import annotations

from pathlib import Path

import typer

from vmferry.cli._client import api_errors, open_clients
from vmferry.cli._output import print_json, print_table
from vmferry.config import default_data_dir, load_config

COMMAND = typer.Typer(no_args_is_help=True, help="Your volumes, and the disk images behind them.")


@COMMAND.command("list")
def list_volumes(
    data_dir: Path = typer.Option(None, metavar="FOLDER", help="The data directory of the server to speak to."),
    aws: bool = typer.Option(False, "--aws", help="Speak to AWS itself."),
    as_json: bool = typer.Option(False, "--json", help="The API's answer as JSON."),
) -> None:
    """List your volumes, and what they hang on."""
    clients = open_clients(data_dir or default_data_dir(), aws=aws)
    with api_errors():
        pages = clients.ec2.get_paginator("describe_volumes").paginate()
        volumes = [volume for page in pages for volume in page["Volumes"]]
    if as_json:
        print_json({"Volumes": volumes})
        return
    rows = [
        (
            one["VolumeId"],
            one["State"],
            f"{one['Size']} GiB",
            one.get("SnapshotId") or None,
            " ".join(f"{held['InstanceId']}:{held['Device']}" for held in one["Attachments"]) or None,
        )
        for one in sorted(volumes, key=lambda one: str(one["CreateTime"]))
    ]
    print_table(
        ("volume", "state", "size", "snapshot", "attached to"), rows, "No volumes yet: `aws ec2 create-volume`."
    )


@COMMAND.command()
def locate(
    volume_id: str = typer.Argument(metavar="VOL", help="The volume's id: vol-…"),
    data_dir: Path = typer.Option(None, metavar="FOLDER", help="The server's data directory."),
    as_json: bool = typer.Option(False, "--json", help="One JSON object instead of a line."),
) -> None:
    """Print the path of the disk image that holds a volume: a standalone qcow2 that is the volume's alone to write."""
    from vmferry.app import volume_path

    path = volume_path(load_config(data_dir or default_data_dir()), volume_id)
    if as_json:
        print_json({"VolumeId": volume_id, "Path": str(path), "Format": "qcow2"})
    else:
        print(path)

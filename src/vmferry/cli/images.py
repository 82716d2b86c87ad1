"""``vmferry images``: the AMIs of an endpoint."""

from __future__ import annotations

from pathlib import Path

import typer

from vmferry.cli._client import api_errors, open_clients
from vmferry.cli._output import print_json, print_table
from vmferry.config import default_data_dir


def list_images(
    data_dir: Path = typer.Option(None, metavar="FOLDER", help="The data directory of the server to speak to."),
    aws: bool = typer.Option(False, "--aws", help="Speak to AWS itself."),
    as_json: bool = typer.Option(False, "--json", help="The API's answer as JSON."),
) -> None:
    """List your AMIs with their disks."""
    clients = open_clients(data_dir or default_data_dir(), aws=aws)
    with api_errors():
        pages = clients.ec2.get_paginator("describe_images").paginate(Owners=["self"])
        images = [image for page in pages for image in page["Images"]]
    if as_json:
        print_json({"Images": images})
        return
    rows = [
        (
            image["ImageId"],
            image["State"],
            image.get("BootMode"),
            " ".join(_device(mapping) for mapping in image["BlockDeviceMappings"]),
            image.get("Description") or image["Name"],
        )
        for image in sorted(images, key=lambda image: str(image["CreationDate"]))
    ]
    print_table(
        ("AMI", "state", "boot mode", "disks", "description"), rows, "No AMIs yet: import one, `vmferry import`."
    )


def _device(mapping: dict[str, dict[str, object]]) -> str:
    volume = mapping.get("Ebs", {})
    return f"{mapping['DeviceName']}={volume.get('SnapshotId')}:{volume.get('VolumeSize')}GiB"


COMMAND = list_images

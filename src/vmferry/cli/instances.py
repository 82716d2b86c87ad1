"""``vmferry instances``: the instances of an endpoint."""

from __future__ import annotations

from pathlib import Path

import typer

from vmferry.cli._client import api_errors, open_clients
from vmferry.cli._output import print_json, print_table
from vmferry.config import default_data_dir


def list_instances(
    data_dir: Path = typer.Option(None, metavar="FOLDER", help="The data directory of the server to speak to."),
    aws: bool = typer.Option(False, "--aws", help="Speak to AWS itself."),
    as_json: bool = typer.Option(False, "--json", help="The API's answer as JSON."),
) -> None:
    """List your instances with their volumes."""
    clients = open_clients(data_dir or default_data_dir(), aws=aws)
    with api_errors():
        pages = clients.ec2.get_paginator("describe_instances").paginate()
        instances = [one for page in pages for each in page["Reservations"] for one in each["Instances"]]
    if as_json:
        print_json({"Instances": instances})
        return
    rows = [
        (
            one["InstanceId"],
            one["State"]["Name"],
            one["InstanceType"],
            " ".join(f"{m['DeviceName']}={m['Ebs']['VolumeId']}" for m in one["BlockDeviceMappings"]),
            one.get("ImageId") or "imported",
        )
        for one in sorted(instances, key=lambda one: str(one["LaunchTime"]))
    ]
    print_table(
        ("instance", "state", "type", "volumes", "image"),
        rows,
        "No instances yet: import one (`ec2-import-instance`), or launch an AMI.",
    )


COMMAND = list_instances

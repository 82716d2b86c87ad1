"""``vmferry export``: an AMI into S3, in the format of another hypervisor."""

from __future__ import annotations

import uuid
from pathlib import Path

import typer

from vmferry.cli._client import api_errors, open_clients
from vmferry.cli._following import follow_task
from vmferry.cli._output import print_json


def export_machine(
    image_id: str = typer.Argument(metavar="AMI", help="The AMI's id."),
    target: str = typer.Argument(
        metavar="DST", help="s3://bucket/prefix: the object's key is the prefix, the task's id and the suffix."
    ),
    image_format: str = typer.Option(
        "VMDK", "--format", metavar="FORMAT", help="VMDK, VHD or RAW; VHDX, or OVA with all disks (not at AWS)."
    ),
    description: str = typer.Option(None, metavar="TEXT", help="Description of the task."),
    wait: bool = typer.Option(True, help="Follow the export to its end."),
    data_dir: Path = typer.Option(None, metavar="FOLDER", help="The data directory of the server to speak to."),
    aws: bool = typer.Option(False, "--aws", help="Speak to AWS itself."),
    as_json: bool = typer.Option(False, "--json", help="The task as JSON; progress as JSON lines on stderr."),
) -> None:
    """Export an AMI: start the export, follow it until the object is there, print where it is."""
    if not target.startswith("s3://"):
        raise typer.BadParameter(f"name where it shall go as s3://bucket/prefix, not {target!r}.")
    bucket, _, prefix = target.removeprefix("s3://").partition("/")
    clients = open_clients(data_dir, aws=aws)
    options = {"Description": description} if description is not None else {}
    with api_errors():
        task = clients.ec2.export_image(
            ImageId=image_id,
            DiskImageFormat=image_format,
            S3ExportLocation={"S3Bucket": bucket, "S3Prefix": prefix},
            ClientToken=str(uuid.uuid4()),
            **options,
        )
    task_id = task["ExportImageTaskId"]
    if wait:
        task = follow_task(clients, task_id, as_json=as_json)
    if as_json:
        print_json({name: value for name, value in task.items() if name != "ResponseMetadata"})
    else:
        print(f"s3://{bucket}/{prefix}{task_id}.{image_format.lower()}" if wait else task_id)


COMMAND = export_machine

"""``vmferry images``: the AMIs of an endpoint."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from vmferry.cli import _options as options
from vmferry.cli._client import Clients, api_errors, list_all, open_clients
from vmferry.cli._listing import change, listing_group, show
from vmferry.cli._output import print_json, print_note, print_table

COMMAND = listing_group("Your AMIs with their disks.")
_AMI: Any = typer.Argument(metavar="AMI", help="The AMI's id: ami-…")


@COMMAND.command("list")
def list_images(
    shared: bool = typer.Option(False, "--shared", help="Those that others share with you, instead of yours."),
    data_dir: Path = options.DATA_DIR,
    aws: bool = options.AWS,
    region: str = options.REGION,
    as_json: bool = options.ANSWER_AS_JSON,
) -> None:
    """List your AMIs with their disks."""
    clients = open_clients(data_dir, aws=aws, region=region)
    whose = {"ExecutableUsers": ["self"]} if shared else {"Owners": ["self"]}
    images = list_all(clients.ec2, "describe_images", "Images", **whose)
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
    none = "Nobody shares an AMI with you." if shared else "No AMIs yet: import one, `vmferry import`."
    print_table(("AMI", "state", "boot mode", "disks", "description"), rows, none)


@COMMAND.command("show")
def show_image(
    image_id: str = _AMI,
    data_dir: Path = options.DATA_DIR,
    aws: bool = options.AWS,
    region: str = options.REGION,
    as_json: bool = options.ANSWER_AS_JSON,
) -> None:
    """Show one AMI, and whom it is shared with."""
    clients = open_clients(data_dir, aws=aws, region=region)
    (image,) = list_all(clients.ec2, "describe_images", "Images", ImageIds=[image_id])
    facts = [
        ("AMI", image["ImageId"]),
        ("name", image["Name"]),
        ("description", image.get("Description")),
        ("state", image["State"]),
        ("made", image["CreationDate"]),
        ("owner", image["OwnerId"]),
        ("architecture", image["Architecture"]),
        ("platform", image.get("PlatformDetails")),
        ("boot mode", image.get("BootMode")),
        *((f"disk {mapping['DeviceName']}", _volume(mapping)) for mapping in image["BlockDeviceMappings"]),
        ("shared with", None if as_json else _shared_with(clients, image_id)),
    ]
    show(image, facts, as_json=as_json)


@COMMAND.command()
def delete(
    image_id: str = _AMI,
    snapshots: bool = typer.Option(False, "--snapshots", help="Delete its snapshots too, unless another AMI has them."),
    data_dir: Path = options.DATA_DIR,
    aws: bool = options.AWS,
    region: str = options.REGION,
    dry_run: bool = options.DRY_RUN,
    as_json: bool = options.ANSWER_AS_JSON,
) -> None:
    """Deregister an AMI. Its snapshots stay, unless --snapshots is given."""
    clients = open_clients(data_dir, aws=aws, region=region)
    answer = change(
        clients,
        "deregister_image",
        f"{image_id} is deleted.",
        as_json=as_json,
        ImageId=image_id,
        DryRun=dry_run,
        **({"DeleteAssociatedSnapshots": True} if snapshots else {}),
    )
    if kept := _kept(answer):
        print_note(f"{', '.join(kept)} stays: another AMI uses it.")


@COMMAND.command()
def share(
    image_id: str = _AMI,
    accounts: list[str] = options.ACCOUNTS,
    remove: bool = typer.Option(False, "--remove", help="Share it with them no more."),
    data_dir: Path = options.DATA_DIR,
    aws: bool = options.AWS,
    region: str = options.REGION,
    dry_run: bool = options.DRY_RUN,
    as_json: bool = options.ANSWER_AS_JSON,
) -> None:
    """Let other accounts launch an AMI, or no longer."""
    clients = open_clients(data_dir, aws=aws, region=region)
    change(
        clients,
        "modify_image_attribute",
        f"{image_id} is {'no longer shared' if remove else 'shared'} with {', '.join(accounts)}.",
        as_json=as_json,
        ImageId=image_id,
        LaunchPermission={"Remove" if remove else "Add": options.permissions(accounts)},
        DryRun=dry_run,
    )


@COMMAND.command("copy")
def copy_image(
    image_id: str = _AMI,
    source_region: str = typer.Option(..., "--from-region", metavar="NAME", help="The region that the AMI is in."),
    name: str = typer.Option(None, metavar="NAME", help="The copy's name (default: the AMI's id, and its region)."),
    description: str = options.DESCRIPTION,
    client_token: str = options.CLIENT_TOKEN,
    data_dir: Path = options.DATA_DIR,
    aws: bool = options.AWS,
    region: str = typer.Option(None, metavar="NAME", help="The region that the copy is for."),
    dry_run: bool = options.DRY_RUN,
    as_json: bool = options.ANSWER_AS_JSON,
) -> None:
    """Copy an AMI of another region into --region."""
    clients = open_clients(data_dir, aws=aws, region=region)
    change(
        clients,
        "copy_image",
        "{ImageId}",
        as_json=as_json,
        SourceImageId=image_id,
        SourceRegion=source_region,
        Name=name or f"{image_id} of {source_region}",
        ClientToken=client_token or str(uuid.uuid4()),
        DryRun=dry_run,
        **options.given(Description=description),
    )


def _device(mapping: Mapping[str, Any]) -> str:
    volume = mapping.get("Ebs", {})
    return f"{mapping['DeviceName']}={volume.get('SnapshotId')}:{volume.get('VolumeSize')}GiB"


def _volume(mapping: Mapping[str, Any]) -> str:
    """What one device of an AMI holds."""
    volume = mapping.get("Ebs")
    return f"{volume.get('SnapshotId')}, {volume.get('VolumeSize')} GiB" if volume else str(mapping.get("VirtualName"))


def _kept(answer: Mapping[str, Any]) -> list[str]:
    """The snapshots that were to go with an AMI and did not."""
    results = answer.get("DeleteSnapshotResults", ())
    return [str(one["SnapshotId"]) for one in results if one["ReturnCode"] != "success"]


def _shared_with(clients: Clients, image_id: str) -> str | None:
    """The accounts that may launch it; ``None`` where there are none, or that is its owner's to know."""
    from botocore.exceptions import ClientError

    with api_errors():
        try:
            answer = clients.ec2.describe_image_attribute(ImageId=image_id, Attribute="launchPermission")
        except ClientError:
            return None
    return ", ".join(str(one.get("UserId") or one.get("Group")) for one in answer["LaunchPermissions"]) or None

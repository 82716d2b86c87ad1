"""``vmferry volumes``: the volumes of an endpoint, and the disk images behind them for whoever runs the server."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from vmferry.cli import _options as options
from vmferry.cli._client import Clients, list_all, open_clients
from vmferry.cli._listing import change, listing_group, show
from vmferry.cli._output import print_json, print_table
from vmferry.config import default_data_dir, load_config

COMMAND = listing_group("Your volumes, and the disk images behind them.")
_VOLUME: Any = typer.Argument(metavar="VOL", help="The volume's id: vol-…")


@COMMAND.command("list")
def list_volumes(
    data_dir: Path = options.DATA_DIR,
    aws: bool = options.AWS,
    region: str = options.REGION,
    as_json: bool = options.ANSWER_AS_JSON,
) -> None:
    """List your volumes, and what they hang on."""
    clients = open_clients(data_dir, aws=aws, region=region)
    volumes = list_all(clients.ec2, "describe_volumes", "Volumes")
    if as_json:
        print_json({"Volumes": volumes})
        return
    rows = [
        (one["VolumeId"], one["State"], f"{one['Size']} GiB", one.get("SnapshotId") or None, _attached_to(one))
        for one in sorted(volumes, key=lambda one: str(one["CreateTime"]))
    ]
    none = "No volumes yet: make one of a snapshot, `vmferry volumes create --snapshot`."
    print_table(("volume", "state", "size", "snapshot", "attached to"), rows, none)


@COMMAND.command("show")
def show_volume(
    volume_id: str = _VOLUME,
    data_dir: Path = options.DATA_DIR,
    aws: bool = options.AWS,
    region: str = options.REGION,
    as_json: bool = options.ANSWER_AS_JSON,
) -> None:
    """Show one volume."""
    clients = open_clients(data_dir, aws=aws, region=region)
    (one,) = list_all(clients.ec2, "describe_volumes", "Volumes", VolumeIds=[volume_id])
    facts = [
        ("volume", one["VolumeId"]),
        ("state", one["State"]),
        ("size", f"{one['Size']} GiB"),
        ("type", one.get("VolumeType")),
        ("zone", one["AvailabilityZone"]),
        ("made", one["CreateTime"]),
        ("snapshot", one.get("SnapshotId")),
        ("attached to", _attached_to(one)),
        ("encrypted", one.get("Encrypted")),
    ]
    show(one, facts, as_json=as_json)


@COMMAND.command()
def create(
    snapshot_id: str | None = typer.Option(None, "--snapshot", metavar="SNAP", help="What it holds (default: zeros)."),
    size: int | None = typer.Option(None, metavar="GIB", min=1, help="Its size (default: the snapshot's)."),
    zone: str = typer.Option(None, metavar="NAME", help="Its availability zone (default: the region's first)."),
    tags: list[str] = options.TAGS,
    client_token: str = options.CLIENT_TOKEN,
    data_dir: Path = options.DATA_DIR,
    aws: bool = options.AWS,
    region: str = options.REGION,
    dry_run: bool = options.DRY_RUN,
    as_json: bool = options.ANSWER_AS_JSON,
) -> None:
    """Make a volume of a snapshot, or an empty one."""
    if snapshot_id is None and size is None:
        raise typer.BadParameter("name what it is made of with --snapshot, or how large it is with --size.")
    clients = open_clients(data_dir, aws=aws, region=region)
    change(
        clients,
        "create_volume",
        "{VolumeId}",
        as_json=as_json,
        AvailabilityZone=zone or _first_zone(clients),
        ClientToken=client_token or str(uuid.uuid4()),
        DryRun=dry_run,
        **options.given(SnapshotId=snapshot_id, Size=size),
        **options.tag_specification(tags, "volume"),
    )


@COMMAND.command()
def snapshot(
    volume_id: str = _VOLUME,
    description: str = options.DESCRIPTION,
    tags: list[str] = options.TAGS,
    data_dir: Path = options.DATA_DIR,
    aws: bool = options.AWS,
    region: str = options.REGION,
    dry_run: bool = options.DRY_RUN,
    as_json: bool = options.ANSWER_AS_JSON,
) -> None:
    """Make a snapshot of what a volume holds now."""
    clients = open_clients(data_dir, aws=aws, region=region)
    change(
        clients,
        "create_snapshot",
        "{SnapshotId}",
        as_json=as_json,
        VolumeId=volume_id,
        DryRun=dry_run,
        **options.given(Description=description),
        **options.tag_specification(tags, "snapshot"),
    )


@COMMAND.command()
def attach(
    volume_id: str = _VOLUME,
    instance_id: str = typer.Argument(metavar="INSTANCE", help="The instance's id: i-…"),
    device: str = typer.Argument("/dev/sdf", metavar="DEVICE", help="The device that the instance sees."),
    data_dir: Path = options.DATA_DIR,
    aws: bool = options.AWS,
    region: str = options.REGION,
    dry_run: bool = options.DRY_RUN,
    as_json: bool = options.ANSWER_AS_JSON,
) -> None:
    """Attach a volume to an instance."""
    clients = open_clients(data_dir, aws=aws, region=region)
    done, named = f"{volume_id} is attached to {instance_id} as {device}.", {"VolumeId": volume_id, "Device": device}
    change(clients, "attach_volume", done, as_json=as_json, InstanceId=instance_id, DryRun=dry_run, **named)


@COMMAND.command()
def detach(
    volume_id: str = _VOLUME,
    data_dir: Path = options.DATA_DIR,
    aws: bool = options.AWS,
    region: str = options.REGION,
    dry_run: bool = options.DRY_RUN,
    as_json: bool = options.ANSWER_AS_JSON,
) -> None:
    """Detach a volume from its instance."""
    clients = open_clients(data_dir, aws=aws, region=region)
    done = f"{volume_id} is detached."
    change(clients, "detach_volume", done, as_json=as_json, VolumeId=volume_id, DryRun=dry_run)


@COMMAND.command()
def delete(
    volume_id: str = _VOLUME,
    data_dir: Path = options.DATA_DIR,
    aws: bool = options.AWS,
    region: str = options.REGION,
    dry_run: bool = options.DRY_RUN,
    as_json: bool = options.ANSWER_AS_JSON,
) -> None:
    """Delete a volume that hangs on no instance."""
    clients = open_clients(data_dir, aws=aws, region=region)
    done = f"{volume_id} is deleted."
    change(clients, "delete_volume", done, as_json=as_json, VolumeId=volume_id, DryRun=dry_run)


@COMMAND.command()
def locate(
    volume_id: str = _VOLUME,
    data_dir: Path = typer.Option(None, metavar="FOLDER", help="The server's data directory."),
    as_json: bool = typer.Option(False, "--json", help="One JSON object instead of a line."),
) -> None:
    """Print the path of the disk image that holds a volume: a standalone qcow2 that is the volume's alone to write."""
    from vmferry.data_directory import volume_path

    path = volume_path(load_config(data_dir or default_data_dir()), volume_id)
    if as_json:
        print_json({"VolumeId": volume_id, "Path": str(path), "Format": "qcow2"})
    else:
        print(path)


def _attached_to(volume: Mapping[str, Any]) -> str | None:
    return " ".join(f"{held['InstanceId']}:{held['Device']}" for held in volume["Attachments"]) or None


def _first_zone(clients: Clients) -> str:
    zones = list_all(clients.ec2, "describe_availability_zones", "AvailabilityZones")
    return min(str(zone["ZoneName"]) for zone in zones if zone["State"] == "available")

"""``vmferry snapshots``: the snapshots of an endpoint, and the disk images behind them for whoever runs the server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from vmferry.cli import _options as options
from vmferry.cli._client import list_all, open_clients
from vmferry.cli._listing import change, listing_group, show
from vmferry.cli._output import print_json, print_table
from vmferry.config import default_data_dir, load_config

COMMAND = listing_group("Your snapshots, and the disk images behind them.")
_SNAPSHOT: Any = typer.Argument(metavar="SNAP", help="The snapshot's id: snap-…")


@COMMAND.command("list")
def list_snapshots(
    data_dir: Path = options.DATA_DIR,
    aws: bool = options.AWS,
    region: str = options.REGION,
    as_json: bool = options.ANSWER_AS_JSON,
) -> None:
    """List your snapshots."""
    clients = open_clients(data_dir, aws=aws, region=region)
    snapshots = list_all(clients.ec2, "describe_snapshots", "Snapshots", OwnerIds=["self"])
    if as_json:
        print_json({"Snapshots": snapshots})
        return
    rows = [
        (one["SnapshotId"], one["State"], f"{one['VolumeSize']} GiB", f"{one['StartTime']:%Y-%m-%d %H:%M}",
         one.get("Description") or None)
        for one in sorted(snapshots, key=lambda one: str(one["StartTime"]))
    ]  # fmt: skip
    none = "No snapshots yet: import one, `vmferry import --snapshot`."
    print_table(("snapshot", "state", "size", "made", "description"), rows, none)


@COMMAND.command("show")
def show_snapshot(
    snapshot_id: str = _SNAPSHOT,
    data_dir: Path = options.DATA_DIR,
    aws: bool = options.AWS,
    region: str = options.REGION,
    as_json: bool = options.ANSWER_AS_JSON,
) -> None:
    """Show one snapshot."""
    clients = open_clients(data_dir, aws=aws, region=region)
    (one,) = list_all(clients.ec2, "describe_snapshots", "Snapshots", SnapshotIds=[snapshot_id])
    facts = [
        ("snapshot", one["SnapshotId"]),
        ("description", one.get("Description")),
        ("state", one["State"]),
        ("reason", one.get("StateMessage")),
        ("progress", one.get("Progress")),
        ("made", one["StartTime"]),
        ("owner", one["OwnerId"]),
        ("size", f"{one['VolumeSize']} GiB"),
        ("encrypted", one.get("Encrypted")),
    ]
    show(one, facts, as_json=as_json)


@COMMAND.command()
def delete(
    snapshot_id: str = _SNAPSHOT,
    data_dir: Path = options.DATA_DIR,
    aws: bool = options.AWS,
    region: str = options.REGION,
    dry_run: bool = options.DRY_RUN,
    as_json: bool = options.ANSWER_AS_JSON,
) -> None:
    """Delete a snapshot that no AMI uses."""
    clients = open_clients(data_dir, aws=aws, region=region)
    done = f"{snapshot_id} is deleted."
    change(clients, "delete_snapshot", done, as_json=as_json, SnapshotId=snapshot_id, DryRun=dry_run)


@COMMAND.command()
def share(
    snapshot_id: str = _SNAPSHOT,
    accounts: list[str] = options.ACCOUNTS,
    remove: bool = typer.Option(False, "--remove", help="Share it with them no more."),
    data_dir: Path = options.DATA_DIR,
    aws: bool = options.AWS,
    region: str = options.REGION,
    dry_run: bool = options.DRY_RUN,
    as_json: bool = options.ANSWER_AS_JSON,
) -> None:
    """Let other accounts make volumes of a snapshot, or no longer."""
    clients = open_clients(data_dir, aws=aws, region=region)
    change(
        clients,
        "modify_snapshot_attribute",
        f"{snapshot_id} is {'no longer shared' if remove else 'shared'} with {', '.join(accounts)}.",
        as_json=as_json,
        SnapshotId=snapshot_id,
        Attribute="createVolumePermission",
        CreateVolumePermission={"Remove" if remove else "Add": options.permissions(accounts)},
        DryRun=dry_run,
    )


@COMMAND.command("copy")
def copy_snapshot(
    snapshot_id: str = _SNAPSHOT,
    source_region: str = typer.Option(..., "--from-region", metavar="NAME", help="The region that it is in."),
    description: str = options.DESCRIPTION,
    tags: list[str] = options.TAGS,
    data_dir: Path = options.DATA_DIR,
    aws: bool = options.AWS,
    region: str = typer.Option(None, metavar="NAME", help="The region that the copy is for."),
    dry_run: bool = options.DRY_RUN,
    as_json: bool = options.ANSWER_AS_JSON,
) -> None:
    """Copy a snapshot of another region into --region."""
    clients = open_clients(data_dir, aws=aws, region=region)
    change(
        clients,
        "copy_snapshot",
        "{SnapshotId}",
        as_json=as_json,
        SourceSnapshotId=snapshot_id,
        SourceRegion=source_region,
        DryRun=dry_run,
        **options.given(Description=description),
        **options.tag_specification(tags, "snapshot"),
    )


@COMMAND.command()
def locate(
    snapshot_id: str = _SNAPSHOT,
    data_dir: Path = typer.Option(None, metavar="FOLDER", help="The server's data directory."),
    as_json: bool = typer.Option(False, "--json", help="One JSON object instead of a line."),
) -> None:
    """Print the path of the disk image that holds a snapshot: a standalone qcow2, for any tool."""
    from vmferry.data_directory import snapshot_path

    path = snapshot_path(load_config(data_dir or default_data_dir()), snapshot_id)
    if as_json:
        print_json({"SnapshotId": snapshot_id, "Path": str(path), "Format": "qcow2"})
    else:
        print(path)

"""``vmferry instances``: the instances of an endpoint."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from vmferry.cli import _options as options
from vmferry.cli._client import list_all, open_clients
from vmferry.cli._listing import change, listing_group, show
from vmferry.cli._output import print_json, print_table

COMMAND = listing_group("Your instances with their volumes.")
_INSTANCE: Any = typer.Argument(metavar="INSTANCE", help="The instance's id: i-…")


@COMMAND.command("list")
def list_instances(
    data_dir: Path = options.DATA_DIR,
    aws: bool = options.AWS,
    region: str = options.REGION,
    as_json: bool = options.ANSWER_AS_JSON,
) -> None:
    """List your instances with their volumes."""
    clients = open_clients(data_dir, aws=aws, region=region)
    reservations = list_all(clients.ec2, "describe_instances", "Reservations")
    instances = [one for each in reservations for one in each["Instances"]]
    if as_json:
        print_json({"Instances": instances})
        return
    rows = [
        (one["InstanceId"], one["State"]["Name"], one["InstanceType"], " ".join(_volumes(one)) or None,
         one.get("ImageId") or "imported")
        for one in sorted(instances, key=lambda one: str(one["LaunchTime"]))
    ]  # fmt: skip
    none = "No instances yet: import one (`ec2-import-instance`), or launch an AMI (`vmferry instances run`)."
    print_table(("instance", "state", "type", "volumes", "image"), rows, none)


@COMMAND.command("show")
def show_instance(
    instance_id: str = _INSTANCE,
    data_dir: Path = options.DATA_DIR,
    aws: bool = options.AWS,
    region: str = options.REGION,
    as_json: bool = options.ANSWER_AS_JSON,
) -> None:
    """Show one instance."""
    clients = open_clients(data_dir, aws=aws, region=region)
    (reservation,) = list_all(clients.ec2, "describe_instances", "Reservations", InstanceIds=[instance_id])
    (one,) = reservation["Instances"]
    facts = [
        ("instance", one["InstanceId"]),
        ("state", one["State"]["Name"]),
        ("reason", (one.get("StateReason") or {}).get("Message")),
        ("type", one["InstanceType"]),
        ("image", one.get("ImageId") or "imported"),
        ("platform", one.get("PlatformDetails")),
        ("boot mode", one.get("BootMode")),
        ("zone", one["Placement"]["AvailabilityZone"]),
        ("launched", one["LaunchTime"]),
        *(("volume", volume) for volume in _volumes(one)),
    ]
    show(one, facts, as_json=as_json)


@COMMAND.command()
def run(
    image_id: str = typer.Argument(metavar="AMI", help="The AMI's id: ami-…"),
    instance_type: str = typer.Option(
        None, "--type", metavar="TYPE", help="Its size, in EC2's words (default: the endpoint's, which fits the AMI)."
    ),
    tags: list[str] = options.TAGS,
    client_token: str = options.CLIENT_TOKEN,
    data_dir: Path = options.DATA_DIR,
    aws: bool = options.AWS,
    region: str = options.REGION,
    dry_run: bool = options.DRY_RUN,
    as_json: bool = options.ANSWER_AS_JSON,
) -> None:
    """Launch an instance of an AMI."""
    clients = open_clients(data_dir, aws=aws, region=region)
    answer = change(
        clients,
        "run_instances",
        "",
        as_json=as_json,
        ImageId=image_id,
        MinCount=1,
        MaxCount=1,
        ClientToken=client_token or str(uuid.uuid4()),
        DryRun=dry_run,
        **options.given(InstanceType=instance_type),
        **options.tag_specification(tags, "instance", "volume"),
    )
    if answer and not as_json:
        print(answer["Instances"][0]["InstanceId"])


@COMMAND.command()
def image(
    instance_id: str = _INSTANCE,
    name: str = typer.Argument(metavar="NAME", help="The AMI's name."),
    description: str = options.DESCRIPTION,
    tags: list[str] = options.TAGS,
    data_dir: Path = options.DATA_DIR,
    aws: bool = options.AWS,
    region: str = options.REGION,
    dry_run: bool = options.DRY_RUN,
    as_json: bool = options.ANSWER_AS_JSON,
) -> None:
    """Make an AMI of an instance as it is now."""
    clients = open_clients(data_dir, aws=aws, region=region)
    change(
        clients,
        "create_image",
        "{ImageId}",
        as_json=as_json,
        InstanceId=instance_id,
        Name=name,
        DryRun=dry_run,
        **options.given(Description=description),
        **options.tag_specification(tags, "image", "snapshot"),
    )


def _add_state_command(word: str, done: str, text: str) -> None:
    """A command that changes the state of an instance: EC2 has one action for each."""

    def command(
        instance_id: str = _INSTANCE,
        data_dir: Path = options.DATA_DIR,
        aws: bool = options.AWS,
        region: str = options.REGION,
        dry_run: bool = options.DRY_RUN,
        as_json: bool = options.ANSWER_AS_JSON,
    ) -> None:
        clients = open_clients(data_dir, aws=aws, region=region)
        told = f"{instance_id} {done}"
        change(clients, f"{word}_instances", told, as_json=as_json, InstanceIds=[instance_id], DryRun=dry_run)

    COMMAND.command(word, help=text)(command)


_add_state_command("start", "starts.", "Start an instance.")
_add_state_command("stop", "stops.", "Stop an instance.")
_add_state_command("terminate", "is terminated.", "End an instance for good, and its volumes that are not to be kept.")


def _volumes(instance: Mapping[str, Any]) -> list[str]:
    return [f"{held['DeviceName']}={held['Ebs']['VolumeId']}" for held in instance["BlockDeviceMappings"]]

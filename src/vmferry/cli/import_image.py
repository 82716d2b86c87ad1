"""``vmferry import``: look at the role, upload, import, follow. The same way against vmferry and against AWS."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import typer

from vmferry import own_tags
from vmferry.aws.service_role import Purpose
from vmferry.cli import _options as options
from vmferry.cli._client import ApiError, Clients, api_errors, open_clients, without_metadata
from vmferry.cli._following import follow_task
from vmferry.cli._import_sources import (
    DEFAULT_BUCKET,
    check_files,
    made_by,
    prepare_buckets,
    read_sources,
    upload_sources,
)
from vmferry.cli._listing import check_dry_run, try_dry_run
from vmferry.cli._network import check_network
from vmferry.cli._output import print_json, print_note
from vmferry.cli._role_check import check_role
from vmferry.cli._task_kinds import view_task

_ONLY_IMAGES = {
    "BootMode": "--boot-mode",
    "LicenseType": "--license-type",
    "Platform": "--platform",
    "UsageOperation": "--usage-operation",
    "Prepare": "--prepare",
    "BootCheck": "--boot-check",
}
"""Parameters that ImportSnapshot does not have, and their options."""


def import_machine(
    sources: list[str] = typer.Argument(
        metavar="SRC...", help="An OVA, or the disks of one machine: files, or s3://bucket/key."
    ),
    bucket: str = typer.Option(None, metavar="NAME", help=f"Bucket to upload files to (default: {DEFAULT_BUCKET})."),
    key: str = typer.Option(None, metavar="PATH", help="Key to upload a file to (default: the file's name)."),
    image_format: str = typer.Option(
        None,
        "--format",
        metavar="FORMAT",
        help="OVA, VMDK, VHD, VHDX or RAW (default: what the bytes show; at AWS what the name says).",
    ),
    description: str = typer.Option(None, metavar="TEXT", help="Description of the task and the AMI."),
    boot_mode: str = typer.Option(None, metavar="MODE", help="legacy-bios or uefi (default: what the disk shows)."),
    license_type: str = typer.Option(None, metavar="TYPE", help="AWS or BYOL (default: what the system allows)."),
    platform: str = typer.Option(None, metavar="NAME", help="Windows or Linux (default: what the disk shows)."),
    usage_operation: str = typer.Option(None, metavar="CODE", help="What AWS bills, e.g. RunInstances:0800."),
    role: str = typer.Option(None, metavar="NAME", help="The role that the service takes on (default: vmimport)."),
    kms_key: str = typer.Option(None, metavar="KEY", help="Encrypt what is made with this key of KMS (at AWS)."),
    tags: list[str] = typer.Option(
        [], "--tag", metavar="KEY=VALUE", help="Tag of the task, and after --wait of what it made; may be given again."
    ),
    client_token: str = options.CLIENT_TOKEN,
    snapshot: bool = typer.Option(False, "--snapshot", help="Make a snapshot of one disk, and no AMI."),
    prepare: bool = typer.Option(
        False, "--prepare", help="Let the guest start on the hardware of vmferry: drivers into its initramfs …"
    ),
    network: str = typer.Option(
        None, metavar="CHOICE", help="With --prepare: keep the guest's addresses, or dhcp (default: keep)."
    ),
    boot_check: bool = typer.Option(
        False, "--boot-check", help="Start the machine once, under QEMU, before there is an AMI of it."
    ),
    wait: bool = typer.Option(True, help="Follow the import to its end."),
    check: bool = typer.Option(True, help="Look at the role first, and at AWS at the files."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Check everything that can be checked; upload nothing."),
    data_dir: Path = options.DATA_DIR,
    aws: bool = options.AWS,
    region: str = options.REGION,
    as_json: bool = typer.Option(False, "--json", help="The task as JSON; progress as JSON lines on stderr."),
) -> None:
    """Import a machine: upload it, start the import, follow it until there is an AMI (or a snapshot of one disk).

    The role is looked at before anything is uploaded; what it lacks is printed, with the commands that add it.
    An upload that was cut off goes on where it was when the same command is given again.
    """
    parameters = options.given(
        Description=description or ", ".join(Path(source).name for source in sources),
        BootMode=boot_mode,
        LicenseType=license_type,
        Platform=platform,
        UsageOperation=usage_operation,
        RoleName=role,
        KmsKeyId=kms_key,
        Encrypted=True if kms_key is not None else None,
    )
    asked_by_tag = _choices(prepare, boot_check, network)
    kind = "import-snapshot-task" if snapshot else "import-image-task"
    specified = options.tag_specification([*tags, *asked_by_tag], kind)
    if snapshot:
        _check_snapshot(sources, {**parameters, **options.given(Prepare=prepare or None, BootCheck=boot_check or None)})
    clients = open_clients(data_dir, aws=aws, region=region)
    if asked_by_tag and clients.is_aws:
        raise typer.BadParameter("--prepare and --boot-check are vmferry's; for AWS call the commands of those names.")
    found = read_sources(clients, sources, bucket, key, image_format)
    if check and clients.is_aws:
        check_files(found, machine=not snapshot)
    prepare_buckets(clients, found, dry_run=dry_run)
    if check:
        check_role(clients, role, Purpose.IMPORT, [(one.bucket, one.key) for one in found], as_json=as_json)
    containers = [one.container() for one in found]
    method = "import_snapshot" if snapshot else "import_image"
    disks = {"DiskContainer": containers[0]} if snapshot else {"DiskContainers": containers}
    asked = {**disks, **parameters, **specified}
    if dry_run:
        try_dry_run(clients, method, as_json=as_json, **asked)
        return
    check_dry_run(clients, method, **asked)  # what is refused is refused before the upload
    upload_sources(clients, found, as_json=as_json)
    task = _start(clients, method, client_token, asked)
    if wait:
        task = follow_task(clients, task["ImportTaskId"], as_json=as_json)
        _tag(clients, task, tags)
    _report(clients, task, as_json=as_json)


def _choices(prepare: bool, boot_check: bool, network: str | None) -> list[str]:
    """The tags by which vmferry is asked for what AWS does not have. Raises Typer's usage error."""
    chosen = ((own_tags.PREPARE, prepare), (own_tags.BOOT_CHECK, boot_check))
    asked = [f"{tag}={own_tags.AUTO}" for tag, wanted in chosen if wanted]
    if network is None:
        return asked
    check_network(network)
    if not prepare:
        raise typer.BadParameter("--network is for a guest that is prepared: give --prepare, too.")
    return [*asked, f"{own_tags.NETWORK}={network}"]


def _check_snapshot(sources: list[str], parameters: dict[str, Any]) -> None:
    """Raise Typer's usage error for what makes no snapshot."""
    if len(sources) > 1:
        raise typer.BadParameter("a snapshot is made of one disk. Import them one after another.")
    for parameter, option in _ONLY_IMAGES.items():
        if parameter in parameters:
            raise typer.BadParameter(f"{option} is an AMI's, and a snapshot has none. Leave it out.")


def _start(clients: Clients, method: str, token: str | None, parameters: dict[str, Any]) -> dict[str, Any]:
    """The task as it stands when it has just begun. Raises ``ApiError``."""
    # With a token of its own: boto3 repeats a call that got no answer, and that must not make a second task.
    try:
        with api_errors():
            return without_metadata(getattr(clients.ec2, method)(ClientToken=token or str(uuid.uuid4()), **parameters))
    except ApiError as error:
        if clients.is_aws and "service role" in str(error):
            told = f"{error} A role that was changed just now is known to AWS after a minute: give the command again."
            raise ApiError(told, code=error.code) from error
        raise


def _tag(clients: Clients, task: dict[str, Any], tags: list[str]) -> None:
    """Give what was made the task's tags: the service leaves it without. Raises ``ApiError``."""
    if tags:
        with api_errors():
            clients.ec2.create_tags(Resources=list(made_by(task)), Tags=options.read_tags(tags))


def _report(clients: Clients, task: dict[str, Any], *, as_json: bool) -> None:
    view = view_task(task)
    if as_json:
        print_json(task)
    else:
        print(view.result or view.id)
    if not view.has_ended:
        print_note(f"To follow it: {clients.command('tasks', 'show', view.id, '--wait')}")


COMMAND = import_machine

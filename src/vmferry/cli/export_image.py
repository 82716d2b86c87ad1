"""``vmferry export``: an AMI or an instance into S3, or to a file, in the format of another hypervisor."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import typer

from vmferry.aws.service_role import Purpose
from vmferry.cli import _options as options
from vmferry.cli._client import Clients, api_errors, open_clients, without_metadata
from vmferry.cli._export_kinds import Export, check_export, choose_format
from vmferry.cli._following import follow_task
from vmferry.cli._import_sources import check_bucket, make_bucket
from vmferry.cli._listing import try_dry_run
from vmferry.cli._output import print_json, print_note, show_progress
from vmferry.cli._role_check import check_role
from vmferry.cli._source import SCHEME
from vmferry.cli._task_kinds import view_task
from vmferry.errors import ConfigError, quote

DEFAULT_BUCKET = "vmferry-exports"
"""Where exports lie that go on to a file; made when it is not there, but never at AWS."""


def export_machine(
    subject: str = typer.Argument(metavar="ID", help="An AMI, or an instance that was imported: ami-… or i-…"),
    target: str = typer.Argument(
        metavar="DST",
        help="s3://bucket/prefix (the object's key is the prefix, the task's id and the suffix), or a file.",
    ),
    image_format: str = typer.Option(
        None,
        "--format",
        metavar="FORMAT",
        help="VMDK, VHD or RAW; VHDX, or OVA with all disks (of AMIs not at AWS). Default: DST's suffix, else VMDK; "
        "of an instance OVA.",
    ),
    environment: str = typer.Option(
        None,
        "--target",
        metavar="NAME",
        help="What an instance is for: vmware, microsoft or citrix (default: by format).",
    ),
    bucket: str = typer.Option(
        None, metavar="NAME", help=f"Bucket that a file comes by, and stays in (default: {DEFAULT_BUCKET})."
    ),
    description: str = typer.Option(None, metavar="TEXT", help="Description of the task."),
    role: str = typer.Option(None, metavar="NAME", help="The role that the service takes on (default: vmimport)."),
    tags: list[str] = options.TAGS,
    client_token: str = options.CLIENT_TOKEN,
    wait: bool = typer.Option(True, help="Follow the export to its end."),
    check: bool = typer.Option(True, help="Look at the role first."),
    dry_run: bool = options.DRY_RUN,
    data_dir: Path = options.DATA_DIR,
    aws: bool = options.AWS,
    region: str = options.REGION,
    as_json: bool = typer.Option(False, "--json", help="The task as JSON; progress as JSON lines on stderr."),
) -> None:
    """Export an AMI or an instance: start the export, follow it until the object is there, print where it is."""
    clients = open_clients(data_dir, aws=aws, region=region)
    file, place, prefix = _read_target(clients, target, bucket)
    if file is not None and not wait:
        raise typer.BadParameter(
            "a file is there at the end only. Leave --no-wait out, or export to s3://bucket/prefix."
        )
    wanted = choose_format(image_format, target, subject)
    export = Export(subject, wanted, place, prefix, description, tags, role, client_token, environment)
    check_export(export, is_aws=clients.is_aws)
    if dry_run and not export.is_of_image:
        raise typer.BadParameter("EC2 has no dry run of an instance's export. Leave --dry-run out.")
    _prepare_bucket(clients, place, named=place != DEFAULT_BUCKET or clients.is_aws, dry_run=dry_run)
    if check and export.is_of_image:
        check_role(clients, role, Purpose.EXPORT, [(place, export.key("export-ami-0"))], as_json=as_json)
    if dry_run:
        try_dry_run(clients, export.method, as_json=as_json, **export.parameters())
        return
    task_id, task = _start(clients, export)
    if wait:
        task = follow_task(clients, task_id, as_json=as_json)
    if file is not None:
        _download(clients, place, export.key(task_id), file, as_json=as_json)
    if as_json:
        print_json(task)
    elif wait:
        print(file or f"s3://{place}/{export.key(task_id)}")
    else:
        print(task_id)
    if not view_task(task).has_ended:
        print_note(f"To follow it: {clients.command('tasks', 'show', task_id, '--wait')}")


def _read_target(clients: Clients, target: str, bucket: str | None) -> tuple[Path | None, str, str]:
    """The file that is to be made, if one is; and the bucket and prefix. Raises ``ConfigError``, the usage error."""
    if target.startswith(SCHEME):
        place, _, prefix = target.removeprefix(SCHEME).partition("/")
        if not place:
            raise typer.BadParameter(f"name where it shall go as s3://bucket/prefix, not {quote(target)}.")
        if bucket is not None:
            raise typer.BadParameter("DST names the bucket already. Leave --bucket out.")
        return None, place, prefix
    file = Path(target)
    if file.exists():
        raise ConfigError(f"{quote(target)} is there already. Remove it, or name another file.")
    if not file.absolute().parent.is_dir():
        raise ConfigError(f"The folder of {quote(target)} does not exist. Make it first.")
    if bucket is None and clients.is_aws:
        raise ConfigError("Name a bucket of yours with --bucket, which the file comes by: at AWS none is made for you.")
    return file, bucket or DEFAULT_BUCKET, ""


def _prepare_bucket(clients: Clients, bucket: str, *, named: bool, dry_run: bool) -> None:
    if named:
        check_bucket(clients, bucket)
    elif not dry_run:
        make_bucket(clients, bucket)


def _start(clients: Clients, export: Export) -> tuple[str, dict[str, Any]]:
    """The id of the task, and the task as it stands when it has just begun. Raises ``ApiError``."""
    with api_errors():
        answer = without_metadata(getattr(clients.ec2, export.method)(**export.parameters()))
    task = answer.get("ExportTask", answer)
    return view_task(task).id, task


def _download(clients: Clients, bucket: str, key: str, file: Path, *, as_json: bool) -> None:
    """Fetch the object; the file appears when it is whole. Raises ``ApiError``; Ctrl-C says how to fetch it later."""
    source = f"s3://{bucket}/{key}"
    try:
        with api_errors():
            size = clients.s3.head_object(Bucket=bucket, Key=key)["ContentLength"]
            with show_progress(f"download {file.name}", size, as_json=as_json) as progress:
                clients.s3.download_file(bucket, key, str(file), Callback=progress)
    except KeyboardInterrupt:
        print(f"The export is done, and lies at {source}.", file=sys.stderr)
        raise
    print_note(f"It stays at {source}, too; `aws s3 rm` removes it there.")


COMMAND = export_machine

"""``ec2-resume-import``: upload what an import still lacks."""

from __future__ import annotations

import argparse
from pathlib import Path

from vmferry.cli._client import Clients
from vmferry.cli.classic._command import Command, Options
from vmferry.cli.classic._disk_file import look_at
from vmferry.cli.classic._lines import disks_of
from vmferry.cli.classic._manifest import place_of
from vmferry.cli.classic._tasks import find_task, manifest_url
from vmferry.cli.classic._transfer import check_transfer, declare_transfer, upload


def _declare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="the disk image that the import was begun with")
    parser.add_argument("-t", "--task", required=True, help="the conversion task's id")
    declare_transfer(parser)


def _act(clients: Clients, options: Options) -> None:
    check_transfer(options)
    task = find_task(clients, options.task)
    disk = disks_of(task)[0]
    image, volume = disk["Image"], disk.get("Volume") or {}
    file = look_at(
        options.file, image["Format"].upper(), volume_gib=volume.get("Size"), verify=not options.dont_verify_format
    )
    place = place_of(clients, manifest_url(task))
    if not options.dry_run:
        upload(clients, options, options.task, place, file)


COMMAND = Command("Upload the parts of a disk image that an import task still lacks.", _declare, _act)

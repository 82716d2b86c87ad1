"""``ec2-import-volume``: a disk image becomes an EBS volume."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from vmferry.cli._client import Clients
from vmferry.cli.classic._command import Command, Options
from vmferry.cli.classic._importing import declare_import, import_disk


def _declare(parser: argparse.ArgumentParser) -> None:
    declare_import(parser, zone_required=True)


def _act(clients: Clients, options: Options) -> None:
    described = {} if options.description is None else {"Description": options.description}

    def call(image: Mapping[str, Any], volume: Mapping[str, Any]) -> Mapping[str, Any]:
        answer: Mapping[str, Any] = clients.ec2.import_volume(
            AvailabilityZone=options.availability_zone, Image=image, Volume=volume, **described
        )
        return answer

    import_disk(clients, options, call)


COMMAND = Command("Import a disk image as a volume.", _declare, _act)

"""``ec2-import-instance``: a disk image becomes a stopped instance."""

from __future__ import annotations

import argparse
import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vmferry.cli._client import Clients
from vmferry.cli.classic._command import Command, Options, refuse
from vmferry.cli.classic._importing import declare_import, import_disk
from vmferry.errors import BlobNotFoundError, quote


def _declare(parser: argparse.ArgumentParser) -> None:
    declare_import(parser, zone_required=False)
    parser.add_argument("-t", "--instance-type", required=True, metavar="TYPE")
    parser.add_argument("-a", "--architecture", required=True, metavar="ARCH", help="i386 or x86_64")
    parser.add_argument("-p", "--platform", required=True, help="Windows or Linux")
    parser.add_argument("-g", "--group", action="append", metavar="GROUP", help="a security group's name or id")
    data = parser.add_mutually_exclusive_group()
    data.add_argument("--user-data", metavar="TEXT")
    data.add_argument("--user-data-file", type=Path, metavar="FILE")
    parser.add_argument("--subnet", metavar="SUBNET", help="the subnet's id")
    parser.add_argument("--private-ip-address", metavar="ADDRESS", help="in the subnet")
    parser.add_argument("--monitor", action="store_true", help="detailed monitoring")
    parser.add_argument("--instance-initiated-shutdown-behavior", choices=("stop", "terminate"))
    refuse(parser, ("--key",), "EC2 puts no key into an imported instance; that was Eucalyptus' own")


def _act(clients: Clients, options: Options) -> None:
    described = {} if options.description is None else {"Description": options.description}

    def call(image: Mapping[str, Any], volume: Mapping[str, Any]) -> Mapping[str, Any]:
        answer: Mapping[str, Any] = clients.ec2.import_instance(
            Platform=options.platform,
            LaunchSpecification=_launch_specification(options),
            DiskImages=[{"Image": image, "Volume": volume, **described}],
            **described,
        )
        return answer

    import_disk(clients, options, call)


def _launch_specification(options: Options) -> dict[str, Any]:
    groups = options.group or []
    wanted = {
        "Architecture": options.architecture,
        "InstanceType": options.instance_type,
        "GroupIds": [group for group in groups if group.startswith("sg-")],
        "GroupNames": [group for group in groups if not group.startswith("sg-")],
        "Placement": {"AvailabilityZone": options.availability_zone} if options.availability_zone else None,
        "SubnetId": options.subnet,
        "PrivateIpAddress": options.private_ip_address,
        "Monitoring": options.monitor or None,
        "InstanceInitiatedShutdownBehavior": options.instance_initiated_shutdown_behavior,
        "UserData": _user_data(options),
    }
    return {name: value for name, value in wanted.items() if value}


def _user_data(options: Options) -> dict[str, str] | None:
    """As EC2 takes it here: encoded by the caller."""
    if options.user_data_file is not None:
        try:
            data = options.user_data_file.read_bytes()
        except OSError as error:
            raise BlobNotFoundError(f"{quote(options.user_data_file)} cannot be read: {error.strerror}.") from error
    elif options.user_data is not None:
        data = options.user_data.encode()
    else:
        return None
    return {"Data": base64.b64encode(data).decode()}


COMMAND = Command("Import a disk image as an instance.", _declare, _act)

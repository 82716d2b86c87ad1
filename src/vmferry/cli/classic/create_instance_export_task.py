"""``ec2-create-instance-export-task``: an imported instance into S3, for another hypervisor."""

from __future__ import annotations

import argparse

from vmferry.cli._client import Clients, api_errors
from vmferry.cli.classic._command import Command, Options
from vmferry.cli.classic._lines import export_task_line


def _declare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("instance", metavar="INSTANCE", help="the instance's id")
    parser.add_argument("-e", "--target-environment", required=True, help="vmware, citrix or microsoft")
    parser.add_argument("-f", "--disk-image-format", required=True, metavar="FORMAT", help="vmdk or vhd")
    parser.add_argument("-c", "--container-format", metavar="FORMAT", help="ova")
    parser.add_argument("-b", "--s3-bucket", "--bucket", dest="bucket", required=True, help="where it goes")
    parser.add_argument("-p", "--s3-prefix", "--prefix", dest="prefix", metavar="PREFIX", help="before the task's id")
    parser.add_argument("-d", "--description", metavar="TEXT")


def _act(clients: Clients, options: Options) -> None:
    target = {
        "DiskImageFormat": options.disk_image_format,
        "ContainerFormat": options.container_format,
        "S3Bucket": options.bucket,
        "S3Prefix": options.prefix,
    }
    described = {} if options.description is None else {"Description": options.description}
    with api_errors():
        answer = clients.ec2.create_instance_export_task(
            InstanceId=options.instance,
            TargetEnvironment=options.target_environment,
            ExportToS3Task={name: value for name, value in target.items() if value is not None},
            **described,
        )
    print(export_task_line(answer["ExportTask"], show_empty=options.show_empty_fields))


COMMAND = Command("Export an imported instance into S3.", _declare, _act)

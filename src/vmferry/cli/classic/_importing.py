"""What ``ec2-import-instance`` and ``ec2-import-volume`` have in common: a file, a manifest, a task, an upload."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import typer

from vmferry.cli._client import ApiError, Clients, api_errors
from vmferry.cli.classic._command import Options
from vmferry.cli.classic._disk_file import DiskFile, look_at
from vmferry.cli.classic._manifest import Place, manifest_url, new_place, place_of
from vmferry.cli.classic._tasks import print_task
from vmferry.cli.classic._transfer import check_transfer, declare_transfer, upload
from vmferry.errors import ConfigError, quote

Import = Callable[[Mapping[str, Any], Mapping[str, Any]], Mapping[str, Any]]
"""From ``Image`` and ``Volume`` of the API to its answer."""

_FORMATS = ("RAW", "VHD", "VMDK")


def declare_import(parser: argparse.ArgumentParser, *, zone_required: bool) -> None:
    """The options of both."""
    parser.add_argument("file", type=Path, metavar="FILE", help="the disk image")
    parser.add_argument("-f", "--format", required=True, type=str.upper, choices=_FORMATS, help=", ".join(_FORMATS))
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("-b", "--bucket", help="where the parts and the manifest go; made when it is not there")
    where.add_argument("--manifest-url", metavar="URL", help="a presigned URL that reads the manifest, instead")
    parser.add_argument("--prefix", help="what the keys begin with")
    parser.add_argument("-z", "--availability-zone", metavar="ZONE", required=zone_required)
    parser.add_argument("-s", "--volume-size", type=int, metavar="GIB", help="(default: what the disk needs)")
    parser.add_argument("--image-size", type=int, metavar="BYTES", help="the disk's size, where its file is not read")
    parser.add_argument("-d", "--description", metavar="TEXT")
    parser.add_argument("--no-upload", action="store_true", help="only create the task; ec2-resume-import uploads")
    parser.add_argument(
        "--ignore-region-affinity", action="store_true", help="take a bucket of another region than the task's"
    )
    declare_transfer(parser)


def import_disk(clients: Clients, options: Options, call: Import) -> None:
    """Look at the file, create the task by ``call``, print it, upload the file."""
    check_transfer(options)
    if options.prefix is not None and options.manifest_url is not None:
        raise typer.BadParameter("--prefix belongs to --bucket: a manifest's URL says where everything lies.")
    disk = look_at(
        options.file,
        options.format,
        volume_gib=options.volume_size,
        capacity=options.image_size,
        verify=not options.dont_verify_format,
    )
    print(f"Requesting volume size: {disk.volume_gib} GB", flush=True)
    if options.dry_run:
        return
    place = _place(clients, options, disk)
    url = options.manifest_url or manifest_url(clients, place, options.expires)
    with api_errors():
        answer = call({"Format": disk.format, "Bytes": disk.size, "ImportManifestUrl": url}, {"Size": disk.volume_gib})
    task = answer["ConversionTask"]
    print_task(task)
    if not options.no_upload:
        upload(clients, options, task["ConversionTaskId"], place, disk)


def _place(clients: Clients, options: Options, disk: DiskFile) -> Place:
    """Where the manifest is to lie, in a bucket that is there and, at AWS, in the task's region."""
    if options.manifest_url is not None:
        place = place_of(clients, options.manifest_url)
    else:
        place = new_place(options.bucket, options.prefix, disk.path.name)
        _ensure_bucket(clients, options.bucket)
    if clients.is_aws and not options.ignore_region_affinity:
        check_affinity(_region_of(clients, place.bucket), clients.region, place.bucket)
    return place


def check_affinity(bucket_region: str, region: str, bucket: str) -> None:
    """Raise ``ConfigError`` where the bucket's region is not the task's."""
    if bucket_region != region:
        raise ConfigError(
            f"The bucket {quote(bucket)} is in {quote(bucket_region)}, and the task would be in {quote(region)}: name "
            "another bucket or --region, or give --ignore-region-affinity."
        )


def _region_of(clients: Clients, bucket: str) -> str:
    with api_errors():
        location = clients.s3.get_bucket_location(Bucket=bucket).get("LocationConstraint")
    return {None: "us-east-1", "": "us-east-1", "EU": "eu-west-1"}.get(location, str(location))


def _ensure_bucket(clients: Clients, bucket: str) -> None:
    try:
        with api_errors():
            clients.s3.head_bucket(Bucket=bucket)
    except ApiError as error:
        if error.facts.get("code") not in ("404", "NoSuchBucket"):
            raise
        where = {"CreateBucketConfiguration": {"LocationConstraint": clients.region}}
        with api_errors():
            clients.s3.create_bucket(
                Bucket=bucket, **(where if clients.is_aws and clients.region != "us-east-1" else {})
            )

"""What ``vmferry import`` is given: files to upload, and objects that lie in S3 already."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from vmferry.cli._client import ApiError, Clients, api_errors
from vmferry.cli._source import SCHEME
from vmferry.cli._uploading import upload_file
from vmferry.errors import BlobNotFoundError, ConfigError, quote

DEFAULT_BUCKET = "vmferry-imports"
"""Where files go when no bucket is named; made when it is not there, but never at AWS."""
_SUFFIXES = {".ova": "OVA", ".vmdk": "VMDK", ".vhd": "VHD", ".vhdx": "VHDX", ".raw": "RAW", ".img": "RAW"}


@dataclass(frozen=True, slots=True)
class ImportSource:
    """One file or object, and where in S3 it is imported from."""

    name: str
    """As it was given."""
    file: Path | None
    """What is to be uploaded; ``None`` for what lies in S3."""
    bucket: str
    key: str
    format: str | None
    """In EC2's words; ``None``: the service finds out."""

    def container(self) -> dict[str, Any]:
        """The disk container of ImportImage and ImportSnapshot."""
        stated = {} if self.format is None else {"Format": self.format}
        return {**stated, "UserBucket": {"S3Bucket": self.bucket, "S3Key": self.key}}


def read_sources(
    clients: Clients, names: Sequence[str], bucket: str | None, key: str | None, stated_format: str | None
) -> list[ImportSource]:
    """The sources in the order given. Raises ``BlobNotFoundError``, ``ConfigError``, Typer's usage error."""
    if key is not None and len(names) > 1:
        raise typer.BadParameter("--key names one object, and there are several files. Leave it out.")
    sources = [_read_source(clients, name, bucket, key, stated_format) for name in names]
    keys = Counter((source.bucket, source.key) for source in sources)
    (place, count), *_ = keys.most_common(1)
    if count > 1:
        raise ConfigError(
            f"{count} sources would be the same object, s3://{'/'.join(place)}. Rename files, or use --key."
        )
    return sources


def prepare_buckets(clients: Clients, sources: Sequence[ImportSource], *, dry_run: bool) -> None:
    """See that every bucket that is uploaded to is there, and at AWS that all lie in the region of the import.

    vmferry's own default bucket is made. Raises ``ApiError``, ``ConfigError``.
    """
    for bucket in dict.fromkeys(one.bucket for one in sources if one.file is not None or clients.is_aws):
        if bucket == DEFAULT_BUCKET and not clients.is_aws:
            if not dry_run:
                make_bucket(clients, bucket)
        else:
            check_bucket(clients, bucket)


def check_bucket(clients: Clients, bucket: str) -> None:
    """Raise ``ApiError`` where there is no such bucket for the caller, ``ConfigError`` for one of another region."""
    try:
        with api_errors():
            answer = clients.s3.head_bucket(Bucket=bucket)
    except ApiError as error:
        if error.code in ("404", "NoSuchBucket"):
            told = f"There is no bucket {quote(bucket)}. Make it (`aws s3 mb s3://{bucket}`), or name another."
            raise ApiError(told, code="NoSuchBucket") from error
        if error.code == "403":
            told = f"Your keys may not look at the bucket {quote(bucket)}. Name one of yours, or use other keys."
            raise ApiError(told, code="AccessDenied") from error
        raise
    region = answer["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region")
    if clients.is_aws and region not in (None, clients.region):
        raise ConfigError(
            f"The bucket {quote(bucket)} is in {quote(region)}, and AWS imports and exports within a region:"
            f" use --region {quote(region)}, or a bucket in {clients.region}."
        )


def check_files(sources: Sequence[ImportSource], *, machine: bool = False) -> None:
    """Raise ``ConfigError`` for a file that EC2 would refuse, with its reasons, before it is uploaded.

    ``machine``: whether a machine is made of it, so that what its disks hold counts, too.
    """
    from vmferry.cli._container import Said
    from vmferry.cli._ec2_verdict import file_refusals, guest_refusals
    from vmferry.cli._inspection import look_at

    for source in sources:
        if source.file is None:
            continue
        found = look_at(str(source.file), Said(), lambda blob: blob)
        if found.problem is not None:
            raise found.problem
        shown = (found.container or found.disks[0].format or "unknown").upper()
        reasons = list(file_refusals(found))
        if not reasons and shown != source.format:
            reasons = [f"it is said to be {source.format}, and shows {shown}"]
        if machine and len(sources) == 1:  # of several disks one has the system
            reasons += guest_refusals(found)
        if reasons:
            raise ConfigError(
                f"AWS would refuse {quote(source.name)}: {'; '.join(reasons)}."
                " `vmferry inspect` says more, and what to do; --no-check uploads it all the same."
            )


def upload_sources(clients: Clients, sources: Sequence[ImportSource], *, as_json: bool) -> None:
    """Upload those that are files, one after another. Raises ``ApiError``, ``BlobChangedError``."""
    for source in sources:
        if source.file is not None:
            upload_file(clients, source.file, source.bucket, source.key, as_json=as_json)


def _read_source(
    clients: Clients, name: str, bucket: str | None, key: str | None, stated_format: str | None
) -> ImportSource:
    wanted = _format_at_aws(name) if clients.is_aws and not stated_format else _format(stated_format)
    if name.startswith(SCHEME):
        named, _, path = name.removeprefix(SCHEME).partition("/")
        if not named or not path:
            raise typer.BadParameter(f"an object is s3://bucket/key, not {quote(name)}.")
        return ImportSource(name, None, named, path, wanted)
    file = Path(name)
    if not file.is_file():
        raise BlobNotFoundError(f"{quote(name)} does not exist, or is not a file. Check the path.")
    if bucket is None and clients.is_aws:
        raise ConfigError("Name a bucket of yours with --bucket: at AWS none is made for you.")
    return ImportSource(name, file, bucket or DEFAULT_BUCKET, key or file.name, wanted)


def _format(stated: str | None) -> str | None:
    """The format in EC2's words. Raises Typer's usage error for one that EC2 does not have."""
    if stated is not None and stated.upper() not in _SUFFIXES.values():
        raise typer.BadParameter(f"--format is OVA, VMDK, VHD, VHDX or RAW, not {quote(stated)}.")
    return None if stated is None else stated.upper()


def _format_at_aws(name: str) -> str:
    """What AWS must be told. Raises ``ConfigError`` for a name that does not say it."""
    wanted = _SUFFIXES.get(Path(name).suffix.lower())
    if wanted is None:
        raise ConfigError(
            f"{quote(name)} does not say by its name which format it has: add --format OVA, VMDK, VHD, VHDX or RAW. "
            "AWS takes no other: `vmferry convert` makes them."
        )
    return wanted


def make_bucket(clients: Clients, bucket: str) -> None:
    """Make a bucket that is not there. Raises ``ApiError``."""
    with api_errors():
        if bucket not in [found["Name"] for found in clients.s3.list_buckets()["Buckets"]]:
            clients.s3.create_bucket(Bucket=bucket)


def made_by(task: dict[str, Any]) -> Iterator[str]:
    """The ids of what an import has made: the AMI, and the snapshots."""
    found = (task, task.get("SnapshotTaskDetail", {}), *task.get("SnapshotDetails", ()))
    for facts in found:
        yield from (str(facts[name]) for name in ("ImageId", "SnapshotId") if facts.get(name))

"""The manifest of an upload: where it lies, how it is made for a file, and how it is read again."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from vmferry.cli._client import ApiError, Clients, api_errors
from vmferry.cli.classic._disk_file import DiskFile
from vmferry.cli.classic._upload import FilePart
from vmferry.errors import ConfigError, UnsafeDiskError, quote
from vmferry.import_manifest import MAX_MANIFEST_SIZE, MAX_PARTS, ImportManifest, ManifestPart, parse_manifest
from vmferry.stores.s3 import parse_location
from vmferry.units import MIB, format_size

MAX_EXPIRES_DAYS = 7
"""The longest that a presigned URL of Signature Version 4 is good for; a conversion task lives no longer."""
MAX_PART_SIZE = 256 * MIB
"""A part is read whole before it is sent."""
_DAY = 86_400
_SUFFIX = "manifest.xml"
_AWS_HOST = re.compile(r"(?:(?P<bucket>.+)\.)?s3[.-][a-z0-9.-]*amazonaws\.com(?:\.cn)?")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a manifest lies; its parts lie beside it."""

    bucket: str
    key: str

    @property
    def folder(self) -> str:
        """What the keys of its parts begin with."""
        return self.key.rpartition("/")[0] + "/"


def new_place(bucket: str, prefix: str | None, name: str) -> Place:
    """``[PREFIX/]UUID/NAMEmanifest.xml``, as AWS's tool calls it."""
    begin = f"{prefix.strip('/')}/" if prefix else ""
    return Place(bucket, f"{begin}{uuid.uuid4()}/{name}{_SUFFIX}")


def place_of(clients: Clients, url: str) -> Place:
    """The bucket and key that a manifest's URL names, of which its signature is no part.

    Raises ``ConfigError`` for a URL of another S3 than the one that is spoken to.
    """
    parts = urlsplit(url)
    # A bucket of AWS's is none of the server that is spoken to, which may have another one of that name.
    of_aws = _AWS_HOST.fullmatch(parts.hostname or "") if clients.is_aws else None
    if of_aws is not None and of_aws["bucket"]:
        return Place(of_aws["bucket"], unquote(parts.path.removeprefix("/")))
    try:
        return Place(*parse_location(url, f"{parts.scheme}://{parts.netloc}" if of_aws else _s3_url(clients)))
    except UnsafeDiskError as error:
        raise ConfigError(
            f"The manifest {quote(url.partition('?')[0])} lies in another S3 than {quote(_s3_url(clients))}: "
            "name its endpoint with --s3-url."
        ) from error


def make_manifest(clients: Clients, place: Place, disk: DiskFile, part_size: int, days: int) -> ImportManifest:
    """The manifest of ``disk``, cut into parts of ``part_size`` bytes; every URL in it is good for ``days``."""
    count = -(-disk.size // part_size)
    if count > MAX_PARTS or part_size > MAX_PART_SIZE:
        raise ConfigError(
            f"{quote(disk.path)} would be {count:,} parts of {format_size(part_size)}: a manifest has at most "
            f"{MAX_PARTS:,}, and a part {format_size(MAX_PART_SIZE)}. Choose another --part-size."
        )
    sign = _signer(clients, place.bucket, days)
    stem = place.key.removesuffix(_SUFFIX)

    def part(index: int) -> ManifestPart:
        start, key = index * part_size, f"{stem}.part{index}"
        return ManifestPart(
            index=index,
            start=start,
            end=min(start + part_size, disk.size) - 1,
            key=key,
            head_url=sign("head_object", key),
            get_url=sign("get_object", key),
            delete_url=sign("delete_object", key),
        )

    return ImportManifest(
        file_format=disk.format,
        size=disk.size,
        volume_gib=disk.volume_gib,
        self_destruct_url=sign("delete_object", place.key),
        parts=tuple(map(part, range(count))),
    )


def manifest_url(clients: Clients, place: Place, days: int) -> str:
    """A presigned URL that reads the manifest."""
    return str(_signer(clients, place.bucket, days)("get_object", place.key))


def fetch_manifest(clients: Clients, place: Place) -> ImportManifest | None:
    """The manifest that lies there; ``None`` where nothing does.

    Its parts must lie beside it: others' objects are no business of whoever wrote it. Raises ``ApiError``,
    ``FormatError``.
    """
    try:
        with api_errors():
            content = clients.s3.get_object(Bucket=place.bucket, Key=place.key)["Body"].read(MAX_MANIFEST_SIZE + 1)
    except ApiError as error:
        if error.facts.get("code") in ("NoSuchKey", "NoSuchBucket", "404"):
            return None
        raise
    manifest = parse_manifest(content)
    for part in manifest.parts:
        if not part.key.startswith(place.folder):
            raise ConfigError(
                f"The manifest {quote(place.key)} names {quote(part.key)}, which does not lie below "
                f"{quote(place.folder)}: it is left alone."
            )
    return manifest


def file_parts(manifest: ImportManifest) -> list[FilePart]:
    return [FilePart(part.key, part.start, part.length) for part in manifest.parts]


def in_batches(keys: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (keys[at : at + size] for at in range(0, len(keys), size))


def _signer(clients: Clients, bucket: str, days: int) -> Any:
    def sign(method: str, key: str) -> str:
        parameters = {"Bucket": bucket, "Key": key}
        return str(clients.s3.generate_presigned_url(method, Params=parameters, ExpiresIn=days * _DAY))

    return sign


def _s3_url(clients: Clients) -> str:
    return str(clients.s3.meta.endpoint_url)

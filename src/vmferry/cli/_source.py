"""What ``convert`` and ``inspect`` read: a local file, or an object in S3; and which format it is in."""

from __future__ import annotations

import os
from pathlib import Path

from vmferry import appliances, formats
from vmferry.blob import Blob, FileBlob
from vmferry.errors import ConfigError, UnsupportedFeatureError, quote
from vmferry.formats import Format
from vmferry.units import SECTOR

_SCHEME = "s3://"

_UNREAD = (
    (0, b"conectix", "a VHD"),
    (0, b"vhdxfile", "a VHDX"),
    (64, b"\x7f\x10\xda\xbe", "a VDI"),
    (0, b"QED\0", "a QED image"),
)
"""Place, magic and name of disk images that would otherwise pass for raw disks."""


def open_source(source: str) -> Blob:
    """The blob at a path or at ``s3://bucket/key``. Raises ``StoreError``, ``ConfigError``."""
    if not source.startswith(_SCHEME):
        return FileBlob(Path(source))
    from vmferry.stores.s3 import S3Options, S3Store, parse_location

    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    bucket, key = parse_location(source, endpoint)
    options = S3Options(
        endpoint=endpoint,
        access_key_id=os.environ.get("AWS_ACCESS_KEY_ID"),
        secret_access_key=os.environ.get("AWS_SECRET_ACCESS_KEY"),
        session_token=os.environ.get("AWS_SESSION_TOKEN"),
        region=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1",
        allow_http=bool(endpoint and endpoint.startswith("http://")),
    )
    options.check()
    return S3Store(options).open(bucket, key)


def check_local(target: str) -> Path:
    """``target`` as a local path. Raises ``ConfigError`` for an S3 URL: only local files are written."""
    if target.startswith(_SCHEME):
        raise ConfigError(
            f"{quote(target)}: conversions are written to local files; copy the result up with `aws s3 cp`."
        )
    return Path(target)


def detect_format(blob: Blob) -> Format:
    """The format of the disk image ``blob``. Reads a few KiB.

    Raises ``UnsupportedFeatureError`` for what would pass for a raw disk and is none: a copy of it would be of no use.
    """
    found = formats.detect(blob)
    if found.name != "raw":
        return found
    if (wrapper := appliances.wrapping(blob)) is not None:
        raise UnsupportedFeatureError(f"{quote(blob.name)} is a {wrapper} file: unpack it first.")
    what = _unread_kind(blob)
    if what is not None:
        raise UnsupportedFeatureError(
            f"{quote(blob.name)} is {what}, which vmferry does not read yet: "
            "export the disk as a streamOptimized VMDK, or convert it to raw with `qemu-img convert -O raw`."
        )
    return found


def reads_remotely(source: str) -> bool:
    """Whether every read of ``source`` waits for a network."""
    return source.startswith(_SCHEME)


def _unread_kind(blob: Blob) -> str | None:
    head = blob.read_at(0, min(blob.size, SECTOR))
    for place, magic, name in _UNREAD:
        if head.startswith(magic, place):
            return name
    tail = blob.read_at(blob.size - SECTOR, SECTOR) if blob.size > SECTOR else b""
    # A fixed VHD is a raw disk with a footer; old Virtual PC wrote one of 511 bytes.
    return "a fixed VHD" if tail.startswith(b"conectix") or tail.startswith(b"conectix", 1) else None

"""Import manifests that are there already when a conversion is asked for: whether they can be used, and what they tell
of their disks' sizes.
"""

from __future__ import annotations

from collections.abc import Sequence

from vmferry.catalog.import_tasks import DiskContainer
from vmferry.ec2.actions import RequestContext
from vmferry.ec2.errors import Ec2Error
from vmferry.errors import AccessDeniedError, StoreError, VmferryError
from vmferry.import_manifest import MAX_MANIFEST_SIZE, ImportManifest, parse_manifest
from vmferry.stores.s3 import parse_location
from vmferry.units import GIB, to_gib


def check_image_size(size: int, most_gib: int, said_by: str) -> None:
    """Raise ``Ec2Error`` for a disk image of more than ``most_gib`` GiB."""
    if size > most_gib * GIB:
        raise Ec2Error(
            "DiskImageSizeTooLarge",
            f"The disk image exceeds the allowed limit | It has {size:,} bytes, as {said_by} says; at most "
            f"{most_gib:,} GiB are imported by this action.",
        )


def check_volume_holds(size: int, volume_gib: int) -> None:
    """Raise ``Ec2Error`` for a raw disk of ``size`` bytes that its volume does not hold."""
    if size > volume_gib * GIB:
        raise Ec2Error(
            "InvalidParameterValue",
            f"Volume of size {volume_gib}GB is smaller than the disk image, expect size >= {to_gib(size)}GB",
        )


def check_manifests(context: RequestContext, containers: Sequence[DiskContainer], most_gib: int) -> None:
    """Raise ``Ec2Error`` for a manifest that cannot be used, that the account may not read, whose parts lie elsewhere
    than in the object store, or that tells of a disk of another format or of more than ``most_gib`` GiB.

    The upload may come after the call: for a manifest that is not there yet the task waits.
    """
    for container in containers:
        manifest = _read(context, container)
        if manifest is None:
            continue
        if manifest.file_format != container.format:
            raise Ec2Error(
                "InvalidFormat",
                f"Value ({container.format}) for parameter format is invalid. | Its manifest is that of a "
                f"{manifest.file_format}.",
            )
        raw = manifest.length if manifest.file_format == "RAW" else 0
        check_image_size(max(manifest.size, raw), most_gib, "its manifest")
        check_volume_holds(raw, container.volume_size_gib)
        _check_places(context, manifest)


def _read(context: RequestContext, container: DiskContainer) -> ImportManifest | None:
    try:
        blob = context.services.objects(context.place).open(container.bucket or "", container.key or "")
        try:
            content = blob.read_at(0, min(blob.size, MAX_MANIFEST_SIZE + 1))
        finally:
            blob.close()
    except AccessDeniedError as error:
        raise Ec2Error("InaccessibleStorageLocation", f"The manifest's URL cannot be accessed. | {error}") from error
    except StoreError:
        return None
    return parse_manifest(content)


def _check_places(context: RequestContext, manifest: ImportManifest) -> None:
    for part in manifest.parts:
        try:
            parse_location(part.get_url, context.services.s3_endpoint)
        except VmferryError as error:
            raise Ec2Error(
                "InaccessibleStorageLocation", f"The URL of part {part.index} cannot be accessed. | {error}"
            ) from error

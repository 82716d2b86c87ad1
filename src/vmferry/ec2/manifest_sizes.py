"""What an import manifest tells of its disk's size, where it is there already when a conversion is asked for."""

from __future__ import annotations

from collections.abc import Sequence

from vmferry.catalog.import_tasks import DiskContainer
from vmferry.ec2.actions import RequestContext
from vmferry.ec2.errors import Ec2Error
from vmferry.errors import VmferryError
from vmferry.import_manifest import MAX_MANIFEST_SIZE, ImportManifest, parse_manifest
from vmferry.units import GIB


def check_image_size(size: int, most_gib: int, said_by: str) -> None:
    """Raise ``Ec2Error`` for a disk image of more than ``most_gib`` GiB."""
    if size > most_gib * GIB:
        raise Ec2Error(
            "DiskImageSizeTooLarge",
            f"The disk image exceeds the allowed limit | It has {size:,} bytes, as {said_by} says; at most "
            f"{most_gib:,} GiB are imported by this action.",
        )


def check_manifest_sizes(context: RequestContext, containers: Sequence[DiskContainer], most_gib: int) -> None:
    """Raise ``Ec2Error`` for a manifest that tells of a disk of more than ``most_gib`` GiB.

    The upload may come after the call: a manifest that is not there yet, or is none, is for the task to say.
    """
    for container in containers:
        manifest = _read(context, container)
        if manifest is not None:
            raw = manifest.length if manifest.file_format == "RAW" else 0
            check_image_size(max(manifest.size, raw), most_gib, "its manifest")


def _read(context: RequestContext, container: DiskContainer) -> ImportManifest | None:
    try:
        blob = context.services.objects(context.place).open(container.bucket or "", container.key or "")
        try:
            return parse_manifest(blob.read_at(0, min(blob.size, MAX_MANIFEST_SIZE + 1)))
        finally:
            blob.close()
    except VmferryError:
        return None

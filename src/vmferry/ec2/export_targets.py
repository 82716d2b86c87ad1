"""What is looked at before an export is recorded: the bucket that it goes to, and how large the disks are."""

from __future__ import annotations

from collections.abc import Iterable

from vmferry.catalog.export_tasks import ExportTask
from vmferry.ec2.actions import RequestContext
from vmferry.ec2.errors import Ec2Error
from vmferry.errors import BlobNotFoundError, StoreUnavailableError


def check_export_target(context: RequestContext, task: ExportTask) -> None:
    """Fail at once for a bucket that is not there; whether it may be written to, the task finds out first of all."""
    try:
        context.services.objects(context.place).create(task.bucket, task.key).abort()
    except StoreUnavailableError:
        return  # the task waits for it
    except BlobNotFoundError as error:
        raise Ec2Error("InvalidParameter", f"Invalid S3 destination location | {error}") from error


def check_export_sizes(context: RequestContext, refusal: Ec2Error, sizes_gib: Iterable[int]) -> None:
    """Raise ``refusal``, with the reason, for a disk that is larger than exports may be."""
    most, largest = context.services.quotas.export_gib, max(sizes_gib)
    if largest > most:
        raise Ec2Error(refusal.code, f"{refusal} | A disk has {largest:,} GiB; at most {most:,} are exported.")

"""Where exports go: the bucket, looked at before a task is recorded."""

from __future__ import annotations

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

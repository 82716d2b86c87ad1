"""What is looked at before an export is recorded: the bucket that it goes to, and how large the disks are."""

from __future__ import annotations

from collections.abc import Iterable

from vmferry.catalog.export_tasks import ExportTask
from vmferry.ec2.actions import RequestContext
from vmferry.ec2.errors import Ec2Error
from vmferry.ec2.service_roles import role_error
from vmferry.errors import AccessDeniedError, BlobNotFoundError, StoreError, StoreUnavailableError
from vmferry.stores import Store, SupportsUpload

_SERVICE = "READ_ACL and WRITE permissions are required on the destination bucket."
"""What EC2 says of a bucket that grants its service too little."""


def check_export_target(context: RequestContext, task: ExportTask) -> None:
    """Try at once what the task will need of its bucket: to upload, to view the bucket's access control list, and for
    an instance, whose bucket EC2 wants to have WRITE on, to delete. Nothing is left behind.

    The rights are those of the account, which is what the task writes with. Raises ``Ec2Error``.
    """
    try:
        _try_bucket(context.services.objects(context.place), task)
    except StoreUnavailableError:
        return  # the task waits for it
    except BlobNotFoundError as error:
        raise Ec2Error("InvalidParameter", f"Invalid S3 destination location | {error}") from error
    except AccessDeniedError as error:
        if task.image_id is not None:
            raise role_error(task.role_name, str(error)) from error
        raise Ec2Error("AuthFailure", f"{_SERVICE} | {error}") from error


def _try_bucket(store: Store, task: ExportTask) -> None:
    if not isinstance(store, SupportsUpload):
        store.create(task.bucket, task.key).abort()
        return
    store.check_upload(task.bucket, task.key)
    if task.instance_id is not None:
        store.delete(task.bucket, task.key)  # which has the id of this task alone: nothing is there
    try:
        store.check_acl(task.bucket)
    except AccessDeniedError:
        raise
    except StoreError:
        return  # the service has no such lists


def check_export_sizes(context: RequestContext, refusal: Ec2Error, sizes_gib: Iterable[int]) -> None:
    """Raise ``refusal``, with the reason, for a disk that is larger than exports may be."""
    most, largest = context.services.quotas.export_gib, max(sizes_gib)
    if largest > most:
        raise Ec2Error(refusal.code, f"{refusal} | A disk has {largest:,} GiB; at most {most:,} are exported.")

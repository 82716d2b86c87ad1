"""The border between our errors and what a task shows: one table, and the rule of what is tried again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Protocol

import structlog
from sqlalchemy.exc import OperationalError
from temporalio import activity
from temporalio.exceptions import ApplicationError, CancelledError

from vmferry.errors import (
    AccessDeniedError,
    BlobChangedError,
    BlobNotFoundError,
    FormatError,
    GuestError,
    LimitExceededError,
    OutOfSpaceError,
    StoreError,
    TaskCancelledError,
    UnknownFormatError,
    UnsafeDiskError,
    UnsupportedFeatureError,
    UploadUnfinishedError,
    VmferryError,
)
from vmferry.tasks import Services

UPLOAD_TIME = timedelta(days=7)
"""How long the parts of a classic import may take to arrive (EC2: a week)."""

_FAULT_ATTEMPTS = 4
"""How often a step that fails by a fault of ours is tried before the task fails."""

_SENTENCES: tuple[tuple[type[VmferryError], str], ...] = (
    (BlobNotFoundError, "Disk validation failed [We do not have access to the given resource. Reason 404 Not Found]"),
    (AccessDeniedError, "Disk validation failed [We do not have access to the given resource. Reason 403 Forbidden]"),
    (BlobChangedError, "Disk validation failed [The resource was changed during the import]"),
    (UnknownFormatError, "Disk validation failed [Unsupported specified file format]"),
    (UnsupportedFeatureError, "Disk validation failed [Unsupported {format} File Format]"),
    (LimitExceededError, "Disk image size or format not supported"),
    (UnsafeDiskError, "Disk validation failed [Unsupported {format} File Format]"),
    (FormatError, "Disk validation failed [Invalid {format} file]"),
    (GuestError, "Unknown OS / Missing OS files."),
)
"""AWS's own sentences, which scripts match on; the first class that fits counts. Ours follow behind a bar."""


def status_message(error: VmferryError, disk_format: str = "disk image") -> str:
    """What StatusMessage says of ``error``: who is at fault, AWS's sentence, then ours with facts and remedy."""
    if isinstance(error, TaskCancelledError):
        return str(error)
    if "declared" in error.facts:  # as AWS has it for a raw disk that is called a VMDK
        declared = str(error.facts["declared"]).upper()
        return f"ClientError: Disk validation failed [Unsupported {declared} File Format] | {error}"
    if isinstance(error, GuestError) and "ec2_words" in error.facts:  # of preflight; EC2 has no words for all of it
        words = f"{error.facts['ec2_words']} | " if error.facts["ec2_words"] else ""
        return f"{words}{error}" if words.startswith("FirstBootFailure") else f"ClientError: {words}{error}"
    for kind, sentence in _SENTENCES:
        if isinstance(error, kind):
            return f"ClientError: {sentence.format(format=disk_format)} | {error}"
    who = "ClientError" if error.client_fault else "ServerError"
    return f"{who}: an internal error has occurred during conversion. | {error}"


class SupportsWait(Protocol):
    """Tasks that can say what they wait for."""

    def wait(self, task_id: str, what: str) -> datetime:
        """See ``ImportTasks.wait``."""


@contextmanager
def border(
    services: Services, task_id: str, disk_format: str = "disk image", tasks: SupportsWait | None = None
) -> Iterator[None]:
    """Change what a step raises into what the workflow server understands, and say what the task waits for.

    A fault of the user's ends the task; a failure that may pass is tried again, for as long as the configuration lets
    a task wait without moving; a fault of ours is tried a few times and ends the task with its id in the message.
    ``tasks`` are those of the task's kind: imports, where nothing is said.
    """
    kept: SupportsWait = tasks or services.catalog.import_tasks
    try:
        yield
    except (ApplicationError, CancelledError):
        raise
    except TaskCancelledError as error:
        raise ApplicationError(str(error), type="TaskCancelledError", non_retryable=True) from error
    except VmferryError as error:
        give_up = not error.retryable or _has_waited_enough(services, kept, task_id, error)
        message = status_message(error, disk_format)
        raise ApplicationError(message, type=type(error).__name__, non_retryable=give_up) from error
    except OperationalError as error:  # the database is busy or away: it comes back
        raise ApplicationError(f"The catalog cannot be reached: {error.orig}.", type="CatalogError") from error
    except Exception as error:
        structlog.get_logger("vmferry.tasks").exception("fault in a task", task=task_id)
        message = (
            "ServerError: an internal error has occurred during conversion. | This is a fault in vmferry "
            f"({type(error).__name__}, task {task_id}); the server's log has the details."
        )
        give_up = activity.info().attempt >= _FAULT_ATTEMPTS
        raise ApplicationError(message, type="Fault", non_retryable=give_up) from error


def _has_waited_enough(services: Services, tasks: SupportsWait, task_id: str, error: VmferryError) -> bool:
    what = "room on the disk" if isinstance(error, OutOfSpaceError) else "the object store"
    if not isinstance(error, StoreError):
        what = "another try"
    if isinstance(error, UploadUnfinishedError):
        what = "the upload"
    since = tasks.wait(task_id, f"waiting for {what}: {error}")
    patience = UPLOAD_TIME if what == "the upload" else timedelta(seconds=services.config.give_up_seconds)
    return datetime.now(UTC) - since > patience

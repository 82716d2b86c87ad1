"""What StatusMessage says: who is at fault, AWS's sentence, then ours."""

from __future__ import annotations

import pytest

from vmferry.errors import (
    AccessDeniedError,
    BlobNotFoundError,
    CorruptDiskError,
    StoreError,
    TaskCancelledError,
    UnknownFormatError,
    UnsupportedFeatureError,
    VmferryError,
)
from vmferry.tasks._border import status_message

FAILED = "ClientError: Disk validation failed"


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            AccessDeniedError("ours"),
            f"{FAILED} [We do not have access to the given resource. Reason 403 Forbidden] | ours",
        ),
        (
            BlobNotFoundError("ours"),
            f"{FAILED} [We do not have access to the given resource. Reason 404 Not Found] | ours",
        ),
        (
            UnsupportedFeatureError("ours"),
            "ClientError: Disk validation failed [Unsupported VMDK File Format] | ours",
        ),
        (UnknownFormatError("ours"), "ClientError: Disk validation failed [Unsupported specified file format] | ours"),
        (
            UnknownFormatError("ours", declared="vhd"),
            "ClientError: Disk validation failed [Unsupported VHD File Format] | ours",
        ),
        (CorruptDiskError("ours"), "ClientError: Disk validation failed [Invalid VMDK file] | ours"),
        (StoreError("ours"), "ServerError: an internal error has occurred during conversion. | ours"),
        (TaskCancelledError("User initiated task cancelation"), "User initiated task cancelation"),
    ],
)
def test_a_message_begins_with_the_sentence_that_scripts_match(error: VmferryError, sentence: str) -> None:
    assert status_message(error, "VMDK") == sentence

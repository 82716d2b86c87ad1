"""CompleteSnapshot: no more blocks; the snapshot is to be completed."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Any

from vmferry.catalog.snapshot_uploads import ACTIVE, COMPLETED
from vmferry.ebs.errors import CONFLICT, EbsError, invalid
from vmferry.ebs.operations import Operation, RequestContext
from vmferry.ebs.uploads import find_upload, hold_blocks
from vmferry.snapshot_blocks import SnapshotBlocks

_CHECKSUM_MEMBERS = ("Checksum", "ChecksumAlgorithm", "ChecksumAggregationMethod")


def complete_snapshot(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    """What was put is checked here, against the count and the checksum; the image is made by a task.

    Asked again, with what fits what was put, the answer is the snapshot's state.
    """
    asked = request["ChangedBlocksCount"], _checksum(request)
    snapshot, upload = find_upload(context, request["SnapshotId"])
    try:
        with hold_blocks(context, upload, shared=False) as blocks:
            count, checksum = _summarize(blocks)
            _check(asked, count, checksum)
            context.services.catalog.snapshot_uploads.ask_completion(snapshot.id, count, checksum)
    except EbsError as error:
        if error.code != CONFLICT:
            raise
        return _repeat(context, snapshot.id, asked, error)
    context.services.wake()
    return {"Status": snapshot.state}


def _repeat(
    context: RequestContext, snapshot_id: str, asked: tuple[int, str | None], refusal: EbsError
) -> dict[str, Any]:
    """The answer to who asks again; it is ``refusal`` where the snapshot has ended in another way."""
    snapshot, upload = find_upload(context, snapshot_id)
    if upload.status not in (ACTIVE, COMPLETED) or upload.changed_blocks is None or upload.checksum is None:
        raise refusal
    _check(asked, upload.changed_blocks, upload.checksum)
    return {"Status": snapshot.state}


def _checksum(request: Mapping[str, Any]) -> str | None:
    """The checksum over all blocks, if one is given. Raises ``EbsError`` for half of one."""
    given = [name for name in _CHECKSUM_MEMBERS if name in request]
    if given and len(given) != len(_CHECKSUM_MEMBERS):
        raise _mismatch(f"Checksum, ChecksumAlgorithm and ChecksumAggregationMethod belong together; {given[0]} came")
    return request.get("Checksum")


def _summarize(blocks: SnapshotBlocks) -> tuple[int, str]:
    """How many blocks were put, and the checksum over all of them."""
    count, all_of_them = 0, hashlib.sha256()
    for _, digest in blocks.digests():
        count += 1
        all_of_them.update(digest)
    return count, base64.b64encode(all_of_them.digest()).decode()


def _check(asked: tuple[int, str | None], count: int, checksum: str) -> None:
    """Raise ``EbsError`` unless what is ``asked`` is what was put."""
    if asked[0] != count:
        raise _mismatch(f"ChangedBlocksCount is {asked[0]:,}, but {count:,} blocks were put")
    if asked[1] not in (None, checksum):
        raise _mismatch("The Checksum is not the SHA-256 of the SHA-256 of all blocks that were put, in their order")


def _mismatch(why: str) -> EbsError:
    return invalid(f"{why}.")


OPERATION = Operation("CompleteSnapshot", complete_snapshot)

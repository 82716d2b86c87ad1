"""CompleteSnapshot: no more blocks; the snapshot is to be completed."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Any

from vmferry.catalog.snapshot_uploads import ACTIVE, COMPLETED
from vmferry.ebs.errors import EbsError, invalid
from vmferry.ebs.operations import Operation, RequestContext
from vmferry.ebs.uploads import find_upload, hold_blocks
from vmferry.snapshot_blocks import SnapshotBlocks

_CHECKSUM_MEMBERS = ("Checksum", "ChecksumAlgorithm", "ChecksumAggregationMethod")


def complete_snapshot(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    """What was put is checked here, against the count and the checksum; the image is made by a task.

    Asked again, with the same count, the answer is the snapshot's state.
    """
    count, checksum = request["ChangedBlocksCount"], _checksum(request)
    snapshot, upload = find_upload(context, request["SnapshotId"])
    if upload.status in (ACTIVE, COMPLETED) and upload.changed_blocks == count:
        return {"Status": snapshot.state}
    with hold_blocks(context, upload, shared=False) as blocks:
        _check_blocks(blocks, count, checksum)
        context.services.catalog.snapshot_uploads.ask_completion(snapshot.id, count)
    context.services.wake()
    return {"Status": snapshot.state}


def _checksum(request: Mapping[str, Any]) -> str | None:
    """The checksum over all blocks, if one is given. Raises ``EbsError`` for half of one."""
    given = [name for name in _CHECKSUM_MEMBERS if name in request]
    if given and len(given) != len(_CHECKSUM_MEMBERS):
        raise _mismatch(f"Checksum, ChecksumAlgorithm and ChecksumAggregationMethod belong together; {given[0]} came")
    return request.get("Checksum")


def _check_blocks(blocks: SnapshotBlocks, count: int, checksum: str | None) -> None:
    """Raise ``EbsError`` unless ``count`` blocks were put, and ``checksum`` is that of theirs, one after the other."""
    found, all_of_them = 0, hashlib.sha256()
    for _, digest in blocks.digests():
        found += 1
        all_of_them.update(digest)
    if found != count:
        raise _mismatch(f"ChangedBlocksCount is {count:,}, but {found:,} blocks were put")
    if checksum is not None and checksum != base64.b64encode(all_of_them.digest()).decode():
        raise _mismatch("The Checksum is not the SHA-256 of the SHA-256 of all blocks that were put, in their order")


def _mismatch(why: str) -> EbsError:
    return invalid(f"{why}.")


OPERATION = Operation("CompleteSnapshot", complete_snapshot)

"""PutSnapshotBlock: the bytes of one block, into a snapshot that was started."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping
from typing import Any

from vmferry.ebs.errors import EbsError, invalid
from vmferry.ebs.operations import Operation, RequestContext
from vmferry.ebs.snapshots import check_block
from vmferry.ebs.uploads import find_open, hold_blocks
from vmferry.snapshot_blocks import EBS_BLOCK_SIZE


def put_snapshot_block(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    """Answered when the block is durable. In any order, from anywhere; the last put of a block counts."""
    data, index = request["BlockData"], request["BlockIndex"]
    digest = _check_data(data, request["DataLength"], request["Checksum"])
    snapshot, upload = find_open(context, request["SnapshotId"])
    check_block(snapshot, index)
    with hold_blocks(context, upload, shared=True) as blocks:
        blocks.put(index, data, digest)
    progress = request.get("Progress")
    if progress is not None and progress > (snapshot.progress or 0):
        context.services.catalog.snapshot_uploads.report(snapshot.id, progress)
    return {"Checksum": request["Checksum"], "ChecksumAlgorithm": request["ChecksumAlgorithm"]}


def _check_data(data: bytes, length: int, checksum: str) -> bytes:
    """The SHA-256 of ``data``, which the client says is ``length`` bytes with ``checksum``. Raises ``EbsError``."""
    if length != EBS_BLOCK_SIZE or len(data) != EBS_BLOCK_SIZE:
        raise _wrong(
            f"A block has {EBS_BLOCK_SIZE:,} bytes; x-amz-Data-Length says {length:,}, and {len(data):,} arrived"
        )
    digest = hashlib.sha256(data).digest()
    try:
        given = base64.b64decode(checksum, validate=True)
    except binascii.Error as error:
        raise _wrong("x-amz-Checksum is not base64") from error
    if given != digest:
        raise _wrong("The SHA-256 of the block that arrived is not the one in x-amz-Checksum: send it again")
    return digest


def _wrong(why: str) -> EbsError:
    return invalid(f"{why}.", "INVALID_BLOCK")


OPERATION = Operation("PutSnapshotBlock", put_snapshot_block)

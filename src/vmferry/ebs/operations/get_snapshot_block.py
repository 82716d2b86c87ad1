"""GetSnapshotBlock: the bytes of one block."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Any

from vmferry.ebs.operations import Operation, RequestContext
from vmferry.ebs.snapshots import check_block, find_completed
from vmferry.snapshot_blocks import EBS_BLOCK_SIZE


def get_snapshot_block(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    """Always a whole block: what lies behind the volume's end reads as zeros."""
    services, index = context.services, request["BlockIndex"]
    snapshot = find_completed(services.catalog, context.place, request["SnapshotId"])
    check_block(snapshot, index)
    services.token_key.check_block_token(request["BlockToken"], snapshot.id, index, services.clock())
    offset = index * EBS_BLOCK_SIZE
    with services.disks.borrow(snapshot) as disk:
        data = bytes(disk.read_at(offset, min(EBS_BLOCK_SIZE, disk.size - offset))).ljust(EBS_BLOCK_SIZE, b"\0")
    return {
        "DataLength": len(data),
        "BlockData": data,
        "Checksum": base64.b64encode(hashlib.sha256(data).digest()).decode(),
        "ChecksumAlgorithm": "SHA256",
    }


OPERATION = Operation("GetSnapshotBlock", get_snapshot_block)

"""ListSnapshotBlocks: which blocks of a snapshot hold something."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from vmferry.convert import find_granules
from vmferry.disk import Disk
from vmferry.ebs.listing import begin_listing
from vmferry.ebs.operations import Operation, RequestContext
from vmferry.ebs.snapshots import find_completed
from vmferry.snapshot_blocks import EBS_BLOCK_SIZE


def list_snapshot_blocks(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    """From the disk's map alone: no block is read."""
    services = context.services
    snapshot = find_completed(services.catalog, context.place, request["SnapshotId"])
    listing = begin_listing(services, f"blocks of {snapshot.id}", request)
    with services.disks.borrow(snapshot) as disk:
        found = list(islice(_blocks(disk, listing.start), listing.most + 1))
    following = found.pop() if len(found) > listing.most else None
    blocks = [{"BlockIndex": index, "BlockToken": listing.token(snapshot.id, index)} for index in found]
    return {"Blocks": blocks, **listing.answer(snapshot.size, following)}


def _blocks(disk: Disk, first: int) -> Iterator[int]:
    """The blocks with DATA, from ``first`` on, ascending."""
    begin = first * EBS_BLOCK_SIZE
    if begin >= disk.size:
        return
    for start, end in find_granules(disk.extents(begin), EBS_BLOCK_SIZE, disk.size):
        yield from range(start // EBS_BLOCK_SIZE, -(-end // EBS_BLOCK_SIZE))


OPERATION = Operation("ListSnapshotBlocks", list_snapshot_blocks)

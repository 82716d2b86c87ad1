"""ListChangedBlocks: which blocks of two snapshots differ, whatever they have to do with one another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vmferry.catalog.snapshots import Snapshot
from vmferry.convert import Changes, find_changes
from vmferry.disk import Disk
from vmferry.ebs.errors import invalid
from vmferry.ebs.listing import Listing, begin_listing
from vmferry.ebs.operations import Operation, RequestContext
from vmferry.ebs.snapshots import find_completed
from vmferry.extent import ExtentKind
from vmferry.snapshot_blocks import EBS_BLOCK_SIZE

PAGE_SECONDS = 5.0
"""How long the disks are compared for one page: clients wait a minute, and then ask again from the start."""


def list_changed_blocks(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    """By content. A page may be short, or empty, and yet not be the last one. A volume is as long as the longer one."""
    services, place = context.services, context.place
    if "FirstSnapshotId" not in request:
        raise invalid("FirstSnapshotId must be specified: the snapshot that SecondSnapshotId is compared with.")
    first = find_completed(services.catalog, place, request["FirstSnapshotId"])
    second = find_completed(services.catalog, place, request["SecondSnapshotId"])
    listing = begin_listing(services, f"changes from {first.id} to {second.id}", request)
    with services.disks.borrow(first) as one, services.disks.borrow(second) as other:
        changes = Changes([], None)
        if not _are_same(first, second):
            changes = find_changes(one, other, EBS_BLOCK_SIZE, listing.start, listing.most, PAGE_SECONDS)
        blocks = [
            {
                "BlockIndex": index,
                "FirstBlockToken": _token(listing, first, one, index),
                "SecondBlockToken": _token(listing, second, other, index),
            }
            for index in changes.units
        ]
    return {"ChangedBlocks": blocks, **listing.answer(max(first.size, second.size), changes.following)}


def _are_same(first: Snapshot, second: Snapshot) -> bool:
    """Whether what is known without reading is enough: a copy has the digest of what it was copied from."""
    return first.id == second.id or (first.digest is not None and first.digest == second.digest)


def _token(listing: Listing, snapshot: Snapshot, disk: Disk, index: int) -> str | None:
    """The token of a block; ``None`` where the snapshot has none."""
    start = index * EBS_BLOCK_SIZE
    if start >= disk.size:
        return None
    extents = disk.extents(start, start + EBS_BLOCK_SIZE)
    return listing.token(snapshot.id, index) if any(e.kind is ExtentKind.DATA for e in extents) else None


OPERATION = Operation("ListChangedBlocks", list_changed_blocks)

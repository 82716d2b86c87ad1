"""The caller's snapshots, and the disks behind them."""

from __future__ import annotations

from contextlib import AbstractContextManager

from vmferry.catalog import Catalog
from vmferry.catalog.places import Place
from vmferry.catalog.snapshots import COMPLETED, Snapshot
from vmferry.disk import Disk
from vmferry.ebs.errors import NOT_FOUND, EbsError, invalid
from vmferry.errors import NotFoundError
from vmferry.formats import FORMATS, open_disk
from vmferry.keep import Keep
from vmferry.snapshot_blocks import EBS_BLOCK_SIZE
from vmferry.stores.local import LocalStore
from vmferry.units import to_gib

_OPEN_DISKS = 4
"""Disks that stay open between requests; each keeps up to 16 MiB of tables."""


class OpenDisks:
    """The disks of completed snapshots, open. Thread-safe."""

    def __init__(self, images: LocalStore) -> None:
        self._images = images
        self._disks = Keep[Disk](_OPEN_DISKS)

    def borrow(self, snapshot: Snapshot) -> AbstractContextManager[Disk]:
        """The disk of ``snapshot``; it stays open at least until the block ends. Raises ``StoreError``."""
        return self._disks.borrow(
            snapshot.id, lambda: open_disk(self._images.open(snapshot.bucket, snapshot.key), FORMATS["qcow2"])
        )

    def close_removed(self, catalog: Catalog) -> None:
        """Close the disks of snapshots that are no more: their bytes take room until then."""
        for snapshot_id in self._disks.held():
            if catalog.snapshots.find(snapshot_id) is None:
                self._disks.forget(snapshot_id)


def find_snapshot(catalog: Catalog, place: Place, snapshot_id: str) -> Snapshot:
    """The snapshot of the caller. Raises ``EbsError``."""
    try:
        (snapshot,) = catalog.snapshots.describe(place, [snapshot_id])
    except NotFoundError as error:
        raise EbsError(NOT_FOUND, str(error), "SNAPSHOT_NOT_FOUND") from error
    return snapshot


def find_completed(catalog: Catalog, place: Place, snapshot_id: str) -> Snapshot:
    """The same, if it can be read."""
    snapshot = find_snapshot(catalog, place, snapshot_id)
    if snapshot.state != COMPLETED:
        raise invalid(
            f"The snapshot '{snapshot_id}' is {snapshot.state}: only completed snapshots can be read.",
            "INVALID_SNAPSHOT_ID",
        )
    return snapshot


def check_block(snapshot: Snapshot, index: int) -> None:
    """Raise ``EbsError`` for a block that lies behind the end of the volume."""
    count = -(-snapshot.size // EBS_BLOCK_SIZE)
    if index >= count:
        raise invalid(
            f"Block {index} lies behind the end of the volume of {to_gib(snapshot.size)} GiB, "
            f"whose last block is {count - 1}.",
            "INVALID_BLOCK",
        )

"""Disk → DiskWriter: ``plan`` says what there is to do, ``copy`` does it, ``verify`` looks at what came of it."""

from __future__ import annotations

from vmferry.convert.changes import Changes, find_changes
from vmferry.convert.copy import MAX_THREADS, Cancelled, CopyResult, copy, default_workers, find_unit
from vmferry.convert.plan import Slice, count_granules, cut, find_granules, plan_slices
from vmferry.convert.verify import compare_disks, count_data, digest_disk

__all__ = [
    "MAX_THREADS",
    "Cancelled",
    "Changes",
    "CopyResult",
    "Slice",
    "compare_disks",
    "copy",
    "count_data",
    "count_granules",
    "cut",
    "default_workers",
    "digest_disk",
    "find_changes",
    "find_granules",
    "find_unit",
    "plan_slices",
]

"""Disk → DiskWriter: ``plan`` says what there is to do, ``copy`` does it."""

from __future__ import annotations

from vmferry.convert.copy import CopyResult, copy
from vmferry.convert.plan import Slice, find_granules, plan_slices

__all__ = ["CopyResult", "Slice", "copy", "find_granules", "plan_slices"]

"""Windows systems inside disks."""

from __future__ import annotations

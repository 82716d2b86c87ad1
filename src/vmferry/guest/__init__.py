"""What is inside a disk: ``partitions`` reads the tables, ``boot`` says whether and how it boots."""

from __future__ import annotations

from vmferry.guest.boot import Bootability, BootFacts, find_boot_facts, pick_root
from vmferry.guest.partitions import Partition, PartitionTable, read_partition_table

__all__ = [
    "BootFacts",
    "Bootability",
    "Partition",
    "PartitionTable",
    "find_boot_facts",
    "pick_root",
    "read_partition_table",
]

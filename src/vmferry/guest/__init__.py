"""What is inside a disk: ``partitions`` reads the tables, ``boot`` says whether and how it boots, ``look`` what system.

``look`` starts a child process without rights, in which ``inside`` goes from disks to facts: ``window`` (bytes),
``superblocks`` and ``lvm`` (what stands where), ``volumes``, ``filesystems`` (their files), ``mounts``, ``tree`` and
``files`` (the files of one system), ``linux`` and ``windows`` (what they tell), ``systems`` (which one will start).

``preflight`` judges a machine by its ``evidence``: each of the ``rules`` makes ``findings``. ``hardware`` is what its
system starts on as it is; ``boot_check`` starts it.

``prepare`` changes a Linux system, on an ``overlay`` and never on its source: ``writable_linux`` (the system),
``ext_writer``, ``fat_writer`` and ``overlay_volume`` (what writes to it: each a ``file_writer``), ``workbench`` (the
files that are changed), ``device_names``, ``network_mending``, ``tools_masking`` and ``efi_fallback`` (what else is),
``preparation`` (the record), ``overlay_file`` (the changes, kept). Other programs do it where ours does not
(``guestfish``, ``virt_v2v``): in ``confinement``, on a ``layer`` over the overlay.
"""

from __future__ import annotations

from vmferry.guest.boot import Bootability, BootFacts, find_boot_facts, pick_root
from vmferry.guest.look import Looker, SpareLooker, look
from vmferry.guest.partitions import Partition, PartitionTable, read_partition_table

__all__ = [
    "BootFacts",
    "Bootability",
    "Looker",
    "Partition",
    "PartitionTable",
    "SpareLooker",
    "find_boot_facts",
    "look",
    "pick_root",
    "read_partition_table",
]

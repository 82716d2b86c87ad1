"""How much a stranger's file may claim: every bound that a reader checks before it allocates, in one place.

The table in ``docs/formats.md`` is made from this file: a number, and the sentence below it.
"""

from __future__ import annotations

from vmferry.units import KIB, MIB, TIB

MAX_DISK_SIZE = 64 * TIB
"""Guest bytes of the largest virtual disk: a larger claim is taken for an attack, not for a disk."""

MAX_PARENTS = 32
"""Disks of a chain of snapshots, above its base."""

MAX_EXTENT_FILES = 4096
"""Files that the data of one VMDK lies in: 8 TiB in pieces of 2 GiB."""

MAX_VMDK_DESCRIPTOR = 64 * KIB
"""Bytes of a VMDK descriptor that is a file of its own; the largest in the field take a few KiB."""

MAX_OVF_DESCRIPTOR = 8 * MIB
"""Bytes of an OVF descriptor, or of another hypervisor's description of a machine."""

MAX_XML_DEPTH = 64
"""Elements inside one another."""

MAX_MANIFEST = MIB
"""Bytes of a manifest or a certificate."""

MAX_MACHINE_DISKS = 21
"""Disks of one machine, the root disk included: EC2's limit."""

MAX_FOLDER_FILES = 10_000
"""Files looked at in a folder that holds a machine."""

MAX_FOLDER_DEPTH = 3
"""Folders inside one another that are looked into."""

MAX_UNPACKED = 64 * TIB
"""Bytes that come out of a packed file (gzip, xz, zstd, bzip2, zip)."""

MAX_WRAPPERS = 1
"""Packings around a disk image or an appliance: what came out of one is never unpacked again."""

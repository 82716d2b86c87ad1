"""Our own reader and writer of FAT, as far as an EFI system partition needs it: files are found, read, and added.

``layout``: what the boot sector says; ``table``: which clusters are whose; ``folders``: names; ``filesystem``: files.
What is damaged is refused with a sentence and left as it is.

Source: Microsoft's "FAT File System Specification" (2005), and the long names of its 1.03.
"""

from __future__ import annotations

from vmferry.guest.fat_writer.filesystem import FatFileSystem

__all__ = ["FatFileSystem"]

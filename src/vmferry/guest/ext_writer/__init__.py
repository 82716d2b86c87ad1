"""Our own reader and writer of ext2, ext3 and ext4, by which a guest is prepared without running its tools.

``superblock``, ``groups``, ``allocation``: what is free; ``inodes``, ``maps``, ``folders``: what is there;
``filesystem`` reads, ``writer`` replaces and adds files, ``journal`` is replayed. What is damaged, or stored in a way
that is not known here, is refused with a sentence and left as it is.

Source: "ext4 Data Structures and Algorithms" in the kernel's documentation, filesystems/ext4.
"""

from __future__ import annotations

from vmferry.guest.ext_writer.filesystem import ExtFileSystem
from vmferry.guest.ext_writer.journal import replay_journal
from vmferry.guest.ext_writer.writer import ExtWriter

__all__ = ["ExtFileSystem", "ExtWriter", "replay_journal"]

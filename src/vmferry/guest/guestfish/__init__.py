"""File systems of guests that libguestfs mounts in a small virtual machine, read and written by guestfish commands.

``session`` is the guestfish process, ``filesystem`` reads, ``writer`` replaces and adds files, ``opener`` mounts the
volumes of a disk. No program of the guest is run, and what parses its file systems is the kernel of that machine: it
replays their journals, and a hostile one ends that machine at the worst.

Source: guestfish(1), guestfs(3). It is run as a program of its own, since it is under the GPL.
"""

from __future__ import annotations

from vmferry.guest.guestfish.opener import GuestfishOpener
from vmferry.guest.guestfish.session import PROGRAM, SECONDS, Guestfish, Session, open_session

__all__ = ["PROGRAM", "SECONDS", "Guestfish", "GuestfishOpener", "Session", "open_session"]

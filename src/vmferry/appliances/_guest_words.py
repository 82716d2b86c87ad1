"""A descriptor's words for an operating system → the number and the word that other products know.

Sources: CIM_OperatingSystem.OSType; VirtualBox, ``ovfreader.h``; VMware, ``VirtualMachineGuestOsIdentifier`` of
vSphere 5.5, so that every supported ESXi knows the word.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GuestKind:
    """An operating system: ``number`` is CIM's, ``word`` VMware's, where there is one."""

    number: int
    word: str | None
    has_sas: bool = False
    """Whether it is a Windows that brings a driver for LSI's SAS controllers, and none for the parallel ones: since
    Vista and Server 2008."""


_OTHER = 102
"""Other, 64 bit."""
_KINDS: tuple[tuple[str, tuple[int, int], tuple[str, str]], ...] = (
    (r"2008 ?r2|windows7server", (103, 103), ("windows7Server64Guest", "windows7Server64Guest")),
    (r"2008|longhorn", (77, 76), ("winLonghorn64Guest", "winLonghornGuest")),
    (r"2012 ?r2", (115, 115), ("windows8Server64Guest", "windows8Server64Guest")),
    (r"win.*2012|windows8srv|windows8server", (112, 112), ("windows8Server64Guest", "windows8Server64Guest")),
    (
        r"win.*20(?:16|19|2[0-9])|windows(?:9|20[0-9]{2})srv|windows9server",
        (118, 118),
        ("windows9Server64Guest", "windows9Server64Guest"),
    ),
    (r"win.*2003|winnet", (70, 69), ("winNetStandard64Guest", "winNetStandardGuest")),
    (r"windows ?_?1[01]|windows9|win1[01]", (120, 119), ("windows9_64Guest", "windows9Guest")),
    (r"win(?:dows)? ?8\.1|windows81", (117, 116), ("windows8_64Guest", "windows8Guest")),
    (r"win(?:dows)? ?8", (114, 113), ("windows8_64Guest", "windows8Guest")),
    (r"win(?:dows)? ?7", (105, 105), ("windows7_64Guest", "windows7Guest")),
    (r"vista", (74, 73), ("winVista64Guest", "winVistaGuest")),
    (r"win.*xp", (71, 67), ("winXPPro64Guest", "winXPProGuest")),
    (r"ubuntu", (94, 93), ("ubuntu64Guest", "ubuntuGuest")),
    (r"debian", (96, 95), ("debian6_64Guest", "debian6Guest")),
    (r"centos", (107, 106), ("centos64Guest", "centosGuest")),
    (r"oracle ?linux|oraclelinux", (109, 108), ("oracleLinux64Guest", "oracleLinuxGuest")),
    (r"rhel|red ?hat", (80, 79), ("rhel6_64Guest", "rhel6Guest")),
    (r"suse|sles", (85, 84), ("sles11_64Guest", "sles11Guest")),
    (r"freebsd", (78, 42), ("freebsd64Guest", "freebsdGuest")),
    (r"esxi?\b|vmkernel", (104, 104), ("vmkernel5Guest", "vmkernel5Guest")),
    (r"linux|fedora|rocky|alma|arch|amazon|photon", (101, 36), ("otherLinux64Guest", "otherLinuxGuest")),
)
"""Pattern in lower case → numbers and words for 64 and for 32 bits. The first that is found counts."""
_VMWARE_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_]*Guest")
_WINDOWS = re.compile(r"windows|microsoft|^win")
_OLD_WINDOWS = re.compile(r"2000|2003|winnet|xp|\bnt\b|windows ?(?:9[58]|me)\b")
_32_BIT = re.compile(r"32[- ]?bit|_32\b|\bx86\b(?!_64)|\bi[3-6]86\b")


def find_guest(words: str | None) -> GuestKind:
    """What ``words`` mean; "other" where nobody knows. A word of VMware's own is kept as it is."""
    if not words:
        return GuestKind(_OTHER, None)
    own = words if _VMWARE_WORD.fullmatch(words) else None
    lower = words.lower()
    narrow = int("64" not in lower if own else bool(_32_BIT.search(lower)))
    has_sas = bool(_WINDOWS.search(lower)) and not _OLD_WINDOWS.search(lower)
    for pattern, numbers, names in _KINDS:
        if re.search(pattern, lower):
            return GuestKind(numbers[narrow], own or names[narrow], has_sas)
    return GuestKind(_OTHER, own, has_sas)

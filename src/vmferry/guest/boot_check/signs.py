"""The table of texts that tell how far a guest got, on its serial port or its screen."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum


class Reached(IntEnum):
    """How far a guest got."""

    NOTHING = 0
    FIRMWARE = 1
    BOOT_LOADER = 2
    KERNEL = 3
    INITRAMFS = 4
    SYSTEM = 5
    LOGIN = 6

    @property
    def words(self) -> str:
        """As it is printed."""
        return self.name.lower().replace("_", " ")


@dataclass(frozen=True, slots=True)
class Sign:
    """A text, and what it means."""

    pattern: re.Pattern[str]
    reached: Reached
    failure: str | None = None
    """What went wrong: a sentence; ``None`` where nothing did."""


def _sign(pattern: str, reached: Reached, failure: str | None = None) -> Sign:
    return Sign(re.compile(pattern, re.IGNORECASE | re.MULTILINE), reached, failure)


_SPOKEN_OVER = r"\[ {0,8}\d{1,9}\.\d{1,9}\] |\[ {1,3}OK {1,3}\] |\[(FAILED|DEPEND)\] | {9}(Starting|Stopping) "
"""What follows a prompt on its line when the kernel or systemd has something to say after it: on a console nobody waits
for the other to end the line."""

SIGNS = (
    _sign(r"^SeaBIOS \(version|^BdsDxe: (loading|starting)|^iPXE", Reached.FIRMWARE),
    _sign(
        r"No bootable device|Boot failed: not a bootable disk", Reached.FIRMWARE, "The firmware found nothing to start."
    ),
    _sign(r"UEFI Interactive Shell|^Shell> ", Reached.FIRMWARE, "The firmware found no loader and started its shell."),
    _sign(
        r"Operating system not found|Missing operating system|Error loading operating system",
        Reached.FIRMWARE,
        "The boot code found no system behind it.",
    ),
    _sign(r"Welcome to GRUB|GNU GRUB|GRUB loading|Booting `|SYSLINUX|EXTLINUX|ISOLINUX", Reached.BOOT_LOADER),
    _sign(r"grub rescue>", Reached.BOOT_LOADER, "GRUB does not find its files and stands at its rescue prompt."),
    _sign(r"^grub> ", Reached.BOOT_LOADER, "GRUB does not find its configuration and stands at its prompt."),
    _sign(r"(BOOTMGR|NTLDR) is (missing|compressed)", Reached.BOOT_LOADER, "Windows' boot loader is missing."),
    _sign(
        r"Windows failed to start|Windows Boot Manager.{0,200}0xc000",
        Reached.BOOT_LOADER,
        "Windows' boot loader failed.",
    ),
    _sign(r"^(\[ {0,8}\d{1,9}\.\d{1,9}\] )?Linux version \d", Reached.KERNEL),
    _sign(
        r"Unable to mount root fs|Cannot open root device",
        Reached.KERNEL,
        "The kernel does not find its root file system: it has no driver of the disk, or its root is named otherwise.",
    ),
    _sign(
        r"Attempted to kill init|No working init found",
        Reached.INITRAMFS,
        "The first process of the system ended, so that the kernel panicked.",
    ),
    _sign(r"Kernel panic - not syncing", Reached.KERNEL, "The kernel panicked."),
    _sign(r"Run /init as init process|Loading, please wait|systemd\[1\]: Running in initrd|dracut:", Reached.INITRAMFS),
    _sign(
        r"ALERT! {1,3}\S{1,200} does not exist|Gave up waiting for root|dracut-initqueue.{0,80}timeout"
        r"|VMFERRY-GUEST-NO-ROOT",
        Reached.INITRAMFS,
        "The root file system did not appear: the initramfs has no driver of the disk, or the root is named otherwise.",
    ),
    _sign(
        r"^\(initramfs\) |Entering emergency mode|^dracut:/#",
        Reached.INITRAMFS,
        "The initramfs gave up and opened a shell.",
    ),
    _sign(
        r"You are in emergency mode|Give root password for maintenance|Press Enter for maintenance",
        Reached.SYSTEM,
        "The system started in emergency mode: something that fstab names is missing, or a file system is damaged.",
    ),
    _sign(
        r"Welcome to (?!GRUB).{1,80}!|systemd\[1\]: (Set hostname|Queued start job)|INIT: version|OpenRC ",
        Reached.SYSTEM,
    ),
    _sign(
        r"passphrase for|Please enter passphrase", Reached.INITRAMFS, "It asks for the passphrase of an encrypted disk."
    ),
    _sign(rf"(?<!last )login: {{0,4}}([_?]?$|{_SPOKEN_OVER})|VMFERRY-GUEST-READY", Reached.LOGIN),
)
"""Success is ``LOGIN``. Of several failures the first in a text counts: the others follow from it."""


@dataclass(frozen=True, slots=True)
class Read:
    """What a text says."""

    reached: Reached
    failure: str | None


_ESCAPES = re.compile(r"\x1b(\[[0-9;?=]{0,16}([A-Za-z])|[()][A-Z0-9]|[78=>c])")
_MOST = 128 * 1024


def plain(text: str) -> str:
    """``text`` as it reads once a terminal has obeyed it, or nearly so: without colours, on lines of its own."""
    text = _ESCAPES.sub(lambda match: "\n" if match.group(2) in ("H", "J", "f") else "", text)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_signs(text: str) -> Read:
    """What ``text``, ``plain`` and of the serial port or the screen, says: the last 128 KiB of it are looked at.

    A failure is one as long as no login follows it. Every pattern is bounded: the guest chooses the text.
    """
    text = text[-_MOST:]
    reached, first = Reached.NOTHING, None
    for sign in SIGNS:
        match = sign.pattern.search(text)
        if match is None:
            continue
        reached = max(reached, sign.reached)
        if sign.failure is not None and (first is None or match.start() < first[0]):
            first = (match.start(), sign.failure)
    return Read(reached, None if reached is Reached.LOGIN or first is None else first[1])

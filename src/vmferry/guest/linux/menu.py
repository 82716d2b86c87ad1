"""What a boot loader can start, and what it starts when nobody chooses. NOUNS Entry, Menu."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from vmferry.guest.files import Files
from vmferry.limits import MAX_GUEST_ENTRIES

_DEVICE = re.compile(r"^\([^)]*\)")
_SUBVOLUME = re.compile(r"^/@[^/]*(?:/\.snapshots/\d+/snapshot)?(?=/)")
"""Where Btrfs keeps the root in a subvolume, a boot loader's path begins with that."""
_PARTS = re.compile(r"\d+|[a-zA-Z]+|~")
_PLAIN = re.compile(r"""[^\s'"]+""")


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a boot loader's menu."""

    title: str
    name: str = ""
    """Its id, where it has one."""
    kernel: str = ""
    """Path in the loader's own words; empty where it starts something else."""
    initramfs: tuple[str, ...] = ()
    options: str = ""
    """The command line."""


@dataclass(frozen=True, slots=True)
class Menu:
    """One boot loader's configuration."""

    loader: str
    """As ``LinuxFacts.boot_loader``."""
    config: str | None = None
    """Path of the file."""
    entries: tuple[Entry, ...] = ()
    """In the loader's order, at most ``MAX_GUEST_ENTRIES``."""
    default: Entry | None = None
    guessed: bool = False
    """Whether ``default`` is not what the configuration names, but what its loader takes then, or may take."""
    bases: tuple[str, ...] = ()
    """Folders that its paths may begin at, besides the usual."""


def pick_newest(entries: Sequence[Entry]) -> Entry | None:
    """The entry with the highest version that starts a kernel, rescue systems last."""
    kernels = [entry for entry in entries if entry.kernel]
    return max(kernels, key=lambda entry: (not is_rescue(entry), version_key(entry.kernel)), default=None)


def is_rescue(entry: Entry) -> bool:
    """Whether an entry is a rescue, recovery or debugging one."""
    return any(word in f"{entry.title} {entry.kernel} {entry.name}".lower() for word in ("rescue", "recovery", "debug"))


def version_key(text: str) -> tuple[tuple[int, int, str], ...]:
    """For sorting by version: numbers by value, and after words, as rpm compares them."""
    parts = _PARTS.findall(text[:1024])
    return tuple(
        (-1, 0, "")
        if part == "~"
        else (1, len(part.lstrip("0")), part.lstrip("0"))
        if part[0].isdigit()
        else (0, 0, part)
        for part in parts
    )


def bound(entries: Sequence[Entry], files: Files, config: str) -> tuple[Entry, ...]:
    """``entries``, as many as are looked at."""
    if len(entries) > MAX_GUEST_ENTRIES:
        files.report(f"{config} has more than {MAX_GUEST_ENTRIES} entries: the rest was not looked at.")
    return tuple(entries[:MAX_GUEST_ENTRIES])


def locate(files: Files, path: str, bases: Sequence[str] = ()) -> str | None:
    """Where the file lies that a boot loader calls ``path``: it counts from the root of the file system that the file
    is on, and knows nothing of mounts. ``None`` where there is none. The answer has no links in it."""
    path = _SUBVOLUME.sub("", "/" + _DEVICE.sub("", path).lstrip("/"))
    usual = ("/boot", "") if "/boot" in files.tree.mounts else ("", "/boot")
    for base in (*bases, *usual, "/boot/efi", "/efi"):
        found = files.find(f"{base}{path}")
        if found is not None and files.is_file(found):
            return found
    return None


def split_words(line: str) -> list[str]:
    """The words of a line as GRUB's shell has them, quotes taken off; a comment ends it."""
    words: list[str] = []
    word: str | None = None
    at = 0
    while at < len(line):
        if line[at].isspace():
            words += [] if word is None else [word]
            word = None
            at += 1
        elif line[at] in "'\"":
            end = line.find(line[at], at + 1)
            end = len(line) if end < 0 else end
            word = (word or "") + line[at + 1 : end]
            at = end + 1
        elif line[at] == "#" and word is None:
            break
        else:
            plain = _PLAIN.match(line, at)
            word = (word or "") + (plain[0] if plain else "")
            at = plain.end() if plain else at + 1
    return words + ([] if word is None else [word])

"""GRUB 0.97: menu.lst, or Red Hat's grub.conf. Source: the GNU GRUB Manual 0.97."""

from __future__ import annotations

import re
from collections.abc import Sequence

from vmferry.guest.files import Files
from vmferry.guest.linux.menu import Entry, Menu, bound, pick_newest

_CONFIGS = ("/boot/grub/grub.conf", "/boot/grub/menu.lst", "/etc/grub.conf")
_SETTING = re.compile(r"\s*(\w+)(?:\s*=\s*|\s+|$)(.*)")
_NUMBER = re.compile(r"\d{1,6}")


def read_grub_legacy(files: Files, esps: Sequence[str]) -> Menu | None:
    """Its menu, or ``None`` where there is none."""
    on_esp = files.glob(*(f"{esp}/EFI/*/grub.conf" for esp in esps))
    for path in (*_CONFIGS, *on_esp):
        if lines := [line for line in files.lines(path) if line and not line.startswith("#")]:
            return _read_menu(files, files.find(path) or path, lines)
    return None


def _read_menu(files: Files, path: str, lines: list[str]) -> Menu:
    """Entries are counted whatever they start: another system's, too."""
    default = ""
    blocks: list[list[tuple[str, str]]] = []
    for line in lines:
        match = _SETTING.fullmatch(line)
        key, value = (match[1].lower(), match[2]) if match else ("", "")
        if key == "title":
            blocks.append([(key, value)])
        elif blocks:
            blocks[-1].append((key, value))
        elif key == "default":
            default = value.strip()
    entries = bound([_read_entry(block) for block in blocks], files, path)
    if default == "saved":
        default = next(iter(files.lines(f"{path.rpartition('/')[0]}/default")), "")
    number = int(default) if _NUMBER.fullmatch(default) else 0
    if number < len(entries) and (default or not entries[number].kernel):
        return Menu("grub-legacy", path, entries, entries[number])
    return Menu(
        "grub-legacy", path, entries, entries[0] if entries and not default else pick_newest(entries), guessed=True
    )


def _read_entry(block: list[tuple[str, str]]) -> Entry:
    """One entry. Of a Xen host, ``kernel`` is the hypervisor, and the kernel is its first module."""
    title = block[0][1].strip()
    lines = [value for key, value in block if key == "kernel"]
    modules = [value for key, value in block if key == "module"]
    initramfs = [value.split()[0] for key, value in block if key == "initrd" and value.split()]
    if lines and modules and "xen" in lines[0].split()[0]:
        lines, initramfs = modules[:1], [module.split()[0] for module in modules[1:2] if module.split()]
    words = [word for word in lines[0].split() if not word.startswith("--")] if lines else []
    return Entry(title, "", words[0] if words else "", tuple(initramfs[:8]), " ".join(words[1:]))

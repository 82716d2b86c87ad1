"""LILO. Source: lilo.conf(5)."""

from __future__ import annotations

from vmferry.guest.files import Files, unquote
from vmferry.guest.linux.menu import Entry, Menu, bound


def read_lilo(files: Files) -> Menu | None:
    """LILO's menu, or ``None``. It starts what was there when ``lilo`` ran last, not what is there now."""
    path = "/etc/lilo.conf"
    general: dict[str, str] = {}
    blocks: list[dict[str, str]] = []
    for line in files.lines(path):
        key, _, value = (part.strip() for part in line.partition("="))
        if key in ("image", "other"):
            blocks.append({key: unquote(value)})
        elif key and not key.startswith("#"):
            (blocks[-1] if blocks else general).setdefault(key, unquote(value))
    if not blocks:
        return None
    entries = bound([_read_image(block, general) for block in blocks], files, path)
    named = next((entry for entry in entries if entry.name == general.get("default")), None)
    return Menu("lilo", path, entries, named or entries[0], guessed=named is None and "default" in general)


def _read_image(block: dict[str, str], general: dict[str, str]) -> Entry:
    root = block.get("root") or general.get("root", "")
    options = block.get("append") or general.get("append", "")
    name = block.get("label", "")
    packed = block.get("initrd") or general.get("initrd")
    paths = (packed,) if packed else ()
    return Entry(name, name, block.get("image", ""), paths, f"root={root} {options}".strip() if root else options)

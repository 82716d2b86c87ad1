"""extlinux and its kin, syslinux. Source: syslinux's wiki, "Config"."""

from __future__ import annotations

from vmferry.guest.files import Files
from vmferry.guest.linux.menu import Entry, Menu, bound

_EXTLINUX = (
    "/boot/extlinux/extlinux.conf",
    "/boot/extlinux.conf",
    "/extlinux.conf",
    "/boot/syslinux/syslinux.cfg",
    "/boot/syslinux/extlinux.conf",
    "/boot/syslinux.cfg",
    "/syslinux/syslinux.cfg",
)


def read_extlinux(files: Files) -> Menu | None:
    """The menu of extlinux or syslinux, or ``None``."""
    path = next((path for path in _EXTLINUX if files.is_file(path)), None)
    if path is None:
        return None
    default = ""
    blocks: list[dict[str, str]] = []
    for line in files.lines(path):
        key, _, value = line.partition(" ")
        key, value = key.lower(), value.strip()
        if key == "label":
            blocks.append({"label": value})
        elif key in ("default", "ontimeout") and not default:
            default = value
        elif blocks and f"{key} {value}".lower() == "menu default":
            default = blocks[-1]["label"]
        elif blocks:
            blocks[-1].setdefault(key, value)
    entries = bound([_read_label(block) for block in blocks], files, path)
    named = next((entry for entry in entries if entry.name == default), None)
    guess = next((entry for entry in entries if entry.kernel), None)
    return Menu("extlinux", path, entries, named or guess, guessed=named is None, bases=(path.rpartition("/")[0],))


def _read_label(block: dict[str, str]) -> Entry:
    kernel = block.get("linux") or block.get("kernel") or ""
    options = [word for word in block.get("append", "").split() if not word.startswith("initrd=")]
    packed = block.get("initrd") or next(
        (word.removeprefix("initrd=") for word in block.get("append", "").split() if word.startswith("initrd=")), ""
    )
    loads_menu = kernel.endswith((".c32", ".bin", ".0"))
    paths = tuple(path.strip() for path in packed.split(",")[:8] if path.strip())
    title = block.get("menu", "").partition(" ")[2] or block["label"]
    return Entry(title, block["label"], "" if loads_menu else kernel, paths, " ".join(options))

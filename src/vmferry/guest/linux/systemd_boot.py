"""systemd-boot: entries that are files, and unified kernel images. Sources: systemd-boot(7), loader.conf(5)."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from vmferry.guest.files import Files
from vmferry.guest.linux.bls import read_entries
from vmferry.guest.linux.kernel_image import read_kernel_image
from vmferry.guest.linux.menu import Entry, Menu, bound, pick_newest


def read_systemd_boot(files: Files, esps: Sequence[str]) -> Menu | None:
    """Its menu: entries that are files, then unified kernel images; ``None`` where it is not installed."""
    for esp in esps:
        config = f"{esp}/loader/loader.conf"
        images = files.glob(f"{esp}/EFI/Linux/*.efi")
        installed = files.glob(f"{esp}/EFI/systemd/systemd-boot*.efi") or files.is_file(config)
        if not installed and not images:
            continue
        folders = dict.fromkeys([f"{esp}/loader/entries", "/boot/loader/entries"])
        entries = [entry for folder in folders for entry in read_entries(files, folder)]
        entries += [_read_unified(files, path) for path in images]
        entries = list(bound(entries, files, config))
        pattern = next(
            (line.split()[1] for line in files.lines(config) if line.startswith("default ") and line.split()[1:]), ""
        )
        default = _match(entries, pattern)
        return Menu(
            "systemd-boot",
            config if files.is_file(config) else None,
            tuple(entries),
            default or pick_newest(entries),
            guessed=default is None,
            bases=(esp,),
        )
    return None


def _match(entries: Sequence[Entry], pattern: str) -> Entry | None:
    """The entry that loader.conf's ``default`` means; one that starts with ``@`` is kept in the firmware's memory."""
    wanted = pattern.removesuffix(".conf")
    if not wanted or wanted.startswith("@"):
        return None
    return next((entry for entry in entries if fnmatchcase(entry.name, wanted)), None)


def _read_unified(files: Files, path: str) -> Entry:
    image = read_kernel_image(lambda offset, length: files.read_at(path, offset, length))
    name = path.rpartition("/")[2]
    return Entry(name, name, path, (), image.command_line if image else "")

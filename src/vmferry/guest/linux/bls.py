"""Boot loader entries that are a file each. Source: the UAPI Group's "Boot Loader Specification"."""

from __future__ import annotations

import re

from vmferry.guest.files import Files
from vmferry.guest.linux.menu import Entry, is_rescue, version_key
from vmferry.limits import MAX_GUEST_ENTRIES

_TRIES = re.compile(r"\+\d+(?:-\d+)?$")


def read_entries(files: Files, folder: str) -> list[Entry]:
    """The entries in ``folder``, the highest version first, rescue systems last; at most ``MAX_GUEST_ENTRIES``."""
    names = [name for name in files.names(folder) if name.endswith(".conf")]
    names.sort(key=version_key, reverse=True)
    if len(names) > MAX_GUEST_ENTRIES:
        files.report(f"{folder} has more than {MAX_GUEST_ENTRIES} entries: the rest was not looked at.")
    entries = [_read_entry(files, folder, name) for name in names[:MAX_GUEST_ENTRIES]]
    return sorted((entry for entry in entries if entry.kernel), key=is_rescue)


def _read_entry(files: Files, folder: str, name: str) -> Entry:
    settings: dict[str, list[str]] = {}
    for line in files.lines(f"{folder}/{name}"):
        key, _, value = line.partition(" ")
        key, _, more = key.partition("\t")
        settings.setdefault(key, []).append(f"{more} {value}".strip())
    kernel = (settings.get("linux") or settings.get("efi") or settings.get("uki") or [""])[0]
    return Entry(
        settings.get("title", [name])[0],
        _TRIES.sub("", name.removesuffix(".conf")),
        kernel,
        tuple(path for value in settings.get("initrd", ())[:8] for path in value.split()[:8]),
        " ".join(settings.get("options", ())),
    )

"""What the files of a package are called: names that every tar, shell and hypervisor takes."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from vmferry.appliances._tar_writer import MAX_NAME

_MAX_STEM = 64
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ -]*")


def package_stem(machine: str) -> str:
    """The name of a machine as files may be called: ``"Büro & Lager"`` → ``"Buro-Lager"``; ``"vm"`` when none is left.

    ASCII letters, digits, ``.``, ``_`` and ``-``, at most 64 of them, beginning with a letter or digit.
    """
    ascii_only = unicodedata.normalize("NFKD", machine[: 4 * _MAX_STEM]).encode("ascii", "ignore").decode("ascii")
    return re.sub(r"[^A-Za-z0-9._]+", "-", ascii_only)[:_MAX_STEM].strip("-._") or "vm"


def disk_file_name(stem: str, index: int, disk_format: str) -> str:
    """What the file of disk ``index``, counted from 0, is called: ``vm-disk1.vmdk``."""
    return f"{stem}-disk{index + 1}.{disk_format}"


def check_names(names: Sequence[str]) -> None:
    """Raise ``ValueError`` unless ``names`` are plain ASCII of less than 100 bytes and differ in more than case."""
    for name in names:
        if not _PLAIN.fullmatch(name) or len(name) > MAX_NAME:
            raise ValueError(f"{name!r} is no plain file name of 1 to {MAX_NAME} ASCII characters")
    if len({name.lower() for name in names}) < len(names):
        raise ValueError(f"two files of the package have one name: {', '.join(names)}")

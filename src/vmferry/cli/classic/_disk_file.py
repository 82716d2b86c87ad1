"""The file that is to be imported: what it is, how long it is, and how large a volume it needs."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from vmferry.blob import FileBlob
from vmferry.disk import DiskFacts, SupportsFacts
from vmferry.errors import BlobNotFoundError, ConfigError, FormatError, UnsupportedFeatureError, quote
from vmferry.formats import by_ec2_name, open_disk
from vmferry.units import to_gib

_KINDS = {"VMDK": ("streamOptimized",), "VHD": ("fixed", "dynamic")}
"""Format → the kinds of it that EC2 imports."""


@dataclass(frozen=True, slots=True)
class DiskFile:
    """A disk image as the API is told of it."""

    path: Path
    format: str
    """``RAW``, ``VHD`` or ``VMDK``."""
    size: int
    """Bytes of the file."""
    volume_gib: int


def look_at(
    path: Path, image_format: str, *, volume_gib: int | None = None, capacity: int | None = None, verify: bool = True
) -> DiskFile:
    """The disk image at ``path``, which is to be an ``image_format`` that EC2 imports.

    The volume is as large as the disk in it, or ``volume_gib``. ``capacity`` is the disk's size as the user knows it;
    with ``verify`` it must be what the file says, without, the file's contents are not looked at.

    Raises ``FormatError`` for another or an unfit format, ``ConfigError`` where the sizes do not fit together,
    ``BlobNotFoundError``.
    """
    if not path.is_file():
        raise BlobNotFoundError(f"{quote(path)} does not exist, or is not a file. Check the path.")
    size = path.stat().st_size
    if size == 0:
        raise FormatError(f"{quote(path)} is empty: there is nothing to import.")
    if verify:
        found = _capacity(path, image_format)
        if capacity is not None and capacity != found:
            raise ConfigError(
                f"{quote(path)} holds a disk of {found:,} bytes, and --image-size says {capacity:,}. Leave it out."
            )
        capacity = found
    elif image_format == "RAW":
        capacity = size
    if volume_gib is None and capacity is None:
        raise ConfigError(
            f"How large the disk in {quote(path)} is stands in its header, which --dont-verify-format leaves unread: "
            "say it with --volume-size or --image-size."
        )
    needed = 0 if capacity is None else to_gib(capacity)
    if volume_gib is not None and volume_gib < needed:
        raise ConfigError(f"A volume of {volume_gib} GiB cannot hold the disk in {quote(path)}: it needs {needed} GiB.")
    return DiskFile(path, image_format, size, volume_gib or needed)


def _capacity(path: Path, image_format: str) -> int:
    """The size of the disk in the file, once it has proved to be what EC2 imports."""
    blob = FileBlob(path)
    try:
        disk = open_disk(blob, by_ec2_name(image_format))
    except BaseException:
        blob.close()
        raise
    with closing(disk):
        facts = disk.facts if isinstance(disk, SupportsFacts) else DiskFacts()
        kinds = _KINDS.get(image_format)
        if kinds is not None and facts.subformat not in kinds:
            raise UnsupportedFeatureError(
                f"{quote(path)} is a {quote(facts.subformat)} {image_format}, and EC2 imports {' or '.join(kinds)}: "
                f"convert it first, `vmferry convert {quote(path)} NEW.{image_format.lower()}`."
            )
        return disk.size

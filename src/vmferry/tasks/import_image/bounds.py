"""What of the server's quotas an open source shows: formats, sizes, the number of disks, the network cards."""

from __future__ import annotations

from collections.abc import Iterator

from vmferry.catalog.import_tasks import CONVERSION, IMPORT_SNAPSHOT, ImportTask
from vmferry.errors import LimitExceededError, UnknownFormatError, UnsafeDiskError, quote
from vmferry.quotas import ImageBounds, Quotas
from vmferry.tasks.import_image.source import Source
from vmferry.units import GIB, format_size, to_gib


def check_bounds(task: ImportTask, source: Source, quotas: Quotas) -> None:
    """Raise for what may not be imported: ``UnsafeDiskError`` for a machine without disks or with too many and for a
    disk that its volume does not hold, ``UnknownFormatError``, ``LimitExceededError`` for a disk that is too large."""
    name, bounds = _bounds_of(task, quotas)
    if not source.disks:
        raise UnsafeDiskError("The machine has no disk with contents: export it again with its disks.")
    if len(source.disks) > quotas.disks:
        raise UnsafeDiskError(
            f"The machine has {len(source.disks)} disks; {quotas.disks} can be imported at once. Import the others as "
            "snapshots."
        )
    _check_formats(source, name, bounds)
    _check_sizes(source, name, bounds)
    _check_volumes(task, source)


def card_notes(source: Source, quotas: Quotas) -> Iterator[str]:
    """A sentence about network cards that are left out: EC2 keeps one, which gets its address by DHCP."""
    found = len(source.machine.interfaces) if source.machine else 0
    if found > quotas.network_interfaces:
        yield f"The machine has {found} network cards; {quotas.network_interfaces} of them is what an import keeps."


def _bounds_of(task: ImportTask, quotas: Quotas) -> tuple[str, ImageBounds]:
    """What the task's action imports, and what that is called in the configuration."""
    if task.kind == IMPORT_SNAPSHOT:
        return "import_snapshot", quotas.import_snapshot
    if task.kind != CONVERSION:
        return "import_image", quotas.import_image
    if task.request.instance_id is None:
        return "import_volume", quotas.import_volume
    return "import_instance", quotas.import_instance


def _check_formats(source: Source, name: str, bounds: ImageBounds) -> None:
    shown = [*source.packages, *((one.blob.name, one.format.name) for one in source.disks if one.snapshot is None)]
    for file, kind in shown:
        if kind.upper() not in bounds.formats:
            raise UnknownFormatError(
                f"{quote(file)} is {kind.upper()}; what is taken is {', '.join(bounds.formats)}: convert it with "
                f"`vmferry convert`, or have limits.{name}.formats of the server's configuration allow it.",
            )


def _check_sizes(source: Source, name: str, bounds: ImageBounds) -> None:
    for opened in source.disks:
        if opened.disk.size > bounds.size_gib * GIB:
            raise LimitExceededError(
                f"{quote(opened.blob.name)} has a virtual size of {opened.disk.size:,} bytes; at most "
                f"{bounds.size_gib:,} GiB can be imported (limits.{name}.size_gib of the server's configuration)."
            )


def _check_volumes(task: ImportTask, source: Source) -> None:
    for opened in source.disks:
        container = task.request.containers[opened.container]
        if container.volume_id is not None and to_gib(opened.disk.size) > container.volume_size_gib:
            raise UnsafeDiskError(
                f"{quote(opened.blob.name)} has a virtual size of {format_size(opened.disk.size)}, and its volume was "
                f"asked for with {container.volume_size_gib} GiB: ask for {to_gib(opened.disk.size)} or more."
            )

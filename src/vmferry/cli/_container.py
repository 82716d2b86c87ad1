"""What ``convert`` and ``inspect`` are given: one disk image, or a machine with its disks; packed or not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import typer

from vmferry import appliances, formats, wrappers
from vmferry.blob import Blob, FileBlob
from vmferry.cli._source import open_source, read_ahead
from vmferry.disk import Disk, DiskFacts, SupportsFacts
from vmferry.errors import BlobChangedError, UnknownFormatError, UnsafeDiskError, quote
from vmferry.folder import ALONE, Companions, Folder, LocalFolder
from vmferry.formats import Format

if TYPE_CHECKING:
    from vmferry.machine import Appliance, Machine, MachineDisk


@dataclass(frozen=True, slots=True)
class Said:
    """What the user says about a source, apart from its name."""

    read_as: Format | None = None
    parents: Sequence[str] = ()
    extents: Sequence[str] = ()
    snapshot: str | None = None


@dataclass(slots=True)
class Container:
    """An open source. ``blob`` is the file, unpacked; ``appliance`` is what it holds where it describes a machine."""

    blob: Blob
    said: Said
    companions: Companions = ALONE
    """What was supplied beside a disk image, whichever disk it is needed for."""
    wrapper: str | None = None
    package: str | None = None
    appliance: Appliance | None = None
    names: tuple[str | None, ...] = field(default=(None,))
    """The disks, by their names in the appliance; one without a name where the file is a disk image."""
    opened: ExitStack = field(default_factory=ExitStack)
    """Closes the disks that are opened, with what they found beside their files."""
    local: list[FileBlob] = field(default_factory=list)
    """Every local file that was opened so far, whatever for."""

    @property
    def machine(self) -> Machine | None:
        """The machine's hardware, where the source describes one."""
        return None if self.appliance is None else self.appliance.machine

    def disk_index(self, number: int) -> int:
        """The index of the disk that a user calls ``number``, from 1. Raises ``typer.BadParameter``."""
        if self.machine is None and number != 1:
            raise typer.BadParameter(f"{quote(self.blob.name)} is one disk; --disk is for appliances.")
        if not 1 <= number <= len(self.names):
            names = ", ".join(quote(name) for name in self.names)
            raise typer.BadParameter(f"{quote(self.blob.name)} has disks 1 to {len(self.names)}: {names}.")
        return number - 1

    def described(self, index: int) -> MachineDisk | None:
        """What the machine's description says of a disk."""
        return None if self.machine is None else self.machine.disks[index]

    def file(self, index: int) -> Blob:
        """The file of a disk."""
        name = self.names[index]
        return self.blob if self.appliance is None or name is None else self.appliance.blobs[name]

    def needs(self, index: int) -> Companions:
        """What may be opened beside a disk's file."""
        name = self.names[index]
        if self.appliance is None or name is None:
            return self.companions
        known = self.appliance.companions.get(name, ALONE)
        extent_files = {**known.extent_files, **self.companions.extent_files}
        return replace(self.companions, extent_files=extent_files, beside=known.beside)

    def kind(self, index: int) -> Format:
        """The format of a disk: the declared one, the one that its package fixes, else what its bytes show.

        Raises ``FormatError``.
        """
        described = self.described(index)
        fixed = None if described is None else formats.FORMATS.get(described.format_hint or "")
        return self.said.read_as or fixed or formats.detect(self.file(index))

    def open_disk(self, index: int, file: Blob | None = None) -> Disk:
        """A disk, through ``file`` where somebody looks on at what is read of it.

        Raises ``FormatError``, also for a file that was given with ``--extent`` and belongs to no disk image here;
        ``UnsafeDiskError``.
        """
        disk = formats.open_disk(file or self.file(index), self.kind(index), self.needs(index))
        self.opened.callback(disk.close)
        if self.appliance is None:
            taken = set(_extent_files(disk))
            idle = next((name for name in self.said.extents if name not in taken), None)
            if idle is not None:
                raise UnknownFormatError(
                    f"{quote(idle)} was given with --extent, but {quote(self.blob.name)} takes nothing from it. "
                    "Leave it out, or name the file that it belongs to."
                )
        return disk

    def check_unchanged(self) -> None:
        """Raise ``BlobChangedError`` for a local file that was written to since it was opened: of what was read of it,
        some is older than the rest. An object in S3 is told from another one with each read."""
        for file in self.local:
            if not file.is_unchanged:
                raise BlobChangedError(
                    f"{quote(file.name)} was changed while it was converted. Start again, and leave it alone meanwhile."
                )


class _WatchedFolder:
    """A local folder, and what was opened of it."""

    def __init__(self, folder: Folder, opened: list[FileBlob]) -> None:
        self._folder = folder
        self._opened = opened

    @property
    def name(self) -> str:
        return self._folder.name

    def names(self) -> Sequence[str]:
        return self._folder.names()

    def open(self, name: str) -> Blob:
        blob = self._folder.open(name)
        _remember(blob, self._opened)
        return blob


def _remember(blob: Blob, opened: list[FileBlob]) -> None:
    if isinstance(blob, FileBlob):
        opened.append(blob)


def _extent_files(disk: Disk | None) -> Iterator[str]:
    """The files supplied for ``disk`` and all its parents."""
    while disk is not None:
        facts = disk.facts if isinstance(disk, SupportsFacts) else DiskFacts()
        yield from facts.extent_files
        disk = facts.parent


def source_format(name: str | None) -> Format | None:
    """The format that is called ``name``; ``None`` where the user named none. Raises ``typer.BadParameter``."""
    if name is None:
        return None
    known = formats.FORMATS.get(name.lower())
    if known is None:
        raise typer.BadParameter(f"{quote(name)} is no format that is read; use one of {', '.join(formats.FORMATS)}.")
    return known


@contextmanager
def open_container(source: str, said: Said, wrapped: Callable[[Blob], Blob] = read_ahead) -> Iterator[Container]:
    """The source at a path (a file, or a folder that holds a machine) or at ``s3://bucket/key``.

    ``wrapped`` may wrap the file, to see what is read of it; it is read ahead otherwise. Everything that was opened is
    closed at the end. Raises ``StoreError``, ``FormatError``, ``UnsafeDiskError``, ``ConfigError``.
    """
    with ExitStack() as opened:
        path, folder = _place(source)
        local: list[FileBlob] = []
        file = _close_later(opened, open_source(path))
        _remember(file, local)
        blob, beside = wrapped(file), _beside(path, local)
        container = Container(blob, said, _companions(opened, said, beside, local), opened=opened, local=local)
        if said.read_as is None or said.read_as.name != "raw":
            container.blob, packing = wrappers.unwrap(blob)
            _close_later(opened, container.blob)
            container.wrapper = None if packing is None else packing.name
        _open_machine(opened, container, beside if folder is None else _WatchedFolder(folder, local))
        yield container


def _open_machine(opened: ExitStack, container: Container, folder: Folder | None) -> None:
    """Open the machine that the file describes, where it does."""
    package = None if container.said.read_as is not None else appliances.detect(container.blob)
    if package is None:
        return
    container.package = package.name
    appliance = container.appliance = package.open(container.blob, folder)
    opened.callback(appliance.close)
    if not appliance.machine.disks:
        raise UnsafeDiskError(f"{quote(container.blob.name)} has no disk: export the machine again with its disks.")
    container.names = tuple(described.name for described in appliance.machine.disks)


def _place(source: str) -> tuple[str, Folder | None]:
    """The file to open, and the folder that it was found in when only that was named."""
    if source.startswith("s3://") or not Path(source).is_dir():
        return source, None
    folder = LocalFolder(Path(source))
    return str(Path(source) / appliances.find_description(folder)), folder


def _beside(path: str, local: list[FileBlob]) -> Folder | None:
    """Where a local file lies; nothing lies beside an object in S3."""
    return None if path.startswith("s3://") else _WatchedFolder(LocalFolder(Path(path).parent), local)


def _companions(opened: ExitStack, said: Said, beside: Folder | None, local: list[FileBlob]) -> Companions:
    def open_file(name: str) -> Blob:
        local.append(FileBlob(Path(name)))
        return _close_later(opened, local[-1])

    parents = tuple(map(open_file, said.parents))
    extent_files = {PurePath(name).name: open_file(name) for name in said.extents}
    return Companions(parents, extent_files, beside, said.snapshot)


def _close_later(opened: ExitStack, blob: Blob) -> Blob:
    opened.callback(blob.close)
    return blob

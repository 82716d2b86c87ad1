"""An OVA being written in one pass. Sources: DSP0243 1.1, section 5; what VMware's readers ask of it in practice.

What comes first in the package is known last: the descriptor says how long the disks' files are, the manifest their
digests. So room for both is left at the beginning (a descriptor whose numbers have all the digits they may need; the
rest of it is blank), the disks follow, and at the end both are written where they belong, with the headers of the tar.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from vmferry.appliances._ova_member import MemberWriter, SupportsReadBack
from vmferry.appliances._ova_targets import APPEND_ONLY, format_uri
from vmferry.appliances._ovf_text import FileSizes, render_ovf
from vmferry.appliances._package_names import check_names, package_stem
from vmferry.appliances._placement import fit
from vmferry.appliances._tar_writer import BLOCK, MAX_USTAR_SIZE, tar_header, tar_size
from vmferry.appliances._targets import Controller, Manifest, Target
from vmferry.blob import BlobWriter, SupportsReserve
from vmferry.errors import UnsupportedFeatureError
from vmferry.machine import Machine, MachineDisk
from vmferry.units import round_up

_MOST = (1 << 63) - 1
"""The largest size that any reader takes: room is left for its digits."""


@dataclass(frozen=True, slots=True)
class PackedDisk:
    """One disk of the package. ``capacity`` is the size of its virtual disk in bytes, as the image will say."""

    name: str
    """Of its file in the package: plain ASCII of less than 100 bytes, unlike all others in more than case."""
    capacity: int
    format: str = "vmdk"
    """Our name of its format: ``vmdk`` (which means streamOptimized), ``vhd`` or ``vhdx``."""


@dataclass(frozen=True, slots=True)
class OvaOptions:
    """What can be chosen about a package."""

    target: Target = Target.GENERIC
    manifest: Manifest = Manifest.SHA256
    controller: Controller | None = None
    """What all disks hang on; ``None``: their own places where the target has them, else what it has drivers for."""
    hardware_family: str | None = None
    """``VirtualSystemType``; ``None``: what the oldest supported product takes."""
    stem: str | None = None
    """What the descriptor's file is called, without ``.ovf``; ``None``: after the machine."""


DEFAULTS = OvaOptions()


@dataclass(frozen=True, slots=True)
class _Written:
    """A member that has ended: where its bytes begin, how many there are, and their digest."""

    name: str
    start: int
    size: int
    digest: bytes


class OvaWriter:
    """The OVA of one machine, in ``target``, which it finishes or aborts: it appears whole, or not at all.

    The disks' files are written one after another, each into its ``member``; that one alone takes bytes from several
    threads. ``target`` takes the first bytes, and the header before each disk, last. Where a manifest is wanted of
    files that are not written from front to back (VHD, VHDX), it must ``SupportsReadBack``.

    The same arguments and the same files give the same bytes.
    """

    def __init__(
        self, target: BlobWriter, machine: Machine, disks: Sequence[PackedDisk], options: OvaOptions = DEFAULTS
    ) -> None:
        """``machine.disks`` say where ``disks``, one for each, have hung; or there are none, and they find places.

        Raises ``UnsupportedFeatureError`` where the target product, or ``target``, cannot take this; ``ValueError`` for
        no disk at all, for names, formats and capacities that go into no package.
        """
        if len(machine.disks) not in (0, len(disks)) or not disks:
            raise ValueError(f"{len(disks)} disks to pack for a machine with {len(machine.disks)}")
        if any(not 0 < disk.capacity <= _MOST for disk in disks):
            raise ValueError("a disk has no capacity")
        self._target = target
        self._reserving = target if isinstance(target, SupportsReserve) else None
        self._disks = list(disks)
        self._options = options
        self._populated: dict[int, int] = {}
        hung = machine.disks or tuple(MachineDisk(disk.name) for disk in disks)
        described = [
            replace(was, name=disk.name, capacity=disk.capacity, format_hint=format_uri(options.target, disk.format))
            for was, disk in zip(hung, disks, strict=True)
        ]
        self._fitted = fit(machine, described, options.target, options.controller, options.hardware_family)
        self._algorithm = None if options.manifest is Manifest.NONE else options.manifest.value
        if self._algorithm and not isinstance(target, SupportsReadBack):
            _check_append_only(disks)
        stem = options.stem or package_stem(self._fitted.machine.name)
        self._descriptor, self._manifest = f"{stem}.ovf", f"{stem}.mf"
        check_names([self._descriptor, self._manifest, *(disk.name for disk in disks)])
        self._room = len(self._render([FileSizes(_MOST, _MOST, _MOST)] * len(disks)))
        self._written: list[_Written] = []
        self._open: MemberWriter | None = None
        self._end = BLOCK + round_up(self._room, BLOCK)
        if self._algorithm:
            empty = bytes(hashlib.new(self._algorithm).digest_size)
            names = [self._descriptor, *(disk.name for disk in disks)]
            self._manifest_size = len(self._render_manifest([(name, empty) for name in names]))
            self._end += BLOCK + round_up(self._manifest_size, BLOCK)

    @property
    def machine(self) -> Machine:
        """The machine as the package describes it: what a reader will find, but for its notes."""
        capacities = [disk.capacity for disk in self._disks]
        described = zip(self._fitted.machine.disks, capacities, strict=True)
        disks = tuple(replace(disk, capacity=capacity) for disk, capacity in described)
        return replace(self._fitted.machine, disks=disks)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the target product does not take as it was, one sentence each."""
        return self._fitted.notes

    def set_sizes(self, index: int, *, capacity: int | None = None, populated: int | None = None) -> None:
        """Say what is known of a disk only when it is written: bytes of its virtual disk, of guest data in it."""
        if capacity is not None:
            self._disks[index] = replace(self._disks[index], capacity=capacity)
        if populated is not None:
            self._populated[index] = populated

    def member(self, index: int) -> BlobWriter:
        """Where the file of disk ``index`` is written; its ``finish`` ends the member.

        ``ValueError`` out of order (0, 1, …), and while another member is open.
        """
        if index != len(self._written) or index >= len(self._disks) or self._open is not None:
            raise ValueError(f"disk {index} is asked for, disk {len(self._written)} is next")
        disk = self._disks[index]

        def end(size: int, digest: bytes) -> None:
            self._written.append(_Written(disk.name, start, size, digest))
            self._end = start + round_up(size, BLOCK)
            self._open = None

        start = self._end + BLOCK
        if self._reserving is not None:
            self._reserving.reserve(self._end, start)
        self._open = MemberWriter(self._target, start, self._algorithm, end, append_only=disk.format in APPEND_ONLY)
        return self._open

    def finish(self) -> None:
        """Write what comes first, make all of it durable, let the package appear. ``ValueError`` before all members
        have ended."""
        if len(self._written) != len(self._disks):
            raise ValueError(f"{len(self._written)} of {len(self._disks)} disks are written")
        descriptor = self._render(
            [
                FileSizes(written.size, disk.capacity, self._populated.get(index))
                for index, (written, disk) in enumerate(zip(self._written, self._disks, strict=True))
            ]
        )
        descriptor = descriptor.rstrip(b"\n").ljust(self._room - 1) + b"\n"
        front = [(self._descriptor, descriptor)]
        if self._algorithm:
            digest = hashlib.new(self._algorithm, descriptor, usedforsecurity=False).digest()
            listed = [(self._descriptor, digest), *((one.name, one.digest) for one in self._written)]
            front.append((self._manifest, self._render_manifest(listed)))
        gnu = any(one.size > MAX_USTAR_SIZE for one in self._written)
        position = 0
        for name, content in front:
            self._target.write_at(position, tar_header(name, len(content), gnu=gnu) + content)
            position += BLOCK + round_up(len(content), BLOCK)
        for one in self._written:
            self._target.write_at(one.start - BLOCK, tar_header(one.name, one.size, gnu=gnu))
        self._target.set_size(tar_size(self._end))
        self._target.finish()

    def abort(self) -> None:
        """Remove what was written. Harmless after ``finish`` and when called twice."""
        if self._open is not None:
            self._open.abort()
        self._target.abort()

    def _render(self, sizes: Sequence[FileSizes]) -> bytes:
        return render_ovf(self._fitted, sizes, self._options.target).encode()

    def _render_manifest(self, digests: Sequence[tuple[str, bytes]]) -> bytes:
        """As VMware reads it, to the blank: none before the parenthesis, one before the digits."""
        algorithm = self._options.manifest.name
        return "".join(f"{algorithm}({name})= {digest.hex()}\n" for name, digest in digests).encode()


def _check_append_only(disks: Sequence[PackedDisk]) -> None:
    for disk in disks:
        if disk.format not in APPEND_ONLY:
            raise UnsupportedFeatureError(
                f"A {disk.format} in an OVA is read again for the manifest, which this target does not allow: "
                "write the OVA to a local file, or without a manifest."
            )

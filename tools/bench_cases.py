"""Which conversions ``bench.py`` measures: those with bars, and every pair of formats that both sides know."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from bench_disks import SOURCES

ROUNDS = 5
_DEFLATING = 3
"""Rounds where qemu-img compresses, which takes it minutes."""
_COPYING = 9
"""Rounds where nothing is inflated or deflated: a run takes less than a second, which the machine's whims disturb."""


@dataclass(frozen=True, slots=True)
class Case:
    """A conversion that both sides do. ``source`` is a name of ``bench_disks.make_source``."""

    source: str
    target: str
    ours: tuple[str, ...] = ()
    """Our options beside the names of the files."""
    theirs: tuple[str, ...] = ()
    """qemu-img's options beside formats and names."""
    at_least: float = 1.0
    no_larger: bool = False
    """Whether our file must not take more bytes than theirs."""
    rounds: int = ROUNDS
    limited: bool = False
    """Whether it is measured against the limit, too."""

    @property
    def what(self) -> str:
        """In words."""
        return f"{self.source} → {self.target}" + (f" ({' '.join(self.ours)})" if self.ours else "")


_STREAM = ("-o", "subformat=streamOptimized")

CASES = (
    Case("vmdk", "raw", at_least=3.3, limited=True),
    Case("vmdk", "qcow2", at_least=3.3),
    Case("raw", "raw", rounds=_COPYING),
    Case("raw", "qcow2", rounds=_COPYING),
    Case("raw", "vmdk", (), _STREAM, 15, rounds=_DEFLATING),
    Case("raw", "vmdk", ("--compress", "best"), _STREAM, 4, no_larger=True, rounds=_DEFLATING),
    Case("raw", "vmdk", ("--subformat", "monolithicSparse"), ("-o", "subformat=monolithicSparse")),
    Case("raw", "qcow2", ("--subformat", "zlib"), ("-c",), rounds=_DEFLATING),
    Case("raw", "vhd", (), ("-o", "force_size=on"), rounds=_COPYING),
    Case("raw", "vhdx", rounds=_COPYING),
    Case("raw", "vdi", rounds=_COPYING),
    Case("sparse-vmdk", "raw"),
    Case("sparse-vmdk", "qcow2"),
    Case("vhd", "raw", rounds=_COPYING),
    Case("vhd", "qcow2", rounds=_COPYING),
    Case("vhdx", "raw", rounds=_COPYING),
    Case("vhdx", "qcow2", rounds=_COPYING),
    Case("vhdx", "vhd", (), ("-o", "force_size=on"), rounds=_COPYING),
    Case("vdi", "raw", rounds=_COPYING),
    Case("vdi", "qcow2", rounds=_COPYING),
    Case("qcow2", "raw", rounds=_COPYING),
    Case("qcow2", "vhdx", rounds=_COPYING),
    Case("zlib-qcow2", "raw"),
)
"""In order of their sources: each is made once, and removed after its last case."""

_COMPRESSED = ("vmdk", "zlib-qcow2")
"""Sources that have to be inflated."""
_PAIR_ROUNDS = 5
"""Of a pair without a bar of its own; where qemu-img compresses, one."""


def every_pair() -> Iterator[Case]:
    """Each source in each kind of image that both sides write: none may be slower than qemu-img."""
    targets = [replace(case, at_least=1.0, no_larger=False) for case in CASES if case.source == "raw"]
    targets = [case for case in targets if "best" not in case.ours]
    targets += [
        Case("raw", "vhd", ("--subformat", "fixed"), ("-o", "subformat=fixed,force_size=on")),
        Case("raw", "vhdx", ("--subformat", "fixed"), ("-o", "subformat=fixed")),
        Case("raw", "vdi", ("--subformat", "fixed"), ("-o", "static=on")),
    ]
    for source in ("raw", *SOURCES):
        for target in targets:
            deflates = target.rounds == _DEFLATING
            yield replace(target, source=source, rounds=1 if deflates else 3 if source in _COMPRESSED else _PAIR_ROUNDS)

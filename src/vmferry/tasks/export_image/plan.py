"""How an export's object is made in slices: of which upload its parts are, how large those are, what each slice is."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from vmferry.blob import foreign_error
from vmferry.convert import Slice, count_granules, plan_slices
from vmferry.convert.plan import MAX_SLICES
from vmferry.disk import Disk
from vmferry.errors import StoreError
from vmferry.tasks.export_image.packer import Packer
from vmferry.units import GIB, MIB, format_size, round_up

MIN_PART = 8 * MIB
"""S3 takes no parts under 5 MiB but the last."""
_MAX_PART = 5 * GIB
_MAX_PARTS = 10_000
"""S3 API Reference, *Multipart upload limits*."""
_SLICE_DATA = 128 * MIB
"""Data of one slice: less than an import's, for nothing of a slice is sent before all of it is packed."""
_ENDS = 16 * MIB
"""Bytes of a file that follow neither from its data nor from ``front``, and more than any format has."""
_OVERHEAD = 32
"""What guards and maps data takes less than a 32nd of it, whatever the format."""


class PlanLostError(StoreError):
    """What was done of an export is good for nothing any more: it begins anew."""


@dataclass(frozen=True, slots=True)
class ExportPlan:
    """What all steps of an export go by."""

    token: str
    """Names the folder of what belongs to this plan: another plan begins with nothing."""
    identity: str
    """What tells the disk's file from itself when it was changed."""
    upload: str
    """The id of the upload."""
    part: int
    """Bytes of every part of the object but the last."""
    slices: tuple[Slice, ...]
    """Of a packed format their ``data`` are guest bytes; else whole parts of the object, and so their bytes."""

    def save(self, folder: Path) -> None:
        """Write it down, durably. Raises ``StoreError``."""
        write_durably(folder / "plan.json", json.dumps(asdict(self)))


def load_plan(folder: Path) -> ExportPlan | None:
    """What was saved in ``folder``, if anything was."""
    try:
        facts = json.loads((folder / "plan.json").read_text())
        return ExportPlan(**{**facts, "slices": tuple(Slice(**piece) for piece in facts["slices"])})
    except (OSError, ValueError, TypeError, KeyError):  # none, or cut short by the power
        return None


def plan_export(disk: Disk, identity: str, packer: Packer | None) -> ExportPlan:
    """The plan for ``disk``, but for its upload: packed as ``packer`` does it, or as its bytes are.

    Raises ``StoreError`` for what is too large for an object in S3.
    """
    if packer is None:
        part = _part_size(disk.size)
        return ExportPlan(secrets.token_hex(8), identity, "", part, tuple(_cut(disk.size, part)))
    unit = packer.slice_unit
    data = count_granules(disk, unit)
    part = _part_size(packer.front + data + data // _OVERHEAD + _ENDS)
    slices = plan_slices(disk.extents(), disk.size, packer.granularity, target=_SLICE_DATA, unit=unit)
    return ExportPlan(secrets.token_hex(8), identity, "", part, tuple(slices))


def with_upload(plan: ExportPlan, upload: str) -> ExportPlan:
    """``plan`` with the id of its upload."""
    return replace(plan, upload=upload)


def make_folder(folder: Path) -> None:
    """Make ``folder``. Raises ``StoreError``."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise foreign_error(error, str(folder)) from error


def write_durably(path: Path, text: str) -> None:
    """Let ``text`` stand at ``path``, whole or not at all. Raises ``StoreError``."""
    partial = path.with_name(f"{path.name}.new")
    try:
        with partial.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise foreign_error(error, str(path)) from error


def _part_size(size: int) -> int:
    part = max(MIN_PART, round_up(-(-size // _MAX_PARTS), MIB))
    if part > _MAX_PART:
        raise StoreError(
            f"The object would have up to {format_size(size)}; S3 takes {format_size(_MAX_PART * _MAX_PARTS)}: export "
            "it in a format that leaves empty space out (VMDK, VHDX)."
        )
    return part


def _cut(size: int, part: int) -> Sequence[Slice]:
    """Slices of whole parts: what S3 takes is what such an object costs, for its holes are sent as zeros."""
    step = max(_SLICE_DATA // part, -(-size // (part * MAX_SLICES)), 1) * part
    ends = [(start, min(start + step, size)) for start in range(0, size, step)]
    return [Slice(start, end, end - start) for start, end in ends]

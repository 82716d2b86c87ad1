"""The hostile corpus: every evil file, by name. What is evil about each stands beside it."""

from __future__ import annotations

from tests.hostile import (
    evil_appliance,
    evil_machines,
    evil_other,
    evil_packed,
    evil_qcow2,
    evil_vhd,
    evil_vhdx,
    evil_vmdk,
)
from tests.hostile.evil import Evil

_MODULES = (evil_qcow2, evil_vmdk, evil_vhd, evil_vhdx, evil_appliance, evil_machines, evil_packed, evil_other)

CORPUS: dict[str, Evil] = {item.name: item for module in _MODULES for item in module.items()}

"""Which disk is the root, and under which device name each goes into the AMI."""

from __future__ import annotations

import string
from collections.abc import Sequence

ROOT_DEVICE = "/dev/sda1"
"""The root's name where the caller gives none: EC2's, for imported images."""

_ROOT_NAMES = frozenset({"/dev/sda1", "/dev/sda", "/dev/xvda"})
_DATA_DEVICES = (
    *(f"/dev/sd{letter}" for letter in string.ascii_lowercase[5:]),
    *(f"/dev/xvd{group}{letter}" for group in "bc" for letter in string.ascii_lowercase),
)
"""EC2's recommended names for data volumes, /dev/sdf to /dev/sdz; then others that it takes, from /dev/xvdba on."""


def asked_root(asked: Sequence[str | None]) -> int | None:
    """The index of the first disk that the caller names like a root device; ``None`` where there is none."""
    return next((index for index, name in enumerate(asked) if name in _ROOT_NAMES), None)


def name_devices(root: int, asked: Sequence[str | None]) -> list[str]:
    """A device name for every disk: the one asked for, ``/dev/sda1`` for the root, then ``/dev/sdf`` onwards.

    For no more disks than quotas can be set to.
    """
    taken = {name for name in asked if name is not None}
    free = iter([name for name in _DATA_DEVICES if name not in taken])
    names = []
    for index, name in enumerate(asked):
        if name is not None:
            names.append(name)
        elif index == root and ROOT_DEVICE not in taken:
            names.append(ROOT_DEVICE)
        else:
            names.append(next(free))
    return names

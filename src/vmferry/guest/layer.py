"""A qcow2 file that another program writes to in an overlay's place: taken over by it, or thrown away."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vmferry.errors import ComputeError, GuestError
from vmferry.guest.boot_check.nbd import NbdServer
from vmferry.guest.boot_check.qcow2_overlay import commit_overlay, make_overlay
from vmferry.guest.overlay import OverlayDisk


@contextmanager
def layer_over(overlay: OverlayDisk, work: Path) -> Iterator[Path]:
    """A qcow2 file in the folder ``work`` that shows ``overlay``, for as long as the context lasts.

    Nobody may write to ``overlay`` meanwhile. Raises what reading it raised, in the place of what came of that;
    ``ConfigError`` where qemu-img is missing, ``ComputeError`` where it fails.
    """
    layer = work / "disk.qcow2"
    with NbdServer([overlay], work / "nbd") as nbd:
        try:
            make_overlay(nbd.address(0), layer)
            yield layer
        except (ComputeError, GuestError) as error:
            raise nbd.problem or error from error
    if nbd.problem is not None:
        raise nbd.problem


def take_over(overlay: OverlayDisk, work: Path, layer: Path) -> None:
    """Write what ``layer`` holds to ``overlay``, over which it was made. Raises as ``layer_over`` and ``overlay``."""
    with NbdServer([overlay], work / "nbd", writable=True) as nbd:
        try:
            commit_overlay(layer)
        except ComputeError as error:
            raise nbd.problem or error from error

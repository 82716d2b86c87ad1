"""From disks to facts: the part of a look that parses. ``look`` runs it in a child process without rights."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vmferry.errors import GuestError
from vmferry.guest.facts import GuestFacts, SystemFacts, VolumeFacts
from vmferry.guest.mounts import Mounter
from vmferry.guest.systems import describe_system, find_foreign, find_roots, rank
from vmferry.guest.volumes import find_volumes
from vmferry.guest.window import Area, BlockCache
from vmferry.limits import MAX_LOOK_CACHE


def look_inside(
    disks: Sequence[Area],
    *,
    note: Callable[[str], None] = lambda _: None,
    so_far: Callable[[GuestFacts], None] = lambda _: None,
) -> GuestFacts:
    """The facts about what is in ``disks``, which stand in the machine's order.

    ``note`` is told what is read next, ``so_far`` what is known already, lest it be lost when reading ends the process.
    Damaged contents give problems. Raises ``StoreError`` and ``UnsafeDiskError`` as the disks; what their ``read_at``
    raises as ``GuestError`` ends the look early.
    """
    problems: list[str] = []
    note("the partition tables and superblocks")
    caches = [BlockCache(disk, MAX_LOOK_CACHE // max(len(disks), 1)) for disk in disks]
    try:
        volumes = find_volumes(caches, problems.append)
    except GuestError as error:
        return GuestFacts(problems=(str(error),))
    so_far(GuestFacts(tuple(volume.facts for volume in volumes), problems=tuple(problems)))
    mounter = Mounter(volumes, note)
    systems: list[SystemFacts] = []
    for root in find_roots(mounter):
        note(f"the system on {root.place}")
        try:
            system = describe_system(root, mounter)
        except GuestError as error:
            problems.append(f"{root.place}: {error}")
            continue
        if system is not None:
            systems.append(system)
            so_far(_facts(mounter.facts(), systems, problems))
    try:
        systems = rank(systems, mounter, caches) or find_foreign(volumes)
    except GuestError as error:
        problems.append(str(error))
    return _facts(mounter.facts(), systems, problems)


def _facts(volumes: Sequence[VolumeFacts], systems: Sequence[SystemFacts], problems: Sequence[str]) -> GuestFacts:
    return GuestFacts(tuple(volumes), tuple(systems), tuple(problems))

"""How a machine fits one product: where its disks hang, which cards it has, what it is called. Nothing is written."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from vmferry.appliances._guest_words import GuestKind, find_guest
from vmferry.appliances._ova_targets import TARGETS, Bus, TargetFacts
from vmferry.appliances._targets import Controller, Target
from vmferry.errors import UnsupportedFeatureError, quote
from vmferry.machine import Firmware, Machine, MachineDisk, NetworkInterface
from vmferry.units import MIB, round_up

MEMORY_STEP = 4 * MIB
"""VMware takes whole multiples of it."""
_NVME_FAMILY = "vmx-13"
"""The first hardware version with NVMe: ESXi 6.5."""
_MAC = re.compile(r"(?:[0-9A-Fa-f]{2}[:-]?){6}")
_NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_CARDS = (
    ("vmxnet3", "vmxnet3"),
    ("e1000e", "e1000e"),
    ("e1000|8254[0-9]", "e1000"),
    ("pcnet|am79c97|vlance", "pcnet32"),
    ("virtio", "virtio"),
    ("synthetic|netvsc", "synthetic"),
)
"""What other products call a card → its family."""

Place = tuple[str, int, int]
"""Bus, controller, unit."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A machine as one product's descriptor says it."""

    machine: Machine
    """What a reader makes of the descriptor, notes apart."""
    scsi_subtype: str | None
    guest: GuestKind
    guest_words: str | None
    """The operating system in the source's own words."""
    notes: tuple[str, ...]
    """What had to be changed, one sentence each."""


def plain_text(text: str) -> str:
    """``text`` as it may stand in XML, in one line, at most 200 characters; blanks at its ends left out."""
    return _NOT_XML.sub("\ufffd", quote(text)).strip()


def fit(
    machine: Machine, disks: Sequence[MachineDisk], target: Target, controller: Controller | None, family: str | None
) -> Fitted:
    """``machine`` with ``disks``, whose places are their old ones, as ``target`` takes it.

    Raises ``UnsupportedFeatureError`` when the disks do not all find a place, or ``controller`` is none of the
    target's.
    """
    facts = TARGETS[target]
    notes: list[str] = []
    guest = find_guest(machine.guest_os)
    subtype = _scsi_subtype(facts, target, controller, sas=guest.has_sas)
    places = _places(target, disks, machine.firmware, controller, notes)
    if family is None:
        family = _NVME_FAMILY if any(bus == "nvme" for bus, _, _ in places) else facts.families[machine.firmware]
    words = plain_text(machine.guest_os or "") or None
    memory = round_up(max(machine.memory, 1), MEMORY_STEP)
    if target is Target.VIRTUALBOX and machine.firmware is Firmware.UEFI:
        notes.append("VirtualBox takes the firmware from its own settings: enable EFI there after the import.")
    if target is Target.XEN and machine.firmware is Firmware.UEFI:
        notes.append("XenCenter makes a BIOS machine of every OVF of others: set UEFI there after the import.")
    fitted = Machine(
        name=plain_text(machine.name) or "vm",
        cpus=max(machine.cpus, 1),
        memory=memory,
        firmware=machine.firmware,
        disks=tuple(
            replace(disk, bus=bus, controller=number, unit=unit)
            for disk, (bus, number, unit) in zip(disks, places, strict=True)
        ),
        interfaces=tuple(_interface(facts, card, notes) for card in machine.interfaces),
        guest_os=guest.word or words,
        hardware_family=family,
    )
    return Fitted(fitted, subtype, guest, words, tuple(notes))


def bus_of(target: Target, name: str) -> Bus:
    """How ``target`` says the bus of a disk that was placed for it."""
    return TARGETS[target].buses[name]


def _scsi_subtype(facts: TargetFacts, target: Target, controller: Controller | None, *, sas: bool) -> str | None:
    if controller is None:
        default = facts.buses["scsi"].subtype
        return facts.scsi_subtypes[facts.windows_scsi] if sas and facts.windows_scsi else default
    if controller not in known_controllers(target):
        listed = ", ".join(one.value for one in known_controllers(target)) or "none; leave the choice to vmferry"
        raise UnsupportedFeatureError(
            f"{target.value} does not take the controller {controller.value}; it takes: {listed}."
        )
    return facts.scsi_subtypes.get(controller.value)


def known_controllers(target: Target) -> list[Controller]:
    """What the caller may choose for ``target``."""
    facts = TARGETS[target]
    return [
        one for one in Controller if one.value in facts.scsi_subtypes or (one.bus != "scsi" and one.bus in facts.buses)
    ]


def _places(
    target: Target,
    disks: Sequence[MachineDisk],
    firmware: Firmware | None,
    controller: Controller | None,
    notes: list[str],
) -> list[Place]:
    """The disks' own places where the target has all of them, in this order; else new ones, in this order."""
    facts = TARGETS[target]
    lacking = facts.uefi_lacks if firmware is Firmware.UEFI else frozenset()
    buses = {name: bus for name, bus in facts.buses.items() if name not in lacking}
    default, boot = facts.default_bus, None if firmware is Firmware.UEFI else facts.bios_boot_bus
    if controller is not None:
        default, boot, buses = controller.bus, None, {controller.bus: facts.buses[controller.bus]}
    own: list[Place] = [(disk.bus or "", disk.controller, disk.unit) for disk in disks]
    if _are_good(own, buses, boot):
        return own
    bus = buses[default]
    free = [(default, number, unit) for number in range(bus.controllers) for unit in bus.places]
    if boot is not None:
        free.insert(0, (boot, 0, buses[boot].places[0]))
    if len(disks) > len(free):
        raise UnsupportedFeatureError(
            f"The machine has {len(disks)} disks, but {target.value} has {len(free)} places for them on this "
            "controller: choose another one, or leave some disks out."
        )
    if any(disk.bus for disk in disks):
        moved = "; ".join(
            f"{quote(disk.name)} to {name} {number}:{unit}" for disk, (name, number, unit) in _few(disks, free)
        )
        notes.append(f"{target.value} does not take the disks where they hang; they were moved: {moved}.")
    return free[: len(disks)]


def _few(disks: Sequence[MachineDisk], places: list[Place]) -> list[tuple[MachineDisk, Place]]:
    return list(zip(disks, places, strict=False))[:4]


def _are_good(places: list[Place], buses: Mapping[str, Bus], boot: str | None) -> bool:
    """Whether every place is one, and all of them stand in the order in which a reader finds them."""
    for name, number, unit in places:
        bus = buses.get(name)
        if bus is None or number >= bus.controllers or unit not in bus.places:
            return False
    ranks = {name: rank for rank, name in enumerate(dict.fromkeys(name for name, _, _ in places))}
    order = [(ranks[name], number, unit) for name, number, unit in places]
    in_order = all(one < next_one for one, next_one in pairwise(order))
    return in_order and (boot is None or not places or places[0][0] == boot)


def _interface(facts: TargetFacts, card: NetworkInterface, notes: list[str]) -> NetworkInterface:
    lower = (card.model or "").lower()
    family = next((family for pattern, family in _CARDS if re.search(pattern, lower)), None)
    default = next(iter(facts.nics.values()))
    model = facts.nics.get(family or "", default)
    if lower and lower != model.lower() and family not in facts.nics:
        notes.append(f"A network card {quote(card.model)} becomes {quote(model)}.")
    mac = card.mac if card.mac and _MAC.fullmatch(card.mac) else None
    return NetworkInterface(plain_text(card.network or "") or facts.network, model, mac)

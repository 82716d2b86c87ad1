"""What a machine was made of where it came from: kept with its AMI and its instances, so that it can go back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from vmferry.machine import Machine, NetworkInterface


@dataclass(frozen=True, slots=True)
class Hardware:
    """A machine's hardware as far as neither its disks nor its boot mode tell."""

    cpus: int
    memory: int
    """Bytes."""
    guest_os: str | None = None
    """The descriptor's own words for the operating system."""
    interfaces: tuple[NetworkInterface, ...] = ()


def hardware_of(machine: Machine, cards: int) -> Hardware:
    """What is kept of ``machine``, with at most ``cards`` network cards."""
    return Hardware(machine.cpus, machine.memory, machine.guest_os, machine.interfaces[:cards])


def without_addresses(hardware: Hardware | None) -> Hardware | None:
    """The hardware of another machine of the same make: two with one MAC address cannot be in one network."""
    if hardware is None:
        return None
    return replace(hardware, interfaces=tuple(replace(card, mac=None) for card in hardware.interfaces))


def hardware_to_json(hardware: Hardware | None) -> dict[str, Any] | None:
    """As it is recorded."""
    return None if hardware is None else asdict(hardware)


def hardware_from_json(value: Mapping[str, Any] | None) -> Hardware | None:
    """What ``hardware_to_json`` recorded."""
    if value is None:
        return None
    return Hardware(**{**value, "interfaces": tuple(NetworkInterface(**card) for card in value["interfaces"])})

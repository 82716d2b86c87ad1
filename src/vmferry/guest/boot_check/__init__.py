"""Whether a disk really starts: it is run under QEMU on a throw-away overlay, watched, and ended. ``check_boot``."""

from __future__ import annotations

from vmferry.guest.boot_check.check import BootOutcome, check_boot
from vmferry.guest.boot_check.evidence_files import keep_evidence
from vmferry.guest.boot_check.signs import Reached
from vmferry.guest.hardware import BUSES, NETWORK_CARDS, HardwareProfile, choose_hardware

__all__ = [
    "BUSES",
    "NETWORK_CARDS",
    "BootOutcome",
    "HardwareProfile",
    "Reached",
    "check_boot",
    "choose_hardware",
    "keep_evidence",
]

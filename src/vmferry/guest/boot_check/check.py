"""The boot check itself: a guest is watched until it shows a login, or that it will not, or time is up."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from vmferry.disk import Disk
from vmferry.errors import ComputeError, quote
from vmferry.guest.boot_check.accelerator import kvm_usable
from vmferry.guest.boot_check.qemu import RunningGuest, run_guest
from vmferry.guest.boot_check.screen import Screen
from vmferry.guest.boot_check.signs import Reached, plain, read_signs
from vmferry.guest.hardware import HardwareProfile
from vmferry.guest.scratch import scratch_folder

_LOOK_EVERY = 0.3
_SCREEN_EVERY = 3.0
_STILL = {"kvm": 30.0, "tcg": 90.0}
"""Seconds without a change, and without a word, after which a graphical screen counts as one that waits for its
user."""
_AFTER_FAILURE = 3.0
"""Seconds that a guest goes on after the first sign of a failure: what follows explains it."""
_MOST_RESTARTS = 8
"""Windows restarts up to seven times while it finds its new hardware."""
_TAIL = 12


@dataclass(frozen=True, slots=True)
class BootOutcome:
    """What a boot check saw."""

    booted: bool
    reached: Reached
    """How far it got."""
    why: str
    """What that is concluded from: a sentence."""
    seconds: float
    accel: str
    """``kvm`` or ``tcg``."""
    hardware: HardwareProfile
    restarts: int
    serial: bytes
    """What it said on its serial port, the last MiB."""
    screenshot: bytes | None
    """Its last screen, a PNG file."""
    screen_text: str
    """What of it could be read as text."""

    @property
    def last_lines(self) -> tuple[str, ...]:
        """The last lines that it said, quoted: of the serial port, or of the screen where that said nothing."""
        said = self.serial.decode("utf-8", "replace") if self.serial.strip() else self.screen_text
        lines = [line.strip() for line in plain(said).split("\n")]
        return tuple(quote(line) for line in lines if line)[-_TAIL:]


def check_boot(
    disks: Sequence[Disk],
    hardware: HardwareProfile,
    *,
    seconds: float = 600,
    expect: str | None = None,
    accel: str = "",
    watching: Callable[[], None] = lambda: None,
) -> BootOutcome:
    """Start from ``disks[0]`` and watch: the disks are only read, there is no network, and nothing runs afterwards.

    Success is a login prompt, or ``expect`` on the serial port where that is given; or, of a guest that says nothing
    more there, a picture that stands still and is no bug check. ``accel`` is ``kvm`` or ``tcg``; KVM where a probe
    machine runs under it, by default. ``watching`` is called about three times a second; what it raises ends the guest.
    Raises ``ConfigError`` when QEMU or its firmware is missing, ``ComputeError`` when QEMU fails, ``FormatError`` and
    ``StoreError`` as reading the disks does.
    """
    accel = accel or ("kvm" if kvm_usable() else "tcg")
    with scratch_folder() as work, run_guest(disks, hardware, accel, work) as guest:
        return _Watch(guest, hardware, accel, expect, work / "screen.ppm").run(seconds, watching)


def _no_further(reached: Reached) -> str:
    if reached is Reached.NOTHING:
        return "It showed nothing in the time given."
    return f"It got no further than its {reached.words} in the time given."


class _Watch:
    """One guest being watched."""

    def __init__(
        self, guest: RunningGuest, hardware: HardwareProfile, accel: str, expect: str | None, scratch: Path
    ) -> None:
        self._guest = guest
        self._hardware = hardware
        self._accel = accel
        self._expect = expect
        self._scratch = scratch
        self._start = time.monotonic()
        self._screen: Screen | None = None
        self._screen_text = ""
        self._said = b""
        self._changed = self._start
        """When the picture, or what it says on its serial port, was another one."""
        self._looked = 0.0
        self._failed_at: float | None = None

    def run(self, seconds: float, watching: Callable[[], None]) -> BootOutcome:
        while True:
            watching()
            now = time.monotonic()
            if now - self._looked >= _SCREEN_EVERY:
                self._look_at_screen(now)
            outcome = self._conclude(now, now - self._start >= seconds)
            if outcome is not None:
                return outcome
            time.sleep(_LOOK_EVERY)

    def _look_at_screen(self, now: float) -> None:
        self._looked = now
        with suppress(ComputeError):  # QEMU may end at any moment: the next look at it says so
            screen = self._guest.monitor.screen(self._scratch)
            if self._screen is None or screen.differs(self._screen):
                self._changed = now
                self._screen_text = screen.text()
            self._screen = screen

    def _conclude(self, now: float, time_is_up: bool) -> BootOutcome | None:
        """What is certain by now; ``None`` where nothing is."""
        heard = self._guest.serial()
        if heard != self._said:
            self._said, self._changed = heard, now
        said = plain(heard.decode("utf-8", "replace"))
        read = read_signs(f"{self._screen_text}\n{said}")
        if self._expect is not None and self._expect in said:
            return self._booted(Reached.LOGIN, f"It said {quote(self._expect)} on its serial port.")
        if self._expect is None and read.reached is Reached.LOGIN:
            return self._booted(read.reached, "It shows a login prompt.")
        if read.failure is not None:
            self._failed_at = self._failed_at or now
            if time_is_up or self._guest.ended or now - self._failed_at > _AFTER_FAILURE:
                return self._failed(read.reached, read.failure)
            return None
        if self._guest.ended:
            words = self._guest.last_words()
            return self._failed(read.reached, f"The machine was switched off{': ' + words if words else ''}.")
        if self._guest.monitor.restarts > _MOST_RESTARTS:
            return self._failed(read.reached, f"It restarted {self._guest.monitor.restarts} times.")
        return self._conclude_from_picture(now, read.reached) or (
            self._failed(read.reached, _no_further(read.reached)) if time_is_up else None
        )

    def _conclude_from_picture(self, now: float, reached: Reached) -> BootOutcome | None:
        screen = self._screen
        if screen is None or self._expect is not None:
            return None
        if screen.is_bug_check:
            return self._failed(max(reached, Reached.KERNEL), "Windows shows a bug check (a blue screen).")
        waits = now - self._changed > _STILL[self._accel] and not screen.is_blank and not self._screen_text
        if waits and reached not in (Reached.KERNEL, Reached.INITRAMFS):
            return self._booted(Reached.SYSTEM, "Its picture stands still, and is none of a known failure.")
        return None

    def _booted(self, reached: Reached, why: str) -> BootOutcome:
        return replace(self._failed(reached, why), booted=True)

    def _failed(self, reached: Reached, why: str) -> BootOutcome:
        self._look_at_screen(time.monotonic())
        return BootOutcome(
            booted=False,
            reached=reached,
            why=why,
            seconds=time.monotonic() - self._start,
            accel=self._accel,
            hardware=self._hardware,
            restarts=self._guest.monitor.restarts,
            serial=self._guest.serial(),
            screenshot=None if self._screen is None else self._screen.png(),
            screen_text=self._screen_text,
        )

"""What a boot check saw, kept as files for whoever asks why."""

from __future__ import annotations

from pathlib import Path

from vmferry.blob import foreign_error
from vmferry.guest.boot_check.check import BootOutcome


def keep_evidence(outcome: BootOutcome, folder: Path) -> None:
    """Keep what was said on the serial port and seen on the screen as files in ``folder``, which is made.

    Raises ``StoreError``.
    """
    files = {"serial.log": outcome.serial, "screen.txt": outcome.screen_text.encode(), "screen.png": outcome.screenshot}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            if content:
                (folder / name).write_bytes(content)
    except OSError as error:
        raise foreign_error(error, str(folder)) from error

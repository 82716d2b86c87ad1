"""The console on the serial port, in what boot loaders pass to the kernel, or make of it.

A machine without a screen that anybody looks at shows what it does there: ``virsh console``, GetConsoleOutput. What
the kernel names last is ``/dev/console``, where services write: that stays the screen.

Sources: kernel documentation, *Linux Serial Console*; systemd-getty-generator(8), which has a login wait at each.
"""

from __future__ import annotations

import re

CONSOLES = b"console=ttyS0,115200 console=tty0"

_PASSED = re.compile(
    rb"""^[ \t]*(?:linux(?:16|efi)?[ \t]+(?!\S*memtest)\S|kernel[ \t]+/|options[ \t]+\S|append[ \t]+\S).*$""",
    re.MULTILINE | re.IGNORECASE,
)
"""GRUB's ``linux`` (but the memory test's, which has such a parameter, too), GRUB Legacy's ``kernel``, BLS'
``options``, extlinux' ``append``."""
_DEFAULTS = re.compile(rb"""^(GRUB_CMDLINE_LINUX=)(["'])(.*)(\2)([ \t]*)$""", re.MULTILINE)
_FILE_OF_PARAMETERS, _FILE_OF_DEFAULTS = "/etc/kernel/cmdline", "/etc/default/grub"
_CHOSEN = b"console="
"""Where that is, somebody has chosen."""


def add_serial_console(path: str, text: bytes) -> bytes:
    """``text`` of the file at ``path`` with the console on the serial port and on the screen, where it names none."""
    if path in (_FILE_OF_PARAMETERS, _FILE_OF_DEFAULTS) and _CHOSEN in text:
        return text
    if path == _FILE_OF_PARAMETERS:
        line, end, rest = text.partition(b"\n")
        return line.rstrip() + b" " + CONSOLES + end + rest if line.strip() else text
    if path == _FILE_OF_DEFAULTS:
        return _DEFAULTS.sub(lambda found: found[1] + found[2] + _with(found[3]) + found[4] + found[5], text, count=1)
    if any(_CHOSEN in found[0] for found in _PASSED.finditer(text)):
        return text
    return _PASSED.sub(lambda found: found[0].rstrip() + b" " + CONSOLES, text)


def _with(parameters: bytes) -> bytes:
    return parameters + b" " + CONSOLES if parameters.strip() else CONSOLES

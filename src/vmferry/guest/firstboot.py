"""A script of the user's that a Linux guest runs when it is started for the first time on the new side.

Source: systemd.service(5), systemd.unit(5): a folder ``….target.d`` adds to a target, as a link in ``….wants`` would.
"""

from __future__ import annotations

from vmferry.errors import UnpreparableError
from vmferry.guest.workbench import Workbench

_SCRIPT = "/etc/vmferry/firstboot"
_UNITS = "/etc/systemd/system"
_FILES = {
    f"{_UNITS}/vmferry-firstboot.service": f"""[Unit]
Description=The script of the first start after the import (vmferry)
Wants=network-online.target
After=network-online.target
ConditionPathExists=!{_SCRIPT}.done

[Service]
Type=oneshot
ExecStart=/bin/sh -c 'chmod 0700 {_SCRIPT} && exec {_SCRIPT}'
ExecStartPost=/bin/touch {_SCRIPT}.done
TimeoutStartSec=infinity
StandardOutput=journal+console
StandardError=journal+console
""",
    f"{_UNITS}/multi-user.target.d/vmferry-firstboot.conf": "[Unit]\nWants=vmferry-firstboot.service\n",
}


def add_firstboot(bench: Workbench, script: bytes) -> None:
    """Let the guest run ``script`` once, at its next start, after the network is up; until it ends with 0.

    Without an interpreter in its first line it is one of the shell. Raises ``UnpreparableError`` where the guest
    has no systemd, and as ``Workbench.add``.
    """
    if not bench.tree.is_folder(_UNITS):
        raise UnpreparableError("The guest has no systemd, which runs the script of the first start.")
    script = script if script.startswith(b"#!") else b"#!/bin/sh\n" + script
    why = "the script of the first start, as was asked for"
    for path, content in ((_SCRIPT, script), *((path, text.encode()) for path, text in _FILES.items())):
        old = bench.tree.read(path)
        if old is None:
            bench.add(path, content, why)
        elif old != content:
            bench.replace(path, len(content), [content], why)

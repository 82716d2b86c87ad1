"""Another hypervisor's tools in a Linux guest: their services start no more. The packages are the guest's to remove.

Source: systemd.unit(5): an empty file of a unit masks it, also one that System V's scripts give.
"""

from __future__ import annotations

from vmferry.guest.files import Files
from vmferry.guest.linux.services import Services
from vmferry.guest.linux.tools import SERVICES, find_tools
from vmferry.guest.workbench import Workbench

_OWN_UNITS = "/etc/systemd/system"


def mask_tools(bench: Workbench) -> None:
    """Let no tools start that are another hypervisor's. Raises ``GuestError`` as ``Workbench.add``."""
    tree, files = bench.tree, Files(bench.tree)
    if not tree.is_folder(_OWN_UNITS):
        return
    services = Services(files)
    for tool in find_tools(files):
        for name in SERVICES.get(tool, ()):
            path = f"{_OWN_UNITS}/{name}.service"
            if not services.starts(name) or tree.link(path) is not None:  # an alias: the unit itself is named, too
                continue
            why = f"{tool} is another hypervisor's: its service does not start; it does once this file is removed"
            if tree.is_file(path):
                bench.replace(path, 0, (), why)
            else:
                bench.add(path, b"", why)

"""Another hypervisor's tools start no more once a guest is prepared."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.guest.ext_images import dump
from tests.guest.test_network_mending import Prepared, guest
from vmferry.guest.files import Files
from vmferry.guest.filesystems.memory import MemoryFileSystem
from vmferry.guest.linux.services import Services
from vmferry.guest.tree import Tree

pytestmark = pytest.mark.slow

UNIT = b"[Service]\nExecStart=/usr/bin/vmtoolsd\n"
WANTS = "etc/systemd/system/multi-user.target.wants"


def test_services_of_tools_are_masked(tmp_path: Path) -> None:
    files = {
        "usr/bin/vmtoolsd": b"x",
        "usr/lib/systemd/system/open-vm-tools.service": UNIT,
        f"{WANTS}/open-vm-tools.service": b"->/usr/lib/systemd/system/open-vm-tools.service",
        "etc/systemd/system/vmtoolsd.service": b"->/usr/lib/systemd/system/open-vm-tools.service",
        "usr/sbin/VBoxService": b"x",
        "etc/systemd/system/vboxadd-service.service": UNIT,
        f"{WANTS}/vboxadd-service.service": b"->/etc/systemd/system/vboxadd-service.service",
        "usr/bin/qemu-ga": b"x",
        "usr/lib/systemd/system/qemu-guest-agent.service": UNIT,
        f"{WANTS}/qemu-guest-agent.service": b"->/usr/lib/systemd/system/qemu-guest-agent.service",
    }
    prepared = Prepared(guest(**files), tmp_path)
    masked = ["/etc/systemd/system/open-vm-tools.service", "/etc/systemd/system/vboxadd-service.service"]
    assert prepared.changed() == masked
    assert [dump(prepared.root, path) for path in masked] == [b"", b""]
    assert dump(prepared.root, f"{masked[1]}.pre-vmferry") == UNIT
    assert prepared.again().changes == []


def test_tools_that_do_not_start_are_left_alone(tmp_path: Path) -> None:
    files = {"usr/bin/vmtoolsd": b"x", "usr/lib/systemd/system/open-vm-tools.service": UNIT}
    assert Prepared(guest(**files), tmp_path).changed() == []


@pytest.mark.parametrize("content", [b"", "/dev/null"])
def test_a_masked_unit_does_not_start(content: bytes | str) -> None:
    """An empty file masks a unit as a link to /dev/null does."""
    wants = "/etc/systemd/system/multi-user.target.wants/ssh.service"
    unit = "/usr/lib/systemd/system/ssh.service"
    there: dict[str, bytes | str | None] = {"/usr/lib/systemd/systemd": b"x", unit: UNIT, wants: unit}
    assert Services(Files(Tree({"/": MemoryFileSystem(there)}))).starts("ssh")
    there["/etc/systemd/system/ssh.service"] = content
    assert Services(Files(Tree({"/": MemoryFileSystem(there)}))).starts("ssh") is False

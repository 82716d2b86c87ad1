"""Real guests go all the way: looked into, imported and started as they are, and prepared and started on virtio.

Each of firmware, layout and drivers meets each of the others in one of the four guests.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cli.material import call_vmferry
from tests.server.harness import Server
from tests.server.material import holds

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
from build_guest import cached_guest

pytestmark = [pytest.mark.server, pytest.mark.slow]

READY, NO_ROOT = "VMFERRY-GUEST-READY", "VMFERRY-GUEST-NO-ROOT"


@dataclass(frozen=True)
class Guest:
    """What is to be found in it."""

    firmware: str
    lvm: bool
    kind: str
    """``tiny`` has virtio in its initramfs, ``hostonly`` on its root alone."""

    @property
    def knows_virtio(self) -> bool:
        return self.kind == "tiny"

    @property
    def bus(self) -> str:
        """The quickest that it knows as it is."""
        return "virtio" if self.knows_virtio else {"bios": "sata", "uefi": "nvme"}[self.firmware]

    @property
    def device(self) -> str:
        """What its root is called on that bus."""
        return (
            "/dev/dm-0" if self.lvm else {"virtio": "/dev/vda", "sata": "/dev/sda", "nvme": "/dev/nvme0n1p"}[self.bus]
        )


GUESTS = [
    Guest("bios", lvm=False, kind="hostonly"),
    Guest("uefi", lvm=True, kind="hostonly"),
    Guest("bios", lvm=True, kind="tiny"),
    Guest("uefi", lvm=False, kind="tiny"),
]


@pytest.fixture(params=GUESTS, ids=lambda guest: f"{guest.firmware}-{'lvm' if guest.lvm else 'plain'}-{guest.kind}")
def guest(request: pytest.FixtureRequest) -> Guest:
    found: Guest = request.param
    return found


@pytest.fixture
def disk(guest: Guest) -> Path:
    return cached_guest(guest.kind, guest.firmware, lvm=guest.lvm)


def starts(disk: Path, bus: str, expect: str) -> None:
    done = call_vmferry("boot-check", disk, "--bus", bus, "--seconds", "240", "--expect", expect)
    assert done.returncode == 0, done.stderr


def import_and_start(server: Server, disk: Path, evidence: Path, *words: str) -> tuple[str, str]:
    """The snapshot of the AMI that an import with a boot check makes, and what the machine said on its serial port."""
    done = server.vmferry("import", str(disk), "--format", "raw", "--boot-check", "--json", *words)
    assert done.returncode == 0, done.stderr
    assert "booting" in done.stderr
    task = json.loads(done.stdout)
    shown = server.vmferry("tasks", "show", task["ImportTaskId"], "--evidence", str(evidence))
    assert shown.returncode == 0, shown.stderr
    assert (evidence / "screen.png").read_bytes().startswith(b"\x89PNG")
    return task["SnapshotDetails"][0]["SnapshotId"], serial_log(server, task["ImportTaskId"])


def serial_log(server: Server, task_id: str) -> str:
    """What the machine said, from where the task's tags say that it lies."""
    (task,) = server.client("ec2").describe_import_image_tasks(ImportTaskIds=[task_id])["ImportImageTasks"]
    place = {tag["Key"]: tag["Value"] for tag in task["Tags"]}["vmferry:evidence:serial.log"]
    bucket, _, key = place.removeprefix("s3://").partition("/")
    said: bytes = server.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    return said.decode(errors="replace")


def facts_of(disk: Path) -> dict[str, Any]:
    done = call_vmferry("inspect", disk, "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_what_is_in_it_is_found(guest: Guest, disk: Path) -> None:
    found = facts_of(disk)
    (system,) = found["guest"]["systems"]
    assert system["root"] == ("vg-0/root" if guest.lvm else f"disk 1, partition {1 if guest.firmware == 'bios' else 2}")
    (kernel,) = system["linux"]["kernels"]
    assert ("virtio_blk" in kernel["in_initramfs"]) == guest.knows_virtio
    assert bool(system["linux"]["efi_fallback"]) == (guest.firmware == "uefi")
    advised = found["hardware"]
    assert (advised["firmware"], advised["bus"]) == ({"bios": "legacy-bios"}.get(guest.firmware, "uefi"), guest.bus)
    named = {finding["id"] for finding in found["preflight"]["vmferry"]}
    assert ("no-virtio-driver" in named) == (not guest.knows_virtio)


def test_as_it_is_it_is_imported_byte_for_byte_and_starts(
    guest: Guest, disk: Path, server: Server, tmp_path: Path
) -> None:
    snapshot_id, said = import_and_start(server, disk, tmp_path)
    assert holds(server, snapshot_id, disk)
    assert f"{READY} vmferry tiny guest on {guest.device}" in said
    if not guest.knows_virtio:
        starts(disk, "virtio", NO_ROOT)


def test_prepared_it_starts_on_virtio(guest: Guest, disk: Path, server: Server, tmp_path: Path) -> None:
    snapshot_id, said = import_and_start(server, disk, tmp_path, "--prepare")
    assert f"{READY} vmferry tiny guest on {'/dev/dm-0' if guest.lvm else '/dev/vda'}" in said
    assert facts_of(server.locate(snapshot_id))["hardware"]["bus"] == "virtio"
    if guest.knows_virtio:  # and what a machine without virtio offers is enough for it, too
        starts(disk, "sata", READY)

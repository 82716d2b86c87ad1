"""Real guests go all the way: looked into, imported and started as they are, and prepared and started on virtio.

Each of firmware, layout and drivers meets each of the others in one of the four guests, of which one is a whole Debian.
A start costs ten seconds of a processor, a Debian's 25: each is made once, and proves what no other one does.
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

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.timeout(1500)]

READY, NO_ROOT = "VMFERRY-GUEST-READY", "VMFERRY-GUEST-NO-ROOT"
SECONDS = 1200
"""What one start may take, however much else the machine has to do."""


@dataclass(frozen=True)
class Guest:
    """What is to be found in it."""

    firmware: str
    lvm: bool
    kind: str
    """``tiny`` has virtio in its initramfs, ``hostonly`` and ``complete``, the Debian, on their roots alone."""

    def __str__(self) -> str:
        return f"{self.firmware}-{'lvm' if self.lvm else 'plain'}-{self.kind}"

    @property
    def knows_virtio(self) -> bool:
        return self.kind == "tiny"

    @property
    def bus(self) -> str:
        """The quickest that it knows as it is."""
        return "virtio" if self.knows_virtio else {"bios": "sata", "uefi": "nvme"}[self.firmware]

    def says_on(self, bus: str) -> list[str]:
        """What it says once it has started on ``bus``."""
        device = {"virtio": "vda", "sata": "sda", "nvme": "nvme0n1p"}[bus]
        if self.kind == "complete":
            return [f"EXT4-fs ({device}1): mounted filesystem", "vmferry-guest login:"]
        return [f"{READY} vmferry tiny guest on /dev/{'dm-0' if self.lvm else device}"]


GUESTS = [
    Guest("bios", lvm=False, kind="complete"),
    Guest("uefi", lvm=True, kind="hostonly"),
    Guest("bios", lvm=True, kind="tiny"),
    Guest("uefi", lvm=False, kind="tiny"),
]


of_each = pytest.mark.parametrize("guest", GUESTS, ids=str)
with_virtio = pytest.mark.parametrize("guest", [guest for guest in GUESTS if guest.knows_virtio], ids=str)
without_virtio = pytest.mark.parametrize("guest", [guest for guest in GUESTS if not guest.knows_virtio], ids=str)


@pytest.fixture
def disk(guest: Guest) -> Path:
    return cached_guest(guest.kind, guest.firmware, lvm=guest.lvm)


@pytest.fixture(scope="module")
def uploaded() -> dict[Guest, str]:
    return {}


@pytest.fixture
def source(guest: Guest, disk: Path, server: Server, uploaded: dict[Guest, str], tmp_path: Path) -> str:
    """Where it lies in S3, once for all tests, as a VMDK, as most machines come: a tenth of the bytes."""
    if guest not in uploaded:
        image = tmp_path / f"{disk.stem}.vmdk"
        assert call_vmferry("convert", disk, image).returncode == 0
        uploaded[guest] = f"s3://guests/{server.upload(image, 'guests')}"
    return uploaded[guest]


def starts(disk: Path, bus: str, expect: str) -> None:
    done = call_vmferry("boot-check", disk, "--bus", bus, "--seconds", str(SECONDS), "--expect", expect)
    assert done.returncode == 0, done.stderr


def import_and_start(server: Server, source: str, *words: str) -> tuple[dict[str, Any], str]:
    """The task of an import with a boot check, and what the machine said on its serial port and its screen."""
    done = server.vmferry("import", source, "--boot-check", "--json", *words, seconds=SECONDS + 200)
    assert done.returncode == 0, done.stderr
    assert "booting" in done.stderr
    task: dict[str, Any] = json.loads(done.stdout)
    return task, words_of(server, task["ImportTaskId"])


def snapshot_of(task: dict[str, Any]) -> str:
    return str(task["SnapshotDetails"][0]["SnapshotId"])


def words_of(server: Server, task_id: str) -> str:
    """What the machine said, from where the task's tags say that it lies: the Debian asks for a login on both, and
    which comes first is not certain."""
    (task,) = server.client("ec2").describe_import_image_tasks(ImportTaskIds=[task_id])["ImportImageTasks"]
    tags = {tag["Key"]: tag["Value"] for tag in task["Tags"]}
    said = b""
    for place in (tags.get(f"vmferry:evidence:{name}") for name in ("serial.log", "screen.txt")):
        bucket, _, key = (place or "").removeprefix("s3://").partition("/")
        said += server.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read() if place else b""
    return said.decode(errors="replace")


def facts_of(disk: Path) -> dict[str, Any]:
    done = call_vmferry("inspect", disk, "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@of_each
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


@without_virtio
def test_as_it_is_it_is_imported_byte_for_byte_and_starts(
    guest: Guest, disk: Path, source: str, server: Server, tmp_path: Path
) -> None:
    task, said = import_and_start(server, source)
    assert holds(server, snapshot_of(task), disk)
    assert all(words in said for words in guest.says_on(guest.bus))
    shown = server.vmferry("tasks", "show", task["ImportTaskId"], "--evidence", str(tmp_path))
    assert shown.returncode == 0, shown.stderr
    assert (tmp_path / "screen.png").read_bytes().startswith(b"\x89PNG")


@of_each
def test_prepared_it_starts_on_virtio(guest: Guest, disk: Path, source: str, server: Server) -> None:
    """What knows virtio has nothing to be prepared: its image is the disk as it is, on the bus that it is advised."""
    task, said = import_and_start(server, source, "--prepare")
    assert all(words in said for words in guest.says_on("virtio"))
    assert facts_of(server.locate(snapshot_of(task)))["hardware"]["bus"] == "virtio"
    assert holds(server, snapshot_of(task), disk) == guest.knows_virtio


@with_virtio
def test_what_knows_virtio_starts_on_the_fallback_too(guest: Guest, disk: Path) -> None:
    starts(disk, "sata", guest.says_on("sata")[0])


def test_unprepared_it_finds_no_root_on_virtio() -> None:
    """The Debian does not either, which costs twice as much to see."""
    starts(cached_guest("hostonly", "uefi", lvm=True), "virtio", NO_ROOT)

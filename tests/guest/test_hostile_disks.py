"""Whole guests made to harm whoever looks at them: each ends in a finding, in bounded memory, and in words that can be
printed."""

from __future__ import annotations

import gzip
import json
import random
import re
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.cli.material import call_vmferry
from tests.guest.debian_disk import GRUB, UUID, VERSION, debian, grub_cfg, make_disk, make_root
from tests.guest.disks import partitioned
from tests.guest.images import make_fat
from tests.guest.linux_guests import ROOT_UUID, make_ext
from tests.guest.linux_guests import VERSION as PREPARED
from tests.guest.linux_guests import debian as preparable
from tests.guest.linux_guests import make_disk as make_mbr_disk
from tests.guest.linux_trees import cpio
from tests.guest.test_hostile_file_systems import Damaged, look_at, used_blocks
from tests.guest.test_windows_disks import ntfs
from tests.guest.trees import OS_RELEASE, open_raw
from tests.guest.windows_trees import VIRTIO_FILE, bcd, files, mbr_device, virtio
from vmferry.blob import MemoryBlob
from vmferry.formats import FORMATS, open_disk
from vmferry.guest.look import look
from vmferry.guest.overlay import OverlayDisk
from vmferry.guest.prepare import prepare_linux
from vmferry.limits import MAX_INITRAMFS_UNPACKED, MAX_LOOK_SECONDS
from vmferry.units import MIB, SECTOR

pytestmark = pytest.mark.slow

_INITRAMFS = f"/boot/initrd.img-{VERSION}"
_EVIL = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202e"
"""What clears a screen, gives its window a title, and turns the direction of writing."""
_OBEYED = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")

BOMBS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: gzip.compress(data, 1),
    "zstd": lambda data: zstandard.compress(data, 1),
}


def bomb(packing: str) -> bytes:
    """An archive with one name, and twice as many zeros behind it as are unpacked: in streams, one after the other."""
    pack = BOMBS[packing]
    return pack(cpio({"init": b""})) + pack(bytes(32 * MIB)) * (2 * MAX_INITRAMFS_UNPACKED // (32 * MIB))


@pytest.mark.parametrize("packing", BOMBS)
def test_an_initramfs_that_unpacks_without_end_is_a_finding(packing: str, tmp_path: Path) -> None:
    disk = make_disk(tmp_path, debian(more={_INITRAMFS: bomb(packing)}))
    done = call_vmferry("inspect", disk, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    # The last where the machine has so much else to do that the look's ten seconds are over before.
    known = {"initramfs-unreadable", "initramfs-too-large", "look-ended-early"}
    for rule_set in ("vmferry", "aws"):
        ids = {one["id"] for one in found["preflight"][rule_set]}
        assert known & ids
        assert "no-system" not in ids, "what was not looked at to its end is not known to be missing"


def test_an_initramfs_that_unpacks_without_end_is_prepared_and_told_of(tmp_path: Path) -> None:
    """Drivers are appended to it as to any other: nothing of it need be unpacked for that."""
    guest = preparable()
    guest.files[f"boot/initrd.img-{PREPARED}"] = bomb("zstd")
    disk = make_mbr_disk(make_ext(guest.write(tmp_path / "tree"), tmp_path / "root.img", 12, ROOT_UUID))
    overlay = OverlayDisk(open_disk(MemoryBlob(disk), FORMATS["raw"]))
    done = prepare_linux(overlay, ("virtio",), 1_800_000_000)
    overlay.close()
    assert done.changes[0].path == f"/boot/initrd.img-{PREPARED}"
    assert f"/boot/initrd.img-{PREPARED} could not be read to its end: it unpacks to more than 1 GiB." in done.notes


def test_no_name_or_setting_of_a_guest_is_printed_as_it_is(tmp_path: Path) -> None:
    evil = _EVIL.encode("utf-8", "surrogateescape")
    tree = debian(
        more={
            "/etc/os-release": b'ID=debian\nVERSION_ID="12%b"\nPRETTY_NAME="Debian%b"\n' % (evil, evil),
            "/etc/hostname": b"web%b\n" % evil,
            "/etc/fstab": f"UUID={UUID} / ext4 defaults 0 1\n//nas/{_EVIL} /data{_EVIL} cifs guest 0 0\n".encode(),
            f"/boot/vmlinuz-6.2{_EVIL}": b"no kernel",
            "/boot/grub/grub.cfg": grub_cfg(f"/dev/sda1 x={_EVIL}", f"6.2{_EVIL}"),
            f"/etc/systemd/network/10-{_EVIL}.network": f"[Match]\nName=ens{_EVIL}\n[Network]\nDHCP=yes\n".encode(),
            "/etc/crypttab": f"data UUID=7{_EVIL} none tpm2-device=auto\n".encode(),
            "/etc/lvm/lvm.conf": f'devices {{\nfilter = [ "a|/dev/sda{_EVIL}|", "r|.*|" ]\n}}\n'.encode(),
        }
    )
    root = make_root(tmp_path, tree, "-L", "\x1b[2Jred")
    other = make_root(tmp_path, {"/data": b""}, "-L", "\x1b[2Jtwo", "-U", "random", size="8M", name="other")
    disk = partitioned(tmp_path / "disk.raw", [("83", root), ("83", other)], "dos", GRUB)
    done = call_vmferry("inspect", disk)
    assert done.returncode == 0, done.stderr
    assert "fstab-foreign-mount" in done.stdout
    assert not _OBEYED.search(done.stdout + done.stderr)
    told = call_vmferry("inspect", disk, "--json").stdout
    assert not re.search("[\x00-\x09\x0b-\x1f]", told)


def test_a_fat_whose_chains_lead_in_a_circle_ends(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "etc").mkdir(parents=True)
    (tree / "etc/os-release").write_bytes(OS_RELEASE)
    image = make_fat(tree, tmp_path / "disk.raw", "-F", "32")
    content = bytearray(image.read_bytes())
    (reserved,) = struct.unpack_from("<H", content, 14)
    (size,) = struct.unpack_from("<I", content, 36)
    count = content[16]
    for number in range(count):
        for cluster in range(2, 32):  # every cluster that is in use is followed by itself
            at = (reserved + number * size) * 512 + cluster * 4
            if content[at : at + 4] != bytes(4):
                struct.pack_into("<I", content, at, cluster)
    image.write_bytes(content)
    facts = look([open_raw(image)])
    assert facts.volumes[0].kind == "fat32"
    assert facts.seconds < MAX_LOOK_SECONDS


@pytest.fixture(scope="module")
def windows(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A whole Windows on an NTFS: hives, boot configuration, drivers, and what it wakes up from."""
    more = {**VIRTIO_FILE, "/bootmgr": b"x", "/Boot/BCD": bcd(mbr_device(MIB)), "/hiberfil.sys": b"HIBR" + bytes(8188)}
    return ntfs(tmp_path_factory.mktemp("windows"), "drive", files("2012r2", virtio(), more=more)).read_bytes()


@pytest.fixture(scope="module")
def windows_places(windows: bytes) -> list[int]:
    """Where its sectors hold something; those of the records of its files twice, as all else is found by them."""
    used = used_blocks(windows)
    return used + [at for at in used if windows[at : at + 4] == b"FILE"]


def test_a_windows_is_seen_to_before_it_is_damaged(windows: bytes) -> None:
    facts = look_at(windows)
    assert facts.problems == ()
    assert facts.system is not None
    assert facts.system.windows is not None
    assert facts.system.windows.hibernated


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1 << 32), changes=st.integers(1, 200), value=st.sampled_from([None, 0, 1, 0x7F, 0x80, 0xFF]))
def test_damage_anywhere_in_a_windows_ends_no_look_badly(
    windows: bytes, windows_places: list[int], seed: int, changes: int, value: int | None
) -> None:
    """Single bits, or whole words of one ``value``: sizes, counts and places become large by these."""
    dice = random.Random(seed)
    disk = Damaged(windows)
    for _ in range(changes if value is None else changes // 8 + 1):
        at = dice.choice(windows_places)
        if value is None:
            disk.flip(at + dice.randrange(SECTOR), dice.randrange(8))
        else:
            disk.change(at + 8 * dice.randrange(SECTOR // 8), bytes([value]) * dice.choice((1, 2, 4, 8)))
    look_at(disk)

"""A Linux guest gets the drivers that its initramfs lacks; what cannot be prepared is refused in one line."""

from __future__ import annotations

import gzip
import random
import struct
import subprocess
import sys
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.guest.ext_images import check, dump
from tests.guest.linux_guests import (
    BOOT_UUID,
    DEPENDENCIES,
    ROOT_UUID,
    VERSION,
    LinuxGuest,
    debian,
    make_disk,
    make_ext,
)
from tests.guest.lvm_builder import EXTENT, Group, striped
from vmferry.blob import MemoryBlob
from vmferry.errors import GuestError, UnpreparableError
from vmferry.formats import FORMATS, open_disk
from vmferry.guest import look
from vmferry.guest.device_names import Renamer
from vmferry.guest.facts import VolumeFacts
from vmferry.guest.guestfish import Guestfish
from vmferry.guest.linux.serial_console import CONSOLES
from vmferry.guest.overlay import OverlayDisk
from vmferry.guest.preparation import Preparation
from vmferry.guest.prepare import prepare_guest, prepare_linux
from vmferry.guest.virt_v2v import VirtV2v
from vmferry.units import MIB

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
from linear_volume import make_physical_volume

pytestmark = pytest.mark.slow

NOW = 1_800_000_000
INITRAMFS = f"/boot/initrd.img-{VERSION}"
VIRTIO = ("virtio_pci.ko", "virtio_blk.ko.xz", "virtio_scsi.ko.zst")


def prepare(disk: bytes, *drivers: str) -> tuple[Preparation, bytes]:
    """What is done to ``disk``, and the disk afterwards."""
    overlay = OverlayDisk(open_disk(MemoryBlob(disk), FORMATS["raw"]))
    done = prepare_linux(overlay, drivers or ("virtio",), NOW)
    after = bytes(overlay.read_at(0, overlay.size))
    overlay.close()
    return done, after


def root_disk(guest: LinuxGuest, folder: Path, *options: str) -> bytes:
    return make_disk(make_ext(guest.write(folder / "tree"), folder / "root.img", 12, ROOT_UUID, *options))


def partition(disk: bytes, folder: Path, start: int = MIB, size: int = 12 * MIB) -> Path:
    path = folder / f"after-{start}.img"
    path.write_bytes(disk[start : start + size])
    check(path)
    return path


def unpack(archive: bytes, folder: Path) -> dict[str, bytes]:
    """The files in a packed archive, as cpio unpacks it."""
    folder.mkdir()
    subprocess.run(["cpio", "-idm", "--quiet"], input=gzip.decompress(archive), cwd=folder, check=True)
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_drivers_are_appended_with_what_they_need(tmp_path: Path) -> None:
    guest = debian()
    done, after = prepare(root_disk(guest, tmp_path))
    assert done.system == "Debian GNU/Linux 12 (bookworm)"
    root = partition(after, tmp_path)
    old, new = guest.files[INITRAMFS[1:]], dump(root, INITRAMFS)
    assert new[: len(old)] == old
    assert dump(root, f"{INITRAMFS}.pre-vmferry") == old
    start = len(old) + -len(old) % 4
    assert new[len(old) : start] == bytes(start - len(old))
    inside = unpack(new[start:], tmp_path / "inside")
    folder = f"usr/lib/modules/{VERSION}"
    drivers = {line.partition(":")[0] for line in DEPENDENCIES.splitlines() if "nvme" not in line}
    indexes = {"modules.dep", "modules.alias", "modules.builtin"}
    assert inside == {f"{folder}/{name}": guest.files[f"{folder}/{name}"] for name in drivers | indexes}


def test_what_is_recorded_is_what_was_done(tmp_path: Path) -> None:
    guest = debian()
    done, after = prepare(root_disk(guest, tmp_path))
    root = partition(after, tmp_path)
    assert done.as_json()["changes"][0]["kept_as"] == f"initrd.img-{VERSION}.pre-vmferry"
    for change in done.changes:
        old = guest.files.get(change.path[1:])
        assert change.before == (None if old is None else len(old))
        assert change.after == len(dump(root, change.path))
    text = dump(root, "/etc/initramfs-tools/modules").decode()
    assert text == "# List of modules\n# vmferry\nvirtio_pci\nvirtio_blk\nvirtio_scsi\nvirtio_net\nsd_mod\n"
    assert dump(root, "/etc/initramfs-tools/modules.pre-vmferry") == b"# List of modules\n"


def test_a_prepared_guest_is_left_alone(tmp_path: Path) -> None:
    done, _ = prepare(root_disk(debian(*VIRTIO), tmp_path))
    assert done.changes == []
    _, prepared = prepare(make_disk(make_ext(debian().write(tmp_path / "t2"), tmp_path / "2.img", 12, ROOT_UUID)))
    again, unchanged = prepare(prepared)
    assert (again.changes, unchanged) == ([], prepared)


def test_more_drivers_later_keep_both_old_files(tmp_path: Path) -> None:
    guest = debian()
    _, once = prepare(root_disk(guest, tmp_path))
    done, twice = prepare(once, "virtio", "nvme")
    assert [change.kept_as for change in done.changes] == [
        f"initrd.img-{VERSION}.pre-vmferry-2",
        "modules.pre-vmferry-2",
    ]
    root = partition(twice, tmp_path)
    assert dump(root, f"{INITRAMFS}.pre-vmferry") == guest.files[INITRAMFS[1:]]


def test_drivers_in_the_kernel_are_not_looked_for(tmp_path: Path) -> None:
    done, _ = prepare(root_disk(debian(*VIRTIO), tmp_path), "ahci")
    assert done.changes == []


def test_modules_go_where_the_initramfs_has_its_own(tmp_path: Path) -> None:
    guest = debian()
    guest.add_kernel(VERSION, prefix="lib")
    _, after = prepare(root_disk(guest, tmp_path))
    new = dump(partition(after, tmp_path), INITRAMFS)
    old = len(guest.files[INITRAMFS[1:]])
    assert all(name.startswith("lib/modules/") for name in unpack(new[old + -old % 4 :], tmp_path / "inside"))


def test_dracut_is_told_too(tmp_path: Path) -> None:
    guest = debian()
    del guest.files["etc/initramfs-tools/modules"]
    guest.files[f"boot/initramfs-{VERSION}.img"] = guest.files.pop(f"boot/initrd.img-{VERSION}")
    guest.files["usr/lib/dracut/dracut-init.sh"] = b""
    done, after = prepare(root_disk(guest, tmp_path))
    assert [change.what for change in done.changes] == ["replaced", "added"]
    text = dump(partition(after, tmp_path), "/etc/dracut.conf.d/vmferry.conf")
    assert text == b'add_drivers+=" virtio_pci virtio_blk virtio_scsi virtio_net sd_mod "\n'


def split_disk(guest: LinuxGuest, folder: Path, mib: int, source: str = f"UUID={BOOT_UUID}") -> bytes:
    """A disk with /boot on a partition of ``mib`` MiB of its own."""
    guest.files["etc/fstab"] += f"{source} /boot ext4 defaults 0 2\n".encode()
    tree = guest.write(folder / "tree")
    (tree / "boot").rename(folder / "boot")
    (tree / "boot").mkdir()
    boot = make_ext(folder / "boot", folder / "boot.img", mib, BOOT_UUID, "-O", "^has_journal", "-m", "0")
    return make_disk(boot, make_ext(tree, folder / "root.img", 12, ROOT_UUID))


@pytest.mark.parametrize("source", [f"UUID={BOOT_UUID}", "/dev/sda1", f"/dev/disk/by-uuid/{BOOT_UUID}"])
def test_boot_may_be_a_partition_of_its_own(source: str, tmp_path: Path) -> None:
    done, after = prepare(split_disk(debian(), tmp_path, 4, source))
    renamed = ["/etc/fstab"] if source.startswith("/dev/sda") else []
    assert [change.path for change in done.changes] == [INITRAMFS, "/etc/initramfs-tools/modules", *renamed]
    boot, root = partition(after, tmp_path, MIB, 4 * MIB), partition(after, tmp_path, 5 * MIB)
    assert len(dump(boot, INITRAMFS[5:])) == done.changes[0].after
    assert dump(root, "/etc/initramfs-tools/modules").endswith(b"sd_mod\n")


def test_a_full_boot_is_told_before_anything_is_written(tmp_path: Path) -> None:
    guest = debian()
    guest.files["boot/large"] = random.Random(1).randbytes(1_600_000)
    guest.files[INITRAMFS[1:]] += random.Random(2).randbytes(1_400_000)
    disk = split_disk(guest, tmp_path, 4)
    overlay = OverlayDisk(open_disk(MemoryBlob(disk), FORMATS["raw"]))
    with pytest.raises(GuestError, match=r"does not fit: The file system has .* free, .* are needed: make room"):
        prepare_linux(overlay, ("virtio",), NOW)
    assert list(overlay.changed()) == []


def test_an_older_kernel_that_cannot_be_prepared_is_a_note(tmp_path: Path) -> None:
    guest = debian()
    guest.add_kernel("5.10.0-30-amd64")
    del guest.files["usr/lib/modules/5.10.0-30-amd64/modules.dep"]
    guest.files["usr/lib/modules/5.10.0-30-amd64/modules.dep"] = b"kernel/fs/ext4.ko:\n"
    done, _ = prepare(root_disk(guest, tmp_path))
    assert [change.path for change in done.changes] == [INITRAMFS, "/etc/initramfs-tools/modules"]
    assert len(done.notes) == 1
    assert done.notes[0].startswith(
        "Linux 5.10.0-30-amd64 was left as it is: Linux 5.10.0-30-amd64 has no driver virtio_"
    )


def test_a_root_on_a_logical_volume_is_prepared(tmp_path: Path) -> None:
    root = make_ext(debian().write(tmp_path / "tree"), tmp_path / "root.img", 12, ROOT_UUID)
    volume = make_physical_volume([(7, root[: 5 * MIB]), (0, root[5 * MIB :])], 16)
    done, after = prepare(make_disk(volume))
    assert len(done.changes) == 2
    first = 2 * MIB  # behind the partition table and the volume's own metadata
    image = tmp_path / "after.img"
    image.write_bytes(after[first + 7 * MIB : first + 12 * MIB] + after[first : first + 7 * MIB])
    check(image)
    assert len(dump(image, INITRAMFS)) == done.changes[0].after


def test_a_root_with_a_snapshot_is_left_alone(tmp_path: Path) -> None:
    """The snapshot would show the new bytes for the old ones; one that is being merged would put old ones back."""
    root = make_ext(debian().write(tmp_path / "tree"), tmp_path / "root.img", 12, ROOT_UUID)
    contents = {(0, at): root[at * EXTENT : (at + 1) * EXTENT] for at in range(12)}
    snapshot = 'start_extent = 0\nextent_count = 12\ntype = "snapshot"\nchunk_size = 8\norigin = "root"\n'
    logical = {
        "root": [striped(0, 12, (0, 0))],
        "before": [striped(0, 2, (0, 12))],
        "snapshot0": [f'{snapshot}cow_store = "before"'],
    }
    (volume,) = Group("vg0", [14], logical, contents=contents).build()
    assert "It is a logical volume with a snapshot" in refusal(make_disk(volume))
    (volume,) = Group("vg0", [14], {"root": logical["root"]}, contents=contents).build()
    assert len(prepare(make_disk(volume))[0].changes) == 2


def hibernated(page: int = 4096) -> bytes:
    """A swap that a system is to wake up from."""
    return bytes(page - 10) + b"S1SUSPEND\0" + bytes(MIB - page)


def test_a_hibernated_guest_is_left_alone_by_everybody(tmp_path: Path) -> None:
    """It would wake up with the file systems as they were in its memory."""
    disk = make_disk(make_ext(debian().write(tmp_path / "tree"), tmp_path / "root.img", 12, ROOT_UUID), hibernated())
    assert "The guest is hibernated: disk 1, partition 2 holds its memory" in refusal(disk)
    assert not asked(disk, tmp_path)


@pytest.mark.parametrize(
    "content", [hibernated(), hibernated(65536), hibernated().replace(b"S1SUSPEND\0", b"SWAPSPACE2")]
)
def test_a_guest_that_is_hibernated_to_a_file_is_left_alone(content: bytes, tmp_path: Path) -> None:
    guest = debian()
    guest.files["swap.img"] = content
    guest.files["etc/fstab"] += b"/swap.img none swap sw 0 0\n"
    disk = root_disk(guest, tmp_path)
    if b"SWAPSPACE2" in content:
        assert len(prepare(disk)[0].changes) == 2
    else:
        assert "The guest is hibernated: /swap.img holds its memory" in refusal(disk)


def test_an_old_setting_is_not_read_beside_the_new_one(tmp_path: Path) -> None:
    """update-initramfs reads every file of that folder whose name begins with a letter or a digit."""
    guest = debian()
    guest.files["etc/initramfs-tools/conf.d/resume"] = b"RESUME=/dev/sda2\n"
    swap = bytes(1024) + (1).to_bytes(4, "little") + bytes(8) + UUID(BOOT_UUID).bytes
    swap = swap.ljust(4086, b"\0") + b"SWAPSPACE2" + bytes(MIB - 4096)
    root = make_ext(guest.write(tmp_path / "tree"), tmp_path / "root.img", 12, ROOT_UUID)
    done, after = prepare(make_disk(root, swap))
    assert [change.kept_as for change in done.changes if "resume" in change.path] == [".resume.pre-vmferry"]
    image = partition(after, tmp_path)
    assert dump(image, "/etc/initramfs-tools/conf.d/resume") == f"RESUME=UUID={BOOT_UUID}\n".encode()
    assert dump(image, "/etc/initramfs-tools/conf.d/.resume.pre-vmferry") == b"RESUME=/dev/sda2\n"


def test_a_uuid_that_two_volumes_have_names_neither() -> None:
    volumes = [VolumeFacts(f"disk 1, partition {number}", 1, number, uuid=ROOT_UUID) for number in (1, 2)]
    line = b"/dev/sda1 / ext4 defaults 0 1\n"
    assert Renamer(volumes).in_fstab(line) == (line, ["/dev/sda1"])
    assert Renamer(volumes[:1]).in_fstab(line)[0].startswith(b"UUID=" + ROOT_UUID.encode())


def efi_partition(folder: Path, files: dict[str, bytes]) -> bytes:
    """An EFI system partition of 34 MiB."""
    image = folder / "esp.img"
    with image.open("wb") as file:
        file.truncate(34 * MIB)
    subprocess.run(["mkfs.vfat", "-F", "32", "-s", "1", image], check=True, capture_output=True)
    for above in {"/".join(path.split("/")[:depth]) for path in files for depth in range(1, path.count("/") + 1)}:
        (folder / "efi" / above).mkdir(parents=True, exist_ok=True)
    for path, content in files.items():
        (folder / "efi" / path).write_bytes(content)
    command: list[str | Path] = ["mcopy", "-s", "-i", image, *sorted((folder / "efi").iterdir()), "::/"]
    subprocess.run(command, check=True, env={"PATH": "/usr/bin", "MTOOLS_SKIP_CHECK": "1"})
    return image.read_bytes()


SHIM, GRUB = b"MZ shim" + bytes(9000), b"MZ grub" + bytes(70_000)


def efi_disk(folder: Path, files: dict[str, bytes], *names: str) -> bytes:
    root = make_ext(debian(*names).write(folder / "tree"), folder / "root.img", 12, ROOT_UUID)
    disk = bytearray(make_disk(efi_partition(folder, files), root))
    disk[446 + 4] = 0xEF
    return bytes(disk)


def read_efi(disk: bytes, folder: Path, path: str) -> bytes:
    image = folder / "efi-after.img"
    image.write_bytes(disk[MIB : 35 * MIB])
    subprocess.run(["fsck.vfat", "-n", image], check=True, capture_output=True)
    return subprocess.run(["mtype", "-i", image, f"::/{path}"], check=True, capture_output=True).stdout


def test_firmware_that_does_not_know_the_guest_gets_a_loader(tmp_path: Path) -> None:
    files = {"EFI/other/grubx64.efi": b"MZ other", "EFI/debian/shimx64.efi": SHIM, "EFI/debian/grubx64.efi": GRUB}
    files["EFI/debian/grub.cfg"] = b"search.fs_uuid"
    disk = efi_disk(tmp_path, files, *VIRTIO)
    done, after = prepare(disk)
    assert [change.path for change in done.changes] == [
        "disk 1, partition 1: /EFI/BOOT/BOOTX64.EFI",
        "disk 1, partition 1: /EFI/BOOT/GRUB.CFG",
        "disk 1, partition 1: /EFI/BOOT/GRUBX64.EFI",
    ]
    assert read_efi(after, tmp_path, "EFI/BOOT/BOOTX64.EFI") == SHIM
    assert read_efi(after, tmp_path, "EFI/BOOT/GRUBX64.EFI") == GRUB
    assert read_efi(after, tmp_path, "EFI/BOOT/GRUB.CFG") == b"search.fs_uuid"
    assert prepare(after)[0].changes == []


def test_a_loader_that_is_there_stays(tmp_path: Path) -> None:
    files = {"EFI/BOOT/BOOTX64.EFI": GRUB, "EFI/debian/shimx64.efi": SHIM}
    assert prepare(efi_disk(tmp_path, files, *VIRTIO))[0].changes == []


def test_an_efi_partition_that_cannot_take_a_loader_is_a_note(tmp_path: Path) -> None:
    done, after = prepare(efi_disk(tmp_path, {"EFI/debian/grubx64.efi": b"no program"}, *VIRTIO))
    assert done.changes == []
    assert "grubx64.efi on the EFI system partition is no program" in done.notes[0]
    assert read_efi(after, tmp_path, "EFI/debian/grubx64.efi") == b"no program"


def test_names_that_change_with_the_bus_become_uuids(tmp_path: Path) -> None:
    guest = debian(*VIRTIO)
    guest.files["etc/fstab"] = (
        b"# /dev/sda1 was the root\n/dev/sda1 / ext4 defaults 0 1\n/dev/sdb1 /data ext4 nofail 0 2\n"
    )
    guest.files["boot/grub/grub.cfg"] = b"linux /boot/vmlinuz root=/dev/sda1 ro resume=/dev/sdc1\n"
    guest.files["etc/default/grub"] = b'GRUB_CMDLINE_LINUX="root=/dev/sda1"\n'
    guest.files["boot/loader/entries/a.conf"] = b"options root=/dev/mapper/vg-root\n"
    done, after = prepare(root_disk(guest, tmp_path))
    root = partition(after, tmp_path)
    uuid = f"UUID={ROOT_UUID}".encode()
    assert dump(root, "/etc/fstab") == guest.files["etc/fstab"].replace(b"\n/dev/sda1", b"\n" + uuid)
    assert (
        dump(root, "/boot/grub/grub.cfg")
        == b"linux /boot/vmlinuz root=" + uuid + b" ro resume=/dev/sdc1 " + CONSOLES + b"\n"
    )
    assert dump(root, "/etc/default/grub") == b'GRUB_CMDLINE_LINUX="root=' + uuid + b" " + CONSOLES + b'"\n'
    assert dump(root, "/etc/fstab.pre-vmferry") == guest.files["etc/fstab"]
    paths = ["/etc/fstab", "/boot/grub/grub.cfg", "/boot/loader/entries/a.conf", "/etc/default/grub"]
    assert [change.path for change in done.changes] == paths
    assert "by UUID" in done.changes[1].why
    assert "serial port" in done.changes[1].why
    assert "by UUID" not in done.changes[2].why
    assert [note.partition(", which")[0] for note in done.notes] == [
        "/etc/fstab names /dev/sdb1",
        "/boot/grub/grub.cfg names /dev/sdc1",
    ]
    assert prepare(after)[0].changes == []


def test_names_stay_where_the_disks_have_another_order(tmp_path: Path) -> None:
    guest = debian(*VIRTIO)
    guest.files["etc/fstab"] = b"/dev/sdb1 / ext4 defaults 0 1\n/dev/sda1 /data ext4 defaults 0 2\n"
    done, _ = prepare(root_disk(guest, tmp_path))
    assert done.changes == []
    assert done.notes == [
        "/etc/fstab names another disk than this one as the root: names of disks were left as they are."
    ]


def refusal(disk: bytes) -> str:
    overlay = OverlayDisk(open_disk(MemoryBlob(disk), FORMATS["raw"]))
    with pytest.raises(GuestError) as caught:
        prepare_linux(overlay, ("virtio",), NOW)
    assert list(overlay.changed()) == []
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("magic", "name"), [(b"XFSB", "xfs"), (b"LUKS\xba\xbe\0\1", "luks1"), (bytes(65600) + b"_BHRfS_M", "btrfs")]
)
def test_other_file_systems_are_named_with_a_remedy(magic: bytes, name: str) -> None:
    said = refusal(make_disk(magic.ljust(2 * MIB, b"\0")))
    assert f"partition 1 is {name}" in said
    assert "let it start on the bus that it knows, such as SATA" in said


def test_a_boot_on_xfs_is_named(tmp_path: Path) -> None:
    guest = debian()
    guest.files["etc/fstab"] += b"UUID=aaaa /boot xfs defaults 0 0\n"
    assert "/boot of the guest is UUID=aaaa, of type xfs: not one of" in refusal(root_disk(guest, tmp_path))


def test_a_guest_without_the_drivers_is_told_which(tmp_path: Path) -> None:
    guest = debian()
    guest.files[f"usr/lib/modules/{VERSION}/modules.dep"] = b"kernel/fs/ext4.ko:\n"
    assert f"Linux {VERSION} has no driver virtio_pci" in refusal(root_disk(guest, tmp_path))


def without_modules(guest: LinuxGuest, *names: str, version: str = VERSION) -> LinuxGuest:
    """``guest``, whose kernel ``version`` does not have the modules ``names``."""
    lines = (
        line for line in DEPENDENCIES.splitlines() if not any(f"/{name}.ko" in line.split(":")[0] for name in names)
    )
    guest.files[f"usr/lib/modules/{version}/modules.dep"] = "\n".join(lines).encode()
    return guest


def without_kernel() -> LinuxGuest:
    guest = debian()
    guest.files = {path: content for path, content in guest.files.items() if not path.startswith("usr/lib/modules")}
    return guest


def with_an_older_kernel() -> LinuxGuest:
    guest = without_modules(debian(), "virtio_blk")
    guest.add_kernel("5.10.0-30-amd64")
    return guest


def asked(disk: bytes, folder: Path) -> bool:
    """Whether the program in virt-v2v's place was run for ``disk``, which neither can prepare."""
    ran, program = folder / "ran", folder / "virt-v2v-in-place"
    program.write_text(f"#!/bin/sh\ntouch {ran}\nexit 1\n")
    program.chmod(0o755)
    guest = open_disk(MemoryBlob(disk), FORMATS["raw"])
    with pytest.raises(GuestError) as caught:
        prepare_guest(guest, ("virtio",), NOW, Guestfish("none"), VirtV2v(str(program)))
    assert isinstance(caught.value, UnpreparableError) is not ran.exists()
    return ran.exists()


@pytest.mark.parametrize(
    "guest",
    [without_modules(debian(), "virtio_blk"), without_modules(debian(), "virtio_pci"), without_kernel()],
    ids=["no driver of the disk", "no driver of the bus", "no kernel"],
)
def test_what_is_not_in_the_guest_is_asked_of_no_other_program(guest: LinuxGuest, tmp_path: Path) -> None:
    assert not asked(root_disk(guest, tmp_path), tmp_path)


@pytest.mark.parametrize(
    "guest",
    [
        with_an_older_kernel(),
        debian("bin/nash"),
        debian("squash-root.img"),
        LinuxGuest({**debian().files, "etc/fstab": b"UUID=aaaa /boot xfs defaults 0 0\n"}),
        LinuxGuest({path: content for path, content in debian().files.items() if not path.startswith("boot/initrd")}),
    ],
    ids=["an older kernel has it", "nash", "squashfs", "boot on XFS", "no initramfs"],
)
def test_what_is_only_not_done_here_is_asked_of_another_program(guest: LinuxGuest, tmp_path: Path) -> None:
    assert asked(root_disk(guest, tmp_path), tmp_path)


@pytest.mark.parametrize("lacking", [("virtio_scsi",), ("virtio_scsi", "virtio_net", "sd_mod")])
def test_a_kernel_without_the_drivers_of_other_buses_starts_from_virtio_blk(
    lacking: tuple[str, ...], tmp_path: Path
) -> None:
    done, after = prepare(root_disk(without_modules(debian(), *lacking), tmp_path))
    assert "starts without virtio_pci, virtio_blk: " in done.changes[0].why
    assert done.notes == [f"Linux {VERSION} has no driver {', '.join(lacking)}."]
    listed = dump(partition(after, tmp_path), "/etc/initramfs-tools/modules").decode()
    assert "virtio_blk\n" in listed
    assert not [name for name in lacking if name in listed]


def test_a_kernel_that_has_all_but_what_is_not_in_it_is_left_alone(tmp_path: Path) -> None:
    done, _ = prepare(root_disk(without_modules(debian(*VIRTIO[:2]), "virtio_scsi"), tmp_path))
    assert done.changes == []


def test_a_version_is_no_number_where_its_digits_are_none(tmp_path: Path) -> None:
    guest = debian()
    guest.files["usr/lib/modules/6²/modules.dep"] = b""
    done, _ = prepare(root_disk(guest, tmp_path))
    assert [change.path for change in done.changes] == [INITRAMFS, "/etc/initramfs-tools/modules"]


def test_modules_beyond_all_measure_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guest = debian()
    guest.files[f"usr/lib/modules/{VERSION}/modules.alias"] = bytes(3 * MIB)
    monkeypatch.setattr("vmferry.guest.linux.initramfs_writer._MAX_ARCHIVE", 3 * MIB)
    assert "come to more than 3 MiB" in refusal(root_disk(guest, tmp_path))
    monkeypatch.setattr("vmferry.guest.linux.driver_modules.MAX_GUEST_LINES", 3)
    assert "modules.dep in the guest has more than 3 lines" in refusal(root_disk(guest, tmp_path / "again"))


def test_what_is_no_uuid_is_not_written_as_one() -> None:
    renamer = Renamer([VolumeFacts("disk 1, partition 2", 1, 2, uuid="é x")])
    assert renamer.in_fstab(b"/dev/sda2 none swap sw 0 0\n") == (b"/dev/sda2 none swap sw 0 0\n", ["/dev/sda2"])


def test_a_guest_without_an_initramfs_is_refused(tmp_path: Path) -> None:
    guest = debian()
    del guest.files[INITRAMFS[1:]]
    assert "No kernel of the guest has both modules" in refusal(root_disk(guest, tmp_path))


def test_an_initramfs_of_old_is_refused(tmp_path: Path) -> None:
    said = refusal(root_disk(debian("bin/nash"), tmp_path))
    assert "run mkinitrd on the guest with --with=virtio_pci" in said


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return root_disk(debian(), tmp_path_factory.mktemp("sound"), "-O", "^metadata_csum,^has_journal")


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damage_anywhere_ends_in_a_sentence_or_a_prepared_guest(data: st.DataObject, sound: bytes) -> None:
    disk = bytearray(sound)
    for _ in range(data.draw(st.integers(1, 6))):
        start = data.draw(st.sampled_from([446, MIB, MIB + 1024, MIB + 2048, MIB + 300 * 1024]))
        disk[start + data.draw(st.integers(0, 60 if start == 446 else 900))] ^= 1 << data.draw(st.integers(0, 7))
    overlay = OverlayDisk(open_disk(MemoryBlob(bytes(disk)), FORMATS["raw"]))
    try:
        done = prepare_linux(overlay, ("virtio",), NOW)
    except GuestError:
        return
    assert done.changes[0].path == INITRAMFS


def test_an_initramfs_in_an_image_inside_is_refused(tmp_path: Path) -> None:
    assert "in a squashfs image, which is not looked into" in refusal(root_disk(debian("squash-root.img"), tmp_path))


def test_a_guest_that_was_switched_off_has_its_journal_replayed(tmp_path: Path) -> None:
    root = make_ext(debian().write(tmp_path / "tree"), tmp_path / "root.img", 12, ROOT_UUID)
    image = tmp_path / "root.img"
    (tmp_path / "block").write_bytes(b"\1" * 1024)
    commands = f"jo -c\njw -b {len(root) // 1024 - 3} {tmp_path / 'block'}\njc\n"
    subprocess.run(["debugfs", "-w", "-f", "-", image], input=commands, text=True, capture_output=True, check=True)
    done, after = prepare(make_disk(image.read_bytes()))
    assert len(done.changes) == 2
    assert done.notes == ["The guest was not shut down: the journal of disk 1, partition 1 was replayed."]
    partition(after, tmp_path)
    assert after.endswith(b"\1" * 1024 + bytes(2 * 1024))


def test_a_guest_that_was_in_use_without_a_journal_is_refused(tmp_path: Path) -> None:
    disk = bytearray(root_disk(debian(), tmp_path, "-O", "^metadata_csum,^has_journal"))
    disk[MIB + 1024 + 0x3A] = 0
    assert "was not unmounted: run e2fsck on it" in refusal(bytes(disk))


@pytest.mark.parametrize("used", [0, 1])
def test_of_several_systems_the_one_that_starts_is_prepared(used: int, tmp_path: Path) -> None:
    """Both are named by nobody, so it is the one that ran last; a look says the same."""
    roots = []
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        options = ("-O", "^metadata_csum")
        root = bytearray(make_ext(debian().write(folder / "tree"), folder / "root.img", 12, ROOT_UUID, *options))
        struct.pack_into("<II", root, 1024 + 44, 0, NOW + (1 if number == used else 0))
        roots.append(root)
    disk = make_disk(*map(bytes, roots))
    disk = disk[:446] + b"\0" + disk[447:]  # no partition is active
    _, after = prepare(disk)
    start = MIB + used * 12 * MIB
    assert [at for at in (MIB, 13 * MIB) if after[at : at + 12 * MIB] != disk[at : at + 12 * MIB]] == [start]
    (first, _) = look([open_disk(MemoryBlob(disk), FORMATS["raw"])]).systems
    assert first.root == f"disk 1, partition {used + 1}"

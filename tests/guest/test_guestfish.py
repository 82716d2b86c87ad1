"""A Linux whose files are written by guestfish: the seconds-long way for what our own writer does not know.

Another program stands in guestfish's place, and carries the same commands out in folders; the last test is one with
guestfish itself, where that is installed.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.guest.disks import START, partitioned
from tests.guest.fake_guestfish import make_guestfish
from tests.guest.images import make_btrfs, make_ext, make_fat, make_xfs
from tests.guest.linux_guests import VERSION, LinuxGuest, debian
from tests.guest.trees import open_raw, run
from vmferry.disk import Disk
from vmferry.errors import GuestError, TaskCancelledError, UnpreparableError
from vmferry.guest.confinement import find_program
from vmferry.guest.facts import VolumeFacts
from vmferry.guest.fat_writer import FatFileSystem
from vmferry.guest.filesystems import Node, NodeKind, open_file_system
from vmferry.guest.guestfish import PROGRAM, Guestfish, GuestfishOpener, Session, open_session
from vmferry.guest.guestfish.filesystem import MountedFileSystem
from vmferry.guest.guestfish.opener import device_of
from vmferry.guest.guestfish.writer import GuestfishWriter
from vmferry.guest.overlay import OverlayDisk
from vmferry.guest.overlay_volume import OverlayVolume
from vmferry.guest.preparation import Preparation
from vmferry.guest.prepare import prepare_guest
from vmferry.guest.virt_v2v import VirtV2v
from vmferry.guest.window import Slice
from vmferry.guest.writable_linux import find_writable_linux
from vmferry.units import MIB

pytestmark = pytest.mark.slow

NOW = 1_800_000_000
INITRAMFS = f"/boot/initrd.img-{VERSION}"
NOBODY = VirtV2v("none")


def rocky(*names: str) -> LinuxGuest:
    """A system with dracut, with one kernel whose initramfs also holds ``names``."""
    guest = LinuxGuest(
        {
            "etc/os-release": b'PRETTY_NAME="Rocky Linux 9.6 (Blue Onyx)"\nID="rocky"\n',
            "etc/fstab": b"/dev/sda1 / xfs defaults 0 0\n",
            "usr/lib/dracut/dracut-init.sh": b"",
            "lib": b"->usr/lib",
        }
    )
    guest.add_kernel(VERSION, names)
    return guest


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return rocky().write(tmp_path / "tree")


@pytest.fixture
def disk(tree: Path, tmp_path: Path) -> Path:
    """A disk with that system on XFS, in its first partition."""
    return partitioned(tmp_path / "disk.raw", [("83", make_xfs(tree, tmp_path / "root.xfs"))], "dos")


def prepare(disk: Path, program: str, seconds: float = 60.0) -> tuple[OverlayDisk, Preparation]:
    return prepare_guest(open_raw(disk), ("virtio",), NOW, Guestfish(program, seconds), NOBODY)


def test_a_linux_on_xfs_is_prepared_as_one_on_ext4_is(tree: Path, disk: Path, tmp_path: Path) -> None:
    initramfs = tree / INITRAMFS[1:]
    initramfs.chmod(0o600)
    before = initramfs.read_bytes()
    overlay, done = prepare(disk, make_guestfish(tmp_path, {"/dev/sda1": tree}, layer=True))
    assert done.system == "Rocky Linux 9.6 (Blue Onyx)"
    assert done.notes == ["guestfish wrote the files: our own writer does not know their file systems."]
    assert [(change.path, change.what) for change in done.changes] == [
        (INITRAMFS, "replaced"),
        ("/etc/dracut.conf.d/vmferry.conf", "added"),
        ("/etc/fstab", "replaced"),
    ]
    after = initramfs.read_bytes()
    assert after[: len(before)] == before
    assert (done.changes[0].before, done.changes[0].after) == (len(before), len(after))
    kept = initramfs.with_name(f"{initramfs.name}.pre-vmferry")
    assert kept.read_bytes() == before
    assert stat.S_IMODE(initramfs.stat().st_mode) == 0o600
    assert initramfs.stat().st_mtime == NOW
    settings_file = tree / "etc/dracut.conf.d/vmferry.conf"
    assert settings_file.read_text() == 'add_drivers+=" virtio_pci virtio_blk virtio_scsi virtio_net sd_mod "\n'
    assert stat.S_IMODE(settings_file.stat().st_mode) == stat.S_IMODE((tree / "etc/fstab").stat().st_mode)
    assert (tree / "etc/fstab").read_text().startswith("UUID=")
    assert not list(tree.rglob("*vmferry-new*"))
    assert bytes(overlay.read_at(200 * MIB, 4096)) == b"\x09" * 4096  # what the machine wrote to its disk


def test_where_there_is_nothing_to_do_the_disk_stays_as_it_is(tmp_path: Path) -> None:
    guest = rocky("virtio_pci.ko", "virtio_blk.ko.xz", "virtio_scsi.ko.zst")
    guest.files["etc/fstab"] = b"LABEL=root / xfs defaults 0 0\n"
    tree = guest.write(tmp_path / "tree")
    program = make_guestfish(tmp_path, {"/dev/sda": tree}, layer=True)
    overlay, done = prepare(make_xfs(tree, tmp_path / "disk.raw"), program)
    assert done.changes == []
    assert list(overlay.changed()) == []


def test_a_boot_on_ext4_is_mounted_beside_a_root_on_xfs(tmp_path: Path) -> None:
    guest = rocky()
    guest.files["etc/fstab"] = b"/dev/sda2 / xfs defaults 0 0\nLABEL=boot /boot ext4 defaults 0 0\n"
    tree = guest.write(tmp_path / "tree")
    boot = tree / "boot"
    boot.rename(tmp_path / "boot")
    boot.mkdir()
    images = [
        make_ext(tmp_path / "boot", tmp_path / "boot.ext4", "-t", "ext4", "-L", "boot"),
        make_xfs(tree, tmp_path / "root.xfs", "-L", "root"),
        make_xfs(tmp_path / "boot", tmp_path / "data.xfs", "-L", "data"),
    ]
    disk = partitioned(tmp_path / "disk.raw", [("83", image) for image in images], "dos")
    program = make_guestfish(tmp_path, {"/dev/sda1": tmp_path / "boot", "/dev/sda2": tree})
    _, done = prepare(disk, program)
    assert [change.path for change in done.changes][:2] == [INITRAMFS, "/etc/dracut.conf.d/vmferry.conf"]
    assert (tmp_path / "boot" / f"initrd.img-{VERSION}.pre-vmferry").exists()
    assert "/dev/sda3" not in (tmp_path / "log").read_text()  # not the system's, and not touched


def test_firmware_that_does_not_know_the_guest_gets_a_loader_beside_an_xfs(tmp_path: Path) -> None:
    esp = tmp_path / "esp" / "EFI" / "rocky"
    esp.mkdir(parents=True)
    (esp / "shimx64.efi").write_bytes(b"MZ shim")
    (esp / "grubx64.efi").write_bytes(b"MZ grub")
    guest = rocky()
    guest.files["etc/fstab"] = b"LABEL=root / xfs defaults 0 0\n"
    tree = guest.write(tmp_path / "tree")
    root = make_xfs(tree, tmp_path / "root.xfs", "-L", "root")
    disk = partitioned(tmp_path / "disk.raw", [("U", make_fat(tmp_path / "esp", tmp_path / "esp.fat")), ("L", root)])
    overlay, done = prepare(disk, make_guestfish(tmp_path, {"/dev/sda2": tree}, layer=True))
    assert [change.path for change in done.changes][2:] == [
        "disk 1, partition 1: /EFI/BOOT/BOOTX64.EFI",
        "disk 1, partition 1: /EFI/BOOT/GRUBX64.EFI",
    ]
    files = FatFileSystem(OverlayVolume(overlay, [(START, START + 60 * MIB)]))
    assert files.read("/EFI/BOOT/BOOTX64.EFI") == b"MZ shim"
    assert bytes(overlay.read_at(200 * MIB, 4096)) == b"\x09" * 4096


def test_a_root_in_a_subvolume_is_written_in_that_subvolume(tmp_path: Path) -> None:
    guest = rocky()
    guest.files["etc/fstab"] = b"LABEL=root / btrfs subvol=@ 0 0\nLABEL=root /boot btrfs subvol=/@boot 0 0\n"
    top = tmp_path / "top"
    tree = guest.write(top / "@")
    (tree / "boot").rename(top / "@boot")
    (tree / "boot").mkdir()
    (tmp_path / "empty").mkdir()
    disk = make_btrfs(tmp_path / "empty", tmp_path / "disk.raw", "-L", "root")
    program = make_guestfish(tmp_path, {"/dev/sda": top})
    overlay = OverlayDisk(open_raw(disk))
    with open_session(overlay, Guestfish(program)) as session:
        system = find_writable_linux(overlay, GuestfishOpener(session, ["disk 1"]))
        assert system.title == "Rocky Linux 9.6 (Blue Onyx)"
        assert system.tree.is_file(INITRAMFS)
        writer = system.open_writer(system.mounts["/boot"], NOW)
        writer.replace_file(INITRAMFS[5:], 3, [b"n", b"ew"], "old")
    assert (top / "@boot" / Path(INITRAMFS).name).read_bytes() == b"new"
    assert (top / "@boot" / "old").stat().st_size > 3


@pytest.mark.parametrize(
    ("place", "partition", "device"),
    [
        ("disk 1, partition 5", 5, "/dev/sda5"),
        ("disk 1", None, "/dev/sda"),
        ("rl-0/root_1", None, "/dev/rl-0/root_1"),
        ("md127", None, None),
        ("../etc", None, None),
        ("vg/-a", None, None),
        ("vg/a b", None, None),
        ("vg/a\n", None, None),
    ],
)
def test_volumes_have_the_names_that_the_machine_has_for_them(
    place: str, partition: int | None, device: str | None
) -> None:
    assert device_of(VolumeFacts(place, 1, partition)) == device


@pytest.fixture(scope="module")
def mounted() -> Iterator[tuple[Path, MountedFileSystem]]:
    """A folder, and what a session has mounted that is it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        volume, work = folder / "volume", folder / "work"
        volume.mkdir()
        work.mkdir()
        program = Path(make_guestfish(folder, {"/dev/sda": volume}))
        with Session(program, Guestfish(), work) as session:
            session.call("mount", "/dev/sda", "/volume")
            yield volume, MountedFileSystem(session, "/volume", "xfs")


NAMES = st.binary(min_size=1, max_size=60).filter(
    lambda name: not {0, ord("/")} & {*name} and name not in (b".", b"..")
)


@given(name=NAMES, content=st.binary(max_size=200))
@example(name=b'"; !touch x | cat\n', content=b"\\")
@example(name=b"x\nlibguestfs: error: x: No such file or directory", content=b"")
@example(name=b"~\\x41$(a)`b` 'c' #d \xff\x1b", content=b"vmferry-\n")
def test_no_name_or_content_is_taken_for_a_command(
    mounted: tuple[Path, MountedFileSystem], name: bytes, content: bytes
) -> None:
    folder, files = mounted
    path = "/" + os.fsdecode(name)
    writer = GuestfishWriter(files, NOW)
    writer.create_file(path, len(content), [content])
    try:
        assert [os.fsencode(found.name) for found in folder.iterdir()] == [name]
        assert list(files.names("/")) == [os.fsdecode(name)]
        assert files.read_at(path, 0, 1000) == content
        writer.replace_file(path, 3, [b"new"], "kept")
        assert files.read_at("/kept", 0, 1000) == content
        assert files.read_at(path, 0, 1000) == b"new"
    finally:
        for left in folder.iterdir():
            left.unlink()
        files.forget()


def test_links_folders_and_what_is_not_there_are_told(mounted: tuple[Path, MountedFileSystem]) -> None:
    folder, files = mounted
    (folder / "folder").mkdir()
    (folder / "link").symlink_to("to\nno\x1bwhere")
    (folder / "large").write_bytes(bytes(range(256)) * 12_000)
    os.mkfifo(folder / "pipe")
    assert files.node("/folder") == Node(NodeKind.FOLDER, 0, "", int((folder / "folder").stat().st_mtime))
    link = files.node("/link")
    assert link is not None
    assert (link.kind, link.target) == (NodeKind.LINK, "to\nno\x1bwhere")
    assert files.node("/nothing") is files.node("/large/below") is None
    assert files.names("/large") == files.names("/nothing") == []
    assert files.read_at("/pipe", 0, 10) == b""
    assert files.read_at("/large", 2 * MIB - 3, 6) == bytes([253, 254, 255, 0, 1, 2])
    assert len(files.read_at("/large", 0, 10 * MIB)) == 256 * 12_000
    GuestfishWriter(files, NOW).make_folder("/new")
    assert stat.S_IMODE((folder / "new").stat().st_mode) == 0o755


@contextmanager
def writer_to(folder: Path, work: Path, **options: object) -> Iterator[GuestfishWriter]:
    """What writes to ``folder``, by such a program."""
    work.mkdir()
    with Session(Path(make_guestfish(work, {"/dev/sda": folder}, **options)), Guestfish(), work) as session:
        session.call("mount", "/dev/sda", "/volume")
        yield GuestfishWriter(MountedFileSystem(session, "/volume", "xfs"), NOW)


def test_what_cannot_be_written_leaves_everything_as_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "file").write_bytes(b"old")
    (folder / "other").write_bytes(b"other")
    os.link(folder / "other", folder / "second")
    with writer_to(
        folder, tmp_path / "work", fail={"utimens": "utimens: /volume/x: No space left on device"}
    ) as writer:
        for path, kept, words in (
            ("/file", "kept", "guestfish failed: utimens: /volume/x: No space left on device."),
            ("/file", "other", "/other is there already, in the guest."),
            ("/other", "kept", "/other in the guest has 2 names; only files with one are replaced."),
            ("/none", "kept", "/none in the guest is no file."),
        ):
            with pytest.raises(GuestError) as caught:
                writer.replace_file(path, 3, [b"new"], kept)
            assert str(caught.value) == words
        with pytest.raises(GuestError, match="is there already"):
            writer.create_file("/file", 3, [b"new"])
        with pytest.raises(ValueError, match="4 bytes, not 3"):
            writer.replace_file("/file", 3, [b"more"], "kept")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        "file": b"old",
        "other": b"other",
        "second": b"other",
    }


def test_a_full_file_system_is_told_before_anything_is_written(tree: Path, disk: Path, tmp_path: Path) -> None:
    before = sorted(tree.rglob("*"))
    with pytest.raises(
        GuestError, match=r"does not fit: The file system has 512 KiB free, .* MiB are needed: make room"
    ):
        prepare(disk, make_guestfish(tmp_path, {"/dev/sda1": tree}, free=MIB // 2))
    assert sorted(tree.rglob("*")) == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"die": "launch"}, "guestfish ended with exit code 1: supermin: failed to find a suitable kernel. No kernel"),
        (
            {"fail": {"launch": "appliance closed the connection\x1b[31m."}},
            "guestfish failed: appliance closed the connection\\u001b[31m.",
        ),
        (
            {"fail": {"mount-options": "mount: unknown filesystem type 'xfs'"}},
            "partition 1 is xfs: guestfish failed: mount: unknown filesystem type 'xfs'. The kernel that libguestfs",
        ),
        (
            {"fail": {"mount-options": "mount: Structure needs cleaning"}},
            "xfs: guestfish failed: mount: Structure needs",
        ),
        ({"fail": {"upload": "upload: Read-only file system"}}, "Let the guest make its root writable."),
        ({"fail": {"umount-all": "umount: Input/output error"}}, "guestfish failed: umount: Input/output error."),
        ({"hang": "launch"}, "guestfish took more than 2 seconds, and was ended."),
    ],
)
def test_where_it_fails_nothing_is_changed_and_the_reason_is_told(
    tree: Path, disk: Path, tmp_path: Path, options: dict[str, object], words: str
) -> None:
    program = make_guestfish(tmp_path, {"/dev/sda1": tree}, layer=True, **options)
    with pytest.raises(GuestError) as caught:
        prepare(disk, program, seconds=2.0 if "hang" in options else 60.0)
    assert words in str(caught.value)
    assert str(caught.value).startswith("No Linux was found on an ext2, ext3")
    assert str(caught.value).count("Let the guest add the drivers itself") == 1
    assert "\n" not in str(caught.value)


def test_what_was_written_is_thrown_away_where_something_fails_later(disk: Path, tmp_path: Path) -> None:
    overlay = OverlayDisk(open_raw(disk))

    def fail() -> None:
        with open_session(overlay, Guestfish(make_guestfish(tmp_path, {}, layer=True))) as session:
            session.call("shutdown")
            raise GuestError("not finished")

    with pytest.raises(GuestError, match="not finished"):
        fail()
    assert list(overlay.changed()) == []


def test_what_is_not_in_the_guest_is_asked_of_nobody_else(tmp_path: Path) -> None:
    guest = rocky()
    guest.files = {path: data for path, data in guest.files.items() if "virtio_blk" not in path}
    modules = f"usr/lib/modules/{VERSION}/modules.dep"
    guest.files[modules] = b"\n".join(line for line in guest.files[modules].split(b"\n") if b"virtio_blk" not in line)
    tree, asked, program = guest.write(tmp_path / "tree"), tmp_path / "asked", tmp_path / "virt-v2v"
    program.write_text(f"#!/bin/sh\ntouch {asked}\nexit 1\n")
    program.chmod(0o755)
    guestfish = Guestfish(make_guestfish(tmp_path, {"/dev/sda": tree}))
    with pytest.raises(UnpreparableError, match="has no driver virtio_blk"):
        prepare_guest(
            open_raw(make_xfs(tree, tmp_path / "disk.raw")), ("virtio",), NOW, guestfish, VirtV2v(str(program))
        )
    assert not asked.exists()


def test_where_it_is_not_installed_it_is_told_what_to_install_and_virt_v2v_is_asked(disk: Path, tmp_path: Path) -> None:
    program = tmp_path / "virt-v2v"
    program.write_text('#!/bin/sh\nexec qemu-io -f qcow2 -c "write -P 9 200M 4k" "$5"\n')
    program.chmod(0o755)
    missing = Guestfish(str(tmp_path / "nothing"))
    _, done = prepare_guest(open_raw(disk), ("virtio",), NOW, missing, VirtV2v(str(program)))
    assert done.changes[0].what == "changed"
    assert "guestfish, which writes to other file systems, is not installed here: install the packages" in done.notes[0]
    with pytest.raises(GuestError, match=r"install the packages libguestfs-tools and linux-image-amd64"):
        prepare_guest(open_raw(disk), ("virtio",), NOW, missing, NOBODY)


def test_an_ext4_with_a_feature_that_our_own_writer_does_not_know_is_written_by_guestfish(tmp_path: Path) -> None:
    tree = debian().write(tmp_path / "tree")
    image = make_ext(tree, tmp_path / "disk.raw", "-t", "ext4", "-O", "bigalloc,quota")
    with pytest.raises(GuestError, match=r"uses .*, which is not written to here"):
        prepare(image, "none")
    _, done = prepare(image, make_guestfish(tmp_path, {"/dev/sda": tree}))
    assert [change.path for change in done.changes] == [INITRAMFS, "/etc/initramfs-tools/modules"]


def test_a_file_system_of_our_own_writer_s_is_asked_of_nobody(tmp_path: Path) -> None:
    guest = debian("bin/nash")
    image = make_ext(guest.write(tmp_path / "tree"), tmp_path / "disk.raw", "-t", "ext4")
    with pytest.raises(GuestError, match="run mkinitrd on the guest"):
        prepare(image, make_guestfish(tmp_path, {"/dev/sda": tmp_path / "tree"}))
    assert not (tmp_path / "log").exists()


def test_it_ends_when_whoever_watches_says_so(disk: Path, tree: Path, tmp_path: Path) -> None:
    def watching() -> None:
        if (tmp_path / "log").exists():
            raise TaskCancelledError("cancelled")

    program = make_guestfish(tmp_path, {"/dev/sda1": tree}, hang="launch")
    with pytest.raises(TaskCancelledError):
        prepare_guest(open_raw(disk), ("virtio",), NOW, Guestfish(program, 60.0, watching), NOBODY)


def can_run() -> bool:
    """Whether guestfish can start its machine: it wants a kernel that this user may read."""
    kernels = [path for path in Path("/boot").glob("vmlinuz-*") if os.access(path, os.R_OK)]
    return find_program(PROGRAM) is not None and bool(kernels)


@pytest.mark.skipif(not can_run(), reason="cannot run here: guestfish and its kernel are not among what setup installs")
@pytest.mark.timeout(600)
def test_guestfish_itself_writes_to_an_xfs_and_leaves_it_sound(tree: Path, disk: Path, tmp_path: Path) -> None:
    overlay, done = prepare(disk, PROGRAM, seconds=500.0)
    assert [change.path for change in done.changes] == [INITRAMFS, "/etc/dracut.conf.d/vmferry.conf", "/etc/fstab"]
    root = tmp_path / "after.xfs"
    root.write_bytes(overlay.read_at(START, 300 * MIB))
    run("xfs_repair", "-n", root)
    before = (tree / INITRAMFS[1:]).read_bytes()
    files = open_file_system(Slice(open_raw(root), 0, 300 * MIB), "xfs")
    assert files is not None
    assert files.read_at(f"{INITRAMFS}.pre-vmferry", 0, 1 << 30) == before
    after = files.read_at(INITRAMFS, 0, 1 << 30)
    assert (after[: len(before)], len(after)) == (before, done.changes[0].after)
    assert b"virtio_blk" in files.read_at("/etc/dracut.conf.d/vmferry.conf", 0, 1000)
    fresh, again = prepare(write(overlay, tmp_path / "again.raw"), PROGRAM, seconds=500.0)
    assert (again.changes, list(fresh.changed())) == ([], [])


def write(disk: Disk, path: Path) -> Path:
    with path.open("wb") as file:
        for start in range(0, disk.size, 16 * MIB):
            file.write(disk.read_at(start, min(16 * MIB, disk.size - start)))
    return path

"""Our writer of ext2, ext3 and ext4: e2fsck finds nothing to mend, debugfs reads what was written, the rest stays."""

from __future__ import annotations

import random
import re
import struct
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.guest.ext_images import (
    MANY,
    OLD,
    OPTIONS,
    cached_image,
    check,
    digests,
    dump,
    make_image,
    overlay_of,
    system_on,
    write_out,
)
from vmferry.errors import GuestError
from vmferry.guest.ext_writer import ExtWriter
from vmferry.guest.ext_writer.inodes import INLINE
from vmferry.guest.filesystems import NodeKind
from vmferry.units import KIB, MIB

pytestmark = pytest.mark.slow

NOW = 1_800_000_000
KEPT = "initrd.img.pre-vmferry"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ext")


@pytest.mark.parametrize("name", OPTIONS)
def test_files_are_replaced_and_added_on_every_kind_of_ext(name: str, images: Path, tmp_path: Path) -> None:
    image = cached_image(name, images)
    before = digests(write_out(overlay_of(image), tmp_path / "before.img"), tmp_path / "before")
    overlay = overlay_of(image)
    writer = ExtWriter(system_on(overlay), NOW)
    new = random.Random(3).randbytes(2 * MIB + 1)
    writer.replace_file("/boot/initrd.img", len(new), [new[:100], new[100:]], KEPT)
    writer.make_folder("/etc/dracut.conf.d")
    writer.create_file("/etc/dracut.conf.d/vmferry.conf", 5, [b"hello"])
    writer.create_file("/many/one-more", 0, [])
    writer.commit()
    out = write_out(overlay, tmp_path / "after.img")
    check(out)
    assert dump(out, "/boot/initrd.img") == new
    after = digests(out, tmp_path / "after")
    added = {"etc/dracut.conf.d/vmferry.conf", "many/one-more", "boot/initrd.img.pre-vmferry"}
    assert set(after) - set(before) == added
    assert after[f"boot/{KEPT}"] == before["boot/initrd.img"]
    unchanged = set(before) - {"boot/initrd.img"}
    assert {path: after[path] for path in unchanged} == {path: before[path] for path in unchanged}


@pytest.mark.parametrize("name", OPTIONS)
def test_our_reader_sees_what_is_there(name: str, images: Path) -> None:
    system = system_on(overlay_of(cached_image(name, images)))
    assert system.kind == (
        "ext4" if "ext4" in OPTIONS[name] and name != "no_extents" else name[:4].replace("no_e", "ext3")
    )
    assert system.read_at("/boot/initrd.img", 0, 4 * MIB) == OLD
    assert system.read_at("/boot/initrd.img", MIB - 1, 3) == OLD[MIB - 1 : MIB + 2]
    assert len(system.names("/many")) == MANY
    assert system.names("/nowhere") == []
    link, far = system.node("/vmlinuz"), system.node("/etc/far")
    assert link is not None
    assert far is not None
    assert (link.kind, link.target, far.target) == (NodeKind.LINK, "boot/vmlinuz", "/" + "x" * 100)
    assert system.node("/vmlinuz/below") is None


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_whatever_is_done_e2fsck_finds_nothing(data: st.DataObject, images: Path) -> None:
    name = data.draw(st.sampled_from(sorted(OPTIONS)))
    overlay = overlay_of(cached_image(name, images))
    written: dict[str, bytes] = {"/boot/initrd.img": OLD}
    folders = ["/boot", "/etc", "/many"]
    operations = data.draw(st.lists(st.sampled_from(("file", "folder", "replace", "names")), min_size=1, max_size=6))
    for number, operation in enumerate(operations):
        writer = ExtWriter(system_on(overlay), NOW + number)
        folder = data.draw(st.sampled_from(folders))
        content = random.Random(number).randbytes(data.draw(st.integers(0, MIB)))
        if operation == "folder":
            folders.append(f"{folder}/folder-{number}")
            writer.make_folder(folders[-1])
        elif operation == "names":
            for index in range(data.draw(st.integers(1, 40))):
                writer.create_file(f"{folder}/{number}-{index}-{'n' * data.draw(st.integers(0, 240))}", 0, [])
        elif operation == "file":
            written[f"{folder}/file-{number}"] = content
            writer.create_file(f"{folder}/file-{number}", len(content), [content])
        else:
            path = data.draw(st.sampled_from(sorted(written)))
            written[f"{path}.{number}"], written[path] = written[path], content
            writer.replace_file(path, len(content), [content], f"{path.rpartition('/')[2]}.{number}")
        writer.commit()
    with tempfile.TemporaryDirectory() as place:
        out = write_out(overlay, Path(place, "out.img"))
        check(out)
        for path, content in written.items():
            assert dump(out, path) == content


@pytest.fixture(scope="module", params=["ext4", "1k", "crc16", "no_extents", "ext2"])
def crumbled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A file system whose free blocks lie one by one: every other one of its small files was removed."""
    place = tmp_path_factory.mktemp("crumbled")
    options = OPTIONS[request.param]
    image = place / "crumbled.img"
    tree = place / "tree"
    tree.mkdir()
    for number in range(2000):
        (tree / f"{number:04}").write_bytes(b"x" * 4096)
    (tree / "initrd").write_bytes(OLD)
    subprocess.run(["mke2fs", "-q", "-F", *options.split(), "-N", "3000", "-d", tree, image, "14M"], check=True)
    removals = "".join(f"rm {number:04}\n" for number in range(0, 2000, 2))
    subprocess.run(["debugfs", "-w", "-f", "-", image], input=removals, text=True, capture_output=True, check=True)
    check(image)
    return image.read_bytes()


def test_a_file_in_crumbs_has_a_map_of_several_levels(crumbled: bytes, tmp_path: Path) -> None:
    overlay = overlay_of(crumbled)
    system = system_on(overlay)
    writer = ExtWriter(system, NOW)
    new = random.Random(5).randbytes(system.superblock.free_blocks * system.superblock.block_size * 9 // 10)
    writer.replace_file("/initrd", len(new), [new], "initrd.old")
    writer.commit()
    out = write_out(overlay, tmp_path / "out.img")
    check(out)
    assert dump(out, "/initrd") == new
    assert dump(out, "/initrd.old") == OLD
    assert system_on(overlay).read_at("/initrd", 0, len(new)) == new
    overlay.close()


def test_a_file_of_ext2_may_have_lists_of_lists_of_lists(tmp_path: Path) -> None:
    overlay = overlay_of(make_image(OPTIONS["ext2_small"], tmp_path, size=96 * MIB))
    writer = ExtWriter(system_on(overlay), NOW)
    size = (12 + 256 + 256 * 256 + 700) * KIB
    writer.create_file("/large", size, (bytes([piece % 251]) * KIB for piece in range(size // KIB)))
    writer.commit()
    out = write_out(overlay, tmp_path / "out.img")
    overlay.close()
    check(out)
    assert dump(out, "/large") == b"".join(bytes([piece % 251]) * KIB for piece in range(size // KIB))


def test_what_does_not_fit_is_said_before_anything_is_touched(images: Path) -> None:
    overlay = overlay_of(cached_image("ext4", images))
    writer = ExtWriter(system_on(overlay), NOW)
    with pytest.raises(
        GuestError, match=r"/boot/initrd\.img does not fit: .* has [0-9.]+ MiB free, 100 MiB are needed"
    ):
        writer.replace_file("/boot/initrd.img", 100 * MIB - 8 * KIB, iter(()), KEPT)
    assert list(overlay.changed()) == []


def test_owner_rights_and_attributes_are_the_old_files(images: Path, tmp_path: Path) -> None:
    overlay = overlay_of(cached_image("ext4", images))
    writer = ExtWriter(system_on(overlay), NOW)
    writer.replace_file("/boot/initrd.img", 3, [b"new"], "old-1")
    writer.replace_file("/boot/vmlinuz", 3, [b"new"], "old-2")
    writer.commit()
    out = write_out(overlay, tmp_path / "out.img")
    check(out)
    for path, attribute in (
        ("/boot/initrd.img", "user.origin"),
        ("/boot/vmlinuz", "user.long"),
        ("/boot/old-2", "user.long"),
    ):
        told = subprocess.run(["debugfs", "-R", f"ea_list {path}", out], capture_output=True, text=True).stdout
        assert attribute in told


def test_what_is_there_is_not_overwritten(images: Path) -> None:
    overlay = overlay_of(cached_image("ext4", images))
    writer = ExtWriter(system_on(overlay), NOW)
    with pytest.raises(GuestError, match="is there already"):
        writer.create_file("/boot/vmlinuz", 0, [])
    with pytest.raises(GuestError, match=r"vmlinuz is there already, beside /boot/initrd\.img"):
        writer.replace_file("/boot/initrd.img", 0, [], "vmlinuz")
    with pytest.raises(GuestError, match="/nowhere in the guest is no folder"):
        writer.make_folder("/nowhere/new")
    with pytest.raises(GuestError, match="/etc in the guest is no file"):
        writer.replace_file("/etc", 0, [], "x")
    assert list(overlay.changed()) == []


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("-t ext4 -O bigalloc", "bigalloc"),
        ("-t ext4 -O quota", "quota"),
        ("-t ext4 -O mmp", "mmp"),
        ("-t ext4 -O ea_inode", "ea_inode"),
    ],
)
def test_what_is_not_written_to_is_named(options: str, reason: str, tmp_path: Path) -> None:
    system = system_on(overlay_of(make_image(options, tmp_path)))
    assert system.read_at("/boot/initrd.img", 0, 4 * MIB) == OLD
    with pytest.raises(GuestError, match=f"uses {reason}"):
        ExtWriter(system, NOW)


@pytest.mark.parametrize(("state", "reason"), [(0, "was not unmounted"), (3, "has errors")])
def test_a_file_system_in_use_is_refused(state: int, reason: str, images: Path) -> None:
    image = bytearray(cached_image("ext2", images))
    struct.pack_into("<H", image, 1024 + 0x3A, state)
    with pytest.raises(GuestError, match=reason):
        ExtWriter(system_on(overlay_of(bytes(image))), NOW)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_damage_gives_a_sentence_or_a_sound_file(data: st.DataObject, images: Path) -> None:
    """Bits flipped anywhere in the metadata: no other error, no endless walk, and what is refused is untouched."""
    name = data.draw(st.sampled_from(["ext4", "crc16", "no_extents", "ext2"]))
    image = bytearray(cached_image(name, images))
    for _ in range(data.draw(st.integers(1, 8))):
        place = data.draw(st.integers(1024, 600 * KIB))
        image[place] ^= 1 << data.draw(st.integers(0, 7))
    overlay = overlay_of(bytes(image))
    try:
        writer = ExtWriter(system_on(overlay), NOW)
        writer.replace_file("/boot/initrd.img", 9, [b"new bytes"], KEPT)
    except GuestError:
        return
    writer.commit()
    assert system_on(overlay).read_at("/boot/initrd.img", 0, 100) == b"new bytes"


def test_a_file_whose_content_is_among_its_attributes_is_no_model(tmp_path: Path) -> None:
    """What is made like it would have its content as an attribute, and no sign of that."""
    tree, image = tmp_path / "tree", tmp_path / "image"
    (tree / "etc").mkdir(parents=True)
    (tree / "etc/fstab").write_bytes(b"UUID=1 / ext4 defaults 0 1\n")
    for number in range(60):  # a folder that does not lie in its inode
        (tree / f"etc/a-rather-long-name-{number}").write_bytes(bytes(300))
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-O", "inline_data", "-d", tree, image, "8M"], check=True)
    overlay = overlay_of(image.read_bytes())
    system = system_on(overlay)
    assert system.find("/etc/fstab").flags & INLINE  # type: ignore[union-attr]
    writer = ExtWriter(system, NOW)
    writer.create_file("/etc/vmferry.conf", 5, [b"hello"], like="/etc/fstab")
    writer.commit()
    out = write_out(overlay, tmp_path / "after.img")
    check(out)
    assert dump(out, "/etc/vmferry.conf") == b"hello"
    said = subprocess.run(["debugfs", "-R", "ea_list /etc/vmferry.conf", out], capture_output=True, text=True).stdout
    assert "system.data" not in said


@pytest.mark.parametrize("now", [(1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, 3 << 31])
def test_times_after_2038_are_what_they_were(now: int, images: Path, tmp_path: Path) -> None:
    overlay = overlay_of(cached_image("ext4", images))
    writer = ExtWriter(system_on(overlay), now)
    writer.create_file("/etc/new", 5, [b"hello"])
    writer.commit()
    out = write_out(overlay, tmp_path / "after.img")
    said = subprocess.run(["debugfs", "-R", "stat /etc/new", out], capture_output=True, text=True).stdout
    written = re.findall(r"time: 0x(\w{8}):(\w{8})", said)
    assert len(written) == 4
    signed = (now + (1 << 31)) % (1 << 32) - (1 << 31)
    assert {(int(low, 16), int(more, 16)) for low, more in written} == {(signed % (1 << 32), now - signed >> 32)}


def test_a_file_that_was_to_be_cut_is_replaced_by_one_that_is_not(images: Path, tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(cached_image("crc16", images))
    subprocess.run(["debugfs", "-w", "-R", "sif /boot/initrd.img dtime 17", image], check=True, capture_output=True)
    overlay = overlay_of(image.read_bytes())
    writer = ExtWriter(system_on(overlay), NOW)
    writer.replace_file("/boot/initrd.img", 5, [b"hello"], KEPT)
    writer.commit()
    out = write_out(overlay, tmp_path / "after.img")
    said = subprocess.run(["debugfs", "-R", "stat /boot/initrd.img", out], capture_output=True, text=True).stdout
    assert "ctime" in said
    assert "dtime" not in said


@pytest.mark.parametrize("links", [1, 65_000])
def test_a_folder_with_too_many_folders_to_count_gets_no_other(links: int, images: Path, tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(cached_image("crc16", images))
    subprocess.run(["debugfs", "-w", "-R", f"sif /etc links_count {links}", image], check=True, capture_output=True)
    overlay = overlay_of(image.read_bytes())
    with pytest.raises(GuestError, match="takes no more folders"):
        ExtWriter(system_on(overlay), NOW).make_folder("/etc/more")

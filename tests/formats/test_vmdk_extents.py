"""Disks in several files and chains of snapshots: which files are opened, and what they read as."""

from __future__ import annotations

import contextlib
import random
import re
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.formats.test_vmdk_read import SPARSE, check_extents, fill
from tests.formats.vmdk_builder import DESCRIPTOR, Layout, build
from tests.formats.vmdk_deltas import GRAIN, UNMAPPED, cowd, describe, sesparse
from vmferry.blob import FileBlob, MemoryBlob
from vmferry.disk import Disk, SupportsFacts, SupportsStoredSize
from vmferry.errors import CorruptDiskError, FormatError, UnsafeDiskError, UnsupportedFeatureError, VmferryError
from vmferry.extent import ExtentKind
from vmferry.folder import Companions, LocalFolder, MemoryFolder
from vmferry.formats import FORMATS, open_disk
from vmferry.formats.vmdk import FORMAT
from vmferry.units import KIB, MIB, SECTOR, TIB

PIECE = replace(SPARSE, descriptor=b"", descriptor_sectors=0)
NOISE = random.Random(5).randbytes(3 * MIB)


class Watched(MemoryBlob):
    """A blob that knows whether it was closed."""

    closed = False

    def close(self) -> None:
        self.closed = True


class WatchedFolder(MemoryFolder):
    """A folder that keeps what it gave."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        super().__init__(files)
        self.given: list[Watched] = []

    def open(self, name: str) -> Watched:
        blob = super().open(name)
        self.given.append(Watched(blob.read_at(0, blob.size), blob.name))
        return self.given[-1]


def beside(text: bytes, files: Mapping[str, bytes], name: str = "vm/disk.vmdk", *parents: bytes) -> Disk:
    blobs = tuple(MemoryBlob(parent, f"vm/base{index}.vmdk") for index, parent in enumerate(parents))
    return open_disk(MemoryBlob(text, name), FORMATS["vmdk"], Companions(blobs, beside=MemoryFolder(files)))


def given_files(text: bytes, **files: bytes) -> Disk:
    blobs = {f"{name}.vmdk": MemoryBlob(data, f"{name}.vmdk") for name, data in files.items()}
    return FORMAT.open(MemoryBlob(text, "disk.vmdk"), Companions(extent_files=blobs))


def whole(disk: Disk) -> bytes:
    return bytes(disk.read_at(0, disk.size))


def qemu_img(*words: str | Path) -> None:
    subprocess.run(["qemu-img", *map(str, words)], check=True, capture_output=True, timeout=60)


@settings(deadline=None, max_examples=8)
@given(
    kind=st.sampled_from(["monolithicFlat", "twoGbMaxExtentFlat", "twoGbMaxExtentSparse"]),
    letters=st.lists(st.sampled_from("dn"), min_size=1, max_size=30),
    tail=st.sampled_from([0, 512, 33 * KIB]),
)
def test_what_qemu_writes_into_several_files_reads_as_it_was_given(
    tmp_path_factory: pytest.TempPathFactory, kind: str, letters: list[str], tail: int
) -> None:
    folder = tmp_path_factory.mktemp("qemu")
    expected = b"".join({"d": fill(3), "n": bytes(64 * KIB)}[letter] for letter in letters) + fill(8)[:tail]
    (folder / "disk.raw").write_bytes(expected)
    qemu_img("convert", "-f", "raw", "-O", "vmdk", "-o", f"subformat={kind}", folder / "disk.raw", folder / "a.vmdk")
    disk = open_disk(FileBlob(folder / "a.vmdk"), None, Companions(beside=LocalFolder(folder)))
    assert whole(disk) == expected
    check_extents(disk, expected)
    assert isinstance(disk, SupportsFacts)
    assert (disk.facts.subformat, disk.facts.warnings) == (kind, ())
    disk.close()


def test_pieces_over_2_gib_follow_each_other(tmp_path: Path) -> None:
    """5 GiB in three files, data across both borders."""
    qemu_img("create", "-f", "vmdk", "-o", "subformat=twoGbMaxExtentSparse", tmp_path / "a.vmdk", "5G")
    places = [0, (2 << 30) - 64 * KIB, (4 << 30) - 4096, (5 << 30) - 4096]
    for place in places:
        length = 128 * KIB if place == places[1] else 8192 if place == places[2] else 4096
        subprocess.run(
            ["qemu-io", "-c", f"write -P 7 {place} {length}", str(tmp_path / "a.vmdk")], check=True, capture_output=True
        )
    disk = open_disk(FileBlob(tmp_path / "a.vmdk"), None, Companions(beside=LocalFolder(tmp_path)))
    assert disk.size == 5 << 30
    for place in places[1:3]:
        assert set(bytes(disk.read_at(place, 8192))) == {7}
    assert next(extent.start for extent in disk.extents() if extent.kind is ExtentKind.DATA) == 0
    assert sum(extent.length for extent in disk.extents() if extent.kind is ExtentKind.DATA) == 6 * 64 * KIB
    disk.close()


def mixed() -> tuple[bytes, dict[str, bytes], bytes]:
    """Raw bytes, zeros, sparse grains, the same raw file again, a COWD, a seSparse."""
    text = describe(
        "custom-made",
        'RW 2048 FLAT "disk-flat.vmdk" 16',
        "RW 100 ZERO",
        'RDONLY 128 SPARSE "disk-s001.vmdk"',
        '  rw 512 vmfs "disk-flat.vmdk"  2064 ',
        'RW 10 VMFSSPARSE "disk-delta.vmdk"',
        'RW 16 SESPARSE "disk-sesparse.vmdk"',
    )
    files = {
        "disk-flat.vmdk": NOISE,
        "disk-s001.vmdk": bytes(build(128, {0: fill(4)}, PIECE).data),
        "disk-delta.vmdk": bytes(cowd(10, {3: b"y" * SECTOR}).data),
        "disk-sesparse.vmdk": bytes(sesparse(16, {1: b"z" * GRAIN}).data),
    }
    expected = NOISE[16 * SECTOR : 2064 * SECTOR] + bytes(100 * SECTOR) + fill(4) + NOISE[2064 * SECTOR : 2576 * SECTOR]
    return text, files, expected + bytes(3 * SECTOR) + b"y" * SECTOR + bytes(6 * SECTOR) + bytes(GRAIN) + b"z" * GRAIN


def test_pieces_of_every_kind_make_one_disk() -> None:
    text, files, expected = mixed()
    disk = beside(text, files)
    assert whole(disk) == expected
    check_extents(disk, expected)
    picks = random.Random(1)
    for _ in range(60):
        start = picks.randrange(disk.size)
        length = min(picks.choice((1, 600, 9000, 200_000)), disk.size - start)
        assert bytes(disk.read_at(start, length)) == expected[start : start + length]
        extents = list(disk.extents(start, start + length))
        assert (extents[0].start, extents[-1].end) == (start, start + length)
    assert isinstance(disk, SupportsStoredSize)
    assert disk.stored_size() > 2560 * SECTOR
    with pytest.raises(ValueError, match="not inside"):
        disk.read_at(disk.size - 1, 2)


def test_any_number_of_files_keep_few_tables() -> None:
    """Every other piece has a grain; each is gone through twice, and its tables are read anew."""
    count = 600
    lines = [f'RW 128 SPARSE "disk-s{index:03}.vmdk"' for index in range(count)]
    piece = bytes(build(128, {0: fill(1)}, PIECE).data)
    disk = beside(describe("twoGbMaxExtentSparse", *lines), {f"disk-s{index:03}.vmdk": piece for index in range(count)})
    for _ in range(2):
        assert [extent.length for extent in disk.extents()] == [count * 64 * KIB]
        assert bytes(disk.read_at(599 * 64 * KIB, 64 * KIB)) == fill(1)


FLAT = 'RW 16 FLAT "{}" 0'
NAMES = {
    "absolute": ("/etc/passwd", UnsafeDiskError),
    "up": ("../x-flat.vmdk", UnsafeDiskError),
    "dots": ("..", UnsafeDiskError),
    "json": ("json:{}", UnsafeDiskError),
    "drive": ("C:\\x", UnsafeDiskError),
    "drive, forward": ("C:/x", UnsafeDiskError),
    "share": ("\\\\host\\x", UnsafeDiskError),
    "device": ("/dev/sda", UnsafeDiskError),
    "windows device": ("\\\\.\\PhysicalDrive0", UnsafeDiskError),
    "protocol": ("nbd:unix", UnsafeDiskError),
    "url": ("https://host/x", UnsafeDiskError),
    "stream": ("disk-flat.vmdk:x", UnsafeDiskError),
    "folder": ("disk-a/x.vmdk", UnsafeDiskError),
    "escape": ("disk-\x7f.vmdk", UnsafeDiskError),
    "itself": ("disk.vmdk", UnsafeDiskError),
    "none": ("", UnsafeDiskError),
    "other stem": ("other-flat.vmdk", UnsupportedFeatureError),
    "longer stem": ("disk2-flat.vmdk", UnsupportedFeatureError),
    "other case": ("DISK-flat.vmdk", UnsupportedFeatureError),
    "other end": ("disk-flat.raw", UnsupportedFeatureError),
    "no dash": ("diskflat.vmdk", UnsupportedFeatureError),
    "nothing between": ("disk-.vmdk", UnsupportedFeatureError),
    "not there": ("disk-f001.vmdk", UnsupportedFeatureError),
}


@pytest.mark.parametrize("name", NAMES)
def test_no_name_is_opened_but_those_of_the_rule(name: str) -> None:
    path, error = NAMES[name]
    folder = WatchedFolder({"disk-flat.vmdk": NOISE} | ({} if name == "not there" else {path: NOISE}))
    text = describe("monolithicFlat", FLAT.format("disk-flat.vmdk"), FLAT.format(path))
    with pytest.raises(error) as caught:
        FORMAT.open(MemoryBlob(text, "vm/disk.vmdk"), Companions(beside=folder))
    assert all(blob.closed for blob in folder.given)
    assert name == "not there" or not folder.given
    if error is UnsupportedFeatureError:
        assert "--extent FILE" in str(caught.value)
        assert path in str(caught.value)


def test_a_file_that_is_given_may_have_any_plain_name() -> None:
    disk = given_files(describe("vmfs", 'RW 16 VMFS "other.vmdk"'), other=NOISE)
    assert whole(disk) == NOISE[: 16 * SECTOR]
    for name in ("../other.vmdk", "/other.vmdk", "C:other.vmdk"):
        with pytest.raises(UnsafeDiskError, match="never opened"):
            given_files(describe("vmfs", f'RW 16 VMFS "{name}"'), other=NOISE)


def test_names_are_read_in_the_encoding_that_they_are_in() -> None:
    for encoding, name in (("UTF-8", "Gerät"), ("windows-1252", "Gerät"), ("Shift_JIS", "表示"), ("GBK", "磁盘")):
        text = describe("vmfs", f'RW 16 VMFS "{name}-flat.vmdk"', extra=f'encoding="{encoding}"').decode()
        disk = beside(text.encode(encoding), {f"{name}-flat.vmdk": NOISE}, f"{name}.vmdk")
        assert whole(disk) == NOISE[: 16 * SECTOR]


def sparse_line(sectors: int = 128) -> str:
    return f'RW {sectors} SPARSE "a.vmdk"'


A_PIECE = bytes(build(128, {0: fill(4)}, PIECE).data)
REFUSED: dict[str, tuple[tuple[str, ...], type[VmferryError], str]] = {
    "no access": (('NOACCESS 16 FLAT "a.vmdk" 0',), UnsupportedFeatureError, "NOACCESS"),
    "raw mapping": (('RW 16 VMFSRDM "a.vmdk"',), UnsafeDiskError, "VMFSRDM"),
    "raw device": (('RW 16 VMFSRAW "a.vmdk"',), UnsafeDiskError, "VMFSRAW"),
    "unknown kind": (('RW 16 MAGIC "a.vmdk"',), UnsupportedFeatureError, "MAGIC"),
    "no length": (('RW 0 FLAT "a.vmdk" 0',), CorruptDiskError, "no length"),
    "no length of zeros": (("RW 0 ZERO",), CorruptDiskError, "no length"),
    "negative length": (('RW -1 FLAT "a.vmdk" 0',), CorruptDiskError, "cannot be read"),
    "negative place": (('RW 16 FLAT "a.vmdk" -1',), CorruptDiskError, "cannot be read|no place"),
    "no place": (('RW 16 FLAT "a.vmdk"',), CorruptDiskError, "no place"),
    "no quotes": (("RW 16 FLAT a.vmdk 0",), UnsafeDiskError, "points to"),
    "place near 2^63": (('RW 16 FLAT "a.vmdk" 9223372036854775807',), CorruptDiskError, "cut short"),
    "length near 2^63": (('RW 9223372036854775807 FLAT "a.vmdk" 0',), UnsafeDiskError, "at most 64 TiB"),
    "20 digits": (('RW 18446744073709551616 FLAT "a.vmdk" 0',), CorruptDiskError, "cannot be read"),
    "digits of another script": (("RW \u0668 ZERO",), CorruptDiskError, "cannot be read"),
    "128 PiB": ((f"RW {1 << 48} ZERO",), UnsafeDiskError, "at most 64 TiB"),
    "128 PiB together": (tuple([f"RW {1 << 36} ZERO"] * 4), UnsafeDiskError, "at most 64 TiB"),
    "thousands of lines": (tuple(["RW 1 ZERO"] * 5000), UnsafeDiskError, "at most 4,096"),
    "overlap": (('RW 16 FLAT "a.vmdk" 0', 'RW 16 FLAT "a.vmdk" 15'), UnsafeDiskError, "same bytes"),
    "overlap, backwards": (('RW 16 FLAT "a.vmdk" 8', 'RW 16 VMFS "a.vmdk"'), UnsafeDiskError, "same bytes"),
    "sparse twice": ((sparse_line(), sparse_line()), UnsafeDiskError, "twice"),
    "sparse and flat": ((sparse_line(), 'RW 1 FLAT "a.vmdk" 500'), UnsafeDiskError, "twice"),
    "flat is too short": (('RW 9999 FLAT "a.vmdk" 0',), CorruptDiskError, "cut short"),
    "sparse is too short": ((sparse_line(129),), CorruptDiskError, "cut short"),
    "sparse is too long": ((sparse_line(127), "RW 1 ZERO"), CorruptDiskError, "next extent begin"),
    "no COWD": (('RW 128 VMFSSPARSE "a.vmdk"',), CorruptDiskError, "does not begin"),
    "no seSparse": (('RW 128 SESPARSE "a.vmdk"',), CorruptDiskError, "does not begin"),
    "nothing": ((), UnsupportedFeatureError, "names no file"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_descriptor_that_asks_for_what_cannot_be_is_refused(name: str) -> None:
    lines, error, reason = REFUSED[name]
    with pytest.raises(error, match=reason):
        given_files(describe("x", *lines), a=A_PIECE)


@pytest.mark.parametrize("kind", ["fullDevice", "partitionedDevice", "vmfsRDM", "vmfsRDMP", "vmfsRaw"])
def test_devices_are_refused_by_name(kind: str) -> None:
    with pytest.raises(UnsafeDiskError, match=kind):
        given_files(describe(kind, 'RW 16 FLAT "a.vmdk" 0'), a=A_PIECE)


def test_a_descriptor_given_as_its_own_extent_is_refused() -> None:
    blob = MemoryBlob(describe("vmfs", 'RW 1 VMFS "a.vmdk"').ljust(600), "disk.vmdk")
    with pytest.raises(UnsafeDiskError, match="its own data"):
        FORMAT.open(blob, Companions(extent_files={"a.vmdk": blob}))


def test_what_was_opened_beside_is_closed_with_the_disk_and_when_opening_fails() -> None:
    text, files, _ = mixed()
    folder = WatchedFolder(files)
    FORMAT.open(MemoryBlob(text, "disk.vmdk"), Companions(beside=folder)).close()
    assert len(folder.given) == 4
    assert all(blob.closed for blob in folder.given)
    folder = WatchedFolder(files | {"disk-sesparse.vmdk": b"?"})
    with pytest.raises(CorruptDiskError):
        FORMAT.open(MemoryBlob(text, "disk.vmdk"), Companions(beside=folder))
    assert len(folder.given) == 4
    assert all(blob.closed for blob in folder.given)


def test_zeros_of_terabytes_and_holes_of_a_sparse_file_are_no_data(tmp_path: Path) -> None:
    path = tmp_path / "disk-flat.vmdk"
    with path.open("wb") as file:
        file.truncate(3 * TIB)
        file.seek(2 * TIB)
        file.write(b"x" * 4096)
    text = describe("vmfs", f'RW {3 * TIB // SECTOR} VMFS "disk-flat.vmdk"', f"RW {50 * TIB // SECTOR} ZERO")
    disk = FORMAT.open(MemoryBlob(text, "disk.vmdk"), Companions(beside=LocalFolder(tmp_path)))
    assert disk.size == 53 * TIB
    assert [extent.start for extent in disk.extents() if extent.kind is ExtentKind.DATA] == [2 * TIB]
    assert list(disk.extents())[-1].kind is ExtentKind.ZERO
    assert bytes(disk.read_at(2 * TIB, 4)) == b"xxxx"
    assert bytes(disk.read_at(3 * TIB - 512, 1024)) == bytes(1024)
    disk.close()


def test_facts_tell_who_wrote_it_and_what_is_odd() -> None:
    virtualbox = DESCRIPTOR % b"streamOptimized" + b'ddb.uuid.image="0"\n'
    stream = (DESCRIPTOR % b"streamOptimized").replace(
        b"version=1", b"# Description file created by VMDK stream converter\nversion=1"
    )
    for text, creator in ((virtualbox, "VirtualBox"), (stream, "VMDK stream converter")):
        disk = FORMAT.open(MemoryBlob(bytes(build(4096, {}, Layout(descriptor=text)).data), "a.vmdk"))
        assert isinstance(disk, SupportsFacts)
        assert (disk.facts.creator, disk.facts.warnings) == (creator, ())
    image = build(128 * 600, {0: fill(1)}, replace(SPARSE, redundant=True, all_tables=True))
    image.patch_header(unclean=1)
    image.patch(image.redundant + 4, "I", 0)
    odd = " ".join(FORMAT.open(MemoryBlob(bytes(image.data))).facts.warnings)
    for word in ("4,096 sectors", "not closed properly", "redundant grain directory differs"):
        assert word in odd
    image.patch(image.directory, "I", 0xFFFFFFFF)
    odd = " ".join(FORMAT.open(MemoryBlob(bytes(image.data))).facts.warnings)
    assert "redundant one is read" in odd


# Chains


def child_of(cid: str, grains: Mapping[int, bytes | None], capacity: int = 128 * 8, layout: Layout = SPARSE) -> bytes:
    kind = b"streamOptimized" if layout.compressed else b"monolithicSparse"
    text = (DESCRIPTOR % kind).replace(b"parentCID=ffffffff", f"parentCID={cid}".encode())
    text = text.replace(b"createType", b'parentFileNameHint="/vmfs/base.vmdk"\ncreateType')
    return bytes(build(capacity, grains, replace(layout, descriptor=text)).data)


BASE = bytes(build(128 * 8, {number: fill(number) for number in (0, 1, 2, 7)}, SPARSE).data)


@pytest.mark.parametrize("layout", [SPARSE, Layout()])
def test_a_hole_shows_the_parent_and_zeros_hide_it(layout: Layout) -> None:
    layout = replace(layout, version=2, zero_flag=True)
    disk = beside(child_of("0badf00d", {1: fill(9), 2: None}, layout=layout), {}, "vm/a.vmdk", BASE)
    none = bytes(64 * KIB)
    assert whole(disk) == fill(0) + fill(9) + none + none * 4 + fill(7)
    kinds = [(extent.start // 64 // KIB, extent.kind.value) for extent in disk.extents()]
    assert kinds == [(0, "data"), (2, "zero"), (3, "hole"), (7, "data")]
    assert isinstance(disk, SupportsFacts)
    assert disk.facts.parent is not None
    disk.close()


def test_deltas_of_every_kind_show_their_parent() -> None:
    base = b"".join(fill(number) if number in (0, 1, 2, 7) else bytes(64 * KIB) for number in range(8))
    for kind, line, name, data, place, own in (
        ("vmfsSparse", "VMFSSPARSE", "a-delta.vmdk", cowd(1024, {3: b"y" * SECTOR}).data, 3 * SECTOR, b"y" * SECTOR),
        ("seSparse", "SESPARSE", "a-sesparse.vmdk", sesparse(1024, {1: b"z" * GRAIN}).data, GRAIN, b"z" * GRAIN),
        ("seSparse", "SESPARSE", "a-sesparse.vmdk", sesparse(1024, {0: UNMAPPED}).data, 0, bytes(GRAIN)),
        ("twoGbMaxExtentSparse", "SPARSE", "a-s001.vmdk", build(1024, {2: fill(8)}, PIECE).data, 128 * KIB, fill(8)),
    ):
        text = describe(kind, f'RW 1024 {line} "{name}"', parent="0BADF00D")
        disk = beside(text, {name: bytes(data)}, "vm/a.vmdk", BASE)
        assert whole(disk) == base[:place] + own + base[place + len(own) :]


def test_raw_bytes_hide_the_parent_and_parents_may_have_another_size() -> None:
    text = describe("vmfs", 'RW 16 VMFS "a-flat.vmdk"', 'RW 2000 SPARSE "a-s002.vmdk"', parent="0badf00d")
    files = {"a-flat.vmdk": bytes(16 * SECTOR), "a-s002.vmdk": bytes(build(2000, {}, PIECE).data)}
    disk = beside(text, files, "vm/a.vmdk", BASE)
    parent = FORMAT.open(MemoryBlob(BASE))
    assert whole(disk) == bytes(16 * SECTOR) + whole(parent)[16 * SECTOR :] + bytes((2016 - 1024) * SECTOR)


def test_a_decimal_content_id_is_the_same_number() -> None:
    disk = beside(child_of(str(0x0BADF00D), {}), {}, "vm/a.vmdk", BASE)
    assert bytes(disk.read_at(0, 64 * KIB)) == fill(0)


def test_another_parent_or_none_is_refused() -> None:
    with pytest.raises(CorruptDiskError, match="not the parent of"):
        beside(child_of("12345678", {}), {}, "vm/a.vmdk", BASE)
    with pytest.raises(UnsupportedFeatureError, match=re.escape("/vmfs/base.vmdk") + ".*--parent"):
        beside(child_of("0badf00d", {}), {}, "vm/a.vmdk")
    with pytest.raises(FormatError, match="has no parent"):
        beside(BASE, {}, "vm/a.vmdk", BASE)
    with pytest.raises(FormatError, match="declared as vmdk"):
        beside(child_of("0badf00d", {}), {}, "vm/a.vmdk", b"raw" * 1000)


def test_a_parent_that_is_the_wrong_one_lets_go_of_its_files() -> None:
    folder = WatchedFolder({"base-flat.vmdk": NOISE})
    base = Watched(describe("vmfs", 'RW 16 VMFS "base-flat.vmdk"', cid="00000001"), "vm/base.vmdk")
    with pytest.raises(CorruptDiskError, match="not the parent"):
        FORMAT.open(MemoryBlob(child_of("0badf00d", {}), "vm/a.vmdk"), Companions((base,), beside=folder))
    assert folder.given[0].closed
    assert not base.closed


def test_qemu_reads_a_chain_alike(tmp_path: Path) -> None:
    (tmp_path / "raw").write_bytes(NOISE + bytes(MIB))
    qemu_img("convert", "-O", "vmdk", "-o", "subformat=monolithicFlat", tmp_path / "raw", tmp_path / "base.vmdk")
    for name, parent, kind, place in (
        ("mid", "base", "monolithicSparse", 0),
        ("top", "mid", "twoGbMaxExtentSparse", 3),
    ):
        qemu_img(
            "create", "-f", "vmdk", "-b", f"{parent}.vmdk", "-F", "vmdk", "-o", f"subformat={kind}",
            tmp_path / f"{name}.vmdk",
        )  # fmt: skip
        command = ["qemu-io", "-c", f"write -P 9 {place}M 64k", str(tmp_path / f"{name}.vmdk")]
        subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
    parents = tuple(FileBlob(tmp_path / f"{name}.vmdk") for name in ("mid", "base"))
    disk = open_disk(FileBlob(tmp_path / "top.vmdk"), None, Companions(parents, beside=LocalFolder(tmp_path)))
    qemu_img("convert", "-f", "vmdk", "-O", "raw", tmp_path / "top.vmdk", tmp_path / "flat.raw")
    assert whole(disk) == (tmp_path / "flat.raw").read_bytes()
    check_extents(disk, whole(disk))
    disk.close()


@settings(deadline=None, max_examples=80)
@given(
    flips=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 1 << 20), st.integers(0, 255)), min_size=1, max_size=6),
)
def test_random_damage_to_any_of_the_files_raises_nothing_but_our_errors(flips: list[tuple[int, int, int]]) -> None:
    text, files, _ = mixed()
    parts = [bytearray(text), *map(bytearray, files.values())]
    for number, offset, value in flips:
        parts[number][offset % min(len(parts[number]), 4096)] = value
    with contextlib.suppress(VmferryError):
        disk = beside(bytes(parts[0]), {name: bytes(part) for name, part in zip(files, parts[1:], strict=True)})
        for extent in disk.extents():
            disk.read_at(extent.start, min(extent.length, 2 * MIB))

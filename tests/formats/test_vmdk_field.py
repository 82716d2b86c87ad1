"""What products and people really hand in: odd descriptors, long pieces, chains. ``qemu-img`` and libvmdk judge."""

from __future__ import annotations

import json
import random
import subprocess
import time
import tracemalloc
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import pyvmdk
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.formats.test_vmdk_delta import Patched, data_runs
from tests.formats.test_vmdk_read import SPARSE, STREAM, check_extents, fill
from tests.formats.vmdk_builder import DESCRIPTOR, Layout, build, stream_descriptor
from tests.formats.vmdk_deltas import cowd, describe
from vmferry.blob import Buffer, FileBlob, MemoryBlob
from vmferry.disk import Disk, SupportsFacts
from vmferry.errors import CorruptDiskError, UnsafeDiskError, UnsupportedFeatureError
from vmferry.extent import ExtentKind
from vmferry.folder import Companions, LocalFolder, MemoryFolder
from vmferry.formats.vmdk import FORMAT
from vmferry.formats.vmdk.composite import Composite
from vmferry.formats.vmdk.flat import ZeroExtent
from vmferry.units import KIB, MIB, SECTOR, TIB

GRAIN = 64 * KIB
PIECE = replace(SPARSE, descriptor=b"", descriptor_sectors=0)
NOISE = random.Random(7).randbytes(GRAIN)


def beside(text: bytes, files: Mapping[str, bytes]) -> Disk:
    return FORMAT.open(MemoryBlob(text, "vm/disk.vmdk"), Companions(beside=MemoryFolder(files)))


def warnings_of(disk: Disk) -> str:
    assert isinstance(disk, SupportsFacts)
    return " ".join(disk.facts.warnings)


# Descriptors as products and people leave them

FLAT_LINE = 'RW 128 FLAT "disk-flat.vmdk" 0'
PLAIN = describe("monolithicFlat", FLAT_LINE)
STAND_ALONE = {
    "as it should be": PLAIN,
    "a byte order mark": b"\xef\xbb\xbf" + PLAIN,
    "a byte order mark and CRLF": b"\xef\xbb\xbf" + PLAIN.replace(b"\n", b"\r\n"),
    "blank lines and other comments first": b"\r\n\r\n# made by hand\r\n" + PLAIN,
    "indented": b"    " + PLAIN.replace(b"\n", b"\n    "),
    "indented with tabs": PLAIN.replace(b"\n", b"\n\t"),
    "blanks around and behind": PLAIN.replace(b"=", b" = ").replace(b"\n", b" \n"),
    "in lower case": PLAIN.lower(),
    "no line end at the end": PLAIN.rstrip(),
    "NULs behind the end": PLAIN.ljust(4096, b"\0"),
    "the end of an older text behind a NUL, as qemu-img leaves it": PLAIN.ljust(len(PLAIN) + 1, b"\0")
    + b"\n"
    + bytes(8),
    "in latin-1": PLAIN.replace(b"version=1", b"version=1\n# Ger\xe4t"),
    "in latin-1 but said to be UTF-8": PLAIN.replace(b"version=1", b'encoding="UTF-8"\nddb.comment="Ger\xe4t"'),
    "in an encoding that nobody knows": PLAIN.replace(b"version=1", b'encoding="klingon"\nddb.comment="Ger\xe4t"'),
    "an encoding that is no text": PLAIN.replace(b"version=1", b'encoding="zlib"\nddb.comment="\xe4"'),
    "change tracking and unknown lines": PLAIN.replace(
        b"version=1", b'version=1\nisNativeSnapshot="no"\nchangeTrackPath="/etc/passwd"\nno key at all\n=\n'
    ),
    "COT's": PLAIN.replace(b"#DDB\n", b'#DDB\n\nddb.adapterType = "ide"\n\n\nddb.geometry.cylinders = "0"\n')
    .replace(b"version=1", b"version=1 ")
    .replace(b"# Extent", b"\n\n# Extent"),
}


@pytest.mark.parametrize("name", STAND_ALONE)
def test_a_descriptor_is_read_as_it_comes(name: str) -> None:
    assert FORMAT.probe(MemoryBlob(STAND_ALONE[name]))
    assert bytes(beside(STAND_ALONE[name], {"disk-flat.vmdk": NOISE}).read_at(0, GRAIN)) == NOISE


def test_a_key_right_behind_a_byte_order_mark_counts() -> None:
    """Lost, it would make a whole disk of a snapshot's delta."""
    text = b"\xef\xbb\xbfparentCID=0000abcd\n" + PLAIN
    with pytest.raises(UnsupportedFeatureError, match="CID 0000abcd"):
        beside(text, {"disk-flat.vmdk": NOISE})


@pytest.mark.parametrize(
    ("written", "told"),
    [("2GbMaxExtentSparse", "twoGbMaxExtentSparse"), ("TWOGBMAXEXTENTSPARSE", "twoGbMaxExtentSparse"), ("odd", "odd")],
)
def test_the_kind_is_told_as_vmware_spells_it(written: str, told: str) -> None:
    disk = beside(
        describe(written, 'RW 128 SPARSE "disk-s001.vmdk"'), {"disk-s001.vmdk": bytes(build(128, {}, PIECE).data)}
    )
    assert isinstance(disk, SupportsFacts)
    assert disk.facts.subformat == told


def test_a_second_descriptor_behind_the_first_is_not_read() -> None:
    """kiwi once wrote its descriptor behind the one that was there."""
    text = stream_descriptor() + b"\0" * 40 + (DESCRIPTOR % b"monolithicFlat") + b'RW 8 FLAT "/etc/passwd" 0\n'
    disk = FORMAT.open(
        MemoryBlob(bytes(build(128, {0: NOISE}, replace(STREAM, descriptor=text, descriptor_sectors=4)).data))
    )
    assert bytes(disk.read_at(0, GRAIN)) == NOISE


def test_a_header_without_a_disk_is_no_way_to_other_files() -> None:
    """QEMU reads such a file as its descriptor says; here the descriptor must be a file of its own."""
    image = build(128, {0: NOISE}, replace(SPARSE, descriptor=describe("monolithicFlat", FLAT_LINE)))
    image.patch_header(capacity=0)
    blob = MemoryBlob(bytes(image.data), "vm/disk.vmdk")
    with pytest.raises(UnsupportedFeatureError, match="capacity 0"):
        FORMAT.open(blob, Companions(beside=MemoryFolder({"disk-flat.vmdk": NOISE})))


def test_a_grain_that_did_not_shrink_takes_more_room_than_a_grain() -> None:
    layout = replace(STREAM, compress=lambda data: zlib.compress(data, 0), progress=3, table_marker_value=0)
    image = build(128 * 3, {0: NOISE, 1: NOISE[::-1], 2: NOISE}, layout)
    assert image.grains[1] - image.grains[0] > GRAIN
    disk = FORMAT.open(MemoryBlob(bytes(image.data)))
    assert bytes(disk.read_at(0, 3 * GRAIN)) == NOISE + NOISE[::-1] + NOISE


# Pieces


@pytest.mark.parametrize("sectors", [8323072, 4192256])
def test_pieces_are_as_long_as_vmware_makes_them(sectors: int) -> None:
    """4064 MiB and 2047 MiB, a shorter one last; data across the border."""
    last = sectors // 128 - 1
    lines = [f'RW {sectors} SPARSE "disk-s001.vmdk"', 'RW 300 SPARSE "disk-s002.vmdk"']
    files = {
        "disk-s001.vmdk": bytes(build(sectors, {last: NOISE}, PIECE).data),
        "disk-s002.vmdk": bytes(build(300, {0: NOISE[::-1], 2: NOISE}, PIECE).data),
    }
    disk = beside(describe("twoGbMaxExtentSparse", *lines), files)
    border = sectors * SECTOR
    assert disk.size == border + 300 * SECTOR
    assert bytes(disk.read_at(border - 1000, 2000)) == NOISE[-1000:] + NOISE[::-1][:1000]
    assert bytes(disk.read_at(disk.size - 44 * SECTOR, 44 * SECTOR)) == NOISE[: 44 * SECTOR]
    runs = [(extent.start, extent.end) for extent in disk.extents() if extent.kind is ExtentKind.DATA]
    assert runs == [(border - GRAIN, border + GRAIN), (border + 2 * GRAIN, disk.size)]


def test_pieces_may_carry_descriptors_of_their_own_whose_names_mean_nothing() -> None:
    own = describe("twoGbMaxExtentSparse", 'RW 128 FLAT "/etc/passwd" 0', parent="12345678")
    piece = bytes(build(128, {0: NOISE}, replace(SPARSE, descriptor=own)).data)
    disk = beside(describe("twoGbMaxExtentSparse", 'RW 128 SPARSE "disk-s001.vmdk"'), {"disk-s001.vmdk": piece})
    assert bytes(disk.read_at(0, GRAIN)) == NOISE


def test_one_file_is_never_two_pieces_of_a_disk() -> None:
    blob = MemoryBlob(NOISE, "some.vmdk")
    text = describe("vmfs", 'RW 8 VMFS "one.vmdk"', 'RW 8 VMFS "two.vmdk"')
    with pytest.raises(UnsafeDiskError, match=r"some\.vmdk for two of its files, one\.vmdk and two\.vmdk"):
        FORMAT.open(MemoryBlob(text, "disk.vmdk"), Companions(extent_files={"one.vmdk": blob, "two.vmdk": blob}))


@pytest.mark.parametrize(("place", "is_odd"), [(1648, True), (1652, False)])
def test_a_cowd_that_was_not_closed_says_so(place: int, is_odd: bool) -> None:
    """The flag is the last field; what follows is padding."""
    image = cowd(10, {3: b"y" * SECTOR})
    image.patch(place, "I", 1)
    disk = beside(describe("vmfsSparse", 'RW 10 VMFSSPARSE "disk-delta.vmdk"'), {"disk-delta.vmdk": bytes(image.data)})
    assert ("not closed properly" in warnings_of(disk)) is is_odd


def test_many_threads_read_a_disk_of_many_pieces() -> None:
    """More pieces than keep their tables, so that tables go and come while others read."""
    kinds = {"SPARSE": "s001", "VMFSSPARSE": "delta", "FLAT": "f001"}
    lines, files, expected = [], {}, b""
    for index in range(12):
        kind, tail = list(kinds.items())[index % 3]
        name, content = f"disk-{index}-{tail}.vmdk", fill(index)
        grains = {number: content[number * SECTOR : (number + 1) * SECTOR] for number in range(128)}
        data = {"SPARSE": build(128, {0: content}, PIECE).data, "VMFSSPARSE": cowd(128, grains).data, "FLAT": content}
        files[name] = bytes(data[kind])
        lines.append(f'RW 128 {kind} "{name}"' + (" 0" if kind == "FLAT" else ""))
        expected += content
    disk = beside(describe("custom", *lines), files)

    def read_some(seed: int) -> None:
        picks = random.Random(seed)
        for _ in range(60):
            start = picks.randrange(disk.size - 100_000)
            length = picks.choice((512, 100_000))
            assert bytes(disk.read_at(start, length)) == expected[start : start + length]
        assert [extent.length for extent in disk.extents()] == [disk.size]

    with ThreadPoolExecutor(8) as pool:
        for _ in pool.map(read_some, range(8)):
            pass


def test_only_the_pieces_used_last_keep_their_tables() -> None:
    class Remembering(ZeroExtent):
        keeps = False

        def read_at(self, offset: int, length: int) -> Buffer:
            self.keeps = True
            return super().read_at(offset, length)

        def forget(self) -> None:
            self.keeps = False

    pieces = [Remembering(SECTOR) for _ in range(9)]
    whole = Composite(pieces)
    for _ in range(2):
        for index in range(9):
            whole.read_at(index * SECTOR, SECTOR)
    assert [piece.keeps for piece in pieces] == [False] * 5 + [True] * 4
    whole.read_at(5 * SECTOR, SECTOR)
    whole.read_at(0, SECTOR)
    assert [piece.keeps for piece in pieces] == [True, False, False, False, False, True, False, True, True]
    whole.forget()
    assert not any(piece.keeps for piece in pieces)


def test_libvmdk_reads_a_cowd_and_a_split_disk_alike(tmp_path: Path) -> None:
    grains = {number: random.Random(number).randbytes(SECTOR) for number in (0, 1, 9, 4095, 4096, 8999)}
    (tmp_path / "a-delta.vmdk").write_bytes(cowd(9000, grains).data)
    (tmp_path / "a.vmdk").write_bytes(describe("vmfsSparse", 'RW 9000 VMFSSPARSE "a-delta.vmdk"'))
    lines = [f'RW 65536 SPARSE "b-s00{number}.vmdk"' for number in (1, 2)]
    for number in (1, 2):
        (tmp_path / f"b-s00{number}.vmdk").write_bytes(build(65536, {0: fill(number), 511: fill(9)}, PIECE).data)
    (tmp_path / "b.vmdk").write_bytes(describe("twoGbMaxExtentSparse", *lines))
    for name in ("a", "b"):
        disk = FORMAT.open(FileBlob(tmp_path / f"{name}.vmdk"), Companions(beside=LocalFolder(tmp_path)))
        judge = pyvmdk.handle()
        judge.open(str(tmp_path / f"{name}.vmdk"))
        judge.open_extent_data_files()
        assert judge.get_media_size() == disk.size
        for start in range(0, disk.size, MIB):
            length = min(MIB, disk.size - start)
            assert judge.read_buffer_at_offset(length, start) == bytes(disk.read_at(start, length))
        judge.close()
        disk.close()


# Chains


def link(name: str, parent: str | None, grains: Mapping[int, bytes | None], capacity: int, layout: Layout) -> bytes:
    """A disk of a chain as a file: its CID is its name's first letter, over and over."""
    kind = b"streamOptimized" if layout.compressed else b"monolithicSparse"
    text = (DESCRIPTOR % kind).replace(b"0badf00d", name[0].encode() * 8)
    if parent is not None:
        text = text.replace(b"ffffffff", parent[0].encode() * 8)
        text = text.replace(b"createType", f'parentFileNameHint="{parent}.vmdk"\ncreateType'.encode())
    return bytes(build(capacity, grains, replace(layout, descriptor=text)).data)


@settings(deadline=None, max_examples=6)
@given(
    letters=st.lists(st.text("dzh", min_size=10, max_size=10), min_size=3, max_size=3),
    tail=st.integers(1, 128),
    compressed=st.booleans(),
)
def test_qemu_reads_and_maps_any_chain_alike(
    tmp_path_factory: pytest.TempPathFactory, letters: list[str], tail: int, compressed: bool
) -> None:
    """Each letter is a grain: data, zeros, nothing."""
    folder = tmp_path_factory.mktemp("chain")
    capacity = 128 * 9 + tail
    for (name, parent), line in zip((("a", None), ("b", "a"), ("c", "b")), letters, strict=True):
        grains = {n: fill(n + ord(name)) if letter == "d" else None for n, letter in enumerate(line) if letter != "h"}
        base = Layout(place="front", all_tables=True) if compressed and name == "c" else SPARSE
        layout = replace(base, version=2, zero_flag=True)
        (folder / f"{name}.vmdk").write_bytes(link(name, parent, grains, capacity, layout))
    top = str(folder / "c.vmdk")
    subprocess.run(["qemu-img", "convert", "-f", "vmdk", "-O", "raw", top, str(folder / "raw")], check=True, timeout=60)
    mapped = subprocess.run(
        ["qemu-img", "map", "-f", "vmdk", "--output=json", top], check=True, capture_output=True, timeout=60
    )
    expected: list[tuple[int, int, bool]] = []
    for item in json.loads(mapped.stdout):
        start = expected.pop()[0] if expected and expected[-1][2] == item["data"] else item["start"]
        expected.append((start, item["start"] + item["length"], item["data"]))
    disk = FORMAT.open(FileBlob(top), Companions(tuple(FileBlob(folder / f"{name}.vmdk") for name in "ba")))
    content = (folder / "raw").read_bytes()
    assert bytes(disk.read_at(0, disk.size)) == content
    assert data_runs(disk) == expected
    check_extents(disk, content)
    disk.close()


def test_a_hole_in_a_raw_file_is_zeros_and_hides_the_parent(tmp_path: Path) -> None:
    """A file system's holes are not a snapshot's: what lies there was zeroed, or never came to be anything else."""
    with (tmp_path / "b-flat.vmdk").open("wb") as file:
        file.truncate(4 * MIB)
        file.seek(2 * MIB)
        file.write(fill(3))
    text = describe("vmfs", f'RW {4 * MIB // SECTOR} VMFS "b-flat.vmdk"', parent="aaaaaaaa")
    parent = link("a", None, {number: fill(9) for number in range(64)}, 4 * MIB // SECTOR, SPARSE)
    chain = Companions((MemoryBlob(parent, "a.vmdk"),), beside=LocalFolder(tmp_path))
    disk = FORMAT.open(MemoryBlob(text, "b.vmdk"), chain)
    assert bytes(disk.read_at(0, 4 * MIB)) == bytes(2 * MIB) + fill(3) + bytes(2 * MIB - GRAIN)
    kinds = [(extent.start, extent.kind.value) for extent in disk.extents()]
    assert kinds == [(0, "zero"), (2 * MIB, "data"), (2 * MIB + GRAIN, "zero")]
    disk.close()


def test_a_parent_that_was_written_to_since_is_refused() -> None:
    changed = link("a", None, {}, 1024, SPARSE).replace(b"aaaaaaaa", b"aaaaaaab")
    child = link("b", "a", {}, 1024, SPARSE)
    with pytest.raises(CorruptDiskError, match="was changed since"):
        FORMAT.open(MemoryBlob(child, "b.vmdk"), Companions((MemoryBlob(changed, "a.vmdk"),)))


# Size


def terabytes(size: int) -> Patched:
    """A monolithicSparse of ``size`` bytes with a grain in its first and its last table; tables lie behind it all."""
    capacity, count = size // SECTOR, -(-size // (32 * MIB))
    image = build(128, {}, replace(SPARSE, descriptor=DESCRIPTOR % b"monolithicSparse"))
    directory = -(-len(image.data) // SECTOR)
    image.patch_header(capacity=capacity, gd=directory, rgd=0, flags=1)
    tables = directory + -(-4 * count // SECTOR)
    grains = -(-(tables + 8) // 128) * 128
    pieces = {
        0: bytes(image.data),
        directory * SECTOR: tables.to_bytes(4, "little"),
        directory * SECTOR + 4 * (count - 1): (tables + 4).to_bytes(4, "little"),
        tables * SECTOR: grains.to_bytes(4, "little"),
        (tables + 4) * SECTOR + 4 * 511: (grains + 128).to_bytes(4, "little"),
        grains * SECTOR: NOISE,
        grains * SECTOR + GRAIN: NOISE[::-1],
    }
    return Patched((grains + 256) * SECTOR, pieces, "large.vmdk")


@pytest.mark.parametrize("size", [3 * TIB, 62 * TIB, 64 * TIB])
def test_a_vmdk_of_any_size_opens_in_a_moment_with_its_directory_alone(size: int) -> None:
    blob = terabytes(size)
    tracemalloc.start()
    started = time.process_time()
    disk = FORMAT.open(blob)
    assert time.process_time() - started < 2
    assert blob.bytes_read < size // (32 * MIB) * 4 + MIB
    kinds = [(extent.start, extent.kind.value) for extent in disk.extents()]
    assert kinds == [(0, "data"), (GRAIN, "hole"), (size - GRAIN, "data")]
    assert bytes(disk.read_at(size - GRAIN, GRAIN)) == NOISE[::-1]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 192 * MIB
    assert time.process_time() - started < 5

"""What qcow2 images may have beside plain clusters: zstd, subclusters, internal snapshots, backing and data files.

``qemu-img`` and ``qemu-io`` make them, and say what the guest sees.
"""

from __future__ import annotations

import json
import random
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.formats.test_qcow2_read import Counting, covered, guest_bytes, qemu_img
from vmferry.blob import FileBlob, MemoryBlob
from vmferry.disk import Disk, DiskFacts, SupportsFacts, SupportsStoredSize
from vmferry.errors import CorruptDiskError, FormatError, UnknownFormatError, UnsafeDiskError, UnsupportedFeatureError
from vmferry.extent import ExtentKind
from vmferry.folder import Companions
from vmferry.formats import FORMATS, open_disk
from vmferry.formats.qcow2 import FORMAT
from vmferry.units import KIB, MIB, TIB

_SIZE = 3 * MIB + 7 * 512
_KINDS = {(True, False): ExtentKind.DATA, (False, True): ExtentKind.ZERO}


def qemu_io(path: Path, *commands: str, options: tuple[str, ...] = ()) -> None:
    parts = [part for command in commands for part in ("-c", command)]
    subprocess.run(["qemu-io", "-f", "qcow2", *options, *parts, str(path)], check=True, capture_output=True)


def create(path: Path, *options: str, size: int | str = _SIZE, more: tuple[str, ...] = ()) -> Path:
    chosen = ("-o", ",".join(options)) if options else ()
    qemu_img("create", "-f", "qcow2", *chosen, *more, path, str(size))
    return path


def seen_by_qemu(path: Path, *options: str) -> bytes:
    raw = path.with_suffix(".seen")
    qemu_img("convert", "-f", "qcow2", *options, "-O", "raw", path, raw)
    return raw.read_bytes()


def whole(disk: Disk) -> bytes:
    return bytes(disk.read_at(0, disk.size))


def facts(disk: Disk) -> DiskFacts:
    assert isinstance(disk, SupportsFacts)
    return disk.facts


def drawn(disk: Disk) -> list[tuple[int, int, str]]:
    return [(extent.start, extent.length, extent.kind.value) for extent in covered(disk)]


def mapped_by_qemu(path: Path) -> list[tuple[int, int, str]]:
    """``qemu-img map`` in our words: what it does not find in this file is a hole."""
    runs: list[tuple[int, int, str]] = []
    for entry in json.loads(qemu_img("map", "-f", "qcow2", "--output=json", path)):
        kind = "hole" if not entry["present"] else "data" if entry["data"] else "zero"
        if runs and runs[-1][2] == kind:
            runs[-1] = (runs[-1][0], runs[-1][1] + entry["length"], kind)
        else:
            runs.append((entry["start"], entry["length"], kind))
    return runs


def scribble(path: Path, seed: int, size: int, *, unit: int = 512) -> None:
    """Writes, zeros and discards at random, in whole units."""
    chance = random.Random(seed)
    commands = []
    for _ in range(12):
        start = chance.randrange(size // unit) * unit
        length = min(chance.choice([unit, 3 * unit, 16 * unit, 64 * KIB, 200 * KIB // unit * unit]), size - start)
        kind = chance.choice([f"write -P {chance.randrange(1, 255)}", "write -z", "write -z -u", "discard"])
        commands.append(f"{kind} {start} {length}")
    qemu_io(path, *commands, options=("-d", "unmap"))


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("features") / "disk.raw"
    path.write_bytes(guest_bytes(_SIZE))
    return path


@pytest.mark.parametrize("cluster_size", [512, 4096, 65536, 2 * MIB])
@pytest.mark.parametrize("compression", ["zlib", "zstd"])
def test_compressed_images_are_read(raw: Path, tmp_path: Path, cluster_size: int, compression: str) -> None:
    path = tmp_path / "disk.qcow2"
    options = f"compression_type={compression},cluster_size={cluster_size}"
    qemu_img("convert", "-c", "-f", "raw", "-O", "qcow2", "-o", options, raw, path)
    disk = open_disk(FileBlob(path))
    assert whole(disk) == raw.read_bytes()
    assert disk.read_at(70_001, 123_457) == raw.read_bytes()[70_001:][:123_457]
    assert facts(disk).subformat == f"v3 {compression}"
    assert isinstance(disk, SupportsStoredSize)
    assert 0 < disk.stored_size() < path.stat().st_size
    disk.close()


@pytest.mark.parametrize("cluster_size", [16 * KIB, 64 * KIB, 2 * MIB])
@pytest.mark.parametrize("seed", [1, 2])
def test_subclusters_are_read(tmp_path: Path, cluster_size: int, seed: int) -> None:
    path = create(tmp_path / "disk.qcow2", "extended_l2=on", f"cluster_size={cluster_size}", "compression_type=zstd")
    scribble(path, seed, _SIZE)
    disk = open_disk(FileBlob(path))
    assert whole(disk) == seen_by_qemu(path)
    assert drawn(disk) == mapped_by_qemu(path)
    assert facts(disk).subformat == "v3 zstd, extended L2"
    assert isinstance(disk, SupportsStoredSize)
    assert disk.stored_size() >= sum(length for _, length, kind in drawn(disk) if kind == "data") - cluster_size
    disk.close()


def test_compressed_clusters_lie_between_subclusters(raw: Path, tmp_path: Path) -> None:
    path = tmp_path / "disk.qcow2"
    qemu_img("convert", "-c", "-f", "raw", "-O", "qcow2", "-o", "extended_l2=on", raw, path)
    qemu_io(path, "write -P 7 66k 2k", "write -z 100k 4k", "write -P 9 1M 512")
    disk = open_disk(FileBlob(path))
    expected = seen_by_qemu(path)
    assert whole(disk) == expected
    assert disk.read_at(65 * KIB, 50 * KIB) == expected[65 * KIB : 115 * KIB]
    disk.close()


@pytest.mark.parametrize("options", [("compat=0.10",), ("compat=1.1",), ("extended_l2=on",), ("cluster_size=512",)])
def test_scattered_writes_are_read_and_mapped(tmp_path: Path, options: tuple[str, ...]) -> None:
    path = create(tmp_path / "disk.qcow2", *options)
    scribble(path, 3, _SIZE)
    disk = open_disk(FileBlob(path))
    assert whole(disk) == seen_by_qemu(path)
    assert drawn(disk) == mapped_by_qemu(path)
    disk.close()


@pytest.mark.slow
def test_small_tables_are_read_together(tmp_path: Path) -> None:
    path = create(tmp_path / "disk.qcow2", "cluster_size=512", size=16 * MIB)
    qemu_io(path, "write -P 1 0 16M")
    blob = Counting(path.read_bytes())
    disk = FORMAT.open(blob)
    blob.reads = 0
    assert [kind for _, _, kind in drawn(disk)] == ["data"]
    assert blob.reads < 32  # 512 tables


@pytest.fixture(scope="module")
def with_snapshots(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    """An image with three snapshots, and what the guest saw at each."""
    path = tmp_path_factory.mktemp("snapshots") / "disk.qcow2"
    create(path, size=2 * MIB)
    seen = {}
    for letter, name in ((65, "first"), (66, "sécond"), (67, "third")):
        qemu_io(path, f"write -P {letter} {(letter - 65) * 128}k 200k")
        seen[name] = seen_by_qemu(path)
        qemu_img("snapshot", "-c", name, path)
    qemu_io(path, "write -P 90 0 1M")
    qemu_img("resize", "-f", "qcow2", path, "3M")
    seen[""] = seen_by_qemu(path)
    return path, seen


@pytest.mark.parametrize("name", ["first", "sécond", "third", ""])
def test_a_snapshot_is_read_by_its_name(with_snapshots: tuple[Path, dict[str, bytes]], name: str) -> None:
    path, seen = with_snapshots
    disk = open_disk(FileBlob(path), companions=Companions(snapshot=name or None))
    assert whole(disk) == seen[name]
    assert disk.size == (2 * MIB if name else 3 * MIB)
    found = facts(disk)
    assert found.snapshots == ("first", "sécond", "third")
    assert ["3 internal snapshots" in warning for warning in found.warnings] == [True]
    disk.close()


@pytest.mark.parametrize("name", ["eight", "nine letter", "x"])
def test_a_table_of_snapshots_may_end_with_the_file(tmp_path: Path, name: str) -> None:
    path = create(tmp_path / "disk.qcow2", size=MIB)
    qemu_io(path, "write -P 65 0 200k")
    for label in ("before", name):
        qemu_img("snapshot", "-c", label, path)
    blob = FileBlob(path)
    assert blob.size % 512
    disk = open_disk(blob, companions=Companions(snapshot=name))
    assert whole(disk) == seen_by_qemu(path)
    assert facts(disk).snapshots == ("before", name)
    disk.close()


def test_a_snapshot_is_read_by_its_id(with_snapshots: tuple[Path, dict[str, bytes]]) -> None:
    path, seen = with_snapshots
    disk = open_disk(FileBlob(path), companions=Companions(snapshot="2"))
    assert whole(disk) == seen["sécond"]
    disk.close()


def test_a_snapshot_that_is_not_there_is_refused_with_those_that_are(
    with_snapshots: tuple[Path, dict[str, bytes]],
) -> None:
    blob = FileBlob(with_snapshots[0])
    with pytest.raises(UnsupportedFeatureError, match="no internal snapshot fourth; it has first, sécond, third"):
        open_disk(blob, companions=Companions(snapshot="fourth"))
    assert blob.read_at(0, 4) == b"QFI\xfb"
    blob.close()


@pytest.mark.parametrize("options", ["extended_l2=on", "compat=0.10"])
def test_a_snapshot_of_other_tables_is_read(tmp_path: Path, options: str) -> None:
    path = create(tmp_path / "disk.qcow2", options)
    scribble(path, 5, _SIZE)
    expected = seen_by_qemu(path)
    qemu_img("snapshot", "-c", "before", path)
    scribble(path, 6, _SIZE)
    for name, content in (("before", expected), (None, seen_by_qemu(path))):
        disk = open_disk(FileBlob(path), companions=Companions(snapshot=name))
        assert whole(disk) == content
        disk.close()


@pytest.mark.parametrize("damage", ["offset", "extra", "count", "end"])
def test_a_damaged_table_of_snapshots_is_a_warning_unless_one_is_wanted(
    with_snapshots: tuple[Path, dict[str, bytes]], damage: str
) -> None:
    image = bytearray(with_snapshots[0].read_bytes())
    (start,) = struct.unpack_from(">Q", image, 64)
    match damage:
        case "offset":
            struct.pack_into(">Q", image, 64, start + 8)
        case "extra":
            struct.pack_into(">I", image, start + 36, 0xFFFFFFFF)
        case "count":
            struct.pack_into(">I", image, 60, 65536)
        case _:
            struct.pack_into(">Q", image, 64, 1 << 62)
    blob = MemoryBlob(bytes(image))
    disk = open_disk(blob)
    assert whole(disk) == with_snapshots[1][""]
    warnings = facts(disk).warnings
    assert any("cannot be listed" in warning or "65,536" in warning for warning in warnings)
    if damage != "count":  # zeros behind the table are snapshots without a name
        with pytest.raises(CorruptDiskError):
            open_disk(blob, companions=Companions(snapshot="first"))


def chain(tmp_path: Path, *, base_format: str = "qcow2", said: bool = True) -> list[Path]:
    """A base of 2 MiB, an overlay of 3 MiB and one of 2.5 MiB on that; the topmost comes first."""
    base, middle, top = (tmp_path / name for name in ("base.img", "middle.qcow2", "top.qcow2"))
    qemu_img("create", "-f", base_format, base, "2M")
    commands = [part for piece in ("0 700k", "1900k 148k") for part in ("-c", f"write -P 65 {piece}")]
    subprocess.run(["qemu-io", "-f", base_format, *commands, str(base)], check=True, capture_output=True)
    create(middle, "compat=0.10", size="3M", more=("-b", base.name, "-F", base_format))
    qemu_io(middle, "write -P 66 100k 200k", "write -P 66 2900k 100k")
    create(top, "extended_l2=on", size="2560k", more=("-b", middle.name, "-F", "qcow2"))
    qemu_io(top, "write -P 67 130k 2k", "write -z 200k 8k", "write -P 67 1M 100k", "discard 1M 64k")
    if not said:
        qemu_img("rebase", "-u", "-f", "qcow2", "-F", "raw", "-b", "", middle)
        image = bytearray(middle.read_bytes())
        struct.pack_into(">QI", image, 8, 1024, 8)
        image[1024:1032] = b"base.img"
        middle.write_bytes(image)
    return [top, middle, base]


@pytest.mark.parametrize("base_format", ["raw", "qcow2", "vmdk"])
def test_a_chain_is_read_when_it_is_supplied(tmp_path: Path, base_format: str) -> None:
    top, middle, base = chain(tmp_path, base_format=base_format)
    expected = seen_by_qemu(top)
    disk = open_disk(FileBlob(top), companions=Companions(parents=(FileBlob(middle), FileBlob(base))))
    assert whole(disk) == expected
    for offset, length in ((0, 1), (99 * KIB, 120 * KIB), (2 * MIB - 512, 1024), (disk.size - 3, 3)):
        assert disk.read_at(offset, length) == expected[offset : offset + length]
    for extent in covered(disk):
        if extent.kind is not ExtentKind.DATA:
            assert not any(expected[extent.start : extent.end])
    parent = facts(disk).parent
    assert parent is not None
    assert parent.size == 3 * MIB
    disk.close()


def test_a_chain_whose_formats_are_not_said_is_probed_once(tmp_path: Path) -> None:
    top, middle, base = chain(tmp_path, said=False)
    disk = open_disk(FileBlob(top), companions=Companions(parents=(FileBlob(middle), FileBlob(base))))
    assert disk.read_at(0, 64 * KIB) == b"A" * 64 * KIB
    disk.close()


def test_a_backing_file_said_to_be_raw_is_never_probed(tmp_path: Path) -> None:
    base = create(tmp_path / "base.img", size="1M")
    top = create(tmp_path / "top.qcow2", size="1M", more=("-b", "base.img", "-F", "raw", "-u"))
    disk = open_disk(FileBlob(top), companions=Companions(parents=(FileBlob(base),)))
    assert disk.read_at(0, 4) == b"QFI\xfb"
    disk.close()


def test_a_chain_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    top, middle, base = chain(tmp_path)
    with pytest.raises(UnsafeDiskError, match=r"overlay of another file, middle\.qcow2.*--parent"):
        open_disk(FileBlob(top))
    with pytest.raises(UnsafeDiskError, match=r"middle\.qcow2 is a qcow2 overlay of another file, base\.img"):
        open_disk(FileBlob(top), companions=Companions(parents=(FileBlob(middle),)))
    with pytest.raises(UnknownFormatError, match="has no parent"):
        open_disk(FileBlob(base), companions=Companions(parents=(FileBlob(middle),)))


@pytest.mark.parametrize("name", ["json:{}", "nbd://host/x", "/etc/passwd", "fat:rw:/", "a\x1b[2J\n", ""])
def test_the_name_of_a_backing_file_is_only_shown(tmp_path: Path, name: str) -> None:
    image = bytearray(create(tmp_path / "disk.qcow2").read_bytes())
    struct.pack_into(">QI", image, 8, 1024, len(name.encode()))
    image[1024 : 1024 + len(name.encode())] = name.encode()
    with pytest.raises(UnsafeDiskError, match="overlay of another file") as caught:
        open_disk(MemoryBlob(bytes(image)))
    assert "\x1b" not in str(caught.value)
    assert "\n" not in str(caught.value)
    disk = open_disk(MemoryBlob(bytes(image)), companions=Companions(parents=(MemoryBlob(b"A" * MIB),)))
    assert disk.read_at(0, MIB + 512) == b"A" * MIB + bytes(512)


def test_a_backing_format_that_is_not_read_is_refused(tmp_path: Path) -> None:
    create(tmp_path / "base.qed", size="1M")
    top = create(tmp_path / "top.qcow2", size="1M", more=("-b", "base.qed", "-F", "qed", "-u"))
    with pytest.raises(UnsupportedFeatureError, match="overlay of a qed file"):
        open_disk(FileBlob(top), companions=Companions(parents=(FileBlob(tmp_path / "base.qed"),)))


@pytest.mark.parametrize("is_raw", ["on", "off"])
def test_a_data_file_is_read_when_it_is_supplied(tmp_path: Path, is_raw: str) -> None:
    data = tmp_path / "data.bin"
    path = create(tmp_path / "disk.qcow2", f"data_file={data}", f"data_file_raw={is_raw}")
    scribble(path, 8, _SIZE)
    expected = seen_by_qemu(path)
    for names in (("other", "data.bin"), ("renamed",)):
        files = {name: MemoryBlob(b"") if name == "other" else FileBlob(data) for name in names}
        disk = open_disk(FileBlob(path), companions=Companions(extent_files=files))
        assert whole(disk) == expected
        assert facts(disk).subformat == "v3 zlib, external data file"
        disk.close()
    for count in (0, 2):
        extras = {str(number): MemoryBlob(b"") for number in range(count)}
        with pytest.raises(UnsafeDiskError, match=r"data lies in another file, .*data\.bin.*--extent"):
            open_disk(FileBlob(path), companions=Companions(extent_files=extras))


def test_the_first_cluster_of_a_data_file_is_a_place(tmp_path: Path) -> None:
    data = tmp_path / "data.bin"
    path = create(tmp_path / "disk.qcow2", f"data_file={data}", size="1M")
    qemu_io(path, "write -P 65 512k 64k")
    disk = open_disk(FileBlob(path), companions=Companions(extent_files={"data.bin": FileBlob(data)}))
    assert drawn(disk) == mapped_by_qemu(path)
    assert disk.read_at(512 * KIB, 64 * KIB) == b"A" * 64 * KIB
    disk.close()


def test_a_raw_data_file_whose_tables_say_otherwise_is_corrupt(tmp_path: Path) -> None:
    data = tmp_path / "data.bin"
    path = create(tmp_path / "disk.qcow2", f"data_file={data}", size="1M")
    qemu_io(path, "write -P 65 0 64k")
    image = bytearray(path.read_bytes())
    image[95] |= 2
    image[image.index(struct.pack(">Q", 1 << 63)) + 5] = 1
    blob = MemoryBlob(bytes(image))
    with pytest.raises(CorruptDiskError, match="raw disk"):
        whole(open_disk(blob, companions=Companions(extent_files={"data.bin": MemoryBlob(bytes(MIB))})))
    image[79] &= ~4
    with pytest.raises(CorruptDiskError, match="raw data file"):
        open_disk(MemoryBlob(bytes(image)))


def test_a_dirty_image_says_so(tmp_path: Path) -> None:
    image = bytearray(create(tmp_path / "disk.qcow2", "lazy_refcounts=on").read_bytes())
    image[79] |= 1
    disk = open_disk(MemoryBlob(bytes(image)))
    assert ["closed properly" in warning for warning in facts(disk).warnings] == [True]


def test_a_longer_header_is_read(tmp_path: Path) -> None:
    image = bytearray(create(tmp_path / "disk.qcow2").read_bytes())
    struct.pack_into(">I", image, 100, 160)
    image[112:160] = bytes(48)
    image[160:168] = bytes(8)
    assert open_disk(MemoryBlob(bytes(image))).size == _SIZE


def test_every_backing_format_has_a_name_of_ours() -> None:
    assert {"raw", "qcow2", "vmdk"} <= set(FORMATS)


@settings(deadline=None, max_examples=12)
@given(
    seed=st.integers(0, 1 << 30),
    options=st.sampled_from(["cluster_size=512", "extended_l2=on,cluster_size=16k", "compat=0.10", "cluster_size=2M"]),
    sectors=st.integers(1, 9000),
)
def test_any_pattern_is_read_and_mapped(
    tmp_path_factory: pytest.TempPathFactory, seed: int, options: str, sectors: int
) -> None:
    path = create(tmp_path_factory.mktemp("qcow2") / "disk.qcow2", options, size=sectors * 512)
    scribble(path, seed, sectors * 512)
    disk = open_disk(FileBlob(path))
    assert whole(disk) == seen_by_qemu(path)
    assert drawn(disk) == mapped_by_qemu(path)
    disk.close()


@pytest.mark.parametrize("options", ["extended_l2=on", "cluster_size=2M", "cluster_size=4k"])
def test_a_large_disk_has_a_first_and_a_last_sector(tmp_path: Path, options: str) -> None:
    size = 2 * TIB + 512 if "4k" not in options else 256 << 30
    path = create(tmp_path / "disk.qcow2", options, size=size)
    qemu_io(path, "write -P 65 0 512", f"write -P 66 {size - 512} 512")
    disk = open_disk(FileBlob(path))
    assert disk.size == size
    assert disk.read_at(0, 512) == b"A" * 512
    assert disk.read_at(size - 1024, 1024) == bytes(512) + b"B" * 512
    assert drawn(disk) == mapped_by_qemu(path)
    disk.close()


def test_an_error_of_a_parent_is_a_format_error(tmp_path: Path) -> None:
    top, _, _ = chain(tmp_path)
    with pytest.raises(FormatError):
        open_disk(FileBlob(top), companions=Companions(parents=(MemoryBlob(b"QFI\xfb"), MemoryBlob(b""))))

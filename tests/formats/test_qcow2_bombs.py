"""Attacks on what qcow2 images may have beside plain clusters: an answer or an error of ours, soon and cheaply."""

from __future__ import annotations

import random
import struct
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from itertools import islice
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.formats.test_qcow2_features import qemu_io, scribble
from tests.formats.test_qcow2_read import qemu_img
from vmferry.blob import MemoryBlob
from vmferry.errors import CorruptDiskError, FormatError, UnsafeDiskError, VmferryError
from vmferry.folder import Companions
from vmferry.formats import open_disk
from vmferry.formats.qcow2 import FORMAT
from vmferry.formats.qcow2.compression import unpack_zstd
from vmferry.limits import MAX_PARENTS, MAX_QCOW2_SNAPSHOTS
from vmferry.units import KIB, MIB, TIB

_CLUSTER = 64 * KIB
_L1, _L2, _DATA = _CLUSTER, 2 * _CLUSTER, 3 * _CLUSTER
_COPIED, _COMPRESSED = 1 << 63, 1 << 62
_ZSTD, _EXTENDED = 1 << 3, 1 << 4


def image(incompatible: int = 0, size: int = MIB, l1: tuple[int, ...] = (_L2,), length: int = _DATA) -> bytearray:
    """Header, L1 table and room for the first L2 table, of ``length`` bytes."""
    fields = struct.pack(">4sIQIIQIIQQIIQ", b"QFI\xfb", 3, 0, 0, 16, size, 0, len(l1), _L1, 0, 0, 0, 0)
    third = struct.pack(">QQQIIB", incompatible, 0, 0, 4, 112, 1 if incompatible & _ZSTD else 0)
    data = bytearray(fields + third).ljust(length, b"\0")
    struct.pack_into(f">{len(l1)}Q", data, _L1, *(table | _COPIED for table in l1))
    return data


def packed(*streams: bytes, incompatible: int = _ZSTD) -> bytes:
    """An image whose first clusters are ``streams``, one behind the other."""
    data = image(incompatible)
    for index, stream in enumerate(streams):
        sectors = (len(data) % 512 + len(stream) - 1) // 512
        struct.pack_into(">Q", data, _L2 + 8 * index, _COMPRESSED | sectors << 54 | len(data))
        data += stream
    return bytes(data)


def frame(data: bytes, *, sized: bool = True) -> bytes:
    return zstandard.ZstdCompressor(write_content_size=sized).compress(data)


def streamed(length: int) -> bytes:
    """A frame that does not say its size, of ``length`` zeros."""
    packer = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    return packer.compress(bytes(length)) + packer.flush()


def skippable(data: bytes, kind: int = 0x50) -> bytes:
    return bytes([kind]) + b"\x2a\x4d\x18" + struct.pack("<I", len(data)) + data


def windowed(window_log: int) -> bytes:
    """A frame of one cluster that asks for a window of ``1 << window_log`` bytes."""
    head = b"\x28\xb5\x2f\xfd" + bytes([0, (window_log - 10) << 3])
    return head + (1 | 1 << 1 | _CLUSTER << 3).to_bytes(3, "little") + b"A"


def rle_bomb(blocks: int) -> bytes:
    """``blocks`` blocks of 128 KiB of zeros in four bytes each."""
    head = b"\x28\xb5\x2f\xfd" + bytes([0, 10 << 3])
    block = (1 << 1 | 128 * KIB << 3).to_bytes(3, "little") + b"\0"
    return head + block * blocks + (1).to_bytes(3, "little")


WHOLE = b"A" * _CLUSTER
FINE = {
    "one frame": frame(WHOLE),
    "one of unknown size": frame(WHOLE, sized=False),
    "garbage behind it": frame(WHOLE) + b"\xff" * 700,
    "two frames": frame(WHOLE[:1000]) + frame(WHOLE[1000:], sized=False) + b"x",
    "skippable ones between": skippable(b"!" * 99) + frame(WHOLE[:5]) + skippable(b"", 0x5F) + frame(WHOLE[5:]),
    "empty ones between": frame(b"") + frame(WHOLE[:5]) + frame(b"", sized=False) + frame(WHOLE[5:]),
    "a window as large as may be": windowed(23),
    "a checksum": zstandard.ZstdCompressor(write_checksum=True).compress(WHOLE[:9]) + frame(WHOLE[9:]),
}
BROKEN = {
    "nothing": bytes(600),
    "short": frame(WHOLE[1:]),
    "short of unknown size": frame(WHOLE[1:], sized=False),
    "long": frame(WHOLE + b"A"),
    "long of unknown size": streamed(_CLUSTER + 1),
    "very long": frame(bytes(200 * MIB)),
    "very long of unknown size": streamed(200 * MIB),
    "claims an exbibyte": b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", 1 << 60) + b"\0" * 20,
    "second frame too long": frame(WHOLE[:5]) + frame(WHOLE),
    "second frame too long, unknown": frame(WHOLE[:5]) + streamed(_CLUSTER),
    "second frame missing": frame(WHOLE[:5]) + b"\x28\xb5\x2f",
    "skippable only": skippable(b"!" * 99),
    "skippable beyond the end": skippable(b"")[:4] + b"\xff\xff\xff\xff",
    "a window of 16 MiB": windowed(24),
    "a window of 2 GiB": windowed(31),
    "cut": frame(random.Random(1).randbytes(_CLUSTER))[: _CLUSTER // 2],
    "a bomb": rle_bomb(2000),
    "many empty frames": frame(b"") * 6000,
    "many skippable frames": skippable(b"") * 10000,
}


def read_everything(data: bytes, companions: Companions | None = None) -> None:
    """All that is done with a disk, bounded: a claim of terabytes is legal and must cost nothing by itself."""
    disk = FORMAT.open(MemoryBlob(data, "evil\x1b[2J.qcow2"), companions or Companions())
    for extent in islice(disk.extents(), 1000):
        disk.read_at(extent.start, min(extent.length, 128 * KIB))
    disk.read_at(max(disk.size - 100_000, 0), min(disk.size, 100_000))
    disk.stored_size()


@pytest.mark.parametrize("what", FINE)
def test_frames_that_make_one_cluster_are_read(what: str) -> None:
    disk = FORMAT.open(MemoryBlob(packed(FINE[what], FINE["one frame"])))
    assert disk.read_at(0, 2 * _CLUSTER) == 2 * WHOLE


@pytest.mark.parametrize("what", BROKEN)
def test_frames_that_do_not_make_one_cluster_are_corrupt(what: str) -> None:
    begun = time.monotonic()
    tracemalloc.start()
    try:
        with pytest.raises(CorruptDiskError, match=r"the compressed cluster at host offset 0x30000 ") as caught:
            read_everything(packed(BROKEN[what]))
        assert tracemalloc.get_traced_memory()[1] < 4 * MIB
    finally:
        tracemalloc.stop()
    assert "\x1b" not in str(caught.value)
    assert time.monotonic() - begun < 2


@settings(deadline=None, max_examples=150)
@given(st.sampled_from(sorted(FINE)), st.integers(0, 1 << 30), st.binary(min_size=1, max_size=4))
def test_any_frames_give_a_cluster_or_a_reason(what: str, place: int, piece: bytes) -> None:
    stored = bytearray(FINE[what])
    place %= len(stored)
    stored[place : place + len(piece)] = piece
    with suppress(ValueError):
        assert len(unpack_zstd(bytes(stored), _CLUSTER)) == _CLUSTER


def test_compressed_clusters_may_not_lie_in_one_another() -> None:
    stream = frame(random.Random(1).randbytes(_CLUSTER // 2) + bytes(_CLUSTER // 2))
    data = bytearray(packed(stream, stream))
    struct.pack_into(">Q", data, _L2 + 8, _COMPRESSED | 64 << 54 | (_DATA + 4096))
    with pytest.raises(UnsafeDiskError, match="used for several clusters"):
        read_everything(bytes(data))


def test_more_compressed_clusters_than_the_file_has_bytes_for_are_refused() -> None:
    """Each begins where no other one does, and yet they cannot all be there: deflate has no stream so short."""
    data = image(size=512 * MIB, length=_DATA + 16 * KIB)
    entries = (_COMPRESSED | (_DATA + index) for index in range(8192))
    struct.pack_into(">8192Q", data, _L2, *entries)
    with pytest.raises(UnsafeDiskError, match="cannot all lie in"):
        read_everything(bytes(data))


@pytest.mark.parametrize("places", [(0, 8192), (0, 3 * 8192 - 1), (5, 8191 + 8192)])
def test_one_cluster_for_two_places_of_different_tables_is_refused(places: tuple[int, int]) -> None:
    data = image(size=3 * 512 * MIB, l1=(_L2, _DATA, _DATA + _CLUSTER), length=_DATA + 3 * _CLUSTER)
    for place in places:
        struct.pack_into(">Q", data, _L2 + 8 * place, (_DATA + 2 * _CLUSTER) | _COPIED)
    with pytest.raises(UnsafeDiskError, match="used for several clusters"):
        read_everything(bytes(data))


@pytest.mark.parametrize("host", [_L1, _L2, _DATA])
def test_tables_are_no_guest_data(host: int) -> None:
    data = image(size=1024 * MIB, l1=(_L2, _DATA), length=_DATA + _CLUSTER)
    struct.pack_into(">Q", data, _L2, host | _COPIED)
    with pytest.raises(UnsafeDiskError, match="the image's own tables"):
        read_everything(bytes(data))


def test_the_refcount_table_is_no_guest_data() -> None:
    data = image(length=_DATA + _CLUSTER)
    struct.pack_into(">QI", data, 48, _DATA, 1)
    struct.pack_into(">Q", data, _L2, _DATA | _COPIED)
    with pytest.raises(UnsafeDiskError, match="the image's own tables"):
        read_everything(bytes(data))


def test_an_l1_table_that_is_its_own_l2_table_is_refused() -> None:
    with pytest.raises(UnsafeDiskError, match="points to itself or to the header"):
        read_everything(bytes(image(l1=(_L1,))))


@pytest.mark.parametrize(
    ("word", "bitmap", "reason"),
    [
        (_DATA | _COPIED, 1 << 32 | 1, "both allocated and zero"),
        (0, 1 << 31, "allocated in a cluster that is not"),
        (0, 1 << 63 | 1 << 31, "both allocated and zero"),
    ],
)
def test_bitmaps_that_contradict_themselves_are_corrupt(word: int, bitmap: int, reason: str) -> None:
    data = image(_EXTENDED, length=_DATA + _CLUSTER)
    struct.pack_into(">QQ", data, _L2 + 16, word, bitmap)
    with pytest.raises(CorruptDiskError, match=reason):
        read_everything(bytes(data))


@pytest.mark.parametrize("bits", [9, 13])
def test_small_clusters_have_no_subclusters(bits: int) -> None:
    data = image(_EXTENDED)
    struct.pack_into(">I", data, 20, bits)
    with pytest.raises(CorruptDiskError, match="16 KiB is the least"):
        read_everything(bytes(data))


@pytest.mark.parametrize("bits", [0, 1, 8, 22, 31, 32, 63, 64, 255])
def test_clusters_of_other_sizes_do_not_exist(bits: int) -> None:
    data = image()
    struct.pack_into(">I", data, 20, bits)
    with pytest.raises(CorruptDiskError, match=f"cluster_bits is {bits}, "):
        read_everything(bytes(data))


@pytest.mark.parametrize("incompatible", [0, _EXTENDED])
def test_a_disk_of_no_size_has_no_tables_to_go_wrong(incompatible: int) -> None:
    data = image(incompatible, size=0)
    struct.pack_into(">IQQ", data, 36, 7, (1 << 64) - 1, (1 << 64) - 1)
    read_everything(bytes(data))


def test_a_file_of_countless_clusters_is_refused() -> None:
    class Endless(MemoryBlob):
        size = 2 * TIB

    data = image()
    struct.pack_into(">IQII", data, 20, 9, 512, 0, 1)
    struct.pack_into(">Q", data, 40, _L1)
    with pytest.raises(UnsafeDiskError, match="4,294,967,296 clusters"):
        FORMAT.open(Endless(bytes(data)))


def test_many_snapshots_in_a_tiny_file_cost_little() -> None:
    data = image(length=_DATA + 64)
    struct.pack_into(">IQ", data, 60, MAX_QCOW2_SNAPSHOTS, _DATA)
    begun = time.monotonic()
    disk = FORMAT.open(MemoryBlob(bytes(data)))
    assert time.monotonic() - begun < 1
    assert disk.facts.snapshots == ()
    assert "cannot be listed" in disk.facts.warnings[0]
    with pytest.raises(CorruptDiskError, match="goes past the end"):
        FORMAT.open(MemoryBlob(bytes(data)), Companions(snapshot="x"))


def snapshot(l1: int, entries: int, size: int, name: bytes = b"one") -> bytes:
    head = struct.pack(">QIHHIIQII", l1, entries, 1, len(name), 0, 0, 0, 0, 16)
    entry = head + struct.pack(">QQ", 0, size) + b"1" + name
    return entry.ljust(-(-len(entry) // 8) * 8, b"\0")


@pytest.mark.parametrize(
    ("l1", "entries", "size", "error", "reason"),
    [
        (_L1, 1, 1 << 63, UnsafeDiskError, "virtual size"),
        (_L1, 1, 64 * TIB, CorruptDiskError, "L1 table has 1 entries"),
        (_L1, 0xFFFFFFFF, MIB, UnsafeDiskError, "L1 table has 4,294,967,295 entries"),
        (_L1 + 8, 1, MIB, CorruptDiskError, "cannot begin"),
        (0, 1, MIB, CorruptDiskError, "cannot begin"),
        (1 << 62, 1, MIB, CorruptDiskError, "past the end"),
        (_DATA, 1, MIB, CorruptDiskError, "L1 entry"),
        (0, 0, MIB, CorruptDiskError, "L1 table has 0 entries"),
    ],
)
def test_a_snapshot_with_a_false_claim_is_refused_when_it_is_wanted(
    l1: int, entries: int, size: int, error: type[FormatError], reason: str
) -> None:
    data = image() + snapshot(l1, entries, size)
    struct.pack_into(">IQ", data, 60, 1, _DATA)
    assert open_disk(MemoryBlob(bytes(data))).size == MIB
    with pytest.raises(error, match=reason):
        read_everything(bytes(data), Companions(snapshot="one"))


def test_a_snapshot_shares_clusters_with_the_present_but_not_with_itself() -> None:
    data = image(length=_DATA + 2 * _CLUSTER) + snapshot(_L1, 1, MIB)
    struct.pack_into(">IQ", data, 60, 1, _DATA + 2 * _CLUSTER)
    struct.pack_into(">Q", data, _L2, _DATA)
    for name in (None, "one"):
        read_everything(bytes(data), Companions(snapshot=name))
    struct.pack_into(">Q", data, _L2 + 8, _DATA)
    for name in (None, "one"):
        with pytest.raises(UnsafeDiskError, match="used for several"):
            read_everything(bytes(data), Companions(snapshot=name))


def test_the_name_of_a_snapshot_is_shown_safely() -> None:
    data = image() + snapshot(_L1, 1, MIB, b"\x1b[2J\xff")
    struct.pack_into(">IQ", data, 60, 1, _DATA)
    with pytest.raises(FormatError, match="it has") as caught:
        FORMAT.open(MemoryBlob(bytes(data)), Companions(snapshot="two"))
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    ("extension", "reason"),
    [
        (struct.pack(">II", 0xE2792ACA, 0xFFFFFFF0), "goes past the end of the header"),
        (struct.pack(">II", 0x12345678, 64 * KIB), "goes past the end of the header"),
        (struct.pack(">II", 0x12345678, 0) * 300, "more than 256 header extensions"),
    ],
)
def test_header_extensions_are_bounded(extension: bytes, reason: str) -> None:
    data = image()
    data[112 : 112 + len(extension)] = extension
    with pytest.raises(CorruptDiskError, match=reason):
        read_everything(bytes(data))


@pytest.mark.parametrize(("start", "length"), [(8, 4), (1024, 1024), (1 << 63, 8), (_CLUSTER - 4, 8), (0, 12)])
def test_the_name_of_a_backing_file_stands_in_the_first_cluster(start: int, length: int) -> None:
    data = image()
    struct.pack_into(">QI", data, 8, start, length)
    with pytest.raises(CorruptDiskError, match="name of its backing file"):
        read_everything(bytes(data))


def test_a_chain_that_never_ends_is_refused() -> None:
    data = image()
    struct.pack_into(">QI", data, 8, 1024, 4)
    data[1024:1028] = b"self"
    blob = MemoryBlob(bytes(data))
    with pytest.raises(UnsafeDiskError, match="A chain of 33 parents is too long"):
        open_disk(blob, companions=Companions(parents=(blob,) * (MAX_PARENTS + 1)))
    with pytest.raises(UnsafeDiskError, match="overlay of another file"):
        open_disk(blob, companions=Companions(parents=(blob,) * 3))


def test_a_compressed_cluster_beside_a_data_file_is_corrupt() -> None:
    data = bytearray(packed(b"x" * 100, incompatible=1 << 2))
    with pytest.raises(CorruptDiskError, match="beside a data file"):
        read_everything(bytes(data), Companions(extent_files={"x": MemoryBlob(bytes(MIB))}))


def _with_snapshot(path: Path) -> None:
    qemu_img("create", "-f", "qcow2", path, "1M")
    scribble(path, 1, MIB)
    qemu_img("snapshot", "-c", "one", path)
    qemu_io(path, "write -P 66 0 200k")


def _with_subclusters(path: Path) -> None:
    qemu_img("create", "-f", "qcow2", "-o", "extended_l2=on,cluster_size=16k", path, "1M")
    scribble(path, 2, MIB)


def _compressed(path: Path) -> None:
    raw = path.with_suffix(".raw")
    raw.write_bytes(b"".join(bytes([number % 251]) * 4096 for number in range(256)))
    chosen = "compression_type=zstd,cluster_size=4096"
    qemu_img("convert", "-c", "-f", "raw", "-O", "qcow2", "-o", chosen, raw, path)


def _with_small_clusters(path: Path) -> None:
    qemu_img("create", "-f", "qcow2", "-o", "cluster_size=512", path, "256k")
    scribble(path, 3, 256 * KIB)


def _with_backing(path: Path) -> None:
    path.with_name("base.raw").write_bytes(bytes(4096))
    qemu_img("create", "-f", "qcow2", "-F", "raw", "-b", "base.raw", "-o", "cluster_size=4096", path, "1M")
    scribble(path, 4, MIB)


def _with_data_file(path: Path) -> None:
    chosen = f"data_file={path.with_name('data.bin')},cluster_size=4096"
    qemu_img("create", "-f", "qcow2", "-o", chosen, path, "1M")
    scribble(path, 5, MIB)


MAKERS: dict[str, Callable[[Path], None]] = {
    "snapshot": _with_snapshot,
    "subclusters": _with_subclusters,
    "zstd": _compressed,
    "small clusters": _with_small_clusters,
    "backing": _with_backing,
    "data file": _with_data_file,
}


@cache
def sound(what: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "disk.qcow2"
        MAKERS[what](path)
        return path.read_bytes()


@cache
def telling(what: str) -> list[int]:
    """Where the bytes of an image are that matter: in the header, and not zero elsewhere, the guest's own left out."""
    data = sound(what)
    cluster = 1 << struct.unpack_from(">I", data, 20)[0]
    starts = (start for start in range(0, len(data), cluster) if data[start : start + cluster].count(0) > cluster // 4)
    places = (place for start in starts for place in range(start, min(start + cluster, len(data))))
    return [place for place in places if place < 200 or data[place] or data[place - 1]]


def companions(what: str) -> Companions:
    return Companions(
        parents=(MemoryBlob(b"A" * 300 * KIB),) if what == "backing" else (),
        extent_files={"data.bin": MemoryBlob(bytes(MIB))} if what == "data file" else {},
        snapshot="one" if what == "snapshot" else None,
    )


@pytest.mark.parametrize("what", MAKERS)
def test_the_images_are_sound_before_they_are_damaged(what: str) -> None:
    read_everything(sound(what), companions(what))


@pytest.mark.slow
@settings(deadline=None, max_examples=300)
@given(
    st.sampled_from(sorted(MAKERS)),
    st.lists(st.tuples(st.integers(0, 1 << 30), st.integers(0, 255)), min_size=1, max_size=5),
)
def test_any_damage_gives_an_answer_or_an_error_of_ours(what: str, changes: list[tuple[int, int]]) -> None:
    data = bytearray(sound(what))
    places = telling(what)
    for place, value in changes:
        data[places[place % len(places)]] = value
    begun = time.monotonic()
    with suppress(VmferryError):
        read_everything(bytes(data), companions(what))
    assert time.monotonic() - begun < 2

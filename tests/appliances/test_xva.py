"""XVAs: the guest's bytes as they went in, at the cost of what is there."""

from __future__ import annotations

import gzip
import io
import itertools
import random
import subprocess
import tarfile
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.appliances.ova_builder import CountingBlob, tar_header, tar_member
from tests.appliances.xva_builder import END, MIB, chunk, chunks, description, machine, make_xva, record
from vmferry.appliances import PACKAGES, detect, open_appliance
from vmferry.appliances._xva_chunks import read_chunks
from vmferry.blob import FileBlob, MemoryBlob, SupportsDataRanges, check_range
from vmferry.errors import CorruptDiskError, UnsafeDiskError, UnsupportedFeatureError, VmferryError
from vmferry.extent import Extent, ExtentKind
from vmferry.formats import FORMATS, open_disk
from vmferry.machine import Appliance, Firmware, MachineDisk, NetworkInterface
from vmferry.wrappers import unwrap


def open_xva(content: bytes) -> Appliance:
    return open_appliance(MemoryBlob(content, "vm.xva"))


def some_disk(seed: int, size: int, chunk_size: int = MIB) -> bytes:
    """Half of the chunks zeros."""
    chance = random.Random(seed)
    pieces = [
        chance.randbytes(chunk_size) if chance.random() < 0.5 else bytes(chunk_size)
        for _ in range(size // chunk_size + 1)
    ]
    return b"".join(pieces)[:size]


@pytest.mark.parametrize("digest", ["xxhash", "checksum", ""])
def test_a_machine_with_two_disks_in_the_order_of_their_devices(digest: str) -> None:
    one, two = some_disk(1, 9 * MIB), some_disk(2, 5 * MIB + 512)
    content = make_xva(machine(("Ref:9", len(one)), ("Ref:10", len(two))), {"Ref:9": one, "Ref:10": two}, digest)
    assert detect(MemoryBlob(content)) is PACKAGES["xva"]
    appliance = open_xva(content)
    found = appliance.machine
    assert (found.name, found.cpus, found.memory, found.firmware) == ("web", 2, 2 << 30, Firmware.UEFI)
    assert found.hardware_family == "xen-hvm"
    assert found.disks == (
        MachineDisk("Ref:9", len(one), "xen", 0, 0, "raw"),
        MachineDisk("Ref:10", len(two), "xen", 0, 1, "raw"),
    )
    assert found.interfaces == (NetworkInterface("LAN", None, "56:6f:00:00:00:01"),)
    for ref, disk in (("Ref:9", one), ("Ref:10", two)):
        blob = appliance.blobs[ref]
        assert blob.name == f"vm.xva:{ref}"
        assert blob.read_at(0, blob.size) == disk
    unverified = [f"Chunks of the disk {ref} have no digests: they are not verified." for ref in ("Ref:9", "Ref:10")]
    assert list(found.notes) == ([] if digest else unverified)
    appliance.close()


def test_tarfile_and_7z_see_the_chunks_that_vmferry_reads(tmp_path: Path) -> None:
    disk = some_disk(3, 6 * MIB)
    path = tmp_path / "vm.xva"
    path.write_bytes(make_xva(machine(("Ref:4", len(disk))), {"Ref:4": disk}))
    subprocess.run(["7z", "t", "-ttar", str(path)], check=True, capture_output=True)
    rebuilt = bytearray(len(disk))
    with tarfile.open(path) as tar:
        for member in tar:
            if member.name.startswith("Ref:4/") and "." not in member.name:
                content = tar.extractfile(member)
                assert content is not None
                start = int(member.name[6:]) * MIB
                rebuilt[start : start + member.size] = content.read()
    appliance = open_appliance(FileBlob(path))
    blob = appliance.blobs["Ref:4"]
    assert blob.read_at(0, blob.size) == rebuilt == disk
    appliance.close()


def test_a_chunk_of_no_bytes_takes_a_number_and_no_place() -> None:
    disk = some_disk(4, 12 * MIB)
    members = chunks("Ref:4", disk, empty_before=(2, 3, 9))
    content = tar_member(b"ova.xml", description(machine(("Ref:4", len(disk))))) + b"".join(members) + END
    blob = open_xva(content).blobs["Ref:4"]
    assert blob.read_at(0, blob.size) == disk


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_any_pattern_of_chunks_reads_as_it_went_in(data: st.DataObject) -> None:
    size = data.draw(st.sampled_from([512, 1024, 1536]))
    there = data.draw(st.lists(st.booleans(), min_size=1, max_size=40))
    last = data.draw(st.integers(1, size))
    chance = random.Random(data.draw(st.integers(0, 99)))
    disk = b"".join(chance.randbytes(size) if one else bytes(size) for one in there)[: (len(there) - 1) * size + last]
    empty = tuple(data.draw(st.lists(st.integers(0, len(there)), max_size=3, unique=True)))
    digest = data.draw(st.sampled_from(["xxhash", "checksum", ""]))
    description_ = tar_member(b"ova.xml", description(machine(("Ref:1", len(disk)))))
    padded = b"".join(chunks("Ref:1", disk, digest, size, empty))
    other = b"".join(chunks("Ref:2", b"other" * 400, digest, size))
    blob = open_xva(description_ + padded + other + END).blobs["Ref:1"]
    assert blob.read_at(0, blob.size) == disk
    for _ in range(4):
        start = data.draw(st.integers(0, len(disk)))
        end = data.draw(st.integers(start, len(disk)))
        assert blob.read_at(start, end - start) == disk[start:end]
        assert isinstance(blob, SupportsDataRanges)
        ranges = list(blob.data_ranges(start, end))
        assert all(start <= low < high <= end for low, high in ranges)
        assert all(one[1] < other[0] for one, other in itertools.pairwise(ranges))
        shown = bytearray(end - start)
        for low, high in ranges:
            shown[low - start : high - start] = disk[low:high]
        assert shown == disk[start:end]


def test_holes_cost_nothing_and_are_holes_of_the_raw_disk() -> None:
    disk = bytes(MIB) + b"x" * MIB + bytes(6 * MIB) + b"y" * MIB
    below = CountingBlob(make_xva(machine(("Ref:1", len(disk))), {"Ref:1": disk}))
    appliance = open_appliance(below)
    raw = open_disk(appliance.blobs["Ref:1"], FORMATS["raw"])
    data = [e for e in raw.extents() if e.kind is ExtentKind.DATA]
    assert data == [Extent(0, 2 * MIB, ExtentKind.DATA), Extent(8 * MIB, MIB, ExtentKind.DATA)]
    before = below.bytes_read
    assert raw.read_at(3 * MIB, 2 * MIB) == bytes(2 * MIB)
    assert below.bytes_read == before


class DenseXva:
    """A blob of an XVA without end: every chunk of one MiB is there, made when it is read."""

    RECORD = MIB + 3 * 512
    name = "dense.xva"

    def __init__(self, count: int) -> None:
        self._head = tar_member(b"ova.xml", description(machine(("Ref:1", count * MIB))))
        self._count = count
        self.size = len(self._head) + count * self.RECORD + 1024
        self.reads = 0

    def read_at(self, offset: int, length: int) -> bytes:
        check_range(self, offset, length)
        self.reads += 1
        pieces = bytearray(self._head[offset : offset + length])
        while len(pieces) < length:
            number, inside = divmod(offset + len(pieces) - len(self._head), self.RECORD)
            whole = bytes(1024) if number >= self._count else chunk("Ref:1", number, b"\1" * MIB)
            pieces += whole[inside : inside + length - len(pieces)]
        return bytes(pieces)

    def close(self) -> None:
        pass


def test_a_disk_of_half_a_tebibyte_without_a_hole_is_opened_by_some_reads() -> None:
    blob = DenseXva(500_000)
    appliance = open_appliance(blob)
    assert blob.reads < 120
    disk = appliance.blobs["Ref:1"]
    assert disk.read_at(disk.size - 10, 10) == b"\1" * 10
    assert isinstance(disk, SupportsDataRanges)
    assert list(disk.data_ranges(0, disk.size)) == [(0, disk.size)]


@pytest.mark.slow
def test_runs_are_kept_in_little_memory() -> None:
    """Each second chunk is missing: the worst there is. Small chunks, for the numbers count."""
    count = 8_000
    made = [tar_member(b"ova.xml", description(machine(("Ref:1", (2 * count - 1) * 512))))]
    made += [tar_header(b"Ref:1/%08d" % (2 * n), 512) + b"\1" * 512 for n in range(count)]
    blob = MemoryBlob(b"".join(made) + END, "vm.xva")
    begun = time.monotonic()
    tracemalloc.start()
    appliance = open_appliance(blob)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * MIB
    assert time.monotonic() - begun < 10
    disk = appliance.blobs["Ref:1"]
    assert disk.read_at(4 * 512 * 1000, 1024) == b"\1" * 512 + bytes(512)


def test_small_reads_do_not_read_a_chunk_twice() -> None:
    disk = some_disk(5, 3 * MIB)
    below = CountingBlob(make_xva(machine(("Ref:1", len(disk))), {"Ref:1": disk}))
    blob = open_appliance(below).blobs["Ref:1"]
    before = below.bytes_read
    for start in range(0, MIB, 4096):
        assert blob.read_at(start, 4096) == disk[start : start + 4096]
    assert below.bytes_read - before < 2 * MIB


@pytest.mark.parametrize("digest", ["xxhash", "checksum"])
def test_a_damaged_chunk_is_named_when_it_is_read(digest: str) -> None:
    disk = b"a" * (4 * MIB)
    content = bytearray(make_xva(machine(("Ref:1", len(disk))), {"Ref:1": disk}, digest))
    content[content.index(b"Ref:1/00000002") + 512 + 77] ^= 1
    blob = open_xva(bytes(content)).blobs["Ref:1"]
    assert blob.read_at(0, 2 * MIB) == disk[: 2 * MIB]
    with pytest.raises(CorruptDiskError, match="the chunk Ref:1/00000002 is damaged: its digest is"):
        blob.read_at(2 * MIB, 10)


def test_a_header_inside_a_run_that_is_another_ones_is_found_when_it_is_read() -> None:
    disk = b"a" * (9 * MIB)
    content = make_xva(machine(("Ref:1", len(disk))), {"Ref:1": disk})
    place = content.index(tar_header(b"Ref:1/00000004", MIB))
    content = content[:place] + tar_header(b"Ref:1/00000099", MIB) + content[place + 512 :]
    blob = open_xva(content).blobs["Ref:1"]
    with pytest.raises(CorruptDiskError, match="the chunk Ref:1/00000004 is not where it must be"):
        blob.read_at(0, blob.size)


def test_snapshots_and_templates_do_not_count_as_machines() -> None:
    disk = some_disk(6, MIB)
    objects = machine(("Ref:1", MIB))
    objects.append(record("VM", "Ref:50", name_label="before", is_a_snapshot="1", VBDs=[]))
    objects.append(record("VM", "Ref:51", name_label="dom0", is_control_domain=True, VBDs=[]))
    objects.append(record("VBD", "Ref:52", VM="Ref:50", VDI="Ref:53", userdevice="0", type="Disk"))
    objects.append(record("VDI", "Ref:53", virtual_size=str(MIB)))
    appliance = open_xva(make_xva(objects, {"Ref:1": disk}))
    assert list(appliance.blobs) == ["Ref:1"]
    objects.append(record("VM", "Ref:60", name_label="other", VBDs=[]))
    with pytest.raises(UnsupportedFeatureError, match="2 virtual machines, web, other"):
        open_xva(make_xva(objects, {"Ref:1": disk}))


def test_the_one_bootable_disk_comes_first() -> None:
    objects = machine(("Ref:1", MIB), ("Ref:2", MIB))
    for one in objects:
        fields = one["snapshot"]
        assert isinstance(fields, dict)
        if one["class"] == "VBD" and fields["type"] == "Disk":
            fields["bootable"] = fields["VDI"] == "Ref:2"
    appliance = open_xva(make_xva(objects, {"Ref:1": b"a" * MIB, "Ref:2": b"b" * MIB}))
    assert [disk.name for disk in appliance.machine.disks] == ["Ref:2", "Ref:1"]


@pytest.mark.parametrize(
    ("fields", "paravirtual"),
    [
        ({"domain_type": "pv"}, True),
        ({"domain_type": "pv_in_pvh"}, True),
        ({"domain_type": "pvh"}, True),
        ({"domain_type": "unspecified", "HVM_boot_policy": ""}, True),
        ({"domain_type": "", "HVM_boot_policy": "BIOS order"}, False),
        ({"domain_type": "hvm", "HVM_boot_policy": ""}, False),
    ],
)
def test_paravirtual_machines_are_told_what_to_do(fields: dict[str, str], paravirtual: bool) -> None:
    notes = open_xva(make_xva(machine(("Ref:1", MIB), **fields), {"Ref:1": b"a" * MIB})).machine.notes
    assert [("set its HVM boot policy" in note) for note in notes] == ([True] if paravirtual else [])


def with_chunks(*members: bytes, size: int = 3 * MIB) -> bytes:
    return tar_member(b"ova.xml", description(machine(("Ref:1", size)))) + b"".join(members) + END


FULL, SHORT = b"a" * MIB, b"a" * 1000


@pytest.mark.parametrize(
    ("content", "error", "said"),
    [
        (with_chunks(), CorruptDiskError, "holds nothing of the disk Ref:1"),
        (with_chunks(chunk("Ref:1", 0, FULL)), CorruptDiskError, r"cut short: the disk Ref:1 has 3,145,728 bytes"),
        (with_chunks(*(chunk("Ref:1", n, FULL) for n in range(5))), CorruptDiskError, "end at 5,242,880, but"),
        (with_chunks(chunk("Ref:1", 1, FULL), chunk("Ref:1", 0, FULL)), CorruptDiskError, "0 comes after chunk 1"),
        (with_chunks(chunk("Ref:1", 2, FULL), chunk("Ref:1", 2, FULL)), CorruptDiskError, "2 comes after chunk 2"),
        (with_chunks(chunk("Ref:1", 0, FULL), chunk("Ref:1", 1, SHORT), chunk("Ref:1", 2, FULL)), CorruptDiskError,
         "after one that is shorter"),
        (with_chunks(chunk("Ref:1", 0, FULL), chunk("Ref:1", 1, SHORT), chunk("Ref:1", 2, SHORT)), CorruptDiskError,
         "are shorter than the others"),
        (with_chunks(chunk("Ref:1", 0, SHORT), chunk("Ref:1", 1, FULL)), CorruptDiskError, "the first one 1,000"),
        (with_chunks(chunk("Ref:1", 0, b"a" * (5 * MIB))), UnsafeDiskError, "at most 4 MiB"),
        (with_chunks(size=1 << 63), UnsafeDiskError, "claims 9223372036854775808 bytes"),
        (with_chunks(size=-1), UnsafeDiskError, "claims -1 bytes"),
        (tar_member(b"ova.xml", b'<appliance version="0.1"/>'), UnsupportedFeatureError, "before 2008"),
        (tar_member(b"ova.xml", b"<value>x</value>"), CorruptDiskError, "no list of objects"),
        (tar_member(b"ova.xml", b"<!DOCTYPE x><value/>"), UnsafeDiskError, "DOCTYPE"),
        (tar_member(b"ova.xml", b"<value><array>" * 40 + b"</array></value>" * 40), UnsafeDiskError, "deep"),
        (tar_member(b"ova.xml", b" " * (9 * MIB)), UnsafeDiskError, "at most 8 MiB"),
        (tar_member(b"ova.xml", description([])), CorruptDiskError, "no virtual machine"),
        (make_xva(machine(), {}), UnsupportedFeatureError, "has no disk"),
        (make_xva(machine(*((f"Ref:{n}", 1) for n in range(61))), {}), UnsafeDiskError, "61 disks, but at most 60"),
    ],
)  # fmt: skip
def test_what_cannot_be_opened_is_refused_with_the_reason(content: bytes, error: type[VmferryError], said: str) -> None:
    with pytest.raises(error, match=said) as refused:
        open_xva(content)
    assert "\n" not in str(refused.value)
    assert "vm.xva" in str(refused.value)


def test_a_last_chunk_filled_up_with_zeros_is_cut_at_the_end_of_the_disk() -> None:
    content = with_chunks(chunk("Ref:1", 0, FULL), chunk("Ref:1", 1, b"b" * MIB), size=MIB + 700)
    blob = open_xva(content).blobs["Ref:1"]
    assert blob.size == MIB + 700
    assert blob.read_at(MIB, 700) == b"b" * 700


def test_one_packed_again_by_tar_is_read_too() -> None:
    """GNU tar writes folders as well."""
    disk = some_disk(7, 3 * MIB)
    target = io.BytesIO()
    made = io.BytesIO(make_xva(machine(("Ref:1", len(disk))), {"Ref:1": disk}))
    with tarfile.open(fileobj=made) as source, tarfile.open(None, "w", target, format=tarfile.GNU_FORMAT) as tar:
        for member in source:
            if member.name.endswith("00000000"):
                folder = tarfile.TarInfo("Ref:1")
                folder.type = tarfile.DIRTYPE
                tar.addfile(folder)
            tar.addfile(member, source.extractfile(member))
    blob = open_xva(target.getvalue()).blobs["Ref:1"]
    assert blob.read_at(0, blob.size) == disk


def packed_with_gzip(content: bytes) -> bytes:
    """One member, as XenServer writes it: nothing but its begin is a place to begin at."""
    return gzip.compress(content, 1)


def test_a_packed_xva_is_decoded_once_to_find_its_chunks() -> None:
    class Forwards(CountingBlob):
        """No read lies far before another one."""

        in_order = True
        furthest = 0

        def read_at(self, offset: int, length: int) -> bytes:
            assert offset >= self.furthest - 4096
            self.furthest = max(self.furthest, offset)
            return super().read_at(offset, length)

    disk = b"".join(bytes([n]) * 4096 for n in range(1, 200)) + bytes(4096 * 9) + b"x" * 100
    content = make_xva(machine(("Ref:1", len(disk))), {"Ref:1": disk}, size=4096)
    blob = Forwards(content)
    head = len(description(machine(("Ref:1", len(disk)))))
    chunks_of = read_chunks(blob, {"Ref:1"})["Ref:1"]
    assert list(chunks_of.counts) == [199, 1]
    assert blob.bytes_read < head + 4096 * 400


def test_an_xva_in_gzip_is_read() -> None:
    disk = some_disk(11, 5 * MIB)
    unpacked, wrapper = unwrap(MemoryBlob(packed_with_gzip(make_xva(machine(("Ref:1", len(disk))), {"Ref:1": disk}))))
    assert wrapper is not None
    blob = open_appliance(unpacked).blobs["Ref:1"]
    assert blob.read_at(0, blob.size) == disk


def test_any_number_of_threads_read_at_once() -> None:
    disk = some_disk(8, 8 * MIB + 512)
    blob = open_xva(make_xva(machine(("Ref:1", len(disk))), {"Ref:1": disk})).blobs["Ref:1"]
    chance = random.Random(9)
    jobs = [
        (start, chance.randrange(min(3 * MIB, len(disk) - start))) for start in chance.choices(range(len(disk)), k=200)
    ]
    with ThreadPoolExecutor(4) as pool:
        for (start, length), data in zip(jobs, pool.map(lambda job: blob.read_at(*job), jobs), strict=True):
            assert data == disk[start : start + length]


@pytest.mark.parametrize("ref", ["../Ref:1", "/etc/passwd", "Ref:1/00000000", "Ref:", "ova.xml", "\x1b[31m", ""])
def test_references_that_are_none_lead_nowhere(ref: str) -> None:
    shown = ref.replace("\x1b", "?")
    with pytest.raises(VmferryError) as refused:
        open_xva(make_xva(machine((shown, MIB)), {"Ref:1": b"a" * MIB}))
    assert "\n" not in str(refused.value)


def small_xva() -> bytes:
    disk = b"a" * 1024 + bytes(2048) + b"b" * 700
    return make_xva(machine(("Ref:1", len(disk))), {"Ref:1": disk}, size=512)


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_flipped_bytes_give_the_same_disk_or_an_error_of_ours(data: st.DataObject) -> None:
    whole = small_xva()
    content = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):  # a header whose checksum fits again
        start = 512 * data.draw(st.integers(0, len(content) // 512 - 1))
        content[start + 148 : start + 156] = b" " * 8
        content[start + 148 : start + 156] = b"%06o\0 " % sum(content[start : start + 512])
    begun = time.monotonic()
    try:
        appliance = open_xva(bytes(content[: data.draw(st.integers(len(content) // 2, len(content)))]))
        for blob in appliance.blobs.values():
            for start in range(0, min(blob.size, 1 << 20), 4096):
                blob.read_at(start, min(4096, blob.size - start))
    except VmferryError:
        pass
    assert time.monotonic() - begun < 2

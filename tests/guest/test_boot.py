"""What a disk's first sectors tell about booting from it; and that no table, however damaged, does harm."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.guest.tables import BIOS_BOOT, ESP, LINUX, SIZE, make_gpt, make_mbr, raw_disk
from vmferry.blob import Buffer, MemoryBlob
from vmferry.disk import Disk
from vmferry.errors import CorruptDiskError, StoreUnavailableError
from vmferry.extent import Extent
from vmferry.formats import FORMATS, open_disk
from vmferry.guest import Bootability, find_boot_facts, pick_root, read_partition_table
from vmferry.machine import Firmware

CODE = b"\xeb\x63\x90"
GRUB = CODE.ljust(0x180, b"\x90") + b"GRUB \0Geom\0"


def test_an_active_partition_and_boot_code_start_by_bios() -> None:
    facts = find_boot_facts(raw_disk(make_mbr([(0x80, 0x83, 2048, 4096)], CODE)))
    assert facts.bootability is Bootability.CERTAIN
    assert facts.firmwares == (Firmware.BIOS,)
    assert facts.table.scheme == "mbr"
    (partition,) = facts.table.partitions
    assert (partition.start, partition.size, partition.kind, partition.active) == (2048 * 512, 4096 * 512, "83", True)


def test_grub_needs_no_active_partition() -> None:
    facts = find_boot_facts(raw_disk(make_mbr([(0, 0x83, 2048, 4096)], GRUB)))
    assert facts.bootability is Bootability.CERTAIN
    assert "GRUB" in facts.why


def test_boot_code_alone_is_no_certainty() -> None:
    facts = find_boot_facts(raw_disk(make_mbr([(0, 0x83, 2048, 4096)], CODE)))
    assert facts.bootability is Bootability.POSSIBLE


def test_an_active_partition_without_boot_code_does_not_boot() -> None:
    assert find_boot_facts(raw_disk(make_mbr([(0x80, 0x83, 2048, 4096)]))).bootability is Bootability.NONE


@pytest.mark.parametrize(
    ("partitions", "code", "firmwares"),
    [
        ([(ESP, 34, 1000), (LINUX, 1001, 5000)], b"", (Firmware.UEFI,)),
        ([(BIOS_BOOT, 34, 1000), (LINUX, 1001, 5000)], GRUB, (Firmware.BIOS,)),
        ([(ESP, 34, 500), (BIOS_BOOT, 501, 1000), (LINUX, 1001, 5000)], GRUB, (Firmware.BIOS, Firmware.UEFI)),
        ([(LINUX, 34, 5000)], b"", ()),
        ([], b"", ()),
    ],
)
def test_a_gpt_tells_which_firmware_starts_it(
    partitions: list[tuple[str, int, int]], code: bytes, firmwares: tuple[Firmware, ...]
) -> None:
    facts = find_boot_facts(raw_disk(make_gpt(partitions, code=code)))
    assert facts.table.scheme == "gpt"
    assert facts.table.faults == ()
    assert facts.firmwares == firmwares
    assert len(facts.table.partitions) == len(partitions)


def test_an_efi_system_partition_in_an_mbr_starts_by_uefi() -> None:
    assert find_boot_facts(raw_disk(make_mbr([(0, 0xEF, 2048, 4096)]))).firmwares == (Firmware.UEFI,)


@pytest.mark.parametrize(
    ("disk", "fault"),
    [
        (make_gpt([(ESP, 34, 1000)], header_crc=1), "header's checksum"),
        (make_gpt([(ESP, 34, 1000)], entries_crc=1), "entries' checksum"),
        (make_gpt([(ESP, 34, 1000)], count=0xFFFFFFFF, entry_size=128), "4,294,967,295 entries"),
        (make_gpt([(ESP, 34, 1000)], entry_size=1 << 19, count=2), "entries of 524,288 bytes"),
        (make_gpt([], entry_size=64), "entries of 64 bytes"),
        (make_gpt([], table_lba=(1 << 64) - 1), "behind the disk's end"),
        (bytes(make_mbr([(0, 0xEE, 1, 100)])), "no header"),
    ],
)
def test_a_damaged_gpt_gives_a_fault_and_no_partition(disk: bytes, fault: str) -> None:
    facts = find_boot_facts(raw_disk(disk))
    assert facts.table.partitions == ()
    assert fault in facts.table.faults[0]
    assert facts.bootability is Bootability.NONE
    assert facts.why == facts.table.faults[0]


def test_a_partition_behind_the_disks_end_is_a_fault() -> None:
    for disk in (make_mbr([(0x80, 0x83, 2048, 0xFFFFFFFF)], CODE), make_gpt([(LINUX, 34, 1 << 40)])):
        assert "behind the disk's end" in read_partition_table(raw_disk(disk)).faults[0]


def test_a_file_systems_boot_sector_is_no_partition_table() -> None:
    sector = make_mbr([(0x41, 0x83, 1, 1)], CODE)
    assert read_partition_table(raw_disk(sector)).scheme is None
    assert read_partition_table(raw_disk(bytes(SIZE))).scheme is None


@settings(deadline=None, max_examples=150)
@given(
    base=st.sampled_from(
        [
            make_gpt([(ESP, 34, 1000), (LINUX, 1001, 5000)], code=GRUB)[:20000],
            bytes(make_mbr([(0x80, 7, 63, 999)], CODE)),
        ]
    ),
    changes=st.lists(st.tuples(st.integers(0, 20000), st.binary(min_size=1, max_size=16)), max_size=6),
)
def test_no_content_raises(base: bytes, changes: list[tuple[int, bytes]]) -> None:
    disk = bytearray(base.ljust(20000, b"\0"))
    for place, junk in changes:
        disk[place : place + len(junk)] = junk
    facts = find_boot_facts(raw_disk(disk))
    assert facts.why
    assert all(partition.start >= 0 and partition.size >= 0 for partition in facts.table.partitions)


@settings(deadline=None, max_examples=40)
@given(length=st.integers(1, 40).map(lambda sectors: sectors * 512))
def test_a_disk_that_ends_early_is_no_error(length: int) -> None:
    content = make_gpt([(ESP, 34, 1000)], code=GRUB)[:length]
    find_boot_facts(open_disk(MemoryBlob(content), FORMATS["raw"]))


class _Failing:
    """A disk whose every read fails."""

    size = SIZE

    def __init__(self, error: Exception) -> None:
        self._error = error

    def extents(self, start: int = 0, end: int | None = None) -> Iterator[Extent]:
        return iter(())

    def read_at(self, offset: int, length: int) -> Buffer:
        raise self._error

    def close(self) -> None:
        pass


@pytest.mark.parametrize("error", [CorruptDiskError("the grain at 0 does not inflate"), StoreUnavailableError("away")])
def test_an_image_or_a_store_that_fails_is_no_fact_about_what_a_guest_wrote(error: Exception) -> None:
    with pytest.raises(type(error)):
        find_boot_facts(_Failing(error))


class _Counted:
    """Counts what is read of a disk."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self.size = disk.size
        self.bytes_read = 0

    def extents(self, start: int = 0, end: int | None = None) -> Iterator[Extent]:
        return self._disk.extents(start, end)

    def read_at(self, offset: int, length: int) -> Buffer:
        self.bytes_read += length
        return self._disk.read_at(offset, length)

    def close(self) -> None:
        self._disk.close()


def test_at_most_200_kib_are_read() -> None:
    disk = _Counted(raw_disk(make_gpt([(ESP, 34, 1000)], count=1024)))
    assert find_boot_facts(disk).firmwares == (Firmware.UEFI,)
    assert disk.bytes_read <= 200 << 10


def test_the_root_is_the_first_of_the_surest() -> None:
    nothing = find_boot_facts(raw_disk(b""))
    possible = find_boot_facts(raw_disk(make_mbr([(0, 0x83, 2048, 4096)], CODE)))
    certain = find_boot_facts(raw_disk(make_mbr([(0x80, 0x83, 2048, 4096)], CODE)))
    assert pick_root([nothing, possible, certain, certain]) == 2
    assert pick_root([nothing, possible, nothing]) == 1
    assert pick_root([nothing, nothing]) == 0


@pytest.mark.parametrize("label", ["dos", "gpt"])
def test_tables_that_sfdisk_writes_are_read_as_it_reads_them(label: str, tmp_path: Path) -> None:
    path = tmp_path / "disk.raw"
    with path.open("wb") as file:
        file.truncate(64 << 20)
    kinds = {
        "dos": "start=2048,size=20480,type=83,bootable\nsize=10240,type=ef\n",
        "gpt": "size=20480,type=U\nsize=10240,type=L\n",
    }
    subprocess.run(
        ["sfdisk", "-q", "-X", label, path],
        input=kinds[label],
        text=True,
        check=True,
        env={"PATH": "/usr/sbin:/sbin:/usr/bin"},
    )
    disk = raw_disk(path.read_bytes())
    table = read_partition_table(disk)
    assert table.scheme == {"dos": "mbr", "gpt": "gpt"}[label]
    assert table.faults == ()
    assert [(partition.start, partition.size) for partition in table.partitions] == [
        (2048 * 512, 20480 * 512),
        (22528 * 512, 10240 * 512),
    ]
    assert find_boot_facts(disk).firmwares == (Firmware.UEFI,)


def test_a_gpt_of_large_sectors_is_read_and_does_not_boot() -> None:
    facts = find_boot_facts(raw_disk(make_gpt([(ESP, 34, 1000)], sector=4096)))
    assert facts.bootability is Bootability.NONE
    assert "4,096 bytes" in facts.why
    assert facts.table.sector_size == 4096
    assert [(partition.start, partition.size) for partition in facts.table.partitions] == [(34 * 4096, 967 * 4096)]


def test_a_damaged_gpt_is_read_from_its_copy(tmp_path: Path) -> None:
    path = tmp_path / "disk.raw"
    with path.open("wb") as file:
        file.truncate(64 << 20)
    subprocess.run(
        ["sfdisk", "-q", "-X", "gpt", path], input="size=20480,type=U\n", text=True, check=True,
        env={"PATH": "/usr/sbin:/sbin:/usr/bin"},
    )  # fmt: skip
    content = bytearray(path.read_bytes())
    content[512 + 60] ^= 1
    table = read_partition_table(raw_disk(content))
    assert [partition.start for partition in table.partitions] == [2048 * 512]
    assert "header's checksum is wrong" in table.faults[0]
    assert "its copy at the disk's end is sound" in table.faults[1]


def test_logical_partitions_are_read_as_sfdisk_wrote_them(tmp_path: Path) -> None:
    path = tmp_path / "disk.raw"
    with path.open("wb") as file:
        file.truncate(64 << 20)
    environment = {"PATH": "/usr/sbin:/sbin:/usr/bin"}
    lines = (
        "label-id: 0x1234abcd\nsize=20480,type=83\ntype=5\nsize=4096,type=83\nsize=6144,type=82\nsize=2048,type=8e\n"
    )
    subprocess.run(["sfdisk", "-q", "-X", "dos", path], input=lines, text=True, check=True, env=environment)
    said = subprocess.run(["sfdisk", "--json", path], capture_output=True, check=True, env=environment).stdout
    wanted = [
        (int(entry["node"].removeprefix(str(path))), entry["start"] * 512, entry["size"] * 512, entry["type"])
        for entry in json.loads(said)["partitiontable"]["partitions"]
    ]
    table = read_partition_table(raw_disk(path.read_bytes()))
    assert [(found.number, found.start, found.size, f"{int(found.kind, 16):x}") for found in table.partitions] == wanted
    assert [found.number for found in table.partitions] == [1, 2, 5, 6, 7]
    assert table.partitions[3].uuid == "1234abcd-06"
    assert table.faults == ()


@pytest.mark.parametrize(
    ("second", "fault"),
    [
        ((0, 0x83, 1, 8, 0, 0x05, 0, 8), None),
        ((0, 0x83, 1, 8, 0, 0x05, 64, 8), "none is described"),
        ((0, 0x83, 1, 8, 0, 0x05, 0xFFFFFF, 8), "cannot be followed"),
        ((0, 0x83, 1, 0xFFFFFF, 0, 0, 0, 0), "partition 5 ends at byte"),
    ],
)
def test_a_chain_of_logical_partitions_that_goes_astray_is_a_fault(second: tuple[int, ...], fault: str | None) -> None:
    disk = bytearray(make_mbr([(0, 0x05, 64, 1024)]).ljust(4 << 20, b"\0"))
    disk[64 * 512 : 65 * 512] = make_mbr([second[:4], second[4:]])  # type: ignore[list-item]
    table = read_partition_table(raw_disk(disk))
    assert [partition.number for partition in table.partitions] == [1, 5]
    assert (not table.faults) if fault is None else fault in table.faults[0]


def test_a_chain_of_logical_partitions_that_leads_back_ends() -> None:
    disk = bytearray(make_mbr([(0, 0x05, 64, 1024)]).ljust(4 << 20, b"\0"))
    disk[64 * 512 : 65 * 512] = make_mbr([(0, 0x83, 1, 8), (0, 0x05, 128, 8)])
    disk[192 * 512 : 193 * 512] = make_mbr([(0, 0x83, 1, 8), (0, 0x05, 128, 8)])
    table = read_partition_table(raw_disk(disk))
    assert [partition.number for partition in table.partitions] == [1, 5, 6]
    assert "back into itself" in table.faults[0]

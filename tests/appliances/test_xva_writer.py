"""XVAs as we write them: judged by tarfile, xxhash, and our own reader."""

from __future__ import annotations

import io
import random
import re
import tarfile
from dataclasses import replace

import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.appliances.memory_target import MemoryTarget
from tests.appliances.test_ova_writer import TEXT
from vmferry.appliances import XvaWriter, open_appliance
from vmferry.appliances._xapi import read_records
from vmferry.appliances._xml import parse_xml
from vmferry.blob import Blob, Buffer, MemoryBlob
from vmferry.convert import copy
from vmferry.disk import OrderedDiskWriter
from vmferry.errors import UnsupportedFeatureError
from vmferry.formats import FORMATS, open_disk
from vmferry.machine import Firmware, Machine, MachineDisk, NetworkInterface
from vmferry.units import MIB, TIB

MACHINE = Machine(
    'a & <b> "c"',
    4,
    3 << 30,
    Firmware.UEFI,
    (MachineDisk("x", None, "scsi", 0, 3),),
    (NetworkInterface("LAN & co", "e1000", "52-54-00-AB-cd-EF"), NetworkInterface()),
)


class FrontToBack(MemoryTarget):
    """Takes bytes from front to back only, as S3 does."""

    def write_at(self, offset: int, data: Buffer) -> None:
        assert offset == len(self.data)
        super().write_at(offset, data)


def fill(writer: OrderedDiskWriter, guest: bytes, piece: int) -> None:
    for start in range(0, len(guest), piece):
        writer.write(writer.place(writer.encode(start, guest[start : start + piece])))
    writer.finish()


def pack(machine: Machine, guests: list[bytes], piece: int = 4 * MIB) -> tuple[bytes, XvaWriter]:
    target = FrontToBack()
    writer = XvaWriter(target, machine, [len(guest) for guest in guests])
    for index, guest in enumerate(guests):
        fill(writer.disk(index), guest, piece)
    writer.finish()
    assert target.state == "finished"
    return bytes(target.data), writer


def unpacked(xva: bytes) -> dict[str, bytes]:
    """What Python's tarfile finds, in order."""
    with tarfile.open(fileobj=io.BytesIO(xva)) as tar:
        files = ((one.name, tar.extractfile(one)) for one in tar)
        return {name: file.read() for name, file in files if file is not None}


def guest_of(seed: int, chunks: list[bool], tail: int) -> bytes:
    chance = random.Random(seed)
    whole = b"".join(
        bytes(chance.randrange(MIB - 8)).ljust(MIB - 1, b"x") + b"y" if used else bytes(MIB) for used in chunks
    )
    return whole + bytes([seed % 2]) * tail * 512


@settings(deadline=None, max_examples=30)
@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.lists(st.booleans(), min_size=1, max_size=4), st.integers(0, 3)),
        min_size=1,
        max_size=3,
    ),
    TEXT,
    st.sampled_from([None, *Firmware]),
)
def test_every_machine_is_read_again_as_it_was_written(
    disks: list[tuple[int, list[bool], int]], name: str, firmware: Firmware | None
) -> None:
    guests = [guest_of(*disk) for disk in disks]
    xva, writer = pack(replace(MACHINE, name=name, firmware=firmware), guests)
    appliance = open_appliance(MemoryBlob(xva, "made.xva"))
    assert replace(appliance.machine, notes=()) == writer.machine
    assert appliance.machine.notes == ()
    assert (writer.machine.cpus, writer.machine.memory, writer.machine.firmware) == (4, 3 << 30, firmware)
    read: list[Blob] = [appliance.blobs[disk.name] for disk in appliance.machine.disks]
    assert [blob.read_at(0, blob.size) for blob in read] == guests


def test_zeros_are_left_out_but_for_the_first_and_the_last_chunk() -> None:
    guest = bytes(2 * MIB) + b"data" + bytes(7 * MIB - 4) + bytes(512)
    xva, _ = pack(MACHINE, [guest, bytes(MIB), b"x" * 512])
    members = unpacked(xva)
    chunks = [name for name in members if re.fullmatch("Ref:[0-9]+/[0-9]{8}", name)]
    assert chunks == [
        "Ref:1000/00000000", "Ref:1000/00000002", "Ref:1000/00000009", "Ref:1001/00000000", "Ref:1002/00000000",
    ]  # fmt: skip
    assert [len(members[name]) for name in chunks] == [MIB, MIB, 512, MIB, 512]
    for name in chunks:
        assert members[f"{name}.xxhash"].decode() == f"{xxhash.xxh64_intdigest(members[name]):016X}"
    assert len(members) == 1 + 2 * len(chunks)
    assert next(iter(members)) == "ova.xml"
    assert xva.endswith(bytes(1024))


def test_how_a_copy_cuts_its_pieces_and_how_many_threads_it_has_changes_nothing() -> None:
    chance = random.Random(3)
    guest = b"".join(chance.choice([bytes(MIB), chance.randbytes(MIB)]) for _ in range(21)) + chance.randbytes(512)
    wanted, _ = pack(MACHINE, [guest], MIB)
    target = MemoryTarget()
    writer = XvaWriter(target, MACHINE, [len(guest)])
    disk = writer.disk(0)
    copy(open_disk(MemoryBlob(guest), FORMATS["raw"]), disk, workers=4)
    disk.finish()
    writer.finish()
    assert bytes(target.data) == wanted


def test_the_description_refers_to_what_is_in_it() -> None:
    xva, _ = pack(MACHINE, [bytes(MIB), bytes(MIB)])
    content = unpacked(xva)["ova.xml"]
    records = read_records(parse_xml(content, "ova.xml"), "ova.xml")
    kinds = {"VM": 1, "SR": 1, "VDI": 2, "VBD": 2, "VIF": 2, "network": 2}
    assert {kind: len(records.of_class(kind)) for kind in kinds} == kinds
    for kind, field, other in (
        ("VBD", "VDI", "VDI"), ("VBD", "VM", "VM"), ("VIF", "network", "network"), ("VIF", "VM", "VM"),
        ("VDI", "SR", "SR"),
    ):  # fmt: skip
        assert all(records.get(one.text(field), other) for one in records.of_class(kind))
    for kind, field, other in (
        ("VM", "VBDs", "VBD"),
        ("VM", "VIFs", "VIF"),
        ("SR", "VDIs", "VDI"),
        ("VDI", "VBDs", "VBD"),
    ):
        for one in records.of_class(kind):
            assert one.refs(field)
            assert all(records.get(ref, other) for ref in one.refs(field))
    everything = [one for kind in kinds for one in records.of_class(kind)]
    uuids = [one.text("uuid") for one in everything if one.text("uuid")]
    assert len(set(uuids)) == len(uuids) == len(everything) - 1, "a store of disks is looked for by its name"
    assert all(re.fullmatch("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", uuid) for uuid in uuids)
    assert [one.text("MAC") for one in records.of_class("VIF")] == ["52:54:00:ab:cd:ef", ""]
    assert records.of_class("VM")[0].table("HVM_boot_params") == {"order": "cdn", "firmware": "uefi"}
    assert b"<name>export_vsn</name><value>2</value>" in content
    assert b"<name>HVM_shadow_multiplier</name><value><double>1</double></value>" in content
    assert b"<dateTime.iso8601>19700101T00:00:00Z</dateTime.iso8601>" in content


def test_disks_are_written_one_after_another() -> None:
    target = MemoryTarget()
    writer = XvaWriter(target, MACHINE, [MIB, MIB])
    with pytest.raises(ValueError, match="disk 0 is next"):
        writer.disk(1)
    first = writer.disk(0)
    with pytest.raises(ValueError, match="not finished"):
        writer.disk(1)
    first.finish()
    with pytest.raises(ValueError, match="1 of 2"):
        writer.finish()
    writer.abort()
    assert target.state == "aborted"


@pytest.mark.parametrize("sizes", [[], [0], [513], [-512]])
def test_sizes_that_are_none_are_a_callers_mistake(sizes: list[int]) -> None:
    with pytest.raises(ValueError, match="no sizes"):
        XvaWriter(MemoryTarget(), MACHINE, sizes)


def test_a_disk_beyond_all_bounds_is_refused() -> None:
    with pytest.raises(UnsupportedFeatureError, match="64 TiB is the most"):
        XvaWriter(MemoryTarget(), MACHINE, [65 * TIB])


@pytest.mark.parametrize(("offset", "length"), [(512, MIB), (0, MIB + 512), (3 * MIB, MIB), (-MIB, MIB)])
def test_pieces_that_are_not_whole_chunks_are_a_callers_mistake(offset: int, length: int) -> None:
    writer = XvaWriter(MemoryTarget(), MACHINE, [3 * MIB])
    with pytest.raises(ValueError, match="whole chunks"):
        writer.disk(0).encode(offset, bytes(length))

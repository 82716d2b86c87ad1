"""OVAs as we write them: judged by tarfile, 7z, hashlib, our own reader, and the rules of OVF's readers."""

from __future__ import annotations

import hashlib
import io
import random
import shutil
import subprocess
import tarfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from tests.appliances.memory_target import MemoryTarget, ReadableTarget
from tests.appliances.ovf_rules import RASD, VSSD, broken_rules, field, items
from vmferry.appliances import (
    TARGETS,
    Controller,
    Manifest,
    OvaOptions,
    OvaWriter,
    PackedDisk,
    Target,
    disk_file_name,
    open_appliance,
    package_stem,
    verify,
)
from vmferry.appliances._tar_writer import tar_header
from vmferry.blob import FileBlob, MemoryBlob
from vmferry.errors import UnsupportedFeatureError
from vmferry.extent import Extent, ExtentKind
from vmferry.formats import WriteOptions, open_disk
from vmferry.formats.vhd import FORMAT as VHD
from vmferry.limits import MAX_MACHINE_DISKS
from vmferry.machine import Firmware, Machine, MachineDisk, NetworkInterface
from vmferry.stores.local import create_file
from vmferry.units import GIB, MIB

BARE = Machine("web")
DEFAULTS = OvaOptions()


def pack(
    machine: Machine,
    contents: Sequence[bytes],
    options: OvaOptions = DEFAULTS,
    target: MemoryTarget | None = None,
) -> tuple[bytes, OvaWriter]:
    """An OVA whose disks' files hold ``contents``; and its writer."""
    made = target or ReadableTarget()
    disk_format = TARGETS[options.target].disk_format
    disks = [
        PackedDisk(disk_file_name("vm", index, disk_format), (index + 1) * MIB, disk_format)
        for index in range(len(contents))
    ]
    writer = OvaWriter(made, machine, disks, options)
    for index, content in enumerate(contents):
        member = writer.member(index)
        for start in range(0, len(content), 1000):
            member.write_at(start, content[start : start + 1000])
        member.finish()
    writer.finish()
    assert made.state == "finished"
    return bytes(made.data), writer


def unpack(ova: bytes) -> dict[str, bytes]:
    """What Python's tarfile finds, in order."""
    with tarfile.open(fileobj=io.BytesIO(ova), mode="r:") as tar:
        files = ((one.name, tar.extractfile(one)) for one in tar)
        return {name: file.read() for name, file in files if file is not None}


def descriptor(ova: bytes) -> bytes:
    return next(iter(unpack(ova).values()))


TEXT = st.text(max_size=40) | st.sampled_from(
    ["a & b <c> \"d\" 'e'", "Büro 3", "虚拟机", "--", "\x00\x1b[0m", "\ud800", "x" * 300, "", " ", "]]>", "a\nb"]
)
INTERFACES = st.builds(
    NetworkInterface,
    st.none() | TEXT,
    st.none() | st.sampled_from(["E1000", "e1000e", "VMXNET3", "virtio", "PCNet32", "82540EM", "ne2k & co"]),
    st.none() | st.sampled_from(["00:50:56:ab:cd:ef", "525400112233", "no address"]),
)
OPTIONS = st.builds(OvaOptions, st.sampled_from(Target), st.sampled_from(Manifest))


@st.composite
def machines(draw: st.DrawFn) -> Machine:
    """Machines with 1 to 21 disks, in good and in impossible places."""
    count = draw(st.integers(1, 21))
    if draw(st.booleans()):
        bus = draw(st.sampled_from(["scsi", "sata", "ide", "nvme", "virtio", "xen", None]))
        per_controller = draw(st.integers(1, 15))
        places = [(bus, index // per_controller, index % per_controller) for index in range(count)]
    else:
        one = st.tuples(st.sampled_from(["scsi", "ide", "sata"]), st.integers(0, 2), st.integers(0, 15))
        places = draw(st.lists(one, min_size=count, max_size=count))
    return Machine(
        name=draw(TEXT),
        cpus=draw(st.integers(1, 256)),
        memory=draw(st.integers(1, 1024)) * 4 * MIB,
        firmware=draw(st.sampled_from([None, Firmware.BIOS, Firmware.UEFI])),
        disks=tuple(MachineDisk(f"old{i}", None, *place) for i, place in enumerate(places)),
        interfaces=tuple(draw(st.lists(INTERFACES, max_size=10))),
        guest_os=draw(st.none() | TEXT | st.sampled_from(["Ubuntu Linux (64-bit)", "windows2019srv_64Guest", "WinXP"])),
    )


@pytest.mark.slow
@settings(deadline=None, max_examples=150)
@given(machines(), OPTIONS)
def test_every_machine_is_read_again_as_it_was_written(machine: Machine, options: OvaOptions) -> None:
    ova, writer = pack(machine, [b"%d" % index for index in range(len(machine.disks))], options)
    appliance = open_appliance(MemoryBlob(ova, "made.ova"))
    assert replace(appliance.machine, notes=()) == writer.machine
    read = writer.machine
    assert (read.cpus, read.memory, read.firmware) == (machine.cpus, machine.memory, machine.firmware)
    assert len(read.interfaces) == len(machine.interfaces)
    assert broken_rules(descriptor(ova)) == []
    for name, digest in appliance.digests.items():
        verify(name, appliance.blobs[name], digest)
    assert bool(appliance.digests) == (options.manifest is not Manifest.NONE)


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(Target), st.data())
def test_places_that_the_target_has_are_kept(target: Target, data: st.DataObject) -> None:
    facts = TARGETS[target]
    firmware = data.draw(st.sampled_from(Firmware))
    buses = [name for name in facts.buses if firmware is Firmware.BIOS or name not in facts.uefi_lacks]
    chosen = data.draw(st.permutations(buses))
    if firmware is Firmware.BIOS and facts.bios_boot_bus:
        chosen = [facts.bios_boot_bus, *(name for name in chosen if name != facts.bios_boot_bus)]
    everywhere = [
        (name, number, unit)
        for name in chosen
        for number in range(facts.buses[name].controllers)
        for unit in facts.buses[name].places
    ]
    used = {everywhere[0], *data.draw(st.lists(st.sampled_from(everywhere), max_size=12))}
    places = [place for place in everywhere if place in used]
    disks = tuple(MachineDisk(str(place), None, *place) for place in places)
    ova, writer = pack(
        Machine("places", firmware=firmware, disks=disks), [b""] * len(disks), OvaOptions(target, Manifest.NONE)
    )
    read = open_appliance(MemoryBlob(ova, "made.ova")).machine
    assert [(disk.bus, disk.controller, disk.unit) for disk in read.disks] == places
    assert not any("moved" in note for note in writer.notes)
    assert broken_rules(descriptor(ova)) == []


def test_members_stand_in_the_order_that_vmware_wants() -> None:
    ova, _ = pack(Machine("Büro & Lager"), [b"one" * 500, b"two" * 999])
    assert list(unpack(ova)) == ["Buro-Lager.ovf", "Buro-Lager.mf", "vm-disk1.vmdk", "vm-disk2.vmdk"]
    assert len(ova) % 10240 == 0
    assert ova.endswith(bytes(1024))


@pytest.mark.parametrize("algorithm", [Manifest.SHA256, Manifest.SHA1])
def test_the_manifest_holds_the_digest_of_every_file(algorithm: Manifest) -> None:
    ova, _ = pack(BARE, [b"one" * 5000, b"two"], OvaOptions(manifest=algorithm))
    files = unpack(ova)
    lines = files.pop("web.mf").decode().splitlines()
    wanted = [
        f"{algorithm.name}({name})= {hashlib.new(algorithm.value, content).hexdigest()}"
        for name, content in files.items()
    ]
    assert lines == wanted


def test_without_a_manifest_there_is_no_such_member() -> None:
    ova, _ = pack(BARE, [b"one"], OvaOptions(manifest=Manifest.NONE), MemoryTarget())
    assert list(unpack(ova)) == ["web.ovf", "vm-disk1.vmdk"]


def test_7z_and_tarfile_extract_the_same_bytes(tmp_path: Path) -> None:
    contents = [random.Random(1).randbytes(70_000), b"", bytes(512), b"short"]
    ova, _ = pack(BARE, contents)
    (tmp_path / "made.ova").write_bytes(ova)
    seven_zip = shutil.which("7z")
    assert seven_zip is not None, "7z judges what we write: install p7zip-full"
    subprocess.run(
        [seven_zip, "x", "-ttar", f"-o{tmp_path / 'out'}", tmp_path / "made.ova"], check=True, capture_output=True
    )
    files = unpack(ova)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == files
    assert list(files.values())[2:] == contents


def test_members_over_8_gib_have_gnu_headers(tmp_path: Path) -> None:
    path = tmp_path / "large.ova"
    disks = [PackedDisk("a.vmdk", 9 * GIB), PackedDisk("b.vmdk", MIB)]
    writer = OvaWriter(create_file(path, sync=False), BARE, disks, OvaOptions(manifest=Manifest.NONE))
    for index, (offset, size) in enumerate([(9 * GIB - 4, 9 * GIB), (0, 1000)]):
        member = writer.member(index)
        member.write_at(offset, b"tail")
        member.set_size(size)
        member.finish()
    writer.finish()
    with tarfile.open(path) as tar:
        assert [(one.name, one.size) for one in tar][1:] == [("a.vmdk", 9 * GIB), ("b.vmdk", 1000)]
    with path.open("rb") as file:
        assert file.read(265)[257:] == b"ustar  \0", "one dialect for the whole archive"
    seven_zip = shutil.which("7z")
    assert seven_zip is not None
    listed = subprocess.run([seven_zip, "l", "-ttar", path], check=True, capture_output=True, text=True).stdout
    assert f"{9 * GIB}" in listed
    appliance = open_appliance(FileBlob(path))
    assert appliance.blobs["a.vmdk"].size == 9 * GIB
    assert appliance.blobs["a.vmdk"].read_at(9 * GIB - 4, 4) == b"tail"
    assert appliance.blobs["b.vmdk"].read_at(0, 5) == b"tail\0"
    appliance.close()
    assert path.stat().st_blocks < 1000, "what is zeros is not stored"


@pytest.mark.parametrize("gnu", [False, True], ids=["ustar", "gnu"])
@pytest.mark.parametrize("size", [0, 1, 511, 8 * GIB - 1, 8 * GIB, 1 << 62])
def test_a_header_is_the_one_that_python_writes(gnu: bool, size: int) -> None:
    wanted = tarfile.TarInfo("disk.vmdk")
    wanted.size, wanted.mtime = size, 946_684_800
    if size >= 8 * GIB and not gnu:
        with pytest.raises(ValueError, match="ustar"):
            tar_header("disk.vmdk", size, gnu=gnu)
        return
    assert tar_header("disk.vmdk", size, gnu=gnu) == wanted.tobuf(tarfile.GNU_FORMAT if gnu else tarfile.USTAR_FORMAT)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 1 << 32))
def test_the_order_in_which_threads_write_changes_nothing(seed: int) -> None:
    chance = random.Random(seed)
    content = chance.randbytes(300_000)
    wanted, _ = pack(BARE, [content, content])
    target = MemoryTarget()  # cannot be read: the digests are taken on the way
    writer = OvaWriter(target, BARE, [PackedDisk(f"vm-disk{i}.vmdk", i * MIB) for i in (1, 2)])
    pieces = [(start, content[start : start + 4096]) for start in range(0, len(content), 4096)]
    for index in range(2):
        mixed = [
            piece
            for low in range(0, len(pieces), 8)
            for piece in chance.sample(pieces[low : low + 8], len(pieces[low : low + 8]))
        ]
        member = writer.member(index)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(member.write_at, *zip(*mixed, strict=True)))
        member.finish()
    writer.finish()
    assert bytes(target.data) == wanted


def test_a_header_that_is_written_last_makes_the_member_be_read_again() -> None:
    target = ReadableTarget()
    writer = OvaWriter(target, BARE, [PackedDisk("a.vmdk", MIB)])
    member = writer.member(0)
    member.write_at(0, bytes(512))
    member.write_at(512, b"body")
    member.write_at(0, b"HEAD")
    member.finish()
    writer.finish()
    files = unpack(bytes(target.data))
    assert files["a.vmdk"] == b"HEAD" + bytes(508) + b"body"
    assert hashlib.sha256(files["a.vmdk"]).hexdigest() in files["web.mf"].decode()
    assert target.read == 516


def test_where_nothing_can_be_read_again_that_is_said() -> None:
    writer = OvaWriter(MemoryTarget(), BARE, [PackedDisk("a.vmdk", MIB)])
    member = writer.member(0)
    member.write_at(0, b"first")
    member.write_at(0, b"again")
    with pytest.raises(UnsupportedFeatureError, match="without a manifest"):
        member.finish()


def test_a_vhd_needs_a_target_that_can_be_read_or_no_manifest() -> None:
    disks = [PackedDisk("a.vhd", MIB, "vhd")]
    with pytest.raises(UnsupportedFeatureError, match="local file, or without a manifest"):
        OvaWriter(MemoryTarget(), BARE, disks, OvaOptions(Target.XEN))
    OvaWriter(MemoryTarget(), BARE, disks, OvaOptions(Target.XEN, Manifest.NONE))


@pytest.mark.parametrize("subformat", ["dynamic", "fixed"])
def test_a_vhd_that_its_own_writer_makes_is_a_good_member(subformat: str) -> None:
    guest = random.Random(7).randbytes(4 * MIB) + bytes(4 * MIB) + random.Random(8).randbytes(MIB)
    target = ReadableTarget()
    options = OvaOptions(Target.XEN)
    writer = OvaWriter(target, BARE, [PackedDisk("a.vhd", len(guest), "vhd")], options)
    made = VHD.create(
        writer.member(0), len(guest), [Extent(0, len(guest), ExtentKind.DATA)], WriteOptions(subformat=subformat)
    )
    for start in range(0, len(guest), 2 * MIB):
        made.write(made.place(made.encode(start, guest[start : start + 2 * MIB])))
    made.finish()
    writer.set_sizes(0, populated=5 * MIB)
    writer.finish()
    appliance = open_appliance(MemoryBlob(bytes(target.data), "made.ova"))
    verify("a.vhd", appliance.blobs["a.vhd"], appliance.digests["a.vhd"])
    disk = open_disk(appliance.blobs["a.vhd"], VHD)
    assert disk.size == appliance.machine.disks[0].capacity == len(guest)
    assert bytes(disk.read_at(0, disk.size)) == guest
    assert f'ovf:populatedSize="{5 * MIB}"'.encode() in descriptor(bytes(target.data))


def test_a_disk_is_read_through_the_package(tmp_path: Path) -> None:
    guest = random.Random(5).randbytes(300_000).ljust(8 * MIB, b"\0")
    (tmp_path / "guest.raw").write_bytes(guest)
    command = ["qemu-img", "convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized"]
    subprocess.run([*command, tmp_path / "guest.raw", tmp_path / "guest.vmdk"], check=True)
    content = (tmp_path / "guest.vmdk").read_bytes()
    ova, _ = pack(BARE, [content, content])
    (tmp_path / "made.ova").write_bytes(ova)
    appliance = open_appliance(FileBlob(tmp_path / "made.ova"))
    assert not any("odd" in note or "manifest" in note for note in appliance.machine.notes)
    for described in appliance.machine.disks:
        disk = open_disk(appliance.blobs[described.name])
        assert disk.size == len(guest)
        assert bytes(disk.read_at(0, disk.size)) == guest
    appliance.close()


def test_members_are_written_one_after_another() -> None:
    target = MemoryTarget()
    writer = OvaWriter(target, BARE, [PackedDisk("a.vmdk", MIB), PackedDisk("b.vmdk", MIB)])
    with pytest.raises(ValueError, match="disk 0 is next"):
        writer.member(1)
    first = writer.member(0)
    with pytest.raises(ValueError, match="disk 0 is next"):
        writer.member(1)
    first.write_at(0, b"a")
    first.finish()
    with pytest.raises(ValueError, match="ended"):
        first.write_at(1, b"b")
    with pytest.raises(ValueError, match="1 of 2"):
        writer.finish()
    writer.abort()
    writer.abort()
    assert target.state == "aborted"


def test_an_ova_that_is_aborted_leaves_nothing(tmp_path: Path) -> None:
    writer = OvaWriter(create_file(tmp_path / "a.ova"), BARE, [PackedDisk("a.vmdk", MIB)])
    member = writer.member(0)
    member.write_at(0, b"something")
    member.abort()
    writer.abort()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "names",
    [["a/b.vmdk"], ["../b.vmdk"], ["ü.vmdk"], ["x" * 96 + ".vmdk"], [""], ["a.vmdk", "A.vmdk"], ["web.ovf"], ["a\n"]],
)
def test_names_that_a_tar_or_a_reader_may_choke_on_are_refused(names: list[str]) -> None:
    with pytest.raises(ValueError, match="name"):
        OvaWriter(MemoryTarget(), BARE, [PackedDisk(name, MIB) for name in names])


@settings(deadline=None, max_examples=200)
@given(TEXT)
def test_the_stem_of_any_name_is_plain(name: str) -> None:
    stem = package_stem(name)
    assert stem
    assert len(stem) <= 64
    assert stem.isascii()
    assert stem[0].isalnum()
    assert not set(stem) & set(" /\\:*?\"<>|'`$&;\n\0")


@pytest.mark.parametrize(("disks", "match"), [(0, "0 disks"), (3, "3 disks")])
def test_disks_that_are_not_the_machines_are_a_callers_mistake(disks: int, match: str) -> None:
    machine = Machine("two", disks=(MachineDisk("a"), MachineDisk("b")))
    with pytest.raises(ValueError, match=match):
        OvaWriter(MemoryTarget(), machine, [PackedDisk(f"{i}.vmdk", MIB) for i in range(disks)])


def _hardware(machine: Machine, options: OvaOptions) -> etree._Element:
    count = max(len(machine.disks), 1)
    return etree.fromstring(descriptor(pack(machine, [b""] * count, options)[0]))


def _subtypes(root: etree._Element, kind: str) -> list[str | None]:
    return [field(item, "ResourceSubType") for item in items(root) if field(item, "ResourceType") == kind]


@pytest.mark.parametrize("target", [Target.GENERIC, Target.ESXI])
def test_windows_gets_the_controller_that_it_has_a_driver_for(target: Target) -> None:
    options = OvaOptions(target)
    assert _subtypes(_hardware(BARE, options), "6") == ["lsilogic"]
    windows = replace(BARE, guest_os="Microsoft Windows Server 2019")
    assert _subtypes(_hardware(windows, options), "6") == ["lsilogicsas"]


def test_a_controller_that_is_chosen_takes_all_disks() -> None:
    machine = Machine("moved", disks=tuple(MachineDisk(f"{i}", None, "scsi", 0, i) for i in range(3)))
    ova, writer = pack(machine, [b""] * 3, OvaOptions(Target.ESXI, controller=Controller.NVME))
    assert [(disk.bus, disk.unit) for disk in writer.machine.disks] == [("nvme", 0), ("nvme", 1), ("nvme", 2)]
    assert "moved" in writer.notes[0]
    assert writer.machine.hardware_family == "vmx-13"
    assert b"vmware.nvme.controller" in descriptor(ova)
    assert _subtypes(_hardware(machine, OvaOptions(Target.ESXI, controller=Controller.PVSCSI)), "6") == ["VirtualSCSI"]


def test_a_controller_that_the_target_lacks_is_refused() -> None:
    with pytest.raises(UnsupportedFeatureError, match=r"xen does not take.*nvme.*lsilogic, ide"):
        OvaWriter(MemoryTarget(), BARE, [PackedDisk("a.vmdk", MIB)], OvaOptions(Target.XEN, controller=Controller.NVME))
    with pytest.raises(UnsupportedFeatureError, match="places"):
        pack(BARE, [b""] * 5, OvaOptions(controller=Controller.IDE))


def test_the_sixteenth_scsi_disk_goes_to_the_next_controller() -> None:
    _, writer = pack(BARE, [b""] * 21)
    places = [(disk.controller, disk.unit) for disk in writer.machine.disks]
    assert places[:8] == [(0, 0), (0, 1), (0, 2), (0, 3), (0, 4), (0, 5), (0, 6), (0, 8)]
    assert places[14:] == [(0, 15), (1, 0), (1, 1), (1, 2), (1, 3), (1, 4), (1, 5)]


def test_a_machine_with_as_many_disks_as_are_read_comes_back() -> None:
    ova, writer = pack(BARE, [b"%d" % index for index in range(MAX_MACHINE_DISKS)])
    machine = open_appliance(MemoryBlob(ova, "made.ova")).machine
    assert machine.disks == writer.machine.disks
    assert [(disk.controller, disk.unit) for disk in machine.disks][-1] == (3, 15)


def test_hyper_v_starts_a_bios_machine_from_ide_and_an_efi_machine_from_scsi() -> None:
    bios = replace(BARE, firmware=Firmware.BIOS)
    _, writer = pack(bios, [b""] * 3, OvaOptions(Target.HYPERV))
    assert [(disk.bus, disk.unit) for disk in writer.machine.disks] == [("ide", 0), ("scsi", 0), ("scsi", 1)]
    assert writer.machine.hardware_family == "Microsoft:Hyper-V:SubType:1"
    _, writer = pack(replace(bios, firmware=Firmware.UEFI), [b""], OvaOptions(Target.HYPERV))
    assert writer.machine.disks[0].bus == "scsi"
    assert writer.machine.hardware_family == "Microsoft:Hyper-V:SubType:2"


def test_xencenter_is_told_the_devices_and_which_one_boots() -> None:
    ova, _ = pack(BARE, [b""] * 11, OvaOptions(Target.XEN))
    root = etree.fromstring(descriptor(ova))
    drives = [item for item in items(root) if field(item, "ResourceType") == "17"]
    assert field(drives[0], "Connection") == "device=0,bootable=true,mode=w"
    assert field(drives[10], "Connection") == "device=10,bootable=false,mode=w"
    assert root.findtext(f".//{{{VSSD}}}VirtualSystemType") == "hvm-3.0-unknown"


@pytest.mark.parametrize("target", Target)
def test_every_dialect_keeps_the_rules(target: Target) -> None:
    machine = Machine(
        'all & <of> "it"', 4, 8 * GIB, Firmware.UEFI, (), (NetworkInterface("a"), NetworkInterface("a")), "Debian 12"
    )
    ova, _ = pack(machine, [b""] * 12, OvaOptions(target))
    assert broken_rules(descriptor(ova)) == []
    assert b"vmw:osType" in descriptor(ova)


_BROKEN = [
    ("<References>", "<Oops/><References>", "out of order"),
    (' ovf:id="file1"', "", "no id"),
    ('ovf:id="file2"', 'ovf:id="file1"', "two Files have the id"),
    ("vm-disk2.vmdk", "vm-disk1.vmdk", "two Files have the href"),
    ('ovf:capacity="1048576"', 'ovf:capacity="0"', "or zero"),
    ('ovf:capacity="1048576"', "", "no capacity"),
    (' ovf:diskId="vmdisk1"', "", "no diskId"),
    ('ovf:fileRef="file2"', 'ovf:fileRef="file1"', "two Disks have the fileRef"),
    ('ovf:fileRef="file2"', 'ovf:fileRef="file9"', "unknown fileRef"),
    ('ovf:diskId="vmdisk1"', 'ovf:diskId="vmdisk1" ovf:populatedSize="99999999999"', "above its capacity"),
    ("<Info>Virtual disk information</Info>", "", "begin with Info"),
    ("<Info>A virtual machine</Info>", "", "begin with Info"),
    ('<VirtualSystem ovf:id="web">', "<VirtualSystem>", "has no id"),
    ("<rasd:InstanceID>1</rasd:InstanceID>", "", "no InstanceID"),
    ("<rasd:InstanceID>2</rasd:InstanceID>", "<rasd:InstanceID>1</rasd:InstanceID>", "the InstanceID 1"),
    ("<rasd:ResourceType>3</rasd:ResourceType>", "", "no ResourceType"),
    ("<rasd:Parent>3</rasd:Parent>", "<rasd:Parent>1</rasd:Parent>", "no controller"),
    ("<rasd:AddressOnParent>1<", "<rasd:AddressOnParent>7<", "own place, 7"),
    ("<rasd:AddressOnParent>1<", "<rasd:AddressOnParent>0<", "two drives have the place"),
    ("ovf:/disk/vmdisk2", "ovf:/disk/vmdisk1", "each Disk once"),
    ("<rasd:Connection>VM Network<", "<rasd:Connection>other<", "not declared"),
    ('ovf:required="false"', "", "is required"),
    ('ovf:required="false"', 'ovf:required="true"', "is required"),
    ("byte * 2^20", "byte * 2^2", "units are not known"),
    ("<rasd:ResourceType>6<", "<rasd:ResourceType>1<", "which VirtualBox does not know"),
    ("<rasd:ElementName>Hard Disk 1</rasd:ElementName>", "", "no ElementName"),
    ("vssd:VirtualSystemType>", "vssd:Weight>", "no VirtualSystemType"),
    ("rasd:AutomaticAllocation>", "rasd:Zebra>", "unknown child"),
    ("rasd:Description>", "rasd:Zebra>", "out of order"),
    ("envelope/1", "envelope/2", "no Envelope"),
    ("<Envelope", "<!DOCTYPE Envelope><Envelope", "DOCTYPE"),
]


@pytest.mark.parametrize(("right", "wrong", "broken"), _BROKEN, ids=[f"{n}-{row[2]}" for n, row in enumerate(_BROKEN)])
def test_the_rules_notice_what_is_wrong(right: str, wrong: str, broken: str) -> None:
    machine = Machine("web", firmware=Firmware.BIOS, interfaces=(NetworkInterface("VM Network"),))
    good = descriptor(pack(machine, [b"", b""])[0]).decode()
    assert broken_rules(good.encode()) == []
    assert right in good
    found = broken_rules(good.replace(right, wrong).encode())
    assert any(broken in one for one in found), found


def test_the_rules_notice_disks_that_are_not_in_the_order_of_files() -> None:
    good = descriptor(pack(BARE, [b"", b""])[0]).decode()
    swapped = good.replace('fileRef="file1"', 'fileRef="X"').replace('fileRef="file2"', 'fileRef="file1"')
    found = broken_rules(swapped.replace('fileRef="X"', 'fileRef="file2"').encode())
    assert found == ["the Disks are not in the order of their Files"]


def test_the_namespaces_are_those_that_virt_v2v_looks_for() -> None:
    root = etree.fromstring(descriptor(pack(BARE, [b""])[0]))
    assert root.nsmap[None] == "http://schemas.dmtf.org/ovf/envelope/1"
    assert root.nsmap["rasd"] == RASD

"""What each hypervisor's own description says beyond the common: buses, snapshots, encryption, and its own oddities."""

from __future__ import annotations

import random
import struct
import subprocess
import time
from pathlib import Path

import pytest

from tests.appliances.folders import IDE, Values, hyperv_tree, hyperv_xml, libvirt, vbox, vmcx, vmcx_of, vmx
from vmferry.appliances import find_description, open_appliance
from vmferry.appliances._vmcx import read_vmcx
from vmferry.appliances.vmx import parse_vmx
from vmferry.errors import CorruptDiskError, UnsafeDiskError, UnsupportedFeatureError, VmferryError
from vmferry.folder import LocalFolder, MemoryFolder
from vmferry.formats import open_disk
from vmferry.machine import Appliance, Firmware, MachineDisk

GIB = 1 << 30
ANY = {f"{letter}.img": letter.encode() for letter in "abcdef"} | {"web-000001.vmdk": b"", "a.avhdx": b""}


def opened(name: str, content: bytes | str, files: dict[str, bytes] | None = None) -> Appliance:
    text = content.encode() if isinstance(content, str) else content
    folder = MemoryFolder({name: text} | (ANY if files is None else files), "vm")
    return open_appliance(folder.open(name), folder)


def places(appliance: Appliance) -> list[tuple[str, str | None, int, int]]:
    return [(disk.name, disk.bus, disk.controller, disk.unit) for disk in appliance.machine.disks]


# VMware


def test_vmx_disks_stand_by_bus_controller_and_place() -> None:
    content = "\n".join(
        f'{place}.fileName = "{letter}.img"\n{place}.present = "TRUE"'
        for letter, place in zip(
            "abcdef", ["nvme0:0", "sata0:3", "scsi1:0", "scsi0:10", "scsi0:2", "ide0:1"], strict=True
        )
    )
    assert places(opened("w.vmx", content)) == [
        ("f.img", "ide", 0, 1), ("e.img", "scsi", 0, 2), ("d.img", "scsi", 0, 10), ("c.img", "scsi", 1, 0),
        ("b.img", "sata", 0, 3), ("a.img", "nvme", 0, 0),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "more",
    [
        'scsi0:1.present = "FALSE"\nscsi0:1.fileName = "b.img"',
        'scsi1.present = "FALSE"\nscsi1:0.present = "TRUE"\nscsi1:0.fileName = "b.img"',
        'sata0:0.present = "TRUE"\nsata0:0.deviceType = "cdrom-raw"\nsata0:0.fileName = "auto detect"',
        'SCSI0:1.FILENAME = ""',
        'scsi0:1.present = "TRUE"\nscsi0:1.fileName = "/dev/sg0"\nscsi0:1.deviceType = "scsi-passthru"',
        "scsi0:1.fileName is not there",
        'floppy0.fileName = "b.img"',
    ],
)
def test_vmx_drives_that_are_absent_or_no_disks_are_left_out(more: str) -> None:
    assert list(opened("w.vmx", vmx(["a.img"], more)).blobs) == ["a.img"]


def test_vmx_says_what_it_took_from_elsewhere_and_what_is_a_snapshot() -> None:
    appliance = opened("w.vmx", vmx(["[datastore1] web/a.img", "/vmfs/volumes/5f/web/b.img", "web-000001.vmdk"]))
    assert appliance.machine.notes == (
        "web-000001.vmdk looks like a snapshot's: what it was made from is given with --parent.",
        "/web/a.img is taken to be a.img, which lies beside the description.",
        "/vmfs/volumes/5f/web/b.img is taken to be b.img, which lies beside the description.",
    )
    assert appliance.machine.hardware_family == "vmx-19"
    assert appliance.machine.guest_os == "debian11-64"


@pytest.mark.parametrize("encoding", ["windows-1252", "GBK", "Shift_JIS", "UTF-8", "big5", "no-such", "punycode"])
def test_vmx_is_read_in_its_own_encoding(encoding: str) -> None:
    name = {"windows-1252": "é", "UTF-8": "é虚"}.get(encoding, "日")
    known = encoding not in ("no-such", "punycode")
    text = f'.encoding = "{encoding}"\r\ndisplayName = "{name}"\r\nscsi0:0.fileName = "{name}.img"\r\n'
    content = text.encode(encoding if known else "utf-8")
    appliance = opened("w.vmx", content, {f"{name}.img": b"1"})
    assert appliance.machine.name == name


def test_vmx_values_may_be_escaped_bare_or_twice() -> None:
    content = (
        b'\xef\xbb\xbf#!/usr/bin/vmware\n#c\n\na = "x|22y|7C"\nB = TRUE\nb="last"\n  c  =  ""  \nno\n= "x"\nd = "1" 2\n'
    )
    assert parse_vmx(content, "w.vmx") == {"a": 'x"y|', "b": "last", "c": ""}


def test_vmx_encrypted_or_empty_is_refused() -> None:
    with pytest.raises(UnsupportedFeatureError, match="is encrypted"):
        opened("w.vmx", vmx(["a.img"], 'encryption.keySafe = "vmware:key/list/..."'))
    with pytest.raises(UnsupportedFeatureError, match="no disk with contents"):
        opened("w.vmx", 'displayName = "x"')


@pytest.mark.slow
@pytest.mark.parametrize(
    "line", [b'scsi0:0.fileName = "a.img"\n', b"\n", b"\r", b'k = "' + b"|22" * 2000 + b'"\n', b"a=\n"]
)
def test_vmx_with_lines_without_end_costs_little(line: bytes) -> None:
    begun = time.process_time()
    for size in (1 << 20, 7 << 20):
        with pytest.raises(VmferryError):
            opened("w.vmx", b'a = "1"\n' + line * (size // len(line)), {})
    assert time.process_time() - begun < 6


def test_vmx_values_that_make_no_sense_are_noted() -> None:
    machine = opened("w.vmx", vmx(["a.img"], 'numvcpus = "1e9"\nmemsize = "-4"\nfirmware = "coreboot"')).machine
    assert (machine.cpus, machine.memory, machine.firmware) == (1, GIB, None)
    assert len(machine.notes) == 2


def test_vmx_disks_find_their_extent_files_beside_them(tmp_path: Path) -> None:
    """A whole VMware folder on disk: the descriptor names the flat file, the folder has it."""
    content = bytes(1 << 20) + random.Random(1).randbytes(1 << 20) + bytes(1 << 20)
    (tmp_path / "raw").write_bytes(content)
    root = tmp_path / "web"
    root.mkdir()
    words = [
        "convert",
        "-f",
        "raw",
        "-O",
        "vmdk",
        "-o",
        "subformat=monolithicFlat",
        tmp_path / "raw",
        root / "web.vmdk",
    ]
    subprocess.run(["qemu-img", *map(str, words)], check=True)
    (root / "web.vmx").write_bytes(vmx(["/vmfs/volumes/5f/web/web.vmdk"]))
    folder = LocalFolder(root)
    appliance = open_appliance(folder.open(find_description(folder)), folder)
    disk = open_disk(appliance.blobs["web.vmdk"], None, appliance.companions["web.vmdk"])
    assert disk.size == len(content)
    assert bytes(disk.read_at(0, disk.size)) == content
    disk.close()
    appliance.close()


# VirtualBox


def test_vbox_controllers_may_stand_in_the_hardware() -> None:
    assert places(opened("w.vbox", vbox(["a.img", "b.img"], in_hardware=True))) == [
        ("a.img", "sata", 0, 0), ("b.img", "sata", 0, 1),
    ]  # fmt: skip


def test_vbox_ide_has_two_places_on_each_port() -> None:
    content = vbox(["a.img", "b.img"]).replace(b'type="AHCI"', b'type="PIIX4"').replace(b'device="0"', b'device="1"')
    assert places(opened("w.vbox", content)) == [("a.img", "ide", 0, 1), ("b.img", "ide", 0, 3)]


def test_vbox_takes_the_disk_as_it_is_now_and_names_its_parents() -> None:
    nested = (
        b'<HardDisk uuid="{9}" location="a.img" format="VDI"><HardDisk uuid="{8}" location="b.img" format="VDI">'
        b'<HardDisk uuid="{0}" location="c.img" format="VDI"/></HardDisk></HardDisk>'
    )
    content = vbox(["x"]).replace(b'<HardDisk uuid="{0}" location="x" format="VDI" type="Normal"/>', nested)
    appliance = opened("w.vbox", content)
    assert list(appliance.blobs) == ["c.img"]
    (note,) = appliance.machine.notes
    assert note.startswith("c.img holds only what changed since a snapshot: its parents are given with --parent")
    assert note.endswith("nearest first: b.img, a.img.")


@pytest.mark.parametrize(
    ("old", "new", "error", "said"),
    [
        (b'type="Normal"/>', b'><Property name="CRYPT/KeyId"/></HardDisk>', UnsupportedFeatureError, "encrypted"),
        (b"<Machine ", b"<MachineEncrypted/><Machine ", UnsupportedFeatureError, "is encrypted"),
        (b"Machine", b"Other", CorruptDiskError, "describes no machine"),
        (b'Image uuid="{0}"', b'Image uuid="{7}"', CorruptDiskError, "not in the machine's own list"),
        (b'location="a.img"', b"", CorruptDiskError, "no uuid or location"),
        (b"<DVDImages/>", b'<HardDisks><HardDisk uuid="{0}" location="b"/></HardDisks>', CorruptDiskError, "twice"),
        (b"<DVDImages/>", b"<HardDisks>" + b"".join(b'<HardDisk uuid="%d" location="x"/>' % n for n in range(99, 2000))
         + b"</HardDisks>", UnsafeDiskError, "more than 1,024 disks"),
    ],
)  # fmt: skip
def test_vbox_that_cannot_be_read_says_why(old: bytes, new: bytes, error: type[VmferryError], said: str) -> None:
    content = vbox(["a.img"])
    assert old in content
    with pytest.raises(error, match=said):
        opened("w.vbox", content.replace(old, new))


def test_vbox_without_firmware_is_left_to_the_disk_and_a_saved_state_is_noted() -> None:
    content = vbox(["a.img"]).replace(b'<Firmware type="EFI"/>', b"").replace(b"OSType=", b'stateFile="x.sav" OSType=')
    machine = opened("w.vbox", content).machine
    assert machine.firmware is None
    assert "suspended" in machine.notes[0]
    assert (machine.guest_os, machine.interfaces[0].model) == ("Debian_64", "82540EM")


# libvirt


@pytest.mark.parametrize(
    ("memory", "size"),
    [("<memory>1048576</memory>", GIB), ('<memory unit="GiB">2</memory>', 2 * GIB),
     ('<memory unit="MB">5</memory>', 5 * 10**6),
     ('<memory unit="furlong">5</memory>', GIB), ("<memory>-1</memory>", GIB), ('<memory unit="b">77</memory>', 77)],
)  # fmt: skip
def test_libvirt_memory_has_units(memory: str, size: int) -> None:
    content = libvirt(["a.img"]).decode().replace('<memory unit="MiB">3072</memory>', memory)
    assert opened("d.xml", content).machine.memory == size


@pytest.mark.parametrize(
    ("system", "firmware"),
    [('<os firmware="efi">', Firmware.UEFI), ("<os>", None), ('<os firmware="bios">', Firmware.BIOS),
     ('<os><loader readonly="yes" type="pflash">/x/OVMF.fd</loader>', Firmware.UEFI),
     ('<os><loader type="rom"/>', None)],
)  # fmt: skip
def test_libvirt_firmware(system: str, firmware: Firmware | None) -> None:
    content = libvirt(["a.img"]).decode().replace('<os firmware="efi">', system)
    machine = opened("d.xml", content).machine
    assert machine.firmware is firmware
    assert (machine.guest_os, machine.hardware_family) == ("debian.org/debian/12", "pc-q35-7.2")


def test_libvirt_disks_stand_in_boot_order() -> None:
    content = libvirt(["a.img", "b.img", "c.img"], "raw").decode()
    content = content.replace('<target dev="vdc" bus="virtio"/>', '<target dev="sdaa" bus="scsi"/><boot order="1"/>')
    content = content.replace(
        '<target dev="vdb" bus="virtio"/>',
        '<target dev="sdb" bus="sata"/><address type="drive" controller="2" bus="0" target="0" unit="5"/>',
    )
    appliance = opened("d.xml", content)
    assert places(appliance) == [("c.img", "scsi", 0, 26), ("a.img", "virtio", 0, 0), ("b.img", "sata", 2, 5)]
    assert {disk.format_hint for disk in appliance.machine.disks} == {"raw"}


@pytest.mark.parametrize(
    ("old", "new", "error", "said"),
    [
        ('<source file="a.img"/>', '<source dev="/dev/sda"/>', UnsupportedFeatureError, "the disk vda is no file"),
        ('<source file="a.img"/>', '<source protocol="rbd" name="p/a"/>', UnsupportedFeatureError, "is no file"),
        ('<source file="a.img"/>', "", UnsupportedFeatureError, "is no file"),
        ('<source file="a.img"/>', '<source file="a.img"><encryption format="luks"/></source>', UnsupportedFeatureError,
         "is encrypted"),
        ('device="disk"', 'device="lun"', UnsupportedFeatureError, r"is no file \(file\)"),
        ("<devices>", "<devices>" + "<interface/>" * 5000, UnsafeDiskError, "more than 4,096 devices"),
    ],
)  # fmt: skip
def test_libvirt_disks_that_are_no_files_are_refused(old: str, new: str, error: type[VmferryError], said: str) -> None:
    content = libvirt(["a.img"]).decode()
    assert old in content
    with pytest.raises(error, match=said):
        opened("d.xml", content.replace(old, new))


def test_libvirt_overlays_are_noted() -> None:
    backing = '<backingStore type="file"><format type="qcow2"/><source file="/base.img"/></backingStore>'
    content = libvirt(["a.img"]).decode().replace('<target dev="vda"', backing + '<target dev="vda"')
    assert "given with --parent" in opened("d.xml", content).machine.notes[0]
    content = content.replace(backing, "<backingStore/>")
    assert opened("d.xml", content).machine.notes == ()


# Hyper-V


def generation_1() -> Values:
    tree: dict[str, Values | str | int | bytes] = dict(hyperv_tree([]))
    tree["manifest"] = {
        "vdev001": {"device": IDE.upper(), "instance": "{CCCC-3}"},
        "vdev002": {"device": "d422512d-2bf2-4752-809d-7b82b5fcb1b4", "instance": "dddd-4"},
        "vdev003": {"device": "d422512d-2bf2-4752-809d-7b82b5fcb1b4", "instance": "aaaa-1"},
    }
    disk = {"type": "VHD", "pathname": "C:\\a.avhdx"}
    tree["_CCCC-3_"] = {
        "controller1": {"drive1": disk},
        "controller0": {"drive0": {"type": "VHD", "pathname": "b.img"}},
    }
    tree["_dddd-4_"] = {"controller0": {"drive3": {"type": "VHD", "pathname": "c.img"}, "drive4": {"type": "PHYSICAL"}}}
    tree["_aaaa-1_"] = {"controller0": {"drive0": {"type": "VHD", "pathname": "d.img"}}}
    tree["properties"] = {"name": "old", "subtype": 0}
    return tree


def test_hyperv_generation_1_boots_from_ide() -> None:
    appliance = opened("v.vmcx", vmcx_of({"configuration": generation_1()}))
    assert places(appliance) == [
        ("b.img", "ide", 0, 0), ("a.avhdx", "ide", 1, 1), ("c.img", "scsi", 0, 3), ("d.img", "scsi", 1, 0),
    ]  # fmt: skip
    assert appliance.machine.firmware is Firmware.BIOS
    assert appliance.machine.notes == (
        "A drive that is no file (PHYSICAL) is left out.",
        "C:\\a.avhdx is a checkpoint's: what it was made from is given with --parent, nearest first.",
    )


def test_vmcx_and_xml_say_the_same() -> None:
    paths = ["C:\\VMs\\a.img", "b.img", "C:\\VMs\\" + "deep\\" * 40 + "c.img"]
    one, other = opened("v.vmcx", vmcx(paths)).machine, opened("v.xml", hyperv_xml(paths)).machine
    assert one == other
    assert one.disks[2] == MachineDisk("c.img", None, "scsi", 0, 2)


@pytest.mark.parametrize("counted", [False, True])
def test_vmcx_strings_may_lie_apart(counted: bool) -> None:
    content = vmcx_of({"a": "x" * 5000, "b": "short", "c": 2**63 - 1, "d": -1}, counted=counted)
    assert read_vmcx(content, "v.vmcx") == {"a": "x" * 5000, "b": "short", "c": str(2**63 - 1), "d": "-1"}


def test_vmcx_newer_tables_win_and_freed_keys_do_not_count() -> None:
    content = bytearray(vmcx(["a.img"]))
    older = bytearray(vmcx(["b.img"]))
    table = older[0x4000:0x8000]
    struct.pack_into("<H", table, 4, 0)  # its sequence number
    content[0x20000:0x24000] = table
    struct.pack_into("<BIQIB", content, 0x2008 + 18, 2, 0, 0x20000, 0x4000, 1)
    assert list(opened("v.vmcx", bytes(content)).blobs) == ["a.img"]
    struct.pack_into("<H", content, 0x20004, 9)
    assert list(opened("v.vmcx", bytes(content)).blobs) == ["b.img"]


def deep(levels: int) -> bytes:
    tree: Values = {"x": 1}
    for _ in range(levels):
        tree = {"n": tree}
    return vmcx_of(tree)


def circle() -> bytes:
    """Two nodes that are each other's parent."""
    content = bytearray(vmcx_of({"a": {"b": {"c": 1}}}))
    first = 0x4000 + 10
    second = first + 21 + 2
    struct.pack_into("<HI", content, first + 6, 1, second - 0x4000)
    return bytes(content)


def test_vmcx_that_is_hostile_is_refused_or_read_as_far_as_it_goes() -> None:
    assert read_vmcx(circle(), "v.vmcx") == {}
    assert read_vmcx(deep(20), "v.vmcx") != {}
    with pytest.raises(UnsafeDiskError, match="nested over 32 deep"):
        read_vmcx(deep(40), "v.vmcx")
    with pytest.raises(UnsafeDiskError, match="more than 65,536 keys"):
        read_vmcx(vmcx_of({f"k{n}": 1 for n in range(70_000)}), "v.vmcx")
    many = bytearray(vmcx([])) + bytes(2 << 20)
    struct.pack_into("<I", many, 0x2004, 0xFFFFFFFF)
    with pytest.raises(UnsafeDiskError, match="more than 65,536 objects"):
        read_vmcx(bytes(many), "v.vmcx")
    for content in (b"", b"\x14\x20\x28\x01", vmcx([])[:0x2000], bytes(0x5000)):
        with pytest.raises(CorruptDiskError, match="no Hyper-V configuration"):
            read_vmcx(content, "v.vmcx")


def test_hyperv_without_disks_says_to_name_them() -> None:
    for name, content in (("v.vmcx", vmcx([])), ("v.xml", hyperv_xml([]))):
        with pytest.raises(CorruptDiskError, match=r"name the disks \(\.vhdx\) themselves"):
            opened(name, content)

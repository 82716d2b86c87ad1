"""Descriptors: every dialect gives the same machine; what is odd is said, what is wrong is refused."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.appliances.descriptors import DIALECTS, OVIRT, VIRTUALBOX_1, VIRTUALBOX_2, VMWARE
from tests.appliances.ova_builder import DISK, NAMESPACES, envelope, item
from vmferry.appliances._ovf import Ovf, parse_ovf
from vmferry.appliances._units import parse_quantity
from vmferry.errors import CorruptDiskError, UnsafeDiskError, UnsupportedFeatureError, VmferryError
from vmferry.machine import Firmware

GIB = 1 << 30
MIB = 1 << 20


def parse(content: bytes | str) -> Ovf:
    return parse_ovf(content.encode() if isinstance(content, str) else content, "vm.ova:vm.ovf")


def hrefs(ovf: Ovf) -> list[str | None]:
    return [disk.file.href if disk.file else None for disk in ovf.disks]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_tells_of_the_same_machine(dialect: str) -> None:
    ovf = parse(DIALECTS[dialect])
    assert ovf.name == "web"
    assert ovf.hardware.cpus == 4
    assert ovf.hardware.memory == 3 * GIB
    assert hrefs(ovf) == ["web-1.vmdk", "web-2.vmdk"]
    assert [disk.capacity for disk in ovf.disks] == [16 * GIB, 40 * GIB]
    assert len(ovf.hardware.interfaces) == 1
    assert "debian" in (ovf.guest_os or "").lower()
    assert ovf.notes == []


def test_the_second_version_of_virtualbox_has_typed_items() -> None:
    assert "<StorageItem>" in VIRTUALBOX_2
    assert "<EthernetPortItem>" in VIRTUALBOX_2


def test_the_details_of_vmware_and_virtualbox() -> None:
    vmware, virtualbox = parse(VMWARE), parse(VIRTUALBOX_1)
    assert vmware.firmware == virtualbox.firmware == Firmware.UEFI
    assert vmware.hardware_family == "vmx-13"
    assert virtualbox.hardware_family == "virtualbox-2.2"
    assert vmware.guest_os == "debian10_64Guest"
    assert [(d.drive.bus, d.drive.controller, d.drive.unit) for d in vmware.disks] == [("scsi", 0, 5), ("scsi", 1, 0)]
    assert [(d.drive.bus, d.drive.controller, d.drive.unit) for d in virtualbox.disks] == [
        ("sata", 0, 0),
        ("sata", 0, 3),
    ]
    (card,) = vmware.hardware.interfaces
    assert (card.network, card.model, card.mac) == ("VM Network", "VmxNet3", None)
    assert "streamOptimized" in (vmware.disks[0].format or "")


def test_an_export_domain_of_ovirt_refers_to_files_by_their_names() -> None:
    content = OVIRT.replace('ovf:href="web-1.vmdk"', 'ovf:href="group-1/image-1"').replace(
        'ovf:capacity="17179869184" ovf:fileRef="image-1"',
        'ovf:size="16" ovf:parentRef="" ovf:fileRef="group-1/image-1"',
    )
    first, second = parse(content).disks
    assert first.file is not None
    assert (first.file.href, first.file.size, first.capacity) == ("group-1/image-1", 4, None)
    assert second.file is not None
    assert second.file.href == "web-2.vmdk"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "iso-8859-1"])
def test_byte_order_marks_and_encodings(encoding: str) -> None:
    text = VMWARE.replace('encoding="UTF-8"', f'encoding="{encoding.removesuffix("-sig")}"').replace(">web<", ">wéb<")
    if encoding in ("utf-16-le", "utf-16-be"):
        text = "\ufeff" + text.replace(encoding, "utf-16")
    assert parse(text.encode(encoding)).name == "wéb"


@pytest.mark.parametrize(
    ("config", "firmware"),
    [
        ("", None),
        ('<vmw:Config ovf:required="false" vmw:key="firmware" vmw:value="bios"/>', Firmware.BIOS),
        ('<vmw:Config vmw:key="firmware" vmw:value="EFI"/>', Firmware.UEFI),
        ('<vmw:Config vmw:key="firmware" vmw:value="coreboot"/>', None),
        ('<vmw:Config vmw:key="tools" vmw:value="efi"/>', None),
    ],
)
def test_firmware_is_what_the_descriptor_says_and_unknown_otherwise(config: str, firmware: Firmware | None) -> None:
    items = item(6, 3) + item(17, 4, "Parent=3;HostResource=ovf:/disk/d1") + config
    assert parse(envelope(items=items)).firmware == firmware


@pytest.mark.parametrize(
    ("text", "units", "size"),
    [
        ("1024", "byte * 2^20", GIB), ("1", "byte * 2 ^ 30", GIB), ("3", "byte*1024*1024", 3 * MIB), ("7", None, 7),
        ("1", "byte * 10^6", 10**6), ("2", "MegaBytes", 2 * MIB), ("2", "MB", 2 * MIB), ("2", "gigabytes", 2 * GIB),
        ("5", "KiloBytes", 5120), (" 10 ", "byte", 10), ("9223372036854775808", "byte", 1 << 63),
        ("9223372036854775809", "byte", None), ("1", "byte * 2^999999999", None), ("1", "byte * 99^99", None),
        ("1e309", "byte", None), ("0x10", "byte", None), ("-1", "byte", None), ("1.5", "GB", None), ("", "byte", None),
        ("١", "byte", None), ("1", "furlong", None), ("1", "hertz * 10^6", None), ("1", "byte * 2^", None),
        ("1", "byte * 0", None), ("9" * 400, "byte", None), ("1", "byte" + " * 2" * 10_000, None), (None, "byte", None),
        ("1", "byte * 2^63", 1 << 63), ("2", "byte * 2^63", None),
    ],
)  # fmt: skip
def test_quantities(text: str | None, units: str | None, size: int | None) -> None:
    assert parse_quantity(text, units) == size


@settings(deadline=None)
@given(st.text(max_size=40), st.text(alphabet="byteKMG0123456789 *^", max_size=40))
def test_quantities_are_bounded_whatever_they_say(text: str, units: str) -> None:
    size = parse_quantity(text, units)
    assert size is None or 0 <= size <= 1 << 63


def test_disks_follow_controllers_and_places_not_names_or_the_order_of_items() -> None:
    files = "".join(f'<File ovf:href="{n}.vmdk" ovf:id="f{n}"/>' for n in "abcdef")
    disks = "".join(f'<Disk ovf:capacity="9" ovf:diskId="d{n}" ovf:fileRef="f{n}"/>' for n in "abcdef")
    items = (
        item(6, 20, "Address=1")
        + item(6, 21, "Address=0")
        + item(20, 30, "ResourceSubType=vmware.nvme.controller")
        + item(17, 1, "Parent=30;AddressOnParent=0;HostResource=ovf:/disk/da")
        + item(17, 2, "Parent=20;AddressOnParent=2;HostResource=ovf:/disk/db")
        + item(17, 3, "Parent=21;AddressOnParent=10;HostResource=ovf:/disk/dc")
        + item(17, 4, "Parent=21;AddressOnParent=2;HostResource=ovf:/disk/dd")
        + item(17, 5, "Parent=99;HostResource=ovf:/file/fe")
        + item(17, 6, "Parent=20;AddressOnParent=0;HostResource=ovf:/disk/df")
    )
    ovf = parse(envelope(files=files, disks=disks, items=items))
    assert hrefs(ovf) == ["d.vmdk", "c.vmdk", "f.vmdk", "b.vmdk", "a.vmdk", "e.vmdk"]
    assert [(d.drive.bus, d.drive.controller, d.drive.unit) for d in ovf.disks] == [
        ("scsi", 0, 2), ("scsi", 0, 10), ("scsi", 1, 0), ("scsi", 1, 2), ("nvme", 0, 0), (None, 0, 0),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "subtype", "bus"),
    [(5, "PIIX4", "ide"), (6, "lsilogicsas", "scsi"), (6, "VirtualSCSI", "scsi"), (6, "virtio-scsi", "virtio"),
     (20, "AHCI", "sata"), (20, "vmware.sata.ahci", "sata"), (20, "NVMe", "nvme"), (20, "VirtioSCSI", "virtio"),
     (20, "", "sata"), (20, "vmware.nvdimm.controller", None)],
)  # fmt: skip
def test_buses(kind: int, subtype: str, bus: str | None) -> None:
    items = item(kind, 3, f"ResourceSubType={subtype}") + item(17, 4, "Parent=3;HostResource=ovf:/disk/d1")
    assert parse(envelope(items=items)).disks[0].drive.bus == bus


def test_only_the_default_configuration_and_no_bounds_count() -> None:
    section = (
        "<DeploymentOptionSection><Info>Sizes</Info>{}<Configuration ovf:id='large'><Label/></Configuration>"
        "</DeploymentOptionSection>"
    )
    items = (
        item(3, 1, "VirtualQuantity=1", 'ovf:bound="min"')
        + item(3, 1, "VirtualQuantity=64", 'ovf:bound="max"')
        + item(3, 1, "VirtualQuantity=2")
        + item(3, 1, "VirtualQuantity=8", 'ovf:configuration="large huge"')
        + item(6, 3)
        + item(17, 4, "Parent=3;HostResource=ovf:/disk/d1")
    )
    for first, cpus in (("<Configuration ovf:id='small'/>", 2), ("", 8)):
        assert parse(envelope(items=items, sections=section.format(first))).hardware.cpus == cpus
    default = section.format("<Configuration ovf:id='small'/>").replace("'large'", "'large' ovf:default='true'")
    assert parse(envelope(items=items, sections=default)).hardware.cpus == 8
    assert parse(envelope(items=items)).hardware.cpus == 2


def test_a_machine_alone_in_a_collection_is_read_and_two_are_named() -> None:
    one = envelope().decode()
    alone = one.replace("<VirtualSystem ", "<VirtualSystemCollection><VirtualSystem ").replace(
        "</VirtualSystem>", "</VirtualSystem></VirtualSystemCollection>"
    )
    assert parse(alone).name == "web"
    system = alone[alone.index("<VirtualSystem ") : alone.index("</VirtualSystem>") + 16]
    two = alone.replace(system, system + system.replace('ovf:id="vm"', 'ovf:id="database"'))
    with pytest.raises(UnsupportedFeatureError, match="2 virtual machines, vm, database: export each"):
        parse(two)


def test_a_capacity_may_be_a_property() -> None:
    disk = (
        '<Disk ovf:capacity="${size}" ovf:capacityAllocationUnits="byte * 2^30" ovf:diskId="d1" ovf:fileRef="file1"/>'
    )
    product = '<ProductSection><Property ovf:key="size" ovf:type="uint32" ovf:value="12"/></ProductSection>'
    assert parse(envelope(disks=disk, system=product)).disks[0].capacity == 12 * GIB
    ovf = parse(envelope(disks=disk))
    assert ovf.disks[0].capacity is None
    assert "property" in ovf.notes[0]


def test_disks_that_no_drive_holds() -> None:
    two = DISK + DISK.replace('"d1"', '"d2"')
    assert "left out: d2" in parse(envelope(disks=two)).notes[0]
    ovf = parse(envelope(disks=two, items=item(3, 1, "VirtualQuantity=1")))
    assert [disk.id for disk in ovf.disks] == ["d1", "d2"]
    assert "no drive" in ovf.notes[0]


def test_a_disk_in_two_drives_is_taken_once() -> None:
    items = item(6, 3) + item(17, 4, "Parent=3;HostResource=ovf:/disk/d1") * 2
    ovf = parse(envelope(items=items))
    assert len(ovf.disks) == 1
    assert "taken once" in ovf.notes[0]


def test_values_that_make_no_sense_are_noted() -> None:
    items = (
        item(3, 1, "VirtualQuantity=many")
        + item(4, 2, "VirtualQuantity=1e309;AllocationUnits=byte")
        + item(6, 3, "Address=999999999999999999999")
        + item(17, 4, "Parent=3;AddressOnParent=-5;HostResource=ovf:/disk/d1")
    )
    ovf = parse(envelope(items=items))
    assert (ovf.hardware.cpus, ovf.hardware.memory) == (1, GIB)
    assert len(ovf.notes) == 2
    assert "1e309" in ovf.notes[1]


def test_what_is_unknown_is_passed_over() -> None:
    sections = "<StrangeSection ovf:required='true'><File/><Disk/><Item/></StrangeSection>"
    foreign = item(3, 1, "VirtualQuantity=99").replace("Item ", "vmw:Item ").replace("/Item", "/vmw:Item")
    begin = "<VirtualHardwareSection>"
    assert parse(wrong(begin, begin + foreign)).hardware.cpus == 1
    ovf = parse(envelope(sections=sections, system=sections))
    assert hrefs(ovf) == ["disk1.vmdk"]
    assert ovf.notes == []


def test_an_item_without_contents_is_an_empty_drive() -> None:
    items = item(6, 3) + item(17, 9, "Parent=3") + item(17, 4, "Parent=3;HostResource=ovf:/disk/d1")
    assert hrefs(parse(envelope(items=items))) == ["disk1.vmdk"]


def test_an_empty_disk_has_no_file() -> None:
    disk = '<Disk ovf:capacity="10" ovf:capacityAllocationUnits="byte * 2^30" ovf:diskId="d1"/>'
    (empty,) = parse(envelope(disks=disk)).disks
    assert empty.file is None
    assert empty.capacity == 10 * GIB


def wrong(old: str, new: str) -> bytes:
    content = envelope().decode()
    assert old in content
    return content.replace(old, new).encode()


@pytest.mark.parametrize(
    ("content", "error", "said"),
    [
        (b"", CorruptDiskError, "not well-formed"),
        (b"<Envelope>", CorruptDiskError, "not well-formed"),
        (b"\xff\xfe\x00", CorruptDiskError, "not well-formed"),
        (b"<?xml version='1.0' encoding='no-such'?><Envelope/>", CorruptDiskError, "not well-formed"),
        (b"<domain/>", CorruptDiskError, "its root is domain"),
        (b"<Envelope/>", CorruptDiskError, "no virtual machine"),
        (wrong("VirtualHardwareSection>", "Other>"), CorruptDiskError, "no hardware"),
        (wrong('ovf:fileRef="file1"', 'ovf:fileRef="file9"'), CorruptDiskError, "file9"),
        (wrong("ovf:/disk/d1", "ovf:/disk/d9"), CorruptDiskError, "ovf:/disk/d9, which is not described"),
        (wrong("ovf:/disk/d1", "ovf:/file/d9"), CorruptDiskError, "ovf:/file/d9, which is not described"),
        (wrong("ovf:/disk/d1", "disk1.vmdk"), CorruptDiskError, "disk1.vmdk, which is not described"),
        (wrong('ovf:href="disk1.vmdk"', ""), CorruptDiskError, "file1"),
        (wrong(' ovf:id="file1"', ""), CorruptDiskError, "a File has no id"),
        (wrong(DISK, DISK + DISK), CorruptDiskError, "describes d1 twice"),
        (wrong('capacity="1"', 'capacity="0"'), CorruptDiskError, "the capacity of the disk d1, 0 byte"),
        (wrong('capacity="1"', 'capacity="-1"'), CorruptDiskError, "the capacity of the disk d1, -1"),
        (wrong('capacity="1"', 'capacity="1e309"'), CorruptDiskError, "1e309"),
        (wrong('capacity="1"', 'capacity="99999999999"'), CorruptDiskError, "no size from 1 to 2\\^63"),
        (wrong("2^30", "2^999999999"), CorruptDiskError, "2\\^999999999"),
        (wrong("<Disk ", '<Disk ovf:parentRef="d0" '), UnsupportedFeatureError, "parentRef"),
    ],
)
def test_what_is_wrong_is_refused_with_the_reason(content: bytes, error: type[VmferryError], said: str) -> None:
    with pytest.raises(error, match=said) as refused:
        parse(content)
    assert "\n" not in str(refused.value)
    assert str(refused.value).startswith("vm.ova:vm.ovf")


LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))


@pytest.mark.parametrize(
    "prolog",
    [
        "<!DOCTYPE Envelope>",
        '<!DOCTYPE Envelope SYSTEM "http://127.0.0.1:1/x.dtd">',
        '<!DOCTYPE Envelope [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE Envelope [<!ENTITY % p SYSTEM "file:///etc/passwd"> %p;]>',
        f'<!DOCTYPE Envelope [<!ENTITY l0 "ha">{LAUGHS}]>',
        "<!doctype Envelope>",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_doctype_is_refused_before_it_is_parsed(prolog: str, encoding: str) -> None:
    text = f'<?xml version="1.0" encoding="{encoding}"?>{prolog}<Envelope {NAMESPACES}><Name>&x;&l9;</Name></Envelope>'
    with pytest.raises(UnsafeDiskError, match="DOCTYPE"):
        parse(text.encode(encoding))


def test_a_doctype_in_an_encoding_that_hides_it_is_refused_too() -> None:
    hidden = '<?xml version="1.0" encoding="UTF-7"?>+ADwAIQ-DOCTYPE Envelope+AD4APA-Envelope/+AD4-'
    with pytest.raises((UnsafeDiskError, CorruptDiskError)):
        parse(hidden)


def test_entities_that_nobody_declared_are_refused() -> None:
    with pytest.raises(CorruptDiskError, match="not well-formed"):
        parse(wrong("<Name>web", "<Name>&x;"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (envelope(items="<Item/>" * 1_000_000), "more than 300,000 tags"),
        (envelope(items="<Item/>" * 5000), "more than 4,?096 hardware items"),
        (
            envelope(system="<a " + " ".join(f'b{n}=""' for n in range(400_000)) + "/>"),
            "more than 300,000 tags or attrib",
        ),
        (envelope(system="<a>" * 100 + "</a>" * 100), "nested over 64 deep"),
        (envelope(system=" " * (9 << 20)), "at most 8 MiB is read"),
        (envelope(disks=DISK * 1500), "lists 1,500"),
        (envelope(files='<File ovf:id="f" ovf:href="x"/>' * 11_000), "lists 11,000"),
    ],
)
def test_what_is_beyond_all_bounds_is_refused_in_good_time(content: bytes, said: str) -> None:
    begun = time.monotonic()
    with pytest.raises(UnsafeDiskError, match=said):
        parse(content)
    assert time.monotonic() - begun < 3


def test_elements_nested_beyond_what_libxml2_takes_are_refused() -> None:
    with pytest.raises(VmferryError):
        parse(envelope(system="<a>" * 5000 + "</a>" * 5000))


def test_many_controllers_and_drives_cost_little() -> None:
    items = "".join(item(6, number) for number in range(2000))
    items += "".join(item(17, 5000 + n, f"Parent={n};HostResource=ovf:/disk/d1") for n in range(2000))
    begun = time.monotonic()
    ovf = parse(envelope(items=items))
    assert len(ovf.disks) == 1
    assert len(ovf.notes) == 50
    assert time.monotonic() - begun < 3


def test_names_out_of_the_file_are_harmless_where_they_are_shown() -> None:
    content = (
        envelope(system="<Description/>").decode().replace("<Name>web", "<Name>a&#x202e;b&#x9f;\u200f" + "n" * 5000)
    )
    name = parse(content).name
    assert len(name) <= 200
    assert "\u202e" not in name
    assert "\x9f" not in name


@settings(deadline=None, max_examples=250)
@given(st.sampled_from(sorted(DIALECTS)), st.data())
def test_flipped_bytes_give_a_machine_or_an_error_of_ours(dialect: str, data: st.DataObject) -> None:
    content = bytearray(DIALECTS[dialect].encode())
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.sampled_from(list(b'0129-/"<>&= ax\0\xff')))
    try:
        ovf = parse(bytes(content))
    except VmferryError:
        return
    assert len(ovf.disks) <= 2
    assert all(disk.capacity is None or 0 < disk.capacity <= 1 << 63 for disk in ovf.disks)

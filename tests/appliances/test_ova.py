"""Whole OVAs: opened in place, checked against their manifest, refused with the reason."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.appliances.descriptors import DIALECTS, VMWARE
from tests.appliances.ova_builder import (
    DISK,
    CountingBlob,
    envelope,
    item,
    make_ova,
    make_tar,
    manifest,
    tar_member,
)
from vmferry.appliances import PACKAGES, detect, open_appliance, verify
from vmferry.blob import FileBlob, MemoryBlob
from vmferry.errors import (
    CorruptDiskError,
    UnknownFormatError,
    UnsafeDiskError,
    UnsupportedFeatureError,
    VmferryError,
)
from vmferry.formats import open_disk
from vmferry.limits import MAX_MACHINE_DISKS
from vmferry.machine import Appliance

DISKS = {"web-2.vmdk": b"data!", "web-1.vmdk": b"root", "web-3.nvram": b"nvram!"}


def open_ova(content: bytes) -> Appliance:
    return open_appliance(MemoryBlob(content, "vm.ova"))


def read(appliance: Appliance) -> dict[str, bytes]:
    return {name: blob.read_at(0, blob.size) for name, blob in appliance.blobs.items()}


def test_the_registry_has_it() -> None:
    package = PACKAGES["ova"]
    assert (package.name, package.ec2_name) == ("ova", "OVA")
    assert detect(MemoryBlob(make_ova(envelope()))) is package


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("tar_format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_dialect_in_every_tar_gives_its_disks_in_boot_order(dialect: str, tar_format: int) -> None:
    files = {"web.ovf": DIALECTS[dialect].encode()} | DISKS
    listed = manifest(files)
    for order in ([*files, "web.mf"], ["web.mf", *reversed(files)]):
        everything = files | {"web.mf": listed}
        appliance = open_ova(make_tar({name: everything[name] for name in order}, tar_format))
        assert [disk.name for disk in appliance.machine.disks] == ["web-1.vmdk", "web-2.vmdk"]
        assert read(appliance) == {"web-1.vmdk": b"root", "web-2.vmdk": b"data!"}
        assert appliance.machine.notes == ()
        for name, digest in appliance.digests.items():
            verify(name, appliance.blobs[name], digest)
        assert set(appliance.digests) == set(appliance.blobs)
        appliance.close()
        appliance.close()


def test_a_real_ova_reads_as_qemu_img_reads_its_disk(tmp_path: Path) -> None:
    """The member is read in place: the guest bytes are those that went into the VMDK."""
    raw = tmp_path / "disk.raw"
    content = bytes(1 << 20) + bytes(range(256)) * 4096 + bytes(2 << 20)
    raw.write_bytes(content)
    vmdk = tmp_path / "disk1.vmdk"
    command = ["qemu-img", "convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized", str(raw), str(vmdk)]
    subprocess.run(command, check=True)
    path = tmp_path / "vm.ova"
    path.write_bytes(make_ova(envelope(), {"disk1.vmdk": vmdk.read_bytes()}))
    subprocess.run(["7z", "t", "-ttar", str(path)], check=True, capture_output=True)
    appliance = open_appliance(FileBlob(path))
    with_name = appliance.blobs["disk1.vmdk"]
    assert with_name.name == f"{path}:disk1.vmdk"
    disk = open_disk(with_name)
    assert disk.size == len(content)
    assert bytes(disk.read_at(0, disk.size)) == content
    assert appliance.machine.disks[0].capacity == 1 << 30
    appliance.close()


def test_opening_costs_few_reads_and_the_disks_are_not_among_them() -> None:
    files = {"vm.ovf": envelope(), "disk1.vmdk": bytes(8 << 20)}
    blob = CountingBlob(
        make_tar({"vm.ovf": files["vm.ovf"], "vm.mf": manifest(files), "disk1.vmdk": files["disk1.vmdk"]})
    )
    open_appliance(blob)
    assert blob.reads <= 6
    assert blob.bytes_read < 200_000


def test_the_machine_says_what_the_descriptor_says() -> None:
    machine = open_ova(make_tar({"web.ovf": VMWARE.encode()} | DISKS)).machine
    assert (machine.name, machine.cpus, machine.memory) == ("web", 4, 3 << 30)
    assert (machine.guest_os, machine.hardware_family) == ("debian10_64Guest", "vmx-13")
    first = machine.disks[0]
    assert (first.capacity, first.bus, first.controller, first.unit) == (16 << 30, "scsi", 0, 5)
    assert machine.notes == ("There is no manifest: the files are not verified.",)


def test_a_machine_without_a_name_is_called_like_its_descriptor() -> None:
    content = envelope().replace(b"<Name>web</Name>", b"").replace(b'ovf:id="vm"', b"")
    assert open_ova(make_ova(content, name="folder/My VM.OVF")).machine.name == "My VM"


@pytest.mark.parametrize(
    ("href", "member", "descriptor"),
    [
        ("disk 1.vmdk", "disk 1.vmdk", "vm.ovf"),
        ("disk%201.vmdk", "disk 1.vmdk", "vm.ovf"),
        ("disk%201.vmdk", "disk%201.vmdk", "vm.ovf"),
        ("./disk.vmdk", "disk.vmdk", "vm.ovf"),
        ("disk.vmdk", "folder/disk.vmdk", "folder/vm.ovf"),
        ("sub/disk.vmdk", "folder/sub/disk.vmdk", "folder/vm.ovf"),
        ("disk.vmdk", "elsewhere/disk.vmdk", "vm.ovf"),
        ("old-folder/disk.vmdk", "disk.vmdk", "vm.ovf"),
        ("虚拟机-1.vmdk", "虚拟机-1.vmdk", "vm.ovf"),
        ("é.vmdk", "e\u0301.vmdk", "vm.ovf"),
        ("disk.vmdk", "disk.vmdk.000000000", "vm.ovf"),
    ],
)
def test_hrefs_are_matched_to_members(href: str, member: str, descriptor: str) -> None:
    content = envelope(files=f'<File ovf:href="{href}" ovf:id="file1"/>')
    files = {descriptor: content, member: b"disk"}
    appliance = open_ova(make_tar(files | {descriptor[:-4] + ".mf": manifest({member.rpartition("/")[2]: b"disk"})}))
    assert read(appliance) == {member: b"disk"}
    assert list(appliance.digests) == [member]


def test_an_exact_name_wins_and_a_last_component_must_be_the_only_one() -> None:
    files = {"vm.ovf": envelope(), "other/disk1.vmdk": b"wrong", "disk1.vmdk": b"right"}
    assert read(open_ova(make_tar(files))) == {"disk1.vmdk": b"right"}
    files = {"vm.ovf": envelope(), "a/disk1.vmdk": b"?", "b/disk1.vmdk": b"?"}
    with pytest.raises(CorruptDiskError, match=r"disk1\.vmdk, which the descriptor refers to, is not in the package"):
        open_ova(make_tar(files))


@pytest.mark.parametrize(
    "href",
    ["../disk1.vmdk", "a/../../disk1.vmdk", "/etc/passwd", "http://h/disk1.vmdk", "file:///etc/passwd", "//h/d",
     "\\\\server\\share\\disk1.vmdk", "C:\\disk1.vmdk", "c:disk1.vmdk", "..%2fdisk1.vmdk", "%2fetc%2fpasswd", "json:{}",
     "s3://b/disk1.vmdk", "..", "a%00b/disk1.vmdk"],
)  # fmt: skip
def test_hrefs_that_lead_outside_are_refused(href: str) -> None:
    content = envelope(files=f'<File ovf:href="{href}" ovf:id="file1"/>')
    with pytest.raises(UnsafeDiskError, match="outside of the package"):
        open_ova(make_ova(content))


def test_chunks_are_put_together() -> None:
    content = envelope(files='<File ovf:href="disk.vmdk" ovf:id="file1" ovf:chunkSize="4" ovf:size="10"/>')
    chunks = {"disk.vmdk.000000000": b"0123", "disk.vmdk.000000001": b"4567", "disk.vmdk.000000002": b"89"}
    appliance = open_ova(make_ova(content, chunks))
    blob = appliance.blobs["disk.vmdk"]
    assert blob.size == 10
    assert blob.name == "vm.ova:disk.vmdk"
    for start in range(11):
        for end in range(start, 11):
            assert blob.read_at(start, end - start) == b"0123456789"[start:end]
    with pytest.raises(CorruptDiskError):
        blob.read_at(8, 3)
    del chunks["disk.vmdk.000000001"]
    with pytest.raises(
        CorruptDiskError, match=r"the 1 chunks of disk\.vmdk have 4 bytes, but the descriptor says 10: one"
    ):
        open_ova(make_ova(content, chunks))
    with pytest.raises(CorruptDiskError, match="has 3 bytes, but the descriptor says 4"):
        open_ova(make_ova(content, {"disk.vmdk.000000000": b"012", "disk.vmdk.000000001": b"34"}))


def test_many_members_cost_little() -> None:
    content = envelope(files='<File ovf:href="d" ovf:id="file1"/>')
    chunks = {f"d.{number:09d}": b"" for number in range(9_000)}
    assert open_ova(make_ova(content, chunks)).blobs["d"].size == 0


COMPRESSED = '<File ovf:href="disk1.vmdk" ovf:id="file1" ovf:compression="{}"/>'
SECOND = '<Disk ovf:capacity="1" ovf:diskId="d2" ovf:fileRef="file1"/>'
EMPTY = '<Disk ovf:capacity="10" ovf:capacityAllocationUnits="byte * 2^30" ovf:diskId="d2"/>'
TWO_DRIVES = (
    item(6, 3)
    + item(17, 4, "Parent=3;AddressOnParent=0;HostResource=ovf:/disk/d1")
    + item(17, 5, "Parent=3;AddressOnParent=1;HostResource=ovf:/disk/d2")
)


@pytest.mark.parametrize(
    ("content", "error", "said"),
    [
        (make_tar({"disk1.vmdk": b"x"}), UnknownFormatError, "No OVF descriptor found in vm.ova"),
        (make_tar({"Ref:1/00000000": b"x", "ova.xml": b"<value/>"}), UnknownFormatError, "an XVA of XenServer"),
        (make_tar({"a.ovf": envelope(), "b.OVF": envelope()}), CorruptDiskError, r"Multiple OVF files in vm.ova \(a"),
        (tar_member(b"vm.ovf", envelope()) * 2, UnsafeDiskError, "two members called vm.ovf"),
        (make_ova(envelope(), {}), CorruptDiskError, "disk1.vmdk, which the descriptor refers to, is not in"),
        (make_ova(b" " * (9 << 20)), UnsafeDiskError, "at most 8 MiB is read"),
        (make_tar({"vm.ovf": envelope(), "vm.mf": b" " * (2 << 20)}), UnsafeDiskError, "vm.mf has 2 MiB; at most 1"),
        (make_ova(envelope(files=COMPRESSED.format("lzma"))), UnsupportedFeatureError, "with lzma, .*export without"),
        (make_ova(envelope(files=COMPRESSED.format("zip"))), UnsupportedFeatureError, "with zip, .*export without"),
        (make_ova(envelope(disks=EMPTY.replace("d2", "d1"))), UnsupportedFeatureError, "no disk with contents"),
    ],
)  # fmt: skip
def test_what_cannot_be_opened_is_refused_with_the_reason(content: bytes, error: type[VmferryError], said: str) -> None:
    with pytest.raises(error, match=said) as refused:
        open_ova(content)
    assert "\n" not in str(refused.value)
    assert "vm.ova" in str(refused.value)


def test_an_empty_disk_beside_another_is_left_out_with_a_note() -> None:
    appliance = open_ova(make_ova(envelope(disks=DISK + EMPTY, items=TWO_DRIVES)))
    assert list(appliance.blobs) == ["disk1.vmdk"]
    assert "The disk d2 of 10 GiB is empty and has no file; it is left out." in appliance.machine.notes


def test_two_disks_that_begin_as_the_same_file_are_two_disks() -> None:
    files = {"vm.ovf": envelope(disks=DISK + SECOND, items=TWO_DRIVES), "disk1.vmdk": b"disk one"}
    appliance = open_ova(make_tar(files | {"vm.mf": manifest(files)}))
    assert [disk.name for disk in appliance.machine.disks] == ["disk1.vmdk", "disk1.vmdk#2"]
    assert read(appliance) == {"disk1.vmdk": b"disk one", "disk1.vmdk#2": b"disk one"}
    assert appliance.digests["disk1.vmdk"] == appliance.digests["disk1.vmdk#2"]
    assert appliance.machine.notes == ("The disk d2 begins as a copy of disk1.vmdk, as another one does.",)


@pytest.mark.parametrize("count", [MAX_MACHINE_DISKS, MAX_MACHINE_DISKS + 1])
def test_more_disks_than_a_machine_has_are_refused_with_the_number(count: int) -> None:
    numbers = range(count)
    files = "".join(f'<File ovf:href="{n}.vmdk" ovf:id="f{n}"/>' for n in numbers)
    disks = "".join(f'<Disk ovf:capacity="1" ovf:diskId="d{n}" ovf:fileRef="f{n}"/>' for n in numbers)
    items = "".join(item(17, n, f"AddressOnParent={n};HostResource=ovf:/disk/d{n}") for n in numbers)
    content = make_ova(envelope(files=files, disks=disks, items=items), {f"{n}.vmdk": b"x" for n in numbers})
    if count == MAX_MACHINE_DISKS:
        assert [disk.unit for disk in open_ova(content).machine.disks] == list(numbers)
        return
    with pytest.raises(UnsafeDiskError, match="61 disks, but at most 60"):
        open_ova(content)


def test_a_spoilt_descriptor_is_refused_with_both_digests() -> None:
    descriptor = envelope()
    listed = manifest({"vm.ovf": descriptor, "disk1.vmdk": b"disk one"})
    files = {"vm.ovf": descriptor.replace(b">web<", b">bew<"), "vm.mf": listed, "disk1.vmdk": b"disk one"}
    with pytest.raises(CorruptDiskError, match=r"vm\.ova:vm\.ovf: its SHA256 digest is [0-9a-f]{64}") as refused:
        open_ova(make_tar(files))
    assert listed.decode().split()[1] in str(refused.value)


@pytest.mark.parametrize("algorithm", ["SHA1", "SHA256", "SHA384", "SHA512"])
def test_a_spoilt_disk_is_found_by_its_digest(algorithm: str) -> None:
    files = {"vm.ovf": envelope(), "disk1.vmdk": b"disk one"}
    spoilt = files | {"vm.mf": manifest(files, algorithm), "disk1.vmdk": b"disk two"}
    appliance = open_ova(make_tar(spoilt))
    assert appliance.digests["disk1.vmdk"].algorithm == algorithm.lower()
    with pytest.raises(CorruptDiskError, match=algorithm):
        verify("disk1.vmdk", appliance.blobs["disk1.vmdk"], appliance.digests["disk1.vmdk"], None)


def test_what_is_odd_about_a_manifest_is_noted() -> None:
    files = {"vm.ovf": envelope(), "disk1.vmdk": b"disk one"}
    listed = manifest({"vm.ovf": files["vm.ovf"], "gone.iso": b"?"}) + b"MD5(disk1.vmdk)= 00\n"
    appliance = open_ova(make_tar(files | {"vm.mf": listed, "vm.cert": b"-----BEGIN CERTIFICATE-----"}))
    assert appliance.digests == {}
    assert appliance.machine.notes == (
        "The certificate vm.ova:vm.cert is not checked: it has no signature or no certificate that can be read.",
        "The manifest's line MD5(disk1.vmdk)= 00 is not understood and was passed over.",
        "The manifest lists 1 files that are not in the package: gone.iso.",
        "The manifest has no digest of disk1.vmdk: it is not verified.",
    )


def test_the_manifest_of_the_descriptors_own_name_counts() -> None:
    files = {"vm.ovf": envelope(), "disk1.vmdk": b"disk one"}
    other = manifest({"vm.ovf": b"another", "disk1.vmdk": b"another"})
    appliance = open_ova(make_tar({"a.mf": other} | files | {"vm.mf": manifest(files)}))
    verify("disk1.vmdk", appliance.blobs["disk1.vmdk"], appliance.digests["disk1.vmdk"])


def test_a_size_that_differs_from_the_tar_is_noted() -> None:
    files = '<File ovf:href="disk1.vmdk" ovf:id="file1" ovf:size="7804077568"/>'
    notes = open_ova(make_ova(envelope(files=files))).machine.notes
    assert "The descriptor says 7,804,077,568 bytes for disk1.vmdk, which has 8." in notes


def zipped(content: bytes) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("vm.ova", content)
    return target.getvalue()


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("gzip", gzip.compress(make_ova(envelope()))),
        ("xz", lzma.compress(make_ova(envelope()))),
        ("bzip2", bz2.compress(make_ova(envelope()))),
        ("zip", zipped(make_ova(envelope()))),
        ("zstd", b"\x28\xb5\x2f\xfd" + bytes(100)),
    ],
)
def test_a_wrapped_ova_is_named_for_what_it_is(kind: str, content: bytes) -> None:
    blob = MemoryBlob(content, "vm.ova")
    assert detect(blob) is None
    with pytest.raises(UnknownFormatError, match=rf"vm\.ova is a {kind} file: unpack it first and import"):
        open_appliance(blob)


@pytest.mark.parametrize("content", [b"", b"K", b"KDMV" + bytes(600), bytes(2048), b"text " * 400])
def test_what_is_no_package_is_not_taken_for_one(content: bytes) -> None:
    blob = MemoryBlob(content, "vm.ova")
    assert detect(blob) is None
    with pytest.raises(UnknownFormatError, match=r"vm\.ova is not an OVA"):
        open_appliance(blob)


def small_ova() -> bytes:
    files = {"web.ovf": VMWARE.encode()} | DISKS
    return make_tar({"web.ovf": files["web.ovf"], "web.mf": manifest(files)} | DISKS)


def test_cut_anywhere_it_is_read_right_or_refused() -> None:
    whole = small_ova()
    opened = 0
    for end in range(0, len(whole) + 1, 256):
        try:
            appliance = open_ova(whole[:end])
        except VmferryError:
            continue
        opened += 1
        assert read(appliance) == {"web-1.vmdk": b"root", "web-2.vmdk": b"data!"}
    assert 4 <= opened < 60


@settings(deadline=None, max_examples=250)
@given(st.data())
def test_flipped_bytes_give_the_same_disks_or_an_error_of_ours(data: st.DataObject) -> None:
    content = bytearray(small_ova())
    used = len(content.rstrip(b"\0")) + 600
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, used - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):  # a header whose checksum fits again
        start = 512 * data.draw(st.integers(0, used // 512 - 1))
        content[start + 148 : start + 156] = b" " * 8
        content[start + 148 : start + 156] = b"%06o\0 " % sum(content[start : start + 512])
    try:
        appliance = open_ova(bytes(content))
    except VmferryError:
        return
    for name, blob in appliance.blobs.items():
        blob.read_at(0, blob.size)
        assert name in [disk.name for disk in appliance.machine.disks]

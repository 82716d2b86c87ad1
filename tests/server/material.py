"""Disks and appliances for server tests: made by qemu-img and tar, not by us."""

from __future__ import annotations

import hashlib
import random
import struct
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path

from tests.server.harness import Server
from vmferry.blob import FileBlob
from vmferry.convert import digest_disk
from vmferry.formats.raw import RawDisk

MIB = 1 << 20


def make_disk(
    path: Path, size_mib: int, data_mib: int, *, seed: int = 1, boots: bool = True, thin: bool = False
) -> Path:
    """A raw disk with ``data_mib`` MiB of random data in runs of 1 MiB spread over it, and an MBR when it ``boots``.
    It is ``thin`` where only the guest's bytes have to be many, not those of its compressed file: three quarters of
    each 64 KiB are then zeros.
    """
    chance = random.Random(seed)

    def run() -> bytes:
        if thin:
            return b"".join(chance.randbytes(16 << 10).ljust(64 << 10, b"\0") for _ in range(16))
        return chance.randbytes(MIB - 4096)  # the last page of each run stays empty

    with path.open("wb") as disk:
        disk.truncate(size_mib * MIB)
        for place in sorted(chance.sample(range(1, size_mib), data_mib)):
            disk.seek(place * MIB)
            disk.write(run())
        if boots:
            disk.seek(0)
            disk.write(master_boot_record(size_mib))
    return path


def master_boot_record(size_mib: int) -> bytes:
    """One active Linux partition from 1 MiB on, and boot code that is not empty."""
    partition = struct.pack("<B3sB3sII", 0x80, b"\xfe\xff\xff", 0x83, b"\xfe\xff\xff", 2048, (size_mib - 1) * 2048)
    return (b"\xeb\x63\x90" + b"\x90" * 437).ljust(446, b"\0") + partition.ljust(64, b"\0") + b"\x55\xaa"


def make_vmdk(raw: Path, subformat: str = "streamOptimized") -> Path:
    """``raw`` as a VMDK by qemu-img."""
    vmdk = raw.with_suffix(".vmdk")
    options = ["-O", "vmdk", "-o", f"subformat={subformat}"]
    subprocess.run(["qemu-img", "convert", "-f", "raw", *options, str(raw), str(vmdk)], check=True)
    return vmdk


_ENVELOPE = """<?xml version="1.0" encoding="UTF-8"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1"
  xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData">
<References>{files}</References>
<DiskSection><Info>Disks</Info>{disks}</DiskSection>
<VirtualSystem ovf:id="web"><Info>A virtual machine</Info><Name>web</Name>
<VirtualHardwareSection><Info>Hardware</Info>
<Item><rasd:InstanceID>1</rasd:InstanceID><rasd:ResourceType>3</rasd:ResourceType><rasd:VirtualQuantity>2</rasd:VirtualQuantity></Item>
<Item><rasd:AllocationUnits>byte * 2^20</rasd:AllocationUnits><rasd:InstanceID>2</rasd:InstanceID><rasd:ResourceType>4</rasd:ResourceType><rasd:VirtualQuantity>512</rasd:VirtualQuantity></Item>
<Item><rasd:Address>0</rasd:Address><rasd:InstanceID>3</rasd:InstanceID><rasd:ResourceType>6</rasd:ResourceType></Item>
{items}</VirtualHardwareSection></VirtualSystem></Envelope>
"""  # noqa: E501


def make_ova(path: Path, vmdks: Sequence[Path], *, spoil_manifest: bool = False) -> Path:
    """An OVA of ``vmdks`` in this order, with a SHA-256 manifest."""
    numbered = list(enumerate(vmdks))
    files = "".join(f'<File ovf:href="{v.name}" ovf:id="file{i}" ovf:size="{v.stat().st_size}"/>' for i, v in numbered)
    disks = "".join(f'<Disk ovf:capacity="1" ovf:diskId="disk{i}" ovf:fileRef="file{i}"/>' for i, _ in numbered)
    items = "".join(
        f"<Item><rasd:AddressOnParent>{i}</rasd:AddressOnParent><rasd:HostResource>ovf:/disk/disk{i}</rasd:HostResource>"
        f"<rasd:InstanceID>{10 + i}</rasd:InstanceID><rasd:Parent>3</rasd:Parent>"
        "<rasd:ResourceType>17</rasd:ResourceType></Item>"
        for i, _ in numbered
    )
    descriptor = path.with_suffix(".ovf")
    descriptor.write_text(_ENVELOPE.format(files=files, disks=disks, items=items))
    members = [descriptor, *vmdks]
    lines = [f"SHA256({m.name})= {hashlib.sha256(m.read_bytes()).hexdigest()}\n" for m in members]
    if spoil_manifest:
        lines[-1] = f"SHA256({members[-1].name})= {'0' * 64}\n"
    manifest = path.with_suffix(".mf")
    manifest.write_text("".join(lines))
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for member in [descriptor, manifest, *vmdks]:
            tar.add(member, member.name)
    return path


def holds(server: Server, snapshot_id: str, raw: Path) -> bool:
    """Whether the snapshot's image is the guest of ``raw``, to ``qemu-img``'s eyes, and by the digest in its tags."""
    (snapshot,) = server.client("ec2").describe_snapshots(SnapshotIds=[snapshot_id])["Snapshots"]
    said = {tag["Key"]: tag["Value"] for tag in snapshot["Tags"]}["vmferry:guest-digest"]
    disk = RawDisk(FileBlob(raw))
    try:
        return same_guest(server.locate(snapshot_id), raw) and digest_disk(disk) == said
    finally:
        disk.close()


def same_guest(image: Path, raw: Path) -> bool:
    """Whether ``qemu-img compare`` finds the qcow2 ``image`` and ``raw`` identical, in content and in size."""
    command = ["qemu-img", "compare", "-f", "qcow2", "-F", "raw", str(image), str(raw)]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode == 0 and "identical" in done.stdout and "warning" not in (done.stdout + done.stderr).lower()

"""OVAs for tests: tars by Python's tarfile or header by header, descriptors by hand."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Mapping

from vmferry.blob import MemoryBlob

Files = Mapping[str, bytes]

NAMESPACES = (
    'xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" '
    'xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData" '
    'xmlns:vssd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData" '
    'xmlns:vmw="http://www.vmware.com/schema/ovf" xmlns:vbox="http://www.virtualbox.org/ovf/machine" '
    'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
)

DISK = '<Disk ovf:capacity="1" ovf:capacityAllocationUnits="byte * 2^30" ovf:diskId="d1" ovf:fileRef="file1"/>'


class CountingBlob(MemoryBlob):
    """Bytes in memory that know how much of them was read, and in how many reads."""

    reads = 0
    bytes_read = 0

    def read_at(self, offset: int, length: int) -> bytes:
        self.reads += 1
        self.bytes_read += length
        return super().read_at(offset, length)


def make_tar(files: Files, tar_format: int = tarfile.USTAR_FORMAT) -> bytes:
    """A tar by Python's own writer."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tar_format) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return target.getvalue()


def tar_header(
    name: bytes, size: int = 0, kind: bytes = b"0", *, magic: bytes = b"ustar\x0000", size_field: bytes | None = None
) -> bytes:
    """One header block with the right checksum."""
    field = size_field if size_field is not None else b"%011o\0" % size
    header = bytearray(512)
    header[: len(name)] = name
    header[100:124] = b"0000644\x000000000\x000000000\x00"
    header[124:136] = field.ljust(12, b"\0")
    header[136:148] = b"00000000000\0"
    header[156:157] = kind
    header[257 : 257 + len(magic)] = magic
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def tar_member(name: bytes, content: bytes = b"", kind: bytes = b"0", magic: bytes = b"ustar\x0000") -> bytes:
    """A header and its padded content."""
    return tar_header(name, len(content), kind, magic=magic) + pad(content)


def pad(content: bytes) -> bytes:
    return content + b"\0" * (-len(content) % 512)


def pax_record(key: bytes, value: bytes) -> bytes:
    """``LENGTH KEY=VALUE\\n``, its own digits counted."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)


def item(kind: int, instance: int, more: str = "", attributes: str = "") -> str:
    """An Item of the 1.x schema; ``more`` is its other children, ``rasd:`` left out: ``Parent=3 HostResource=…``."""
    fields = {"InstanceID": str(instance), "ResourceType": str(kind)}
    for pair in filter(None, more.split(";")):
        key, _, value = pair.partition("=")
        fields[key.strip()] = value
    inside = "".join(f"<rasd:{key}>{value}</rasd:{key}>" for key, value in sorted(fields.items()))
    return f"<Item {attributes}>{inside}</Item>"


def envelope(
    *,
    files: str = '<File ovf:href="disk1.vmdk" ovf:id="file1"/>',
    disks: str = DISK,
    items: str | None = None,
    system: str = "",
    sections: str = "",
) -> bytes:
    """A small OVF 1.x descriptor: one disk on a SCSI controller, unless told otherwise."""
    if items is None:
        items = item(6, 3, "Address=0") + item(17, 4, "Parent=3;AddressOnParent=0;HostResource=ovf:/disk/d1")
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><Envelope {NAMESPACES}><References>{files}</References>'
        f"<DiskSection><Info>Disks</Info>{disks}</DiskSection>{sections}"
        f'<VirtualSystem ovf:id="vm"><Info>A machine</Info><Name>web</Name>{system}'
        f"<VirtualHardwareSection><Info>Hardware</Info>{items}</VirtualHardwareSection></VirtualSystem></Envelope>"
    ).encode()


def manifest(files: Files, algorithm: str = "SHA256", form: str = "{algorithm}({name})= {value}\n") -> bytes:
    """What an exporter would write about ``files``."""
    lines = (
        form.format(algorithm=algorithm, name=name, value=hashlib.new(algorithm.lower(), content).hexdigest())
        for name, content in files.items()
    )
    return "".join(lines).encode()


def make_ova(descriptor: bytes, files: Files | None = None, name: str = "vm.ovf") -> bytes:
    """A descriptor and its files in a ustar; by default one file, disk1.vmdk."""
    return make_tar({name: descriptor} | dict({"disk1.vmdk": b"disk one"} if files is None else files))

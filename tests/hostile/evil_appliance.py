"""Appliances that lie: tars that lead out of themselves, descriptors with entities, machines with the host's disks."""

from __future__ import annotations

import gzip
import hashlib
import struct
from collections.abc import Iterator

from tests.hostile import evil_qcow2, evil_vmdk
from tests.hostile.evil import HOST_FILE, NEIGHBOUR, Evil

_NAMESPACES = (
    'xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" '
    'xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData"'
)
DISK = evil_vmdk.sparse(compressed=True)


def ovf(
    href: str = "disk.vmdk", capacity: str = "1", units: str = "byte * 2^20", head: str = "", file: str = "",
    disk: str = "", items: str = "", name: str = "vm",
) -> bytes:  # fmt: skip
    """A machine with one disk; what is given stands in its place as it is."""
    return f"""<?xml version="1.0" encoding="UTF-8"?>{head}
<Envelope {_NAMESPACES}>
<References><File ovf:id="f" ovf:href="{href}" {file}/></References>
<DiskSection><Info/><Disk ovf:diskId="d" ovf:fileRef="f" ovf:capacity="{capacity}"
 ovf:capacityAllocationUnits="{units}" {disk}/></DiskSection>
<VirtualSystem ovf:id="v"><Info/><Name>{name}</Name><VirtualHardwareSection><Info/>
<Item><rasd:InstanceID>1</rasd:InstanceID><rasd:ResourceType>5</rasd:ResourceType></Item>
<Item><rasd:InstanceID>2</rasd:InstanceID><rasd:Parent>1</rasd:Parent><rasd:ResourceType>17</rasd:ResourceType>
<rasd:HostResource>ovf:/disk/d</rasd:HostResource></Item>{items}
</VirtualHardwareSection></VirtualSystem></Envelope>""".encode()


def member(name: str, content: bytes = b"", kind: bytes = b"0", size: bytes | None = None, link: str = "") -> bytes:
    """A tar member by hand; ``size`` is the field's 12 bytes."""
    field = b"%011o\0" % len(content) if size is None else size
    head = struct.pack("100s8s8s8s12s12s8s1s100s8s247s", name.encode(), b"0000644\0", b"0000000\0", b"0000000\0", field,
                       b"00000000000\0", b" " * 8, kind, link.encode(), b"ustar\00000", b"")  # fmt: skip
    head = head[:148] + b"%06o\0 " % sum(head) + head[156:]
    return head + content + bytes(-len(content) % 512)


def pax(**records: str) -> bytes:
    lines = b""
    for key, value in records.items():
        body = f" {key.replace('__', '.')}={value}\n".encode()
        length = len(body) + 1
        while len(str(length)) + len(body) != length:
            length += 1
        lines += str(length).encode() + body
    return member("pax", lines, b"x")


def ova(*members: bytes, descriptor: bytes | None = None, first: bytes = b"") -> bytes:
    start = member("vm.ovf", ovf() if descriptor is None else descriptor)
    return b"".join([first, start, *(members or (member("disk.vmdk", DISK),)), bytes(1024)])


def _tars() -> Iterator[tuple[str, str, bytes]]:
    for name in ("../disk.vmdk", HOST_FILE, "a/../../disk.vmdk", "..", "/disk.vmdk"):
        yield f"name-{name.replace('/', '_')}", f"a member called {name}", ova(
            member(name, DISK), descriptor=ovf(href=name)
        )  # fmt: skip
    for kind, about in (
        (b"1", "hard link"),
        (b"2", "symbolic link"),
        (b"3", "device"),
        (b"6", "pipe"),
        (b"S", "sparse file"),
    ):
        yield (
            f"kind-{about.replace(' ', '-')}",
            f"its disk is a {about}",
            ova(member("disk.vmdk", b"", kind, link=HOST_FILE)),
        )
    yield "pax-sparse", "its disk is sparse by a pax header", ova(
        pax(GNU__sparse__major="1", GNU__sparse__realsize=str(2**62)), member("disk.vmdk", DISK)
    )  # fmt: skip
    for number in (str(2**63), "-1", "-512", "1e9", "9" * 4000, "0x10"):
        yield (
            f"pax-size-{number[:8]}",
            f"a pax size of {number[:20]!r}",
            ova(pax(size=number), member("disk.vmdk", DISK)),
        )
    yield "pax-path", "a pax path out of the tar", ova(
        pax(path="../../etc/passwd"), member("disk.vmdk", DISK), descriptor=ovf(href="../../etc/passwd")
    )  # fmt: skip
    for name, size in {
        "negative": b"\xff" * 12,
        "huge": b"\x80" + b"\x7f" * 11,
        "text": b"zzzzzzzzzzzz",
        "past": b"77777777777\0",
    }.items():
        yield f"size-{name}", f"a member of {name} size", ova(member("disk.vmdk", DISK, size=size))
    yield "pax-huge", "a pax header of 8 GiB", ova(member("pax", b"x", b"x", size=b"77777777777\0"))
    yield "long-name-huge", "a long name of 8 GiB", ova(member("././@LongLink", b"x", b"L", size=b"77777777777\0"))
    yield "descriptor-twice", "two descriptors", ova(member("disk.vmdk", DISK), first=member("vm.ovf", ovf()))
    yield (
        "descriptors",
        "two descriptors of other names",
        ova(member("disk.vmdk", DISK), first=member("other.ovf", ovf())),
    )
    yield "member-twice", "two disks of one name", ova(member("disk.vmdk", DISK), member("disk.vmdk", DISK[:512]))
    yield (
        "member-case",
        "two disks whose names differ by case",
        ova(member("DISK.vmdk", DISK), member("Disk.VMDK", DISK)),
    )
    yield "cut", "cut inside its disk", ova()[:-20_000]
    yield "disk-missing", "a descriptor and no disk", ova(member("readme.txt", b"hello"))
    yield "checksum", "a header with a wrong checksum", ova(member("disk.vmdk", DISK).replace(b"0000644", b"0000777"))


def _descriptors() -> Iterator[tuple[str, str, bytes]]:
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
    for name, about, head in (
        ("laughs", "a billion laughs", f'<!DOCTYPE x [<!ENTITY l0 "lol">{laughs}]>'),
        ("entity", "an external entity", f'<!DOCTYPE x [<!ENTITY l11 SYSTEM "file://{HOST_FILE}">]>'),
        ("dtd", "an external DTD", '<!DOCTYPE Envelope SYSTEM "http://127.0.0.1:9/x.dtd"><!-- l11 -->'),
        ("parameter", "a parameter entity", f'<!DOCTYPE x [<!ENTITY % p SYSTEM "file://{HOST_FILE}"> %p;]>'),
    ):
        yield f"xml-{name}", about, ovf(head=head, name="&l11;" if "l11" in head and "--" not in head else "vm")
    for href in (
        "../../etc/passwd",
        HOST_FILE,
        f"file://{HOST_FILE}",
        "http://127.0.0.1:9/x",
        f"../{NEIGHBOUR}",
        "C:\\x",
        "",
        ".",
    ):
        yield f"href-{href.replace('/', '_')[:20]}", f"a disk in {href!r}", ovf(href=href)
    for capacity in ("1e309", "-1", "0", "9" * 5000, "0x10", "NaN", "٨"):
        yield f"capacity-{capacity[:8]}", f"a capacity of {capacity[:20]}", ovf(capacity=capacity)
    for units in ("byte * 2^1000000000", "byte * 10^999999999", "byte * 2^-5", "parsec", "byte * 2^" + "9" * 4000):
        yield f"units-{units[:20].replace('*', 'x')}", f"units of {units[:20]}", ovf(units=units)
    yield "compression", "a compression that nobody knows", ovf(file='ovf:compression="../../evil"')
    yield "disk-parent", "a disk that is its own parent", ovf(disk='ovf:parentRef="d"')
    yield "deep", "100,000 elements inside one another", ovf(items="<a>" * 100_000 + "</a>" * 100_000)
    yield "items", "60,000 items", ovf(items="<Item/>" * 60_000)
    yield "attributes", "100,000 attributes", ovf(disk=" ".join(f'a{n}=""' for n in range(100_000)))
    yield "encoding", "an encoding that nobody knows", ovf().replace(b"UTF-8", b"UTF-7")
    yield "cut-xml", "cut inside an element", ovf()[:700]
    yield "empty", "no bytes", b""


def _legal_descriptors() -> Iterator[tuple[str, str, bytes]]:
    include = f'<xi:include xmlns:xi="http://www.w3.org/2001/XInclude" href="file://{HOST_FILE}" parse="text"/>'
    yield "xinclude", "an inclusion of a file of the host", ovf(items=include)
    schema = (
        '<Info xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation="x http://127.0.0.1:9/x.xsd"/>'
    )
    yield "schema", "a schema to be fetched", ovf(items=schema)
    # The tar says how long a file is, and the name says whether it is in chunks: both win, and a note is made.
    yield "chunk-0", "chunks of no bytes", ovf(file='ovf:chunkSize="0"')
    yield "chunk-negative", "chunks of -1 bytes", ovf(file='ovf:chunkSize="-1" ovf:size="100"')
    yield "chunk-1", "2^62 chunks of a byte", ovf(file=f'ovf:chunkSize="1" ovf:size="{2**62}"')
    yield "size", "a file of 2^63 bytes", ovf(file=f'ovf:size="{2**63}"')
    yield "style", "a style sheet on the host", ovf(head=f'<?xml-stylesheet href="{HOST_FILE}"?>')
    yield "controls", "a name with control characters", ovf(name="vm&#x9b;31m\u202e")


def _manifests() -> Iterator[tuple[str, str, bytes]]:
    right, wrong = hashlib.sha256(ovf()).hexdigest(), "0" * 64
    for name, about, text in (
        ("wrong", "a wrong digest of its descriptor", f"SHA256(vm.ovf)= {wrong}\n"),
        ("twice", "two digests of one file", f"SHA256(vm.ovf)= {right}\nSHA256(vm.ovf)= {wrong}\n"),
        ("huge", "a manifest of 2 MiB", f"SHA256(x)= {right}\n" * 26_000),
    ):
        yield f"manifest-{name}", about, ova(member("vm.mf", text.encode()), member("disk.vmdk", DISK))


def _legal_manifests() -> Iterator[tuple[str, str, bytes]]:
    text = f"SHA256(vm.ovf)= {hashlib.sha256(ovf()).hexdigest()}\nSHA256({HOST_FILE})= {'0' * 64}\n"
    yield (
        "manifest-missing",
        "a digest of a file of the host",
        ova(member("vm.mf", text.encode()), member("disk.vmdk", DISK)),
    )
    yield (
        "pax-size-empty",
        "a pax size of nothing, which means the field's",
        ova(pax(size=""), member("disk.vmdk", DISK)),
    )


def _disks() -> Iterator[tuple[str, str, bytes]]:
    inside = {
        "backing": evil_qcow2.image((256, HOST_FILE.encode()), backing_offset=256, backing_size=len(HOST_FILE)),
        "flat": evil_vmdk.descriptor("monolithicFlat", f'RW 8 FLAT "{HOST_FILE}" 0'),
        "gzip-bomb": gzip.compress(gzip.compress(bytes(1 << 20))),
    }
    for name, content in inside.items():
        yield f"disk-{name}", f"its disk is another attack: {name}", ova(member("disk.vmdk", content))


def _descriptions() -> Iterator[tuple[str, str, bytes]]:
    for kind, path in {
        "absolute": HOST_FILE,
        "above": f"../{NEIGHBOUR}",
        "url": "http://127.0.0.1:9/x",
        "device": "/dev/zero",
    }.items():
        yield f"vmx-{kind}.vmx", f"a disk in {path}", (
            f'.encoding = "UTF-8"\nconfig.version = "8"\nvirtualHW.version = "13"\nscsi0.present = "TRUE"\n'
            f'scsi0:0.present = "TRUE"\nscsi0:0.fileName = "{path}"\ndisplayName = "vm"\n'
        ).encode()  # fmt: skip
        yield f"libvirt-{kind}.xml", f"a disk in {path}", (
            f"<domain type='kvm'><name>vm</name><memory>1024</memory><devices><disk type='file' device='disk'>"
            f"<source file='{path}'/><target dev='vda' bus='virtio'/></disk></devices></domain>"
        ).encode()  # fmt: skip
        yield f"vbox-{kind}.vbox", f"a disk in {path}", (
            f'<VirtualBox xmlns="http://www.virtualbox.org/" version="1.16-linux"><Machine uuid="{{1}}" name="vm">'
            f'<MediaRegistry><HardDisks><HardDisk uuid="{{2}}" location="{path}" format="VDI" type="Normal"/>'
            f'</HardDisks></MediaRegistry><Hardware/><StorageControllers><StorageController name="SATA" type="AHCI">'
            f'<AttachedDevice type="HardDisk" port="0" device="0"><Image uuid="{{2}}"/></AttachedDevice>'
            f"</StorageController></StorageControllers></Machine></VirtualBox>"
        ).encode()  # fmt: skip
    laughs = "<!DOCTYPE x [" + f'<!ENTITY a SYSTEM "file://{HOST_FILE}">' + "]>"
    yield "libvirt-entity.xml", "an external entity", f"{laughs}<domain type='kvm'><name>&a;</name></domain>".encode()
    yield "vmx-lines.vmx", "200,000 lines", b'config.version = "8"\n' + b'a = "b"\n' * 200_000


def items() -> Iterator[Evil]:
    for part in (_tars, _manifests, _disks):
        for name, about, content in part():
            yield Evil(f"ova-{name}.ova", about, content.__bytes__)
    for name, about, content in _descriptors():
        yield Evil(f"ovf-{name}.ova", about, ova(descriptor=content).__bytes__)
    for name, about, content in _legal_manifests():
        yield Evil(f"ova-{name}.ova", about, content.__bytes__, refused=False)
    for name, about, content in _legal_descriptors():
        yield Evil(f"ovf-{name}.ova", about, ova(descriptor=content).__bytes__, refused=False)
    for name, about, content in _descriptions():
        yield Evil(name, about, content.__bytes__)

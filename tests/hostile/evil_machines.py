"""XVAs and Hyper-V's own files that lie: about chunks, sizes and keys, and about files that are not theirs."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator

from tests.appliances.folders import Values, hyperv_xml, vmcx, vmcx_of
from tests.appliances.ova_builder import tar_member
from tests.appliances.xva_builder import END, chunk, description, machine
from tests.hostile.evil import HOST_FILE, NEIGHBOUR, Evil

_MIB = 1 << 20
_PIECE = b"a" * _MIB


def _xva(*members: bytes, size: int = 2 * _MIB, ref: str = "Ref:1") -> bytes:
    return tar_member(b"ova.xml", description(machine((ref, size)))) + b"".join(members) + END


def _xvas() -> Iterator[tuple[str, str, bytes]]:
    sound = tuple(chunk("Ref:1", number, _PIECE) for number in range(2))
    yield "size-max", "a disk of 2^63 bytes", _xva(*sound, size=1 << 63)
    yield "size-negative", "a disk of -1 bytes", _xva(*sound, size=-1)
    yield "size-word", "a disk of 1e309 bytes", _xva(*sound).replace(b">2097152<", b">1e00309<")
    yield "surplus", "more chunks than the disk has room for", _xva(*sound, chunk("Ref:1", 2, _PIECE))
    yield "cut", "a chunk too few", _xva(sound[0])
    yield "twice", "a chunk twice", _xva(sound[0], *sound)
    yield "backwards", "chunks that go back", _xva(*reversed(sound))
    yield "large", "a chunk of 5 MiB", _xva(chunk("Ref:1", 0, _PIECE * 5), size=5 * _MIB)
    yield "far", "a chunk at the end of the world", _xva(sound[0], chunk("Ref:1", 99_999_999, _PIECE))
    wrong = tar_member(b"Ref:1/00000000.checksum", hashlib.sha1(b"", usedforsecurity=False).hexdigest().encode())
    yield "digest", "a wrong digest", _xva(chunk("Ref:1", 0, _PIECE, "none"), wrong, sound[1])
    for name, ref in (("above", f"../{NEIGHBOUR}"), ("absolute", HOST_FILE), ("device", "/dev/zero")):
        yield f"ref-{name}", f"a disk that is {ref}", _xva(*sound, ref=ref)
    link = bytearray(tar_member(b"Ref:1/00000001", b""))
    link[156:157], link[157 : 157 + len(HOST_FILE)] = b"2", HOST_FILE.encode()
    link[148:156] = b" " * 8
    link[148:156] = b"%06o\0 " % sum(link[:512])
    yield "link", "a chunk that is a link to a file of the host", _xva(sound[0], bytes(link))
    laughs = f'<!DOCTYPE x [<!ENTITY a SYSTEM "file://{HOST_FILE}">]><value>&a;</value>'
    yield "entity", "an external entity", tar_member(b"ova.xml", laughs.encode()) + END
    yield "deep", "values in one another", tar_member(b"ova.xml", b"<value><array>" * 5000) + END
    yield (
        "disks",
        "100 disks",
        tar_member(b"ova.xml", description(machine(*((f"Ref:{n}", 1) for n in range(100))))) + END,
    )


def _hyperv() -> Iterator[tuple[str, str, bytes]]:
    for name, path in (
        ("above", f"..\\{NEIGHBOUR}"),
        ("absolute", HOST_FILE),
        ("device", "\\\\.\\PhysicalDrive0"),
        ("share", "\\\\127.0.0.1\\c$\\win.ini"),
        ("url", "http://127.0.0.1:9/x"),
    ):
        yield f"{name}.vmcx", f"a disk in {path}", vmcx([path])
        yield f"{name}.xml", f"a disk in {path}", hyperv_xml([path])
    entity = f'<!DOCTYPE x [<!ENTITY a SYSTEM "file://{HOST_FILE}">]><configuration><a>&a;</a></configuration>'
    yield "entity.xml", "an external entity", ("\ufeff" + entity).encode("utf-16-le")
    deep: Values = {"x": 1}
    for _ in range(40):
        deep = {"n": deep}
    yield "deep.vmcx", "keys in one another", vmcx_of(deep)
    sound = vmcx(["a.vhdx"])
    yield "objects.vmcx", "2^32 objects", sound[:0x2004] + b"\xff" * 4 + sound[0x2008:] + bytes(2 * _MIB)
    far = struct.pack("<BIQIB", 2, 0, 1 << 62, 0xFFFFFFFF, 1)
    yield "far.vmcx", "a table of 4 GiB past the end", sound[:0x2008] + far + sound[0x2008 + len(far) :]


def items() -> Iterator[Evil]:
    for name, about, content in _xvas():
        yield Evil(f"xva-{name}.xva", about, content.__bytes__)
    for name, about, content in _hyperv():
        yield Evil(f"hyperv-{name}", about, content.__bytes__)

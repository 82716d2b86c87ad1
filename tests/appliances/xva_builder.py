"""XVAs for tests: what XenServer writes, chunk by chunk."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping

import xxhash

from tests.appliances.ova_builder import tar_member

MIB = 1 << 20
END = bytes(1024)

Fields = Mapping[str, object]


def value(content: object) -> str:
    """A value in the manner of XML-RPC."""
    if isinstance(content, dict):
        members = "".join(f"<member><name>{key}</name>{value(held)}</member>" for key, held in content.items())
        return f"<value><struct>{members}</struct></value>"
    if isinstance(content, list):
        return f"<value><array><data>{''.join(map(value, content))}</data></array></value>"
    if isinstance(content, bool):
        return f"<value><boolean>{int(content)}</boolean></value>"
    return f"<value>{content}</value>"


def record(kind: str, ref: str, **fields: object) -> dict[str, object]:
    return {"class": kind, "id": ref, "snapshot": fields}


def description(objects: list[dict[str, object]]) -> bytes:
    """``ova.xml``."""
    return f'<?xml version="1.0"?>{value({"version": {"hostname": "xen"}, "objects": objects})}'.encode()


def machine(*refs_and_sizes: tuple[str, int], **fields: object) -> list[dict[str, object]]:
    """A machine with its disks in this order, whatever their references."""
    known: dict[str, object] = {
        "name_label": "web", "memory_static_max": str(2 << 30), "VCPUs_max": "4", "VCPUs_at_startup": "2",
        "HVM_boot_policy": "BIOS order", "HVM_boot_params": {"order": "cd", "firmware": "uefi"}, "domain_type": "hvm",
        "is_a_snapshot": False, "is_a_template": False, "VBDs": [f"Ref:{90 + n}" for n in range(len(refs_and_sizes))],
        "VIFs": ["Ref:80"],
    }  # fmt: skip
    objects = [record("VM", "Ref:0", **(known | fields))]
    for place, (ref, size) in enumerate(refs_and_sizes):
        drive = {"VM": "Ref:0", "VDI": ref, "userdevice": str(place), "bootable": place == 0, "type": "Disk"}
        objects.append(record("VBD", f"Ref:{90 + place}", **drive))
        objects.insert(0, record("VDI", ref, virtual_size=str(size), name_label="disk"))
    objects.append(record("VBD", "Ref:89", VM="Ref:0", VDI="OpaqueRef:NULL", userdevice="3", type="CD", empty=True))
    objects.append(record("VIF", "Ref:80", VM="Ref:0", device="0", MAC="56:6f:00:00:00:01", network="Ref:70"))
    objects.append(record("network", "Ref:70", name_label="LAN"))
    return objects


def chunk(ref: str, number: int, content: bytes, digest: str = "xxhash") -> bytes:
    """A chunk's member and its digest's: ``xxhash``, ``checksum`` or none."""
    name = f"{ref}/{number:08d}"
    made = tar_member(name.encode(), content)
    if digest == "xxhash":
        made += tar_member(f"{name}.xxhash".encode(), xxhash.xxh64_hexdigest(content).upper().encode())
    elif digest == "checksum":
        made += tar_member(
            f"{name}.checksum".encode(), hashlib.sha1(content, usedforsecurity=False).hexdigest().encode()
        )
    return made


def chunks(
    ref: str, content: bytes, digest: str = "xxhash", size: int = MIB, empty_before: tuple[int, ...] = ()
) -> Iterator[bytes]:
    """The members of one disk: zeros left out but for the first and the last; ``empty_before`` some a keep-alive."""
    count = -(-len(content) // size)
    number = 0
    for place in range(count):
        piece = content[place * size : (place + 1) * size]
        if place in empty_before:
            yield chunk(ref, number, b"", digest)
            number += 1
        if any(piece) or place in (0, count - 1):
            yield chunk(ref, number, piece, digest)
        number += 1


def make_xva(
    objects: list[dict[str, object]], disks: Mapping[str, bytes], digest: str = "xxhash", size: int = MIB
) -> bytes:
    """A whole XVA, its disks in the order of their references as strings."""
    made = [tar_member(b"ova.xml", description(objects))]
    for ref in sorted(disks):
        made += chunks(ref, disks[ref], digest, size)
    return b"".join(made) + END

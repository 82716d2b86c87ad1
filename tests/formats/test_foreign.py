"""What would pass for a raw disk and is none: it is named, unless it was declared raw."""

from __future__ import annotations

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

from vmferry.blob import FileBlob, MemoryBlob
from vmferry.errors import UnknownFormatError, UnsupportedFeatureError
from vmferry.formats import FORMATS, detect, open_disk
from vmferry.units import KIB, MIB

CONTENT = bytes(range(256)) * 512


def made_by_qemu(kind: str, folder: Path) -> bytes:
    options = {"vhd": ("vpc", "subformat=dynamic"), "fixed-vhd": ("vpc", "subformat=fixed,force_size=on")}
    name, option = options.get(kind, (kind, ""))
    path = folder / "disk"
    command = ["qemu-img", "create", "-q", "-f", name, *(["-o", option] if option else []), str(path), "1M"]
    subprocess.run(command, check=True, timeout=60)
    return path.read_bytes()


def zipped() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("disk.raw", CONTENT)
    return out.getvalue()


def tarred() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        member = tarfile.TarInfo("disk.raw")
        member.size = len(CONTENT)
        archive.addfile(member, io.BytesIO(CONTENT))
    return out.getvalue()


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("qed", "a QED image"),
        ("parallels", "a Parallels image"),
        ("qcow", "a qcow image of version 1"),
    ],
)
def test_a_disk_image_that_is_not_read_is_named(kind: str, said: str, tmp_path: Path) -> None:
    content = made_by_qemu(kind, tmp_path)
    with pytest.raises(
        UnsupportedFeatureError, match=f"disk.img is {said}, which is no disk image that vmferry reads: (ex|con)"
    ):
        detect(MemoryBlob(content, "disk.img"))
    with pytest.raises(UnknownFormatError, match=f"declared as vmdk, but its bytes show {said}"):
        open_disk(MemoryBlob(content), FORMATS["vmdk"])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (gzip.compress(CONTENT), "a gzip file"),
        (lzma.compress(CONTENT), "an xz file"),
        (zipped(), "a zip file"),
        (tarred(), "a tar archive"),
        (b"\x28\xb5\x2f\xfd".ljust(4 * KIB, b"\1"), "a zstd file"),
        (bytes(32 * KIB) + b"\1CD001\1".ljust(4 * KIB, b"\0"), "an ISO 9660 image"),
        (b'<?xml version="1.0"?>\n<Envelope xmlns="x">', "an OVF descriptor"),
        (b"\xef\xbb\xbf\r\n<ovf:Envelope >", "an OVF descriptor"),
        (bytes(4 * KIB) + b"koly".ljust(512, b"\0"), "an Apple disk image"),
        (b"LUKS\xba\xbe\0\2".ljust(4 * KIB, b"\0"), "encrypted by LUKS, version 2, .* declare it raw"),
        (b"VMA\0\0\0\0\1".ljust(4 * KIB, b"\0"), "a Proxmox backup"),
        (b"\x89LZO\0\r\n\x1a\n".ljust(4 * KIB, b"\0"), "an lzop file"),
        (b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0".ljust(4 * KIB, b"\0"), "a cloop image"),
        (b"Bochs Virtual HD Image\0".ljust(4 * KIB, b"\0"), "a Bochs image"),
        (b"EVF\t\r\n\xff\0\1".ljust(4 * KIB, b"\0"), r"an EWF \(E01\) image"),
        (bytes(32 * KIB) + b"\0BEA01\1".ljust(4 * KIB, b"\0"), "a UDF image"),
        (b"\x14\x20\x28\x01".ljust(8 * KIB, b"\0"), "a Hyper-V machine's configuration"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n", "a Git LFS pointer.*git lfs pull"),
        (b"<!DOCTYPE html>\n<html><head><title>404</title>", "an HTML page"),
        (b"\r\n  <HTML>\r\n<body>Moved", "an HTML page"),
        (b'<?xml version="1.0"?>\n<Error><Code>AccessDenied</Code>', "an error message of an object store"),
        (b"<domain type='kvm'>\n<name>vm</name>", "a libvirt machine's description"),
        (b'<?xml version="1.0"?>\n<!-- ** DO NOT EDIT\n<Envelope> -->\n<VirtualBox xmlns="x">', r"\(.vbox\)"),
        ('<?xml version="1.0" encoding="UTF-16"?>\n<configuration>'.encode("utf-16"), "a Hyper-V machine's config"),
        (b"<?xml version='1.0'?><Parallels_disk_image Version=\"1.0\">", "the description of a Parallels disk"),
        (b'<?xml version="1.0"?><rss>', "an XML text"),
        (b'#!/usr/bin/vmware\n.encoding = "UTF-8"\nconfig.version = "8"\n', r"\(.vmx\)"),
        (b"SHA256(disk.vmdk)= " + b"0" * 64 + b"\n", "the manifest of an OVF package"),
    ],
)
def test_a_wrapper_or_another_kind_of_file_is_named(content: bytes, said: str) -> None:
    with pytest.raises(UnsupportedFeatureError, match=said):
        detect(MemoryBlob(content))


@pytest.mark.parametrize("kind", ["vhd", "fixed-vhd", "vhdx"])
def test_a_disk_that_was_declared_raw_is_raw_whatever_it_shows(kind: str, tmp_path: Path) -> None:
    content = made_by_qemu(kind, tmp_path)
    disk = open_disk(MemoryBlob(content), FORMATS["raw"])
    assert disk.size == len(content)
    assert bytes(disk.read_at(0, 512)) == content[:512]


@pytest.mark.parametrize("label", ["dos", "gpt"])
def test_a_partitioned_disk_is_raw(label: str, tmp_path: Path) -> None:
    path = tmp_path / "disk.raw"
    with path.open("wb") as file:
        file.truncate(8 * MIB)
    environment = {"PATH": "/usr/sbin:/sbin:/usr/bin"}
    subprocess.run(["sfdisk", "-q", "-X", label, path], input="size=2M\n", text=True, check=True, env=environment)
    blob = FileBlob(path)
    assert detect(blob).name == "raw"
    blob.close()


@pytest.mark.parametrize(
    "content",
    [
        bytes(MIB),
        b"hsqs" + bytes(MIB),  # a squashfs, bare
        b"XFSB" + bytes(MIB),
        bytes(1024 + 56) + b"\x53\xef" + bytes(MIB),  # an ext4, bare
        b"\xeb\x52\x90NTFS    " + bytes(MIB),
        b"\xeb\x63\x90" + bytes(MIB),
        b"<b is how this boot sector begins" + bytes(MIB),
        b'x = "y"\0\n' + bytes(MIB),
        b"LUKS is a word" + bytes(MIB),
    ],
)
def test_a_disk_without_any_header_stays_a_raw_disk(content: bytes) -> None:
    assert detect(MemoryBlob(content)).name == "raw"


@pytest.mark.parametrize("suffix", ["lzo", "rar", "lz4"])
def test_what_a_program_packed_is_to_be_unpacked(suffix: str) -> None:
    magics = {"lzo": b"\x89LZO\0\r\n\x1a\n", "rar": b"Rar!\x1a\7\1\0", "lz4": b"\x04\x22\x4d\x18"}
    with pytest.raises(UnsupportedFeatureError, match="unpack it first"):
        detect(MemoryBlob(magics[suffix] + bytes(KIB)))


def test_an_own_format_is_never_taken_for_a_foreign_one(tmp_path: Path) -> None:
    path = tmp_path / "disk.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "8M"], check=True, timeout=60)
    with path.open("ab") as file:
        file.write(b"conectix".ljust(512, b"\0"))
    blob = FileBlob(path)
    assert detect(blob).name == "qcow2"
    blob.close()


class CountedBlob(MemoryBlob):
    """Counts what is read of it."""

    bytes_read = 0

    def read_at(self, offset: int, length: int) -> bytes:
        self.bytes_read += length
        return super().read_at(offset, length)


def test_little_is_read() -> None:
    blob = CountedBlob(bytes(8 * MIB))
    assert detect(blob).name == "raw"
    assert blob.bytes_read < 64 * KIB


def detected(blob: MemoryBlob) -> str:
    """The format's name, or the words of the error."""
    try:
        return detect(blob).name
    except UnsupportedFeatureError as error:
        return str(error)


magics = st.sampled_from([b"QED\0", b"BZh", b"\x1f\x8b\x08", b"<?xml", b"KDMV", b"QFI\xfb"])


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=600) | magics, st.integers(0, 3), st.binary(max_size=600) | magics)
def test_any_content_is_a_format_or_named(head: bytes, gap: int, tail: bytes) -> None:
    found = detected(MemoryBlob(head + bytes(gap * 20_000) + tail))
    assert found in FORMATS or "which is no disk image that vmferry reads: " in found

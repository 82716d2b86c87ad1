"""The tar reader, judged by what Python's tarfile and 7z say of the same bytes."""

from __future__ import annotations

import random
import re
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.appliances.ova_builder import CountingBlob, make_tar, pad, pax_record, tar_header, tar_member
from vmferry.appliances._tar import is_tar, read_members
from vmferry.blob import MemoryBlob, check_range
from vmferry.errors import CorruptDiskError, UnsafeDiskError, VmferryError

END = bytes(1024)
FORMATS = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)


def members(content: bytes) -> dict[str, bytes]:
    blob = MemoryBlob(content, "x.ova")
    return {m.name: blob.read_at(m.offset, m.size) for m in read_members(blob)}


class SparseBlob:
    """A blob of any size; what is not given reads as zeros."""

    name = "sparse.ova"

    def __init__(self, size: int, pieces: dict[int, bytes]) -> None:
        self.size = size
        self._pieces = pieces

    def read_at(self, offset: int, length: int) -> bytes:
        check_range(self, offset, length)
        data = bytearray(length)
        for start, piece in self._pieces.items():
            low, high = max(start, offset), min(start + len(piece), offset + length)
            if low < high:
                data[low - offset : high - offset] = piece[low - start : high - start]
        return bytes(data)

    def close(self) -> None:
        pass


@pytest.mark.parametrize("tar_format", FORMATS)
def test_every_dialect_that_tarfile_writes_is_read(tar_format: int) -> None:
    files = {"vm.ovf": b"<x/>", "folder/disk one.vmdk": bytes(range(256)) * 9, "empty": b"", "ùàç虚拟机.vmdk": b"abc"}
    files["long/" * 18 + "disk.vmdk"] = b"long"
    content = make_tar(files, tar_format)
    assert is_tar(MemoryBlob(content))
    assert members(content) == files


def test_names_beyond_all_headers_are_read() -> None:
    name = "folder/" * 60 + "disk.vmdk"
    for tar_format in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        assert members(make_tar({name: b"x", "b": b"y"}, tar_format)) == {name: b"x", "b": b"y"}


@settings(deadline=None, max_examples=60)
@given(
    st.dictionaries(
        st.from_regex(r"[a-zé ]{1,60}(/[a-z]{1,60}){0,3}", fullmatch=True), st.binary(max_size=1500), max_size=6
    ),
    st.sampled_from(FORMATS),
)
def test_what_tarfile_writes_is_what_is_read(files: dict[str, bytes], tar_format: int) -> None:
    assert members(make_tar(files, tar_format)) == files


def test_7z_and_vmferry_see_the_same_members(tmp_path: Path) -> None:
    """Hand-made headers: V7, GNU long names, base-256, pax; another program is the judge of the tar itself."""
    content = (
        tar_member(b"old.txt", b"v7", b"\0", magic=b"")
        + tar_member(b"././@LongLink", b"n" * 120 + b"\0", b"L")
        + tar_member(b"n" * 100, b"gnu", magic=b"ustar  \0")
        + tar_header(b"big.bin", size_field=b"\x80" + (700).to_bytes(11, "big"))
        + pad(b"B" * 700)
        + tar_member(b"PaxHeaders/x", pax_record(b"path", "prénom/é.vmdk".encode()) + pax_record(b"size", b"3"), b"x")
        + tar_member(b"short", b"pax")
        + END
    )
    found = {"old.txt": b"v7", "n" * 120: b"gnu", "big.bin": b"B" * 700, "prénom/é.vmdk": b"pax"}
    assert members(content) == found
    path = tmp_path / "made.tar"
    path.write_bytes(content)
    listed = subprocess.run(["7z", "l", "-slt", "-ttar", str(path)], capture_output=True, text=True, check=True).stdout
    assert {(n, int(s)) for n, s in re.findall(r"^Path = (.+)\n.*\n?^Size = (\d+)", listed, re.MULTILINE)} >= {
        (name, len(data)) for name, data in found.items()
    }
    subprocess.run(["7z", "t", "-ttar", str(path)], check=True, capture_output=True)


def test_a_member_of_a_tebibyte_costs_one_more_read() -> None:
    size = (1 << 40) + 77
    header = tar_header(b"disk.vmdk", size_field=b"\x80" + size.to_bytes(11, "big"))
    after = 512 + size + (-size % 512)
    blob = SparseBlob(after + 2048, {0: header, after: tar_member(b"vm.ovf", b"<x/>")})
    found = read_members(blob)
    assert [(m.name, m.offset, m.size) for m in found] == [("disk.vmdk", 512, size), ("vm.ovf", after + 512, 4)]


def test_walking_an_ova_of_three_members_costs_little() -> None:
    disk = random.Random(1).randbytes(3 << 20)
    blob = CountingBlob(make_tar({"vm.ovf": b"x" * 9000, "vm.mf": b"y" * 200, "disk.vmdk": disk}, tarfile.PAX_FORMAT))
    assert is_tar(blob)
    assert len(read_members(blob)) == 3
    assert blob.reads <= 4
    assert blob.bytes_read <= 200_000


def test_pax_wins_over_the_header_and_a_global_header_counts_for_nothing() -> None:
    content = (
        tar_member(b"g", pax_record(b"path", b"wrong") + pax_record(b"size", b"99999999"), b"g")
        + tar_member(b"x", pax_record(b"size", b"600") + pax_record(b"mtime", b"1.5") + pax_record(b"uid", b"-3"), b"x")
        + tar_header(b"disk", 7)
        + pad(b"d" * 600)
        + tar_member(b"next", b"n")
        + END
    )
    assert members(content) == {"disk": b"d" * 600, "next": b"n"}


def test_directories_labels_and_apple_double_files_are_left_out() -> None:
    content = (
        tar_member(b"label", kind=b"V")
        + tar_header(b"folder/", 4096, b"5")  # no data follows a directory, whatever its size
        + tar_header(b"old-folder/", 0, b"\0")
        + tar_member(b"folder/._disk.vmdk", b"resource fork")
        + tar_member(b"./folder/./disk.vmdk", b"d")
        + END
    )
    assert members(content) == {"folder/disk.vmdk": b"d"}


@pytest.mark.parametrize("end", [b"", bytes(512), bytes(1024), bytes(10240), bytes(512) + b"junk" * 300, bytes(100)])
def test_the_end_may_be_missing_or_followed_by_anything(end: bytes) -> None:
    assert members(tar_member(b"a", b"1") + tar_member(b"b", b"2") + end) == {"a": b"1", "b": b"2"}
    assert members(tar_member(b"a", b"1") + tar_header(b"b", 1) + b"2") == {"a": b"1", "b": b"2"}  # not even padded


def test_a_name_that_is_not_utf_8_is_latin_1() -> None:
    assert members(tar_member("café.vmdk".encode("latin-1"), b"c") + END) == {"café.vmdk": b"c"}


@pytest.mark.parametrize(
    "name", [b"/etc/passwd", b"../x", b"a/../x", b"a\\b", b"C:x", b"C:\\x", b"a//b", b"./", b".", b"\x01/.."]
)
def test_unsafe_names_are_refused(name: bytes) -> None:
    with pytest.raises(UnsafeDiskError, match="unsafe name"):
        members(tar_member(name, b"x") + END)


def test_a_nul_in_a_pax_path_is_refused() -> None:
    with pytest.raises(UnsafeDiskError, match="unsafe name"):
        members(tar_member(b"x", pax_record(b"path", b"a\0b"), b"x") + tar_member(b"c", b"") + END)


@pytest.mark.parametrize(
    ("kind", "said"),
    [(b"1", "a hard link"), (b"2", "a symbolic link"), (b"3", "device"), (b"4", "device"), (b"6", "FIFO"),
     (b"S", "a sparse file"), (b"M", "another volume"), (b"Z", "unknown kind")],
)  # fmt: skip
def test_anything_but_plain_files_is_refused(kind: bytes, said: str) -> None:
    with pytest.raises(UnsafeDiskError, match=said):
        members(tar_member(b"vm.ovf", b"<x/>") + tar_member(b"odd", b"", kind) + END)


def test_a_sparse_member_of_pax_is_refused() -> None:
    extension = tar_member(b"x", pax_record(b"GNU.sparse.major", b"1") + pax_record(b"GNU.sparse.name", b"d"), b"x")
    with pytest.raises(UnsafeDiskError, match="sparse"):
        members(extension + tar_member(b"d", b"map") + END)


@pytest.mark.parametrize(
    ("one", "other"), [("é.vmdk", "e\u0301.vmdk"), ("vm.ovf", "vm.ovf"), ("vm.ovf", "./vm.ovf"), ("a/b", "a/./b")]
)
def test_the_same_name_twice_is_refused(one: str, other: str) -> None:
    with pytest.raises(UnsafeDiskError, match="two members called"):
        members(tar_member(one.encode(), b"1") + tar_member(other.encode(), b"2") + END)


@pytest.mark.parametrize(
    "field",
    [
        b"-0000001000",
        b"-1",
        b"+7",
        b"0x10",
        b"1_0",
        b"9",
        b"\xff" * 12,
        b"\x81" + bytes(11),
        b"\xc0" + bytes(11),
        b"12 34",
    ],
)
def test_a_size_that_is_no_size_is_refused(field: bytes) -> None:
    """A negative size would send a reader back to where it came from, for ever."""
    for kind in (b"0", b"5", b"g", b"x"):
        with pytest.raises(CorruptDiskError, match="its size"):
            members(tar_header(b"a", kind=kind, size_field=field) + END)


@pytest.mark.parametrize("record", [b"x", b"5 a=b", b"99 path=x\n", b"0 path=x\n", b"-3 path=x\n", b"9 pathxx\n",
                                    b"\xff path=1\n", b"99999999999999999999 a=b\n"])  # fmt: skip
def test_pax_records_that_are_none_are_refused(record: bytes) -> None:
    with pytest.raises(CorruptDiskError, match="pax records"):
        members(tar_member(b"x", record, b"x") + tar_member(b"a", b"1") + END)


@pytest.mark.parametrize("value", [b"-1", b"1e3", b"9" * 20, b" 5"])
def test_a_pax_size_that_is_none_is_refused(value: bytes) -> None:
    with pytest.raises(CorruptDiskError, match="size in its pax header"):
        members(tar_member(b"x", pax_record(b"size", value), b"x") + tar_member(b"a", b"1") + END)


@pytest.mark.parametrize("kind", [b"x", b"L"])
def test_a_header_that_claims_gigabytes_is_refused_unread(kind: bytes) -> None:
    size = 4 << 30
    blob = SparseBlob(size * 2, {0: tar_header(b"x", size, kind)})
    with pytest.raises(UnsafeDiskError, match="claims 4 GiB"):
        read_members(blob)


def test_many_large_extensions_are_refused_in_all() -> None:
    one = tar_member(b"x", pax_record(b"comment", b"c" * 1_000_000), b"x")
    with pytest.raises(UnsafeDiskError, match="16 MiB in all"):
        members(one * 20 + tar_member(b"a", b"1"))


def test_more_members_than_an_appliance_has_are_refused() -> None:
    with pytest.raises(UnsafeDiskError, match="more than 10,000 members"):
        members(b"".join(tar_header(b"%d" % number) for number in range(10_001)))


def test_headers_without_files_have_a_limit_too() -> None:
    with pytest.raises(UnsafeDiskError, match="more than 40,000 tar headers"):
        members(tar_header(b"folder/", 0, b"5") * 40_001)


@pytest.mark.parametrize(("size", "missing"), [(1000, 488), ((1 << 62), (1 << 62) - 512)])
def test_a_member_beyond_the_end_says_what_is_missing(size: int, missing: int) -> None:
    field = b"\x80" + size.to_bytes(11, "big")
    with pytest.raises(CorruptDiskError, match=rf"cut short.*disk\.vmdk.*; {missing:,} bytes are missing"):
        members(tar_header(b"disk.vmdk", size_field=field) + bytes(512))


def test_a_checksum_that_is_wrong_says_where() -> None:
    content = bytearray(tar_member(b"a", b"1") + tar_member(b"b", b"2") + END)
    content[1024 + 5] ^= 1
    with pytest.raises(CorruptDiskError, match="header at offset 1,024: its checksum"):
        members(bytes(content))


def test_a_checksum_of_signed_bytes_is_right_too() -> None:
    header = bytearray(tar_header(b"\xe9\xe9\xe9", 1, b"\0", magic=b""))
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(byte - 256 * (byte > 127) for byte in header)
    assert members(bytes(header) + pad(b"1")) == {"ééé": b"1"}


@pytest.mark.parametrize(
    "content", [b"", b"x" * 511, bytes(4096), b"KDMV" + bytes(2000), b"\xff" * 512, b"ustar" * 200]
)
def test_what_is_no_tar_is_not_taken_for_one(content: bytes) -> None:
    assert not is_tar(MemoryBlob(content))


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_flipped_bytes_give_members_inside_the_file_or_an_error(data: st.DataObject) -> None:
    content = bytearray(
        tar_member(b"x", pax_record(b"path", b"folder/disk.vmdk") + pax_record(b"size", b"600"), b"x")
        + tar_member(b"disk", b"d" * 600)
        + tar_member(b"././@LongLink", b"n" * 120 + b"\0", b"L")
        + tar_member(b"n" * 100, b"gnu")
        + END
    )
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):  # a checksum that was made right again
        block = data.draw(st.sampled_from([0, 1024, 2560, 3584])) % (len(content) - 512)
        content[block + 148 : block + 156] = b" " * 8
        content[block + 148 : block + 156] = b"%06o\0 " % sum(content[block : block + 512])
    blob = MemoryBlob(bytes(content))
    is_tar(blob)
    try:
        found = read_members(blob)
    except VmferryError:
        return
    assert all(0 <= m.offset <= m.offset + m.size <= blob.size and m.name for m in found)

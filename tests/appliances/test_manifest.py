"""Manifests as they are found in the wild."""

from __future__ import annotations

import hashlib
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmferry.appliances._manifest import parse_manifest
from vmferry.errors import CorruptDiskError, UnsafeDiskError, VmferryError
from vmferry.machine import Digest

SHA1 = hashlib.sha1(b"x", usedforsecurity=False).hexdigest()
SHA256 = hashlib.sha256(b"x").hexdigest()
SHA384 = hashlib.sha384(b"x").hexdigest()
SHA512 = hashlib.sha512(b"x").hexdigest()


@pytest.mark.parametrize(
    ("line", "algorithm"),
    [
        (f"SHA1(f.vmdk)= {SHA1}\n", "sha1"),
        (f"SHA-1(f.vmdk)={SHA1}", "sha1"),
        (f"SHA1 (f.vmdk) = {SHA1}\r\n", "sha1"),
        (f"SHA256(f.vmdk)= {SHA256}\n", "sha256"),
        (f"SHA256 (f.vmdk) = {SHA256.upper()}\r\n\r\n", "sha256"),
        (f"SHA2-256(f.vmdk)= {SHA256}", "sha256"),
        (f"sha-256 ( f.vmdk )  =  {SHA256}  ", "sha256"),
        (f"\ufeffSHA384(./f.vmdk)= {SHA384}", "sha384"),
        (f"\n\n  SHA512(f.vmdk)= {SHA512}\r", "sha512"),
    ],
)
def test_every_spelling_that_is_found_is_read(line: str, algorithm: str) -> None:
    digests, notes = parse_manifest(line.encode(), "vm.mf")
    assert digests == {"f.vmdk": Digest(algorithm, hashlib.new(algorithm, b"x").digest())}
    assert notes == []


@pytest.mark.parametrize("name", ["a b.vmdk", "disk (copy).vmdk", "a)= b(c).vmdk", "虚拟机-1.vmdk", "folder/d.vmdk"])
def test_names_may_hold_anything(name: str) -> None:
    digests, _ = parse_manifest(f"SHA256({name})= {SHA256}\nSHA256(z)= {SHA256}\n".encode(), "vm.mf")
    assert list(digests) == [name, "z"]


def test_a_name_that_is_not_utf_8_is_latin_1() -> None:
    digests, _ = parse_manifest(f"SHA256(café)= {SHA256}\n".encode("latin-1"), "vm.mf")
    assert list(digests) == ["café"]


@pytest.mark.parametrize(
    "line", [f"MD5(f)= {SHA1[:32]}", f"SHA3-256(f)= {SHA256}", f"SHA256(f)= {SHA256[:-1]}", f"SHA1(f)= {SHA256}",
             "SHA256(f)=", "-----BEGIN CERTIFICATE-----", f"SHA256 f = {SHA256}", f"SHA224(f)= {SHA256[:56]}"]
)  # fmt: skip
def test_a_line_that_is_not_understood_is_noted(line: str) -> None:
    digests, notes = parse_manifest(f"{line}\nSHA1(g)= {SHA1}\n".encode(), "vm.mf")
    assert list(digests) == ["g"]
    assert len(notes) == 1
    assert "is not understood" in notes[0]


def test_the_same_digest_twice_is_no_contradiction_and_the_longest_counts() -> None:
    text = f"SHA256(f)= {SHA256}\nSHA1(f)= {SHA1}\nSHA256(f)= {SHA256.upper()}\n"
    digests, notes = parse_manifest(text.encode(), "vm.mf")
    assert digests == {"f": Digest("sha256", bytes.fromhex(SHA256))}
    assert notes == []


def test_two_digests_of_one_file_are_refused_with_both() -> None:
    with pytest.raises(CorruptDiskError, match="two digests for f") as refused:
        parse_manifest(f"SHA256(f)= {SHA256}\nSHA256(f)= {'0' * 64}\n".encode(), "vm.mf")
    assert SHA256 in str(refused.value)
    assert "0" * 64 in str(refused.value)


def test_a_manifest_of_junk_costs_little() -> None:
    begun = time.monotonic()
    _, notes = parse_manifest(b"x\n" * (1 << 19), "vm.mf")
    assert len(notes) == 4
    assert "524,285 more lines" in notes[3]
    for hostile in (
        b"SHA1(" + b")" * (1 << 20),
        b"SHA1(" + b") " * (1 << 19) + b"=",
        b"a" * (1 << 20),
        b" " * (1 << 20),
    ):
        parse_manifest(hostile, "vm.mf")
    assert time.monotonic() - begun < 4


def test_a_manifest_of_too_many_files_is_refused() -> None:
    text = "".join(f"SHA1({n})= {SHA1}\n" for n in range(20_001))
    with pytest.raises(UnsafeDiskError, match="more than 20,000"):
        parse_manifest(text.encode(), "vm.mf")


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=300))
def test_any_bytes_give_digests_or_an_error_of_ours(content: bytes) -> None:
    text = f"SHA1(f)= {SHA1}\n".encode()
    try:
        digests, _ = parse_manifest(text + content + b"\n" + text, "vm.mf")
    except VmferryError:
        return
    assert digests["f"].algorithm in ("sha1", "sha256", "sha384", "sha512")

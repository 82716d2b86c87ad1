"""The import manifest: what is written is read again, and nothing that does not make up a file is believed."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmferry.import_manifest import ImportManifest, ManifestError, ManifestPart, parse_manifest, render_manifest

MIB = 1 << 20


def make_manifest(lengths: list[int], kind: str = "RAW") -> ImportManifest:
    parts, start = [], 0
    for index, length in enumerate(lengths):
        end = start + length - 1
        parts.append(ManifestPart(index, start, end, f"k{index}", f"http://s3/b/k{index}?sig=a&b=c", "h", "d"))
        start += length
    return ImportManifest(kind, start, 1, tuple(parts), "http://s3/b/m?x=1&y=2")


@given(st.lists(st.integers(1, 1 << 40), min_size=1, max_size=30), st.sampled_from(["RAW", "VHD", "VMDK"]))
def test_what_is_written_is_read_again(lengths: list[int], kind: str) -> None:
    manifest = make_manifest(lengths, kind)
    assert parse_manifest(render_manifest(manifest)) == manifest
    assert manifest.length == sum(lengths)


@given(st.binary(max_size=400), st.integers(0, 2000))
def test_only_a_typed_error_comes_out(noise: bytes, place: int) -> None:
    content = render_manifest(make_manifest([MIB, MIB]))
    for bad in (noise, content[:place] + noise + content[place + len(noise) :]):
        with suppress(ManifestError):
            parse_manifest(bad)


def altered(old: str, new: str) -> bytes:
    content = render_manifest(make_manifest([MIB, MIB, 100])).decode()
    assert old in content
    return content.replace(old, new, 1).encode()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<manifest/>",
        b"<!DOCTYPE m [<!ENTITY a 'b'>]>" + render_manifest(make_manifest([1])).partition(b"?>")[2],
        altered("2010-11-15", "2011-01-01"),
        altered("RAW", "QCOW2"),
        altered('count="3"', 'count="4"'),
        altered('count="3"', 'count="-3"'),
        altered('index="1"', 'index="0"'),
        altered('index="2"', 'index="7"'),
        altered('start="1048576"', 'start="1048577"'),
        altered('start="1048576"', 'start="1048575"'),
        altered('end="1048575"', 'end="1048576"'),
        altered('end="2097251"', 'end="99"'),
        altered('end="2097251"', f'end="{1 << 63}"'),
        altered("<size>", "<size>-"),
        altered("<get-url>http://s3/b/k1?sig=a&amp;b=c</get-url>", ""),
    ],
)
def test_what_does_not_make_up_a_file_is_refused(content: bytes) -> None:
    with pytest.raises(ManifestError, match=r"cannot be used: .* Upload the disk again\.$"):
        parse_manifest(content)


def test_a_manifest_of_any_length_is_bounded() -> None:
    with pytest.raises(ManifestError, match="larger parts"):
        parse_manifest(b"<manifest>" + b" " * (17 * MIB) + b"</manifest>")

"""What is packed is read at any place, by any number of threads, as the program that packed it would unpack it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wrappers.packers import PACKERS, by_7z, zip_of
from vmferry import wrappers
from vmferry.blob import MemoryBlob
from vmferry.errors import CorruptDiskError, UnsafeDiskError, UnsupportedFeatureError, VmferryError
from vmferry.units import KIB, MIB

pytestmark = pytest.mark.slow

NOISE = random.Random(4).randbytes(MIB)
CONTENT = NOISE[: 300 * KIB + 77] + bytes(2 * MIB) + NOISE[:1000] * 700 + NOISE[: 700 * KIB]

UNCHECKED = {"xz, no checks", "zstd, many frames", "zip, stored"}
"""No checksum in them, and one that would cost reading all of a file that is else read where it lies."""


def unwrapped(packed: bytes) -> tuple[object, bytes]:
    blob, wrapper = wrappers.unwrap(MemoryBlob(packed, "disk.packed"))
    return wrapper and wrapper.name, blob.read_at(0, blob.size)


@pytest.mark.parametrize("packer", PACKERS)
@pytest.mark.parametrize("content", [b"", b"x", CONTENT], ids=["empty", "one byte", "some MiB"])
def test_the_content_is_what_was_packed(packer: str, content: bytes) -> None:
    name, pack = PACKERS[packer]
    assert unwrapped(pack(content)) == (name, content)


@pytest.mark.parametrize("packer", PACKERS)
def test_threads_that_jump_about_read_the_right_bytes(packer: str) -> None:
    blob, _ = wrappers.unwrap(MemoryBlob(PACKERS[packer][1](CONTENT)))

    def read(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(8):
            offset = chance.randrange(len(CONTENT))
            length = chance.randrange(min(2 * MIB, len(CONTENT) - offset) + 1)
            assert blob.read_at(offset, length) == CONTENT[offset : offset + length]

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(read, range(4)))


@settings(deadline=None, max_examples=25)
@given(
    st.sampled_from(sorted(PACKERS)),
    st.lists(st.tuples(st.sampled_from([b"\0", b"ab", NOISE]), st.integers(1, 300 * KIB)), max_size=5),
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=8),
)
def test_any_read_of_any_content_gives_its_bytes(
    packer: str, runs: Sequence[tuple[bytes, int]], reads: Sequence[tuple[float, float]]
) -> None:
    content = b"".join((pattern * (length // len(pattern) + 1))[:length] for pattern, length in runs)
    blob, _ = wrappers.unwrap(MemoryBlob(PACKERS[packer][1](content)))
    assert blob.size == len(content)
    for where, how_much in reads:
        offset = int(where * len(content))
        length = int(how_much * (len(content) - offset))
        assert blob.read_at(offset, length) == content[offset : offset + length]


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(sorted(PACKERS)), st.data())
def test_a_damaged_file_raises_our_errors_or_gives_as_many_bytes_as_it_says(packer: str, data: st.DataObject) -> None:
    packed = bytearray(PACKERS[packer][1](CONTENT[MIB : MIB + 60_000] + NOISE[:5000]))
    for _ in range(data.draw(st.integers(1, 4))):
        packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    length = data.draw(st.one_of(st.just(len(packed)), st.integers(0, len(packed))))
    try:
        blob, _ = wrappers.unwrap(MemoryBlob(bytes(packed[:length])))
        assert len(blob.read_at(0, min(blob.size, 4 * MIB))) == min(blob.size, 4 * MIB)
    except VmferryError:
        pass


@pytest.mark.parametrize("packer", sorted(PACKERS.keys() - UNCHECKED))
def test_a_flipped_bit_in_the_content_is_found(packer: str) -> None:
    packed = bytearray(PACKERS[packer][1](NOISE[:200_000]))
    packed[len(packed) // 3] ^= 0x10
    with pytest.raises(CorruptDiskError, match=r"(damaged|cut short|not sound|match)"):
        unwrapped(bytes(packed))


@pytest.mark.parametrize("packer", PACKERS)
def test_a_file_that_is_cut_short_is_refused(packer: str) -> None:
    packed = PACKERS[packer][1](NOISE[:200_000])
    with pytest.raises(CorruptDiskError, match="cut short"):
        unwrapped(packed[: len(packed) // 3])


@pytest.mark.parametrize("packer", ["gzip", "xz", "zstd", "bzip2", "zip"])
def test_what_is_packed_twice_is_refused(packer: str) -> None:
    pack = PACKERS[packer][1]
    with pytest.raises(
        UnsafeDiskError, match=f"{packer} file with a gzip file nested in it; 1 packing is read: unpack"
    ):
        unwrapped(pack(PACKERS["gzip"][1](CONTENT[:1000])))


def test_a_file_that_is_not_packed_is_itself() -> None:
    blob = MemoryBlob(CONTENT)
    assert wrappers.unwrap(blob) == (blob, None)


def test_a_raw_disk_that_begins_with_two_letters_of_bzip2_is_not_packed() -> None:
    blob = MemoryBlob(b"BZh is how this boot sector begins".ljust(512))
    assert wrappers.detect(blob) is None


def test_a_zip_of_several_files_is_refused_by_their_names() -> None:
    with pytest.raises(UnsupportedFeatureError, match=r"zip file of 2 files \(a.vmdk, a-flat.vmdk\): unpack it first"):
        unwrapped(zip_of({"a.vmdk": b"1", "a-flat.vmdk": b"2"}))


def test_a_zip_file_of_nothing_is_refused() -> None:
    with pytest.raises(VmferryError, match="without any file"):
        unwrapped(zip_of({"folder/": b""}))


@pytest.mark.parametrize("options", [["-ppassword", "-mem=AES256"], ["-ppassword", "-mem=ZipCrypto"]])
def test_an_encrypted_zip_is_refused(options: list[str], tmp_path: Path) -> None:
    with pytest.raises(UnsupportedFeatureError, match="is encrypted: unpack it first"):
        unwrapped(by_7z(NOISE[:1000], tmp_path, *options))


@pytest.mark.parametrize(("method", "said"), [("Deflate64", "deflate64"), ("LZMA", "LZMA"), ("BZip2", "bzip2")])
def test_a_zip_by_another_method_is_refused_by_its_name(method: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedFeatureError, match=f"packed by zip with {said}: unpack it first"):
        unwrapped(by_7z(bytes(100_000), tmp_path, f"-mm={method}"))


@pytest.mark.parametrize(("suffix", "kind"), [("zip", "zip"), ("gz", "gzip"), ("bz2", "bzip2"), ("xz", "xz")])
def test_what_7z_packs_is_read(suffix: str, kind: str, tmp_path: Path) -> None:
    assert unwrapped(by_7z(CONTENT, tmp_path, "-mx1", suffix=suffix)) == (kind, CONTENT)


def test_closing_the_content_closes_the_file() -> None:
    class Closing(MemoryBlob):
        def close(self) -> None:
            closed.append(self.name)

    closed: list[str] = []
    for packer, (_, pack) in PACKERS.items():
        content, _ = wrappers.unwrap(Closing(pack(b"content"), packer))
        assert packer not in closed
        content.close()
    assert closed == list(PACKERS)

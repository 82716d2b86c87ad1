"""Unpacked OVF packages: the same as in a tar, and nothing of what else lies in the folder."""

from __future__ import annotations

import bz2
import gzip
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.appliances.descriptors import DIALECTS
from tests.appliances.ova_builder import envelope, make_tar, manifest
from vmferry.appliances import PACKAGES, HashedBlob, detect, open_appliance, verify
from vmferry.blob import FileBlob, MemoryBlob
from vmferry.errors import CorruptDiskError, UnsafeDiskError, VmferryError
from vmferry.folder import LocalFolder, MemoryFolder
from vmferry.machine import Appliance
from vmferry.wrappers import WRAPPERS

DISKS = {"web-2.vmdk": b"data!", "web-1.vmdk": b"root", "web-3.nvram": b"nvram!"}


def open_folder(files: dict[str, bytes], name: str = "web.ovf") -> Appliance:
    folder = MemoryFolder(files, "vm")
    return open_appliance(folder.open(name), folder)


def read(appliance: Appliance) -> dict[str, bytes]:
    return {name: blob.read_at(0, blob.size) for name, blob in appliance.blobs.items()}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_is_read_out_of_a_folder(dialect: str) -> None:
    files = {"web.ovf": DIALECTS[dialect].encode()} | DISKS
    appliance = open_folder(files | {"web.mf": manifest(files), "other.mf": b"SHA1(web.ovf)= 00"})
    assert detect(MemoryBlob(files["web.ovf"], "web.ovf")) is PACKAGES["ovf"]
    assert read(appliance) == {"web-1.vmdk": b"root", "web-2.vmdk": b"data!"}
    assert appliance.machine.notes == ()
    for name, digest in appliance.digests.items():
        verify(name, appliance.blobs[name], digest)
    assert set(appliance.digests) == set(appliance.blobs)
    appliance.close()


def test_a_folder_on_disk_gives_what_a_tar_gives(tmp_path: Path) -> None:
    files = {"web.ovf": DIALECTS["VMware"].encode()} | DISKS
    files["web.mf"] = manifest(files)
    root = tmp_path / "vm"
    root.mkdir()
    for name, content in files.items():
        (root / name).write_bytes(content)
    before = len(list(Path("/proc/self/fd").iterdir()))
    folder = LocalFolder(root)
    unpacked = open_appliance(FileBlob(root / "web.ovf"), folder)
    packed = open_appliance(MemoryBlob(make_tar(files), "vm.ova"))
    assert unpacked.machine == packed.machine
    assert unpacked.digests == packed.digests
    assert read(unpacked) == read(packed)
    assert unpacked.blobs["web-1.vmdk"].name == f"{root}/web-1.vmdk"
    unpacked.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_another_machines_manifest_is_not_this_ones() -> None:
    files = {"web.ovf": envelope(), "disk1.vmdk": b"disk"}
    notes = open_folder(files | {"other.mf": manifest({"web.ovf": b"?"}), "other.cert": b""}).machine.notes
    assert notes == ("There is no manifest: the files are not verified.",)


def test_a_spoilt_descriptor_or_a_missing_disk_is_refused() -> None:
    files = {"web.ovf": envelope(), "disk1.vmdk": b"disk"}
    with pytest.raises(CorruptDiskError, match=r"vm/web\.ovf: its SHA256 digest"):
        open_folder(files | {"web.mf": manifest(files), "web.ovf": envelope(system=" ")})
    with pytest.raises(CorruptDiskError, match=r"vm: the file disk1\.vmdk, which the descriptor refers to"):
        open_folder({"web.ovf": envelope()})
    with pytest.raises(UnsafeDiskError, match="outside of the package"):
        open_folder(files | {"web.ovf": envelope(files='<File ovf:href="../disk1.vmdk" ovf:id="file1"/>')})


def test_a_descriptor_in_a_folder_of_the_folder_finds_its_own_disks() -> None:
    files = {"a/web.ovf": envelope(), "a/disk1.vmdk": b"right", "b/disk1.vmdk": b"wrong"}
    appliance = open_folder(files, "a/web.ovf")
    assert read(appliance) == {"a/disk1.vmdk": b"right"}
    beside = appliance.companions["a/disk1.vmdk"].beside
    assert beside is not None
    assert list(beside.names()) == ["disk1.vmdk", "web.ovf"]


def test_chunks_in_a_folder_are_put_together_and_closed(tmp_path: Path) -> None:
    (tmp_path / "vm.ovf").write_bytes(
        envelope(files='<File ovf:href="d.vmdk" ovf:id="file1" ovf:chunkSize="4" ovf:size="6"/>')
    )
    (tmp_path / "d.vmdk.000000000").write_bytes(b"0123")
    (tmp_path / "d.vmdk.000000001").write_bytes(b"45")
    before = len(list(Path("/proc/self/fd").iterdir()))
    folder = LocalFolder(tmp_path)
    appliance = open_appliance(folder.open("vm.ovf"), folder)
    assert read(appliance) == {"d.vmdk": b"012345"}
    appliance.close()
    (tmp_path / "d.vmdk.000000001").write_bytes(b"456")
    blob = folder.open("vm.ovf")
    with pytest.raises(CorruptDiskError, match="2 chunks"):
        open_appliance(blob, folder)
    blob.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


CONTENT = random.Random(1).randbytes(300_000) + bytes(400_000)
PACKERS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "bzip2": bz2.compress}


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("said", ["", ' ovf:compression="identity"', ' ovf:compression="{kind}"'])
@pytest.mark.parametrize("kind", PACKERS)
def test_a_packed_disk_is_read_unpacked_and_verified_packed(kind: str, said: str, chunked: bool) -> None:
    """A package whose packing nobody declared is read as well."""
    assert kind in WRAPPERS
    packed = PACKERS[kind](CONTENT)
    step = 100_000
    sizes = f' ovf:size="{len(packed)}"' + (f' ovf:chunkSize="{step}"' if chunked else "")
    descriptor = envelope(files=f'<File ovf:href="d.vmdk" ovf:id="file1"{said.format(kind=kind)}{sizes}/>')
    starts = range(0, len(packed), step)
    files = {"d.vmdk": packed}
    if chunked:
        files = {f"d.vmdk.{n:09d}": packed[start : start + step] for n, start in enumerate(starts)}
    listed = manifest({"vm.ovf": descriptor, "d.vmdk": packed})
    appliance = open_appliance(MemoryBlob(make_tar({"vm.ovf": descriptor, "vm.mf": listed} | files), "vm.ova"))
    blob = appliance.blobs["d.vmdk"]
    assert blob.size == len(CONTENT)
    assert blob.read_at(0, blob.size) == CONTENT
    assert blob.read_at(299_990, 20) == CONTENT[299_990:300_010]
    if not chunked:
        digest = appliance.digests["d.vmdk"]
        verify("d.vmdk", blob, digest)
        hashed = HashedBlob(blob, digest)
        assert hashed.read_at(1, 100) == CONTENT[1:101]
        hashed.finish()
        spoilt = bytearray(packed)
        spoilt[-1] ^= 1
        other = HashedBlob(blob, type(digest)(digest.algorithm, bytes(32)))
        with pytest.raises(CorruptDiskError, match="digest is"):
            other.finish()
    assert not any("says" in note for note in appliance.machine.notes)
    appliance.close()


@pytest.mark.parametrize("kind", PACKERS)
def test_what_is_said_to_be_packed_and_is_not_is_refused(kind: str) -> None:
    descriptor = envelope(files=f'<File ovf:href="d.vmdk" ovf:id="file1" ovf:compression="{kind}"/>')
    with pytest.raises(VmferryError):
        open_appliance(MemoryBlob(make_tar({"vm.ovf": descriptor, "d.vmdk": b"KDMV" * 100}), "vm.ova"))


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_flipped_bytes_give_the_same_disks_or_an_error_of_ours(data: st.DataObject) -> None:
    files = {"web.ovf": envelope(), "disk1.vmdk": b"disk"}
    files["web.mf"] = manifest(files)
    name = data.draw(st.sampled_from(["web.ovf", "web.mf"]))
    content = bytearray(files[name])
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        appliance = open_folder(files | {name: bytes(content)})
    except VmferryError:
        return
    assert read(appliance) == {"disk1.vmdk": b"disk"}

"""What ``convert`` and ``inspect`` take and make beside plain disks: chains, packed files, folders, appliances."""

from __future__ import annotations

import gzip
import hashlib
import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.cli.material import call_vmferry, left_over, make_raw, make_stream, qemu_img
from vmferry.units import MIB


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_raw(tmp_path_factory.mktemp("raw") / "disk.raw", 24 * MIB, bootable=True)


def convert(*words: str | Path) -> str:
    done = call_vmferry("convert", *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def refused(*words: str | Path) -> str:
    done = call_vmferry("convert", *words)
    assert done.returncode != 0
    (line,) = done.stderr.splitlines()
    return line


def inspect(*words: str | Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(call_vmferry("inspect", "--json", *words).stdout)
    return document


def change(path: Path, place: int, letter: int) -> None:
    """Write 64 KiB into an image, by QEMU."""
    command = ["qemu-io", "-c", f"write -P {letter} {place} 64k", str(path)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)


@pytest.fixture
def chain(raw: Path, tmp_path: Path) -> Path:
    """A qcow2 on a qcow2 on a raw disk, each with something of its own."""
    base = tmp_path / "base.raw"
    base.write_bytes(raw.read_bytes())
    for name, parent, kind, place in (("middle", "base.raw", "raw", MIB), ("top", "middle.qcow2", "qcow2", 2 * MIB)):
        path = tmp_path / f"{name}.qcow2"
        qemu_img("create", "-f", "qcow2", "-b", tmp_path / parent, "-F", kind, path)
        change(path, place, 7)
    return tmp_path


def test_parents_are_read_when_they_are_given_and_never_otherwise(chain: Path) -> None:
    top, out = chain / "top.qcow2", chain / "out.raw"
    assert "--parent" in refused(top, out)
    convert(top, out, "--parent", chain / "middle.qcow2", "--parent", chain / "base.raw")
    assert "identical" in qemu_img("compare", "-f", "qcow2", "-F", "raw", top, out)
    document = inspect(top, "--parent", chain / "middle.qcow2", "--parent", chain / "base.raw")
    (disk,) = document["disks"]
    assert [parent["virtual_size"] for parent in disk["chain"]] == [24 * MIB, 24 * MIB]


def test_an_internal_snapshot_is_read_by_its_name(raw: Path, tmp_path: Path) -> None:
    image, out = tmp_path / "disk.qcow2", tmp_path / "out.raw"
    qemu_img("convert", "-f", "raw", "-O", "qcow2", raw, image)
    qemu_img("snapshot", "-c", "before", image)
    change(image, 3 * MIB, 9)
    convert(image, out, "--snapshot", "before")
    assert "identical" in qemu_img("compare", "-f", "raw", "-F", "raw", raw, out)
    assert "it has before" in refused(image, out, "--snapshot", "after")
    (disk,) = inspect(image)["disks"]
    assert disk["snapshots"] == ["before"]


@pytest.mark.parametrize("kind", ["monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat"])
def test_extent_files_are_found_by_the_rule_or_given(kind: str, raw: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    image, out = tmp_path / "in" / "disk.vmdk", tmp_path / "out.raw"
    qemu_img("convert", "-f", "raw", "-O", "vmdk", "-o", f"subformat={kind}", raw, image)
    convert(image, out)
    assert "identical" in qemu_img("compare", "-f", "raw", "-F", "raw", raw, out)
    (extent,) = [path for path in (tmp_path / "in").iterdir() if path != image]
    image.write_text(image.read_text().replace(extent.name, "elsewhere.vmdk"))
    elsewhere = extent.rename(tmp_path / "elsewhere.vmdk")
    assert "--extent" in refused(image, out)
    convert(image, out, "--extent", elsewhere)
    assert "identical" in qemu_img("compare", "-f", "raw", "-F", "raw", raw, out)


def test_a_packed_image_is_read_through_its_packing(raw: Path, tmp_path: Path) -> None:
    image = make_stream(raw, tmp_path / "disk.vmdk")
    packed, out = tmp_path / "disk.vmdk.gz", tmp_path / "out.raw"
    packed.write_bytes(gzip.compress(image.read_bytes(), 1))
    convert(packed, out)
    assert "identical" in qemu_img("compare", "-f", "raw", "-F", "raw", raw, out)
    document = inspect(packed)
    assert (document["wrapper"], document["importable"]) == ("gzip", False)
    assert "[Unsupported specified file format]" in document["ec2"]["refusals"][0]


def test_a_vmdk_for_vmware_is_a_stream_of_version_3(raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.vmdk"
    convert(raw, out)
    (disk,) = inspect(out)["disks"]
    assert disk["subformat"] == "streamOptimized"
    assert "identical" in qemu_img("compare", "-f", "raw", "-F", "vmdk", raw, out)


@pytest.mark.parametrize("target", ["generic", "esxi", "virtualbox", "xen", "hyperv"])
def test_disks_become_an_appliance_for_any_target(target: str, raw: Path, tmp_path: Path) -> None:
    other = make_raw(tmp_path / "other.raw", 8 * MIB, 5)
    ova = tmp_path / "web.ova"
    said = convert(raw, other, ova, "--for", target, "--name", "web server")
    assert "2 disks" in said
    document = inspect(ova)
    assert document["machine"]["name"] == "web server"
    assert len(document["disks"]) == 2
    for number, source in ((1, raw), (2, other)):
        out = tmp_path / "out.raw"
        assert "manifest verified" in convert(ova, out, "--disk", str(number))
        assert "identical" in qemu_img("compare", "-f", "raw", "-F", "raw", source, out)


def test_the_manifest_holds_the_digest_of_every_file(raw: Path, tmp_path: Path) -> None:
    for words, algorithm in (([], "sha256"), (["--manifest", "sha1"], "sha1")):
        ova = tmp_path / "vm.ova"
        convert(raw, ova, *words)
        with tarfile.open(ova) as archive:
            members = {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]
        assert list(members) == ["vm.ovf", "vm.mf", "vm-disk1.vmdk"]
        for line in members["vm.mf"].decode().splitlines():
            name, digest = line.removeprefix(f"{algorithm.upper()}(").split(")= ")
            assert hashlib.new(algorithm, members[name]).hexdigest() == digest
    convert(raw, tmp_path / "none.ova", "--manifest", "none")
    with tarfile.open(tmp_path / "none.ova") as archive:
        assert archive.getnames() == ["none.ovf", "none-disk1.vmdk"]


def test_an_appliance_becomes_another_with_the_same_machine(raw: Path, tmp_path: Path) -> None:
    first, second, third = tmp_path / "first.ova", tmp_path / "second.ova", tmp_path / "third.xva"
    convert(raw, first, "--name", "db", "--controller", "lsilogicsas")
    convert(first, second)
    assert inspect(first)["machine"] == inspect(second)["machine"]
    convert(second, third)
    document = inspect(third)
    assert document["container"] == "xva"
    assert document["machine"]["name"] == "db"
    out = tmp_path / "out.raw"
    convert(third, out)
    assert "identical" in qemu_img("compare", "-f", "raw", "-F", "raw", raw, out)


def test_a_folder_of_vmware_is_a_machine(raw: Path, tmp_path: Path) -> None:
    folder = tmp_path / "web"
    folder.mkdir()
    qemu_img("convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=monolithicFlat", raw, folder / "web.vmdk")
    (folder / "web.vmx").write_text(
        '.encoding = "UTF-8"\ndisplayName = "web"\nmemsize = "2048"\nnumvcpus = "2"\n'
        'scsi0.present = "TRUE"\nscsi0:0.present = "TRUE"\nscsi0:0.fileName = "web.vmdk"\n'
    )
    out = tmp_path / "out.qcow2"
    convert(folder, out)
    assert "identical" in qemu_img("compare", "-f", "raw", "-F", "qcow2", raw, out)
    document = inspect(folder)
    assert (document["container"], document["importable"]) == ("vmx", False)
    assert "convert it first" in str(document["notes"])


def test_a_failure_on_the_second_disk_leaves_no_appliance(raw: Path, tmp_path: Path) -> None:
    stream = make_stream(raw, tmp_path / "whole.vmdk").read_bytes()
    (tmp_path / "cut.vmdk").write_bytes(stream[: len(stream) // 2])
    before = left_over(tmp_path)
    assert "cut short" in refused(raw, tmp_path / "cut.vmdk", tmp_path / "vm.ova")
    assert left_over(tmp_path) == before


def test_what_ec2_would_refuse_is_told(raw: Path, tmp_path: Path) -> None:
    sparse, vhd = tmp_path / "disk.vmdk", tmp_path / "disk.vhd"
    qemu_img("convert", "-f", "raw", "-O", "vmdk", raw, sparse)
    convert(raw, vhd, "--subformat", "fixed")
    refusal = inspect(sparse)["ec2"]
    assert refusal["accepts"] is False
    assert "[Unsupported VMDK File Format]" in refusal["refusals"][0]
    (about_contents,) = inspect(vhd)["ec2"]["refusals"]  # there is no system on it; the file itself is fine
    assert about_contents.endswith("[Unknown OS / Missing OS files.]")
    assert "EC2 would take it: no: monolithicSparse" in call_vmferry("inspect", sparse).stdout

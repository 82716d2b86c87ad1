"""Machines whose disks lie beside their description: each dialect the same machine, no name a way out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.appliances.folders import DESCRIPTIONS
from tests.appliances.ova_builder import envelope
from vmferry.appliances import PACKAGES, detect, find_description, open_appliance
from vmferry.blob import Blob, MemoryBlob
from vmferry.errors import (
    CorruptDiskError,
    UnknownFormatError,
    UnsafeDiskError,
    UnsupportedFeatureError,
    VmferryError,
)
from vmferry.folder import LocalFolder, MemoryFolder
from vmferry.limits import MAX_MACHINE_DISKS
from vmferry.machine import Appliance, Firmware

DISKS = {"Virtual Hard Disks/one.img": b"one", "two.img": b"two"}


class WatchedFolder(MemoryFolder):
    """Knows what was opened."""

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(files, "vm")
        self.opened: list[str] = []

    def open(self, name: str) -> Blob:
        assert name in self.names()
        self.opened.append(name)
        return super().open(name)


def folder_of(dialect: str, paths: Sequence[str], files: dict[str, bytes] | None = None) -> WatchedFolder:
    name, write = DESCRIPTIONS[dialect]
    return WatchedFolder({name: write(paths)} | (DISKS if files is None else files))


def open_in(folder: WatchedFolder) -> Appliance:
    return open_appliance(folder.open(find_description(folder)), folder)


def read(appliance: Appliance) -> dict[str, bytes]:
    return {name: blob.read_at(0, blob.size) for name, blob in appliance.blobs.items()}


@pytest.mark.parametrize("dialect", DESCRIPTIONS)
def test_every_dialect_tells_of_the_same_machine(dialect: str) -> None:
    appliance = open_in(folder_of(dialect, ["one.img", "two.img"]))
    machine = appliance.machine
    assert (machine.name, machine.cpus, machine.memory, machine.firmware) == ("web", 4, 3 << 30, Firmware.UEFI)
    assert [disk.name for disk in machine.disks] == ["Virtual Hard Disks/one.img", "two.img"]
    assert [(disk.controller, disk.unit) for disk in machine.disks] == [(0, 0), (0, 1)]
    assert read(appliance) == {"Virtual Hard Disks/one.img": b"one", "two.img": b"two"}
    (card,) = machine.interfaces
    assert card.network == "LAN"
    assert (card.mac or "").replace(":", "").upper() == "566F00000001"
    assert appliance.digests == {}
    assert appliance.package is not None
    appliance.close()
    appliance.close()


@pytest.mark.parametrize(
    ("dialect", "package", "bus", "hint"),
    [("vmx", "vmx", "scsi", None), ("vbox", "vbox", "sata", "vdi"), ("libvirt", "libvirt", "virtio", "qcow2"),
     ("hyperv", "hyperv", "scsi", None), ("vmcx", "hyperv", "scsi", None)],
)  # fmt: skip
def test_each_is_known_by_its_package_and_says_its_bus(dialect: str, package: str, bus: str, hint: str | None) -> None:
    folder = folder_of(dialect, ["one.img"])
    assert detect(folder.open(find_description(folder))) is PACKAGES[package]
    (disk,) = open_in(folder).machine.disks
    assert (disk.bus, disk.format_hint) == (bus, hint)


@pytest.mark.parametrize("dialect", DESCRIPTIONS)
def test_the_names_alone_tell_what_is_a_description(dialect: str) -> None:
    """A guest may write what it likes to the first sector of its disk: that never names other disks."""
    folder = folder_of(dialect, ["one.img"])
    content = folder.open(find_description(folder))
    for name in ("disk.raw", "disk.img", "disk.vmdk", "s3://bucket/disk"):
        assert detect(MemoryBlob(content.read_at(0, content.size), name)) is None


@pytest.mark.parametrize("dialect", [*DESCRIPTIONS, "ovf"])
def test_without_a_folder_it_says_what_is_missing(dialect: str) -> None:
    name, content = (
        ("vm.ovf", envelope()) if dialect == "ovf" else (DESCRIPTIONS[dialect][0], DESCRIPTIONS[dialect][1](["x"]))
    )
    with pytest.raises(UnsupportedFeatureError, match="disks are files beside it"):
        open_appliance(MemoryBlob(content, f"s3://bucket/{name}"))


FOREIGN = [
    "/vmfs/volumes/5f-a/web/one.img", "/var/lib/libvirt/images/one.img", "C:\\VMs\\web\\one.img", "D:/VMs/one.img",
    "\\\\server\\share\\one.img", "\\\\?\\C:\\VMs\\one.img", "web/one.img", "./one.img", "ONE.IMG", "C:\\x\\One.img",
]  # fmt: skip
"""Paths of the old host: the last component is looked for in the folder."""


@pytest.mark.parametrize("path", FOREIGN)
@pytest.mark.parametrize("dialect", DESCRIPTIONS)
def test_paths_of_the_old_host_lead_to_the_file_of_that_name_in_the_folder(dialect: str, path: str) -> None:
    appliance = open_in(folder_of(dialect, [path]))
    assert read(appliance) == {"Virtual Hard Disks/one.img": b"one"}


EVIL = [
    "../one.img", "..\\one.img", "a/../../one.img", "/vmfs/../one.img", "C:\\..\\one.img", "http://host/one.img", "..",
    "file:///one.img", "json:{}", "nbd:one.img", "C:one.img", "one.img:stream", "https://h:1/one.img", "/", "C:\\", ".",
    "\\\\.\\PhysicalDrive0:", "one.img/", "s3://b/one.img", "/vms/..", "ssh://root@h/one.img", "/dev/fd:0/one.img",
]  # fmt: skip
ABSENT = [
    "/etc/passwd",
    "/dev/sda",
    "\\\\.\\PhysicalDrive0",
    "three.img",
    "/one.img.bak",
    "*.img",
    "one.im",
    "~",
    "%6fne.img",
]


@pytest.mark.parametrize("path", EVIL)
@pytest.mark.parametrize("dialect", DESCRIPTIONS)
def test_evil_names_are_refused(dialect: str, path: str) -> None:
    folder = folder_of(dialect, [path])
    with pytest.raises(UnsafeDiskError, match="cannot be a file of its folder"):
        open_in(folder)
    assert not set(folder.opened) & set(DISKS)


@pytest.mark.parametrize("path", ABSENT)
@pytest.mark.parametrize("dialect", DESCRIPTIONS)
def test_what_is_not_in_the_folder_is_not_looked_for_elsewhere(dialect: str, path: str) -> None:
    folder = folder_of(dialect, [path])
    with pytest.raises(CorruptDiskError, match=r"is not in its folder: put .* beside"):
        open_in(folder)
    assert not set(folder.opened) & set(DISKS)


@pytest.mark.parametrize("path", [*EVIL, *ABSENT[:-1]])
def test_evil_names_in_an_ovf_are_refused_too(path: str) -> None:
    files = f'<File ovf:href="{path.replace("&", "&amp;")}" ovf:id="file1"/>'
    folder = WatchedFolder({"vm.ovf": envelope(files=files)} | DISKS)
    with pytest.raises((UnsafeDiskError, CorruptDiskError)):
        open_in(folder)
    assert not set(folder.opened) & set(DISKS)


@pytest.mark.parametrize("dialect", ["vmx", "vmcx"])
def test_a_nul_in_a_name_is_refused(dialect: str) -> None:
    with pytest.raises(UnsafeDiskError):
        open_in(folder_of(dialect, ["a\0/one.img"]))


@pytest.mark.parametrize("dialect", DESCRIPTIONS)
def test_links_in_a_folder_lead_nowhere(dialect: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "hard").mkdir()
    (tmp_path / "hard/two.img").write_bytes(b"secret")
    name, write = DESCRIPTIONS[dialect]
    root = tmp_path / "vm"
    (root / "Virtual Machines").mkdir(parents=True)
    (root / "one.img").symlink_to(tmp_path / "secret")
    (root / "Virtual Hard Disks").symlink_to(tmp_path / "hard")
    folder = LocalFolder(root)
    for path in ("one.img", "two.img", "Virtual Hard Disks/two.img"):
        (root / name).write_bytes(write([path]))
        with pytest.raises(CorruptDiskError, match="not in its folder"):
            open_appliance(folder.open(find_description(folder)), folder)
    (root / "one.img").unlink()
    (root / "one.img").write_bytes(b"plain")
    (root / name).write_bytes(write(["one.img"]))
    appliance = open_appliance(folder.open(find_description(folder)), folder)
    assert read(appliance) == {"one.img": b"plain"}
    appliance.close()


def test_disks_of_a_local_folder_are_closed_when_opening_fails(tmp_path: Path) -> None:
    (tmp_path / "one.img").write_bytes(b"1")
    folder = LocalFolder(tmp_path)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for dialect, (name, write) in DESCRIPTIONS.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(write(["one.img", "two.img"]))
        blob = folder.open(name)
        with pytest.raises(CorruptDiskError):
            open_appliance(blob, folder)
        assert blob.size > 0, dialect
        blob.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize("dialect", DESCRIPTIONS)
def test_the_same_file_twice_is_one_disk_and_two_files_of_one_name_are_a_question(dialect: str) -> None:
    appliance = open_in(folder_of(dialect, ["two.img", "/x/two.img"]))
    assert list(appliance.blobs) == ["two.img"]
    assert any("taken once" in note for note in appliance.machine.notes)
    files = {"a/one.img": b"a", "b/one.img": b"b"}
    with pytest.raises(CorruptDiskError, match=r"may be any of a/one\.img, b/one\.img"):
        open_in(folder_of(dialect, ["/vms/one.img"], files))


def test_a_relative_path_that_leads_there_wins() -> None:
    files = {"a/one.img": b"a", "b/one.img": b"b", "one.img": b"c"}
    assert read(open_in(folder_of("vmx", ["b/one.img"], files))) == {"b/one.img": b"b"}
    assert read(open_in(folder_of("vmx", ["/x/one.img"], files))) == {"one.img": b"c"}


@pytest.mark.parametrize("dialect", DESCRIPTIONS)
@pytest.mark.parametrize("count", [0, MAX_MACHINE_DISKS, MAX_MACHINE_DISKS + 1])
def test_at_least_one_disk_and_at_most_what_a_machine_has(dialect: str, count: int) -> None:
    files = {f"{number}.img": b"x" for number in range(count)}
    folder = folder_of(dialect, list(files), files)
    if count == MAX_MACHINE_DISKS:
        assert len(open_in(folder).blobs) == count
        return
    with pytest.raises((UnsafeDiskError, UnsupportedFeatureError, CorruptDiskError), match=r"61 disks|no disk"):
        open_in(folder)


def test_vmdks_get_the_folder_they_lie_in_for_their_extent_files() -> None:
    files = {"web/disk.vmdk": b"descriptor", "web/disk-flat.vmdk": b"data", "other.vmdk": b"?"}
    appliance = open_in(folder_of("vmx", ["web/disk.vmdk"], files))
    beside = appliance.companions["web/disk.vmdk"].beside
    assert beside is not None
    assert list(beside.names()) == ["disk-flat.vmdk", "disk.vmdk"]
    assert beside.open("disk-flat.vmdk").read_at(0, 4) == b"data"


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({"a.vmx": b'x = "1"', "a.vmxf": b"<x/>", "a.vmdk": b""}, "a.vmx"),
        ({"vm.OVF": envelope(), "vm.mf": b"", "notes.xml": b"<notes/>"}, "vm.OVF"),
        ({"Virtual Machines/g.vmcx": DESCRIPTIONS["vmcx"][1]([]), "Snapshots/h.vmcx": DESCRIPTIONS["vmcx"][1]([])},
         "Virtual Machines/g.vmcx"),
        ({"d.xml": DESCRIPTIONS["libvirt"][1]([]), "._d.xml": DESCRIPTIONS["libvirt"][1]([])}, "d.xml"),
        ({"a.vbox": DESCRIPTIONS["vbox"][1]([]), "a.vbox-prev": DESCRIPTIONS["vbox"][1]([])}, "a.vbox"),
    ],
)  # fmt: skip
def test_the_description_of_a_folder_is_found(files: dict[str, bytes], found: str) -> None:
    assert find_description(MemoryFolder(files)) == found


def test_none_and_several_descriptions_are_told() -> None:
    with pytest.raises(UnknownFormatError, match=r"vm holds no description of a machine \(\.ovf, "):
        find_description(MemoryFolder({"disk.vmdk": b"", "x.xml": b"<x/>", "empty.xml": b""}, "vm"))
    two = {"a.vmx": b'x = "1"', "b.ovf": envelope()}
    with pytest.raises(UnknownFormatError, match=r"vm holds 2 descriptions of machines; name one: a\.vmx, b\.ovf"):
        find_description(MemoryFolder(two, "vm"))


@pytest.mark.parametrize("dialect", ["vbox", "libvirt", "hyperv"])
def test_hostile_xml_is_refused_in_good_time(dialect: str) -> None:
    name, write = DESCRIPTIONS[dialect]
    encoding = "utf-16" if dialect == "hyperv" else "utf-8"
    good = write(["one.img"]).decode(encoding)
    root_name = {"vbox": "VirtualBox", "libvirt": "domain", "hyperv": "configuration"}[dialect]
    start = good.index(f"<{root_name}")
    root = good[start : good.index(">", start) + 1]
    bad = {
        "doctype": good[:start] + f'<!DOCTYPE {root_name} [<!ENTITY a SYSTEM "file:///etc/passwd">]>' + good[start:],
        "depth": good.replace(root, root + "<a>" * 100 + "</a>" * 100),
        "items": good.replace(root, root + "<a/>" * 1_000_000),
        "attributes": good.replace(root, root + "<a " + " ".join(f'b{n}=""' for n in range(400_000)) + "/>"),
        "size": good + " " * (9 << 20),
    }
    begun = time.monotonic()
    for what, text in bad.items():
        with pytest.raises(UnsafeDiskError):
            open_in(WatchedFolder({name: text.encode(encoding)} | DISKS)).close()
        assert time.monotonic() - begun < 5, what


MUTANTS = st.sampled_from(list(b'0129-/"<>&= ax.:\\\0\xff'))


@pytest.mark.slow
@pytest.mark.parametrize("dialect", DESCRIPTIONS)
@settings(deadline=None, max_examples=60)
@given(st.data())
def test_flipped_bytes_give_disks_of_the_folder_or_an_error_of_ours(dialect: str, data: st.DataObject) -> None:
    name, write = DESCRIPTIONS[dialect]
    content = bytearray(write(["one.img", "C:\\x\\two.img"]))
    used = [place for place, byte in enumerate(content) if byte]
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.sampled_from(used))] = data.draw(MUTANTS | st.integers(0, 255))
    folder = WatchedFolder({name: bytes(content)} | DISKS)
    begun = time.monotonic()
    try:
        appliance = open_appliance(folder.open(name), folder)
    except VmferryError:
        pass
    else:
        assert set(appliance.blobs) <= set(DISKS)
        assert read(appliance).keys() == {disk.name for disk in appliance.machine.disks}
    assert set(folder.opened) <= {name, *DISKS}
    assert time.monotonic() - begun < 2

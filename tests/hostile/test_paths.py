"""The hostile corpus through every path that a stranger's file can take: one gate stands before them all."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from tests.hostile.corpus import CORPUS
from tests.hostile.evil import Evil
from tests.hostile.gate import check_sentence, lay_out, read_everything, watched
from vmferry import cli, formats, wrappers
from vmferry.appliances import open_appliance
from vmferry.blob import MemoryBlob
from vmferry.catalog.import_tasks import (
    CONVERSION,
    IMPORT_IMAGE,
    IMPORT_SNAPSHOT,
    DiskContainer,
    ImportRequest,
    ImportTask,
)
from vmferry.catalog.places import Place
from vmferry.errors import VmferryError
from vmferry.folder import ALONE, LocalFolder
from vmferry.import_manifest import ImportManifest, ManifestPart, render_manifest
from vmferry.stores.memory import MemoryStore
from vmferry.tasks import Services
from vmferry.tasks.import_image.source import Source

MACHINES = ("ova-", "ovf-", "xva-", "vmx-", "vbox-", "hyperv-", "libvirt-")
DISKS = [item for item in CORPUS.values() if not item.name.startswith(("ova-", "ovf-", "xva-", "packed-"))]
PACKED = [item for item in CORPUS.values() if item.name.startswith("packed-")]
APPLIANCES = [item for item in CORPUS.values() if item.name.startswith(MACHINES)]
IMPORTS: dict[str, tuple[str | None, ...]] = {
    IMPORT_IMAGE: (None, "OVA", "VMDK", "VHD", "VHDX", "RAW"),
    IMPORT_SNAPSHOT: (None, "VMDK", "VHD", "VHDX", "RAW"),
    CONVERSION: ("VMDK", "VHD", "RAW"),
}
"""Kind of task, and what its request may declare. Exports read images of our own only."""
COMMANDS = (("prepare",), ("boot-check", "--seconds", "1"))
"""Beside convert and inspect; verify opens and reads a disk as convert does."""

pytestmark = pytest.mark.slow


def named(items: list[Evil]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("item", items, ids=[item.name for item in items])


ALL = named(list(CORPUS.values()))


@pytest.fixture(scope="module", autouse=True)
def _warm(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Everything is imported before anything is timed."""
    folder = tmp_path_factory.mktemp("warm")
    (folder / "disk.raw").write_bytes(bytes(4096))
    for target in ("disk.qcow2", "disk.img"):
        assert cli.run(["convert", str(folder / "disk.raw"), str(folder / target)]) == 0
    assert cli.run(["inspect", "--json", str(folder / "disk.qcow2")]) == 0
    for command, *options in COMMANDS:
        cli.run([command, *options, str(folder / "nothing")])
    cli.run(["prepare", str(folder / "disk.qcow2")])
    assert all(wrappers.WRAPPERS.values())


def opened(item: Evil, declared: formats.Format | None, content: bytes) -> str | None:
    """The words of the error that opening or reading the disk raises; ``None`` when all of it was read."""
    try:
        with watched(item):
            disk = formats.open_disk(MemoryBlob(content, item.name), declared)
            read_everything(disk)
            disk.close()
    except VmferryError as error:
        return str(error)
    return None


@named(DISKS)
def test_a_disk_that_lies_is_refused_whatever_it_is_declared_as(item: Evil) -> None:
    content = item.build()
    for declared in (None, *formats.FORMATS.values()):
        message = opened(item, declared, content)
        if message is not None:
            check_sentence(message)
        if declared is None:
            assert (message is not None) is item.refused, message
        elif declared.name == "raw" and content:
            assert message is None


@named(PACKED)
def test_what_comes_out_of_a_packed_file_is_a_strangers_file(item: Evil) -> None:
    try:
        with watched(item):
            blob, _ = wrappers.unwrap(MemoryBlob(item.build(), item.name))
            read_everything(formats.open_disk(blob))
            refused = False
    except VmferryError as error:
        check_sentence(str(error))
        refused = True
    assert refused is item.refused


@ALL
def test_convert_makes_nothing_of_a_hostile_file(item: Evil, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = lay_out(item, tmp_path)
    for target in ("raw", "qcow2"):
        check_conversion(item, source, tmp_path / f"made.{target}", capfd)


def check_conversion(item: Evil, source: Path, target: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tmp_path = target.parent
    before = set(tmp_path.rglob("*"))
    with watched(item):
        code = cli.run(["convert", "--workers", "2", str(source), str(target)])
    written = set(tmp_path.rglob("*")) - before
    assert code in (0, 1)
    assert written == ({target} if code == 0 else set())
    if code:
        *notes, line = capfd.readouterr().err.splitlines()
        check_sentence(line.removeprefix("vmferry: "))
        assert all(note.startswith("vmferry: note: ") for note in notes)
    if item.refused:
        assert code == 1
    target.unlink(missing_ok=True)


@ALL
def test_inspect_says_what_is_wrong_with_a_hostile_file(
    item: Evil, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = lay_out(item, tmp_path)
    with watched(item):
        code = cli.run(["inspect", "--json", str(source)])
    out, err = capfd.readouterr()
    if code == 0:
        assert json.loads(out)
    else:
        assert code == 1
        check_sentence(err.splitlines()[-1].removeprefix("vmferry: "))
    assert all(line.isprintable() for line in err.splitlines())


@ALL
def test_every_command_that_opens_a_disk_has_the_same_gate(
    item: Evil, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """What may be read is not started: that would start QEMU. What must be refused never gets so far."""
    source = lay_out(item, tmp_path)
    for command, *options in COMMANDS if item.refused else COMMANDS[:-1]:
        with watched(item):
            code = cli.run([command, *options, str(source)])
        assert code == 1 or not item.refused
        if code:
            check_sentence(capfd.readouterr().err.splitlines()[-1].removeprefix("vmferry: "))


@ALL
def test_an_import_refuses_a_hostile_file_before_a_byte_is_copied(item: Evil) -> None:
    content = item.build()
    store = MemoryStore()
    put(store, item.name, content)
    cut = len(content) // 2
    pieces = [(start, piece) for start, piece in ((0, content[:cut]), (cut, content[cut:])) if piece]
    parts = [
        ManifestPart(
            index, start, start + len(piece) - 1, f"part{index}", f"https://bucket.s3.amazonaws.com/part{index}"
        )
        for index, (start, piece) in enumerate(pieces)
    ]
    for part, (_, piece) in zip(parts, pieces, strict=True):
        put(store, part.key, piece)
    for kind, formats_declared in IMPORTS.items():
        if kind == CONVERSION and parts:
            put(store, item.name, render_manifest(ImportManifest("RAW", len(content), 1, parts)))
        for declared in formats_declared:
            check_import(item, store, kind, declared)


def put(store: MemoryStore, key: str, content: bytes) -> None:
    writer = store.create("bucket", key)
    writer.write_at(0, content)
    writer.finish()


def check_import(item: Evil, store: MemoryStore, kind: str, declared: str | None) -> None:
    services = cast("Services", SimpleNamespace(objects=lambda place: store, s3_endpoint=None))
    container = DiskContainer(bucket="bucket", key=item.name, format=declared)
    now = datetime(2026, 1, 1, tzinfo=UTC)
    task = ImportTask("import-ami-1", Place("us-east-1", "1"), now, ImportRequest((container,)), kind)
    source = Source()
    try:
        with watched(item):
            source.add(services, task, 0)
            for disk in source.disks:
                source.layout(disk)
                read_everything(disk.disk)
    except VmferryError as error:
        check_sentence(str(error))
    else:
        assert declared == "RAW" or not item.refused
    finally:
        source.close()


@named(APPLIANCES)
def test_an_appliance_that_lies_is_refused_or_gives_disks_that_are(item: Evil, tmp_path: Path) -> None:
    path = lay_out(item, tmp_path)
    refused = False
    try:
        with watched(item):
            appliance = open_appliance(MemoryBlob(path.read_bytes(), item.name), LocalFolder(path.parent))
            for disk in appliance.machine.disks:
                beside = appliance.companions.get(disk.name, ALONE)
                read_everything(formats.open_disk(appliance.blobs[disk.name], None, beside))
            appliance.close()
    except VmferryError as error:
        check_sentence(str(error))
        refused = True
    assert refused is item.refused

"""Guests are prepared on their way through an import, where that is wanted: the steps over a real catalog and store."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from temporalio.testing import ActivityEnvironment

from tests.guest.fake_guestfish import make_guestfish
from tests.guest.images import make_xfs
from tests.guest.linux_guests import ROOT_UUID, debian, make_ext
from tests.guest.linux_guests import make_disk as make_mbr_disk
from tests.server.material import make_disk
from tests.tasks.material import PLACE, put_object
from vmferry import own_tags
from vmferry.blob import FileBlob
from vmferry.catalog.import_tasks import DiskContainer, ImportRequest, ImportTask
from vmferry.convert import digest_disk
from vmferry.formats import open_disk
from vmferry.guest.look import look
from vmferry.receipt import read
from vmferry.tasks import Services
from vmferry.tasks._steps import CleanUp
from vmferry.tasks.import_image.activities import ImportImageActivities
from vmferry.units import MIB

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
from build_guest import cached_guest

pytestmark = pytest.mark.slow


def begin(services: Services, **tags: str) -> str:
    container = DiskContainer(bucket="imports", key="disk.raw", format="RAW")
    task = ImportTask("import-ami-1", PLACE, datetime.now(UTC), ImportRequest((container,)))
    return services.catalog.import_tasks.add(task, tags, None, "", most=20)


def run(services: Services, task_id: str) -> Path:
    """All steps, each in a worker of its own, the first of them twice; the image's file."""

    def worker() -> ImportImageActivities:
        return ImportImageActivities(services)

    first = worker()
    ActivityEnvironment().run(first.validate, task_id)
    plan = ActivityEnvironment().run(worker().validate, task_id)
    for number, piece in enumerate(plan.slices):
        ActivityEnvironment().run((first if number % 2 else worker()).convert_slice, piece)
    ActivityEnvironment().run(worker().update, task_id)
    ActivityEnvironment().run(worker().register, task_id)
    (file,) = (path for path in (services.config.data_dir / "images").rglob("*") if path.is_file())
    return file  # and nothing else lies there


@pytest.mark.slow
def test_a_guest_without_virtio_has_it_in_its_image_and_the_receipt_says_how(services: Services) -> None:
    guest = cached_guest("hostonly")
    put_object(services, guest)
    task_id = begin(services, **{own_tags.PREPARE: "auto"})
    image = open_disk(FileBlob(run(services, task_id)))
    facts = services.catalog.import_tasks.get(task_id).facts
    assert "initr" in facts.changes[0].path
    kernel = look([image]).systems[0].linux.kernels[0]  # type: ignore[union-attr]
    assert {"virtio_blk", "virtio_pci"} <= set(kernel.in_initramfs)
    source = open_disk(FileBlob(guest))
    assert "virtio_blk" not in look([source]).systems[0].linux.kernels[0].in_initramfs  # type: ignore[union-attr]
    receipt = read((services.catalog.import_tasks.receipt(task_id) or "").encode(), "receipt")
    assert receipt["changes"][0]["what"] == "replaced"
    assert receipt["disks"][0]["guest_digest"] == digest_disk(image) != digest_disk(source)


def test_a_guest_gets_the_addresses_and_the_script_that_the_request_chooses(services: Services, tmp_path: Path) -> None:
    guest = debian()
    guest.files["etc/systemd/system/default.target"] = b"->/usr/lib/systemd/system/multi-user.target"
    guest.files["etc/network/interfaces"] = b"iface ens192 inet static\n\taddress 10.0.0.5/24\n"
    disk = tmp_path / "disk.raw"
    disk.write_bytes(make_mbr_disk(make_ext(guest.write(tmp_path / "tree"), tmp_path / "root.img", 12, ROOT_UUID)))
    put_object(services, disk)
    (script := tmp_path / "firstboot").write_bytes(b"echo hello\n")
    put_object(services, script, "firstboot")
    chosen = {own_tags.NETWORK: "DHCP", own_tags.FIRSTBOOT: "s3://imports/firstboot"}
    task_id = begin(services, **{own_tags.PREPARE: "auto", **chosen})
    image = open_disk(FileBlob(run(services, task_id)))
    (interface,) = look([image]).systems[0].linux.interfaces  # type: ignore[union-attr]
    assert (interface.name, interface.method, interface.addresses) == ("ens192", "dhcp", ())
    paths = [change.path for change in services.catalog.import_tasks.get(task_id).facts.changes]
    assert {"/etc/network/interfaces", "/etc/vmferry/firstboot"} <= set(paths)


@pytest.mark.slow
def test_nothing_is_changed_unasked(services: Services) -> None:
    guest = cached_guest("hostonly")
    put_object(services, guest)
    file = run(services, begin(services))
    assert services.catalog.import_tasks.get("import-ami-1").facts.changes == ()
    compared = subprocess.run(["qemu-img", "compare", "-f", "raw", "-F", "qcow2", guest, file], capture_output=True)
    assert compared.returncode == 0, compared.stdout


def test_a_guest_that_cannot_be_prepared_is_imported_as_it_is_with_the_reason(
    services: Services, tmp_path: Path
) -> None:
    services = replace(services, config=replace(services.config, prepare="auto"))
    put_object(services, make_disk(tmp_path / "data.raw", 8, 2))
    run(services, begin(services))
    facts = services.catalog.import_tasks.get("import-ami-1").facts
    assert facts.changes == ()
    assert any(note.startswith("The guest is not prepared: ") for note in facts.notes)


def test_a_request_may_choose_otherwise_than_the_configuration(services: Services, tmp_path: Path) -> None:
    services = replace(services, config=replace(services.config, prepare="auto"))
    put_object(services, make_disk(tmp_path / "data.raw", 8, 2))
    run(services, begin(services, **{own_tags.PREPARE: "none"}))
    assert services.catalog.import_tasks.get("import-ami-1").facts.notes == ()


@pytest.fixture(scope="module")
def xfs_guest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("xfs")
    (folder / "tree" / "etc").mkdir(parents=True)
    (folder / "tree" / "etc" / "os-release").write_text('PRETTY_NAME="Rocky Linux 9.6"\nID=rocky\n')
    return make_xfs(folder / "tree", folder / "guest.raw")


def with_program(services: Services, body: str) -> Services:
    """``services`` with a program in virt-v2v's place."""
    program = services.config.data_dir / "virt-v2v-in-place"
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o755)
    config = replace(services.config, prepare="auto", guestfish="none", virt_v2v=str(program))
    return replace(services, config=config)


def prepared(services: Services, resource_id: str) -> str:
    return services.catalog.tags.of([resource_id])[resource_id]["vmferry:prepared"]


WRITE = 'qemu-io -f qcow2 -c "write -P 9 200M 4k" "$5" >words && echo "[ 1.0] Converting"'


def test_what_another_program_prepares_is_in_the_image_and_is_started_before_it_is_believed(
    services: Services, xfs_guest: Path
) -> None:
    services = with_program(services, WRITE)
    put_object(services, xfs_guest)
    task_id = begin(services)
    activities = ImportImageActivities(services)
    assert ActivityEnvironment().run(activities.validate, task_id).boots
    image = open_disk(FileBlob(run(services, task_id)))
    assert bytes(image.read_at(200 * MIB, 4096)) == b"\x09" * 4096
    facts = services.catalog.import_tasks.get(task_id).facts
    assert [(change.path, change.what) for change in facts.changes] == [("/", "changed")]
    assert facts.notes[0].startswith("virt-v2v prepared the guest, as it is not done otherwise: No Linux was found on")
    assert "virt-v2v: [ 1.0] Converting" in facts.notes
    receipt = read((services.catalog.import_tasks.receipt(task_id) or "").encode(), "receipt")
    assert receipt["changes"][0]["what"] == "changed"
    image_id = services.catalog.import_tasks.get(task_id).image_id
    assert prepared(services, task_id) == prepared(services, str(image_id)) == "by virt-v2v"


def test_it_is_not_started_where_that_is_declined_and_the_record_says_so(services: Services, xfs_guest: Path) -> None:
    services = with_program(services, WRITE)
    put_object(services, xfs_guest)
    task_id = begin(services, **{own_tags.BOOT_CHECK: "none"})
    assert not ActivityEnvironment().run(ImportImageActivities(services).validate, task_id).boots
    notes = services.catalog.import_tasks.get(task_id).facts.notes
    assert "Whether the guest starts is not known: it was not started, as vmferry:boot-check=none says." in notes


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("echo 'virt-v2v: error: no root'; exit 1", "virt-v2v failed with exit code 1: no root."),
        (None, "virt-v2v, which prepares others, is not installed here: install the package virt-v2v."),
    ],
)
def test_a_guest_that_neither_prepares_is_imported_as_it_is_and_told_what_it_starts_on(
    services: Services, xfs_guest: Path, body: str | None, words: str
) -> None:
    services = with_program(services, body or "")
    if body is None:
        Path(services.config.virt_v2v).unlink()
    put_object(services, xfs_guest)
    task_id = begin(services)
    plan = ActivityEnvironment().run(ImportImageActivities(services).validate, task_id)
    facts = services.catalog.import_tasks.get(task_id).facts
    assert not plan.boots
    assert facts.changes == ()
    assert facts.notes[0].startswith("The guest is not prepared: No Linux was found on an ext2")
    assert facts.notes[0].endswith(words)
    given = "give it disks by sata and a network card of type e1000e"
    assert facts.notes[1] == f"It is imported as it is: {given}; nothing is known of its drivers."
    assert prepared(services, task_id) == f"no, {given}"


@pytest.mark.slow
def test_a_task_that_ends_early_leaves_no_changes_behind(services: Services) -> None:
    put_object(services, cached_guest("hostonly"))
    task_id = begin(services, **{own_tags.PREPARE: "auto"})
    activities = ImportImageActivities(services)
    ActivityEnvironment().run(activities.validate, task_id)
    images = services.config.data_dir / "images"
    assert [path for path in images.rglob("*.changes") if path.is_file()]
    ActivityEnvironment().run(activities.clean_up, CleanUp(task_id, "enough"))
    assert [path for path in images.rglob("*") if path.is_file()] == []


def test_a_guest_whose_files_guestfish_writes_is_prepared_like_any_other(services: Services, tmp_path: Path) -> None:
    linux = debian()
    linux.files["etc/fstab"] = b"LABEL=root / xfs defaults 0 0\n"
    tree = linux.write(tmp_path / "tree")
    program = make_guestfish(tmp_path, {"/dev/sda": tree}, layer=True)
    config = replace(services.config, prepare="auto", guestfish=program, virt_v2v="none")
    services = replace(services, config=config)
    put_object(services, make_xfs(tree, tmp_path / "guest.raw", "-L", "root"))
    task_id = begin(services)
    image = open_disk(FileBlob(run(services, task_id)))
    assert bytes(image.read_at(200 * MIB, 4096)) == b"\x09" * 4096
    facts = services.catalog.import_tasks.get(task_id).facts
    assert [change.what for change in facts.changes] == ["replaced", "replaced"]
    assert "guestfish wrote the files: our own writer does not know their file systems." in facts.notes
    assert prepared(services, task_id) == "yes"

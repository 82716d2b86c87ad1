"""What an import refuses before a byte is copied, by either profile: real images, opened as a worker opens them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from tests.appliances.ova_builder import envelope, item, make_ova
from tests.tasks.material import PLACE
from vmferry.catalog.import_tasks import (
    CONVERSION,
    IMPORT_IMAGE,
    IMPORT_SNAPSHOT,
    DiskContainer,
    ImportRequest,
    ImportTask,
)
from vmferry.errors import LimitExceededError, UnknownFormatError, UnsafeDiskError, VmferryError
from vmferry.formats import FORMATS, SupportsCreate
from vmferry.quotas import AWS, VMFERRY, Quotas
from vmferry.stores import Store
from vmferry.tasks import Services
from vmferry.tasks._border import status_message
from vmferry.tasks.import_image.bounds import card_notes, check_bounds
from vmferry.tasks.import_image.source import Source, open_source
from vmferry.units import MIB, TIB


def put_disk(store: Store, key: str, kind: str, size: int) -> DiskContainer:
    """An empty disk in the bucket, and the container that names it."""
    maker = FORMATS[kind]
    assert isinstance(maker, SupportsCreate)
    writer: Any = maker.create(store.create("imports", key), size, ())
    writer.finish()
    return DiskContainer(bucket="imports", key=key)


def put(store: Store, key: str, content: bytes) -> DiskContainer:
    writer = store.create("imports", key)
    writer.write_at(0, content)
    writer.finish()
    return DiskContainer(bucket="imports", key=key)


def new_task(kind: str, *containers: DiskContainer) -> ImportTask:
    return ImportTask("import-1", PLACE, datetime.now(UTC), ImportRequest(containers), kind)


def refusal(task: ImportTask, source: Source, quotas: Quotas) -> VmferryError | None:
    try:
        check_bounds(task, source, quotas)
    except VmferryError as error:
        return error
    return None


@pytest.mark.parametrize("kind", [IMPORT_IMAGE, IMPORT_SNAPSHOT])
def test_a_disk_over_eight_tib_is_for_the_wide_profile(services: Services, store: Store, kind: str) -> None:
    for size, passes in ((8 * TIB, True), (8 * TIB + MIB, False)):
        task = new_task(kind, put_disk(store, "big.vhdx", "vhdx", size))
        source = open_source(services, task)
        found = refusal(task, source, AWS)
        assert (found is None) == passes
        assert refusal(task, source, VMFERRY) is None
        source.close()
    assert isinstance(found, LimitExceededError)
    name = kind.removesuffix("-task").replace("-", "_")
    assert status_message(found, "VHDX") == (
        "ClientError: Disk image size or format not supported | memory:imports/big.vhdx has a virtual size of "
        f"8,796,094,070,784 bytes; at most 8,192 GiB can be imported (limits.{name}.size_gib of the server's "
        "configuration)."
    )


@pytest.mark.parametrize(("kind", "name"), [("qcow2", "QCOW2"), ("vdi", "VDI")])
def test_a_format_that_ec2_does_not_take_is_for_the_wide_profile(
    services: Services, store: Store, kind: str, name: str
) -> None:
    task = new_task(IMPORT_IMAGE, put_disk(store, "root.img", kind, 4 * MIB))
    source = open_source(services, task)
    found = refusal(task, source, AWS)
    assert refusal(task, source, VMFERRY) is None
    source.close()
    assert isinstance(found, UnknownFormatError)
    said = status_message(found, "disk image")
    assert said.startswith(
        "ClientError: Disk validation failed [Unsupported specified file format] | memory:imports/root.img is"
    )
    assert name in said
    assert "limits.import_image.formats" in said


@pytest.mark.parametrize("quotas", [AWS, VMFERRY], ids=["aws", "vmferry"])
def test_a_machine_has_as_many_disks_as_the_profile_says(services: Services, store: Store, quotas: Quotas) -> None:
    container = put(store, "data.img", b"data" * 128)
    for count in (quotas.disks, quotas.disks + 1):
        task = new_task(IMPORT_IMAGE, *[container] * count)
        source = open_source(services, task)
        found = refusal(task, source, quotas)
        source.close()
        assert (found is None) == (count == quotas.disks)
    assert isinstance(found, UnsafeDiskError)
    assert str(found).startswith(f"The machine has {quotas.disks + 1} disks; {quotas.disks} can be imported at once.")


def test_a_volume_s_bounds_are_those_of_its_action(services: Services, store: Store) -> None:
    container = put_disk(store, "data.vhdx", "vhdx", 4 * MIB)
    source = open_source(services, new_task(IMPORT_IMAGE, container))
    for instance_id, name in ((None, "import_volume"), ("i-1", "import_instance")):
        request = ImportRequest((container,), instance_id=instance_id)
        task = ImportTask("import-1", PLACE, datetime.now(UTC), request, CONVERSION)
        assert f"limits.{name}.formats" in str(refusal(task, source, AWS))
    source.close()


def test_network_cards_that_are_not_kept_are_noted(services: Services, store: Store) -> None:
    cards = "".join(item(10, 20 + number, "Connection=net") for number in range(3))
    disk = item(17, 9, "AddressOnParent=0;HostResource=ovf:/disk/d1")
    content = make_ova(envelope(items=disk + cards), {"disk1.vmdk": b"raw disk".ljust(512)})
    task = new_task(IMPORT_IMAGE, put(store, "web.ova", content))
    source = open_source(services, task)
    notes = list(card_notes(source, AWS))
    assert list(card_notes(source, VMFERRY)) == []
    source.close()
    assert notes == ["The machine has 3 network cards; 1 of them is what an import keeps."]

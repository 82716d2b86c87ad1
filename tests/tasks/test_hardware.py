"""What an appliance says of its machine goes the whole way: into the AMI, its instances, and out again."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.appliances.ova_builder import envelope, item, make_ova
from tests.tasks.material import PLACE
from vmferry.catalog.export_tasks import ExportTask
from vmferry.catalog.hardware import Hardware, hardware_of, without_addresses
from vmferry.catalog.import_tasks import DiskContainer, ImportFacts, ImportRequest, ImportTask
from vmferry.catalog.instances import STOPPED, Instance, NewInstance
from vmferry.catalog.snapshots import COMPLETED
from vmferry.catalog.volumes import IN_USE, Attachment, Volume
from vmferry.machine import Firmware, Machine, NetworkInterface
from vmferry.quotas import AWS, VMFERRY, Quotas
from vmferry.stores import Store
from vmferry.tasks import Services
from vmferry.tasks.export_image.exported import exported_image, exported_instance
from vmferry.tasks.import_image.facts import find_facts, new_image, pending_snapshots
from vmferry.tasks.import_image.source import open_source
from vmferry.units import GIB, MIB

NOW = datetime(2026, 11, 27, 16, tzinfo=UTC)
ITEMS = (
    item(3, 1, "VirtualQuantity=3")
    + item(4, 2, "AllocationUnits=byte * 2^20;VirtualQuantity=6144")
    + item(6, 3, "Address=0")
    + item(17, 4, "Parent=3;AddressOnParent=0;HostResource=ovf:/disk/d1")
    + item(10, 5, "Connection=blue;ResourceSubType=VmxNet3;Address=00:50:56:00:00:01")
    + item(10, 6, "Connection=green;ResourceSubType=E1000;Address=00:50:56:00:00:02")
)
SYSTEM = (
    '<OperatingSystemSection ovf:id="94"><Info>OS</Info><Description>Ubuntu Linux</Description>'
    "</OperatingSystemSection>"
)


def imported(services: Services, store: Store, content: bytes, quotas: Quotas) -> str:
    """The AMI that an import of ``content`` ends in; nothing of its disks is copied."""
    writer = store.create("imports", "web.ova")
    writer.write_at(0, content)
    writer.finish()
    task = ImportTask("import-ami-1", PLACE, NOW, ImportRequest((DiskContainer(bucket="imports", key="web.ova"),)))
    tasks, snapshots = services.catalog.import_tasks, services.catalog.snapshots
    tasks.add(task, {}, None, "f", 1)
    source = open_source(services, task)
    tasks.advance(task.id, "validating", 4, find_facts(task, source, quotas))
    source.close()
    task = tasks.get(task.id)
    for snapshot in pending_snapshots(task, task.facts):
        snapshots.begin(replace(snapshot, state=COMPLETED))
    image_id = tasks.complete(task.id, new_image(task))
    assert image_id is not None
    return image_id


def export_of(services: Services, **what: Any) -> Machine:
    task = ExportTask(
        "export-1", PLACE, NOW, **{"image_id": None, "format": "OVA", "bucket": "b", "prefix": "", "key": "k", **what}
    )
    find = exported_image if task.instance_id is None else exported_instance
    return find(services, task)[0]


@pytest.mark.parametrize(("quotas", "cards"), [(AWS, 1), (VMFERRY, 2)], ids=["aws", "vmferry"])
def test_a_machine_goes_out_as_it_came_in(services: Services, store: Store, quotas: Quotas, cards: int) -> None:
    image_id = imported(services, store, make_ova(envelope(items=ITEMS, system=SYSTEM)), quotas)
    machine = export_of(services, image_id=image_id)
    assert (machine.cpus, machine.memory, machine.firmware) == (3, 6144 * MIB, Firmware.BIOS)
    assert machine.guest_os is not None
    assert "ubuntu" in machine.guest_os.lower()
    assert (
        machine.interfaces
        == (
            NetworkInterface("blue", "VmxNet3", "00:50:56:00:00:01"),
            NetworkInterface("green", "E1000", "00:50:56:00:00:02"),
        )[:cards]
    )


def test_disks_that_came_alone_say_nothing_of_a_machine(services: Services, store: Store) -> None:
    image_id = imported(services, store, b"a raw disk".ljust(1024), AWS)
    (image,) = services.catalog.images.describe(PLACE, [image_id])
    assert image.hardware is None
    machine = export_of(services, image_id=image_id)
    assert (machine.cpus, machine.memory, machine.interfaces) == (2, 2 * GIB, (NetworkInterface(),))


def test_a_task_that_was_recorded_before_hardware_was_kept_has_none(services: Services) -> None:
    task = ImportTask("import-ami-1", PLACE, NOW, ImportRequest(()), facts=ImportFacts(notes=("odd",)))
    tasks = services.catalog.import_tasks
    tasks.add(task, {}, None, "f", 1)
    with services.catalog._database.write() as session:
        row = tasks._get(session, task.id)
        row.facts = {name: value for name, value in row.facts.items() if name != "hardware"}
    assert tasks.get(task.id).facts == task.facts


def test_an_instance_has_the_size_of_its_type_and_the_rest_of_its_machine(services: Services) -> None:
    hardware = Hardware(64, GIB, "win2019", (NetworkInterface("blue", "VmxNet3", "00:50:56:00:00:01"),))
    volume = Volume(
        "vol-1", PLACE, IN_USE, 1, "us-east-1a", None, "gp2", NOW, "us-east-1", "k", "import-i-1",
        Attachment("i-1", "/dev/sda1", NOW, delete_on_termination=True),
    )  # fmt: skip
    instance = Instance(
        "i-1", "r-1", PLACE, STOPPED, None, None, "m5.large", "x86_64", None, "uefi", "/dev/sda1", "us-east-1a", None,
        NOW, task_id="import-i-1", hardware=hardware,
    )  # fmt: skip
    services.catalog.instances.add([NewInstance(instance, [volume], {}, {})])
    machine = export_of(services, instance_id="i-1", target_environment="vmware")
    assert (machine.cpus, machine.memory) == (2, 8 * GIB)
    assert (machine.guest_os, machine.interfaces, machine.firmware) == ("win2019", hardware.interfaces, Firmware.UEFI)


def test_another_machine_of_the_same_make_has_no_address_of_the_first() -> None:
    machine = Machine("web", interfaces=tuple(NetworkInterface("n", "e1000", f"00:50:56:00:00:0{n}") for n in range(3)))
    found = without_addresses(hardware_of(machine, 2))
    assert found is not None
    assert found.interfaces == (NetworkInterface("n", "e1000"),) * 2
    assert without_addresses(None) is None

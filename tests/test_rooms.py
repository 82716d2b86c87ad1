"""The house keeps its rule: modules in a room = names in its list, and each exports the room's noun."""

from __future__ import annotations

import pkgutil
from importlib import import_module

import pytest

from vmferry.registry import Registry

ROOMS = [
    ("vmferry.formats", "FORMATS"),
    ("vmferry.appliances", "PACKAGES"),
    ("vmferry.stores", "STORES"),
    ("vmferry.wrappers", "WRAPPERS"),
    ("vmferry.tasks", "TASKS"),
    ("vmferry.ebs.operations", "OPERATIONS"),
    ("vmferry.ec2.actions", "ACTIONS"),
]


@pytest.mark.parametrize(("package", "attribute"), ROOMS)
def test_the_modules_in_a_room_are_the_names_in_its_list(package: str, attribute: str) -> None:
    room = import_module(package)
    modules = {module.name for module in pkgutil.iter_modules(room.__path__) if not module.name.startswith("_")}
    assert modules == set(getattr(room, attribute))


def test_the_file_systems_are_those_that_stand_in_a_volume_and_the_plainest() -> None:
    room = import_module("vmferry.guest.filesystems")
    modules = {module.name for module in pkgutil.iter_modules(room.__path__) if not module.name.startswith("_")}
    assert modules == {*room.FILE_SYSTEMS, "memory"}
    assert set(room.READERS.values()) == set(room.FILE_SYSTEMS)


@pytest.mark.parametrize(("package", "attribute"), ROOMS)
def test_every_member_of_a_room_can_be_looked_up(package: str, attribute: str) -> None:
    registry: Registry[object] = getattr(import_module(package), attribute)
    assert len(list(registry.values())) == len(registry)


def test_a_name_that_is_not_in_the_list_is_no_member() -> None:
    registry: Registry[object] = Registry("vmferry", "errors", ["units"])
    assert "errors" not in registry
    with pytest.raises(KeyError):
        registry["errors"]

"""Which disk is the root, and what each is called in the AMI."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vmferry.quotas import VMFERRY
from vmferry.tasks.import_image.devices import asked_root, name_devices


def test_a_disk_that_the_caller_calls_the_root_device_is_the_root() -> None:
    assert asked_root([None, "/dev/sda1"]) == 1
    assert asked_root(["/dev/sdh", "/dev/xvda", "/dev/sda1"]) == 1


def test_without_such_a_name_the_disks_themselves_decide() -> None:
    assert asked_root([None, "/dev/sdh"]) is None


def test_names_follow_the_order_of_the_appliance() -> None:
    assert name_devices(1, [None, None, None]) == ["/dev/sdf", "/dev/sda1", "/dev/sdg"]


def test_a_name_that_is_asked_for_is_honoured_and_not_given_twice() -> None:
    assert name_devices(0, [None, "/dev/sdf", None]) == ["/dev/sda1", "/dev/sdf", "/dev/sdg"]


@given(st.integers(1, VMFERRY.disks), st.data())
def test_every_disk_has_a_name_of_its_own(count: int, data: st.DataObject) -> None:
    names = st.sampled_from([None, "/dev/sda1", *(f"/dev/sd{c}" for c in "bcfgxyz")])
    asked = data.draw(st.lists(names, min_size=count, max_size=count))
    given_names = [name for name in asked if name is not None]
    if len(set(given_names)) != len(given_names):
        return  # refused at the request
    root = asked_root(asked)
    named = name_devices(data.draw(st.integers(0, count - 1)) if root is None else root, asked)
    assert len(set(named)) == count
    assert all(wish in (None, name) for wish, name in zip(asked, named, strict=True))

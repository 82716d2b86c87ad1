"""Which disk is the root, and what each is called in the AMI."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vmferry.ec2.disk_containers import check_device_name
from vmferry.quotas import VMFERRY
from vmferry.tasks.import_image.devices import asked_root, name_devices


def test_a_disk_that_the_caller_calls_the_root_device_is_the_root() -> None:
    assert asked_root([None, "/dev/sda1"]) == 1
    assert asked_root(["/dev/sdh", "/dev/xvda", "/dev/sda1"]) == 1


def test_without_such_a_name_the_disks_themselves_decide() -> None:
    assert asked_root([None, "/dev/sdh"]) is None


def test_names_follow_the_order_of_the_appliance() -> None:
    assert name_devices(1, [None, None, None]) == ["/dev/sdf", "/dev/sda1", "/dev/sdg"]


def test_what_ec2_does_not_take_has_names_that_it_takes_for_devices() -> None:
    names = name_devices(0, [None] * VMFERRY.disks)
    assert names[21:23] == ["/dev/sdz", "/dev/xvdba"]
    assert [check_device_name(name) for name in names] == names


def test_a_name_that_is_asked_for_is_honoured_and_not_given_twice() -> None:
    assert name_devices(0, [None, "/dev/sdf", None]) == ["/dev/sda1", "/dev/sdf", "/dev/sdg"]


@given(st.integers(1, VMFERRY.disks), st.data())
def test_every_disk_has_a_name_of_its_own(count: int, data: st.DataObject) -> None:
    names = st.sampled_from(["/dev/sda1", *(f"/dev/sd{c}" for c in "bcfgxyz"), "/dev/xvdba"])
    wishes = data.draw(st.lists(names, max_size=count, unique=True))  # the same twice is refused at the request
    first = data.draw(st.integers(0, count - len(wishes)))
    asked = [*[None] * first, *wishes, *[None] * (count - first - len(wishes))]
    root = asked_root(asked)
    named = name_devices(data.draw(st.integers(0, count - 1)) if root is None else root, asked)
    assert len(set(named)) == count
    assert all(wish in (None, name) for wish, name in zip(asked, named, strict=True))

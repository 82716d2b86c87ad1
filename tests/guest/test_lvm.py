"""Volume groups are read as libvslvm reads them, and what is missing or not read is named."""

from __future__ import annotations

import os

import pytest
import pyvslvm
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.guest.lvm_builder import EXTENT, START, Group, mirrored, striped, thin
from tests.guest.tables import raw_disk
from vmferry.errors import GuestError
from vmferry.guest.lvm import PhysicalVolume, VolumeGroup, find_groups
from vmferry.guest.lvm_text import parse_metadata
from vmferry.guest.overlay import OverlayDisk
from vmferry.guest.overlay_volume import find_ranges
from vmferry.guest.volumes import find_volumes
from vmferry.guest.window import Slice, Window


def spread_group(*, wrap: bool = False) -> Group:
    """Two physical volumes; one volume in three pieces over both, one striped, one mirrored, one thin."""
    return Group(
        "vg-0",
        [12, 12],
        {
            "root": [striped(0, 2, (1, 3)), striped(2, 1, (0, 0)), striped(3, 1, (1, 0))],
            "data": [striped(0, 4, (0, 4), (1, 6), width=16)],
            "safe": [mirrored(2, "safe_rimage_0", "safe_rimage_1")],
            "safe_rimage_0": [striped(0, 2, (0, 8))],
            "safe_rimage_1": [striped(0, 2, (1, 8))],
            "slim": [thin(100)],
        },
        hidden=frozenset({"safe_rimage_0", "safe_rimage_1"}),
        wrap=wrap,
        contents={(volume, extent): os.urandom(EXTENT) for volume in (0, 1) for extent in range(12)},
    )


def open_groups(volumes: list[bytes]) -> list[VolumeGroup]:
    return find_groups([PhysicalVolume(f"disk {number}", raw_disk(volume)) for number, volume in enumerate(volumes, 1)])


@pytest.mark.parametrize("wrap", [False, True])
def test_volumes_are_read_wherever_their_pieces_are(wrap: bool) -> None:
    group = spread_group(wrap=wrap)
    (found,) = open_groups(group.build())
    assert (found.name, found.places, found.problem) == ("vg-0", ("disk 1", "disk 2"), None)
    assert [volume.name for volume in found.volumes] == ["root", "data", "safe", "slim"]
    area = found.volumes[0].area
    assert area is not None
    wanted = group.contents[1, 3] + group.contents[1, 4] + group.contents[0, 0] + group.contents[1, 0]
    assert area.read_at(0, 4 * EXTENT) == wanted
    assert area.read_at(2 * EXTENT - 3, EXTENT + 7) == wanted[2 * EXTENT - 3 : 3 * EXTENT + 4]


def test_libvslvm_reads_the_same() -> None:
    """Of volumes in one piece on one disk: with more it fails, as where metadata goes over the end of its area."""
    pieces = [striped(0, 3, (0, 2))]
    image = Group("vg0", [6], {"root": pieces}, contents={(0, at): os.urandom(EXTENT) for at in range(6)}).build()[0]
    (found,) = open_groups([image])
    area = found.volumes[0].area
    assert area is not None
    window = Window(raw_disk(image))
    handle = pyvslvm.handle()
    handle.open_file_object(window)
    handle.open_physical_volume_files_as_file_objects([window])
    judge = handle.get_volume_group().get_logical_volume(0)
    assert (judge.name, judge.size) == ("root", area.size)
    assert judge.read_buffer_at_offset(area.size, 0) == area.read_at(0, area.size)


def test_stripes_are_dealt_out_in_turn() -> None:
    group = spread_group()
    (found,) = open_groups(group.build())
    area = found.volumes[1].area
    assert area is not None
    first = group.contents[0, 4] + group.contents[0, 5]
    second = group.contents[1, 6] + group.contents[1, 7]
    width = 16 * 512
    wanted = b"".join(first[at : at + width] + second[at : at + width] for at in range(0, 2 * EXTENT, width))
    assert area.read_at(0, 4 * EXTENT) == wanted
    assert area.read_at(width - 5, 11) == wanted[width - 5 : width + 6]


def test_a_mirrored_volume_is_read_from_the_copy_that_is_there() -> None:
    group = spread_group()
    (found,) = open_groups(group.build()[1:])
    safe = found.volumes[2].area
    assert safe is not None
    assert safe.read_at(0, 2 * EXTENT) == group.contents[1, 8] + group.contents[1, 9]


def test_a_missing_physical_volume_is_named() -> None:
    volumes = find_volumes([raw_disk(spread_group().build()[0])], pytest.fail)
    by_place = {volume.facts.place: volume.facts for volume in volumes}
    assert list(by_place) == ["disk 1", "vg-0/root", "vg-0/data", "vg-0/safe", "vg-0/slim"]
    problem = by_place["disk 1"].problem
    assert problem is not None
    assert "lacks 1 of its 2 physical volumes (last seen as /dev/sdb2): another disk" in problem
    for name in ("root", "data"):
        problem = by_place[f"vg-0/{name}"].problem
        assert problem is not None
        assert "another disk of this machine is needed" in problem
    assert by_place["vg-0/safe"].problem is None


def test_a_thin_volume_is_named_and_refused() -> None:
    (found,) = open_groups(spread_group().build())
    slim = found.volumes[3]
    assert slim.area is None
    assert slim.problem == "The logical volume vg-0/slim is of type thin, which is not read."
    assert slim.size == 100 * EXTENT


def test_the_newest_metadata_counts() -> None:
    old = Group("vg", [4, 4], {"old": [striped(0, 1, (0, 0))]}, number=3)
    new = Group("vg", [4, 4], {"new": [striped(0, 1, (0, 0))]}, number=4)
    for images in ([old.build()[0], new.build()[1]], [new.build()[0], old.build()[1]]):
        (found,) = open_groups(images)
        assert [volume.name for volume in found.volumes] == ["new"]


@pytest.mark.parametrize(
    ("logical", "problem"),
    [
        ({"a": [mirrored(1, "a")]}, "made of itself"),
        ({"a": [mirrored(1, "b_rimage_0")], "b_rimage_0": [mirrored(1, "a")]}, "made of itself"),
        ({"a": [mirrored(1)]}, "has no copies"),
        ({"a": ['extent_count = 1\ntype = "cache"']}, "of type cache, which is not read"),
        ({"a": ['extent_count = 1\ntype = "striped"\nstripes = ["pv0"]']}, "no stripes"),
        ({"a": ['extent_count = 1\ntype = "striped"\nstripes = ["pv0", "x"]']}, "begins nowhere"),
        ({"a": ['extent_count = 1\ntype = "striped"\nstripes = ["pv0", -1]']}, "begins nowhere"),
        ({"a": [striped(0, 1 << 40, (0, 0))] * 8}, "is larger than a volume can be"),
        ({"a": ['extent_count = 1\ntype = "striped"\nstripes = ["pv0", 0, "pv0", 1]']}, "no stripes"),
        (
            {"a": [mirrored(2, "b_rimage_0")], "b_rimage_0": [striped(0, 1, (0, 0))]},
            "shorter than what it is a copy of",
        ),
        ({"a": [mirrored(1, "b_rimage_0")], "b_rimage_0": []}, "shorter than what it is a copy of"),
    ],
)
def test_a_group_that_makes_no_sense_is_a_problem(logical: dict[str, list[str]], problem: str) -> None:
    (found,) = open_groups(Group("vg", [4], logical).build())
    assert found.volumes[0].area is None
    assert problem in (found.volumes[0].problem or "")


def test_copies_of_copies_are_looked_for_once() -> None:
    """Each of seven levels has sixteen copies of the next, and the last cannot be read: 16 to the power of 7 ways."""
    logical = {f"c{level}": [mirrored(1, *[f"c{level + 1}"] * 16)] for level in range(7)}
    (found,) = open_groups(Group("vg", [4], {**logical, "c7": ['extent_count = 1\ntype = "cache"']}).build())
    assert {volume.problem for volume in found.volumes} == {
        "The logical volume vg/c7 is of type cache, which is not read."
    }


def test_segments_of_segments_are_counted_once() -> None:
    """Each of seven levels has forty segments, all of the next level: 40 to the power of 7 pieces."""
    logical = {f"c{level}": [mirrored(1, f"c{level + 1}")] * 40 for level in range(7)}
    (found,) = open_groups(Group("vg", [64], {**logical, "c7": [striped(0, 40, (0, 0))]}).build())
    area = found.volumes[0].area
    assert area is not None
    assert area.read_at(0, 100) == bytes(100)


@pytest.mark.parametrize("names", [range(2000), range(1999, -1, -1)])
def test_a_chain_of_copies_ends(names: range) -> None:
    logical = {f"c{number}": [mirrored(1, f"c{number + 1}")] for number in names if number < 1999}
    (found,) = open_groups(Group("vg", [4], {**logical, "c1999": [striped(0, 1, (0, 0))]}).build())
    assert any("a copy of a copy" in (volume.problem or "") for volume in found.volumes)
    for volume in found.volumes:
        assert volume.area is None or volume.area.read_at(0, 10) == bytes(10)


def test_an_extent_behind_the_end_reads_as_zeros() -> None:
    (found,) = open_groups(Group("vg", [4], {"a": [striped(0, 2, (0, 1 << 40))]}).build())
    area = found.volumes[0].area
    assert area is not None
    assert area.read_at(5, 10) == bytes(10)


@pytest.mark.parametrize("extent", [3, 1 << 40])
def test_what_reaches_behind_its_physical_volume_is_not_written_to(extent: int) -> None:
    image = Group("vg", [4], {"a": [striped(0, 2, (0, extent))]}).build()[0]
    overlay = OverlayDisk(raw_disk(image + bytes(4 * EXTENT)))
    (found,) = find_groups([PhysicalVolume("disk 1", Slice(overlay, 0, len(image)))])
    area = found.volumes[0].area
    assert area is not None
    with pytest.raises(GuestError, match="behind the end"):
        find_ranges(overlay, area)


def test_damaged_metadata_is_a_problem_of_the_physical_volume() -> None:
    image = bytearray(spread_group().build()[0])
    image[4096 + 512 + 100] ^= 1
    (volume,) = find_volumes([raw_disk(image)], pytest.fail)
    assert volume.facts.problem == "The LVM metadata is damaged: its checksum is wrong."


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_damage_raises(data: st.DataObject) -> None:
    image = bytearray(Group("vg", [1], {"a": [striped(0, 1, (0, 0))]}).build()[0])
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.one_of(st.integers(512, 640), st.integers(4096, 4096 + 600)))
        image[at] = data.draw(st.integers(0, 255))
    for volume in find_volumes([raw_disk(image)], pytest.fail):
        if volume.area is not None:
            volume.area.read_at(0, min(volume.area.size, START))


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet='ab1 "\\{}[]=,#\n-.', max_size=60))
def test_no_text_is_more_than_a_value_error(text: str) -> None:
    try:
        parse_metadata(text)
    except ValueError:
        return


def test_a_fraction_is_cut_however_long_the_number_is() -> None:
    assert parse_metadata(f"a = {'9' * 400}.5") == {"a": 10**400 - 1}
    with pytest.raises(ValueError, match="Exceeds the limit"):
        parse_metadata(f"a = {'9' * 5000}")


def test_a_text_of_sections_without_end_is_refused() -> None:
    with pytest.raises(ValueError, match="inside one another"):
        parse_metadata("a { " * 100_000)

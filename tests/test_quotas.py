"""Quotas as the configuration gives them: a profile, each value alone, and wrong ones in one clear line."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest

from vmferry.appliances import PACKAGES
from vmferry.config import load_config
from vmferry.errors import ConfigError
from vmferry.formats import FORMATS
from vmferry.quotas import AWS, VMFERRY, ImageBounds, Quotas


def load(folder: Path, text: str) -> Quotas:
    (folder / "config.toml").write_text(text)
    return load_config(folder).limits


def test_aws_s_limits_hold_unless_others_are_chosen(tmp_path: Path) -> None:
    assert load_config(tmp_path).limits == AWS
    assert load(tmp_path, 'limits.profile = "aws"\n') == AWS
    assert load(tmp_path, '[limits]\nprofile = "vmferry"\n') == VMFERRY


def test_every_value_is_set_alone(tmp_path: Path) -> None:
    found = load(tmp_path, 'limits.concurrent_import_tasks = 40\nlimits.import_image.formats = ["ova", "qcow2"]\n')
    bounds = replace(AWS.import_image, formats=("OVA", "QCOW2"))
    assert found == replace(AWS, concurrent_import_tasks=40, import_image=bounds)
    narrow = load(tmp_path, '[limits]\nprofile = "vmferry"\nexport_gib = 7\n[limits.import_volume]\nsize_gib = 9\n')
    assert narrow == replace(VMFERRY, export_gib=7, import_volume=replace(VMFERRY.import_volume, size_gib=9))


def test_the_wide_profile_is_nowhere_narrower_than_aws() -> None:
    for one in fields(Quotas):
        here, there = getattr(AWS, one.name), getattr(VMFERRY, one.name)
        if isinstance(here, ImageBounds):
            assert set(here.formats) <= set(there.formats)
            here, there = here.size_gib, there.size_gib
        assert 1 <= here <= there


def test_the_formats_that_can_be_allowed_are_those_that_are_read_from_one_object() -> None:
    packages = [name.upper() for name in PACKAGES if name in ("ova", "xva")]
    assert sorted(VMFERRY.import_snapshot.formats) == sorted(name.upper() for name in FORMATS)
    assert sorted(VMFERRY.import_image.formats) == sorted([*packages, *VMFERRY.import_snapshot.formats])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("limits = 3", "limits must be a table with keys of its own, not 3"),
        ('limits.profile = "azure"', 'limits.profile must be "aws" or "vmferry", not \'azure\''),
        ("limits.profile = ['aws']", 'limits.profile must be "aws" or "vmferry"'),
        ("limits.import_tasks = 3", "There is no limits.import_tasks; known keys of limits are profile, import_image,"),
        ("limits.import_image = 3", "limits.import_image must be a table"),
        ("limits.import_image.gib = 3", "no limits.import_image.gib; known keys of limits.import_image are size_gib,"),
        ("limits.import_image.size_gib = 65537", "limits.import_image.size_gib must be a whole number from 1 to 65536"),
        ("limits.concurrent_import_tasks = 0", "must be a whole number from 1 to 1000, not 0"),
        ("limits.concurrent_import_tasks = true", "must be a whole number from 1 to 1000, not True"),
        ("limits.concurrent_export_tasks = 1.5", "not 1.5"),
        ("limits.disks = '21'", "limits.disks must be a whole number"),
        ("limits.import_image.formats = 'OVA'", "limits.import_image.formats must be a list of one or more of OVA,"),
        ("limits.import_image.formats = []", "must be a list of one or more of OVA"),
        ("limits.import_snapshot.formats = ['OVA']", "must be a list of one or more of QCOW2"),
        ("limits.import_volume.formats = [1]", "must be a list of one or more of RAW, VHD, VMDK, not [1]"),
    ],
)
def test_a_wrong_value_is_told_in_one_line_with_its_place(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load(tmp_path, text)
    said = str(refused.value)
    assert words in said
    assert said.startswith(str(tmp_path / "config.toml"))
    assert len(said.splitlines()) == 1

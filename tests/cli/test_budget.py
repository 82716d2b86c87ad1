"""What ``--memory`` makes of a conversion."""

from __future__ import annotations

import pytest
import typer

from tests.cli.material import call_vmferry
from vmferry.cli._budget import DEFAULT_MEMORY, parse_memory, plan_budget
from vmferry.units import GIB, MIB


@pytest.mark.parametrize(
    ("text", "size"),
    [("256M", 256 * MIB), ("512", 512 * MIB), ("2G", 2 * GIB), ("2GiB", 2 * GIB), ("300mb", 300 * MIB)],
)
def test_sizes_are_read_as_people_write_them(text: str, size: int) -> None:
    assert parse_memory(text) == size


@pytest.mark.parametrize("text", ["", "much", "1.5G", "-1", "3X", "191M", "12345678"])
def test_other_words_and_too_little_are_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="--memory"):
        parse_memory(text)


@pytest.mark.parametrize("source", ["in.vmdk", "s3://bucket/in.vmdk"])
@pytest.mark.parametrize("target", ["out.raw", "s3://bucket/out.raw"])
def test_more_memory_is_never_less_work(source: str, target: str) -> None:
    budgets = [plan_budget(size * MIB, [source], target, 8) for size in (192, 256, 512, 1024, 4096)]
    assert [one.workers for one in budgets] == sorted(one.workers for one in budgets)
    assert budgets[0].workers >= 1
    assert budgets[-1].workers == 8
    assert all(bool(one.upload) == target.startswith("s3") for one in budgets)


def test_what_does_not_fit_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    budget = plan_budget(parse_memory(DEFAULT_MEMORY), ["s3://bucket/in.vmdk"], "s3://bucket/out.raw", 8)
    assert budget.workers < 8
    assert f"{budget.workers} threads instead of 8" in capsys.readouterr().err
    plan_budget(parse_memory(DEFAULT_MEMORY), ["s3://bucket/in.vmdk"], "s3://bucket/out.raw", None)
    assert capsys.readouterr().err == ""


def test_a_wrong_size_is_one_line() -> None:
    done = call_vmferry("convert", "in.vmdk", "out.raw", "--memory", "much")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "512M" in done.stderr

"""Stages and their Progress: forward only, inside their spans."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from vmferry.tasks.import_image.stages import Stage


def test_stages_only_go_forward() -> None:
    for earlier, later in pairwise(Stage):
        assert earlier.first <= earlier.last <= later.first


@given(st.sampled_from(Stage), st.integers(0, 1 << 50), st.integers(0, 1 << 50))
def test_progress_stays_inside_the_span_of_its_stage(stage: Stage, done: int, planned: int) -> None:
    assert stage.first <= stage.at(done, planned) <= stage.last


def test_progress_counts_bytes() -> None:
    assert Stage.CONVERTING.at(0, 100) == 19
    assert Stage.CONVERTING.at(50, 100) == 33
    assert Stage.CONVERTING.at(100, 100) == 48
    assert Stage.CONVERTING.at(0, 0) == 48

"""Facts through JSON and back; what a taken-over child might send instead is no fact."""

from __future__ import annotations

import json
from typing import Any

import pytest

from vmferry.guest.facts import GuestFacts, SystemFacts, VolumeFacts
from vmferry.guest.facts_json import from_json, to_json
from vmferry.guest.linux.facts import KernelFacts, LinuxFacts
from vmferry.guest.windows.facts import WindowsFacts

FACTS = GuestFacts(
    volumes=(VolumeFacts("disk 1, partition 1", 1, 1, 1 << 20, 1 << 30, "ext4", free=12, features=("extents",)),),
    systems=(
        SystemFacts("disk 1, partition 1", linux=LinuxFacts("debian", "12", kernels=(KernelFacts("6.1", "/vmlinuz"),))),
        SystemFacts("disk 2", windows=WindowsFacts("Windows Server 2022", build=20348)),
    ),
    seconds=0.25,
)


def test_facts_come_back_as_they_went() -> None:
    assert from_json(GuestFacts, json.loads(json.dumps(to_json(FACTS)))) == FACTS


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {"volumes": 1},
        {"volumes": [{"place": "x"}]},
        {"volumes": [{"place": 1, "disk": 1}]},
        {"volumes": [{"place": "x", "disk": "1"}]},
        {"volumes": [{"place": "x", "disk": True}]},
        {"systems": [{"root": "x", "linux": {"distribution": ["debian"]}}]},
        {"seconds": "1"},
        {"seconds": 10**400},
        {"volumes": [{"place": "x", "disk": 1 << 128}]},
        {"volumes": [{"place": "x", "disk": -1 << 128}]},
    ],
)
def test_what_is_no_facts_is_refused(document: Any) -> None:
    with pytest.raises(ValueError, match="these are no GuestFacts"):
        from_json(GuestFacts, document)

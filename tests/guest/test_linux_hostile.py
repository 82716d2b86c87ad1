"""Whatever bytes a guest has in the files that are looked at: sentences come out, in bounded time, and no errors."""

from __future__ import annotations

import json
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.guest.linux_trees import UNITS, X86_64, Contents, look
from vmferry.guest._facts_json import from_json, to_json
from vmferry.guest.linux.facts import LinuxFacts

SETTINGS = [
    "/etc/adjtime",
    "/etc/cloud/cloud.cfg",
    "/etc/crypttab",
    "/etc/fstab",
    "/etc/hostname",
    "/etc/inittab",
    "/etc/lsb-release",
    "/etc/lvm/devices/system.devices",
    "/etc/lvm/lvm.conf",
    "/etc/netplan/a.yaml",
    "/etc/network/interfaces",
    "/etc/NetworkManager/system-connections/a",
    "/etc/os-release",
    "/etc/redhat-release",
    "/etc/selinux/config",
    "/etc/sysconfig/network-scripts/ifcfg-a",
    "/etc/systemd/network/a.network",
    "/etc/systemd/system-preset/a.preset",
    "/etc/SuSE-release",
    "/etc/udev/rules.d/70-net.rules",
]
WORDS = st.sampled_from(
    [
        *"\n\n\n  \t=:[]{}\"'#,-\\\x00\x1b\xff",
        *("UUID=", "ID=", "address", "iface a inet static", "network:", "  ethernets:", "- ", "\\040", "\\x0a"),
        *("[Match]", "Name=", "[connection]", "IDTYPE=sys_wwid", "datasource_list: [", "filter = [", "source /etc/*"),
    ]
)
TEXTS = st.binary(max_size=300) | st.lists(WORDS | st.text(max_size=5), max_size=60).map(
    lambda words: "".join(words).encode("utf-8", "surrogatepass")
)


def check(files: Contents) -> None:
    """There are facts; they survive JSON, and no text in them moves a terminal."""
    facts = look({"/bin/sh": X86_64, "/etc/debian_version": b"12.1", **files})
    assert facts is not None
    text = json.dumps(to_json(facts), ensure_ascii=False)
    assert from_json(LinuxFacts, json.loads(text)) == facts
    assert not re.search("[\x00-\x1f\x7f-\x9f\u202e\ud800-\udfff]", text)
    text.encode()


@settings(max_examples=400, deadline=None)
@given(st.dictionaries(st.sampled_from(SETTINGS), TEXTS))
def test_any_bytes_in_the_settings_give_facts(files: dict[str, bytes]) -> None:
    check({"/usr/lib/systemd/systemd": b"", **files})


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from(SETTINGS), st.sampled_from(["a", "/", "..", "/etc/fstab", "/etc", "/x/y"])))
def test_links_in_place_of_the_settings_give_facts(files: dict[str, str]) -> None:
    check({**UNITS, **files})


@pytest.mark.parametrize(
    "piece", [b"[", b"{", b"a: ", b"- ", b" " * 7 + b"x", b'"', b"a=", b"\\040", b"\n", b"[a]\n", b"x:\n"]
)
def test_four_mebibytes_of_one_thing_are_soon_read(piece: bytes) -> None:
    once = piece * (8000 // len(piece))
    content = ((once + b"\n") * 512) + piece * (90_000 // len(piece))
    started = time.process_time()
    for path in SETTINGS:
        check({**UNITS, path: content})
    assert time.process_time() - started < 20

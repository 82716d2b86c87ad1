"""Registry hives: what is written is read, by others too; little of a large one; one that lies ends in sentences."""

from __future__ import annotations

import io
import random
import struct
import subprocess
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pyregf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.guest.hive_builder import HiveOptions, Typed, build_hive, expand, qword, seal
from vmferry.guest.windows.hive import Hive, Key
from vmferry.limits import MAX_HIVE_CELLS, MAX_HIVE_READ, MAX_HIVE_VALUE
from vmferry.units import KIB, MIB

CONTENT = {
    "": "default",
    "Select": {"Current": 2, "Default": 1},
    "ControlSet002\\Services\\viostor": {
        "Start": 0,
        "ImagePath": expand("System32\\drivers\\viostor.sys"),
        "Several": ("one", "", "two"),
        "Long": qword(1 << 40),
        "Backwards": Typed(5, b"\0\0\1\2"),
        "Short": b"\1",
        "Raw": bytes(range(200)),
    },
    "Large": {"Value": bytes(range(256)) * 200, "Larger": bytes(MAX_HIVE_VALUE + 1)},
    "Größe\u4e2d": {"Wert\u6587": 5},
    "Many": {f"key{number}": {"number": number} for number in range(1200)},
}
KINDS = [
    HiveOptions(),
    HiveOptions(kind=b"lf"),
    HiveOptions(kind=b"li", minor=3),
    HiveOptions(wide_names=True),
    HiveOptions(per_list=100),
]


def read(hive: bytes, problems: list[str] | None = None) -> Hive:
    """A hive in memory; what it reports goes to ``problems``, or must not be."""

    def fail(problem: str) -> None:
        raise AssertionError(problem)

    def read_at(offset: int, length: int) -> bytes:
        return hive[offset : offset + length]

    return Hive(read_at, len(hive), "/SYSTEM", fail if problems is None else problems.append)


@pytest.mark.parametrize("options", KINDS)
def test_every_value_is_read_whatever_the_lists_look_like(options: HiveOptions) -> None:
    root = read(build_hive(CONTENT, options)).root
    driver = root.key("controlset002\\SERVICES\\VioStor")
    assert driver.name == "viostor"
    assert driver.number("start") == 0
    assert driver.text("IMAGEPATH") == "System32\\drivers\\viostor.sys"
    assert driver.texts("Several") == ("one", "two")
    assert driver.number("Long") == 1 << 40
    assert driver.number("Backwards") == 0x102
    assert driver.data("Short") == b"\1"
    assert driver.data("Raw") == bytes(range(200))
    assert root.text("") == "default"
    assert root.key("Large").data("Value") == bytes(range(256)) * 200
    assert root.key("größe\u4e2d").number("wert\u6587") == 5
    assert root.key("many\\KEY777").number("number") == 777
    assert len(root.key("Many").names()) == 1200


@pytest.mark.parametrize("options", KINDS)
def test_the_writer_is_believed_by_libregf(options: HiveOptions) -> None:
    judge = pyregf.file()
    judge.open_file_object(io.BytesIO(build_hive(CONTENT, options)))
    assert not judge.is_corrupted()
    _compare(judge.get_root_key(), read(build_hive(CONTENT, options)).root)


def _compare(judge: Any, key: Key) -> None:
    assert [below.name for below in judge.sub_keys] == key.names()
    for value in judge.values:
        if len(value.data or b"") < 4:
            continue  # libregf takes these from the wrong end of the four bytes that they stand in; hivex does not
        assert key.data(value.name or "") == (value.data or b"")[:MAX_HIVE_VALUE]
    for below, ours in zip(judge.sub_keys, key.below(), strict=True):
        _compare(below, ours)


@pytest.mark.parametrize("options", KINDS)
def test_the_writer_is_believed_by_hivex(options: HiveOptions, tmp_path: Path) -> None:
    path = tmp_path / "hive"
    path.write_bytes(build_hive(CONTENT, options))
    asked = "cd \\ControlSet002\\Services\\viostor\nlsval\ncd \\Many\\key777\nlsval\n"
    shown = subprocess.run(["hivexsh", path], input=asked, capture_output=True, text=True, check=True).stdout
    assert '"Short"=hex(3):01\n' in shown
    assert '"Start"=dword:00000000' in shown
    assert f'"number"=dword:{777:08x}' in shown


def test_keys_that_hivex_adds_are_found_by_their_hash(tmp_path: Path) -> None:
    path = tmp_path / "hive"
    path.write_bytes(build_hive({"Services": {"first": {"Start": 1}}}))
    asked = "cd Services\nadd VioStor\ncd VioStor\nsetval 2\nStart\ndword:3\nName\nstring:disk\ncommit\n"
    subprocess.run(["hivexsh", "-w", path], input=asked, capture_output=True, text=True, check=True)
    services = read(path.read_bytes()).root.key("Services")
    assert services.key("viostor").number("Start") == 3
    assert services.key("VIOSTOR").text("Name") == "disk"
    assert services.names() == ["first", "VioStor"]


def test_what_is_missing_is_empty() -> None:
    key = read(build_hive(CONTENT)).root.key("Nothing\\Below\\It")
    assert not key.exists
    assert (key.name, key.names(), key.value_names()) == ("", [], [])
    assert (key.number("x"), key.text("x"), key.texts("x"), key.data("x"), key.flag("x")) == (
        None,
        None,
        (),
        None,
        None,
    )


def test_a_value_of_another_type_is_missing() -> None:
    key = read(build_hive({"Text": "12", "Number": 12, "Broken": Typed(4, b"\1"), "Zero": "0", "Odd": "yes"})).root
    assert (key.number("Text"), key.text("Number"), key.number("Broken")) == (None, None, None)
    assert (key.flag("Text"), key.flag("Number"), key.flag("Zero"), key.flag("Odd")) == (True, True, False, None)
    assert key.texts("Text") == ("12",)


def test_a_value_is_cut_where_it_is_too_large() -> None:
    assert read(build_hive(CONTENT)).root.key("Large").data("Larger") == bytes(MAX_HIVE_VALUE)


def test_only_the_way_to_a_key_is_read() -> None:
    hive = build_hive({f"key{i}": {f"below{j}": {"value": bytes(2000)} for j in range(100)} for i in range(100)})
    count = 0

    def read_at(offset: int, length: int) -> bytes:
        nonlocal count
        count += length
        return hive[offset : offset + length]

    root = Hive(read_at, len(hive), "/SOFTWARE", pytest.fail).root
    assert root.key("key77\\below50").data("value") == bytes(2000)
    assert len(hive) > 20 * MIB
    assert count < 128 * KIB


def test_a_hive_that_was_not_written_out_says_so() -> None:
    assert read(build_hive({}, HiveOptions(sequences=(8, 7)))).dirty
    assert not read(build_hive({})).dirty


def _root_place(hive: bytes) -> int:
    return 4096 + int.from_bytes(hive[36:40], "little")


def _patch(hive: bytes, place: int, layout: str, *values: Any) -> bytes:
    patched = bytearray(hive)
    struct.pack_into(layout, patched, place, *values)
    return seal(bytes(patched))


def _root_lists(hive: bytes) -> tuple[int, int]:
    """The places in the file of the root's lists of subkeys and of values."""
    subkeys, values = struct.unpack_from("<I8xI", hive, _root_place(hive) + 4 + 28)
    return 4096 + subkeys, 4096 + values


HIVE = build_hive({"Value": 1, "Key": {"Value": "text that does not fit inline"}})
LIES = {
    "nothing": (b"", "does not begin"),
    "another file": (bytes(8192), "does not begin"),
    "a wrong checksum": (HIVE[:508] + bytes(4) + HIVE[512:], "wrong checksum"),
    "cut short": (HIVE[:4200], "ends early"),
    "a root outside": (_patch(HIVE, 36, "<I", 0x7FFFFFF8), "lies outside"),
    "a root askew": (_patch(HIVE, 36, "<I", 33), "lies outside"),
    "a root that is free": (_patch(HIVE, _root_place(HIVE), "<i", 80), "not in use"),
    "a cell beyond the end": (_patch(HIVE, _root_place(HIVE), "<i", -0x7FFFFFF8), "past the end"),
    "a root that is no key": (_patch(HIVE, _root_place(HIVE) + 4, "<2s", b"vk"), "is no key"),
    "a list that is none": (_patch(HIVE, _root_lists(HIVE)[0] + 4, "<2s", b"xx"), "no list of keys"),
    "a list with too many": (_patch(HIVE, _root_lists(HIVE)[0] + 6, "<H", 65535), "too short for the 65535 keys"),
    "a list of lists in a circle": (
        _patch(HIVE, _root_lists(HIVE)[0] + 4, "<2sHI", b"ri", 1, _root_lists(HIVE)[0] - 4096), "no list of keys"
    ),
    "too many values": (_patch(HIVE, _root_place(HIVE) + 4 + 36, "<I", 0xFFFFFFFE), "too short for the 4294967294"),
    "a value that is a key": (_patch(HIVE, _root_lists(HIVE)[1] + 4, "<I", _root_place(HIVE) - 4096), "is no value"),
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_a_hive_that_lies_ends_in_a_sentence(lie: str) -> None:
    hive, expected = LIES[lie]
    problems: list[str] = []
    _walk(read(hive, problems).root, 3)
    assert any(expected in problem and "/SYSTEM" in problem for problem in problems), problems


def _walk(key: Key, depth: int) -> None:
    for name in key.value_names():
        key.data(name)
        key.text(name)
        key.texts(name)
        key.number(name)
    for below in key.below():
        if depth:
            _walk(below, depth - 1)
        key.key(below.name)


def _bomb(entries: int) -> bytes:
    """A root whose list of lists names one list again and again, all of whose entries are the root."""
    hive = bytearray(HIVE)
    place, root = len(hive) - 4096, _root_place(HIVE) - 4096
    one = struct.pack("<2sH", b"li", entries) + struct.pack("<I", root) * entries
    one += bytes(-(len(one) + 4) % 8)
    many = struct.pack("<2sH", b"ri", entries) + struct.pack("<I", place) * entries
    many += bytes(-(len(many) + 4) % 8)
    for cell in (one, many):
        hive += struct.pack("<i", -(len(cell) + 4)) + cell
    struct.pack_into("<I", hive, 40, len(hive) - 4096)
    struct.pack_into("<I", hive, root + 4096 + 4 + 28, place + len(one) + 4)
    return seal(bytes(hive))


def test_lists_of_lists_of_the_root_end_in_time_and_memory() -> None:
    problems: list[str] = []
    hive = _bomb(65535)
    tracemalloc.start()
    begun = time.process_time()
    _walk(read(hive, problems).root, 2)
    seconds = time.process_time() - begun
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert any(str(MAX_HIVE_CELLS) in problem for problem in problems)
    assert peak < 128 * MIB
    assert seconds < 8, "a second, and the tracer that slows all down"


def test_a_hive_that_lies_far_apart_is_read_no_further() -> None:
    hive = build_hive({"v": {f"value{i}": bytes(16000) for i in range(2 * MAX_HIVE_READ // 16000)}})
    problems: list[str] = []
    key = read(hive, problems).root.key("v")
    assert key.data("value1") is not None
    assert sum(len(key.data(name) or b"") for name in key.value_names()) <= MAX_HIVE_READ
    assert any("too far apart" in problem for problem in problems)


@given(st.binary(max_size=2000))
@settings(max_examples=200, deadline=None)
def test_random_bytes_end_in_sentences(data: bytes) -> None:
    _walk(read(HIVE[:4096] + data, []).root, 3)


@given(st.integers(0, 1 << 32), st.integers(1, 60))
@settings(max_examples=200, deadline=None)
def test_flipped_bits_end_in_sentences(seed: int, count: int) -> None:
    hive = bytearray(build_hive({"a": {"b": {"c": 1, "d": "text" * 20}}, "e": ("x", "y"), "f": {"g": bytes(20000)}}))
    chance = random.Random(seed)
    for _ in range(count):
        hive[chance.randrange(len(hive)) if chance.random() < 0.3 else 4096 + chance.randrange(1200)] ^= (
            1 << chance.randrange(8)
        )
    _walk(read(bytes(hive), []).root, 4)

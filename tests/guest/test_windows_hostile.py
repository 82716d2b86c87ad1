"""A Windows whose hives and files lie, or that is merely large: sentences come out, in time and in little memory."""

from __future__ import annotations

import random
import struct
import time
import tracemalloc
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.guest.hive_builder import Typed, build_hive, merge, nest, seal
from tests.guest.windows_trees import (
    MBR_VOLUMES,
    RELEASES,
    VIRTIO_FILE,
    bcd,
    files,
    look,
    mbr_device,
    system_hive,
    virtio,
)
from vmferry.errors import GuestError
from vmferry.guest.filesystems import Node
from vmferry.guest.filesystems.memory import MemoryFileSystem
from vmferry.guest.tree import Tree
from vmferry.guest.windows.facts import WindowsFacts
from vmferry.guest.windows.system import find_windows
from vmferry.limits import MAX_GUEST_PROBLEMS
from vmferry.units import MIB

pytestmark = pytest.mark.slow

CONFIG = "/Windows/System32/config"
HIVES = (f"{CONFIG}/SYSTEM", f"{CONFIG}/SOFTWARE", f"{CONFIG}/DRIVERS", "/Boot/BCD")
SMALL = files("2019", virtio(), more={
    **VIRTIO_FILE,
    "/bootmgr": b"x", "/Boot/BCD": bcd(mbr_device()), f"{CONFIG}/DRIVERS": build_hive({"DriverDatabase": {}}),
    "/hiberfil.sys": b"wake", "/Windows/Setup/State/State.ini": b"[State]\r\nImageState=X\r\n",
})  # fmt: skip


def hive_of(path: str) -> bytes:
    """One of the hives of the sound system that is made to lie here."""
    content = SMALL[path]
    assert isinstance(content, bytes)
    return content


def see(changed: dict[str, bytes]) -> WindowsFacts:
    """What is seen of ``SMALL`` with ``changed`` files; the sound rest is always seen."""
    facts = look({**SMALL, **changed}, MBR_VOLUMES)
    assert facts is not None
    assert facts.architecture == "x86_64"
    assert len(facts.problems) <= MAX_GUEST_PROBLEMS
    assert all(problem.startswith(("/", "The registry")) for problem in facts.problems), facts.problems
    return facts


@given(st.sampled_from(HIVES), st.integers(0, 1 << 32), st.integers(1, 200))
@settings(max_examples=150, deadline=None)
def test_flipped_bits_end_in_sentences(path: str, seed: int, count: int) -> None:
    chance = random.Random(seed)
    hive = bytearray(hive_of(path))
    for _ in range(count):
        hive[chance.randrange(len(hive))] ^= 1 << chance.randrange(8)
    see({path: seal(bytes(hive))})


@given(st.sampled_from(HIVES), st.integers(0, 1 << 32), st.integers(1, 40))
@settings(max_examples=150, deadline=None)
def test_places_that_lead_elsewhere_end_in_sentences(path: str, seed: int, count: int) -> None:
    """Every number that looks as if it were a place becomes another, or the place of something else, or a giant."""
    chance = random.Random(seed)
    hive = bytearray(hive_of(path))
    places = [
        at for at in range(4096, len(hive) - 4, 4) if 32 <= int.from_bytes(hive[at : at + 4], "little") < len(hive)
    ]
    for at in chance.sample(places, min(count, len(places))):
        other = chance.choice([chance.choice(places) - 4096, 0xFFFFFFF8, 0x7FFFFFFF, 32, chance.randrange(1 << 32)])
        struct.pack_into("<I", hive, at, other)
    see({path: seal(bytes(hive))})


@given(st.sampled_from([*HIVES, "/hiberfil.sys", "/Windows/Setup/State/State.ini"]), st.binary(max_size=9000))
@settings(max_examples=100, deadline=None)
def test_random_bytes_end_in_sentences(path: str, data: bytes) -> None:
    see({path: data})
    if path in HIVES:
        see({path: hive_of(path)[:4096] + data})


@given(st.sampled_from(HIVES), st.floats(0, 1))
@settings(max_examples=50, deadline=None)
def test_a_hive_that_ends_anywhere_ends_in_sentences(path: str, share: float) -> None:
    see({path: hive_of(path)[: int(len(hive_of(path)) * share)]})


class Damaged:
    """A file system that can be read up to some point of time."""

    kind = "ntfs"

    def __init__(self, system: MemoryFileSystem, calls: int) -> None:
        self._system, self.calls = system, calls

    def _count(self) -> None:
        self.calls -= 1
        if self.calls < 0:
            raise GuestError("/$MFT is damaged: record 17.")

    def node(self, path: str) -> Node | None:
        self._count()
        return self._system.node(path)

    def names(self, path: str) -> Sequence[str]:
        self._count()
        return self._system.names(path)

    def read_at(self, path: str, offset: int, length: int) -> bytes:
        self._count()
        return self._system.read_at(path, offset, length)


def test_a_file_system_that_is_damaged_anywhere_ends_in_sentences() -> None:
    system = MemoryFileSystem(SMALL, kind="ntfs", ignores_case=True)
    whole = Damaged(system, 1 << 20)
    assert find_windows(Tree({"/": whole}), ()) == look(SMALL)
    total = (1 << 20) - whole.calls
    for calls in [*range(60), *range(60, total, 7)]:
        facts = find_windows(Tree({"/": Damaged(system, calls)}), ())
        assert facts is None or any("$MFT" in problem for problem in facts.problems)
        assert facts is not None or calls < 40


def bomb(entries: int, name: str = "Services") -> bytes:
    """A hive in which every key below the root is the root, in a list of lists of one and the same giant list."""
    hive = bytearray(build_hive({name: {"Value": 1}}))
    root = int.from_bytes(hive[36:40], "little")
    target = root
    for kind in (b"li", b"ri"):
        place = len(hive) - 4096
        cell = struct.pack("<2sH", kind, entries) + struct.pack("<I", target) * entries
        cell += bytes(-(len(cell) + 4) % 8)
        hive += struct.pack("<i", -(len(cell) + 4)) + cell
        target = place
    struct.pack_into("<I", hive, 40, len(hive) - 4096)
    struct.pack_into("<I", hive, root + 4096 + 4 + 28, target)
    return seal(bytes(hive))


def giant(count: int) -> bytes:
    """A SYSTEM whose lists are all as long as they may be, and whose values share one text."""
    text = Typed(7, "1.2.3.4\0".encode("utf-16-le") * 4000)
    interface = {"EnableDHCP": 0, "IPAddress": text, "SubnetMask": text}
    return build_hive({
        "Select": {"Current": 1},
        "ControlSet001": {
            "Control": {
                "CriticalDeviceDatabase": {f"device{i}": {"Service": "x" * 200} for i in range(count)},
                "Session Manager": {"PendingFileRenameOperations": text, "Memory Management": {"PagingFiles": text}},
                "MUI": {"UILanguages": {f"language{i}": {} for i in range(count)}},
            },
            "Services": {
                "Tcpip": {"Parameters": {"Interfaces": {f"{{{i}}}": interface for i in range(count // 16)}}},
                "storahci": {"Start": 0, "StartOverride": {str(i): 0 for i in range(count)}},
            },
        },
    })  # fmt: skip


@pytest.mark.parametrize("kind", ["giant lists", "long lists", "much of everything"])
def test_giants_end_within_a_second_and_little_memory(kind: str) -> None:
    if kind == "much of everything":
        hives = {HIVES[0]: giant(6000)}
    else:
        hives = dict.fromkeys(HIVES, bomb(65535 if kind == "giant lists" else 3000))
    begun = time.process_time()
    facts = see(hives)
    seconds = time.process_time() - begun
    tracemalloc.start()
    assert see(hives) == facts
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert facts.problems
    assert seconds < 1
    assert peak < 128 * MIB


def test_an_ordinary_windows_is_far_within_the_bounds() -> None:
    """As many services, rules, devices and packages as a server in use has; the hive of software of 40 MiB."""
    rule = "v2.30|Action=Allow|Active=TRUE|Dir=In|Protocol=6|LPort=80|App=%SystemRoot%\\x.exe|Name=@x.dll,-1|"
    rules = {f"rule-{i}": rule for i in range(2000)} | {"RemoteDesktop-UserMode-In-TCP": rule}
    services = {
        f"Services\\service{i}": {
            "Start": 3,
            "Type": 1,
            "ImagePath": "x" * 60,
            "DisplayName": "y" * 40,
            "Security": b"z" * 168,
        }
        for i in range(800)
    }
    system = system_hive(RELEASES["2019"], virtio() | services | {
        "Services\\SharedAccess\\Parameters\\FirewallPolicy\\FirewallRules": rules,
        "DriverDatabase\\DeviceIds\\PCI": {f"VEN_8086&DEV_{i:04X}": {"oem.inf": b"\1"} for i in range(6000)},
        "DriverDatabase\\DriverPackages": {f"package{i}": {"Version": bytes(40)} for i in range(1000)},
    })  # fmt: skip
    software = merge(
        nest({"Microsoft\\Windows NT\\CurrentVersion": RELEASES["2019"].version}),
        {"Classes": {f"class{i}": {"shell": {"open": {"": "z" * 1000}}} for i in range(14000)}},
    )
    content = {**SMALL, HIVES[0]: build_hive(system), HIVES[1]: build_hive(software)}
    counted = Counted(MemoryFileSystem(content, kind="ntfs", ignores_case=True))
    begun = time.process_time()
    facts = find_windows(Tree({"/": counted}), ())
    assert time.process_time() - begun < 1
    assert facts is not None
    assert facts.problems == ()
    assert "viostor" in facts.boot_drivers
    assert facts.remote_desktop_profiles == ("domain", "private", "public")
    assert len(content[HIVES[1]] or b"") > 30 * MIB
    assert counted.bytes < 4 * MIB


class Counted:
    """A file system that counts what is read."""

    def __init__(self, system: MemoryFileSystem) -> None:
        self._system = system
        self.kind = system.kind
        self.bytes = 0

    def node(self, path: str) -> Node | None:
        return self._system.node(path)

    def names(self, path: str) -> Sequence[str]:
        return self._system.names(path)

    def read_at(self, path: str, offset: int, length: int) -> bytes:
        data = self._system.read_at(path, offset, length)
        self.bytes += len(data)
        return data

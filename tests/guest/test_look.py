"""A look into a guest happens in a child without rights; whatever becomes of it, the parent has facts in time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.guest.trees import make_tree, open_raw, run
from vmferry.blob import MemoryBlob
from vmferry.disk import Disk
from vmferry.errors import CorruptDiskError, StoreUnavailableError, UnsafeDiskError
from vmferry.formats import FORMATS, open_disk
from vmferry.guest._child import pack_facts
from vmferry.guest.facts import GuestFacts, SystemFacts, VolumeFacts
from vmferry.guest.facts_json import from_json
from vmferry.guest.inside import look_inside
from vmferry.guest.look import DEFAULT_ALLOWANCE, SpareLooker, look, look_by
from vmferry.limits import MAX_LOOK_ANSWER
from vmferry.units import MIB

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
BLANK = open_disk(MemoryBlob(bytes(MIB), "disk.raw"), FORMATS["raw"])


@pytest.fixture(scope="module", params=["bios", "uefi"])
def guest(request: pytest.FixtureRequest) -> Path:
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "build_guest.py", "tiny", "--firmware", request.param],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


@pytest.fixture(scope="module")
def ext4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ext4")
    run("mke2fs", "-q", "-t", "ext4", "-d", make_tree(folder / "tree"), folder / "disk.raw", "64M")
    return folder / "disk.raw"


def test_a_guest_that_boots_is_known(guest: Path) -> None:
    began = time.monotonic()
    facts = look([open_raw(guest)])
    assert time.monotonic() - began < 5  # a second, where nobody else computes
    assert facts.problems == ()
    assert facts.system is not None
    assert facts.system.linux is not None
    assert facts.system.linux.distribution == "debian"
    assert facts.system.root == f"disk 1, partition {2 if 'uefi' in guest.name else 1}"
    assert facts.system.chosen_by == "the only one"
    assert facts.bytes_read < 8 * MIB
    assert {volume.kind for volume in facts.volumes} == ({"fat32", "ext4"} if "uefi" in guest.name else {"ext4"})


def test_the_child_finds_what_is_found_without_one(ext4: Path) -> None:
    here = look_inside([open_raw(ext4)])
    there = look([open_raw(ext4)])
    assert there.system is not None
    assert replace(there, bytes_read=0, seconds=0.0) == here


def test_a_disk_without_anything_has_one_volume_and_no_system() -> None:
    facts = look([BLANK])
    assert [volume.place for volume in facts.volumes] == ["disk 1"]
    assert facts.volumes[0].kind is None
    assert (facts.systems, facts.problems) == ((), ())


class _Failing:
    """A disk that reads well up to a place."""

    def __init__(self, disk: Disk, error: Exception, sound: int = 0) -> None:
        self._disk, self._error, self._sound = disk, error, sound
        self.size = disk.size

    def read_at(self, offset: int, length: int) -> bytes:
        if offset + length > self._sound:
            raise self._error
        return bytes(self._disk.read_at(offset, length))


@pytest.mark.parametrize("error", [StoreUnavailableError("gone"), UnsafeDiskError("a bomb")])
def test_what_ends_the_reading_of_the_disk_is_raised(ext4: Path, error: Exception) -> None:
    with pytest.raises(type(error)):
        look([_Failing(open_raw(ext4), error)])


@pytest.mark.parametrize("sound", [0, 128 * 1024])
def test_a_damaged_piece_of_the_disk_is_a_problem_of_what_lies_there(ext4: Path, sound: int) -> None:
    facts = look([_Failing(open_raw(ext4), CorruptDiskError("grain 7 is damaged"), sound=sound)])
    told = (*facts.problems, *(volume.problem or "" for volume in facts.volumes))
    assert any("grain 7 is damaged" in text for text in told)


@pytest.mark.parametrize("allowed", [300_000, 400_000, 500_000, 600_000, 700_000])
def test_a_look_reads_no_more_than_it_may_and_says_so(ext4: Path, allowed: int) -> None:
    facts = look([open_raw(ext4)], allowance=replace(DEFAULT_ALLOWANCE, bytes_read=allowed))
    assert facts.bytes_read <= allowed
    linux = facts.system.linux if facts.system else None
    told = [*facts.problems, *(volume.problem or "" for volume in facts.volumes), *(linux.problems if linux else ())]
    assert any("ended after" in text or "would be read" in text for text in told), told


def test_a_file_that_is_too_large_is_refused_and_what_is_small_still_read(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    (tree / "boot" / "initrd.img-6.1").write_bytes(b"\x28\xb5\x2f\xfd" + os.urandom(6 * MIB))
    run("mke2fs", "-q", "-t", "ext4", "-d", tree, tmp_path / "disk.raw", "64M")
    facts = look([open_raw(tmp_path / "disk.raw")], allowance=replace(DEFAULT_ALLOWANCE, bytes_read=4 * MIB))
    assert facts.bytes_read <= 4 * MIB
    assert facts.system is not None
    assert facts.system.linux is not None
    assert facts.system.linux.distribution == "debian"
    assert not any("ended" in problem for problem in facts.problems)


SETUP = """
import os, socket, sys, time, ctypes
sys.path[:] = sys.argv[2:]
from vmferry.guest._channel import *
from vmferry.guest._sandbox import give_up_rights
channel = socket.socket(fileno=int(sys.argv[1]))
sizes, allowance = receive_setup(channel)
asker = Asker(channel, allowance)
def sandbox():
    give_up_rights(addresses=allowance.addresses, memory=allowance.memory, cpu_seconds=allowance.cpu_seconds)
"""


def look_by_script(script: str, seconds: float = 10, cpu_seconds: int = 2) -> tuple[str, ...]:
    """The problems that a look tells whose child does what ``script`` says."""
    allowance = replace(DEFAULT_ALLOWANCE, seconds=seconds, cpu_seconds=cpu_seconds)
    facts = look_by([sys.executable, "-I", "-S", "-c", SETUP + script, "{}", *sys.path], [BLANK], allowance)
    return facts.problems


FORBIDDEN = [
    "open('/etc/passwd')",
    "os.stat('/etc/passwd')",
    "os.listdir('/')",
    "socket.socket()",
    "os.fork()",
    "os.execv('/bin/true', ['true'])",
    "os.kill(os.getppid(), 0)",
    "os.setuid(0)",
    "os.dup(1)",
    "os.unlink('/tmp/x')",
    "ctypes.CDLL(None).ptrace(0, 0, 0, 0)",
    "ctypes.CDLL(None).syscall(435, 0, 0)",  # clone3
    "__import__('mmap').mmap(-1, 4096, prot=7)",
    "__import__('threading').Thread(target=print).start()",
    "channel.sendmsg([b'x'])",
]


@pytest.mark.parametrize("action", FORBIDDEN)
def test_a_child_that_does_more_than_parse_is_ended(action: str) -> None:
    (problem,) = look_by_script(f"import mmap, threading\nsandbox()\n{action}\nos._exit(0)")
    assert "asked the kernel for what it may not" in problem, problem


def test_the_sandbox_leaves_what_parsing_needs() -> None:
    script = "sandbox()\nparts = [bytes(1 << 20) for _ in range(20)]\nasker.read(0, 0, 4096)\n"
    (problem,) = look_by_script(script + "asker.say(NOTE, b'the end')\nos._exit(3)")
    assert "gave up with exit code 3" in problem
    assert "the end" in problem


def test_a_child_runs_as_nobody_where_root_would() -> None:
    unfiltered = "from vmferry.guest import _sandbox\n_sandbox._filter_calls = lambda libc: True\nsandbox()\n"
    (problem,) = look_by_script(unfiltered + "asker.say(NOTE, b'uid %d' % os.getresuid()[0])\nos._exit(3)")
    assert "uid 0." not in problem
    assert "uid " in problem


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("time.sleep(60)", "took more than 1 seconds"),
        ("sandbox()\nwhile True: pass", "of processor time"),
        ("os.abort()", "signal 6 (SIGABRT)"),
        ("os.kill(os.getpid(), 40)", "signal 40 at"),
        ("sandbox()\nctypes.string_at(0)", "signal 11"),
        ("sandbox()\nx = bytes(400 << 20)", "exit code 1 (MemoryError"),
        ("1/0", "ZeroDivisionError"),
        ("os._exit(0)", "gave up with exit code 0"),
        ("channel.close(); time.sleep(60)", "closed its end"),
        ("channel.sendall(REQUEST.pack(b'X', 0, 0, 0)); time.sleep(60)", "said what it cannot say"),
        ("channel.sendall(REQUEST.pack(READ, 1, 0, 512)); time.sleep(60)", "on no disk"),
        ("channel.sendall(REQUEST.pack(READ, 0, 1 << 63, 512)); time.sleep(60)", "on no disk"),
        ("channel.sendall(REQUEST.pack(READ, 0, 0, (1 << 32) - 1)); time.sleep(60)", "on no disk"),
        ("while True: channel.sendall(REQUEST.pack(READ, 0, 0, 1 << 20)); receive(channel, 5 + (1 << 20))", "64 MiB"),
        ("while True: channel.sendall(REQUEST.pack(NOTE, 0, 0, 0))", "talks too much"),
        ("channel.sendall(REQUEST.pack(NOTE, 0, 0, 201)); time.sleep(60)", "talks too much"),
        ("channel.sendall(REQUEST.pack(FACTS, 0, 0, 1 << 31)); time.sleep(60)", "answered more than 1 MiB"),
        ("while True: asker.say(FACTS, b'{}')", "answered more than 1 MiB"),
        ("asker.say(FACTS, b'{\"volumes\": 3}'); time.sleep(60)", "answered what are no facts"),
        ("asker.say(FACTS, b'[' * 900_000); time.sleep(60)", "answered what are no facts"),
        ("asker.say(FACTS, b'\\xff'); time.sleep(60)", "answered what are no facts"),
        ("asker.say(FACTS, b'{\"problems\": [\"\\\\ud800\"]}'); time.sleep(60)", "answered what are no facts"),
    ],
)  # fmt: skip
def test_a_child_that_hangs_dies_or_lies_gives_a_problem(script: str, told: str) -> None:
    began = time.monotonic()
    problems = look_by_script(script, seconds=1 if "1 seconds" in told else 10, cpu_seconds=1)
    assert told in problems[-1], problems
    assert time.monotonic() - began < 9


def test_what_the_child_told_before_it_died_is_kept() -> None:
    known = json.dumps({"volumes": [{"place": "disk 1", "disk": 1, "kind": "ext4"}]}).encode()
    script = f"asker.say(FACTS, {known!r})\nasker.say(NOTE, b'the ext4 file system on disk 1')\nos.abort()"
    facts = look_by([sys.executable, "-I", "-S", "-c", SETUP + script, "{}", *sys.path], [BLANK], DEFAULT_ALLOWANCE)
    assert [volume.kind for volume in facts.volumes] == ["ext4"]
    assert facts.problems == (
        "The look ended early: the reader was ended by signal 6 (SIGABRT) at the ext4 file system on disk 1.",
    )


def test_the_child_stays_below_a_quarter_of_a_gibibyte(ext4: Path) -> None:
    script = (
        "import resource, sys; from tests.guest.trees import open_raw; from vmferry.guest.look import look;"
        "from pathlib import Path; assert look([open_raw(Path(sys.argv[1]))]).system;"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    done = subprocess.run([sys.executable, "-c", script, ext4], capture_output=True, text=True, cwd=ROOT, check=True)
    assert int(done.stdout) * 1024 < 256 * MIB


@pytest.mark.parametrize(
    ("facts", "volumes", "systems"),
    [
        (GuestFacts((VolumeFacts("a", 1),), (SystemFacts("a"), SystemFacts("b")), ("p",)), 1, 2),
        (GuestFacts((VolumeFacts("a", 1),), (SystemFacts("a"), SystemFacts("b" * (1 << 20)))), 1, 1),
        (GuestFacts((VolumeFacts("a" * 2000, 1),) * 1000, (SystemFacts("a"), SystemFacts("b"))), 64, 1),
        (GuestFacts((VolumeFacts("a", 1),) * 100, (SystemFacts("b" * (1 << 20)),)), 64, 0),
        (GuestFacts((VolumeFacts("a" * (1 << 20), 1),), (), ("p" * (1 << 20),)), 0, 0),
    ],
)
def test_facts_that_are_too_many_are_told_without_what_matters_least(
    facts: GuestFacts, volumes: int, systems: int
) -> None:
    data = pack_facts(facts)
    assert len(data) <= MAX_LOOK_ANSWER
    told = from_json(GuestFacts, json.loads(data))
    assert (len(told.volumes), len(told.systems)) == (volumes, systems)
    assert (told == facts) != ("More was found than can be told." in told.problems)


def test_the_child_knows_nothing_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    (problem,) = look_by_script("asker.say(NOTE, repr(sorted(os.environ)).encode())\nos._exit(3)")
    assert "SECRET" not in problem
    assert "LC_CTYPE" in problem or "[]" in problem or "LD_LIBRARY_PATH" in problem


def test_the_child_holds_no_file_of_the_parents(tmp_path: Path) -> None:
    with (tmp_path / "held").open("wb") as held:
        os.set_inheritable(held.fileno(), True)
        (problem,) = look_by_script("asker.say(NOTE, repr(os.listdir('/proc/self/fd')).encode())\nos._exit(3)")
    assert problem.count("'") == 2 * 5, problem  # three standard ones, the socket, the folder being listed


def test_a_spare_looker_waits_and_each_look_has_a_process_of_its_own() -> None:
    spare = SpareLooker()
    pids = set()
    try:
        for _ in range(3):
            with spare.take() as looker:
                pids.add(looker.pid)
                assert looker.look([BLANK]).problems == ()
        waiting = spare.take()
        waiting.close()
        assert spare._spare is not None
        os.kill(spare._spare.pid, signal.SIGKILL)
        while spare._spare.waits:
            time.sleep(0.01)
        with spare.take() as looker:  # not the one that died
            assert looker.look([BLANK]).problems == ()
    finally:
        spare.close()
    assert len(pids) == 3


def test_a_spare_looker_ends_with_its_parent() -> None:
    script = (
        "import os; from vmferry.guest import SpareLooker\n"
        "spare = SpareLooker(); spare.take(); print(spare._spare.pid, flush=True); os._exit(0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30)
    ends_at = time.monotonic() + 30
    while _is_alive(int(done.stdout)):
        assert time.monotonic() < ends_at
        time.sleep(0.01)


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("writes", [True, False])
def test_the_child_keeps_what_it_compiles_where_the_parent_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: bool
) -> None:
    monkeypatch.setattr(sys, "pycache_prefix", str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", not writes)
    assert look([BLANK]).problems == ()
    assert any(tmp_path.rglob("superblocks/*.pyc")) == writes

"""The supervisor with small shells as children; the servers themselves are in ``test_servers``."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vmferry.embedded import supervisor as supervisor_module
from vmferry.embedded.child import Child, Command, end_leftover, is_running, record
from vmferry.embedded.supervisor import Service, State, Status, Supervisor, end_leftovers
from vmferry.errors import ConfigError


def shell(tmp_path: Path, name: str, script: str) -> Command:
    environment = {"PATH": os.defpath, "HERE": str(tmp_path)}
    return Command(name, ("/bin/sh", "-c", script), tmp_path, tmp_path / "log" / f"{name}.log", environment)


def sleeper(tmp_path: Path, name: str = "sleeper") -> Command:
    return shell(tmp_path, name, f"echo {name} >> $HERE/started; exec sleep 1000")


def wait_for(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


@contextmanager
def running(tmp_path: Path, *services: Service) -> Iterator[Supervisor]:
    supervisor = Supervisor(services, tmp_path / "run")
    supervisor.start(timeout=20)
    try:
        yield supervisor
    finally:
        supervisor.stop()


def status(supervisor: Supervisor, name: str) -> Status:
    return next(status for status in supervisor.status() if status.name == name)


def pid_of(supervisor: Supervisor, name: str) -> int:
    pid = status(supervisor, name).pid
    assert pid is not None
    return pid


@pytest.mark.slow
def test_a_killed_child_comes_back_after_a_growing_pause(tmp_path: Path) -> None:
    with running(tmp_path, Service(sleeper(tmp_path), lambda: True)) as supervisor:
        pauses = []
        for restarts in (1, 2, 3):
            os.kill(pid_of(supervisor, "sleeper"), signal.SIGKILL)
            killed = time.monotonic()
            wait_for(
                lambda restarts=restarts: (  # type: ignore[misc]
                    status(supervisor, "sleeper").restarts == restarts
                    and status(supervisor, "sleeper").state is State.READY
                )
            )
            pauses.append(time.monotonic() - killed)
        assert 0.5 <= pauses[0] < 1.0 <= pauses[1] < 2.0 <= pauses[2] < 3.5
        assert status(supervisor, "sleeper").reason == "it was ended by SIGKILL"


@pytest.mark.slow
def test_a_healthy_time_makes_the_pause_short_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor_module, "HEALTHY_AFTER", 0.3)
    with running(tmp_path, Service(sleeper(tmp_path), lambda: True)) as supervisor:
        for restarts in (1, 2, 3):
            time.sleep(0.6)
            os.kill(pid_of(supervisor, "sleeper"), signal.SIGKILL)
            killed = time.monotonic()
            wait_for(lambda restarts=restarts: status(supervisor, "sleeper").restarts == restarts)  # type: ignore[misc]
            wait_for(lambda: status(supervisor, "sleeper").state is State.READY)
            assert time.monotonic() - killed < 1.0


def test_children_start_in_order_and_stop_in_reverse(tmp_path: Path) -> None:
    script = (
        "trap 'echo -$NAME >> $HERE/events; exit 0' TERM; echo +$NAME >> $HERE/events; while :; do sleep 0.05; done"
    )
    gate = threading.Event()
    services = [
        Service(shell(tmp_path, "late", f"NAME=late; {script}"), lambda: True, order=1),
        Service(shell(tmp_path, "early", f"NAME=early; {script}"), gate.is_set, order=0),
    ]
    events = tmp_path / "events"
    supervisor = Supervisor(services, tmp_path / "run")
    starter = threading.Thread(target=supervisor.start)
    starter.start()
    wait_for(lambda: events.exists() and events.read_text() == "+early\n")
    time.sleep(0.4)
    assert status(supervisor, "late").state is State.WAITING
    gate.set()
    starter.join()
    wait_for(lambda: events.read_text() == "+early\n+late\n")
    supervisor.stop()
    assert events.read_text() == "+early\n+late\n-late\n-early\n"
    assert [status.state for status in supervisor.status()] == [State.STOPPED, State.STOPPED]
    assert list((tmp_path / "run").iterdir()) == []


@pytest.mark.slow
def test_a_child_that_does_not_start_is_said_with_its_last_words(tmp_path: Path) -> None:
    service = Service(shell(tmp_path, "broken", "echo 'the disk is on fire' >&2; exit 3"), lambda: False)
    supervisor = Supervisor([service, Service(sleeper(tmp_path), lambda: True)], tmp_path / "run")
    with pytest.raises(ConfigError, match=r"exited with status 3.*the disk is on fire"):
        supervisor.start()
    assert supervisor.failure is not None
    assert [status.pid for status in supervisor.status()] == [None, None]


def test_a_missing_program_is_said(tmp_path: Path) -> None:
    command = Command("gone", ("/no/such/program",), tmp_path, tmp_path / "log" / "gone.log")
    with pytest.raises(ConfigError, match=r"/no/such/program: No such file"):
        Supervisor([Service(command, lambda: True)], tmp_path / "run").start()


def test_a_program_that_may_not_be_run_is_said(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.touch(mode=0o600)
    command = Command("locked", (str(program),), tmp_path, tmp_path / "log" / "locked.log")
    with pytest.raises(ConfigError, match=r"program: Permission denied"):
        Supervisor([Service(command, lambda: True)], tmp_path / "run").start()


@pytest.mark.slow
def test_a_child_that_is_never_ready_is_started_again(tmp_path: Path) -> None:
    ready_from = time.monotonic() + 1.5
    service = Service(sleeper(tmp_path), lambda: time.monotonic() > ready_from, start_seconds=0.4)
    with running(tmp_path, service) as supervisor:
        assert "not ready after" in status(supervisor, "sleeper").reason
        assert (tmp_path / "started").read_text().count("sleeper") == status(supervisor, "sleeper").restarts + 1


@pytest.mark.slow
def test_children_that_will_not_stop_are_killed_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor_module, "STOP_SECONDS", 1.5)
    deaf = "trap '' TERM; echo $$ >> $HERE/pids; while :; do sleep 0.05; done"
    services = [Service(shell(tmp_path, f"deaf{order}", deaf), lambda: True, order=order) for order in range(3)]
    pids: list[int] = []
    with running(tmp_path, *services):
        wait_for(lambda: len((tmp_path / "pids").read_text().split()) == 3)
        pids += map(int, (tmp_path / "pids").read_text().split())
        stopping = time.monotonic()
    assert time.monotonic() - stopping < 2.5
    assert not any(map(is_running, pids))


def test_stop_interrupts_a_start(tmp_path: Path) -> None:
    supervisor = Supervisor([Service(sleeper(tmp_path), lambda: False)], tmp_path / "run")
    with pytest.raises(ConfigError, match="Not ready after 1 s: sleeper"):
        supervisor.start(timeout=1)
    assert supervisor.status()[0].state is State.STOPPED


def test_a_signal_reaches_the_child_by_name(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Even of a server that was started by nohup, which lets the signal be ignored."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    request.addfinalizer(lambda: signal.signal(signal.SIGHUP, before))
    script = "trap 'echo hup >> $HERE/signals' HUP; touch $HERE/up; while :; do sleep 0.05; done"
    with running(tmp_path, Service(shell(tmp_path, "ears", script), (tmp_path / "up").exists)) as supervisor:
        assert supervisor.send_signal("ears", signal.SIGHUP)
        assert not supervisor.send_signal("nobody", signal.SIGHUP)
        wait_for((tmp_path / "signals").exists)


def test_children_have_a_session_and_an_environment_of_their_own(tmp_path: Path) -> None:
    script = "env > $HERE/env; touch $HERE/up; exec sleep 1000"
    with running(tmp_path, Service(shell(tmp_path, "clean", script), (tmp_path / "up").exists)) as supervisor:
        pid = pid_of(supervisor, "clean")
        assert os.getsid(pid) == pid
        names = {line.partition("=")[0] for line in (tmp_path / "env").read_text().splitlines()}
        assert names <= {"PATH", "HERE", "PWD", "LC_CTYPE", "_", "SHLVL", "OLDPWD"}
        ignored = next(
            line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigIgn")
        )
        assert int(ignored.split()[1], 16) & (1 << (signal.SIGPIPE - 1)) == 0


def test_a_large_log_is_put_aside(tmp_path: Path) -> None:
    log = tmp_path / "log" / "sleeper.log"
    log.parent.mkdir()
    log.write_bytes(b"x" * (9 << 20))
    with running(tmp_path, Service(sleeper(tmp_path), lambda: True)):
        assert log.stat().st_size == 0
        assert (tmp_path / "log" / "sleeper.log.old").stat().st_size == 9 << 20


PARENT = """
import sys, time
from pathlib import Path
from vmferry.embedded.child import Command
from vmferry.embedded.supervisor import Service, Supervisor
here = Path(sys.argv[1])
command = Command("orphan", ("/bin/sleep", "1000"), here, here / "orphan.log")
supervisor = Supervisor([Service(command, lambda: True)], here / "run")
supervisor.start()
sys.stderr.write(f"{supervisor.status()[0].pid}\\n")
time.sleep(1000)
"""


def test_children_die_with_a_killed_parent(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)], stderr=subprocess.PIPE) as parent:
        assert parent.stderr is not None
        pid = int(parent.stderr.readline())
        assert is_running(pid)
        parent.kill()
        parent.wait()
    wait_for(lambda: not is_running(pid), 2.0)
    assert end_leftovers(tmp_path / "run") == []


def test_a_leftover_is_ended(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    child = Child(sleeper(tmp_path))
    record(child, tmp_path / "run" / "sleeper.json")
    reaper = threading.Thread(target=child.wait, args=(10,))  # an orphan would be reaped by init
    reaper.start()
    assert end_leftovers(tmp_path / "run") == [child.pid]
    reaper.join()
    assert child.exit_status == -signal.SIGTERM
    assert list((tmp_path / "run").iterdir()) == []


@pytest.mark.parametrize("changes", [{"start_time": 1}, {"boot": "another"}, {"pid": 2**22 - 1}])
def test_another_process_under_a_leftovers_pid_is_left_alone(tmp_path: Path, changes: dict[str, object]) -> None:
    child = Child(sleeper(tmp_path))
    try:
        path = tmp_path / "sleeper.json"
        record(child, path)
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))
        assert end_leftover(path) is None
        assert not path.exists()
        assert child.exit_status is None
    finally:
        child.kill()


def test_a_broken_record_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "sleeper.json"
    for content in ("", "[]", '{"pid": "x"}'):
        path.write_text(content)
        assert end_leftover(path) is None
        assert not path.exists()

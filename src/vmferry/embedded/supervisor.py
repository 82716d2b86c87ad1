"""Keeps child processes alive: starts them in order, starts them again when they die, stops them in reverse."""

from __future__ import annotations

import itertools
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

import structlog

from vmferry.embedded.child import Child, Command, end_leftover, record
from vmferry.errors import ConfigError, VmferryError, quote

logger = structlog.get_logger("vmferry.supervisor")

FIRST_PAUSE = 0.5
MAX_PAUSE = 30.0
HEALTHY_AFTER = 60.0
"""Seconds after which a child counts as healthy, and its next death as the first."""
STOP_SECONDS = 7.5
"""What stopping all children may take together; who still runs then is killed."""
_TICK = 0.1
_MAX_FIRST_DEATHS = 3
"""A child that dies this often before it was ever ready will not do better: its first start has failed."""


class State(Enum):
    """Where a child is."""

    WAITING = "waiting"
    """Not running: its turn has not come, or the pause after a death is not over."""
    STARTING = "starting"
    """Runs, and is not ready yet."""
    READY = "ready"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Service:
    """A command that shall always run."""

    command: Command
    is_ready: Callable[[], bool]
    """Asked again and again after a start, on the supervisor's thread: it must answer within about two seconds, and an
    error that is none of ours is a fault."""
    before_start: Callable[[], None] = lambda: None
    """What must be cleared away before each start."""
    after_stop: Callable[[], None] = lambda: None
    """What must be cleared away when it has been stopped for good."""
    order: int = 0
    """Services of one order start and stop together, once all of lower order are ready, or of higher order stopped."""
    start_seconds: float = 60.0
    """A child that is not ready by then is killed, and started again."""
    stop_seconds: float = 5.0

    @property
    def name(self) -> str:
        return self.command.name


@dataclass(frozen=True, slots=True)
class Status:
    """How a service does, for health pages. ``seconds`` is how long it has been in its state."""

    name: str
    state: State
    pid: int | None
    restarts: int
    seconds: float
    reason: str
    """Why it last died or was killed; empty when it never was."""


@dataclass(slots=True)
class _Seat:
    """A service and what is known of its child. Only the supervisor's thread writes it."""

    service: Service
    child: Child | None = None
    state: State = State.WAITING
    since: float = field(default_factory=time.monotonic)
    not_before: float = 0.0
    pause: float = FIRST_PAUSE
    restarts: int = 0
    was_ready: bool = False
    reason: str = ""

    def turn(self, state: State) -> None:
        self.state, self.since = state, time.monotonic()


class Supervisor:
    """Runs ``services`` on a thread of its own, which starts every child: they would die with any other (``Child``).

    ``status``, ``send_signal`` and ``stop`` may be called from any thread.
    """

    def __init__(self, services: Sequence[Service], run_dir: Path) -> None:
        """``run_dir`` keeps a record of each child, for ``end_leftovers``."""
        self._seats = [_Seat(service) for service in sorted(services, key=lambda service: service.order)]
        self._run_dir = run_dir
        self._stopping = threading.Event()
        self._all_ready = threading.Event()
        self._failure: VmferryError | None = None
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)

    def start(self, timeout: float = 120.0) -> None:
        """Start all; returns once all are ready. Raises ``ConfigError`` when one fails, with all stopped again."""
        self._run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._thread.start()
        ready = self._all_ready.wait(timeout)
        if ready and self._failure is None:
            return
        late = ", ".join(seat.service.name for seat in self._seats if seat.state is not State.READY)
        self.stop()
        raise self._failure or ConfigError(
            f"Not ready after {timeout:.0f} s: {late}. See the logs in the data directory."
        )

    def stop(self) -> None:
        """Stop all in reverse order, within ``STOP_SECONDS``. May be called twice, and before ``start``."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()

    @property
    def failure(self) -> VmferryError | None:
        """Why the supervisor gave up and stopped everything; ``None`` while it has not."""
        return self._failure

    def status(self) -> list[Status]:
        """How each service does, in starting order."""
        now = time.monotonic()
        return [
            Status(
                seat.service.name,
                seat.state,
                child.pid if (child := seat.child) else None,
                seat.restarts,
                now - seat.since,
                seat.reason,
            )
            for seat in self._seats
        ]

    def send_signal(self, name: str, number: signal.Signals) -> bool:
        """Send a signal to the child of that name; whether it was there and ready for one."""
        for seat in self._seats:
            if seat.service.name == name and seat.state is State.READY and (child := seat.child):
                child.send_signal(number)
                return True
        return False

    def _run(self) -> None:
        try:
            while not self._stopping.wait(_TICK):
                for seat in self._seats:
                    self._attend(seat)
                if all(seat.state is State.READY for seat in self._seats):
                    self._all_ready.set()
        except VmferryError as error:
            self._fail(error)
        finally:
            if not self._stopping.is_set():  # an error that is none of ours; the thread's hook prints it
                self._failure = ConfigError("The supervisor ended by a fault in vmferry; see the server's log.")
            self._stop_all()
            self._all_ready.set()

    def _fail(self, error: VmferryError) -> None:
        logger.error("supervisor_failed", reason=str(error))
        self._failure = self._failure or error
        self._stopping.set()

    def _attend(self, seat: _Seat) -> None:
        """One look at one child."""
        if seat.child is not None and (status := seat.child.exit_status) is not None:
            self._bury(seat, _describe(status))
        elif seat.state is State.WAITING and time.monotonic() >= seat.not_before and self._may_start(seat):
            self._launch(seat)
        elif seat.state is State.STARTING:
            self._probe(seat)
        elif seat.state is State.READY and time.monotonic() - seat.since > HEALTHY_AFTER:
            seat.pause = FIRST_PAUSE

    def _may_start(self, seat: _Seat) -> bool:
        """A first start waits for those of lower order; a restart waits for nobody."""
        return seat.was_ready or all(
            other.was_ready for other in self._seats if other.service.order < seat.service.order
        )

    def _launch(self, seat: _Seat) -> None:
        try:
            seat.service.before_start()
            seat.child = Child(seat.service.command)
            seat.turn(State.STARTING)
            record(seat.child, self._run_dir / f"{seat.service.name}.json")
        except VmferryError as error:
            if not seat.was_ready:
                raise
            self._postpone(seat, str(error))  # a full disk, say, passes
            return
        logger.info("child_started", child=seat.service.name, pid=seat.child.pid, restarts=seat.restarts)

    def _probe(self, seat: _Seat) -> None:
        assert seat.child is not None
        if seat.service.is_ready():
            logger.info("child_ready", child=seat.service.name, seconds=round(time.monotonic() - seat.since, 1))
            seat.was_ready = True
            seat.turn(State.READY)
        elif time.monotonic() - seat.since > seat.service.start_seconds:
            seat.child.kill()
            self._bury(seat, f"not ready after {seat.service.start_seconds:.0f} s")

    def _bury(self, seat: _Seat, reason: str) -> None:
        """Note that a child died, and when the next may start."""
        assert seat.child is not None
        words = seat.child.last_words()
        seat.child = None
        self._postpone(seat, reason, log=words)
        if not seat.was_ready and seat.restarts >= _MAX_FIRST_DEATHS:
            raise ConfigError(
                f"{seat.service.name} does not start: {reason}; its last words were: {words}. "
                f"See {quote(seat.service.command.log)}."
            )

    def _postpone(self, seat: _Seat, reason: str, **facts: str) -> None:
        if seat.child is not None:
            seat.child.kill()
            seat.child = None
        logger.warning("child_down", child=seat.service.name, reason=reason, pause=seat.pause, **facts)
        seat.reason = reason
        seat.restarts += 1
        seat.not_before = time.monotonic() + seat.pause
        seat.pause = min(seat.pause * 2, MAX_PAUSE)
        seat.turn(State.WAITING)

    def _stop_all(self) -> None:
        deadline = time.monotonic() + STOP_SECONDS
        for _, group in itertools.groupby(reversed(self._seats), key=lambda seat: seat.service.order):
            seats = [seat for seat in group if seat.child is not None]
            for seat in seats:
                if seat.child:
                    seat.child.send_signal(signal.SIGTERM)
            for seat in seats:
                self._finish(seat, deadline)
        for seat in self._seats:
            seat.turn(State.STOPPED)

    def _finish(self, seat: _Seat, deadline: float) -> None:
        assert seat.child is not None
        limit = min(time.monotonic() + seat.service.stop_seconds, deadline)
        if not seat.child.wait(limit - time.monotonic()):
            logger.warning("child_killed", child=seat.service.name, reason="did not stop in time")
            seat.child.kill()
        logger.info("child_stopped", child=seat.service.name, status=seat.child.exit_status)
        seat.child = None
        seat.service.after_stop()
        (self._run_dir / f"{seat.service.name}.json").unlink(missing_ok=True)


def end_leftovers(run_dir: Path) -> list[int]:
    """End what an earlier server, which was killed, may have left running; their pids. Before ports are checked."""
    ended = []
    for path in sorted(run_dir.glob("*.json")):
        if (pid := end_leftover(path)) is not None:
            logger.warning("leftover_ended", child=path.stem, pid=pid)
            ended.append(pid)
    return ended


def _describe(status: int) -> str:
    if status >= 0:
        return f"it exited with status {status}"
    try:
        return f"it was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"it was ended by signal {-status}"

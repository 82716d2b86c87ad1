"""What every front end gets from the gateway: bodies that are bounded, in size, in time and in number."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.ec2.running_gateway import run_app
from vmferry import gateway
from vmferry.aws.errors import ApiError
from vmferry.aws.signature import Caller, HttpRequest
from vmferry.errors import VmferryError
from vmferry.gateway import Answer, Exchange, create_gateway
from vmferry.units import KIB, MIB


class _Plain:
    """A front end whose errors are JSON; nobody gets further than his signature."""

    service = "plain"

    def vouching_header(self, http: HttpRequest) -> str | None:
        time.sleep(0.02)
        return None

    def answer(self, http: HttpRequest, caller: Caller, exchange: Exchange) -> Answer:
        raise AssertionError("nobody has keys")

    def translate(self, error: VmferryError) -> ApiError | None:
        return error if isinstance(error, ApiError) else ApiError("Unsigned", str(error), 403)

    def internal_error(self, request_id: str) -> ApiError:
        return ApiError("Internal", request_id, 500)

    def refuse(self, error: ApiError, exchange: Exchange) -> Answer:
        return Answer(json.dumps({"Code": error.code}).encode(), "application/json", error.status)


@contextmanager
def running() -> Iterator[int]:
    with run_app(create_gateway([_Plain()], lambda _: None, ["here"])) as port:
        yield port


def begin(port: int, length: int, sent: int) -> socket.socket:
    """A request of which ``sent`` bytes of ``length`` have gone out."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % length + b"x" * sent)
    return connection


def code_of(connection: socket.socket) -> str:
    answer = b""
    while not answer.endswith(b"}"):
        part = connection.recv(4096)
        assert part, answer
        answer += part
    connection.close()
    return str(json.loads(answer.partition(b"\r\n\r\n")[2])["Code"])


def test_a_body_is_bounded() -> None:
    with running() as port:
        assert code_of(begin(port, MIB, MIB)) == "Unsigned"
        assert code_of(begin(port, 2 * MIB, MIB + 1)) == "RequestEntityTooLarge"


def test_a_body_that_never_ends_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "_BODY_SECONDS", 0.2)
    with running() as port:
        assert code_of(begin(port, MIB, 10)) == "RequestTimeout"


def test_large_bodies_take_turns_and_small_ones_need_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "_LARGE_AT_ONCE", 2)
    with running() as port:
        stuck = [begin(port, MIB, 10) for _ in range(2)]
        waiting = [begin(port, 100 * KIB, 100 * KIB) for _ in range(3)]
        assert code_of(begin(port, 10, 10)) == "Unsigned"
        waiting[0].settimeout(0.2)
        with pytest.raises(TimeoutError):
            waiting[0].recv(1)
        waiting[0].settimeout(10)
        stuck[0].sendall(b"x" * (MIB - 10))
        assert [code_of(connection) for connection in (stuck[0], *waiting)] == ["Unsigned"] * 4
        stuck[1].close()

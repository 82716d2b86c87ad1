"""The way of a request to any of AWS' services, on one screen: ``_Gateway``. One endpoint serves them all.

The service is the one in the signature's scope; each is a ``FrontEnd``. Whatever happens on the way, the caller gets
that service's envelope: never HTML, never a traceback. Reading the body is the only thing that waits on the event loop;
the rest runs in a thread of Starlette's pool.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Protocol

import structlog
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Mount
from starlette.types import Receive, Scope, Send

from vmferry.aws.errors import ApiError
from vmferry.aws.signature import Caller, CredentialLookup, HttpRequest, claimed_service, verify
from vmferry.errors import VmferryError, quote
from vmferry.units import KIB, MIB

MAX_BODY = MIB
_SMALL_BODY = 64 * KIB
_LARGE_AT_ONCE = 64
"""Requests with large bodies that are read and answered at once: the others wait, with their bytes still on the way."""
_BODY_SECONDS = 60
"""How long a large body may take, lest one that never ends keeps others waiting."""

_logger = structlog.get_logger("vmferry.gateway")

_NOT_OFFERED = {"s3": "S3 (its endpoint is another one, see `vmferry env`)"}
_GLOBAL = frozenset({"iam"})
"""Services without regions: clients sign for ``us-east-1`` wherever they are."""


@dataclass(slots=True)
class Exchange:
    """One request and what has become known of it so far; the access log and the error envelope say it."""

    request_id: str
    started: float
    action: str | None = None
    service: str | None = None
    account_id: str | None = None
    region: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes over the wire."""

    content: bytes
    media_type: str | None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


class FrontEnd(Protocol):
    """One of AWS' services. Thread-safe."""

    @property
    def service(self) -> str:
        """Its name in the scope of signatures: ``ec2``."""

    def vouching_header(self, http: HttpRequest) -> str | None:
        """The header that, signed, speaks for a body that is not; ``None`` where the body must be signed.

        Nothing of ``http`` is verified yet.
        """

    def answer(self, http: HttpRequest, caller: Caller, exchange: Exchange) -> Answer:
        """The answer to a request that ``caller`` signed. Sets ``exchange.action``. Raises ``VmferryError``."""

    def translate(self, error: VmferryError) -> ApiError | None:
        """What the service calls ``error``; ``None`` where it is a fault of ours that must be logged."""

    def internal_error(self, request_id: str) -> ApiError:
        """What is answered when something happened that nobody foresaw."""

    def refuse(self, error: ApiError, exchange: Exchange) -> Answer:
        """The service's envelope around ``error``."""


def create_gateway(
    front_ends: Sequence[FrontEnd],
    lookup: CredentialLookup,
    regions: Sequence[str],
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Starlette:
    """``front_ends`` as an ASGI application, for the root of an endpoint (mount it last: it takes every path).

    The first one answers what names no service that is here. ``lookup`` finds access keys; ``regions`` are those that
    exist.
    """
    return Starlette(routes=[Mount("/", app=_Gateway(front_ends, lookup, regions, clock))])


class _Gateway:
    def __init__(
        self,
        front_ends: Sequence[FrontEnd],
        lookup: CredentialLookup,
        regions: Sequence[str],
        clock: Callable[[], datetime],
    ) -> None:
        self._front_ends = {front_end.service: front_end for front_end in front_ends}
        self._default = front_ends[0]
        self._lookup = lookup
        self._regions = regions
        self._clock = clock
        self._large = asyncio.Semaphore(_LARGE_AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        exchange = Exchange(str(uuid.uuid4()), time.perf_counter())
        request = Request(scope, receive)
        try:
            async with self._room_for(request):
                answer = await self._read_and_answer(request, exchange)
        except ClientDisconnect:
            return
        response = Response(answer.content, answer.status, dict(answer.headers), answer.media_type)
        response.headers["x-amzn-RequestId"] = exchange.request_id
        response.headers["Cache-Control"] = "no-cache, no-store"
        await response(scope, receive, send)

    @asynccontextmanager
    async def _room_for(self, request: Request) -> AsyncIterator[None]:
        """Wait for one's turn with a body that may be large, so that memory stays bounded however many there are."""
        length = request.headers.get("content-length", "0")
        if "transfer-encoding" not in request.headers and length.isdecimal() and int(length) <= _SMALL_BODY:
            yield
            return
        async with self._large:
            yield

    async def _read_and_answer(self, request: Request, exchange: Exchange) -> Answer:
        http = _head(request)
        front_end = self._front_ends.get(claimed_service(http) or "", self._default)
        exchange.service = front_end.service
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                http = replace(http, body=await _read_body(request))
        except ApiError as error:
            return self._refuse(front_end, error, exchange)
        except TimeoutError:
            late = ApiError("RequestTimeout", f"The request's body did not arrive within {_BODY_SECONDS} s", 408)
            return self._refuse(front_end, late, exchange)
        return await run_in_threadpool(self._answer_or_error, front_end, http, exchange)

    def _answer_or_error(self, front_end: FrontEnd, http: HttpRequest, exchange: Exchange) -> Answer:
        try:
            answer = self._answer(front_end, http, exchange)
        except VmferryError as error:
            known = front_end.translate(error)
            if known is None:
                _logger.exception("fault", request_id=exchange.request_id, action=exchange.action)
            return self._refuse(front_end, known or front_end.internal_error(exchange.request_id), exchange)
        except Exception:
            _logger.exception("fault", request_id=exchange.request_id, action=exchange.action)
            return self._refuse(front_end, front_end.internal_error(exchange.request_id), exchange)
        _log(exchange, answer.status, None)
        return answer

    def _answer(self, front_end: FrontEnd, http: HttpRequest, exchange: Exchange) -> Answer:
        """What ``front_end`` answers to ``http``. Nothing unsigned is looked at beyond its signature."""
        caller = verify(http, self._lookup, self._clock(), front_end.vouching_header(http))
        exchange.account_id, exchange.region = caller.account_id, caller.region
        self._check_scope(caller)
        return front_end.answer(http, caller, exchange)

    def _check_scope(self, caller: Caller) -> None:
        if caller.service not in self._front_ends:
            if (offered := _NOT_OFFERED.get(caller.service)) is not None:
                message = f"This endpoint answers EC2's API; {offered} is not offered here yet."
                raise ApiError("UnsupportedOperation", message)
            right = f"Credential should be scoped to correct service: '{self._default.service}'."
            raise ApiError("AuthFailure", right, 401)
        if caller.region not in self._regions and caller.service not in _GLOBAL:
            raise ApiError(
                "AuthFailure",
                f"Credential should be scoped to a valid region, not '{quote(caller.region)}'. "
                f"| Regions here: {', '.join(self._regions)}.",
                401,
            )

    def _refuse(self, front_end: FrontEnd, error: ApiError, exchange: Exchange) -> Answer:
        known = front_end.translate(error) or error
        _log(exchange, known.status, known.code)
        return front_end.refuse(known, exchange)


def _head(request: Request) -> HttpRequest:
    """The request without its body."""
    headers = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in request.headers.raw]
    raw_path: bytes = request.scope.get("raw_path") or request.scope["path"].encode()
    query: bytes = request.scope["query_string"]
    return HttpRequest(request.method, raw_path.decode("latin-1"), query.decode("latin-1"), headers)


async def _read_body(request: Request) -> bytes:
    """The whole body, bounded. Raises ``ApiError`` (413), ``ClientDisconnect``."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise ApiError("RequestEntityTooLarge", f"The request's body is longer than {MAX_BODY:,} bytes", 413)
    return bytes(body)


def _log(exchange: Exchange, status: int, code: str | None) -> None:
    _logger.info(
        "request",
        request_id=exchange.request_id,
        service=exchange.service,
        action=exchange.action,
        account=exchange.account_id,
        region=exchange.region,
        status=status,
        code=code,
        ms=round((time.perf_counter() - exchange.started) * 1000, 1),
    )

"""The way of a request through the EC2 API, on one screen: ``_Gateway.answer``.

Whatever happens on the way, the caller gets EC2's envelope: never HTML, never a traceback. Reading the body is the only
thing that waits on the event loop; the rest runs in a thread of Starlette's pool.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount
from starlette.types import Receive, Scope, Send

from vmferry.aws import xml
from vmferry.aws.errors import ApiError
from vmferry.aws.model import Operation, load_service, snake_case
from vmferry.aws.query import parse_form, parse_request
from vmferry.aws.signature import Caller, CredentialLookup, HttpRequest, SignatureError, verify
from vmferry.ec2 import sts
from vmferry.ec2.actions import ACTIONS, Action, RequestContext
from vmferry.ec2.errors import Ec2Error, from_error, from_signature, internal_error
from vmferry.ec2.services import Services
from vmferry.errors import VmferryError, quote
from vmferry.units import MIB

MAX_BODY = MIB
MAX_CLIENT_TOKEN = 64

_SERVICE = "ec2"
_NOT_OFFERED = {
    "ebs": "the EBS direct API",
    "iam": "IAM",
    "s3": "S3 (its endpoint is another one, see `vmferry env`)",
}
_FORM = "application/x-www-form-urlencoded"
_VERSION = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_TOKEN = re.compile("[ -~]*", re.ASCII)

_logger = structlog.get_logger("vmferry.ec2")


def create_gateway(
    lookup: CredentialLookup,
    services: Services,
    actions: Mapping[str, Action] = ACTIONS,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Starlette:
    """The EC2 API as an ASGI application, for the root of an endpoint (mount it last: it takes every path).

    ``lookup`` finds access keys, ``actions`` maps module names to actions. Loads botocore's model: about 0.4 s.
    """
    load_service(_SERVICE)
    return Starlette(routes=[Mount("/", app=_Gateway(lookup, services, actions, clock))])


@dataclass(slots=True)
class _Exchange:
    """One request and what has become known of it so far; the access log and the error envelope say it."""

    request_id: str
    started: float
    action: str | None = None
    service: str | None = None
    account_id: str | None = None
    region: str | None = None


class _Gateway:
    def __init__(
        self,
        lookup: CredentialLookup,
        services: Services,
        actions: Mapping[str, Action],
        clock: Callable[[], datetime],
    ) -> None:
        self._lookup = lookup
        self._services = services
        self._actions = actions
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        exchange = _Exchange(str(uuid.uuid4()), time.perf_counter())
        try:
            http = await _read(Request(scope, receive))
        except ClientDisconnect:
            return
        except ApiError as error:
            response = _error_response(exchange, error)
        else:
            response = await run_in_threadpool(self._answer_or_error, http, exchange)
        response.headers["x-amzn-RequestId"] = exchange.request_id
        response.headers["Cache-Control"] = "no-cache, no-store"
        await response(scope, receive, send)

    def _answer_or_error(self, http: HttpRequest, exchange: _Exchange) -> Response:
        try:
            content = self.answer(http, exchange)
        except SignatureError as error:
            return _error_response(exchange, from_signature(error))
        except VmferryError as error:
            known = from_error(error)
            if known is None:
                _logger.exception("fault", request_id=exchange.request_id, action=exchange.action)
            return _error_response(exchange, known or internal_error(exchange.request_id))
        except Exception:
            _logger.exception("fault", request_id=exchange.request_id, action=exchange.action)
            return _error_response(exchange, internal_error(exchange.request_id))
        _log(exchange, 200, None)
        return Response(content, media_type=xml.CONTENT_TYPE)

    def answer(self, http: HttpRequest, exchange: _Exchange) -> bytes:
        """The document that answers ``http``. Nothing unsigned is looked at beyond its signature."""
        caller = verify(http, self._lookup, self._clock())
        exchange.service, exchange.account_id, exchange.region = caller.service, caller.account_id, caller.region
        _check_service(caller)
        _check_region(caller, self._services)
        form = _form(http)
        if caller.service == sts.SERVICE:
            exchange.action = form.get("Action")
            return sts.answer(caller, form, exchange.request_id)
        version = _version(form)
        operation, action = self._find(form, exchange)
        request = parse_request(operation.input, form)
        _check_client_token(operation, request)
        context = _context(caller, http, exchange, self._services)
        if request.get("DryRun"):
            _dry_run(action, context, request)
        output = action.run(context, request)
        return xml.response_document(operation, output, exchange.request_id, version)

    def _find(self, form: Mapping[str, str], exchange: _Exchange) -> tuple[Operation, Action]:
        name = form.get("Action")
        if not name:
            raise Ec2Error("MissingAction", "The request must contain the parameter Action")
        operation = load_service(_SERVICE).operation(name)
        if operation is None:
            raise Ec2Error("InvalidAction", f"The action {quote(name)} is not valid for this web service.")
        exchange.action = name
        action = self._actions.get(snake_case(name))
        if action is None:
            raise Ec2Error(
                "UnsupportedOperation", f"The action {name} is part of EC2, but vmferry does not have it yet."
            )
        return operation, action


async def _read(request: Request) -> HttpRequest:
    """The whole request, its body bounded. Raises ``ApiError`` (413), ``ClientDisconnect``."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise Ec2Error("RequestEntityTooLarge", f"The request's body is longer than {MAX_BODY:,} bytes", 413)
    headers = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in request.headers.raw]
    raw_path: bytes = request.scope.get("raw_path") or request.scope["path"].encode()
    query: bytes = request.scope["query_string"]
    return HttpRequest(request.method, raw_path.decode("latin-1"), query.decode("latin-1"), headers, bytes(body))


def _check_service(caller: Caller) -> None:
    if caller.service in (_SERVICE, sts.SERVICE):
        return
    if (offered := _NOT_OFFERED.get(caller.service)) is not None:
        raise Ec2Error("UnsupportedOperation", f"This endpoint answers EC2's API; {offered} is not offered here yet.")
    raise Ec2Error("AuthFailure", f"Credential should be scoped to correct service: '{_SERVICE}'.", 401)


def _check_region(caller: Caller, services: Services) -> None:
    if caller.region not in services.regions:
        raise Ec2Error(
            "AuthFailure",
            f"Credential should be scoped to a valid region, not '{quote(caller.region)}'. "
            f"| Regions here: {', '.join(services.regions)}.",
            401,
        )


def _form(http: HttpRequest) -> dict[str, str]:
    """The parameters, from the query and from the body, whichever form the client chose."""
    if http.method not in ("GET", "POST"):
        raise Ec2Error(
            "UnsupportedProtocol", f"The method {quote(http.method)} is not supported; use POST or GET.", 405
        )
    kind = (http.header("content-type") or _FORM).partition(";")[0].strip().lower()
    if http.body and kind != _FORM:
        raise Ec2Error("MalformedQueryString", f"The content type {quote(kind)} is not supported; send {_FORM}.", 415)
    return parse_form(http.query.encode("latin-1"), http.body)


def _version(form: Mapping[str, str]) -> str:
    """The API version that was asked for, in whose namespace the answer stands. Every version gets the newest model."""
    version = form.get("Version") or load_service(_SERVICE).api_version
    if not _VERSION.fullmatch(version):
        raise Ec2Error(
            "NoSuchVersion", f"The version {quote(version)} does not exist; it is a date such as 2016-11-15."
        )
    return version


def _check_client_token(operation: Operation, request: Mapping[str, Any]) -> None:
    token = request.get("ClientToken")
    if not isinstance(token, str):
        return
    longest = operation.input.members["ClientToken"].shape.maximum or MAX_CLIENT_TOKEN
    if len(token) > longest or not _TOKEN.fullmatch(token):
        raise Ec2Error("InvalidClientToken", f"A client token has at most {longest:.0f} printable ASCII characters")


def _context(caller: Caller, http: HttpRequest, exchange: _Exchange, services: Services) -> RequestContext:
    return RequestContext(
        account_id=caller.account_id,
        access_key_id=caller.access_key_id,
        region=caller.region,
        request_id=exchange.request_id,
        host=http.header("host") or "",
        services=services,
    )


def _dry_run(action: Action, context: RequestContext, request: Mapping[str, Any]) -> None:
    """The action's own check, if it has one, and then always an error: that is how EC2 says yes."""
    if action.check is not None:
        action.check(context, request)
    raise Ec2Error("DryRunOperation", "Request would have succeeded, but DryRun flag is set.", 412)


def _error_response(exchange: _Exchange, error: ApiError) -> Response:
    _log(exchange, error.status, error.code)
    if exchange.service == "ebs":  # a REST-JSON service, whose clients read no XML
        return JSONResponse({"message": str(error)}, error.status, headers={"x-amzn-ErrorType": error.code})
    if exchange.service == sts.SERVICE:
        content = sts.error_document(error.code, str(error), error.status, exchange.request_id)
    else:
        content = xml.error_document(error.code, str(error), exchange.request_id)
    return Response(content, error.status, media_type=xml.CONTENT_TYPE)


def _log(exchange: _Exchange, status: int, code: str | None) -> None:
    _logger.info(
        "request",
        request_id=exchange.request_id,
        action=exchange.action,
        account=exchange.account_id,
        region=exchange.region,
        status=status,
        code=code,
        ms=round((time.perf_counter() - exchange.started) * 1000, 1),
    )

"""EC2's front end: from a request that somebody signed to a document, on one screen: ``Ec2FrontEnd.answer``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from vmferry.aws import xml
from vmferry.aws.errors import ApiError
from vmferry.aws.model import Operation, load_service, snake_case
from vmferry.aws.query import parse_request, read_form
from vmferry.aws.signature import Caller, HttpRequest
from vmferry.ec2.actions import ACTIONS, Action, RequestContext
from vmferry.ec2.errors import Ec2Error, dry_run_succeeded, from_error, internal_error
from vmferry.ec2.refusals import check_refused
from vmferry.ec2.services import Services
from vmferry.errors import VmferryError, quote
from vmferry.gateway import Answer, Exchange

MAX_CLIENT_TOKEN = 64

_SERVICE = "ec2"
_NOT_VALID = "The action {} is not valid for this web service."
_VERSION = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_TOKEN = re.compile("[ -~]*", re.ASCII)


class Ec2FrontEnd:
    """The EC2 API, a ``FrontEnd``. ``actions`` maps module names to actions."""

    service = _SERVICE

    def __init__(self, services: Services, actions: Mapping[str, Action] = ACTIONS) -> None:
        """Loads botocore's model: about 0.4 s."""
        load_service(_SERVICE)
        self._services = services
        self._actions = actions

    def vouching_header(self, http: HttpRequest) -> str | None:
        return None

    def answer(self, http: HttpRequest, caller: Caller, exchange: Exchange) -> Answer:
        form = read_form(http)
        version = _version(form)
        operation, action = self._find(form, exchange)
        request = parse_request(operation.input, form, action.optional)
        _check_client_token(operation, request)
        check_refused(request, action.refuses)
        context = _context(caller, http, exchange, self._services)
        if request.get("DryRun"):
            _dry_run(action, context, request)
        output = action.run(context, request)
        return Answer(xml.response_document(operation, output, exchange.request_id, version), xml.CONTENT_TYPE)

    def translate(self, error: VmferryError) -> ApiError | None:
        return from_error(error)

    def internal_error(self, request_id: str) -> ApiError:
        return internal_error(request_id)

    def refuse(self, error: ApiError, exchange: Exchange) -> Answer:
        content = xml.error_document(error.code, str(error), exchange.request_id)
        return Answer(content, xml.CONTENT_TYPE, error.status)

    def _find(self, form: Mapping[str, str], exchange: Exchange) -> tuple[Operation, Action]:
        name = form.get("Action")
        if not name:
            raise Ec2Error("MissingAction", "The request must contain the parameter Action")
        operation = load_service(_SERVICE).operation(name)
        if operation is None:
            raise Ec2Error("InvalidAction", _NOT_VALID.format(quote(name)))
        exchange.action = name
        action = self._actions.get(snake_case(name))
        if action is None:  # Terraform goes on without what is not valid here
            raise Ec2Error(
                "InvalidAction", f"{_NOT_VALID.format(name)} | It is part of EC2, but vmferry does not have it."
            )
        return operation, action


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


def _context(caller: Caller, http: HttpRequest, exchange: Exchange, services: Services) -> RequestContext:
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
    raise dry_run_succeeded()

"""The front end: from a request that somebody signed to an answer, on one screen: ``EbsFrontEnd.answer``."""

from __future__ import annotations

import json

from vmferry.aws.errors import ApiError
from vmferry.aws.model import load_service, snake_case
from vmferry.aws.rest_json import JSON, Router, parse_request, render_answer
from vmferry.aws.signature import Caller, HttpRequest
from vmferry.catalog.places import Place
from vmferry.ebs.errors import SERVICE, EbsError, from_error, internal_error
from vmferry.ebs.operations import OPERATIONS, RequestContext
from vmferry.ebs.services import Services
from vmferry.errors import VmferryError, quote
from vmferry.gateway import Answer, Exchange


class EbsFrontEnd:
    """The EBS direct API, a ``FrontEnd``."""

    service = SERVICE

    def __init__(self, services: Services) -> None:
        self._services = services
        self._router = Router(load_service(SERVICE))

    def vouching_header(self, http: HttpRequest) -> str | None:
        """PutSnapshotBlock's body need not be signed: its SHA-256 is, in a header of its own."""
        found = self._router.find(http.method, http.path)
        return "x-amz-checksum" if found is not None and found[0].unsigned_body else None

    def answer(self, http: HttpRequest, caller: Caller, exchange: Exchange) -> Answer:
        found = self._router.find(http.method, http.path)
        if found is None:
            what = f"{quote(http.method)} {quote(http.path)}"
            raise EbsError("UnknownOperationException", f"The EBS direct API has no {what}", status=404)
        operation, labels = found
        exchange.action = operation.name
        request = parse_request(operation, labels, http)
        context = RequestContext(Place(caller.region, caller.account_id), self._services)
        output = OPERATIONS[snake_case(operation.name)].run(context, request)
        rendered = render_answer(operation, output)
        return Answer(rendered.content, rendered.media_type, rendered.status, rendered.headers)

    def translate(self, error: VmferryError) -> ApiError | None:
        return from_error(error)

    def internal_error(self, request_id: str) -> ApiError:
        return internal_error(request_id)

    def refuse(self, error: ApiError, exchange: Exchange) -> Answer:
        reason = error.reason if isinstance(error, EbsError) else None
        members = {"Message": str(error)} if reason is None else {"Message": str(error), "Reason": reason}
        return Answer(json.dumps(members).encode(), JSON, error.status, {"x-amzn-ErrorType": error.code})

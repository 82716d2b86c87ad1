"""IAM's front end: from a request that somebody signed to a document, on one screen: ``IamFrontEnd.answer``."""

from __future__ import annotations

from functools import cached_property

from vmferry.aws import xml
from vmferry.aws.errors import ApiError
from vmferry.aws.model import Operation, Service, load_service
from vmferry.aws.query import parse_request, read_form
from vmferry.aws.signature import Caller, HttpRequest
from vmferry.catalog import Catalog
from vmferry.errors import VmferryError, quote
from vmferry.gateway import Answer, Exchange
from vmferry.iam import Handler, IamContext, load_operations
from vmferry.iam.errors import from_error, internal_error
from vmferry.iam.validation import validate

_SERVICE = "iam"
NAMESPACE = "https://iam.amazonaws.com/doc/2010-05-08/"


class IamFrontEnd:
    """IAM, a ``FrontEnd``. botocore's model is loaded by the first request: about 0.1 s."""

    service = _SERVICE

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    @cached_property
    def _operations(self) -> dict[str, Handler]:
        return load_operations()

    @property
    def _model(self) -> Service:
        return load_service(_SERVICE)

    def vouching_header(self, http: HttpRequest) -> str | None:
        return None

    def answer(self, http: HttpRequest, caller: Caller, exchange: Exchange) -> Answer:
        form = read_form(http)
        operation, run = self._find(form.get("Action") or "", exchange)
        request = parse_request(operation.input, form)
        validate(operation.input, request)
        output = run(IamContext(caller.account_id, self._catalog), request)
        return Answer(xml.result_document(operation, output, exchange.request_id, NAMESPACE), xml.CONTENT_TYPE)

    def translate(self, error: VmferryError) -> ApiError | None:
        return from_error(error, self._model)

    def internal_error(self, request_id: str) -> ApiError:
        return internal_error(request_id)

    def refuse(self, error: ApiError, exchange: Exchange) -> Answer:
        content = xml.fault_document(error.code, str(error), error.status, exchange.request_id, NAMESPACE)
        return Answer(content, xml.CONTENT_TYPE, error.status)

    def _find(self, name: str, exchange: Exchange) -> tuple[Operation, Handler]:
        if not name:
            raise ApiError("MissingAction", "The request must contain the parameter Action")
        operation = self._model.operation(name)
        run = self._operations.get(name)
        if operation is None or run is None:
            offered = "" if operation is None else " | Of IAM, vmferry has roles and policies alone."
            raise ApiError("InvalidAction", f"The action {quote(name)} is not valid for this web service.{offered}")
        exchange.action = name
        return operation, run

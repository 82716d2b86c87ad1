"""STS as far as clients of EC2 call it first: who am I? Packer and Terraform ask before they do anything.

Source: AWS Security Token Service API Reference, *GetCallerIdentity*; the Query protocol of version 2011-06-15, whose
answers have a ``…Result`` and whose errors have an envelope of their own.
"""

from __future__ import annotations

from collections.abc import Mapping

from vmferry.aws import xml
from vmferry.aws.errors import ApiError
from vmferry.aws.model import NOTHING, Kind, Member, Operation, Shape
from vmferry.aws.query import read_form
from vmferry.aws.signature import Caller, HttpRequest
from vmferry.ec2.errors import Ec2Error, from_error, internal_error
from vmferry.errors import VmferryError, quote
from vmferry.gateway import Answer, Exchange

SERVICE = "sts"
_NAMESPACE = "https://sts.amazonaws.com/doc/2011-06-15/"
_WHO = "GetCallerIdentity"
_TEXT = Shape("Text", Kind.STRING)
_IDENTITY = Shape(
    "Identity", Kind.STRUCTURE, {name: Member(name, name, name, _TEXT) for name in ("Arn", "UserId", "Account")}
)
_OPERATION = Operation(_WHO, NOTHING, _IDENTITY)
"""Three members: botocore's model of STS need not be loaded for them."""


class StsFrontEnd:
    """STS, a ``FrontEnd``."""

    service = SERVICE

    def vouching_header(self, http: HttpRequest) -> str | None:
        return None

    def answer(self, http: HttpRequest, caller: Caller, exchange: Exchange) -> Answer:
        form = read_form(http)
        exchange.action = form.get("Action")
        return Answer(answer(caller, form, exchange.request_id), xml.CONTENT_TYPE)

    def translate(self, error: VmferryError) -> ApiError | None:
        return from_error(error)

    def internal_error(self, request_id: str) -> ApiError:
        return internal_error(request_id)

    def refuse(self, error: ApiError, exchange: Exchange) -> Answer:
        content = xml.fault_document(error.code, str(error), error.status, exchange.request_id, _NAMESPACE)
        return Answer(content, xml.CONTENT_TYPE, error.status)


def answer(caller: Caller, form: Mapping[str, str], request_id: str) -> bytes:
    """The document that answers a request to STS. Raises ``Ec2Error``."""
    action = form.get("Action")
    if not action:
        raise Ec2Error("MissingAction", "The request must contain the parameter Action")
    if action != _WHO:
        raise Ec2Error(
            "InvalidAction", f"The action {quote(action)} is not valid here: of STS, vmferry has {_WHO} alone."
        )
    identity = {
        "Arn": f"arn:aws:iam::{caller.account_id}:root",  # keys are an account's own: there are no users yet
        "UserId": caller.account_id,
        "Account": caller.account_id,
    }
    return xml.result_document(_OPERATION, identity, request_id, _NAMESPACE)

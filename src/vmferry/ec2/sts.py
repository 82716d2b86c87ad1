"""STS as far as clients of EC2 call it first: who am I? Packer and Terraform ask before they do anything.

Source: AWS Security Token Service API Reference, *GetCallerIdentity*; the Query protocol of version 2011-06-15, whose
answers have a ``…Result`` and whose errors have an envelope of their own.
"""

from __future__ import annotations

from collections.abc import Mapping

from vmferry.aws import xml
from vmferry.aws.errors import ApiError
from vmferry.aws.signature import Caller, HttpRequest
from vmferry.aws.xml import escape
from vmferry.ec2.errors import Ec2Error, from_error, internal_error
from vmferry.ec2.gateway import read_form
from vmferry.errors import VmferryError, quote
from vmferry.gateway import Answer, Exchange

SERVICE = "sts"
_NAMESPACE = "https://sts.amazonaws.com/doc/2011-06-15/"
_WHO = "GetCallerIdentity"


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
        content = error_document(error.code, str(error), error.status, exchange.request_id)
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
    members = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in identity.items())
    return (
        f'<{_WHO}Response xmlns="{_NAMESPACE}"><{_WHO}Result>{members}</{_WHO}Result>'
        f"<ResponseMetadata><RequestId>{escape(request_id)}</RequestId></ResponseMetadata></{_WHO}Response>"
    ).encode()


def error_document(code: str, message: str, status: int, request_id: str) -> bytes:
    """The envelope of an error, as STS has it."""
    fault = "Sender" if status < 500 else "Receiver"
    return (
        f'<ErrorResponse xmlns="{_NAMESPACE}"><Error><Type>{fault}</Type><Code>{escape(code)}</Code>'
        f"<Message>{escape(message)}</Message></Error><RequestId>{escape(request_id)}</RequestId></ErrorResponse>"
    ).encode()

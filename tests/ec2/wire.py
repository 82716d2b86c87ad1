"""Requests as bytes, signed by hand: what no client would send."""

from __future__ import annotations

import http.client
import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from typing import Any

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.serialize import create_serializer

from tests.ec2.running_gateway import KEY, SECRET, Endpoint

UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def post(
    endpoint: Endpoint,
    body: bytes,
    headers: Mapping[str, str] | None = None,
    method: str = "POST",
    path: str = "/",
    service: str = "ec2",
) -> tuple[int, dict[str, str], bytes]:
    """A request signed by hand, for what no client would send."""
    request = AWSRequest(method=method, url=endpoint.url + path, data=body, headers=dict(headers or {}))
    SigV4Auth(Credentials(KEY, SECRET), service, "us-east-1").add_auth(request)
    return raw(endpoint, method, path, body, dict(request.headers.items()))


def raw(
    endpoint: Endpoint, method: str, path: str, body: bytes, headers: Mapping[str, str]
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", endpoint.port, timeout=10)
    try:
        connection.request(method, path, body, dict(headers))
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def error_in(body: bytes) -> tuple[str, str]:
    """The code and the message of EC2's envelope."""
    root = ET.fromstring(body)
    assert root.tag == "Response"
    assert UUID.fullmatch(root.findtext("RequestID") or "")
    return root.findtext("Errors/Error/Code") or "", root.findtext("Errors/Error/Message") or ""


def form_of(ec2: Any, action: str, request: Mapping[str, Any]) -> dict[str, str]:
    """The form that botocore sends for a request, which need not be a good one."""
    model = ec2.meta.service_model.operation_model(action)
    body = create_serializer("ec2", include_validation=False).serialize_to_request(dict(request), model)["body"]
    return {key: str(value) for key, value in body.items()}

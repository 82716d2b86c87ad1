"""A gateway behind a real server on a free loopback port, and botocore's clients for it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import boto3
import uvicorn
from botocore.config import Config
from starlette.applications import Starlette

from vmferry.aws.signature import Credential
from vmferry.ec2.actions import Action
from vmferry.ec2.gateway import Ec2FrontEnd
from vmferry.ec2.services import Services
from vmferry.ec2.sts import StsFrontEnd
from vmferry.gateway import FrontEnd, create_gateway
from vmferry.iam.gateway import IamFrontEnd
from vmferry.quotas import AWS, VMFERRY

KEY = "AKIAABCDEFGHIJKLMNOP"
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
ACCOUNT = "111122223333"
OTHER_KEY = "AKIAABCDEFGHIJKLMNOQ"
OTHER_ACCOUNT = "444455556666"
REGIONS = ("us-east-1", "us-west-2")
ROOMY = replace(
    AWS,
    concurrent_import_tasks=VMFERRY.concurrent_import_tasks,
    concurrent_conversion_tasks=VMFERRY.concurrent_conversion_tasks,
    concurrent_export_tasks=VMFERRY.concurrent_export_tasks,
)
"""AWS's limits, but for tasks, of which none ends where there is no worker."""


@dataclass(frozen=True)
class Endpoint:
    """A running gateway."""

    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, service: str = "ec2", **options: Any) -> Any:
        """A boto3 client that asks once and never again."""
        given = {
            "region_name": "us-east-1",
            "aws_access_key_id": KEY,
            "aws_secret_access_key": SECRET,
            "config": Config(retries={"total_max_attempts": 1}),
            **options,
        }
        return boto3.client(service, endpoint_url=self.url, **given)


@contextlib.contextmanager
def run_gateway(
    actions: Mapping[str, Action], services: Services, *others: FrontEnd, port: int = 0
) -> Iterator[Endpoint]:
    """Serve ``actions`` of EC2, STS and ``others`` until the block ends."""
    keys = {KEY: Credential(SECRET, ACCOUNT), OTHER_KEY: Credential(SECRET, OTHER_ACCOUNT)}
    front_ends: list[FrontEnd] = [Ec2FrontEnd(services, actions), StsFrontEnd(), IamFrontEnd(services.catalog), *others]
    with run_app(create_gateway(front_ends, keys.get, services.regions), port) as chosen:
        yield Endpoint(chosen)


@contextlib.contextmanager
def run_app(app: Starlette, port: int = 0) -> Iterator[int]:
    """Serve ``app`` on a port (0: a free one), which is the answer, until the block ends."""
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=port, log_config=None, ws="none", lifespan="off")
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 10
    while not server.started:
        assert time.monotonic() < deadline, "the server did not start"
        time.sleep(0.01)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(10)


GatewayRunner = Callable[[Mapping[str, Action]], contextlib.AbstractContextManager[Endpoint]]

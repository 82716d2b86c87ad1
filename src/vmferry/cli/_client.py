"""The EC2 API as the client commands use it: boto3, unmodified, and which endpoint it is to speak to."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from vmferry.cli._remedies import REPEATED, find_remedy
from vmferry.config import Config, default_data_dir, load_config
from vmferry.errors import ConfigError, VmferryError, quote

_CONNECT_SECONDS = _READ_SECONDS = 60.0
_CONNECTIONS = 32


class ApiError(VmferryError):
    """The endpoint refused, or could not be reached. ``code`` is its code; empty where there was no answer.

    ``retryable``: it was not reached, or was too busy.
    """

    def __init__(self, message: str, *, code: str = "", retryable: bool = False) -> None:
        super().__init__(message, code=code)
        self.code = code
        self.retryable = retryable


@dataclass(frozen=True, slots=True)
class Keys:
    """What requests are signed with."""

    access_key_id: str
    secret_access_key: str
    session_token: str | None = None

    @property
    def options(self) -> dict[str, Any]:
        """As boto3 takes them."""
        return {
            "aws_access_key_id": self.access_key_id,
            "aws_secret_access_key": self.secret_access_key,
            "aws_session_token": self.session_token,
        }


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a command's options say of whom to speak to; what they leave open is found out by ``open_clients``."""

    aws: bool = False
    """AWS itself."""
    region: str | None = None
    url: str | None = None
    """The EC2 endpoint."""
    s3_url: str | None = None
    keys: Keys | None = None
    s3_keys: Keys | None = None
    """Other keys for S3."""
    connect_seconds: float | None = None
    read_seconds: float | None = None


class Clients:
    """boto3's clients of one endpoint, each made when it is first asked for."""

    def __init__(self, make: Callable[[str], Any], *, is_aws: bool, options: Sequence[str] = ()) -> None:
        self._make = make
        self._options = tuple(options)
        self.is_aws = is_aws
        """Whether they speak to AWS itself."""

    def command(self, *words: str) -> str:
        """``vmferry`` with ``words``, to be typed as it stands: it speaks to whom this command spoke."""
        return shlex.join(["vmferry", *words, *self._options])

    @cached_property
    def ec2(self) -> Any:
        return self._make("ec2")

    @cached_property
    def iam(self) -> Any:
        return self._make("iam")

    @cached_property
    def s3(self) -> Any:
        return self._make("s3")

    @cached_property
    def sts(self) -> Any:
        return self._make("sts")

    @property
    def region(self) -> str:
        return str(self.ec2.meta.region_name)


def read_endpoint(config: Config) -> dict[str, Any] | None:
    """What the server that runs on this data directory says of itself; ``None`` when none runs."""
    try:
        facts = json.loads(config.endpoint_path.read_text())
        os.kill(int(facts["pid"]), 0)
    except (FileNotFoundError, ProcessLookupError):
        return None
    except PermissionError:  # somebody else's server: it runs
        return dict(facts)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{quote(config.endpoint_path)} cannot be read: {quote(error)}. Start the server again."
        ) from error
    return dict(facts)


def open_clients(
    data_dir: Path | None, *, aws: bool = False, region: str | None = None, wishes: Wishes | None = None
) -> Clients:
    """Clients of, in this order: AWS itself (``aws``); the endpoint that ``wishes`` name; the server that runs on
    ``data_dir``, where one is named; the endpoint in the environment (``vmferry env``); the server that runs on the
    default data directory; AWS itself.

    Raises ``ConfigError`` when boto3 is not installed, or no region or keys are to be found.
    """
    wishes = wishes or Wishes(aws=aws, region=region)
    try:
        from botocore.exceptions import BotoCoreError
    except ImportError as error:
        raise ConfigError("This command needs boto3: pip install 'vmferry[client]'.") from error
    named = any(os.environ.get(name) for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_EC2"))
    config = load_config(data_dir or default_data_dir())
    facts = None if wishes.aws or wishes.url or (named and data_dir is None) else read_endpoint(config)
    if facts is None and data_dir is not None and not wishes.aws and not wishes.url:
        raise ConfigError(f"No server runs on {quote(data_dir)}: start `vmferry serve --data-dir`, or leave it out.")
    make = _maker(wishes, None if facts is None else _server(config, facts))
    is_aws = _is_aws(wishes, named=named or facts is not None)
    try:
        clients = Clients(make, is_aws=is_aws, options=_options(data_dir, wishes))
        _ = clients.ec2, clients.s3  # what is missing is said now
    except BotoCoreError as error:
        nobody = f"no server runs on {quote(config.data_dir)}, and for AWS: "
        raise ConfigError(
            f"No endpoint to speak to: {nobody if is_aws and not wishes.aws else ''}{quote(error)} "
            f"{'Set' if wishes.aws or not is_aws else 'Start `vmferry serve`, or set'} AWS_REGION and keys."
        ) from error
    return clients


def _options(data_dir: Path | None, wishes: Wishes) -> list[str]:
    """The options that make another command speak to the same endpoint."""
    options = ["--data-dir", str(data_dir)] if data_dir is not None else []
    options += ["--aws"] if wishes.aws else []
    return options + (["--region", wishes.region] if wishes.region is not None else [])


def _is_aws(wishes: Wishes, *, named: bool) -> bool:
    if wishes.url is not None:
        return is_aws_url(wishes.url)
    return wishes.aws or not named


def _server(config: Config, facts: Mapping[str, Any]) -> Callable[[str], dict[str, Any]]:
    """Service → what boto3 needs to know for the server that says ``facts`` of itself."""
    common = {"region_name": facts["region"], **Keys(facts["access_key_id"], facts["secret_access_key"]).options}

    def options(service: str) -> dict[str, Any]:
        if service == "s3":
            return {**common, **_own_s3_keys(config), "endpoint_url": facts["s3_endpoint"]}
        return {**common, "endpoint_url": facts["endpoint"]}

    return options


def _maker(wishes: Wishes, server: Callable[[str], dict[str, Any]] | None) -> Callable[[str], Any]:
    """Service → boto3's client of it."""

    def make(service: str) -> Any:
        import boto3
        from botocore.config import Config as BotoConfig

        given = {} if server is None else server(service)
        if wishes.region is not None and (server is None or service != "s3"):
            given["region_name"] = wishes.region
        elif server is None and (region := os.environ.get("AWS_REGION")):  # the other SDKs and the CLI look there
            given["region_name"] = region
        if (url := _url(service, wishes, server is None)) is not None:
            given["endpoint_url"] = url
        if (keys := (wishes.s3_keys if service == "s3" else None) or wishes.keys) is not None:
            given |= keys.options
        settings = BotoConfig(
            ignore_configured_endpoint_urls=wishes.aws,
            signature_version="s3v4" if service == "s3" else None,
            connect_timeout=wishes.connect_seconds or _CONNECT_SECONDS,
            read_timeout=wishes.read_seconds or _READ_SECONDS,
            max_pool_connections=_CONNECTIONS,
            request_checksum_calculation="when_required" if service == "s3" else None,  # parts carry a digest of ours
        )
        return boto3.client(service, config=settings, **given)

    return make


def _url(service: str, wishes: Wishes, environment: bool) -> str | None:
    """Where ``service`` is asked, if something says so: who has an EC2 of their own has its IAM and STS there too."""
    if service == "s3":
        return wishes.s3_url
    if service == "ec2" or (wishes.url is not None and not is_aws_url(wishes.url)):
        return wishes.url
    named = any(os.environ.get(f"AWS_ENDPOINT_URL{suffix}") for suffix in ("", f"_{service.upper()}"))
    own = os.environ.get("AWS_ENDPOINT_URL_EC2")
    return own if environment and own and not named and not wishes.aws and not is_aws_url(own) else None


def is_aws_url(url: str) -> bool:
    """Whether an endpoint is one of AWS's own."""
    return (urlsplit(url).hostname or "").endswith((".amazonaws.com", ".amazonaws.com.cn"))


def _own_s3_keys(config: Config) -> dict[str, str | None]:
    """What is signed with for an S3 service of the user's own; nothing where the embedded one is used."""
    if config.s3_endpoint is None:
        return {}
    keys = {"aws_access_key_id": config.s3_access_key_id, "aws_secret_access_key": config.s3_secret_access_key}
    return keys if config.s3_region is None else {**keys, "region_name": config.s3_region}


def list_all(client: Any, method: str, member: str, **parameters: Any) -> list[dict[str, Any]]:
    """What ``method`` of boto3's ``client`` lists as ``member``, over all pages. Raises ``ApiError``."""
    with api_errors():
        if client.can_paginate(method):
            pages = client.get_paginator(method).paginate(**parameters)
        else:
            pages = [getattr(client, method)(**parameters)]
        return [one for page in pages for one in page.get(member, ())]


def without_metadata(answer: Mapping[str, Any]) -> dict[str, Any]:
    """boto3's ``answer`` as the API gave it."""
    return {name: value for name, value in answer.items() if name != "ResponseMetadata"}


@contextmanager
def api_errors() -> Iterator[None]:
    """Change boto3's errors into ours, in one line that ends with the remedy where one is known."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
    from botocore.exceptions import ConnectionError as NotReachedError

    try:
        yield
    except ClientError as error:
        facts = error.response.get("Error", {})
        code = quote(facts.get("Code", "Unknown"))
        message = f"{code}: {facts.get('Message') or 'no message'}"
        if remedy := find_remedy(code, message):
            message = f"{message.rstrip('. ')}. {remedy}"
        raise ApiError(message, code=code, retryable=code in REPEATED) from error
    except (HTTPClientError, NotReachedError) as error:
        message = " ".join(str(error).split()).rstrip(".")
        raise ApiError(f"{message}. Is it running, and is the network up?", retryable=True) from error
    except (BotoCoreError, Boto3Error) as error:
        message = " ".join(str(error).split())
        remedy = find_remedy(type(error).__name__, message)
        raise ApiError(f"{message.rstrip('.')}. {remedy}" if remedy else message) from error

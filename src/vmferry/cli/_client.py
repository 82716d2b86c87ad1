"""The EC2 API as the client commands use it: boto3, unmodified, and which endpoint it is to speak to."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vmferry.config import Config, load_config
from vmferry.errors import ConfigError, VmferryError, quote


class ApiError(VmferryError):
    """The endpoint refused, or could not be reached."""


@dataclass(frozen=True, slots=True)
class Clients:
    """boto3's clients of one endpoint."""

    ec2: Any
    s3: Any
    is_aws: bool
    """Whether they speak to AWS itself."""


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


def open_clients(data_dir: Path, *, aws: bool) -> Clients:
    """Clients of, in this order: AWS itself (``aws``); the endpoint in the environment (``vmferry env``); the server
    that runs on ``data_dir``; AWS itself.

    Raises ``ConfigError`` when boto3 is not installed, or no region or keys are to be found.
    """
    try:
        import boto3
        from botocore.config import Config as BotoConfig
        from botocore.exceptions import BotoCoreError
    except ImportError as error:
        raise ConfigError("This command needs boto3: pip install 'vmferry[client]'.") from error
    named = any(os.environ.get(name) for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_EC2"))
    config = load_config(data_dir)
    facts = None if aws or named else read_endpoint(config)
    try:
        if facts is not None:
            keys = {
                "aws_access_key_id": facts["access_key_id"],
                "aws_secret_access_key": facts["secret_access_key"],
                "region_name": facts["region"],
            }
            ec2 = boto3.client("ec2", endpoint_url=facts["endpoint"], **keys)
            own = _own_s3_keys(config)
            s3 = boto3.client(
                "s3", endpoint_url=facts["s3_endpoint"], config=BotoConfig(signature_version="s3v4"), **{**keys, **own}
            )
            return Clients(ec2, s3, is_aws=False)
        options = BotoConfig(ignore_configured_endpoint_urls=aws)
        return Clients(boto3.client("ec2", config=options), boto3.client("s3", config=options), is_aws=aws or not named)
    except BotoCoreError as error:
        raise ConfigError(
            f"No endpoint to speak to: no server runs on {quote(data_dir)}, and for AWS: {quote(error)} "
            "Start `vmferry serve`, or set AWS_DEFAULT_REGION and keys."
        ) from error


def _own_s3_keys(config: Config) -> dict[str, str | None]:
    """What is signed with for an S3 service of the user's own; nothing where the embedded one is used."""
    if config.s3_endpoint is None:
        return {}
    keys = {"aws_access_key_id": config.s3_access_key_id, "aws_secret_access_key": config.s3_secret_access_key}
    return keys if config.s3_region is None else {**keys, "region_name": config.s3_region}


@contextmanager
def api_errors() -> Iterator[None]:
    """Change boto3's errors into ours, in one line."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        facts = error.response.get("Error", {})
        raise ApiError(f"{quote(facts.get('Code', 'Unknown'))}: {facts.get('Message', 'no message')}") from error
    except (BotoCoreError, Boto3Error) as error:
        raise ApiError(" ".join(str(error).split())) from error

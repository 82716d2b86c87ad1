"""``vmferry env``: what to export so that AWS's own tools speak to the server."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import typer

from vmferry.cli._client import read_endpoint
from vmferry.cli._output import print_json
from vmferry.config import default_data_dir, load_config
from vmferry.errors import ConfigError, quote


def print_environment(
    data_dir: Path = typer.Option(None, metavar="FOLDER", help="The server's data directory."),
    account: str = typer.Option(
        None, metavar="NAME", help="The account whose keys to export, by name or digits (default: the first)."
    ),
    as_json: bool = typer.Option(False, "--json", help="One JSON object instead of shell lines."),
) -> None:
    """Print export lines for the server that runs on the data directory: eval "$(vmferry env)"."""
    directory = data_dir or default_data_dir()
    config = load_config(directory)
    facts = read_endpoint(config)
    if facts is None:
        raise ConfigError(f"No server runs on {quote(directory)}: start one with `vmferry serve`, or name --data-dir.")
    if account is not None:
        from vmferry.data_directory import account_key

        key = account_key(config, account)
        facts |= {"access_key_id": key.access_key_id, "secret_access_key": key.secret_access_key}
    variables = environment(facts)
    if as_json:
        print_json(variables)
        return
    for name, value in variables.items():
        print(f"export {name}={shlex.quote(value)}")


def environment(facts: dict[str, Any]) -> dict[str, str]:
    """Variables that boto3 and the AWS CLI read, from what a server says of itself."""
    services = ("EC2", "EBS", "IAM", "STS")
    return {
        **{f"AWS_ENDPOINT_URL_{service}": str(facts["endpoint"]) for service in services},
        "AWS_ENDPOINT_URL_S3": str(facts["s3_endpoint"]),
        "AWS_ACCESS_KEY_ID": str(facts["access_key_id"]),
        "AWS_SECRET_ACCESS_KEY": str(facts["secret_access_key"]),
        "AWS_DEFAULT_REGION": str(facts["region"]),
        "AWS_REGION": str(facts["region"]),
    }


COMMAND = print_environment

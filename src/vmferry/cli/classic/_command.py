"""What the classic commands have in common: their general options, and how a command line becomes a call."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import typer

from vmferry.cli._client import Clients, Keys, Wishes, open_clients

Options = argparse.Namespace
Declare = Callable[[argparse.ArgumentParser], None]
Act = Callable[[Clients, Options], None]

_REFUSED = {
    ("-K", "--private-key"): "certificates belonged to EC2's SOAP interface, which is gone; sign with -O and -W",
    ("-C", "--cert"): "certificates belonged to EC2's SOAP interface, which is gone; sign with -O and -W",
    ("--delegate",): "roles are not assumed on the way; give the role's temporary keys with -O, -W and -T",
}
"""General options of the tools of old that have no meaning any more, and why."""


@dataclass(frozen=True, slots=True)
class Command:
    """One classic command."""

    summary: str
    declare: Declare
    """Adds its own options to a parser."""
    act: Act

    def run(self, program: str, arguments: Sequence[str]) -> None:
        """Raises Typer's usage error, ``VmferryError``; prints what it has to say."""
        parser = _Parser(prog=program, description=self.summary, allow_abbrev=False)
        self.declare(parser)
        _declare_general(parser)
        options = parser.parse_args(arguments)
        if options.verbose:
            _show_wire()
        self.act(open_clients(None, wishes=_wishes(options)), options)


def refuse(parser: argparse.ArgumentParser, flags: Sequence[str], reason: str) -> None:
    """Declare an option that is refused, with the reason, whenever it is given."""
    parser.add_argument(*flags, action=_Refusal, nargs="?", reason=reason, help=argparse.SUPPRESS)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise typer.BadParameter(message)


class _Refusal(argparse.Action):
    def __init__(self, *, reason: str, **options: Any) -> None:
        super().__init__(**options)
        self._reason = reason

    def __call__(self, parser: argparse.ArgumentParser, *given: Any) -> None:
        parser.error(f"{given[-1]} cannot be used here: {self._reason}")


def _declare_general(parser: argparse.ArgumentParser) -> None:
    general = parser.add_argument_group("general options")
    general.add_argument("-O", "--aws-access-key", "-I", "--access-key-id", dest="access_key", metavar="KEY")
    general.add_argument("-W", "--aws-secret-key", "-S", "--secret-key", dest="secret_key", metavar="KEY")
    general.add_argument("-T", "--security-token", metavar="TOKEN", help="of temporary keys")
    general.add_argument("-U", "--url", help="the EC2 endpoint (default: $EC2_URL, else as for `vmferry import`)")
    general.add_argument("--s3-url", metavar="URL", help="the S3 endpoint (default: $S3_URL)")
    general.add_argument("--region", help="the region (default: the endpoint's)")
    general.add_argument("-v", "--verbose", "--debug", action="store_true", help="show requests on stderr")
    general.add_argument("--connection-timeout", type=float, metavar="SECONDS")
    general.add_argument("--request-timeout", type=float, metavar="SECONDS")
    general.add_argument("--show-empty-fields", action="store_true", help="print empty columns as (nil)")
    for flags, reason in _REFUSED.items():
        refuse(parser, flags, reason)


def _wishes(options: Options) -> Wishes:
    """Whom to speak to: what the options say, else the variables of the tools of old."""
    url = options.url or os.environ.get("EC2_URL")
    s3_url = options.s3_url or os.environ.get("S3_URL") or os.environ.get("AWS_ENDPOINT_URL_S3")
    keys = _keys(
        options.access_key or os.environ.get("AWS_ACCESS_KEY"),
        options.secret_key or os.environ.get("AWS_SECRET_KEY"),
        options.security_token,
        "-O and -W",
    )
    owner = _keys(getattr(options, "owner_akid", None), getattr(options, "owner_sak", None), None, "-o and -w")
    return Wishes(
        region=options.region or (_region_of(url) if url else None),
        url=url,
        s3_url=s3_url,
        keys=keys,
        s3_keys=owner,
        connect_seconds=options.connection_timeout,
        read_seconds=options.request_timeout,
    )


def _keys(access_key: str | None, secret_key: str | None, token: str | None, names: str) -> Keys | None:
    if access_key is None and secret_key is None:
        return None
    if access_key is None or secret_key is None:
        raise typer.BadParameter(f"{names} belong together: one is an access key's id, the other its secret.")
    return Keys(access_key, secret_key, token)


def _region_of(url: str) -> str | None:
    """The region that one of AWS's endpoints names: ``https://ec2.eu-west-1.amazonaws.com``."""
    parts = url.partition("://")[2].partition("/")[0].split(".")
    return parts[1] if len(parts) > 3 and parts[0] == "ec2" and parts[2] == "amazonaws" else None


def _show_wire() -> None:
    import logging

    import boto3

    boto3.set_stream_logger("botocore.endpoint", logging.DEBUG)

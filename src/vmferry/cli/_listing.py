"""Groups of commands about one kind of thing: ``vmferry images`` and its kin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import typer
from typer.core import TyperGroup

from vmferry.cli._client import Clients, api_errors, without_metadata
from vmferry.cli._output import print_facts, print_json
from vmferry.errors import escape, quote


class _ListingGroup(TyperGroup):
    """Lists what there is where none of its commands is named."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or (args[0].startswith("-") and args[0] != "--help"):
            args = ["list", *args]
        return super().parse_args(ctx, args)


def listing_group(text: str) -> typer.Typer:
    """A group whose command ``list`` need not be named."""
    return typer.Typer(cls=_ListingGroup, add_completion=False, help=text)


def show(thing: Mapping[str, Any], facts: Sequence[tuple[str, object]], *, as_json: bool) -> None:
    """One thing: the API's answer, or those of its facts that are there, and its tags."""
    if as_json:
        print_json(thing)
        return
    tags = [(f"tag {tag['Key']}", tag["Value"]) for tag in thing.get("Tags", ())]
    print_facts((name, quote(_word(value))) for name, value in (*facts, *tags) if value not in (None, "", []))


def change(clients: Clients, method: str, done: str, *, as_json: bool, **parameters: Any) -> dict[str, Any]:
    """Call the EC2 action ``method``, and say ``done``, or what would be done where it is a dry run.

    Raises ``ApiError``.
    """
    if parameters.get("DryRun"):
        try_dry_run(clients, method, as_json=as_json, **parameters)
        return {}
    with api_errors():
        answer = without_metadata(getattr(clients.ec2, method)(**parameters))
    if as_json:
        print_json(answer)
    else:
        print(done.format(**{name: value for name, value in answer.items() if isinstance(value, str)}))
    return answer


def try_dry_run(clients: Clients, method: str, *, as_json: bool, **parameters: Any) -> None:
    """Ask whether the action would succeed, and say so. Raises ``ApiError`` where it would not."""
    notes = check_dry_run(clients, method, **parameters)
    if as_json:
        action = "".join(word.capitalize() for word in method.split("_"))
        print_json({"DryRun": True, "Action": action, **({"Notes": notes} if notes else {})})
    else:
        print("It would succeed; nothing was changed.", *([escape(notes)] if notes else []))


def check_dry_run(clients: Clients, method: str, **parameters: Any) -> str:
    """What vmferry says of a request that would succeed. Raises ``ApiError`` where it would not, as far as a dry run
    finds out."""
    from botocore.exceptions import ClientError

    with api_errors():
        try:
            getattr(clients.ec2, method)(**{**parameters, "DryRun": True})
        except ClientError as error:
            answer = error.response.get("Error", {})
            if answer.get("Code") != "DryRunOperation":
                raise
            return str(answer.get("Message", "")).partition(" | ")[2]
    return ""


def _word(value: object) -> object:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:%Y-%m-%d %H:%M:%S} UTC" if isinstance(value, datetime) else value

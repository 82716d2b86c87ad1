"""Options that several commands have."""

from __future__ import annotations

from typing import Any

import typer

from vmferry.errors import quote

READ_AS: Any = typer.Option(None, "--from", metavar="FORMAT", help="The format of SRC (default: what it shows).")
DISK: Any = typer.Option(None, metavar="NUMBER", help="Which disk of a machine, from 1 (default: the one that boots).")
PARENT: Any = typer.Option([], metavar="FILE", help="The parent of a snapshot, then its own parent, down to the base.")
EXTENT: Any = typer.Option(
    [], metavar="FILE", help="A file that holds a part of the disk and lies elsewhere or is named oddly."
)
SNAPSHOT: Any = typer.Option(None, metavar="NAME", help="Read this internal snapshot of a qcow2.")
WORKERS: Any = typer.Option(None, metavar="NUMBER", min=1, help="Threads (default: one for each core).")
AS_JSON: Any = typer.Option(False, "--json", help="The result as JSON; progress as JSON lines on stderr.")

DATA_DIR: Any = typer.Option(None, metavar="FOLDER", help="The data directory of the server to speak to.")
AWS: Any = typer.Option(False, "--aws", help="Speak to AWS itself.")
REGION: Any = typer.Option(None, metavar="NAME", help="The region (default: the endpoint's first, or your AWS one).")
ANSWER_AS_JSON: Any = typer.Option(False, "--json", help="The API's answer as JSON.")
DRY_RUN: Any = typer.Option(False, "--dry-run", help="Check everything that can be checked, and change nothing.")
DESCRIPTION: Any = typer.Option(None, metavar="TEXT", help="Description of what is made.")
TAGS: Any = typer.Option([], "--tag", metavar="KEY=VALUE", help="A tag; may be given again.")
CLIENT_TOKEN: Any = typer.Option(
    None, metavar="TOKEN", help="The same command with the same token does not do it twice (default: a new token)."
)

ACCOUNTS: Any = typer.Argument(metavar="ACCOUNT...", help="Accounts, by their 12 digits; all is everybody.")


def permissions(accounts: list[str]) -> list[dict[str, str]]:
    """Accounts as the attributes that share things take them."""
    return [{"Group": "all"} if account == "all" else {"UserId": account} for account in accounts]


def read_tags(texts: list[str]) -> list[dict[str, str]]:
    """``KEY=VALUE``s as the API takes them. Raises Typer's usage error."""
    tags = []
    for text in texts:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise typer.BadParameter(f"a tag is KEY=VALUE, not {quote(text)}.")
        tags.append({"Key": key, "Value": value})
    return tags


def tag_specification(texts: list[str], *resources: str) -> dict[str, list[dict[str, Any]]]:
    """``TagSpecifications`` that give these tags to each kind of resource; nothing where there are none."""
    tags = read_tags(texts)
    if not tags:
        return {}
    return {"TagSpecifications": [{"ResourceType": resource, "Tags": tags} for resource in resources]}


def given(**parameters: Any) -> dict[str, Any]:
    """Those parameters of a call that have a value."""
    return {name: value for name, value in parameters.items() if value is not None}

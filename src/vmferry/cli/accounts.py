"""``vmferry accounts``: who may use a server, for whoever runs it; while it runs or not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from vmferry.cli._client import read_endpoint
from vmferry.cli._output import print_facts, print_json, print_table
from vmferry.config import Config, default_data_dir, load_config

if TYPE_CHECKING:
    from vmferry.catalog.accounts import AccessKey

COMMAND = typer.Typer(
    add_completion=False, no_args_is_help=True, help="The accounts of a server and their keys, for whoever runs it."
)
_KEYS = typer.Typer(add_completion=False, no_args_is_help=True, help="The access keys of an account.")
COMMAND.add_typer(_KEYS, name="keys")

_DATA_DIR = typer.Option(None, metavar="FOLDER", help="The server's data directory.")
_AS_JSON = typer.Option(False, "--json", help="One JSON object instead of lines.")
_ACCOUNT = typer.Argument(metavar="ACCOUNT", help="The account's name, or its twelve digits.")


@COMMAND.command()
def create(
    name: str = typer.Argument(metavar="NAME", help="3 to 40 of a-z, 0-9 and '-'. Its buckets are NAME and NAME-…"),
    data_dir: Path = _DATA_DIR,
    as_json: bool = _AS_JSON,
) -> None:
    """Make an account with its first key; what it has is its own, buckets called NAME or NAME-… among it."""
    from vmferry.data_directory import open_accounts

    config = load_config(data_dir or default_data_dir())
    with open_accounts(config) as accounts:
        key = accounts.create(name)
    _show_key(config, key, name, as_json=as_json)


@COMMAND.command("list")
def list_accounts(data_dir: Path = _DATA_DIR, as_json: bool = _AS_JSON) -> None:
    """List the accounts, oldest first; the first is the operator's, whose keys open every bucket."""
    from vmferry.data_directory import open_accounts

    with open_accounts(load_config(data_dir or default_data_dir())) as accounts:
        rows = [(one, len(accounts.keys(one.id))) for one in accounts.all()]
    if as_json:
        shown = [{"AccountId": one.id, "Name": one.name, "CreateDate": one.created_at, "Keys": n} for one, n in rows]
        print_json({"Accounts": shown})
        return
    lines = [(one.name, one.id, f"{one.created_at:%Y-%m-%d %H:%M}", n) for one, n in rows]
    print_table(("name", "account", "created", "keys"), lines, "No accounts yet: `vmferry serve` makes the first.")


@_KEYS.command("create")
def create_key(account: str = _ACCOUNT, data_dir: Path = _DATA_DIR, as_json: bool = _AS_JSON) -> None:
    """Make one more access key of an account."""
    from vmferry.data_directory import open_accounts

    config = load_config(data_dir or default_data_dir())
    with open_accounts(config) as accounts:
        found = accounts.get(account)
        key = accounts.create_key(found.id)
    _show_key(config, key, found.name, as_json=as_json)


@_KEYS.command("list")
def list_keys(account: str = _ACCOUNT, data_dir: Path = _DATA_DIR, as_json: bool = _AS_JSON) -> None:
    """List the ids of an account's access keys, oldest first: with the first, tasks read the account's buckets."""
    from vmferry.data_directory import open_accounts

    with open_accounts(load_config(data_dir or default_data_dir())) as accounts:
        ids = [key.access_key_id for key in accounts.keys(accounts.get(account).id)]
    if as_json:
        print_json({"AccessKeyIds": ids})
    else:
        print_table(("access key",), [(one,) for one in ids], "No keys: nobody can use the account.")


@_KEYS.command("delete")
def delete_key(
    access_key_id: str = typer.Argument(metavar="KEY", help="The key's id: AKIA…"), data_dir: Path = _DATA_DIR
) -> None:
    """Let nobody sign with a key any more. An account without keys is shut, and keeps what it has."""
    from vmferry.data_directory import remove_access_key

    remove_access_key(load_config(data_dir or default_data_dir()), access_key_id)


def _show_key(config: Config, key: AccessKey, name: str | None, *, as_json: bool) -> None:
    """Say the new key; return when a server that runs takes it."""
    from vmferry.data_directory import await_key

    shown = {
        "Name": name,
        "AccountId": key.account_id,
        "AccessKeyId": key.access_key_id,
        "SecretAccessKey": key.secret_access_key,
    }
    if as_json:
        print_json(shown)
    else:
        facts = [("account", f"{name or '-'} {key.account_id}"), ("access key", key.access_key_id)]
        print_facts([*facts, ("secret", key.secret_access_key)])
    if (running := read_endpoint(config)) is not None:
        await_key(config, str(running["s3_endpoint"]), key)

"""What the composition root makes by itself."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import text

from vmferry.app import _identities, _listen
from vmferry.catalog import open_catalog
from vmferry.catalog._database import Database, alembic_config
from vmferry.config import Config
from vmferry.data_directory import account_key, first_account, open_accounts, remove_access_key
from vmferry.errors import ConfigError, NotFoundError


def test_no_answer_waits_for_the_acknowledgement_of_its_first_packet(tmp_path: Path) -> None:
    """asyncio turns Nagle's algorithm off, but only on sockets that it knows to be TCP's."""

    async def accept(listener: socket.socket) -> int:
        delays = asyncio.get_running_loop().create_future()

        async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            accepted = writer.get_extra_info("socket")
            delays.set_result(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        async with await asyncio.start_server(serve, sock=listener):
            _, writer = await asyncio.open_connection(*listener.getsockname()[:2])
            try:
                return int(await delays)
            finally:
                writer.close()

    assert asyncio.run(accept(_listen(Config(tmp_path, port=0)))) != 0


def test_the_first_account_opens_every_bucket_and_others_their_own(tmp_path: Path) -> None:
    config = Config(tmp_path)
    catalog = open_catalog(config.catalog_url)
    catalog.migrate()
    first = first_account(config, catalog)
    with open_accounts(config) as accounts:
        second = accounts.create("team-b")
        third = accounts.create_key(first.account_id)
    found = {one.access_key_id: one for one in _identities(catalog, first.account_id)}
    assert "Admin" in found[first.access_key_id].actions
    assert found[second.access_key_id].actions == ("Admin:team-b", "Admin:team-b-*")
    assert found[third.access_key_id].actions == found[first.access_key_id].actions
    assert found[third.access_key_id].name == found[first.access_key_id].name == first.account_id
    catalog.close()


def test_an_account_without_keys_is_shut_and_the_first_key_stays(tmp_path: Path) -> None:
    config = Config(tmp_path)
    with pytest.raises(ConfigError, match="no catalog"), open_accounts(config):
        pass
    catalog = open_catalog(config.catalog_url)
    catalog.migrate()
    first = first_account(config, catalog)
    second = catalog.accounts.create("team-b")
    catalog.close()
    assert account_key(config, "team-b") == second
    assert account_key(config, first.account_id) == account_key(config, "default") == first
    remove_access_key(config, second.access_key_id)
    with pytest.raises(NotFoundError, match="keys create"):
        account_key(config, "team-b")
    with pytest.raises(ConfigError, match="it stays"):
        remove_access_key(config, first.access_key_id)
    assert account_key(config, "default") == first


def test_a_catalog_of_before_accounts_had_names_is_brought_up_to_date(tmp_path: Path) -> None:
    config = Config(tmp_path)
    database = Database(config.catalog_url)
    with database.engine.begin() as connection:
        command.upgrade(alembic_config(connection), "0015")
        insert = (
            "INSERT INTO access_key VALUES ('AKIAOLD', 'secret', '111122223333', '2026-01-02T03:04:05.000000+00:00')"
        )
        connection.execute(text(insert))
    database.close()
    with open_accounts(config) as accounts:
        (old,) = accounts.all()
        assert (old.id, old.name, old.created_at.year) == ("111122223333", None, 2026)
        accounts.add(accounts.keys()[0], "default")  # as the server does when it starts
        assert accounts.get("default").id == old.id

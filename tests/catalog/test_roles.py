"""Roles in the catalog: what the front end's tests do not reach."""

from __future__ import annotations

import json
from pathlib import Path

from alembic import command
from sqlalchemy import text

from vmferry.aws.service_role import Purpose, role_policy, trust_policy
from vmferry.catalog import open_catalog
from vmferry.catalog._database import Database, alembic_config
from vmferry.catalog.accounts import AccessKey

ACCOUNT = "111122223333"


def test_accounts_of_older_catalogs_get_the_role_that_new_ones_have(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'catalog.sqlite'}"
    database = Database(url)
    with database.engine.begin() as connection:
        command.upgrade(alembic_config(connection), "0006")
        for key in ("AKIA1", "AKIA2"):
            row = f"('{key}', 's', '{ACCOUNT}', '2026-01-01T00:00:00.000000+00:00')"
            connection.execute(text(f"INSERT INTO access_key VALUES {row}"))
    database.close()
    catalog = open_catalog(url)
    catalog.migrate()
    catalog.accounts.add(AccessKey("AKIA3", "s", "444455556666"))
    for account in (ACCOUNT, "444455556666"):
        (role,) = catalog.roles.all(account)
        assert (role.name, json.loads(role.trust)) == ("vmimport", trust_policy())
        documents = {name: json.loads(document) for name, document in role.policies.items()}
        assert documents == {"vmimport": role_policy(["*"], Purpose.IMPORT, Purpose.EXPORT)}
    catalog.close()


def test_a_second_key_of_an_account_brings_no_second_role(tmp_path: Path) -> None:
    catalog = open_catalog(f"sqlite:///{tmp_path / 'catalog.sqlite'}")
    catalog.migrate()
    catalog.accounts.add(AccessKey("AKIA1", "s", ACCOUNT))
    catalog.roles.remove_policy(ACCOUNT, "vmimport", "vmimport")
    catalog.roles.remove(ACCOUNT, "vmimport")
    catalog.accounts.add(AccessKey("AKIA2", "s", ACCOUNT))
    assert catalog.roles.all(ACCOUNT) == []
    catalog.close()

"""Accounts and keys in the catalog."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from vmferry.catalog import Catalog, open_catalog
from vmferry.catalog.accounts import AccessKey
from vmferry.errors import ConflictError, NotFoundError

FIRST = AccessKey("AKIAFIRST", "secret", "111122223333")


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    opened = open_catalog(f"sqlite:///{tmp_path / 'catalog.sqlite'}")
    opened.migrate()
    opened.accounts.add(FIRST, "default")
    yield opened
    opened.close()


def test_an_account_is_made_with_a_key_and_the_role_of_imports(catalog: Catalog) -> None:
    key = catalog.accounts.create("team-b")
    assert catalog.accounts.find(key.access_key_id) == key
    assert [one.name for one in catalog.accounts.all()] == ["default", "team-b"]
    assert catalog.accounts.get("team-b") == catalog.accounts.get(key.account_id)
    assert key.account_id != FIRST.account_id
    assert catalog.roles.get(key.account_id, "vmimport").name == "vmimport"
    with pytest.raises(NotFoundError, match="vmferry accounts list"):
        catalog.accounts.get("team-c")


@pytest.mark.parametrize("name", ["", "ab", "Team", "team_b", "-team", "team-", "9lives", "t" * 41, "a/b", "tëam"])
def test_names_that_buckets_cannot_have_are_refused(catalog: Catalog, name: str) -> None:
    with pytest.raises(ConflictError, match="cannot be an account's name"):
        catalog.accounts.create(name)


@pytest.mark.parametrize(
    "name", ["team-b", "team", "team-b-web", "default", "default-2", "vmferry", "vmferry-internal"]
)
def test_no_account_has_buckets_of_another(catalog: Catalog, name: str) -> None:
    catalog.accounts.create("team-b")
    with pytest.raises(ConflictError, match="in use, or would share buckets"):
        catalog.accounts.create(name)
    assert len(catalog.accounts.all()) == 2


def test_names_that_only_look_alike_are_apart(catalog: Catalog) -> None:
    for name in ("team-b", "team-c", "teams", "team-bb"):
        catalog.accounts.create(name)
    assert len(catalog.accounts.all()) == 5


def test_keys_come_and_go(catalog: Catalog) -> None:
    first = catalog.accounts.create("team-b")
    second = catalog.accounts.create_key(first.account_id)
    assert catalog.accounts.keys(first.account_id) == [first, second]
    assert catalog.accounts.of_account(first.account_id) == first
    catalog.accounts.remove_key(first.access_key_id)
    assert catalog.accounts.find(first.access_key_id) is None
    assert catalog.accounts.of_account(first.account_id) == second
    with pytest.raises(NotFoundError, match=first.access_key_id):
        catalog.accounts.remove_key(first.access_key_id)


def test_the_first_accounts_name_is_given_once(catalog: Catalog) -> None:
    catalog.accounts.add(FIRST, "default")
    catalog.accounts.add(AccessKey("AKIAOTHER", "secret", "444455556666"), "default")
    assert [(one.id, one.name) for one in catalog.accounts.all()] == [
        ("111122223333", "default"),
        ("444455556666", None),
    ]

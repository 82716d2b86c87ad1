"""The memory store keeps the contract of stores; there is no more to it."""

from __future__ import annotations

import pytest

from tests.stores.contract import ResumeContract, get, put
from vmferry.stores import STORES, Store


class TestMemoryStore(ResumeContract):
    @pytest.fixture
    def store(self, bucket: str) -> Store:
        store = STORES["memory"].connect({})
        put(store, bucket, "first", b"the bucket is there from the first write on")
        return store


def test_each_connection_is_a_store_of_its_own() -> None:
    one, other = STORES["memory"].connect({}), STORES["memory"].connect({})
    put(one, "bucket", "key", b"one")
    put(other, "bucket", "key", b"other")
    assert get(one, "bucket", "key") == b"one"
    assert get(other, "bucket", "key") == b"other"

"""Where classic commands look for a manifest: only in the S3 that they speak to."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from vmferry.cli._client import Clients
from vmferry.cli.classic._manifest import Place, place_of
from vmferry.errors import ConfigError

OWN = "http://127.0.0.1:8333"


def clients(*, is_aws: bool) -> Clients:
    def make(service: str) -> Any:
        return SimpleNamespace(meta=SimpleNamespace(endpoint_url=OWN))

    return Clients(make, is_aws=is_aws)


@pytest.mark.parametrize(
    "url", ["https://b.s3.amazonaws.com/k", "https://s3.amazonaws.com/imports/k", "http://10.0.0.1/imports/k"]
)
def test_a_bucket_of_another_s3_is_not_taken_for_one_of_ours(url: str) -> None:
    with pytest.raises(ConfigError, match="another S3"):
        place_of(clients(is_aws=False), url)


def test_each_s3_knows_its_own() -> None:
    assert place_of(clients(is_aws=False), f"{OWN}/imports/folder/k?X-Amz-Signature=s") == Place("imports", "folder/k")
    assert place_of(clients(is_aws=True), "https://b.s3.eu-west-1.amazonaws.com/k?x=y") == Place("b", "k")
    assert place_of(clients(is_aws=True), "https://s3.amazonaws.com/imports/k") == Place("imports", "k")

"""What the S3 store knows without asking a server: its options, and what a URL names."""

from __future__ import annotations

import re
import urllib.parse

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmferry.errors import BlobNotFoundError, ConfigError, UnsafeDiskError
from vmferry.stores.s3 import STORE, parse_location


@pytest.mark.parametrize(
    "options",
    [
        {"endpont": "https://x"},
        {"endpoint": "x"},
        {"endpoint": "https://x/path"},
        {"endpoint": "http://x"},
        {"access_key_id": "A"},
        {"allow_http": "yes"},
        {"retry_seconds": "0"},
        {"retry_seconds": "nan"},
        {"retry_seconds": "soon"},
    ],
)
def test_wrong_options_are_refused(options: dict[str, str]) -> None:
    with pytest.raises(ConfigError):
        STORE.connect(options)


ENDPOINT = "https://s3.example.org:9000"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("s3://my-bucket/dir/a%20b+c.ova", ("my-bucket", "dir/a%20b+c.ova")),
        (f"{ENDPOINT}/my-bucket/dir/a%20b+c%C3%BC.ova?X-Amz-Signature=1", ("my-bucket", "dir/a b+cü.ova")),
        ("HTTPS://S3.EXAMPLE.ORG:9000/my-bucket/k", ("my-bucket", "k")),
    ],
)
def test_a_url_names_a_bucket_and_a_key(url: str, expected: tuple[str, str]) -> None:
    assert parse_location(url, ENDPOINT) == expected


@pytest.mark.parametrize(
    "url",
    [
        "http://s3.example.org:9000/my-bucket/k",
        "https://s3.example.org/my-bucket/k",
        "https://s3.example.org:9000@evil.org/my-bucket/k",
        "https://user:pw@s3.example.org:9000/my-bucket/k",
        "https://s3.example.org:9000.evil.org/my-bucket/k",
        "https://s3.example.org:9000\\@evil.org/my-bucket/k",
        "https://169.254.169.254/latest/meta-data",
        "file:///etc/passwd",
        "//s3.example.org:9000/my-bucket/k",
        "https://[::1/my-bucket/k",
    ],
)
def test_other_hosts_are_refused_by_a_sentence_that_names_ours(url: str) -> None:
    with pytest.raises(UnsafeDiskError, match=re.escape(ENDPOINT)):
        parse_location(url, ENDPOINT)


def test_a_refusal_does_not_repeat_a_signature() -> None:
    with pytest.raises(UnsafeDiskError) as caught:
        parse_location("https://evil.org/b/k?X-Amz-Signature=SECRET", ENDPOINT)
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize(
    "path", ["my-bucket/a/%2e%2e/b", "my-bucket/%2Fa", "my-bucket/", "", "My-Bucket/k", "b%2Fx/k", "my-bucket/%FF"]
)
def test_escapes_do_not_smuggle_names_in(path: str) -> None:
    with pytest.raises(BlobNotFoundError):
        parse_location(f"{ENDPOINT}/{path}", ENDPOINT)


@settings(deadline=None, max_examples=60)
@given(st.text(min_size=1, max_size=40))
def test_every_key_survives_its_url_or_is_refused(key: str) -> None:
    try:
        url = f"{ENDPOINT}/my-bucket/{urllib.parse.quote(key)}"
    except UnicodeEncodeError:
        return
    try:
        assert parse_location(url, ENDPOINT) == ("my-bucket", key)
    except BlobNotFoundError:
        assert not key.isprintable() or any(part in ("", ".", "..") for part in key.split("/"))

"""Buckets that are looked at before an upload: by an S3 that answers as AWS does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.ec2.running_gateway import run_app
from vmferry.cli._client import ApiError, Clients
from vmferry.cli._import_sources import check_bucket, prepare_buckets, read_sources
from vmferry.errors import ConfigError

ANSWERS = {"here": (200, "us-east-1"), "ireland": (200, "eu-west-1"), "theirs": (403, "us-east-1")}


async def head(request: Request) -> Response:
    """A bucket is there, somebody else's, or not there; AWS says its region with every answer."""
    status, region = ANSWERS.get(request.path_params["bucket"], (404, None))
    return Response(status_code=status, headers={} if region is None else {"x-amz-bucket-region": region})


@pytest.fixture(scope="module")
def aws() -> Iterator[Clients]:
    with run_app(Starlette(routes=[Route("/{bucket}", head, methods=["HEAD"])])) as port:

        def make(service: str) -> Any:
            config = Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"})
            keys = {"aws_access_key_id": "AKIA", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
            return boto3.client(service, endpoint_url=f"http://127.0.0.1:{port}", config=config, **keys)

        yield Clients(make, is_aws=True)


def test_a_bucket_of_the_region_is_taken(aws: Clients) -> None:
    prepare_buckets(
        aws, read_sources(aws, ["s3://here/web.ova", "s3://here/data.raw"], None, None, None), dry_run=False
    )


def test_a_bucket_of_another_region_is_told_with_both_ways_out(aws: Clients) -> None:
    with pytest.raises(
        ConfigError, match=r"ireland is in eu-west-1, .* use --region eu-west-1, or a bucket in us-east"
    ):
        prepare_buckets(aws, read_sources(aws, ["s3://ireland/web.ova"], None, None, None), dry_run=True)


def test_a_bucket_that_is_not_there_or_not_ones_own_is_told(aws: Clients) -> None:
    with pytest.raises(ApiError, match=r"There is no bucket nowhere. Make it \(`aws s3 mb s3://nowhere`\)"):
        check_bucket(aws, "nowhere")
    with pytest.raises(ApiError, match="Your keys may not look at the bucket theirs"):
        check_bucket(aws, "theirs")

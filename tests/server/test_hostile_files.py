"""A whole server and some of the corpus: its tasks end with the reason, nothing is left, and it goes on serving."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hostile.corpus import CORPUS
from tests.hostile.gate import check_sentence
from tests.server.harness import Server

pytestmark = [pytest.mark.server, pytest.mark.slow]


@pytest.mark.parametrize(
    ("name", "declared"),
    [
        ("qcow2-backing-absolute.qcow2", None),
        ("vmdk-flat-absolute.vmdk", "VMDK"),
        ("vhd-parent-absolute.vhd", "VHD"),
        ("ovf-xml-entity.ova", "OVA"),
    ],
)
def test_an_import_of_a_hostile_file_ends_with_the_reason(
    server: Server, name: str, declared: str | None, tmp_path: Path
) -> None:
    item = CORPUS[name]
    path = tmp_path / item.name
    path.write_bytes(item.build())
    before = server.settled()
    place = {"S3Bucket": "hostile", "S3Key": server.upload(path, "hostile")}
    container = {"UserBucket": place} if declared is None else {"UserBucket": place, "Format": declared}
    task = server.wait(server.import_image(container))
    assert task["Status"] == "deleted"
    check_sentence(task["StatusMessage"])
    assert set(server.leftovers()) == before
    assert server.client("ec2").describe_import_image_tasks(ImportTaskIds=[task["ImportTaskId"]])

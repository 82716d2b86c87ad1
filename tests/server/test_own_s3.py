"""An S3 service of the user's own, and one that fails all the time."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.server.faulty_s3 import faulty_s3
from tests.server.harness import BIN, Server, running_server
from tests.server.test_import import in_s3
from tests.server.test_survival import check_result

pytestmark = [pytest.mark.server, pytest.mark.slow]


def configure(data_dir: Path, endpoint: str, store: Server) -> None:
    """``data_dir`` for a server that reads from ``endpoint`` with the keys of ``store``, whose object store it is."""
    values = {
        "s3_endpoint": endpoint,
        "s3_access_key_id": store.ready["access_key_id"],
        "s3_secret_access_key": store.ready["secret_access_key"],
    }
    data_dir.mkdir()
    (data_dir / "config.toml").write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items()))


def test_imports_come_from_an_s3_of_ones_own(server: Server, tmp_path: Path, small_disk: Path, small_ova: Path) -> None:
    key = server.upload(small_ova, "imports")
    configure(tmp_path / "data", server.ready["s3_endpoint"], server)
    with running_server(tmp_path / "data") as other:
        assert other.ready["s3_endpoint"] == server.ready["s3_endpoint"]
        assert other.children("bin/weed") == []
        check_result(other, other.import_image(in_s3(key)), small_disk)
        done = subprocess.run(
            [BIN / "vmferry", "import", "--data-dir", str(other.data_dir), "--bucket", "imports", str(small_ova)],
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr


def test_a_store_that_fails_all_the_time_costs_time_and_nothing_else(
    server: Server, tmp_path: Path, large_disk: Path, large_ova: Path
) -> None:
    """503 to a third of the requests, and bodies that end half-way: the imports complete, with the right bytes."""
    server.upload(large_ova, "imports")
    server.upload(large_disk, "imports")
    with faulty_s3(server.ready["s3_endpoint"]) as faults:
        configure(tmp_path / "data", faults.endpoint, server)
        with running_server(tmp_path / "data") as other:
            tasks = [
                other.import_image(in_s3(large_ova.name)), other.import_image(in_s3(large_disk.name, "RAW"))
            ]  # fmt: skip
            for task_id in tasks:  # both have ended before anything is looked for that they left
                other.wait(task_id, 240)
            for task_id in tasks:
                check_result(other, task_id, large_disk)
    assert faults.refused > faults.served / 4
    assert faults.cut > 10


def test_an_ova_with_a_manifest_is_read_once(server: Server, tmp_path: Path, large_disk: Path, large_ova: Path) -> None:
    """The manifest's digest is taken from the reads of the conversion; two workers do not read more than one would."""
    server.upload(large_ova, "imports")
    with faulty_s3(server.ready["s3_endpoint"], faults=False) as store:
        configure(tmp_path / "data", store.endpoint, server)
        with running_server(tmp_path / "data") as other:
            check_result(other, other.import_image(in_s3(large_ova.name)), large_disk)
    assert store.bytes_served < 1.1 * large_ova.stat().st_size


def test_half_a_configuration_is_refused_in_one_line(tmp_path: Path) -> None:
    for text, words in (
        ('s3_region = "x"\n', "need s3_endpoint"),
        ('s3_endpoint = "ftp://x"\n', "The S3 endpoint must be http"),
        ('s3_endpoint = "http://x"\ns3_access_key_id = "A"\n', "secret_access_key together"),
    ):
        (tmp_path / "config.toml").write_text(text)
        done = subprocess.run(
            [BIN / "vmferry", "serve", "--data-dir", str(tmp_path), "--port", "0"],
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 1
        assert words in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1

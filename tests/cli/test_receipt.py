"""Receipts: signed by the server's key, checked anywhere, and by nobody else's word."""

from __future__ import annotations

import json
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.cli.material import call_vmferry, make_raw
from vmferry.blob import FileBlob
from vmferry.convert import digest_disk
from vmferry.errors import ConfigError
from vmferry.formats import open_disk
from vmferry.receipt import fingerprint, load_key, sign
from vmferry.units import MIB


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_raw(tmp_path_factory.mktemp("receipt") / "disk.raw", 8 * MIB, 3)


@pytest.fixture
def facts(raw: Path) -> dict[str, Any]:
    disk = open_disk(FileBlob(raw))
    digest = digest_disk(disk)
    disk.close()
    return {
        "task": "import-ami-1",
        "image": "ami-1",
        "completed_at": "2026-01-01T00:00:00+00:00",
        "sources": [{"bucket": "imports", "key": "wéb.ova", "size": 123, "etag": '"x"', "version": None}],
        "disks": [
            {"snapshot": "snap-0", "device": "/dev/sda1", "virtual_size": MIB, "guest_digest": "guest1:" + "0" * 64},
            {"snapshot": "snap-1", "device": "/dev/sdf", "virtual_size": 8 * MIB, "guest_digest": digest},
        ],
        "changes": [
            {"path": "/etc/fstab", "what": "replaced", "before": 9, "after": 7, "why": "names", "kept_as": "x"}
        ],
    }


def test_a_receipt_is_checked_and_shown(facts: dict[str, Any], raw: Path, tmp_path: Path) -> None:
    key = load_key(tmp_path / "key")
    path = tmp_path / "web.receipt.json"
    path.write_text(sign(facts, key))
    done = call_vmferry("verify", path)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"signature: right; by the key {fingerprint(key.public_key())}" in done.stdout
    assert "source: s3://imports/wéb.ova, 123 bytes" in done.stdout
    assert "changed: /etc/fstab: replaced, 7 bytes; names" in done.stdout
    assert json.loads(call_vmferry("verify", path, "--json").stdout)["disks"] == facts["disks"]
    done = call_vmferry("verify", path, raw, "--signer", fingerprint(key.public_key()))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{raw} is disk 2 of import-ami-1, byte for byte")


def test_another_disk_and_another_signer_are_told(facts: dict[str, Any], tmp_path: Path) -> None:
    path, other = tmp_path / "receipt.json", make_raw(tmp_path / "other.raw", 8 * MIB, 4)
    path.write_text(sign(facts, load_key(tmp_path / "key")))
    done = call_vmferry("verify", path, other)
    assert done.returncode == 1
    assert "that of none of the receipt's disks" in done.stderr
    done = call_vmferry("verify", path, "--signer", "SHA256:abc")
    assert done.returncode == 1
    assert "not by SHA256:abc" in done.stderr
    assert call_vmferry("verify", other, "--signer", "SHA256:abc").returncode == 2


@pytest.mark.parametrize("change", ["value", "member", "signature", "key", "cut", "kind"])
def test_a_changed_receipt_is_not_trusted(change: str, facts: dict[str, Any], tmp_path: Path) -> None:
    signed = json.loads(sign(facts, load_key(tmp_path / "key")))
    match change:
        case "value":
            signed["disks"][0]["guest_digest"] = "guest1:" + "1" * 64
        case "member":
            signed["note"] = "trust me"
        case "signature":
            signed["signature"]["value"] = "A" * 88
        case "key":
            signed["signature"]["public_key"] = "AAAA"
        case "kind":
            signed["note"], signed["kind"] = signed["kind"], "another"
    text = json.dumps(signed)
    path = tmp_path / "receipt.json"
    path.write_text(text[: len(text) // 2] if change == "cut" else text)
    done = call_vmferry("verify", path)
    assert done.returncode == 1
    assert "receipt" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("disks", None),
        ("disks", [{}]),
        ("disks", [{"snapshot": "snap-1", "device": "/dev/sda1", "virtual_size": 10**400, "guest_digest": None}]),
        ("sources", {}),
        ("changes", ["x"]),
        ("task", 5),
    ],
)
def test_a_receipt_that_says_too_little_is_none(
    member: str, value: object, facts: dict[str, Any], tmp_path: Path
) -> None:
    """Anybody can make a key and sign: that the signature is right says nothing of what was signed."""
    path = tmp_path / "receipt.json"
    path.write_text(sign({**facts, member: value}, load_key(tmp_path / "key")))
    done = call_vmferry("verify", path)
    assert done.returncode == 1
    assert "members of it are missing, or make no sense" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_the_key_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "key"
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.append(fingerprint(load_key(path).public_key()))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["key"]
    path.write_text("nonsense")
    with pytest.raises(ConfigError, match="Restore it from a backup"):
        load_key(path)

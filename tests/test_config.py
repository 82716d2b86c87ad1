"""What ``config.toml`` says wrongly is told in one line, before anything is started."""

from __future__ import annotations

from pathlib import Path

import pytest

from vmferry.config import load_config
from vmferry.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("evidence_days = 0", "evidence_days must be a number above 0, not 0"),
        ('boot_seconds = "long"', "boot_seconds must be a number above 0, not long"),
        ("prepare_seconds = true", "prepare_seconds must be a number above 0, not True"),
        ('guestfish = ""', "guestfish is the program's name or path, or none; not "),
        ("virt_v2v = 5", "virt_v2v is the program's name or path, or none; not 5"),
        ('evidence_bucket = "audit"', "evidence_bucket need s3_endpoint"),
        ('s3_endpoint = "https://s3.example.org"\nevidence_bucket = 5', "evidence_bucket are text"),
    ],
)
def test_wrong_values_are_told(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "config.toml").write_text(text)
    with pytest.raises(ConfigError, match=words):
        load_config(tmp_path)


def test_right_values_are_taken(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(
        'evidence_days = 7\nvirt_v2v = "none"\nguestfish = "/opt/guestfish"\nprepare_seconds = 90.5\n'
    )
    config = load_config(tmp_path)
    assert (config.evidence_days, config.virt_v2v, config.prepare_seconds) == (7, "none", 90.5)
    assert config.guestfish == "/opt/guestfish"

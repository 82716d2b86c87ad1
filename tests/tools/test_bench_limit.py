"""The program that the benchmark calls the limit does the whole work: else it would be no limit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.cli.material import call_vmferry, make_raw, make_stream
from vmferry.units import MIB

TOOL = Path(__file__).resolve().parents[2] / "tools" / "bench_limit.py"


def test_it_writes_what_the_stream_holds(tmp_path: Path) -> None:
    raw = make_raw(tmp_path / "disk.raw", 40 * MIB, 7)
    ours = tmp_path / "ours.vmdk"
    assert call_vmferry("convert", raw, ours).returncode == 0
    for stream in (make_stream(raw, tmp_path / "theirs.vmdk"), ours):  # with the directory in front, and at the end
        out = tmp_path / "out.raw"
        subprocess.run([sys.executable, TOOL, stream, out], check=True, timeout=60)
        assert out.read_bytes() == raw.read_bytes()

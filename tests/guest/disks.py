"""Disks of several partitions, put together from images of file systems."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

START = 1 << 20
"""Where the first partition begins."""


def partitioned(out: Path, parts: Sequence[tuple[str, Path]], label: str = "gpt") -> Path:
    """A disk at ``out`` whose partitions are ``(type as sfdisk has it, image)``."""
    lines, at = ["label-id: 0x1234abcd" if label == "dos" else ""], START
    places = []
    for kind, image in parts:
        size = -(-image.stat().st_size // START) * START
        lines.append(f"start={at // 512},size={size // 512},type={kind}")
        places.append((at, image))
        at += size
    with out.open("wb") as file:
        file.truncate(at + START)
    environment = {"PATH": "/usr/sbin:/sbin:/usr/bin"}
    subprocess.run(["sfdisk", "-q", "-X", label, out], input="\n".join(lines), text=True, check=True, env=environment)
    with out.open("r+b") as file:
        for place, image in places:
            file.seek(place)
            file.write(image.read_bytes())
    return out

"""Disks of several partitions, put together from images of file systems."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from vmferry.blob import FileBlob

START = 1 << 20
"""Where the first partition begins."""


def partitioned(out: Path, parts: Sequence[tuple[str, Path]], label: str = "gpt", code: bytes = b"") -> Path:
    """A disk at ``out`` whose partitions are ``(type as sfdisk has it, image)``; ``code`` is its boot code."""
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
        file.write(code)
        for place, image in places:
            blob = FileBlob(image)
            for low, high in blob.data_ranges(0, blob.size):
                file.seek(place + low)
                file.write(blob.read_at(low, high - low))
            blob.close()
    return out

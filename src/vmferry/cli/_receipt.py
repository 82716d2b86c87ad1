"""``vmferry verify RECEIPT``: whether a receipt is what the server signed, and whether a disk is one that it names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vmferry import receipt
from vmferry.cli._output import print_facts, print_json
from vmferry.errors import DifferentError, quote
from vmferry.units import format_size


def is_receipt(name: str) -> bool:
    """Whether ``name`` is a local file that is called JSON, or says of itself that it is a receipt."""
    path = Path(name)
    if name.startswith("s3://") or not path.is_file() or path.stat().st_size > receipt.MAX_SIZE:
        return False
    if path.suffix.lower() == ".json":
        return True
    with path.open("rb") as file:
        return b'"vmferry receipt' in file.read(200)


def open_receipt(name: str, signer: str | None) -> Mapping[str, Any]:
    """The receipt in the file ``name``, signed by the key with the fingerprint ``signer``, or by any where it is
    ``None``. Raises ``CorruptDiskError``, ``DifferentError``."""
    found = receipt.read(Path(name).read_bytes(), name)
    if signer is not None and found["signed_by"] != signer:
        raise DifferentError(
            f"{quote(name)} is signed by {found['signed_by']}, not by {quote(signer)}: another server wrote it, or "
            "somebody who wanted to look like yours. Do not trust it."
        )
    return found


def find_disk(found: Mapping[str, Any], digest: str, name: str) -> int:
    """The index of the disk of a receipt that has the guest digest ``digest``. Raises ``DifferentError``."""
    digests: Sequence[str | None] = [disk["guest_digest"] for disk in found["disks"]]
    if digest not in digests:
        raise DifferentError(
            f"{quote(name)} has the digest {digest}, which is that of none of the receipt's disks: it holds something "
            "else, or was changed since."
        )
    return digests.index(digest)


def show_receipt(found: Mapping[str, Any], *, as_json: bool) -> None:
    """Say what a receipt says."""
    if as_json:
        print_json(dict(found))
        return
    print_facts(_lines(found))


def _lines(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    made = quote(found["image"] or "snapshot")
    lines = [
        ("receipt", f"of {quote(found['task'])}: {made}, {quote(found['completed_at'])}"),
        ("signature", f"right; by the key {found['signed_by']}"),
    ]
    lines += [("source", quote(_source(source))) for source in found["sources"]]
    for number, disk in enumerate(found["disks"], 1):
        size = format_size(disk["virtual_size"])
        lines.append((f"disk {number}", quote(f"{disk['snapshot']} ({disk['device']}), {size}")))
        lines.append(("  digest", quote(disk["guest_digest"] or "not taken")))
    lines += [("changed", quote(_change(change))) for change in found["changes"]] or [("changed", "nothing")]
    return lines


def _change(change: Mapping[str, Any]) -> str:
    return f"{change['path']}: {change['what']}, {format_size(change['after'])}; {change['why']}"


def _source(source: Mapping[str, Any]) -> str:
    size = format_size(source["size"])
    if source["bucket"] is None:
        return f"{source.get('snapshot')}, {size}"
    return f"s3://{source['bucket']}/{source['key']}, {size}, ETag {source['etag']}"

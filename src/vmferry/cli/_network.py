"""What becomes of a guest's addresses, as ``prepare`` and ``import`` are told."""

from __future__ import annotations

import typer

from vmferry.errors import quote
from vmferry.guest.linux.network_settings import CHOICES


def check_network(choice: str) -> None:
    """Raise Typer's usage error where ``choice`` is none."""
    if choice not in CHOICES:
        raise typer.BadParameter(f"--network takes {' or '.join(CHOICES)}, not {quote(choice)}.")

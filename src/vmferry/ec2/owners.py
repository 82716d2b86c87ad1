"""Whose things a Describe action is asked for."""

from __future__ import annotations

from collections.abc import Iterable

from vmferry.ec2.actions import RequestContext


def is_owned(context: RequestContext, owners: Iterable[str] | None) -> bool:
    """Whether ``owners`` (accounts, ``self``) name the caller; no owners name everybody.

    Nothing is shared between accounts, so an owner is either the caller or has nothing to show.
    """
    named = list(owners or ())
    return not named or "self" in named or context.account_id in named

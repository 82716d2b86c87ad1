"""Whose AMIs and snapshots they are, and who may use them."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from vmferry.catalog.images import Image
from vmferry.catalog.permissions import EVERYBODY
from vmferry.catalog.places import Place
from vmferry.catalog.snapshots import Snapshot
from vmferry.ec2.actions import RequestContext
from vmferry.ec2.errors import Ec2Error


def is_named(context: RequestContext, accounts: Iterable[str] | None, holders: Collection[str]) -> bool:
    """Whether ``accounts`` (ids, ``self``, ``all``) name one of ``holders``; no accounts name everybody."""
    named = {context.account_id if one == "self" else one for one in accounts or ()}
    return not named or not named.isdisjoint(holders)


def known_users(context: RequestContext, place: Place, shared_with: Collection[str]) -> Collection[str]:
    """Whom the caller may know that a thing of ``place`` is shared with: its owner all, anybody else itself, and
    everybody."""
    return shared_with if place == context.place else {context.account_id, EVERYBODY}.intersection(shared_with)


def find_own_image(context: RequestContext, image_id: str) -> Image:
    """The caller's AMI. Raises ``NotFoundError``, and ``Ec2Error`` for one that is only shared with it."""
    (image,) = context.services.catalog.images.describe(context.place, [image_id], shared=True)
    if image.place != context.place:
        raise Ec2Error("AuthFailure", f"Not authorized for images: [{image_id}]")
    return image


def find_own_snapshot(context: RequestContext, snapshot_id: str) -> Snapshot:
    """The caller's snapshot. Raises ``NotFoundError``, and ``Ec2Error`` for one that is only shared with it."""
    (snapshot,) = context.services.catalog.snapshots.describe(context.place, [snapshot_id], shared=True)
    if snapshot.place != context.place:
        raise Ec2Error("AuthFailure", f"Not authorized for snapshots: [{snapshot_id}]")
    return snapshot

"""Whom a request shares an AMI or a snapshot with, in both of its spellings."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from vmferry.catalog.permissions import EVERYBODY
from vmferry.ec2.choices import choose
from vmferry.ec2.errors import Ec2Error
from vmferry.errors import quote

_ACCOUNT = re.compile("[0-9]{12}", re.ASCII)


def read_permission_changes(request: Mapping[str, Any], member: str, groups: str) -> tuple[list[str], list[str]]:
    """The accounts to share with, and those to share with no longer: from ``member`` (``LaunchPermission``), or from
    the older ``OperationType`` with ``UserIds`` and ``groups`` (``UserGroups``). Raises ``Ec2Error``."""
    change: Mapping[str, Any] = request.get(member) or {}
    lists = {"add": _holders(change.get("Add", ())), "remove": _holders(change.get("Remove", ()))}
    users = [_check_account(one) for one in request.get("UserIds", ())]
    users += [_check_group(one) for one in request.get(groups, ())]
    if request.get("OperationType"):
        operation = choose(request["OperationType"], lists, "operationType")
        lists[operation] += users
        if any(accounts for name, accounts in lists.items() if name != operation):
            raise Ec2Error("InvalidParameterCombination", f"OperationType {operation} contradicts {member}.")
    elif not set(users) <= {one for accounts in lists.values() for one in accounts}:  # Packer says all twice
        raise Ec2Error("MissingParameter", "The request must contain the parameter operationType")
    if both := sorted(set(lists["add"]) & set(lists["remove"])):
        raise Ec2Error("InvalidParameterCombination", f"{both[0]} cannot be added and removed at once.")
    return lists["add"], lists["remove"]


def describe_permissions(holders: Iterable[str]) -> list[dict[str, str]]:
    """Whom something is shared with, as the API lists it."""
    return [{"Group": one} if one == EVERYBODY else {"UserId": one} for one in holders]


def unknown_attribute(name: str) -> Ec2Error:
    """What is answered for an attribute that does not exist, or cannot be treated so."""
    return Ec2Error(
        "InvalidParameterValue", f"Value ({quote(name)}) for parameter attribute is invalid. Unknown attribute."
    )


def _holders(items: Iterable[Mapping[str, Any]]) -> list[str]:
    found = []
    for item in items:
        group, account_id = item.get("Group"), item.get("UserId")
        if group:
            found.append(_check_group(group))
        if account_id or not group:
            found.append(_check_account(account_id or ""))
    return found


def _check_group(group: str) -> str:
    if group != EVERYBODY:
        raise Ec2Error(
            "InvalidAMIAttributeItemValue",
            f'Invalid attribute item value "{quote(group)}" for group item type. | The only group is {EVERYBODY}.',
        )
    return group


def _check_account(account_id: str) -> str:
    if not _ACCOUNT.fullmatch(account_id):
        raise Ec2Error(
            "InvalidAMIAttributeItemValue",
            f'Invalid attribute item value "{quote(account_id)}" for userId item type. | An account has 12 digits.',
        )
    return account_id

"""Whom a request shares an AMI or a snapshot with, in both of its spellings."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from vmferry.ec2.choices import choose
from vmferry.ec2.errors import Ec2Error
from vmferry.ec2.refusals import Refusal, all_but
from vmferry.errors import quote

_ACCOUNT = re.compile("[0-9]{12}", re.ASCII)
NOTHING_PUBLIC = "things are shared with accounts by their UserId only, and nothing is public"


def all_but_accounts(action: str, member: str) -> dict[str, str | Refusal]:
    """Refusals of whatever ``member`` of ``action`` can be shared with beside accounts."""
    return {
        path: why
        for change in ("Add", "Remove")
        for path, why in all_but(action, ("UserId",), NOTHING_PUBLIC, f"{member}.{change}").items()
    }


def read_permission_changes(request: Mapping[str, Any], member: str) -> tuple[list[str], list[str]]:
    """The accounts to share with, and those to share with no longer: from ``member`` (``LaunchPermission``), or from
    the older ``OperationType`` and ``UserIds``. Raises ``Ec2Error``."""
    change: Mapping[str, Any] = request.get(member) or {}
    lists = {"add": _accounts(change.get("Add", ())), "remove": _accounts(change.get("Remove", ()))}
    users = [_check_account(one) for one in request.get("UserIds", ())]
    if request.get("OperationType"):
        operation = choose(request["OperationType"], lists, "operationType")
        lists[operation] += users
        if any(accounts for name, accounts in lists.items() if name != operation):
            raise Ec2Error("InvalidParameterCombination", f"OperationType {operation} contradicts {member}.")
    elif not set(users) <= {one for accounts in lists.values() for one in accounts}:  # Packer says all twice
        raise Ec2Error("MissingParameter", "The request must contain the parameter operationType")
    if both := sorted(set(lists["add"]) & set(lists["remove"])):
        raise Ec2Error("InvalidParameterCombination", f"The account {both[0]} cannot be added and removed at once.")
    return lists["add"], lists["remove"]


def unknown_attribute(name: str) -> Ec2Error:
    """What is answered for an attribute that does not exist, or cannot be treated so."""
    return Ec2Error(
        "InvalidParameterValue", f"Value ({quote(name)}) for parameter attribute is invalid. Unknown attribute."
    )


def _accounts(items: Iterable[Mapping[str, Any]]) -> list[str]:
    return [_check_account(item.get("UserId") or "") for item in items]


def _check_account(account_id: str) -> str:
    if not _ACCOUNT.fullmatch(account_id):
        raise Ec2Error(
            "InvalidAMIAttributeItemValue",
            f'Invalid attribute item value "{quote(account_id)}" for userId item type. | An account has 12 digits.',
        )
    return account_id

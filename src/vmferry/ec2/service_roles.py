"""The role that a task takes on, judged when it is asked for: imports and exports that could never read or write fail
at once, with the link that is broken.
"""

from __future__ import annotations

from collections.abc import Iterable

from vmferry.aws.service_role import DEFAULT_ROLE, BrokenLink, Need, Purpose, Role, find_broken_link
from vmferry.ec2.actions import RequestContext
from vmferry.ec2.errors import Ec2Error
from vmferry.errors import NotFoundError, quote


def check_role(context: RequestContext, name: str | None, purpose: Purpose, objects: Iterable[tuple[str, str]]) -> None:
    """Raise ``Ec2Error`` where the role (``vmimport`` unless it is named) may not do this to an object.

    ``objects`` are buckets and keys. AWS's sentence stands first, to the letter: Terraform repeats on it.
    """
    chosen = name or DEFAULT_ROLE
    role, shown = _role(context, chosen), quote(chosen)
    for bucket, key in objects:
        broken = find_broken_link(shown, role, Need(purpose, context.account_id, context.region, bucket, key))
        if broken is not None:
            raise role_error(chosen, f"{broken.reason}.{_remedy(broken)}")


def role_error(name: str | None, reason: str) -> Ec2Error:
    """What EC2 says of a role of which no use can be made, and why that is so."""
    shown = quote(name or DEFAULT_ROLE)
    sentence = f"The service role {shown} provided does not exist or does not have sufficient permissions"
    return Ec2Error("InvalidParameter", f"{sentence} | {reason}")


def _remedy(broken: BrokenLink) -> str:
    return f" To mend it: {'; '.join(broken.commands.splitlines())}" if broken.commands else ""


def _role(context: RequestContext, name: str) -> Role | None:
    """The role with the documents of all its policies; ``None`` where there is none."""
    catalog = context.services.catalog
    try:
        found = catalog.roles.get(context.account_id, name)
    except NotFoundError:
        return None
    attached = {arn: catalog.policies.get(context.account_id, arn).document for arn in found.attached}
    return Role(found.name, found.trust, {**found.policies, **attached})

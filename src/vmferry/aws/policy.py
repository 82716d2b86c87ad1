"""IAM's policy documents: read, checked in IAM's own order, and judged.

What is judged: Effect, Action, NotAction, Resource, NotResource, Principal, and the conditions that VM Import/Export
documents (``_OPERATORS`` on ``_KEYS``). A statement with any other condition is not guessed at: it makes a verdict
``UNCERTAIN``, and vmferry's own IAM refuses it (``Policy.unjudged``). Source: IAM User Guide, *JSON policy reference*.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from vmferry.aws.wildcards import wildcard_expression
from vmferry.errors import VmferryError, quote

_VERSIONS = ("2012-10-17", "2008-10-17")
_STATEMENT = frozenset(
    {"Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Principal", "NotPrincipal", "Condition"}
)
_ACTION = re.compile(r"[A-Za-z0-9-]+:[A-Za-z0-9*?]+")
_TRUST_ACTIONS = frozenset(
    {
        "sts:assumerole",
        "sts:assumerolewithsaml",
        "sts:assumerolewithwebidentity",
        "sts:setcontext",
        "sts:setsourceidentity",
        "sts:tagsession",
    }
)
_TRUST_SENTENCE = (
    "Trust Policy statement actions can only be sts:AssumeRole, sts:AssumeRoleWithSAML,  and "
    "sts:AssumeRoleWithWebIdentity"
)
_KEYS = frozenset({"sts:externalid", "aws:sourceaccount", "aws:sourcearn"})


class PolicyError(VmferryError):
    """A document that is no policy: ``str(error)`` is IAM's sentence, of its code ``MalformedPolicyDocument``."""

    client_fault = True


class Verdict(Enum):
    """What policies say of one action on one resource."""

    ALLOWED = "allowed"
    DENIED = "denied"
    """A statement denies it: no other can allow it."""
    NOT_ALLOWED = "not allowed"
    """No statement allows it."""
    UNCERTAIN = "uncertain"
    """It hangs on a condition that is not judged here."""


@dataclass(frozen=True, slots=True)
class Question:
    """May ``service`` (asked of trust policies alone) do ``action`` on ``resource``, in this ``context``?"""

    action: str
    resource: str | None = None
    service: str | None = None
    context: Mapping[str, str] | None = None
    """Condition keys in lower case → values."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement of a policy, as it was written."""

    sid: str | None
    allows: bool
    actions: tuple[str, ...]
    not_actions: tuple[str, ...]
    resources: tuple[str, ...]
    not_resources: tuple[str, ...]
    services: tuple[str, ...]
    """The service principals of a trust policy; ``*`` is anybody."""
    conditions: tuple[tuple[str, str, tuple[str, ...]], ...]
    """Operator, key and values; all must hold, each by one of its values."""

    def covers(self, question: Question) -> bool:
        """Whether it speaks of what is asked, its conditions aside."""
        if question.service is not None and not {"*", question.service} & set(self.services):
            return False
        if self.actions and not _any_matches(self.actions, question.action, fold=True):
            return False
        if self.not_actions and _any_matches(self.not_actions, question.action, fold=True):
            return False
        if question.resource is None:
            return True
        if self.resources:
            return _any_matches(self.resources, question.resource)
        return not _any_matches(self.not_resources, question.resource)

    def holds(self, context: Mapping[str, str]) -> bool | None:
        """Whether its conditions hold; ``None`` where one of them is not judged here."""
        if self.unjudged() is not None:
            return None
        return all(_condition_holds(operator, key, values, context) for operator, key, values in self.conditions)

    def unjudged(self) -> str | None:
        """The first condition that is not judged here, as a person reads it."""
        for operator, key, values in self.conditions:
            known = operator.lower() in _OPERATORS and key.lower() in _KEYS
            if not known or any("${" in value for value in values):
                return f"{operator} on {key}"
        return None


@dataclass(frozen=True, slots=True)
class Policy:
    """A document that was read."""

    statements: tuple[Statement, ...]

    def unjudged(self) -> str | None:
        """The first thing in it that cannot be judged here: a condition or a variable; ``None`` where all can."""
        for statement in self.statements:
            if (condition := statement.unjudged()) is not None:
                return f"the condition {condition}"
            for pattern in (*statement.resources, *statement.not_resources):
                if "${" in pattern:
                    return f"the variable in {pattern}"
        return None


def judge(policies: Iterable[Policy], question: Question) -> Verdict:
    """What ``policies`` together say: a denial counts more than any permission."""
    found = Verdict.NOT_ALLOWED
    for statement in (statement for policy in policies for statement in policy.statements):
        if not statement.covers(question):
            continue
        holds = statement.holds(question.context or {})
        if holds is None:
            found = Verdict.UNCERTAIN
        elif holds and not statement.allows:
            return Verdict.DENIED
        elif holds and found is Verdict.NOT_ALLOWED:
            found = Verdict.ALLOWED
    return found


def parse_policy(text: str, *, trust: bool = False) -> Policy:
    """The policy in ``text``: a role's trust policy (``trust``), or one that gives permissions.

    Raises ``PolicyError`` with the sentence of IAM's first check that fails.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PolicyError("Syntax errors in policy.") from error
    if not isinstance(document, dict) or not document.keys() <= {"Version", "Id", "Statement"}:
        raise PolicyError("Syntax errors in policy.")
    given = document.get("Statement")
    statements = [given] if isinstance(given, dict) else given
    if not isinstance(statements, list) or not statements or not all(isinstance(one, dict) for one in statements):
        raise PolicyError("Syntax errors in policy.")
    if document.get("Version", _VERSIONS[1]) not in (_VERSIONS if trust else _VERSIONS[:1]):
        raise PolicyError("Policy document must be version 2012-10-17 or greater.")
    read = tuple(_statement(one, trust=trust) for one in statements)
    sids = [one.sid for one in read if one.sid]
    if len(set(sids)) != len(sids):
        raise PolicyError("Statement IDs (SID) in a single policy must be unique.")
    return Policy(read)


def _statement(given: Mapping[str, Any], *, trust: bool) -> Statement:
    effect, sid = given.get("Effect"), given.get("Sid")
    if not given.keys() <= _STATEMENT or effect not in ("Allow", "Deny") or not isinstance(sid, str | None):
        raise PolicyError("Syntax errors in policy.")
    for one, other in (("Action", "NotAction"), ("Resource", "NotResource"), ("Principal", "NotPrincipal")):
        if one in given and other in given:
            raise PolicyError("Syntax errors in policy.")
    statement = Statement(
        sid=sid,
        allows=effect == "Allow",
        actions=_texts(given.get("Action")),
        not_actions=_texts(given.get("NotAction")),
        resources=_texts(given.get("Resource")),
        not_resources=_texts(given.get("NotResource")),
        services=_services(given.get("Principal")),
        conditions=_conditions(given.get("Condition")),
    )
    _check_actions(statement)
    (_check_trust if trust else _check_permission)(statement, given)
    return statement


def _check_actions(statement: Statement) -> None:
    actions = (*statement.actions, *statement.not_actions)
    if not actions:
        raise PolicyError("Policy statement must contain actions.")
    for action in actions:
        if ":" not in action and action != "*":
            raise PolicyError("Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc.")
        if action != "*" and not _ACTION.fullmatch(action):
            raise PolicyError(f"Vendor {quote(action.partition(':')[0])} is not valid")


def _check_trust(statement: Statement, given: Mapping[str, Any]) -> None:
    for prohibited in ("Resource", "NotResource"):
        if prohibited in given:
            raise PolicyError(f"Has prohibited field {prohibited}.")
    if statement.not_actions or not {action.lower() for action in statement.actions} <= _TRUST_ACTIONS:
        raise PolicyError(_TRUST_SENTENCE)
    if "Principal" not in given:
        raise PolicyError("Missing required field Principal")


def _check_permission(statement: Statement, given: Mapping[str, Any]) -> None:
    for prohibited in ("Principal", "NotPrincipal"):
        if prohibited in given:
            raise PolicyError("Policy document should not specify a principal.")
    resources = (*statement.resources, *statement.not_resources)
    if not resources:
        raise PolicyError("Policy statement must contain resources.")
    if not all(resource == "*" or re.match(r"arn:[^:]*:[^:]+:", resource) for resource in resources):
        raise PolicyError("The policy failed legacy parsing")


def _texts(given: Any) -> tuple[str, ...]:
    values = [] if given is None else [given] if isinstance(given, str) else given
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise PolicyError("Syntax errors in policy.")
    return tuple(values)


def _services(given: Any) -> tuple[str, ...]:
    """The service principals; others (accounts, identity providers) are read and never match a service."""
    if given is None or given == "*":
        return () if given is None else ("*",)
    if not isinstance(given, dict) or not given.keys() <= {"AWS", "Service", "Federated", "CanonicalUser"}:
        raise PolicyError("Syntax errors in policy.")
    named = {kind: _texts(values) for kind, values in given.items()}
    anybody = ("*",) if "*" in named.get("AWS", ()) else ()
    return named.get("Service", ()) + anybody


def _conditions(given: Any) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
    if given is None:
        return ()
    if not isinstance(given, dict) or not all(isinstance(keys, dict) for keys in given.values()):
        raise PolicyError("Syntax errors in policy.")
    return tuple(
        (operator, key, _condition_values(values)) for operator, keys in given.items() for key, values in keys.items()
    )


def _condition_values(given: Any) -> tuple[str, ...]:
    """The values of a condition; numbers and booleans may stand without quotes there."""
    values = given if isinstance(given, list) else [given]
    if not all(isinstance(value, str | int | float | bool) for value in values):
        raise PolicyError("Syntax errors in policy.")
    return tuple(value if isinstance(value, str) else json.dumps(value) for value in values)


def _any_matches(patterns: Iterable[str], text: str, *, fold: bool = False) -> bool:
    return any(_matches(pattern, text, fold=fold) for pattern in patterns)


def _matches(pattern: str, text: str, *, fold: bool = False) -> bool:
    """Whether ``text`` is what ``pattern`` says. Actions are compared without case (``fold``), resources with it."""
    if fold:
        pattern, text = pattern.lower(), text.lower()
    escaped = pattern.replace("\\", "\\\\")  # in policies a backslash means itself
    return re.fullmatch(wildcard_expression(escaped), text, re.DOTALL) is not None


def _condition_holds(operator: str, key: str, values: Iterable[str], context: Mapping[str, str]) -> bool:
    compare, wanted = _OPERATORS[operator.lower()]
    value = context.get(key.lower())
    if value is None:
        return not wanted
    return any(compare(pattern, value) for pattern in values) is wanted


_EQUAL: Callable[[str, str], bool] = str.__eq__
_LIKE: Callable[[str, str], bool] = _matches
_OPERATORS: Mapping[str, tuple[Callable[[str, str], bool], bool]] = {
    "stringequals": (_EQUAL, True),
    "stringnotequals": (_EQUAL, False),
    "stringlike": (_LIKE, True),
    "stringnotlike": (_LIKE, False),
    "arnequals": (_LIKE, True),
    "arnnotequals": (_LIKE, False),
    "arnlike": (_LIKE, True),
    "arnnotlike": (_LIKE, False),
}
"""Operator in lower case → how a value is compared with what was written, and whether that must be so."""

"""NOUN Finding: one thing about a guest that its owner should know before it is imported; and Rule, which finds it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum, IntEnum

from vmferry.errors import quote
from vmferry.guest.evidence import Evidence


class Severity(IntEnum):
    """What follows from a finding."""

    NOTE = 0
    """Nothing has to be done."""
    SHOULD_MEND = 1
    """It starts, but something is lost or slow."""
    WILL_NOT_BOOT = 2
    """It will not start as it is."""
    STOPS = 3
    """The import is refused."""

    @property
    def words(self) -> str:
        """As it is printed."""
        return self.name.lower().replace("_", " ")


class RuleSet(Enum):
    """Whose requirements are meant."""

    AWS = "aws"
    """All that EC2's VM Import states."""
    VMFERRY = "vmferry"
    """What a machine needs to start on our own compute."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one rule found."""

    id: str
    severity: Severity
    subject: str
    """Where it was seen: ``disk 1, partition 2``, ``/etc/fstab``, ``the machine``."""
    fact: str
    """What was seen: a sentence."""
    remedy: str
    """What to do, best a command to type on the guest: a sentence. Empty for a note that asks for nothing."""
    message: str | None = None
    """EC2's own sentence for it, where it is known."""

    @property
    def sentence(self) -> str:
        """Fact and remedy in one line."""
        return f"{self.subject}: {self.fact}" + (f" {self.remedy}" if self.remedy else "")

    @property
    def status_message(self) -> str:
        """As a task's StatusMessage has it: EC2's words first, for scripts look for them, ours behind."""
        return f"ClientError: {self.message} | {self.sentence}" if self.message else f"ClientError: {self.sentence}"


@dataclass(frozen=True, slots=True)
class Seen:
    """One place where a rule applies."""

    subject: str
    fact: str
    remedy: str | None = None
    """Instead of the rule's, where it depends on what was seen."""


@dataclass(frozen=True, slots=True)
class Rule:
    """How one kind of finding is found."""

    id: str
    title: str
    """What it is about, half a sentence, for the documentation."""
    check: Callable[[Evidence], Iterable[Seen]]
    severities: Mapping[RuleSet, Severity]
    remedy: str
    """A sentence; empty where nothing has to be done."""
    message: str | None = None
    unless: tuple[str, ...] = ()
    """Rules whose findings explain this one: it is left out where one of them applies. One cause, one message."""

    def apply(self, evidence: Evidence, rule_set: RuleSet) -> Iterator[Finding]:
        """The findings about ``evidence``, none where ``rule_set`` does not know the rule."""
        severity = self.severities.get(rule_set)
        if severity is None:
            return
        for seen in self.check(evidence):
            remedy = self.remedy if seen.remedy is None else seen.remedy
            message = self.message if rule_set is RuleSet.AWS or severity is Severity.STOPS else None
            yield Finding(self.id, severity, quote(seen.subject), seen.fact, remedy, message)


@dataclass(slots=True)
class RuleTable:
    """The rules of one subject, in the order in which they are looked at."""

    rules: list[Rule] = field(default_factory=list)

    def rule(
        self,
        id: str,  # noqa: A002  (a rule's id is called that everywhere)
        title: str,
        *,
        aws: Severity | None = None,
        vmferry: Severity | None = None,
        remedy: str = "",
        message: str | None = None,
        unless: tuple[str, ...] = (),
    ) -> Callable[[Callable[[Evidence], Iterable[Seen]]], Callable[[Evidence], Iterable[Seen]]]:
        """Decorate a check: what it yields are findings of the rule ``id``, of that severity in each rule set."""
        given = {RuleSet.AWS: aws, RuleSet.VMFERRY: vmferry}
        severities = {rule_set: severity for rule_set, severity in given.items() if severity is not None}

        def add(check: Callable[[Evidence], Iterable[Seen]]) -> Callable[[Evidence], Iterable[Seen]]:
            self.rules.append(Rule(id, title, check, severities, remedy, message, unless))
            return check

        return add

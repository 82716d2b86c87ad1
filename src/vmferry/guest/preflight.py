"""The verdict on a machine before it is imported: ``judge`` looks through the table of rules."""

from __future__ import annotations

from dataclasses import dataclass

from vmferry.guest.evidence import Evidence
from vmferry.guest.findings import Finding, RuleSet, Severity
from vmferry.guest.rules import rules


@dataclass(frozen=True, slots=True)
class Verdict:
    """What preflight says of a machine."""

    rule_set: RuleSet
    findings: tuple[Finding, ...]
    """The gravest first."""

    @property
    def severity(self) -> Severity | None:
        """Of the gravest finding; ``None`` where nothing was found."""
        return self.findings[0].severity if self.findings else None

    @property
    def stops(self) -> Finding | None:
        """Why the import is refused, if it is."""
        return self.findings[0] if self.severity is Severity.STOPS else None


def judge(evidence: Evidence, rule_set: RuleSet) -> Verdict:
    """What ``rule_set`` finds in ``evidence``: one finding a cause, the gravest first. Reads nothing, never raises."""
    found = {rule.id: list(rule.apply(evidence, rule_set)) for rule in rules()}
    left = [finding for rule in rules() if not any(found[cause] for cause in rule.unless) for finding in found[rule.id]]
    return Verdict(rule_set, tuple(sorted(left, key=lambda finding: -finding.severity)))

#!/usr/bin/env python3
"""Write the tables of docs/preflight.md from the table of rules; with --check say whether they are true."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from made_pages import fill, page, row, run
from vmferry.guest.findings import Rule, RuleSet, RuleTable
from vmferry.guest.rules import contents, disks, hardware, linux_boot, linux_system, windows

_SUBJECTS: dict[str, RuleTable] = {
    "Partition tables and boot code": disks.RULES,
    "What stands in the partitions": contents.RULES,
    "What a Linux needs to start": linux_boot.RULES,
    "A Linux that starts": linux_system.RULES,
    "Windows": windows.RULES,
    "The machine": hardware.RULES,
}


def _tables() -> Iterator[str]:
    for subject, table in _SUBJECTS.items():
        yield from (
            "",
            f"### {subject}",
            "",
            "| finding | what | for EC2 | for vmferry | EC2's words | remedy |",
            "|---|---|---|---|---|---|",
        )
        for rule in table.rules:
            yield row(
                f"`{rule.id}`",
                rule.title,
                _severity(rule, RuleSet.AWS),
                _severity(rule, RuleSet.VMFERRY),
                rule.message or "",
                rule.remedy or ("" if _is_note(rule) else "*by the distribution: it is printed*"),
            )
    yield ""


def _severity(rule: Rule, rule_set: RuleSet) -> str:
    severity = rule.severities.get(rule_set)
    return "—" if severity is None else severity.words


def _is_note(rule: Rule) -> bool:
    return all(severity == 0 for severity in rule.severities.values())


if __name__ == "__main__":
    sys.exit(run(page("preflight.md"), lambda text: fill(text, {"findings": _tables()})))

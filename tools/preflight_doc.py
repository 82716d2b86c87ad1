#!/usr/bin/env python3
"""Write the tables of docs/preflight.md from the table of rules; with --check say whether they are true."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from vmferry.guest.findings import Rule, RuleSet, RuleTable
from vmferry.guest.rules import contents, disks, hardware, linux_boot, linux_system, windows

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "preflight.md"
_BEGIN, _END = "<!-- begin findings -->\n", "<!-- end findings -->"
_SUBJECTS: dict[str, RuleTable] = {
    "Partition tables and boot code": disks.RULES,
    "What stands in the partitions": contents.RULES,
    "What a Linux needs to start": linux_boot.RULES,
    "A Linux that starts": linux_system.RULES,
    "Windows": windows.RULES,
    "The machine": hardware.RULES,
}


def main() -> int:
    """Answers the exit code: 1 when ``--check`` finds the document out of date."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="change nothing; fail when something would change")
    options = parser.parse_args()
    before = DOCUMENT.read_text(encoding="utf-8")
    after = fill(before)
    if options.check:
        if before != after:
            print("docs/preflight.md is out of date: run tools/preflight_doc.py", file=sys.stderr)
        return int(before != after)
    DOCUMENT.write_text(after, encoding="utf-8")
    return 0


def fill(document: str) -> str:
    """``document`` with its made part made anew. Raises ``ValueError`` when that has no place in it."""
    before, begin, rest = document.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError("docs/preflight.md has no place for the findings")
    return before + begin + "".join(f"{line}\n" for line in _tables()) + end + after


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
            cells = (f"`{rule.id}`", rule.title, _severity(rule, RuleSet.AWS), _severity(rule, RuleSet.VMFERRY))
            words = (
                rule.message or "",
                rule.remedy or ("" if _is_note(rule) else "*by the distribution: it is printed*"),
            )
            yield "| " + " | ".join(cell.replace("|", "\\|") for cell in (*cells, *words)) + " |"
    yield ""


def _severity(rule: Rule, rule_set: RuleSet) -> str:
    severity = rule.severities.get(rule_set)
    return "—" if severity is None else severity.words


def _is_note(rule: Rule) -> bool:
    return all(severity == 0 for severity in rule.severities.values())


if __name__ == "__main__":
    sys.exit(main())

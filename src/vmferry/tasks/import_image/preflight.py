"""Preflight of an import: what is in the disks, found and judged before a byte is copied."""

from __future__ import annotations

from vmferry.catalog.import_tasks import IMPORT_IMAGE, ImportFinding, ImportTask
from vmferry.errors import GuestError
from vmferry.guest import find_boot_facts, look
from vmferry.guest.evidence import DiskEvidence, Evidence
from vmferry.guest.findings import Finding, RuleSet
from vmferry.guest.preflight import judge
from vmferry.tasks.import_image.source import Source

OFF = "off"
"""The configuration's word for imports that are not judged; what is in the disks is looked at all the same."""


def gather_evidence(task: ImportTask, source: Source) -> Evidence:
    """What ``source`` shows: the tables of its disks, and, where a machine is made of them, the system on them.

    Raises ``StoreError`` and ``UnsafeDiskError`` of reading.
    """
    disks = [opened.disk for opened in source.disks]
    known = [DiskEvidence(disk.size, find_boot_facts(disk)) for disk in disks]
    if not _makes_machine(task):
        return Evidence(known, machine=source.machine)
    return Evidence(known, look(disks), source.machine)


def find_faults(task: ImportTask, evidence: Evidence, rules: str) -> tuple[ImportFinding, ...]:
    """What ``rules``, one of ``RuleSet`` or ``off``, have against the machine. Raises ``GuestError`` for what "
    "stops it."""
    if rules == OFF or not _makes_machine(task):
        return ()
    verdict = judge(evidence, RuleSet(rules))
    if verdict.stops is not None:
        raise GuestError(verdict.stops.sentence, ec2_words=verdict.stops.message)
    return tuple(map(_recorded, verdict.findings))


def _makes_machine(task: ImportTask) -> bool:
    return task.kind == IMPORT_IMAGE or task.request.instance_id is not None


def _recorded(finding: Finding) -> ImportFinding:
    return ImportFinding(finding.id, finding.severity.words, finding.sentence)

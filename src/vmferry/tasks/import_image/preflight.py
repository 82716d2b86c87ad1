"""Preflight of an import: what is in the disks, found and judged before a byte is copied."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from vmferry.catalog.import_tasks import IMPORT_IMAGE, ImportFinding, ImportTask
from vmferry.errors import GuestError
from vmferry.guest import Looker, SpareLooker, find_boot_facts, look
from vmferry.guest.evidence import DiskEvidence, Evidence
from vmferry.guest.findings import Finding, RuleSet
from vmferry.guest.preflight import judge
from vmferry.tasks.import_image.source import Source

OFF = "off"
"""The configuration's word for imports that are not judged; what is in the disks is looked at all the same."""


@contextmanager
def ready_to_look(task: ImportTask, spare: SpareLooker | None = None) -> Iterator[Looker | None]:
    """What will look into the disks of ``task``, once they are open, where a machine is made of them: of ``spare``,
    where that is given."""
    if not _makes_machine(task):
        yield None
        return
    with Looker() if spare is None else spare.take() as looker:
        yield looker


def gather_evidence(task: ImportTask, source: Source, looker: Looker | None = None) -> Evidence:
    """What ``source`` shows: the tables of its disks, and, where a machine is made of them, the system on them.

    ``looker`` waits for that; else one is started.
    Raises ``StoreError`` and ``UnsafeDiskError`` of reading.
    """
    disks = [opened.disk for opened in source.disks]
    known = [DiskEvidence(disk.size, find_boot_facts(disk)) for disk in disks]
    if not _makes_machine(task):
        return Evidence(known, machine=source.machine)
    return Evidence(known, looker.look(disks) if looker is not None else look(disks), source.machine)


def find_faults(task: ImportTask, evidence: Evidence, rules: str) -> tuple[ImportFinding, ...]:
    """What ``rules``, one of ``RuleSet`` or ``off``, have against the machine.

    Raises ``GuestError`` for what stops it.
    """
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

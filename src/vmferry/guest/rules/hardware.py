"""Rules about what the machine was made of, as its descriptor says."""

from __future__ import annotations

from collections.abc import Iterator

from vmferry.guest.evidence import Evidence
from vmferry.guest.findings import RuleTable, Seen, Severity

RULES = RuleTable()


@RULES.rule(
    "several-network-cards",
    "the machine has several network cards",
    aws=Severity.SHOULD_MEND,
    remedy="EC2's import keeps one, with DHCP; attach others afterwards.",
)
def several_network_cards(evidence: Evidence) -> Iterator[Seen]:
    if evidence.machine is not None and len(evidence.machine.interfaces) > 1:
        yield Seen("the machine", f"It has {len(evidence.machine.interfaces)} network cards.")


@RULES.rule(
    "sr-iov",
    "a network card is a virtual function of a physical one",
    aws=Severity.SHOULD_MEND,
    vmferry=Severity.SHOULD_MEND,
    remedy="Give the machine a common card before the export; on EC2 only Windows Server 2012 R2 may have one.",
)
def sr_iov(evidence: Evidence) -> Iterator[Seen]:
    for interface in evidence.machine.interfaces if evidence.machine else ():
        if interface.model is not None and "sriov" in interface.model.lower().replace("-", ""):
            yield Seen("the machine", "It has a network card by SR-IOV.")

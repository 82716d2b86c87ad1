"""The boot check of an import: the disks that were made are started before there is an AMI, where that is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack

from vmferry import formats, own_tags
from vmferry.catalog.import_tasks import ImportTask
from vmferry.errors import GuestError
from vmferry.guest import find_boot_facts, look
from vmferry.guest.boot_check import BootOutcome, check_boot, choose_hardware
from vmferry.guest.evidence import DiskEvidence, Evidence
from vmferry.tasks import Services
from vmferry.tasks.import_image import evidence
from vmferry.tasks.import_image.choices import is_chosen
from vmferry.tasks.import_image.preparing import is_another_program_s

_FAILURE = "FirstBootFailure: This import request failed because the instance failed to boot"


UNKNOWN = f"Whether the guest starts is not known: it was not started, as {own_tags.BOOT_CHECK}=none says."


def is_declined(services: Services, task: ImportTask) -> bool:
    """Whether the machine of ``task`` is not started, though another program has prepared its guest."""
    return is_another_program_s(task.facts) and not is_wanted(services, task)


def is_wanted(services: Services, task: ImportTask) -> bool:
    """Whether the machine of ``task`` is to be started: the request says so, or the configuration where it does not, or
    another program has prepared its guest."""
    unsaid = own_tags.AUTO if is_another_program_s(task.facts) else services.config.boot_check
    return is_chosen(services, task, own_tags.BOOT_CHECK, unsaid)


def start_machine(services: Services, task: ImportTask, watching: Callable[[], None]) -> BootOutcome:
    """Start the disks of ``task`` on the hardware that suits them, and keep what was seen.

    ``watching`` is called again and again meanwhile; what it raises ends the machine. Raises ``GuestError`` when it
    does not start, ``ConfigError`` and ``ComputeError`` as ``check_boot``.
    """
    with ExitStack() as opened:
        disks = []
        for found in task.facts.disks:
            blob = services.images.open(task.place.region, f"{task.place.account_id}/{found.snapshot_id}.qcow2")
            opened.callback(blob.close)
            disks.append(formats.open_disk(blob, formats.FORMATS["qcow2"]))
        known = [DiskEvidence(disk.size, find_boot_facts(disk)) for disk in disks]
        hardware = choose_hardware(Evidence(known, look(disks)))
        outcome = check_boot(disks, hardware, seconds=services.config.boot_seconds, watching=watching)
    tags = evidence.keep(services, task, outcome)
    if not outcome.booted:
        said = f" It said last: {' / '.join(outcome.last_lines[-3:])}" if outcome.last_lines else ""
        where = f"on {hardware.firmware.value}, a disk by {hardware.bus}"
        raise GuestError(
            f"{outcome.why} It was started {where}, and reached: {outcome.reached.words}.{said} "
            f"All of it, with its screen: vmferry tasks show {task.id} --evidence DIR{_objects(tags)}.",
            ec2_words=_FAILURE,
        )
    return outcome


def _objects(tags: Mapping[str, str]) -> str:
    """Where any S3 client gets the evidence."""
    places = sorted({place.rpartition("/")[0] for place in tags.values()})
    return "".join(f", or aws s3 cp --recursive {place} DIR" for place in places)

"""The table of rules: each finds what it is for, names it well, and says nothing of a sound machine."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from tests.guest import evidences as made
from tests.guest.evidences import beside, disk, kernel, linux, volume, windows, without_system
from vmferry.guest.evidence import Evidence
from vmferry.guest.facts import SystemFacts, VolumeFacts
from vmferry.guest.findings import RuleSet, Severity
from vmferry.guest.linux.facts import InterfaceFacts, MountFacts
from vmferry.guest.preflight import judge
from vmferry.guest.rules import rules
from vmferry.guest.windows.facts import DriverFacts
from vmferry.machine import Firmware, Machine, NetworkInterface
from vmferry.units import GIB, MIB, TIB

UEFI = (Firmware.UEFI,)


def machine(**changes: object) -> Evidence:
    return replace(linux(), machine=replace(Machine("web"), **changes))  # type: ignore[arg-type]


BROKEN: list[tuple[str, Evidence, str]] = [
    ("disk-sectors-4k", disk(sure=0, faults=("the GPT is that of a disk with sectors of 4,096 bytes",)), "4,096"),
    ("partition-table-damaged", disk(sure=0, faults=("the GPT header's checksum is wrong",)), "checksum"),
    ("no-partition-table", replace(disk(sure=0, scheme=None), guest=without_system().guest), "No partition table"),
    ("no-boot-loader", disk(sure=0), "No disk shows how it boots.*grub-install"),
    ("no-boot-loader", replace(windows(), disks=disk(sure=0).disks), "No disk shows how it boots.*bootrec /fixmbr"),
    ("mbr-over-2tib", disk(size=3 * TIB), "3 TiB.*sgdisk -g"),
    ("mbr-over-2tib", replace(windows(), disks=disk(size=3 * TIB).disks), "3 TiB.*mbr2gpt"),
    ("firmware-differs", machine(firmware=Firmware.UEFI), "uefi"),
    ("encrypted-linux", without_system(VolumeFacts("disk 1, partition 2", 1, kind="luks2")), "LUKS2"),
    ("encrypted-windows", without_system(VolumeFacts("disk 1, partition 2", 1, kind="bitlocker")), "-FVE-FS-"),
    ("dynamic-disk", without_system(VolumeFacts("disk 1", 1, kind="ldm")), "LDM"),
    ("storage-spaces", without_system(VolumeFacts("disk 1", 1, kind="storage-spaces")), "Storage Spaces"),
    ("software-raid", without_system(VolumeFacts("disk 1", 1, kind="raid")), "RAID"),
    (
        "lvm-incomplete",
        without_system(VolumeFacts("disk 1", 1, kind="lvm", problem="physical volume 2 of 2 of vg0 is missing")),
        "2 of 2",
    ),
    ("file-system-unreadable", volume(problem="the superblock is damaged"), "superblock"),
    ("no-system", without_system(VolumeFacts("disk 1, partition 1", 1, kind="xfs", label="data")), "xfs “data”"),
    ("system-of-another-kind", made.system(SystemFacts(made.ROOT, other="FreeBSD")), "FreeBSD"),
    (
        "several-systems",
        replace(
            linux(),
            guest=replace(
                linux().guest,
                systems=(
                    replace(linux().guest.systems[0], chosen_by="the boot loader names it"),
                    SystemFacts("disk 2, partition 1"),
                ),
            ),
        ),
        r"the boot loader names it\); others are on disk 2, partition 1",
    ),
    ("linux-hibernated", linux(hibernated=("/swap.img",)), "/swap.img: It holds the memory of the system"),
    ("not-shut-down-linux", volume(dirty=True), "in use"),
    ("unclean-ntfs", beside(kind="ntfs", dirty=True), "NTFS"),
    ("look-ended-early", without_system(made.VOLUME, problems=("64 MiB were read",)), "64 MiB"),
    ("wrong-architecture", linux(architecture="aarch64"), "aarch64"),
    ("linux-32-bit", linux(architecture="i386"), "32-bit"),
    ("no-kernel", linux(kernels=()), "apt-get install linux-image-amd64"),
    ("kernel-missing", linux(missing_kernel="/vmlinuz-5.10.0-8-amd64"), "loads /vmlinuz-5.10.0-8-amd64"),
    ("keys-stay-behind", linux(crypttab_keys=("tpm2",)), "opened by tpm2"),
    ("lvm-filter", linux(lvm_filters=("a|^/dev/sda|",)), "filter is a"),
    ("multipath", linux(multipath=True), "multipathd"),
    ("xen-kernel-only", kernel(xen_only=True), "Xen"),
    ("initramfs-unreadable", kernel(in_initramfs=(), initramfs_problem="it ends early"), "update-initramfs -u -k 6.1"),
    (
        "initramfs-too-large",
        kernel(in_initramfs=(), initramfs_partly=True, initramfs_problem="only 43 MiB of its 105 MiB were looked at"),
        "43 MiB of its 105 MiB",
    ),
    ("no-disk-driver", kernel(in_initramfs=("e1000",)), r"virtio_pci\\nvirtio_blk\\nvirtio_scsi\\n"),
    ("no-virtio-driver", kernel(in_initramfs=("ahci", "nvme")), "ahci, nvme, not by virtio"),
    ("no-nvme-driver", kernel(in_initramfs=("virtio_blk", "virtio_pci")), "has no nvme"),
    ("no-boot-configuration", linux(boot_loader=None), "update-grub"),
    ("default-kernel-guessed", linux(default_guessed=True), "6.1.0-28-amd64"),
    ("no-uefi-fallback", disk(firmwares=UEFI), "grub-install --target=x86_64-efi"),
    ("root-by-device-name", linux(command_line="root=/dev/sda2 ro"), "root=/dev/sda2"),
    ("fstab-unreadable", linux(mounts=()), "missing"),
    (
        "fstab-device-name",
        linux(mounts=(MountFacts("/dev/sda2", "/", "ext4", (), made.ROOT),)),
        "/dev/sda2 is mounted at /",
    ),
    (
        "fstab-missing-device",
        linux(mounts=(*made.LINUX.mounts, MountFacts("/dev/sdb1", "/data", "ext4"))),
        "/dev/sdb1, mounted at /data",
    ),
    ("fstab-foreign-mount", linux(mounts=(*made.LINUX.mounts, MountFacts("//nas/x", "/x", "cifs"))), "//nas/x"),
    ("lvm-devices-file", linux(lvm_devices_file=True), "old hypervisor"),
    ("little-room", volume(free=5 * MIB), "5 MiB are free there; 100 MiB"),
    ("little-room-for-ec2", volume(free=200 * MIB), "200 MiB are free; 250 MiB"),
    ("no-inodes-left", volume(free_inodes=3), "3 inodes"),
    ("no-network-driver", kernel(as_module=()), "virtio_net"),
    ("interface-names-pinned", linux(persistent_names=("/etc/udev/rules.d/70-persistent-net.rules",)), "udev/rules.d"),
    ("interface-by-name", linux(interfaces=(InterfaceFacts("ens192", "/etc/netplan/50.yaml", "dhcp"),)), "ens192"),
    (
        "static-address",
        linux(interfaces=(InterfaceFacts("eth0", "/etc/network/interfaces", "static", ("10.0.0.5/24",)),)),
        "10.0.0.5/24",
    ),
    ("no-dhcp", linux(interfaces=()), "No configuration of a network interface"),
    ("no-ssh", linux(ssh=None), "No SSH server is installed"),
    ("firewall", linux(firewall=("ufw",)), "ufw"),
    ("subscription", linux(subscription="rhel"), "rhel"),
    ("cloud-init", linux(cloud_init="enabled"), "cloud-init"),
    ("hypervisor-tools", linux(tools=("open-vm-tools",)), "open-vm-tools"),
    ("encrypted-volumes-listed", linux(crypttab=("UUID=77",)), "UUID=77"),
    ("not-all-was-read", linux(problems=("grub.cfg has 5 MiB",)), "grub.cfg"),
    ("windows-hibernated", windows(hibernated=True), "powercfg /h off"),
    ("windows-no-boot-driver", windows(boot_drivers=("pvscsi",)), "only pvscsi"),
    (
        "windows-root-elsewhere",
        windows(boot_config="/Boot/BCD", root_named="disk 1234abcd, byte 1048576"),
        "/Boot/BCD: The boot configuration starts disk 1234abcd",
    ),
    ("windows-old-signatures", windows(sha2_drivers=False), "KB4474419"),
    ("windows-device-restrictions", windows(device_restrictions=True), "DeviceInstall"),
    (
        "windows-offline-disks",
        replace(windows(san_policy="offline-shared"), disks=(made.DISK, made.DISK)),
        "offline-shared",
    ),
    ("windows-leftovers", windows(leftovers=("guestor",)), "guestor.inf"),
    ("windows-setup-unfinished", windows(setup_unfinished=True), "OOBEInProgress"),
    ("windows-no-net-framework", windows(net_framework=("2.0",)), "No .NET Framework from 3.5"),
    ("windows-no-virtio-driver", windows(boot_drivers=("storahci",)), "is installed, but does not start at boot"),
    ("windows-pending-restart", windows(pending=("updates",)), "updates"),
    ("windows-no-remote-desktop", windows(remote_desktop=False), "fDenyTSConnections"),
    ("windows-firewall", windows(firewall=("public",)), "public"),
    ("windows-protection", windows(protection=("Sophos",)), "Sophos"),
    (
        "windows-little-room",
        made.system(SystemFacts(made.ROOT, windows=made.WINDOWS), replace(made.VOLUME, kind="ntfs", free=MIB)),
        "1 MiB are free; 100 MiB",
    ),
    (
        "windows-little-room-for-ec2",
        made.system(SystemFacts(made.ROOT, windows=made.WINDOWS), replace(made.VOLUME, kind="ntfs", free=GIB)),
        "1 GiB are free; 6 GiB",
    ),
    ("windows-static-address", windows(static_addresses=("10.1.1.1",)), "10.1.1.1"),
    ("windows-sysprep", windows(sysprep="IMAGE_STATE_GENERALIZE_RESEAL_TO_OOBE"), "RESEAL_TO_OOBE"),
    ("windows-auto-logon", windows(auto_logon=True), "AutoAdminLogon"),
    ("windows-client-licence", windows(kind="Client"), "BYOL"),
    ("windows-client-language", windows(kind="Client", languages=("de-DE",)), "de-DE"),
    ("windows-activation", windows(activation="oem"), "oem"),
    ("several-network-cards", machine(interfaces=(NetworkInterface(), NetworkInterface())), "2 network cards"),
    ("sr-iov", machine(interfaces=(NetworkInterface(model="VirtualSriovEthernetCard"),)), "SR-IOV"),
]


@pytest.mark.parametrize(("rule_id", "evidence", "words"), BROKEN, ids=[case[0] for case in BROKEN])
def test_a_broken_machine_is_found_with_the_right_id(rule_id: str, evidence: Evidence, words: str) -> None:
    known = next(rule.severities for rule in rules() if rule.id == rule_id)
    assert known
    for rule_set, severity in known.items():
        found = [finding for finding in judge(evidence, rule_set).findings if finding.id == rule_id]
        assert found, judge(evidence, rule_set).findings
        assert found[0].severity is severity
        assert re.search(words, found[0].sentence), found[0].sentence


@pytest.mark.parametrize("rule_set", list(RuleSet))
@pytest.mark.parametrize("evidence", [linux(), windows()], ids=["linux", "windows"])
def test_a_sound_machine_has_no_findings(evidence: Evidence, rule_set: RuleSet) -> None:
    assert judge(evidence, rule_set).findings == ()
    assert judge(evidence, rule_set).severity is None


def test_every_rule_has_a_broken_machine() -> None:
    assert {rule.id for rule in rules()} == {case[0] for case in BROKEN}


def test_ids_are_unique_and_causes_exist() -> None:
    ids = [rule.id for rule in rules()]
    assert len(ids) == len(set(ids))
    assert {cause for rule in rules() for cause in rule.unless} <= set(ids)


def test_every_sentence_is_one_line_that_ends() -> None:
    for rule_set in RuleSet:
        for _, evidence, _ in BROKEN:
            for finding in judge(evidence, rule_set).findings:
                assert "\n" not in finding.sentence
                assert finding.severity is Severity.NOTE or finding.remedy, f"{finding.id} says nothing to do"
                assert finding.remedy == "" or finding.remedy.endswith("."), finding


def test_one_cause_gives_one_message() -> None:
    locked = without_system(VolumeFacts("disk 1, partition 3", 1, kind="luks2"))
    assert [finding.id for finding in judge(locked, RuleSet.AWS).findings] == ["encrypted-linux"]


def test_the_gravest_comes_first() -> None:
    both = linux(kernels=(), cloud_init="enabled")
    severities = [finding.severity for finding in judge(both, RuleSet.AWS).findings]
    assert severities == sorted(severities, reverse=True)
    assert len(set(severities)) > 1


def test_what_stops_an_import_says_ec2s_words_first_and_ours_behind() -> None:
    stops = judge(linux(kernels=()), RuleSet.AWS).stops
    assert stops is not None
    assert stops.status_message.startswith("ClientError: Unable to determine kernel version. | /boot: No kernel")


def test_our_own_rules_stop_no_import_for_what_a_guest_holds() -> None:
    for _, evidence, _ in BROKEN:
        assert judge(evidence, RuleSet.VMFERRY).stops is None


def test_a_guests_words_reach_no_terminal_as_they_are() -> None:
    evil = linux(
        firewall=("\x1b[31mred\n",), tools=("\u202egnol",), interfaces=(InterfaceFacts("eno1\r", "/x\x07", "dhcp"),)
    )
    for finding in judge(evil, RuleSet.AWS).findings:
        assert not re.search("[\x00-\x1f\u202e]", finding.sentence), finding


def test_why_a_driver_does_not_start_is_told() -> None:
    details = (
        DriverFacts("storahci", 0, "/Windows/x.sys", file_exists=True, overridden=True),
        DriverFacts("viostor", 0, "/Windows/viostor.sys"),
        DriverFacts("stornvme", 3, "/Windows/stornvme.sys"),
    )
    found = judge(windows(boot_drivers=(), driver_details=details), RuleSet.VMFERRY).findings
    (fact,) = (finding.fact for finding in found if finding.id == "windows-no-boot-driver")
    assert "only none start at boot (StartOverride turns off storahci; missing are /Windows/viostor.sys)" in fact


def test_what_the_boot_configuration_names_may_be_its_own_partition_or_one_that_is_there() -> None:
    for facts in (windows(root_named="boot"), windows(root_named="partition x", root_volume=made.ROOT)):
        assert judge(facts, RuleSet.AWS).findings == ()


@pytest.mark.parametrize(
    ("distribution", "like", "command"),
    [
        ("rhel", ("fedora",), 'dracut -f --add-drivers "virtio_pci virtio_blk virtio_scsi" /boot/initrd.img'),
        ("ubuntu", ("debian",), "update-initramfs -u -k 6.1"),
        ("alpine", (), "mkinitfs"),
        ("arch", (), "mkinitcpio -P"),
    ],
)
def test_the_remedy_is_a_command_of_the_guests_own(distribution: str, like: tuple[str, ...], command: str) -> None:
    broken = replace(made.KERNEL, in_initramfs=())
    verdict = judge(linux(distribution=distribution, like=like, kernels=(broken,)), RuleSet.VMFERRY)
    assert command in next(finding.remedy for finding in verdict.findings if finding.id == "no-disk-driver")


@pytest.mark.parametrize(
    ("kind", "command"),
    [
        ("ext4", "e2fsck -f DEVICE"),
        ("xfs", "xfs_repair DEVICE"),
        ("btrfs", "btrfs check DEVICE"),
        ("fat32", "fsck.vfat -a DEVICE"),
        ("exfat", "fsck.exfat DEVICE"),
        ("ntfs", "chkdsk X: /f"),
        (None, "e2fsck -f, xfs_repair, btrfs check, fsck.vfat"),
    ],
)
def test_a_damaged_file_system_is_checked_by_its_own_program(kind: str | None, command: str) -> None:
    evidence = without_system(VolumeFacts("disk 1, partition 1", 1, kind=kind, problem="it is damaged"))
    found = {finding.id: finding for finding in judge(evidence, RuleSet.VMFERRY).findings}
    assert command in found["file-system-unreadable"].remedy

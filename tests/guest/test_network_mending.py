"""A prepared guest's network comes up on another card: the only card keeps its name, several are left alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.guest.ext_images import check, dump
from tests.guest.linux_guests import ROOT_UUID, LinuxGuest, debian, make_disk, make_ext
from vmferry.blob import MemoryBlob
from vmferry.formats import FORMATS, open_disk
from vmferry.guest.boot import find_boot_facts
from vmferry.guest.evidence import DiskEvidence, Evidence
from vmferry.guest.findings import RuleSet
from vmferry.guest.linux.network_settings import DHCP
from vmferry.guest.look import look
from vmferry.guest.overlay import OverlayDisk
from vmferry.guest.preflight import judge
from vmferry.guest.preparation import AS_IT_IS, Preparation, Wishes
from vmferry.guest.prepare import prepare_linux
from vmferry.units import MIB

pytestmark = pytest.mark.slow

NOW = 1_800_000_000
MAC = "00:50:56:aa:bb:cc"
INTERFACES, NETPLAN, RULES = (
    "etc/network/interfaces",
    "etc/netplan/50-cloud-init.yaml",
    "etc/udev/rules.d/70-persistent-net.rules",
)
LINK = "/etc/systemd/network/10-vmferry-ens192.link"
STATIC = b"auto ens192\niface ens192 inet static\n\taddress 10.0.0.5/24\n\tgateway 10.0.0.1\n"
BOUND = f"network:\n  ethernets:\n    lan:\n      dhcp4: true\n      match:\n        macaddress: {MAC}\n".encode()


def guest(**files: bytes) -> LinuxGuest:
    """A Debian that has all drivers where it needs them, and names cards as systemd does."""
    made = debian("virtio_pci.ko", "virtio_blk.ko", "virtio_scsi.ko")
    made.files["usr/lib/systemd/network/99-default.link"] = b"[Link]\nNamePolicy=keep kernel path\n"
    made.files["etc/systemd/system.conf"] = b"[Manager]\n"
    made.files["usr/lib/systemd/systemd"] = b"x"
    made.files["etc/systemd/system/default.target"] = b"->/usr/lib/systemd/system/multi-user.target"
    made.files |= files
    return made


class Prepared:
    """``guest`` after it was prepared."""

    def __init__(self, guest: LinuxGuest, folder: Path, wishes: Wishes = AS_IT_IS) -> None:
        disk = make_disk(make_ext(guest.write(folder / "tree"), folder / "root.img", 12, ROOT_UUID))
        self.done, self.disk = self._prepare(disk, wishes)
        self.root = folder / "after.img"
        self.root.write_bytes(self.disk[MIB : MIB + 12 * MIB])
        check(self.root)

    @staticmethod
    def _prepare(disk: bytes, wishes: Wishes) -> tuple[Preparation, bytes]:
        overlay = OverlayDisk(open_disk(MemoryBlob(disk), FORMATS["raw"]))
        done = prepare_linux(overlay, ["virtio"], NOW, wishes)
        after = bytes(overlay.read_at(0, overlay.size))
        overlay.close()
        return done, after

    def changed(self) -> list[str]:
        return [change.path for change in self.done.changes]

    def findings(self) -> set[str]:
        """What preflight says of it."""
        disk = open_disk(MemoryBlob(self.disk), FORMATS["raw"])
        evidence = Evidence([DiskEvidence(disk.size, find_boot_facts(disk))], look([disk]))
        return {finding.id for finding in judge(evidence, RuleSet.VMFERRY).findings}

    def again(self, wishes: Wishes = AS_IT_IS) -> Preparation:
        """What is done to it once more."""
        return self._prepare(self.disk, wishes)[0]


def test_the_only_card_keeps_its_name(tmp_path: Path) -> None:
    prepared = Prepared(guest(**{INTERFACES: STATIC}), tmp_path)
    assert prepared.changed() == [LINK]
    text = dump(prepared.root, LINK).decode()
    assert "[Match]\nType=ether\nPath=pci-*\n\n[Link]\nName=ens192\n" in text
    assert dump(prepared.root, f"/{INTERFACES}") == STATIC
    assert "interface-by-name" not in prepared.findings()
    assert prepared.again().changes == []


def test_addresses_are_asked_for_where_that_is_chosen(tmp_path: Path) -> None:
    prepared = Prepared(guest(**{INTERFACES: STATIC}), tmp_path, Wishes(DHCP))
    assert prepared.changed() == [f"/{INTERFACES}", LINK]
    text = dump(prepared.root, f"/{INTERFACES}").decode()
    assert (
        text == "auto ens192\niface ens192 inet dhcp\n\t# vmferry: address 10.0.0.5/24\n\t# vmferry: gateway 10.0.0.1\n"
    )
    assert prepared.done.changes[0].kept_as == "interfaces.pre-vmferry"
    assert "static-address" not in prepared.findings()
    assert prepared.again(Wishes(DHCP)).changes == []


def test_nothing_goes_by_the_old_cards_address(tmp_path: Path) -> None:
    rule = f'SUBSYSTEM=="net", ATTR{{address}}=="{MAC}", NAME="eth0"\n'.encode()
    prepared = Prepared(guest(**{NETPLAN: BOUND, RULES: rule}), tmp_path)
    assert prepared.changed() == [f"/{NETPLAN}", f"/{RULES}"]
    assert b'name: "e*"' in dump(prepared.root, f"/{NETPLAN}")
    assert dump(prepared.root, "/etc/udev/rules.d/.70-persistent-net.rules.pre-vmferry") == rule
    assert not {"interface-names-pinned", "interface-by-name"} & prepared.findings()


def test_one_file_is_changed_once_for_two_reasons(tmp_path: Path) -> None:
    text = BOUND.replace(b"dhcp4: true", b"addresses: [10.0.0.5/24]")
    prepared = Prepared(guest(**{NETPLAN: text}), tmp_path, Wishes(DHCP))
    (change,) = prepared.done.changes
    assert "hardware address" in change.why
    assert "DHCP" in change.why
    after = dump(prepared.root, f"/{NETPLAN}").decode()
    assert "      dhcp4: true\n" in after
    assert 'name: "e*"' in after


def test_of_several_cards_nobody_knows_which_is_which(tmp_path: Path) -> None:
    two = b"iface ens192 inet dhcp\niface ens224 inet static\n\taddress 10.0.0.5/24\n"
    prepared = Prepared(guest(**{INTERFACES: two, NETPLAN: BOUND}), tmp_path)
    assert prepared.changed() == []
    (note,) = prepared.done.notes
    assert f"set up for {MAC}, ens192, ens224: which card is which" in note


def test_what_is_not_understood_is_a_note(tmp_path: Path) -> None:
    flow = b"network: {ethernets: {ens192: {addresses: [10.0.0.5/24]}}}\n"
    prepared = Prepared(guest(**{NETPLAN: flow}), tmp_path, Wishes(DHCP))
    assert prepared.changed() == [LINK]
    assert dump(prepared.root, f"/{NETPLAN}") == flow
    assert "50-cloud-init.yaml was left as it is" in prepared.done.notes[0]


@pytest.mark.parametrize("parameters", [b"console=tty0 net.ifnames=0", b"console=tty0"])
def test_the_kernels_own_name_needs_no_help(parameters: bytes, tmp_path: Path) -> None:
    files = {INTERFACES: STATIC.replace(b"ens192", b"eth0"), "etc/kernel/cmdline": parameters}
    prepared = Prepared(guest(**files), tmp_path)
    helped = ["/etc/systemd/network/10-vmferry-eth0.link"]
    assert prepared.changed() == ([] if b"ifnames" in parameters else helped)


def test_a_choice_that_is_none_is_a_note(tmp_path: Path) -> None:
    prepared = Prepared(guest(**{INTERFACES: STATIC}), tmp_path, Wishes("bootp"))
    assert prepared.done.notes == ["The addresses are kept: keep or dhcp can be chosen, not bootp."]

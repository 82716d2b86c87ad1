"""Rules about a Linux that starts, but may not be reached, or loses something on the way."""

from __future__ import annotations

from collections.abc import Iterator

from vmferry.errors import quote
from vmferry.guest.evidence import Evidence
from vmferry.guest.findings import RuleTable, Seen, Severity
from vmferry.units import MIB, format_size

RULES = RuleTable()

_NEEDED = {"/": 100 * MIB, "/boot": 50 * MIB, "/tmp": 10 * MIB, "/var": 10 * MIB}
_NEEDED_BY_EC2 = 250 * MIB
_NEEDED_INODES = 100
_NETWORK_DRIVERS = frozenset({"virtio_net", "e1000", "e1000e"})


@RULES.rule(
    "little-room",
    "a file system has hardly any room left",
    vmferry=Severity.SHOULD_MEND,
    remedy="Make room on the guest before the export: a system that cannot write may not start, and cannot be "
    "prepared.",
)
def little_room(evidence: Evidence) -> Iterator[Seen]:
    for target, needed in _NEEDED.items():
        volume = evidence.mounted(target) if evidence.linux else None
        if volume is not None and volume.free is not None and volume.free < needed:
            yield Seen(target, f"{format_size(volume.free)} are free there; {format_size(needed)} should be.")


@RULES.rule(
    "little-room-for-ec2",
    "a file system has less room left than EC2's import asks for",
    aws=Severity.SHOULD_MEND,
    remedy="Make room on the guest before the export.",
)
def little_room_for_ec2(evidence: Evidence) -> Iterator[Seen]:
    for target in ("/", "/boot", "/tmp", "/var", "/usr", "/etc"):
        volume = evidence.mounted(target) if evidence.linux else None
        if volume is not None and volume.free is not None and volume.free < _NEEDED_BY_EC2:
            yield Seen(target, f"{format_size(volume.free)} are free; {format_size(_NEEDED_BY_EC2)} are asked for.")


@RULES.rule(
    "no-inodes-left",
    "a file system has hardly any inode left",
    aws=Severity.SHOULD_MEND,
    vmferry=Severity.SHOULD_MEND,
    remedy="Delete small files on the guest before the export.",
)
def no_inodes_left(evidence: Evidence) -> Iterator[Seen]:
    root = evidence.mounted("/") if evidence.linux else None
    if root is not None and root.free_inodes is not None and root.free_inodes < _NEEDED_INODES:
        yield Seen("/", f"{root.free_inodes} inodes are free; {_NEEDED_INODES} should be.")


@RULES.rule(
    "no-network-driver",
    "the kernel drives no network card of ours",
    aws=Severity.NOTE,
    vmferry=Severity.SHOULD_MEND,
    remedy="Install the package with the kernel's other modules (Ubuntu: linux-modules-extra), or build "
    "virtio_net or e1000e.",
    unless=("no-kernel", "xen-kernel-only"),
)
def no_network_driver(evidence: Evidence) -> Iterator[Seen]:
    kernels = evidence.linux.kernels if evidence.linux else ()
    kernel = next((kernel for kernel in kernels if kernel.default), kernels[0] if kernels else None)
    known = {*kernel.built_in, *kernel.in_initramfs, *kernel.as_module} if kernel is not None else set()
    if kernel is not None and known and not _NETWORK_DRIVERS & known:
        yield Seen(kernel.image, f"Kernel {quote(kernel.version)} has none of {', '.join(sorted(_NETWORK_DRIVERS))}.")


@RULES.rule(
    "interface-names-pinned",
    "udev binds interface names to hardware addresses of the old machine",
    aws=Severity.SHOULD_MEND,
    vmferry=Severity.SHOULD_MEND,
    remedy="Import with --prepare, or remove the file on the guest before the export: the new card would be eth1 "
    "instead of eth0, without an address.",
)
def interface_names_pinned(evidence: Evidence) -> Iterator[Seen]:
    for path in evidence.linux.persistent_names if evidence.linux else ():
        yield Seen(path, "It names interfaces by the hardware addresses of the old machine.")


@RULES.rule(
    "interface-by-name",
    "the network is set up for an interface name that changes with the hardware",
    aws=Severity.SHOULD_MEND,
    vmferry=Severity.SHOULD_MEND,
    remedy="Import with --prepare, which lets the only card keep its name; or let the configuration match by hardware "
    "address, which is kept, or any interface (netplan: match, NetworkManager: no interface-name, networkd: Name=en*).",
)
def interface_by_name(evidence: Evidence) -> Iterator[Seen]:
    kept = ("lo", "*", "eth0", *(evidence.linux.kept_names if evidence.linux else ()))
    for interface in evidence.linux.interfaces if evidence.linux else ():
        bound = interface.name not in kept and "*" not in interface.name and interface.mac is None
        if bound and interface.name.startswith(("en", "eth", "em", "p")):
            yield Seen(
                interface.where, f"It is for {quote(interface.name)} alone; here the card will be called otherwise."
            )


@RULES.rule(
    "static-address",
    "an interface has an address of its own",
    aws=Severity.SHOULD_MEND,
    vmferry=Severity.NOTE,
    remedy="EC2 takes DHCP only; here the address is kept, so let the new network be the old one, or import with "
    "--prepare --network dhcp.",
)
def static_address(evidence: Evidence) -> Iterator[Seen]:
    for interface in evidence.linux.interfaces if evidence.linux else ():
        if interface.method == "static" and interface.name != "lo":
            addresses = ", ".join(quote(address) for address in interface.addresses[:4]) or "a static address"
            yield Seen(interface.where, f"{quote(interface.name)} has {addresses}.")


@RULES.rule(
    "no-dhcp",
    "no interface asks for an address",
    aws=Severity.SHOULD_MEND,
    vmferry=Severity.NOTE,
    remedy="Set one to DHCP, or nobody will reach the machine.",
    unless=("static-address",),
)
def no_dhcp(evidence: Evidence) -> Iterator[Seen]:
    interfaces = [found for found in evidence.linux.interfaces if found.name != "lo"] if evidence.linux else []
    if evidence.linux is not None and not interfaces:
        yield Seen("the network", "No configuration of a network interface was found.")


@RULES.rule(
    "no-ssh",
    "no SSH server starts by itself",
    aws=Severity.SHOULD_MEND,
    vmferry=Severity.NOTE,
    remedy="Install and start one on the guest: systemctl enable --now ssh (Red Hat and SUSE: sshd).",
)
def no_ssh(evidence: Evidence) -> Iterator[Seen]:
    if evidence.linux is not None and not evidence.linux.ssh:
        what = (
            "No SSH server is installed." if evidence.linux.ssh is None else "The SSH server does not start by itself."
        )
        yield Seen("the system", what)


@RULES.rule(
    "firewall",
    "a firewall is on",
    aws=Severity.SHOULD_MEND,
    vmferry=Severity.NOTE,
    remedy="See that it lets SSH in on any interface.",
)
def firewall(evidence: Evidence) -> Iterator[Seen]:
    for name in evidence.linux.firewall if evidence.linux else ():
        yield Seen("the system", f"{quote(name)} starts by itself.")


@RULES.rule(
    "subscription",
    "the system is licensed by subscription",
    aws=Severity.NOTE,
    vmferry=Severity.NOTE,
    remedy="On EC2 it is imported as BYOL; register it anew after the move (subscription-manager, SUSEConnect).",
)
def subscription(evidence: Evidence) -> Iterator[Seen]:
    if evidence.linux is not None and evidence.linux.subscription:
        yield Seen("the system", f"It is subscribed to {quote(evidence.linux.subscription)}.")


@RULES.rule(
    "cloud-init",
    "cloud-init is on, and acts once it sees another machine",
    aws=Severity.NOTE,
    vmferry=Severity.NOTE,
    remedy="Without a metadata service the first start waits for it; host keys are made anew. To leave it out: touch "
    "/etc/cloud/cloud-init.disabled.",
)
def cloud_init(evidence: Evidence) -> Iterator[Seen]:
    if evidence.linux is not None and evidence.linux.cloud_init == "enabled":
        yield Seen("the system", "cloud-init starts by itself.")


@RULES.rule(
    "hypervisor-tools",
    "tools of the old hypervisor are installed",
    aws=Severity.SHOULD_MEND,
    vmferry=Severity.NOTE,
    remedy="They do no harm, but better remove them before the export.",
)
def hypervisor_tools(evidence: Evidence) -> Iterator[Seen]:
    found = evidence.linux or evidence.windows
    tools = [tool for tool in found.tools if tool not in ("qemu-guest-agent", "qemu-ga")] if found else []
    if tools:
        yield Seen(
            "the system", f"Tools of the old hypervisor are installed: {', '.join(quote(tool) for tool in tools)}."
        )


@RULES.rule(
    "encrypted-volumes-listed",
    "crypttab opens volumes at the start",
    aws=Severity.SHOULD_MEND,
    vmferry=Severity.NOTE,
    remedy="A key file comes along, a key in a TPM does not: add a passphrase first (cryptsetup luksAddKey).",
    unless=("encrypted-linux",),
)
def encrypted_volumes_listed(evidence: Evidence) -> Iterator[Seen]:
    for source in evidence.linux.crypttab if evidence.linux else ():
        yield Seen("/etc/crypttab", f"{quote(source)} is opened at the start.")


@RULES.rule(
    "keys-stay-behind",
    "an encrypted volume is opened by something that does not come along",
    aws=Severity.WILL_NOT_BOOT,
    vmferry=Severity.WILL_NOT_BOOT,
    remedy="Add a passphrase before the export: cryptsetup luksAddKey DEVICE, and let crypttab ask for it.",
)
def keys_stay_behind(evidence: Evidence) -> Iterator[Seen]:
    for key in evidence.linux.crypttab_keys if evidence.linux else ():
        if key in ("tpm2", "fido2", "pkcs11"):
            yield Seen("/etc/crypttab", f"A volume is opened by {quote(key)}.")


@RULES.rule(
    "lvm-filter",
    "lvm.conf lets LVM see disks by names of the old hypervisor only",
    aws=Severity.SHOULD_MEND,
    vmferry=Severity.SHOULD_MEND,
    remedy="Take the filter out of /etc/lvm/lvm.conf, then rebuild the initramfs.",
)
def lvm_filter(evidence: Evidence) -> Iterator[Seen]:
    filters = evidence.linux.lvm_filters if evidence.linux else ()
    named = [pattern for pattern in filters if "/dev/sd" in pattern or "/dev/xvd" in pattern]
    if named:
        yield Seen("/etc/lvm/lvm.conf", f"Its filter is {', '.join(map(quote, named[:4]))}.")


@RULES.rule(
    "multipath",
    "multipath is on, and may take the root disk for its own",
    aws=Severity.SHOULD_MEND,
    vmferry=Severity.SHOULD_MEND,
    remedy="Turn it off before the export: systemctl disable --now multipathd; a virtual disk has one path.",
)
def multipath(evidence: Evidence) -> Iterator[Seen]:
    if evidence.linux is not None and evidence.linux.multipath:
        yield Seen("the system", "multipathd starts by itself.")


@RULES.rule(
    "not-all-was-read",
    "a file of the system could not be read",
    aws=Severity.NOTE,
    vmferry=Severity.NOTE,
)
def not_all_was_read(evidence: Evidence) -> Iterator[Seen]:
    found = evidence.linux or evidence.windows
    for problem in found.problems if found else ():
        yield Seen("the system", quote(problem))

"""What is known of a Linux system inside a disk: facts only. See ``vmferry.guest.facts``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class KernelFacts:
    """One kernel that a Linux guest can start."""

    version: str
    """``6.1.0-28-amd64``: the name of its folder of modules."""
    image: str
    """Path of the kernel itself in the guest."""
    initramfs: str | None = None
    """Path of its initramfs, where it has one."""
    initramfs_size: int = 0
    initramfs_problem: str | None = None
    """Why the initramfs could not be read: a sentence."""
    built_in: tuple[str, ...] = ()
    """Of ``DRIVERS``, those in the kernel itself. Sorted, as the next two."""
    in_initramfs: tuple[str, ...] = ()
    as_module: tuple[str, ...] = ()
    """Those in the folder of modules."""
    initramfs_partly: bool = False
    """Whether only a limit of ours ended reading it: what was seen of it is sound."""
    initramfs_expected: bool = False
    """Whether the initramfs is too large to be read to its end, and ``in_initramfs`` has what the guest's own settings
    take in for all machines: a sound guess, where the rest is facts."""
    default: bool = False
    """Whether the boot loader starts it when nobody chooses."""
    xen_only: bool = False
    """Whether it is a paravirtual Xen kernel, which starts nowhere else."""
    architecture: str | None = None
    modules: str | None = None
    """Path of the folder of its modules, where that is there."""


DRIVERS = (
    "ahci",
    "ata_piix",
    "e1000",
    "e1000e",
    "hv_netvsc",
    "hv_storvsc",
    "megaraid_sas",
    "mptsas",
    "mptspi",
    "nvme",
    "sd_mod",
    "virtio_blk",
    "virtio_net",
    "virtio_pci",
    "virtio_scsi",
    "vmw_pvscsi",
    "vmxnet3",
    "xen_blkfront",
    "xen_netfront",
)
"""The drivers of disks and networks that decide whether a Linux guest starts, and is reached."""


@dataclass(frozen=True, slots=True)
class MountFacts:
    """One line of fstab."""

    source: str
    """``UUID=…``, ``/dev/sdb1``, ``//server/share``."""
    target: str
    kind: str
    options: tuple[str, ...] = ()
    volume: str | None = None
    """The place of the volume that it means, where one of the machine's is that."""


@dataclass(frozen=True, slots=True)
class InterfaceFacts:
    """How one network interface, or all of a kind, is set up."""

    name: str
    """``ens192``, ``eth0``; a pattern such as ``en*``; ``*`` for any."""
    where: str
    """Path of the file that says so."""
    method: str
    """``dhcp``, ``static``, ``manual``."""
    addresses: tuple[str, ...] = ()
    mac: str | None = None
    """The hardware address that the file binds it to."""


@dataclass(frozen=True, slots=True)
class LinuxFacts:
    """A Linux system."""

    distribution: str
    """os-release's ID: ``debian``, ``rhel``; what older files say in the same words."""
    version: str = ""
    """VERSION_ID: ``12``, ``9.4``."""
    title: str = ""
    """PRETTY_NAME."""
    like: tuple[str, ...] = ()
    """ID_LIKE."""
    point_release: str = ""
    """The version to the point, where a file tells: ``12.4`` of Debian 12, ``7.9.2009`` of CentOS 7."""
    image_based: str | None = None
    """``ostree``, ``flatcar``, ``nixos``: its system files are one image, and no package manager's to change."""
    architecture: str | None = None
    """``x86_64``, ``i386``, ``aarch64``: of its programs; of its kernel where it has none."""
    hostname: str | None = None
    kernels: tuple[KernelFacts, ...] = ()
    """The default first, then the newest."""
    boot_loader: str | None = None
    """``grub2``, ``grub-legacy``, ``systemd-boot``, ``extlinux``, ``lilo``; ``None`` where none was found."""
    boot_config: str | None = None
    """Path of the file that says what it starts."""
    command_line: str = ""
    """The kernel's, of the default entry."""
    missing_kernel: str | None = None
    """What the default entry starts, in the boot loader's words, where that is not there."""
    missing_initramfs: str | None = None
    """Likewise what it loads with the kernel."""
    device_map: tuple[str, ...] = ()
    """Disks that GRUB's device.map names: ``/dev/sda``."""
    default_guessed: bool = False
    """Whether no entry is named the default, so that the newest kernel was taken."""
    root_volume: str | None = None
    """The place of the volume that the command line calls the root; ``None`` where it names none of the machine's."""
    efi_loaders: tuple[str, ...] = ()
    """Paths on the EFI system partition: ``/EFI/debian/grubx64.efi``."""
    efi_fallback: str | None = None
    """The one that firmware without a boot entry starts, ``/EFI/BOOT/BOOTX64.EFI``, where it is there."""
    mounts: tuple[MountFacts, ...] = ()
    crypttab: tuple[str, ...] = ()
    """Sources named in crypttab."""
    crypttab_keys: tuple[str, ...] = ()
    """What opens each of them: ``passphrase``, ``file``, ``random``, ``tpm2``, ``fido2``, ``pkcs11``."""
    lvm_devices_file: bool = False
    """Whether LVM lists the devices it may use by serial numbers that do not outlive the move."""
    lvm_filters: tuple[str, ...] = ()
    """Patterns of the devices that lvm.conf lets LVM see, or not: ``a|^/dev/sda|``."""
    hibernated: tuple[str, ...] = ()
    """Paths of swap files with the memory of a system that is to wake up; of volumes, their ``features`` tell."""
    multipath: bool = False
    """Whether multipath is set up and starts."""
    interfaces: tuple[InterfaceFacts, ...] = ()
    persistent_names: tuple[str, ...] = ()
    """Files of udev that bind interface names to hardware addresses of the old machine."""
    kept_names: tuple[str, ...] = ()
    """Names that .link files of systemd give to a card wherever it sits: ``ens192``."""
    network_managers: tuple[str, ...] = ()
    """What sets the network up when it starts: ``NetworkManager``, ``systemd-networkd``, ``wicked``, ``ifupdown``,
    ``network-scripts``."""
    dhcp_clients: tuple[str, ...] = ()
    """What can ask for an address: programs, and those managers that do it themselves."""
    ssh: bool | None = None
    """Whether an SSH server starts by itself; ``None`` where none is installed."""
    firewall: tuple[str, ...] = ()
    """Those that start by themselves: ``firewalld``, ``ufw``, ``nftables``, ``iptables``."""
    selinux: str | None = None
    """``enforcing``, ``permissive``, ``disabled``; ``None`` where it is not there."""
    cloud_init: str | None = None
    """``enabled`` or ``disabled``; ``None`` where it is not installed."""
    cloud_datasources: tuple[str, ...] = ()
    """cloud-init's ``datasource_list``."""
    initramfs_rebuilders: tuple[str, ...] = ()
    """The guest's own programs that can make an initramfs anew: ``dracut``, ``update-initramfs``, ``mkinitrd``."""
    initramfs_policy: str | None = None
    """What they take in: ``generic``, the drivers of all usual machines; ``host``, only those of the machine that they
    run on; ``listed``; ``None`` where that is not set."""
    local_time: bool = False
    """Whether its hardware clock runs in local time, not in UTC."""
    tools: tuple[str, ...] = ()
    """Of hypervisors: ``open-vm-tools``, ``vmware-tools``, ``virtualbox-guest-additions``, ``xe-guest-utilities``,
    ``hyperv-daemons``, ``qemu-guest-agent``."""
    subscription: str | None = None
    """Who supports it by subscription: ``rhel``, ``sles``, ``ubuntu-pro``."""
    serial_console: bool = False
    problems: tuple[str, ...] = ()
    """What could not be read, a sentence each."""

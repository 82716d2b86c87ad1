"""What is known of a Windows system inside a disk: facts only. See ``vmferry.guest.facts``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DriverFacts:
    """One service that drives disks or networks."""

    name: str
    """As in ``WINDOWS_DRIVERS``."""
    start: int | None = None
    """0 at boot, 1 by the system, 2 automatically, 3 on demand, 4 never."""
    path: str = ""
    """Its file in the guest."""
    file_exists: bool = False
    overridden: bool = False
    """Whether ``StartOverride`` says another start."""
    group: str = ""
    """When it starts among others: ``SCSI miniport``."""
    bound: bool = False
    """Whether a device leads to it before the disk is there: by CriticalDeviceDatabase up to Windows 7, by
    DriverDatabase later."""


@dataclass(frozen=True, slots=True)
class WindowsFacts:
    """A Windows system."""

    product: str
    """ProductName, mended where the registry still says 10 for 11: ``Windows Server 2019 Standard``."""
    version: str = ""
    """``10.0``, ``6.3``."""
    build: int | None = None
    edition: str = ""
    """EditionID: ``ServerStandard``."""
    kind: str = ""
    """InstallationType: ``Server``, ``Server Core``, ``Client``."""
    architecture: str | None = None
    """``x86_64``, ``i386``, ``aarch64``."""
    hostname: str | None = None
    boot_drivers: tuple[str, ...] = ()
    """Of ``WINDOWS_DRIVERS``, those that start at boot: file there, ``Start`` 0, nothing that overrides it. Sorted."""
    drivers: tuple[str, ...] = ()
    """Those that are installed at all."""
    remote_desktop: bool | None = None
    firewall: tuple[str, ...] = ()
    """Profiles whose firewall is on: ``domain``, ``private``, ``public``."""
    hibernated: bool = False
    """Hibernation, or the fast start of Windows 8 and later."""
    pending: tuple[str, ...] = ()
    """Why it waits for a restart: ``updates``, ``servicing``, ``renames``."""
    sysprep: str | None = None
    """ImageState: ``IMAGE_STATE_COMPLETE``."""
    protection: tuple[str, ...] = ()
    """Names of virus scanners that may stop a driver."""
    tools: tuple[str, ...] = ()
    """As those of Linux: ``vmware-tools``, ``virtualbox-guest-additions``, ``xen-tools``, ``hyper-v``, ``qemu-ga``."""
    agents: tuple[str, ...] = ()
    """EC2's own: ``ec2config``, ``ec2launch``, ``ec2launch-v2``; and ``cloudbase-init``."""
    boot_mode: str | None = None
    """``legacy-bios`` or ``uefi``: where its boot configuration lies."""
    efi_fallback: str | None = None
    """As that of Linux."""
    activation: str | None = None
    """``kms``, ``kms-server``, ``mak``, ``volume``, ``retail``, ``oem``, as far as the product key's channel tells."""
    static_addresses: tuple[str, ...] = ()
    """``10.0.0.5/24``."""
    real_time_is_universal: bool = False
    page_file_drives: tuple[str, ...] = ()
    auto_logon: bool = False
    languages: tuple[str, ...] = ()
    net_framework: tuple[str, ...] = ()
    domain: str | None = None
    update: int | None = None
    """UBR, the fourth part of the version: ``10.0.17763.5936``."""
    release: str = ""
    """``22H2``, ``1809``."""
    service_pack: str = ""
    """``Service Pack 1``."""
    control_set: int | None = None
    """Number of the control set that it starts with."""
    driver_details: tuple[DriverFacts, ...] = ()
    """All in ``drivers``, one by one."""
    bound_drivers: tuple[str, ...] = ()
    """Of ``drivers``, those that a device leads to. See ``DriverFacts.bound``."""
    sha2_drivers: bool | None = None
    """Whether Windows 7 or 2008 R2 takes drivers signed by SHA-2 alone; ``None`` for all others."""
    remote_desktop_port: int | None = None
    remote_desktop_profiles: tuple[str, ...] = ()
    """Profiles whose firewall has a rule that lets Remote Desktop in."""
    fast_startup: bool = False
    """Whether shutting down leaves a session in hiberfil.sys."""
    setup_unfinished: bool = False
    """Whether setup goes on at the next start."""
    boot_config: str | None = None
    """Path of its boot configuration: ``/Boot/BCD``, ``/boot/efi/EFI/Microsoft/Boot/BCD``, ``/boot.ini``."""
    root_named: str | None = None
    """What the boot configuration starts from: ``boot`` (the partition that it lies on itself), ``partition 0a1b…``
    (GPT), ``disk 1a2b3c4d, byte 368050176`` (MBR), the path in a boot.ini."""
    root_volume: str | None = None
    """The place of the volume that is; ``None`` where it is none of the machine's."""
    efi_loader: str | None = None
    """Windows' own on the EFI system partition, ``/EFI/Microsoft/Boot/bootmgfw.efi``, where it is there."""
    efi_fallback_is_own: bool | None = None
    """Whether ``efi_fallback`` is a copy of ``efi_loader``."""
    serial_console: bool = False
    """Whether its console is on a serial port, too (EMS)."""
    graphics_disabled: bool = False
    """Whether its boot manager shows nothing on the screen."""
    secure_boot: bool | None = None
    """Whether it ran with Secure Boot last."""
    kms_server: str | None = None
    san_policy: str | None = None
    """Which new disks it takes by itself: ``online-all``, ``offline-shared``, ``offline-all``, ``offline-internal``."""
    auto_reboot: bool | None = None
    """Whether it restarts at once after a stop code."""
    device_restrictions: bool = False
    """Whether a policy keeps drivers of new devices from being installed."""
    execution_policy: str | None = None
    """Which scripts PowerShell runs: ``AllSigned``."""
    hyper_v_role: bool = False
    """Whether it runs virtual machines of its own."""
    leftovers: tuple[str, ...] = ()
    """What other converters left behind: ``guestor``."""
    problems: tuple[str, ...] = ()
    """What could not be read, a sentence each."""

    @property
    def is_client(self) -> bool:
        """Whether it is a Windows for desktops, not a server."""
        return self.kind.lower() == "client"


WINDOWS_DRIVERS = (
    "atapi",
    "AWSNVMe",
    "e1express",
    "E1G60",
    "e1i65x64",
    "ena",
    "iaStorV",
    "intelide",
    "LSI_SAS",
    "msahci",
    "netkvm",
    "pciide",
    "pvscsi",
    "storahci",
    "stornvme",
    "storvsc",
    "symmpi",
    "vioscsi",
    "viostor",
    "vmxnet3ndis6",
    "xenbus",
    "xenvbd",
    "xenvif",
)
"""The services of Windows that decide which disks it starts from, and which networks it reaches."""

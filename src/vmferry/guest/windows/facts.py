"""What is known of a Windows system inside a disk: facts only. See ``vmferry.guest.facts``."""

from __future__ import annotations

from dataclasses import dataclass


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
    """``kms``, ``mak``, ``retail``, ``oem``, as far as the product key's channel tells."""
    static_addresses: tuple[str, ...] = ()
    real_time_is_universal: bool = False
    page_file_drives: tuple[str, ...] = ()
    auto_logon: bool = False
    languages: tuple[str, ...] = ()
    net_framework: tuple[str, ...] = ()
    domain: str | None = None
    problems: tuple[str, ...] = ()


WINDOWS_DRIVERS = (
    "e1express",
    "e1i65x64",
    "iaStorV",
    "LSI_SAS",
    "msahci",
    "netkvm",
    "pvscsi",
    "storahci",
    "stornvme",
    "storvsc",
    "vioscsi",
    "viostor",
    "vmxnet3ndis6",
    "xenvbd",
    "xenvif",
)
"""The services of Windows that decide which disks it starts from, and which networks it reaches."""

"""What of a hypervisor, a cloud or a vendor is installed in a Linux system."""

from __future__ import annotations

from vmferry.guest.files import Files
from vmferry.guest.linux.services import Services
from vmferry.guest.linux.yaml import read_yaml

_TOOLS = {
    "open-vm-tools": ("/usr/bin/vmtoolsd", "/usr/lib/systemd/system/vmtoolsd.service", "/etc/init.d/open-vm-tools"),
    "vmware-tools": ("/etc/vmware-tools/locations", "/usr/lib/vmware-tools", "/etc/init.d/vmware-tools"),
    "virtualbox-guest-additions": (
        "/usr/sbin/VBoxService",
        "/opt/VBoxGuestAdditions-*",
        "/etc/init.d/vboxadd",
        "/usr/lib/virtualbox/vboxadd",
    ),
    "xe-guest-utilities": ("/usr/sbin/xe-daemon", "/usr/bin/xe-daemon", "/etc/init.d/xe-linux-distribution"),
    "hyperv-daemons": ("/usr/sbin/hv_kvp_daemon", "/usr/sbin/hypervkvpd", "/usr/lib/linux-tools/*/hv_kvp_daemon"),
    "qemu-guest-agent": ("/usr/bin/qemu-ga", "/usr/sbin/qemu-ga"),
    "parallels-tools": ("/usr/lib/parallels-tools", "/usr/bin/prltoolsd"),
}
SERVICES = {
    "open-vm-tools": ("open-vm-tools", "vmtoolsd", "vgauth", "vgauthd"),
    "vmware-tools": ("vmware-tools", "vmware-tools-thinprint"),
    "virtualbox-guest-additions": (
        "vboxadd",
        "vboxadd-service",
        "vboxadd-x11",
        "virtualbox-guest-utils",
        "vboxservice",
    ),
    "xe-guest-utilities": ("xe-daemon", "xe-linux-distribution", "xenstored"),
    "hyperv-daemons": (
        "hv-kvp-daemon",
        "hv-vss-daemon",
        "hv-fcopy-daemon",
        "hypervkvpd",
        "hypervvssd",
        "hypervfcopyd",
    ),
    "parallels-tools": ("prltoolsd",),
}
"""Tools that do nothing anywhere else → their services."""
_CLOUD_INIT = ("/usr/bin/cloud-init", "/etc/cloud/cloud.cfg", "/usr/lib/systemd/system/cloud-init.service")
_CLOUD_INIT_SERVICES = ("cloud-init", "cloud-init-local", "cloud-init-main", "cloud-config", "cloud-final")
_SUBSCRIPTIONS = {
    "rhel": ("/etc/pki/product/*.pem", "/etc/pki/product-default/*.pem", "/etc/pki/entitlement/*.pem"),
    "sles": ("/etc/zypp/credentials.d/SCCcredentials", "/etc/zypp/credentials.d/NCCcredentials", "/etc/SUSEConnect"),
    "ubuntu-pro": ("/var/lib/ubuntu-advantage/private/machine-token.json",),
}
"""Whose distribution → the files that a registered system has. Red Hat's product certificates are in clones, too."""
_OWNERS = {"rhel": ("rhel",), "sles": ("sles", "sles_sap", "sled"), "ubuntu-pro": ("ubuntu",)}


def find_tools(files: Files) -> tuple[str, ...]:
    """Guest tools of hypervisors, whether or not they start."""
    return _installed(files, _TOOLS)


def find_subscription(files: Files, distribution: str) -> str | None:
    """Who supports the system by subscription: ``rhel``, ``sles``, ``ubuntu-pro``."""
    found = _installed(files, _SUBSCRIPTIONS)
    return next((name for name in found if distribution in _OWNERS[name]), None)


def find_cloud_init(files: Files, services: Services, command_line: str) -> str | None:
    """``enabled``, ``disabled``, or ``None`` where cloud-init is not installed."""
    if not any(files.exists(path) for path in _CLOUD_INIT):
        return None
    disabled = (
        files.exists("/etc/cloud/cloud-init.disabled")
        or "cloud-init=disabled" in command_line.split()
        or services.starts(*_CLOUD_INIT_SERVICES) is False
    )
    return "disabled" if disabled else "enabled"


def find_datasources(files: Files) -> tuple[str, ...]:
    """Where cloud-init looks for its data: the last ``datasource_list`` counts, of cloud.cfg and then its folder."""
    found: tuple[str, ...] = ()
    for path in ("/etc/cloud/cloud.cfg", *files.glob("/etc/cloud/cloud.cfg.d/*.cfg")):
        settings = read_yaml(files.lines_as_they_are(path))
        sources = settings.get("datasource_list") if isinstance(settings, dict) else None
        if isinstance(sources, list):
            found = tuple(source for source in sources[:64] if isinstance(source, str))
    return found


def _installed(files: Files, table: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(name for name, patterns in table.items() if files.glob(*patterns))

"""How a Linux system makes its initramfs anew: with which program, and which drivers it takes in.

Sources: initramfs.conf(5) of initramfs-tools, dracut.conf(5), mkinitcpio(8), mkinitfs-bootstrap(8) of Alpine.
"""

from __future__ import annotations

from vmferry.guest.files import Files

_REBUILDERS = {
    "dracut": ("/usr/bin/dracut", "/usr/sbin/dracut", "/sbin/dracut"),
    "mkinitrd": ("/sbin/mkinitrd", "/usr/sbin/mkinitrd", "/usr/bin/mkinitrd"),
    "update-initramfs": ("/usr/sbin/update-initramfs",),
    "mkinitcpio": ("/usr/bin/mkinitcpio", "/usr/sbin/mkinitcpio"),
    "mkinitfs": ("/sbin/mkinitfs", "/usr/sbin/mkinitfs"),
    "booster": ("/usr/bin/booster",),
    "make-initrd": ("/usr/sbin/make-initrd",),
    "genkernel": ("/usr/bin/genkernel",),
}
_TOOLS = ("/etc/initramfs-tools/initramfs.conf", "/usr/share/initramfs-tools/conf.d/*", "/etc/initramfs-tools/conf.d/*")
_DRACUT = ("/etc/dracut.conf", "/usr/lib/dracut/dracut.conf.d/*.conf", "/etc/dracut.conf.d/*.conf")
_MKINITCPIO = ("/etc/mkinitcpio.conf", "/etc/mkinitcpio.conf.d/*.conf")


def find_rebuilders(files: Files) -> tuple[str, ...]:
    """The programs that can make an initramfs anew inside the guest; a stripped appliance has none."""
    return tuple(name for name, paths in _REBUILDERS.items() if any(files.exists(path) for path in paths))


def find_policy(files: Files) -> str | None:
    """``generic`` where the drivers of all usual machines go in, ``host`` where only those of the machine that it runs
    on, ``listed`` where those in a list; ``None`` where that is not set. The default of dracut is its builder's."""
    if modules := _last(files, _TOOLS, "MODULES"):
        return {"most": "generic", "dep": "host", "list": "listed"}.get(modules)
    if host_only := _last(files, _DRACUT, "hostonly"):
        return "host" if host_only.strip().lower() in ("yes", "sloppy", "strict") else "generic"
    for path in files.glob(*_MKINITCPIO):
        for line in files.lines(path):
            if line.startswith("HOOKS="):
                return "host" if "autodetect" in line else "generic"
    return None


def _last(files: Files, patterns: tuple[str, ...], name: str) -> str | None:
    """The value of a setting in the last of the files that has it."""
    values = [value for path in files.glob(*patterns) if (value := files.settings(path).get(name))]
    return values[-1] if values else None

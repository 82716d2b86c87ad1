"""Which services of a Linux system start by themselves: systemd's units, System V's scripts, OpenRC, upstart.

Sources: systemd.unit(5), systemd.preset(5), insserv(8), rc-update(8), init(5) of upstart.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase

from vmferry.guest.files import Files

_UNITS = ("/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")
"""Folders of units, the administrator's own first."""
_MAX_UNITS = 4096
_SCRIPTS = ("/etc/init.d", "/etc/rc.d/init.d")
_RUNLEVELS = ("/etc/rc{}.d", "/etc/rc.d/rc{}.d", "/etc/init.d/rc{}.d")
_PRESETS = ("/etc/systemd/system-preset/*.preset", "/usr/lib/systemd/system-preset/*.preset")
_INITDEFAULT = re.compile(r"[^:#]*:([2-5]):initdefault:")
_START = re.compile(r"S\d\d(.+)")

FIREWALLS = {
    "firewalld": ("firewalld",),
    "ufw": ("ufw",),
    "nftables": ("nftables",),
    "iptables": ("iptables", "ip6tables", "netfilter-persistent", "iptables-persistent"),
    "SuSEfirewall2": ("SuSEfirewall2", "SuSEfirewall2_setup"),
    "shorewall": ("shorewall",),
}
"""Firewall → the services that start it."""
_SSH = ("ssh", "sshd", "ssh.socket", "sshd.socket", "dropbear", "dropbear.socket")
_SSH_PROGRAMS = ("/usr/sbin/sshd", "/usr/bin/sshd", "/sbin/sshd", "/usr/sbin/dropbear")


class Services:
    """What starts by itself in one system; what is asked twice is read once."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._systemd = any(files.exists(f"{folder}/systemd") for folder in ("/usr/lib/systemd", "/lib/systemd"))
        self._wanted = self._find_wanted()
        self._scripts = self._find_scripts()
        self._presets = self._find_presets()

    def starts(self, *names: str) -> bool | None:
        """Whether one of ``names`` starts by itself; ``None`` where none is installed. ``ssh`` is ``ssh.service``."""
        answers = [answer for name in names if (answer := self._starts(name)) is not None]
        return any(answers) if answers else None

    def starts_like(self, pattern: str) -> bool:
        """Whether a unit of systemd whose name matches ``pattern`` is wanted: ``serial-getty@*``."""
        return any(fnmatchcase(name, pattern) for name in self._wanted)

    def _starts(self, name: str) -> bool | None:
        unit = name if "." in name else f"{name}.service"
        if self._systemd and (answer := self._starts_unit(unit)) is not None:
            return answer
        if name in self._scripts:
            return True
        jobs = [f"/etc/init/{name}.conf"]
        if self._files.is_file(jobs[0]) and not self._systemd:
            override = self._files.lines(f"/etc/init/{name}.override")
            return "manual" not in override and any(line.startswith("start on") for line in self._files.lines(jobs[0]))
        return False if any(self._files.exists(f"{folder}/{name}") for folder in _SCRIPTS) else None

    def _starts_unit(self, unit: str) -> bool | None:
        """``None`` where there is no such unit."""
        own = f"{_UNITS[0]}/{unit}"
        if self._files.link(own) == "/dev/null" or self._files.size(own) == 0:  # either way it is masked
            return False
        if unit in self._wanted:
            return True
        if not any(self._files.exists(f"{folder}/{unit}") for folder in _UNITS):
            return None
        return self._preset(unit)

    def _preset(self, unit: str) -> bool:
        """What the first start will do with a unit, in a system that was never started."""
        return next((enabled for enabled, pattern in self._presets if fnmatchcase(unit, pattern)), False)

    def _find_wanted(self) -> frozenset[str]:
        """The units that another wants or requires, and those that stand in for one: an alias is a link."""
        found: set[str] = set()
        for folder in _UNITS:
            for path in self._files.glob(f"{folder}/*.wants", f"{folder}/*.requires"):
                found.update(self._files.names(path))
        for name in self._files.names(_UNITS[0])[:_MAX_UNITS]:
            if target := self._files.link(f"{_UNITS[0]}/{name}"):
                found.update((name, target.rpartition("/")[2]) if target != "/dev/null" else ())
        return frozenset(found)

    def _find_scripts(self) -> frozenset[str]:
        """The scripts that the usual runlevels of System V's init start, or those of OpenRC."""
        found = [name for level in ("boot", "default") for name in self._files.names(f"/etc/runlevels/{level}")]
        inittab = (_INITDEFAULT.match(line) for line in self._files.lines("/etc/inittab"))
        level = next((match[1] for match in inittab if match), None)
        for folder in _RUNLEVELS:
            for number in level or "2345":
                links = (_START.fullmatch(name) for name in self._files.names(folder.format(number)))
                found += [link[1] for link in links if link]
        return frozenset(found)

    def _find_presets(self) -> list[tuple[bool, str]]:
        """Presets, in the order in which they count, of a system that has no machine-id yet: they are applied then."""
        if self._files.lines("/etc/machine-id")[:1] not in ([], [""], ["uninitialized"]):
            return []
        paths = {path.rpartition("/")[2]: path for path in reversed(self._files.glob(*_PRESETS))}
        found = []
        for _, path in sorted(paths.items()):
            for line in self._files.lines(path):
                words = line.split()
                if len(words) > 1 and words[0] in ("enable", "disable"):
                    found.append((words[0] == "enable", words[1]))
        return found


def starts_ssh(files: Files, services: Services) -> bool | None:
    """Whether an SSH server starts by itself; ``None`` where none is installed."""
    answer = services.starts(*_SSH)
    return False if answer is None and any(files.exists(path) for path in _SSH_PROGRAMS) else answer


def starts_serial_console(files: Files, services: Services, command_line: str) -> bool:
    """Whether the kernel or a login prompt uses a serial port."""
    if any(re.match(r"console=tty(?:S|AMA)\d", word) for word in command_line.split()):
        return True
    if services.starts_like("serial-getty@*") or services.starts("ttyS0"):
        return True
    return any("ttyS" in line and not line.startswith("#") for line in files.lines("/etc/inittab"))


def find_firewalls(files: Files, services: Services) -> tuple[str, ...]:
    """The firewalls that start by themselves. ufw's service starts always, and its own file says whether it works."""
    found = [name for name, units in FIREWALLS.items() if services.starts(*units)]
    if "ufw" in found and files.settings("/etc/ufw/ufw.conf").get("ENABLED", "no").lower() != "yes":
        found.remove("ufw")
    return tuple(found)

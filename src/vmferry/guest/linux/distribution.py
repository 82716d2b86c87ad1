"""Which distribution a Linux system is: os-release, or what its release had instead of that."""

from __future__ import annotations

import re
from dataclasses import dataclass

from vmferry.guest.files import Files

_OS_RELEASE = ("/etc/os-release", "/usr/lib/os-release", "/lib/os-release")
"""The last is seen where the file system of ``/usr`` stands alone, as Flatcar's does."""
_RELEASE_FILES = (
    "/etc/oracle-release",
    "/etc/enterprise-release",
    "/etc/centos-release",
    "/etc/fedora-release",
    "/etc/system-release",
    "/etc/redhat-release",
)
"""Red Hat's family, the most particular first: Oracle Linux has Red Hat's file, too."""
_FAMILY = (
    ("red hat enterprise linux", "rhel"),
    ("oracle linux", "ol"),
    ("enterprise linux enterprise", "ol"),
    ("centos", "centos"),
    ("scientific linux", "scientific"),
    ("amazon linux", "amzn"),
    ("fedora", "fedora"),
    ("rocky", "rocky"),
    ("almalinux", "almalinux"),
    ("suse linux enterprise", "sles"),
    ("opensuse", "opensuse"),
    ("ubuntu", "ubuntu"),
    ("debian", "debian"),
)
"""What a title begins with → os-release's ID."""
_LIKE = {"rhel": "fedora", "ol": "rhel", "centos": "rhel", "scientific": "rhel", "sles": "suse", "opensuse": "suse"}
_OTHER_FILES = (
    ("/etc/debian_version", "debian"),
    ("/etc/alpine-release", "alpine"),
    ("/etc/gentoo-release", "gentoo"),
    ("/etc/slackware-version", "slackware"),
    ("/etc/altlinux-release", "altlinux"),
    ("/etc/photon-release", "photon"),
    ("/etc/arch-release", "arch"),
)
_VERSION = re.compile(r"\d+(?:\.\d+)*")
_FOREIGN = frozenset({"dragonfly", "freebsd", "ghostbsd", "midnightbsd", "netbsd", "openbsd", "opnsense", "pfsense"})
"""IDs of systems that have os-release, and are no Linux."""
_IMAGES = {
    "flatcar": "flatcar",
    "coreos": "flatcar",
    "nixos": "nixos",
    "talos": "talos",
    "bottlerocket": "bottlerocket",
    "ubuntu-core": "ubuntu-core",
    "sle-micro": "transactional",
    "sl-micro": "transactional",
    "opensuse-microos": "transactional",
    "opensuse-leap-micro": "transactional",
}
_MAX_WORD = 64
_MAX_TITLE = 200


@dataclass(frozen=True, slots=True)
class Distribution:
    """As ``LinuxFacts`` has it."""

    name: str
    version: str = ""
    title: str = ""
    like: tuple[str, ...] = ()
    point_release: str = ""


def find_distribution(files: Files) -> Distribution | None:
    """What the release files say; ``None`` where there are none, or where they name a system that is no Linux."""
    return _by_os_release(files) or _by_release_file(files) or _by_suse_release(files) or _by_other_file(files)


def is_foreign(files: Files) -> bool:
    """Whether os-release names a system that is no Linux."""
    return any(files.settings(path).get("ID", "").lower() in _FOREIGN for path in _OS_RELEASE)


def find_image_base(files: Files, name: str) -> str | None:
    """What keeps the files of a system that is one image; ``None`` where a package manager does, as nearly always."""
    if files.link("/ostree") == "sysroot/ostree" or files.is_folder("/ostree/deploy"):
        return "ostree"
    return _IMAGES.get(name)


def _by_os_release(files: Files) -> Distribution | None:
    for path in _OS_RELEASE:
        settings = files.settings(path)
        if name := settings.get("ID", "").lower():
            return Distribution(
                name[:_MAX_WORD],
                settings.get("VERSION_ID", "")[:_MAX_WORD],
                (settings.get("PRETTY_NAME") or settings.get("NAME", ""))[:_MAX_TITLE],
                tuple(word[:_MAX_WORD] for word in settings.get("ID_LIKE", "").lower().split()[:16]),
                _point_release(files),
            )
    return None


def _point_release(files: Files) -> str:
    """The version to the point, which os-release often leaves out: 12.4 of Debian 12, 7.9.2009 of CentOS 7."""
    for path in (*_RELEASE_FILES, "/etc/debian_version", "/etc/alpine-release"):
        if version := _VERSION.search(_first_line(files, path)):
            return version[0][:_MAX_WORD]
    return ""


def _by_release_file(files: Files) -> Distribution | None:
    settings = files.settings("/etc/lsb-release")
    for title in (*(_first_line(files, path) for path in _RELEASE_FILES), settings.get("DISTRIB_DESCRIPTION", "")):
        for start, name in _FAMILY:
            if title.lower().startswith(start):
                version = _VERSION.search(title)
                return _make(name, version[0] if version else "", title)
    if name := settings.get("DISTRIB_ID", "").lower():
        return _make(name, settings.get("DISTRIB_RELEASE", ""), settings.get("DISTRIB_DESCRIPTION", ""))
    return None


def _by_suse_release(files: Files) -> Distribution | None:
    title = _first_line(files, "/etc/SuSE-release")
    if not title:
        return None
    settings = files.settings("/etc/SuSE-release")
    level = settings.get("PATCHLEVEL", "0")
    version = settings.get("VERSION", "") + ("" if level == "0" else f".{level}")
    return _make("opensuse" if title.lower().startswith("opensuse") else "sles", version, title)


def _by_other_file(files: Files) -> Distribution | None:
    for path, name in _OTHER_FILES:
        if files.is_file(path):
            line = _first_line(files, path)
            version = _VERSION.search(line)
            return _make(name, version[0] if version else "", f"{name.capitalize()} {line}".strip())
    return None


def _make(name: str, version: str, title: str) -> Distribution:
    like = (_LIKE[name],) if name in _LIKE else ()
    return Distribution(name[:_MAX_WORD], version[:_MAX_WORD], title[:_MAX_TITLE], like, version[:_MAX_WORD])


def _first_line(files: Files, path: str) -> str:
    return next(iter(files.lines(path)), "")

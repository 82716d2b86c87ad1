"""Every generation of release files says which distribution it is; what is no Linux, or lies, is found out."""

from __future__ import annotations

import pytest

from tests.guest.linux_trees import AARCH64, I386, X86_64, Contents, elf, look, see

RELEASES: list[tuple[Contents, str, str, str]] = [
    (
        {
            "/etc/os-release": "../usr/lib/os-release",
            "/usr/lib/os-release": b'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nNAME="Debian GNU/Linux"\n'
            b'VERSION_ID="12"\nVERSION="12 (bookworm)"\nID=debian\n',
            "/etc/debian_version": b"12.4\n",
        },
        "debian",
        "12",
        "12.4",
    ),
    ({"/etc/debian_version": b"6.0.10\n"}, "debian", "6.0.10", "6.0.10"),
    (
        {
            "/etc/os-release": b'NAME="Ubuntu"\nVERSION_ID="24.04"\nID=ubuntu\nID_LIKE=debian\n',
            "/etc/lsb-release": b"DISTRIB_ID=Ubuntu\nDISTRIB_RELEASE=24.04\n",
        },
        "ubuntu",
        "24.04",
        "",
    ),
    (
        {
            "/etc/lsb-release": b"DISTRIB_ID=Ubuntu\nDISTRIB_RELEASE=10.04\nDISTRIB_CODENAME=lucid\n"
            b'DISTRIB_DESCRIPTION="Ubuntu 10.04.4 LTS"\n',
            "/etc/debian_version": b"squeeze/sid\n",
        },
        "ubuntu",
        "10.04.4",
        "10.04.4",
    ),
    (
        {"/etc/redhat-release": b"Red Hat Enterprise Linux Server release 5.11 (Tikanga)\n"},
        "rhel",
        "5.11",
        "5.11",
    ),
    (
        {
            "/etc/os-release": b'NAME="CentOS Linux"\nVERSION="7 (Core)"\nID="centos"\nID_LIKE="rhel fedora"\n'
            b'VERSION_ID="7"\n',
            "/etc/centos-release": b"CentOS Linux release 7.9.2009 (Core)\n",
            "/etc/redhat-release": "centos-release",
        },
        "centos",
        "7",
        "7.9.2009",
    ),
    (
        {
            "/etc/redhat-release": b"Red Hat Enterprise Linux Server release 6.10 (Santiago)\n",
            "/etc/oracle-release": b"Oracle Linux Server release 6.10\n",
        },
        "ol",
        "6.10",
        "6.10",
    ),
    (
        {
            "/etc/os-release": b'ID="rhel"\nVERSION_ID="10.0"\n',
            "/etc/redhat-release": b"Red Hat Enterprise Linux release 10.0 (Coughlan)\n",
        },
        "rhel",
        "10.0",
        "10.0",
    ),
    ({"/etc/os-release": b"ID=fedora\nVERSION_ID=41\n"}, "fedora", "41", ""),
    (
        {"/etc/SuSE-release": b"SUSE Linux Enterprise Server 11 (x86_64)\nVERSION = 11\nPATCHLEVEL = 4\n"},
        "sles",
        "11.4",
        "11.4",
    ),
    ({"/etc/SuSE-release": b"openSUSE 13.1 (x86_64)\nVERSION = 13.1\n"}, "opensuse", "13.1", "13.1"),
    ({"/etc/os-release": b'ID="sles"\nID_LIKE="suse"\nVERSION_ID="15.5"\n'}, "sles", "15.5", ""),
    ({"/etc/os-release": b'ID="opensuse-leap"\nVERSION_ID="15.6"\n'}, "opensuse-leap", "15.6", ""),
    (
        {"/etc/system-release": b"Amazon Linux AMI release 2018.03\n"},
        "amzn",
        "2018.03",
        "2018.03",
    ),
    ({"/etc/os-release": b'ID="amzn"\nVERSION_ID="2023"\n'}, "amzn", "2023", ""),
    (
        {"/etc/os-release": b"ID=alpine\nVERSION_ID=3.20.3\n", "/etc/alpine-release": b"3.20"},
        "alpine",
        "3.20.3",
        "3.20",
    ),
    ({"/etc/alpine-release": b"3.0.4\n"}, "alpine", "3.0.4", "3.0.4"),
    ({"/etc/os-release": b"ID=arch\nBUILD_ID=rolling\n", "/etc/arch-release": b""}, "arch", "", ""),
    ({"/etc/os-release": b'ID=photon\nVERSION_ID=5.0\nPRETTY_NAME="VMware Photon OS/Linux"\n'}, "photon", "5.0", ""),
    ({"/usr/lib/os-release": b"ID=flatcar\nVERSION_ID=3975.2.2\n"}, "flatcar", "3975.2.2", ""),
    ({"/lib/os-release": b"ID=flatcar\nVERSION_ID=3975.2.2\n"}, "flatcar", "3975.2.2", ""),
    ({"/lib/modules/5.4.0/modules.dep": b"", "/etc/fstab": b""}, "linux", "", ""),
]


@pytest.mark.parametrize(("files", "name", "version", "point_release"), RELEASES)
def test_a_release_is_recognised(files: Contents, name: str, version: str, point_release: str) -> None:
    facts = look(files)
    assert facts is not None
    assert (facts.distribution, facts.version, facts.point_release) == (name, version, point_release)
    assert facts.problems == ()


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"/etc/fstab": b"", "/etc/passwd": b""},
        {"/grub/grub.cfg": b"", "/vmlinuz-6.1.0": b""},
        {"/etc/os-release": b"ID=freebsd\nVERSION_ID=14.1\n", "/etc/fstab": b"", "/bin/sh": elf(62)},
        {"/Windows/System32/config/SYSTEM": b"regf"},
        {"/etc/os-release": b"\x00" * 100},
    ],
)
def test_what_is_no_linux_is_none(files: Contents) -> None:
    assert look(files) is None


def test_the_titles_of_older_systems_are_kept() -> None:
    facts = look({"/etc/redhat-release": b"CentOS release 6.10 (Final)\n"})
    assert facts is not None
    assert (facts.title, facts.like) == ("CentOS release 6.10 (Final)", ("rhel",))


def test_a_hostile_release_file_is_harmless() -> None:
    title = b'PRETTY_NAME="\x1b]0;evil\x07\xff\xe2\x80\xae"\n'
    facts = look({"/etc/os-release": b"ID=debian\x1b[2J\n" + title + b"ID_LIKE=" + b"x " * 1_000_000})
    assert facts is not None
    assert facts.distribution == "debian\\u001b[2j"
    assert facts.title == "\\u001b]0;evil\\u0007\ufffd\\u202e"
    assert len(facts.like) == 16


def test_a_line_of_four_mebibytes_is_cut() -> None:
    facts = look({"/etc/os-release": b"ID=" + b"a" * (4 << 20 - 3)})
    assert facts is not None
    assert facts.distribution == "a" * 64


def test_a_release_file_beyond_the_limit_is_a_problem_that_names_it() -> None:
    facts = look({"/etc/os-release": bytes((4 << 20) + 1), "/etc/debian_version": b"12.1\n"})
    assert facts is not None
    assert facts.distribution == "debian"
    assert facts.problems == ("/etc/os-release in the guest has 4 MiB; at most 4 MiB are looked at.",)


@pytest.mark.parametrize(
    ("files", "architecture"),
    [
        ({"/bin/sh": "dash", "/bin/dash": X86_64}, "x86_64"),
        ({"/bin/sh": "/bin/busybox", "/bin/busybox": AARCH64}, "aarch64"),
        ({"/bin/sh": I386}, "i386"),
        ({"/bin/sh": b"#!/bin/true", "/lib64/ld-linux-x86-64.so.2": X86_64}, "x86_64"),
        ({"/bin/sh": b"\x7fELF", "/usr/lib/systemd/systemd": elf(22)}, "s390x"),
        ({"/bin/sh": elf(0xFFFF)}, None),
    ],
)
def test_the_architecture_is_that_of_the_programs(files: Contents, architecture: str | None) -> None:
    assert see(files).architecture == architecture


@pytest.mark.parametrize(
    ("files", "base"),
    [
        ({"/ostree/deploy/fedora/deploy": None}, "ostree"),
        ({"/ostree": "sysroot/ostree", "/sysroot": None}, "ostree"),
        ({"/etc/os-release": b"ID=flatcar\n"}, "flatcar"),
        ({"/etc/os-release": b"ID=nixos\n"}, "nixos"),
        ({}, None),
    ],
)
def test_a_system_that_is_one_image_says_so(files: Contents, base: str | None) -> None:
    assert see(files).image_based == base

"""The console on the serial port: in every way that a kernel is told, once, and never against somebody's choice."""

from __future__ import annotations

import pytest

from vmferry.guest.linux.serial_console import CONSOLES, add_serial_console

GRUB = "/boot/grub/grub.cfg"
C = CONSOLES.decode()

TOLD = [
    (
        GRUB,
        "\tlinux\t/vmlinuz root=UUID=1 ro quiet\n\tinitrd /i\n",
        f"\tlinux\t/vmlinuz root=UUID=1 ro quiet {C}\n\tinitrd /i\n",
    ),
    (GRUB, "linuxefi /vmlinuz ro  \nlinux16 /m\n", f"linuxefi /vmlinuz ro {C}\nlinux16 /m {C}\n"),
    (GRUB, "# linux /vmlinuz\nset linux=1\nsearch -n\n", "# linux /vmlinuz\nset linux=1\nsearch -n\n"),
    ("/boot/grub/menu.lst", "title a\nkernel /vmlinuz root=/dev/sda1", f"title a\nkernel /vmlinuz root=/dev/sda1 {C}"),
    ("/boot/loader/entries/a.conf", "title a\noptions $kernelopts\n", f"title a\noptions $kernelopts {C}\n"),
    ("/boot/extlinux/extlinux.conf", "LABEL l\n  APPEND root=1\n", f"LABEL l\n  APPEND root=1 {C}\n"),
    ("/etc/kernel/cmdline", "root=UUID=1 ro\n", f"root=UUID=1 ro {C}\n"),
    ("/etc/kernel/cmdline", "\n", "\n"),
    ("/etc/default/grub", 'GRUB_CMDLINE_LINUX=""\nA=1\n', f'GRUB_CMDLINE_LINUX="{C}"\nA=1\n'),
    ("/etc/default/grub", "GRUB_CMDLINE_LINUX='a=b'\n", f"GRUB_CMDLINE_LINUX='a=b {C}'\n"),
    ("/etc/default/grub", 'GRUB_CMDLINE_LINUX_DEFAULT="quiet"\n', 'GRUB_CMDLINE_LINUX_DEFAULT="quiet"\n'),
    (
        GRUB,
        "linux16 /m/memtest86+.bin console=ttyS0\nlinux /v ro\n",
        f"linux16 /m/memtest86+.bin console=ttyS0\nlinux /v ro {C}\n",
    ),
    ("/etc/initramfs-tools/conf.d/resume", "RESUME=UUID=1\n", "RESUME=UUID=1\n"),
]


@pytest.mark.parametrize(("path", "text", "wanted"), TOLD)
def test_it_is_told_once(path: str, text: str, wanted: str) -> None:
    once = add_serial_console(path, text.encode())
    assert once.decode() == wanted
    assert add_serial_console(path, once) == once


@pytest.mark.parametrize("text", [b"linux /v ro console=hvc0\n", b"linux /v console=tty0\nlinux /w\n"])
def test_what_somebody_has_chosen_stays(text: bytes) -> None:
    assert add_serial_console(GRUB, text) == text


@pytest.mark.timeout(20)
@pytest.mark.parametrize("path", [GRUB, "/etc/default/grub", "/etc/kernel/cmdline"])
@pytest.mark.parametrize("filling", [b" ", b'"', b"' \t", b"linux "])
def test_a_line_of_a_megabyte_takes_no_time(path: str, filling: bytes) -> None:
    for begin in (b"linux /v", b'GRUB_CMDLINE_LINUX="', b""):
        add_serial_console(path, begin + filling * (1_000_000 // len(filling)) + b"y")

"""What a guest's last words mean: the table of known texts, tried on what real guests said."""

from __future__ import annotations

import time

import pytest

from vmferry.guest.boot_check.signs import SIGNS, Reached, plain, read_signs

SAID = [
    ("SeaBIOS (version 1.16.2-debian-1.16.2-1)\nBooting from Hard Disk...", Reached.FIRMWARE, None),
    (
        "Booting from Hard Disk...\nBoot failed: not a bootable disk\nNo bootable device.",
        Reached.FIRMWARE,
        "nothing to start",
    ),
    ("BdsDxe: loading Boot0002\nUEFI Interactive Shell v2.2\nShell> ", Reached.FIRMWARE, "its shell"),
    ("Missing operating system", Reached.FIRMWARE, "no system behind"),
    ("Welcome to GRUB!\n", Reached.BOOT_LOADER, None),
    ("error: no such device: 7ae3.\nEntering rescue mode...\ngrub rescue> ", Reached.BOOT_LOADER, "rescue prompt"),
    ("   Minimal BASH-like line editing is supported.\n\ngrub> ", Reached.BOOT_LOADER, "its configuration"),
    ("BOOTMGR is missing\nPress Ctrl+Alt+Del to restart", Reached.BOOT_LOADER, "boot loader is missing"),
    ("NTLDR is missing", Reached.BOOT_LOADER, "boot loader is missing"),
    ("[    0.000000] Linux version 6.1.0-28-amd64 (debian-kernel@…)", Reached.KERNEL, None),
    (
        "[ 2.1] VFS: Unable to mount root fs on unknown-block(0,0)\n[ 2.1] Kernel panic - not syncing: VFS: no root",
        Reached.KERNEL,
        "does not find its root",
    ),
    ("[  3.0] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100", Reached.INITRAMFS, "panicked"),
    (
        "Gave up waiting for root.\nALERT!  UUID=7ae3 does not exist.  Dropping to a shell!\n\n(initramfs) ",
        Reached.INITRAMFS,
        "did not appear",
    ),
    ("[  190.1] dracut-initqueue[242]: Warning: dracut-initqueue timeout", Reached.INITRAMFS, "did not appear"),
    ("Entering emergency mode. Exit the shell to continue.", Reached.INITRAMFS, "opened a shell"),
    ("You are in emergency mode. After logging in, type", Reached.SYSTEM, "emergency mode"),
    ("Give root password for maintenance\n(or press Control-D to continue): ", Reached.SYSTEM, "emergency mode"),
    ("Please enter passphrase for disk QEMU_HARDDISK (cryptroot):", Reached.INITRAMFS, "passphrase"),
    ("Welcome to Debian GNU/Linux 12 (bookworm)!\n", Reached.SYSTEM, None),
    ("Debian GNU/Linux 12 web ttyS0\n\nweb login: ", Reached.LOGIN, None),
    ("Debian GNU/Linux 12 web tty1\n\nweb login: _", Reached.LOGIN, None),  # the screen's cursor is read, too
    ("VMFERRY-GUEST-READY vmferry tiny guest on /dev/vda1", Reached.LOGIN, None),
    ("VMFERRY-GUEST-NO-ROOT", Reached.INITRAMFS, "did not appear"),
    ("[  OK  ] Windows failed to start. A recent change", Reached.BOOT_LOADER, "boot loader failed"),
    ("Loading, please wait...\n", Reached.INITRAMFS, None),
    ("", Reached.NOTHING, None),
]


@pytest.mark.parametrize(("said", "reached", "failure"), SAID, ids=[said[0][:30] or "silence" for said in SAID])
def test_what_a_guest_says_is_understood(said: str, reached: Reached, failure: str | None) -> None:
    read = read_signs(said)
    assert read.reached is reached
    assert (read.failure is None) == (failure is None)
    assert failure is None or failure in (read.failure or "")


def test_every_sign_has_something_that_shows_it() -> None:
    said = "\n".join(text for text, _, _ in SAID)
    for sign in SIGNS:
        assert sign.pattern.search(said), sign.pattern.pattern


def test_the_first_of_several_failures_is_the_cause() -> None:
    read = read_signs("ALERT!  /dev/sda2 does not exist.\n(initramfs) \nKernel panic - not syncing: x")
    assert "did not appear" in (read.failure or "")


@pytest.mark.parametrize(
    "said",
    [
        "[   36.872212] kvm: Nested Virtualization enabled\n[   36.872639] SVM: kvm: Nested Paging enabled\n",
        "[12345.678901] x",
        "[\x1b[0;32m  OK  \x1b[0m] Reached target \x1b[0;1;39mmulti-user.target\x1b[0m - Multi-User System.\r\n",
        "[\x1b[0;1;31mFAILED\x1b[0m] Failed to start apparmor.service.\r\n",
        "         Starting systemd-update-utmp-runlevel.service...\n",
    ],
)
def test_a_prompt_that_is_spoken_over_is_a_prompt(said: str) -> None:
    """What the kernel or systemd says after it comes on its line: of a Debian on a serial port, one start in ten."""
    assert read_signs(plain(f"Debian GNU/Linux 12 web ttyS0\n\nweb login: {said}")).reached is Reached.LOGIN


@pytest.mark.parametrize("said", ["login: [root] was refused", "Last login: [   36.872212] x", "login: root"])
def test_words_about_a_login_are_no_prompt(said: str) -> None:
    assert read_signs(said).reached is Reached.NOTHING


def test_a_login_behind_a_warning_is_a_success() -> None:
    assert read_signs("dracut-initqueue timeout\nweb login: ").failure is None


def test_a_last_login_is_no_prompt() -> None:
    assert read_signs("Last login: ").reached is Reached.NOTHING


def test_colours_and_places_are_left_out() -> None:
    assert plain("\x1b[2J\x1b[01;01H\x1b[1m\x1b[33mgrub> \x1b[0m\r\nx") == "\n\ngrub> \nx"
    assert read_signs(plain("\x1b[2J\x1b[01;01Hgrub> ")).failure


@pytest.mark.parametrize(
    "evil",
    [
        "ALERT! ",
        "dracut-initqueue ",
        "Welcome to ",
        "login: " + " " * 100,
        "[" + " " * 50,
        "\x1b[0;",
        "Windows Boot Manager",
    ],
)
def test_what_a_hostile_guest_says_costs_no_time(evil: str) -> None:
    said = evil * (400_000 // len(evil))
    start = time.process_time()
    read_signs(plain(said))
    assert time.process_time() - start < 2

"""Words for operating systems, as descriptors of all products have them, and what other products make of them."""

from __future__ import annotations

import pytest

from vmferry.appliances._guest_words import find_guest


@pytest.mark.parametrize(
    ("words", "number", "word", "has_sas"),
    [
        ("Microsoft Windows Server 2022 (64-bit)", 118, "windows9Server64Guest", True),
        ("windows2019srv_64Guest", 118, "windows2019srv_64Guest", True),
        ("windows2019srv-64", 118, "windows9Server64Guest", True),
        ("Windows Server 2012 R2", 115, "windows8Server64Guest", True),
        ("windows8srv-64", 112, "windows8Server64Guest", True),
        ("Windows2008_64", 77, "winLonghorn64Guest", True),
        ("Windows Server 2008 R2", 103, "windows7Server64Guest", True),
        ("Windows 11", 120, "windows9_64Guest", True),
        ("Windows10_64", 120, "windows9_64Guest", True),
        ("Windows 10 (32-bit)", 119, "windows9Guest", True),
        ("Windows 8.1", 117, "windows8_64Guest", True),
        ("windows7Guest", 105, "windows7Guest", True),
        ("Windows XP Professional 32-bit", 67, "winXPProGuest", False),
        ("winNetStandardGuest", 69, "winNetStandardGuest", False),
        ("Windows Server 2003", 70, "winNetStandard64Guest", False),
        ("Ubuntu_64", 94, "ubuntu64Guest", False),
        ("ubuntuGuest", 93, "ubuntuGuest", False),
        ("http://ubuntu.com/ubuntu/22.04", 94, "ubuntu64Guest", False),
        ("Debian GNU/Linux 12 (bookworm)", 96, "debian6_64Guest", False),
        ("Red Hat Enterprise Linux 9", 80, "rhel6_64Guest", False),
        ("Oracle Linux 8", 109, "oracleLinux64Guest", False),
        ("Linux 2.6 x86", 36, "otherLinuxGuest", False),
        ("Linux 6 x86_64", 101, "otherLinux64Guest", False),
        ("FreeBSD_64", 78, "freebsd64Guest", False),
        ("darwin22_64Guest", 102, "darwin22_64Guest", False),
        ("HAL 9000", 102, None, False),
        ("", 102, None, False),
        (None, 102, None, False),
    ],
)
def test_what_words_mean(words: str | None, number: int, word: str | None, has_sas: bool) -> None:
    guest = find_guest(words)
    assert (guest.number, guest.word, guest.has_sas) == (number, word, has_sas)

"""Whatever bytes a guest has in the files that are looked at: sentences come out, in bounded time, and no errors."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.guest.linux_trees import UNITS, X86_64, Contents, bzimage, elf, gzipped, initramfs, kernel, look, unified
from vmferry.errors import GuestError
from vmferry.guest.facts_json import from_json, to_json
from vmferry.guest.filesystems import Node
from vmferry.guest.filesystems.memory import MemoryFileSystem
from vmferry.guest.linux.facts import LinuxFacts
from vmferry.guest.linux.system import find_linux
from vmferry.guest.tree import Tree

pytestmark = pytest.mark.slow

BOOT = [
    "/boot/extlinux.conf",
    "/boot/grub/device.map",
    "/boot/grub/grub.cfg",
    "/boot/grub/grubenv",
    "/boot/grub/menu.lst",
    "/boot/loader/entries/a.conf",
    "/boot/loader/entries/b.conf",
    "/boot/loader/loader.conf",
    "/boot/vmlinuz-6.1.0",
    "/boot/initrd.img-6.1.0",
    "/boot/efi/EFI/a/grub.cfg",
    "/boot/efi/EFI/a/grubx64.efi",
    "/boot/efi/EFI/Linux/a.efi",
    "/etc/lilo.conf",
    "/lib/modules/6.1.0/modules.builtin",
    "/lib/modules/6.1.0/modules.dep",
]
SETTINGS = [
    "/etc/adjtime",
    "/etc/cloud/cloud.cfg",
    "/etc/crypttab",
    "/etc/fstab",
    "/etc/hostname",
    "/etc/inittab",
    "/etc/lsb-release",
    "/etc/lvm/devices/system.devices",
    "/etc/lvm/lvm.conf",
    "/etc/netplan/a.yaml",
    "/etc/network/interfaces",
    "/etc/NetworkManager/system-connections/a",
    "/etc/os-release",
    "/etc/redhat-release",
    "/etc/selinux/config",
    "/etc/sysconfig/network-scripts/ifcfg-a",
    "/etc/systemd/network/a.network",
    "/etc/systemd/system-preset/a.preset",
    "/etc/SuSE-release",
    "/etc/udev/rules.d/70-net.rules",
]
WORDS = st.sampled_from(
    [
        *"\n\n\n  \t=:[]{}\"'#,-\\\x00\x1b\xff",
        *("UUID=", "ID=", "address", "iface a inet static", "network:", "  ethernets:", "- ", "\\040", "\\x0a"),
        *("[Match]", "Name=", "[connection]", "IDTYPE=sys_wwid", "datasource_list: [", "filter = [", "source /etc/*"),
    ]
)
BOOT_WORDS = st.sampled_from(
    [
        *"\n\n\n  \t={}\"'>#,/\\\x00\x1b\xff10",
        *(
            "menuentry 'a' {\n",
            "submenu b {\n",
            "}\n",
            "linux /vmlinuz-6.1.0 root=UUID=x\n",
            "initrd /initrd.img-6.1.0\n",
        ),
        *("set default=", "${saved_entry}", "saved_entry=", "next_entry=", "blscfg\n", "load_env -f /a", "search -u "),
        *(
            "configfile /boot/grub/grub.cfg\n",
            "title a\n",
            "kernel /boot/vmlinuz-6.1.0\n",
            "module ",
            "default ",
            "label a\n",
        ),
        *(
            "options root=LABEL=x ostree=/ostree/deploy\n",
            "append initrd=",
            "image=",
            "kernel/a.ko.xz: ",
            "(hd0) /dev/sda",
        ),
    ]
)
IMAGES = st.sampled_from(
    [bzimage("6.1.0"), unified("6.1.0", "quiet", initramfs("6.1.0", "nvme")), elf(62), gzipped(elf(62)), b"MZ"]
)
TEXTS = st.binary(max_size=300) | st.lists(WORDS | st.text(max_size=5), max_size=60).map(
    lambda words: "".join(words).encode("utf-8", "surrogatepass")
)


def check(files: Contents) -> None:
    """There are facts; they survive JSON, and no text in them moves a terminal."""
    facts = look({"/bin/sh": X86_64, "/etc/debian_version": b"12.1", **files})
    assert facts is not None
    text = json.dumps(to_json(facts), ensure_ascii=False)
    assert from_json(LinuxFacts, json.loads(text)) == facts
    assert not re.search("[\x00-\x1f\x7f-\x9f\u202e\ud800-\udfff]", text)
    assert len(text.encode()) < 512 << 10


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(SETTINGS), TEXTS))
def test_any_bytes_in_the_settings_give_facts(files: dict[str, bytes]) -> None:
    check({"/usr/lib/systemd/systemd": b"", **files})


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A kernel with some of its bytes changed."""
    image = bytearray(draw(IMAGES))
    for _ in range(draw(st.integers(0, 6))):
        place = draw(st.integers(0, min(len(image), 1400) - 1))
        image[place : place + 4] = draw(st.binary(min_size=1, max_size=4))
    return bytes(image)


BOOT_TEXTS = (
    st.binary(max_size=300)
    | damaged()
    | st.lists(BOOT_WORDS, max_size=60).map(lambda words: "".join(words).encode("utf-8", "surrogatepass"))
)


@settings(max_examples=250, deadline=None)
@given(st.dictionaries(st.sampled_from(BOOT), BOOT_TEXTS))
def test_any_bytes_in_what_boots_give_facts(files: dict[str, bytes]) -> None:
    check(files)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from(SETTINGS), st.sampled_from(["a", "/", "..", "/etc/fstab", "/etc", "/x/y"])))
def test_links_in_place_of_the_settings_give_facts(files: dict[str, str]) -> None:
    check({**UNITS, **files})


class Damaged(MemoryFileSystem):
    """Sound up to a certain call, and damaged there, or from there on."""

    sound = 0
    for_good = False
    calls = 0

    def _ask(self) -> None:
        self.calls += 1
        if self.calls > self.sound and (self.for_good or self.calls == self.sound + 1):
            raise GuestError("the file system is damaged there")

    def node(self, path: str) -> Node | None:
        self._ask()
        return super().node(path)

    def names(self, path: str) -> Sequence[str]:
        self._ask()
        return super().names(path)

    def read_at(self, path: str, offset: int, length: int) -> bytes:
        self._ask()
        return super().read_at(path, offset, length)


@pytest.mark.parametrize("for_good", [False, True])
def test_a_damaged_file_system_gives_facts_and_a_problem(for_good: bool) -> None:
    files = {
        **UNITS,
        **kernel("6.1.0", gzipped(initramfs("6.1.0", "nvme"))),
        "/bin/sh": X86_64,
        "/etc/os-release": b"ID=debian\n",
        "/etc/fstab": b"LABEL=root / ext4\n",
        "/boot/grub/grub.cfg": b"menuentry a {\nlinux /boot/vmlinuz-6.1.0\ninitrd /boot/initrd.img-6.1.0\n}\n",
    }
    whole = Damaged(files)
    whole.sound = 1 << 30
    assert find_linux(Tree({"/": whole}), ()) is not None
    for place in range(0, whole.calls, 3):
        system = Damaged(files)
        system.sound, system.for_good = place, for_good
        facts = find_linux(Tree({"/": system}), ())
        if facts is None:  # not even what tells a Linux can be read
            assert for_good
            assert place < 40
        else:
            assert "the file system is damaged there" in facts.problems


def test_folders_without_end_are_not_walked() -> None:
    names = {f"/etc/systemd/system/{number}.wants/a": b"" for number in range(20_000)}
    boot = {f"/boot/{number}/vmlinuz": b"" for number in range(20_000)}
    started = time.process_time()
    check({**UNITS, **names, **boot})
    assert time.process_time() - started < 10


def test_facts_without_end_are_cut() -> None:
    fstab = b"".join(b"/dev/x%d /%b ext4 %b\n" % (number, b"y" * 3000, b"o," * 2000) for number in range(400))
    check(
        {
            "/etc/fstab": fstab,
            "/etc/hostname": b"\x1b" * 4000,
            "/etc/cloud/cloud.cfg": b"datasource_list: [" + b"a," * 4000,
        }
    )


def test_settings_without_end_are_not_all_read() -> None:
    files = {f"/etc/netplan/{number}.yaml": b"a: b\n" * 800_000 for number in range(12)}
    facts = look({"/etc/os-release": b"ID=x\n", **files})
    assert facts is not None
    assert "/etc/netplan/8.yaml was not read: the settings read before have 24 MiB." in facts.problems


@pytest.mark.parametrize(
    "piece",
    [
        b"[",
        b"menuentry a {\n",
        b"submenu a {\n",
        b"title a\n",
        b"label a\n",
        b"'a'",
        b'"\\',
        b"a {\n",
        b"a.ko:\n",
        b"{",
        b"a: ",
        b"- ",
        b" " * 7 + b"x",
        b'"',
        b"a=",
        b"\\040",
        b"\n",
        b"[a]\n",
        b"x:\n",
    ],
)
def test_a_mebibyte_of_one_thing_is_soon_read(piece: bytes) -> None:
    once = piece * (8000 // len(piece))
    content = ((once + b"\n") * 128) + piece * (90_000 // len(piece))
    started = time.process_time()
    for path in SETTINGS + BOOT:
        check({**UNITS, path: content})
    assert time.process_time() - started < 20

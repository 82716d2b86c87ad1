"""Our writer of FAT: fsck.vfat finds nothing to mend, mtools read what was written, the rest stays."""

from __future__ import annotations

import random
import subprocess
from functools import lru_cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.guest.ext_images import overlay_of, write_out
from vmferry.errors import GuestError
from vmferry.guest.fat_writer import FatFileSystem
from vmferry.guest.overlay import OverlayDisk
from vmferry.guest.overlay_volume import OverlayVolume
from vmferry.units import KIB, MIB

pytestmark = pytest.mark.slow

NOW = 1_800_000_000
SHIM, GRUB = random.Random(1).randbytes(900_001), random.Random(2).randbytes(70_000)
OPTIONS = {
    "fat32": ("-F 32 -s 1", 40),
    "fat32_large_clusters": ("-F 32 -s 8", 300),
    "fat16": ("-F 16", 40),
    "fat12": ("-F 12", 8),
    "one_table": ("-F 32 -s 1 -f 1", 40),
    "sectors_4k": ("-F 32 -S 4096 -s 1", 300),
}


def mtools(*words: str | Path, image: Path) -> bytes:
    command = [words[0], "-i", image, *words[1:]]
    return subprocess.run(
        command, capture_output=True, check=True, env={"MTOOLS_SKIP_CHECK": "1", "PATH": "/usr/bin"}
    ).stdout


@lru_cache
def cached_image(name: str, folder: Path) -> bytes:
    options, mib = OPTIONS[name]
    image = folder / f"{name}.img"
    with image.open("wb") as file:
        file.truncate(mib * MIB)
    subprocess.run(["mkfs.vfat", *options.split(), image], check=True, capture_output=True)
    (folder / "shim").write_bytes(SHIM)
    (folder / "grub").write_bytes(GRUB)
    mtools("mmd", "::/EFI", "::/EFI/AlmaLinux by name", image=image)
    mtools("mcopy", folder / "shim", "::/EFI/AlmaLinux by name/shimx64.efi", image=image)
    mtools("mcopy", folder / "grub", "::/EFI/AlmaLinux by name/grubx64.efi", image=image)
    return image.read_bytes()


def system_on(overlay: OverlayDisk) -> FatFileSystem:
    return FatFileSystem(OverlayVolume(overlay, [(0, overlay.size)]))


def check(image: Path) -> None:
    judged = subprocess.run(["fsck.vfat", "-n", image], capture_output=True, text=True)
    assert judged.returncode == 0, judged.stdout


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fat")


@pytest.mark.parametrize("name", OPTIONS)
def test_files_are_read_and_added(name: str, images: Path, tmp_path: Path) -> None:
    overlay = overlay_of(cached_image(name, images))
    system = system_on(overlay)
    assert system.names("/efi/almalinux BY name") == ["shimx64.efi", "grubx64.efi"]
    assert system.read("/EFI/AlmaLinux by name/SHIMX64.EFI") == SHIM
    assert system.size("/EFI/AlmaLinux by name") is None
    system.check_room([len(SHIM), len(GRUB), 0])
    system.make_folder("/EFI/BOOT", NOW)
    system.make_folder("/EFI/BOOT", NOW)
    for number in range(70):  # the folder grows
        system.create_file(f"/EFI/BOOT/F{number}.CFG", b"", NOW)
    system.create_file("/EFI/BOOT/BOOTX64.EFI", SHIM, NOW)
    system.create_file("/EFI/BOOT/GRUBX64.EFI", GRUB, NOW)
    system.commit()
    out = write_out(overlay, tmp_path / "out.img")
    overlay.close()
    check(out)
    assert mtools("mtype", "::/EFI/BOOT/BOOTX64.EFI", image=out) == SHIM
    assert mtools("mtype", "::/EFI/BOOT/GRUBX64.EFI", image=out) == GRUB
    assert mtools("mtype", "::/EFI/AlmaLinux by name/grubx64.efi", image=out) == GRUB


def test_what_does_not_fit_is_told(images: Path) -> None:
    overlay = overlay_of(cached_image("fat12", images))
    with pytest.raises(GuestError, match=r"has 7 MiB free, .* are needed: make room on the guest"):
        system_on(overlay).check_room([5 * MIB, 3 * MIB])
    assert list(overlay.changed()) == []


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_damage_gives_a_sentence_or_a_file(data: st.DataObject, images: Path) -> None:
    name = data.draw(st.sampled_from(["fat32", "fat16", "fat12"]))
    image = bytearray(cached_image(name, images))
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.one_of(st.integers(0, 100), st.integers(0, 100 * KIB)))
        image[place] ^= 1 << data.draw(st.integers(0, 7))
    overlay = overlay_of(bytes(image))
    try:
        system = system_on(overlay)
        system.check_room([9])
        system.make_folder("/EFI/BOOT", NOW)
        system.create_file("/EFI/BOOT/BOOTX64.EFI", b"new bytes", NOW)
    except GuestError:
        return
    system.commit()
    assert system_on(overlay).read("/EFI/BOOT/BOOTX64.EFI") == b"new bytes"


def test_no_name_is_given_twice(images: Path) -> None:
    overlay = overlay_of(cached_image("fat16", images))
    system = system_on(overlay)
    system.create_file("/EFI/BOOT", b"a file where a folder should be", NOW)
    with pytest.raises(GuestError, match="/EFI/BOOT on the EFI system partition is something else than it should be"):
        system.make_folder("/EFI/BOOT", NOW)
    system.make_folder("/EFI/GRUB.CFG", NOW)
    with pytest.raises(GuestError, match="something else"):
        system.create_file("/EFI/GRUB.CFG", b"", NOW)

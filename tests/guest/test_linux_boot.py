"""What starts a Linux system: boot loaders of all families, kernels, and the drivers in each one's initramfs."""

from __future__ import annotations

import lzma
import random

import pytest
import zstandard

from tests.guest.linux_trees import (
    AARCH64,
    BOOT,
    ESP,
    ROOT,
    X86_64,
    Contents,
    bzimage,
    cpio,
    early,
    elf,
    gzipped,
    initramfs,
    kernel,
    look,
    see,
    unified,
)

MACHINE = "0123456789abcdef0123456789abcdef"
VIRTIO = early() + zstandard.ZstdCompressor().compress(initramfs("6.1.0-28-amd64", "virtio_blk", "virtio-pci"))
VMWARE = early() + gzipped(initramfs("6.1.0-28-amd64", "vmw_pvscsi"))


def grub_cfg(default: str, *entries: str) -> bytes:
    """grub.cfg as grub-mkconfig begins it."""
    head = (
        'if [ -s $prefix/grubenv ]; then\n  set have_grubenv=true\n  load_env\nfi\nif [ "${next_entry}" ] ; then\n'
        '   set default="${next_entry}"\n   set next_entry=\n   save_env next_entry\n   set boot_once=true\n'
        f'else\n   set default="{default}"\nfi\n'
        'function savedefault {\n  if [ -z "${boot_once}" ]; then\n    saved_entry="${chosen}"\n  fi\n}\n'
    )
    return (head + "".join(entries)).encode()


def menuentry(version: str, boot: str = "", *, indent: str = "", options: str = "ro quiet") -> str:
    return (
        f"{indent}menuentry 'Linux {version}' --class gnu-linux $menuentry_id_option 'gnulinux-{version}-advanced' {{\n"
        f"{indent}\tinsmod ext2\n{indent}\tif [ x$feature_platform_search_hint = xy ]; then\n"
        f"{indent}\t  search --no-floppy --fs-uuid --set=root {BOOT.uuid}\n{indent}\tfi\n"
        f"{indent}\techo\t'Loading …'\n{indent}\tlinux\t{boot}/vmlinuz-{version} root=UUID={ROOT.uuid} {options}\n"
        f"{indent}\tinitrd\t{boot}/initrd.img-{version}\n{indent}}}\n"
    )


def test_a_debian_starts_with_what_its_initramfs_holds() -> None:
    facts = see(
        {
            **kernel("6.1.0-28-amd64", VIRTIO, built_in=("sd_mod",)),
            **kernel("6.1.0-9-amd64", VMWARE),
            "/boot/grub/grub.cfg": grub_cfg(
                "0", menuentry("6.1.0-28-amd64", "/boot"), menuentry("6.1.0-9-amd64", "/boot")
            ),
        }
    )
    assert facts.boot_loader == "grub2"
    assert facts.boot_config == "/boot/grub/grub.cfg"
    assert not facts.default_guessed
    assert facts.command_line == f"root=UUID={ROOT.uuid} ro quiet"
    assert facts.root_volume == ROOT.place
    assert facts.problems == ()
    newest, older = facts.kernels
    assert (newest.version, newest.default, newest.architecture) == ("6.1.0-28-amd64", True, "x86_64")
    assert newest.image == "/boot/vmlinuz-6.1.0-28-amd64"
    assert newest.initramfs == "/boot/initrd.img-6.1.0-28-amd64"
    assert newest.initramfs_size == len(VIRTIO)
    assert newest.in_initramfs == ("virtio_blk", "virtio_pci")
    assert newest.built_in == ("sd_mod",)
    assert newest.as_module == ("nvme", "virtio_blk", "virtio_pci")
    assert newest.modules == "/usr/lib/modules/6.1.0-28-amd64"
    assert newest.initramfs_problem is None
    assert (older.version, older.default, older.in_initramfs) == ("6.1.0-9-amd64", False, ())
    assert older.initramfs_problem == (
        "/boot/initrd.img-6.1.0-9-amd64 has modules of 6.1.0-28-amd64, and none of 6.1.0-9-amd64."
    )


def test_a_boot_volume_of_its_own_is_looked_into() -> None:
    files = kernel("6.1.0-28-amd64", VMWARE, boot="")
    boot: dict[str, bytes | str | None] = {path: data for path, data in files.items() if not path.startswith("/usr")}
    boot["/grub/grub.cfg"] = grub_cfg("0", menuentry("6.1.0-28-amd64"))
    facts = see({path: data for path, data in files.items() if path not in boot}, boot=boot)
    assert facts.kernels[0].image == "/boot/vmlinuz-6.1.0-28-amd64"
    assert facts.kernels[0].in_initramfs == ("vmw_pvscsi",)
    assert facts.kernels[0].default


SUBMENU = grub_cfg(
    "${saved_entry}",
    menuentry("5.15.0-130-generic", "/boot"),
    "submenu 'Advanced options for Ubuntu' $menuentry_id_option 'gnulinux-advanced' {\n",
    menuentry("5.15.0-130-generic", "/boot", indent="\t"),
    menuentry("5.15.0-91-generic", "/boot", indent="\t"),
    "}\n",
    "menuentry 'UEFI Firmware Settings' $menuentry_id_option 'uefi-firmware' {\n\tfwsetup\n}\n",
)


@pytest.mark.parametrize(
    ("environment", "version", "guessed"),
    [
        (b"", "5.15.0-130-generic", True),
        (b"saved_entry=1>1\n", "5.15.0-91-generic", False),
        (b"saved_entry=gnulinux-advanced>gnulinux-5.15.0-91-generic-advanced\n", "5.15.0-91-generic", False),
        (b"saved_entry=Advanced options for Ubuntu>Linux 5.15.0-91-generic\n", "5.15.0-91-generic", False),
        (b"saved_entry=1\n", "5.15.0-130-generic", False),
        (b"saved_entry=0\nnext_entry=1>1\n", "5.15.0-91-generic", False),
        (b"saved_entry=no such entry\n", "5.15.0-130-generic", True),
        (b"saved_entry=7>7>7\n", "5.15.0-130-generic", True),
    ],
)
def test_the_saved_entry_of_an_ubuntu_is_found_in_its_submenus(environment: bytes, version: str, guessed: bool) -> None:
    packed = gzipped(initramfs("x"))
    facts = see(
        {
            **kernel("5.15.0-130-generic", packed),
            **kernel("5.15.0-91-generic", packed),
            "/boot/grub/grub.cfg": SUBMENU,
            "/boot/grub/grubenv": (b"# GRUB Environment Block\n" + environment).ljust(1024, b"#"),
        }
    )
    assert facts.kernels[0].version == version
    assert [one.default for one in facts.kernels] == [True, False]
    assert facts.default_guessed is guessed


def bls(version: str, options: str = "root=UUID=x ro", machine: str = MACHINE, **more: str) -> Contents:
    text = f"title Linux ({version})\nversion {version}\nlinux /vmlinuz-{version}\ninitrd /initramfs-{version}.img"
    text += f" $tuned_initrd\noptions {options}\n" + "".join(f"{key} {value}\n" for key, value in more.items())
    return {f"/boot/loader/entries/{machine}-{version}.conf": text.encode()}


def red_hat(environment: bytes, *versions: str, config: bytes = b'set default="${saved_entry}"\nblscfg\n') -> Contents:
    files: dict[str, bytes | str | None] = {
        "/etc/os-release": b"ID=rhel\nVERSION_ID=9.4\n",
        "/boot/grub2/grub.cfg": config,
        "/boot/grub2/grubenv": environment,
        f"/boot/vmlinuz-0-rescue-{MACHINE}": bzimage(versions[0]),
        f"/boot/initramfs-0-rescue-{MACHINE}.img": b"",
        f"/boot/loader/entries/{MACHINE}-0-rescue.conf": f"title rescue\nlinux /vmlinuz-0-rescue-{MACHINE}\n".encode(),
    }
    for version in versions:
        packed = lzma.compress(initramfs(version, "virtio_blk", suffix=".ko.xz"))
        files |= kernel(version, packed, name="initramfs-{}.img") | dict(bls(version))
    return files


@pytest.mark.parametrize(
    ("environment", "version", "guessed"),
    [
        (f"saved_entry={MACHINE}-5.14.0-70.el9.x86_64\n".encode(), "5.14.0-70.el9.x86_64", False),
        (b"saved_entry=5.14.0-70.el9.x86_64\n", "5.14.0-70.el9.x86_64", False),
        (f"saved_entry={MACHINE}-5.14.0-9999.el9.x86_64\n".encode(), "5.14.0-427.el9.x86_64", True),
        (b"saved_entry=\n", "5.14.0-427.el9.x86_64", True),
        (b"", "5.14.0-427.el9.x86_64", True),
        (b"saved_entry=1\n", "5.14.0-70.el9.x86_64", False),
    ],
)
def test_entries_of_the_boot_loader_specification(environment: bytes, version: str, guessed: bool) -> None:
    facts = see(red_hat(environment, "5.14.0-70.el9.x86_64", "5.14.0-427.el9.x86_64"))
    first = facts.kernels[0]
    assert (first.version, first.default, facts.default_guessed) == (version, True, guessed)
    assert first.in_initramfs == ("virtio_blk",)
    assert first.initramfs == f"/boot/initramfs-{version}.img"
    assert facts.missing_initramfs is None
    assert facts.kernels[-1].image == f"/boot/vmlinuz-0-rescue-{MACHINE}"
    assert len(facts.kernels) == 3


def test_options_of_an_entry_may_lie_in_the_environment() -> None:
    files = red_hat(b"kernelopts=root=/dev/mapper/my--vg-root ro console=ttyS0\n", "4.18.0-553.el8.x86_64")
    facts = see({**files, **bls("4.18.0-553.el8.x86_64", "$kernelopts $tuned_params")})
    assert facts.command_line == "root=/dev/mapper/my--vg-root ro console=ttyS0"
    assert facts.root_volume == "my-vg/root"
    assert facts.serial_console


EL7 = "3.10.0-1160.el7.x86_64"


def test_a_red_hat_7_keeps_its_configuration_on_the_esp() -> None:
    packed = early() + gzipped(initramfs(EL7, "vmw_pvscsi", suffix=".ko.xz"))
    facts = see(
        {
            **kernel(EL7, packed, name="initramfs-{}.img"),
            "/boot/grub2/grubenv": "../efi/EFI/redhat/grubenv",
        },
        efi={
            "/EFI/redhat/grub.cfg": b'set default="${saved_entry}"\n'
            b"menuentry 'RHEL (" + EL7.encode() + b") 7.9' --class red --unrestricted {\n"
            b"\tlinuxefi /vmlinuz-" + EL7.encode() + b" root=/dev/sda2 ro\n"
            b"\tinitrdefi /initramfs-" + EL7.encode() + b".img\n}\n",
            "/EFI/redhat/grubenv": b"saved_entry=RHEL (" + EL7.encode() + b") 7.9\n",
            "/EFI/redhat/shimx64.efi": b"MZ",
            "/EFI/BOOT/BOOTX64.EFI": b"MZ",
        },
    )
    assert facts.boot_config == "/boot/efi/EFI/redhat/grub.cfg"
    assert not facts.default_guessed
    assert facts.kernels[0].in_initramfs == ("vmw_pvscsi",)
    assert facts.root_volume == ROOT.place
    assert facts.efi_loaders == ("/EFI/BOOT/BOOTX64.EFI", "/EFI/redhat/shimx64.efi")
    assert facts.efi_fallback == "/EFI/BOOT/BOOTX64.EFI"


STUB = "search.fs_uuid {} root hd0,gpt2 \nset prefix=($root)'/boot/grub'\nconfigfile $prefix/grub.cfg\n"


def test_a_debian_on_uefi_may_have_no_fallback_loader() -> None:
    facts = see(
        {
            **kernel("6.1.0-28-amd64", VIRTIO),
            "/boot/grub/grub.cfg": grub_cfg("0", menuentry("6.1.0-28-amd64", "/boot")),
        },
        efi={
            "/EFI/debian/grubx64.efi": b"MZ",
            "/EFI/debian/shimx64.efi": b"MZ",
            "/EFI/debian/grub.cfg": STUB.format(ROOT.uuid).encode(),
        },
    )
    assert facts.efi_loaders == ("/EFI/debian/grubx64.efi", "/EFI/debian/shimx64.efi")
    assert facts.efi_fallback is None
    assert facts.boot_config == "/boot/grub/grub.cfg"
    assert facts.problems == ()


def test_a_stub_leads_to_the_configuration_wherever_that_lies() -> None:
    facts = see(
        {**kernel("6.1.0-28-amd64", VIRTIO), "/grub/grub.cfg": grub_cfg("0", menuentry("6.1.0-28-amd64", "/boot"))},
        efi={
            "/EFI/x/grub.cfg": b"search --no-floppy --root-dev-only --fs-uuid --set=dev dead-beef\n"
            b"set prefix=($dev)/grub\nexport $prefix\nconfigfile $prefix/grub.cfg\n",
            "/EFI/x/grubx64.efi": b"MZ",
        },
    )
    assert facts.boot_config == "/grub/grub.cfg"
    assert facts.kernels[0].default
    assert facts.problems == (
        "/boot/efi/EFI/x/grub.cfg looks for the file system dead-beef, which no disk of the machine has.",
    )


def test_the_fallback_loader_is_that_of_the_architecture() -> None:
    efi = {"/efi/boot/bootaa64.efi": b"MZ", "/efi/boot/BOOTX64.EFI": b"MZ"}
    assert see({"/bin/sh": AARCH64}, efi=efi).efi_fallback == "/efi/boot/bootaa64.efi"
    assert see({"/bin/sh": X86_64}, efi=efi).efi_fallback == "/efi/boot/BOOTX64.EFI"


MENU_LST = b"""# grub.conf generated by anaconda
default=1
timeout=5
splashimage=(hd0,0)/grub/splash.xpm.gz
title CentOS (2.6.32-754.el6.x86_64)
\troot (hd0,0)
\tkernel /vmlinuz-2.6.32-754.el6.x86_64 ro root=/dev/mapper/my--vg-root rhgb quiet
\tinitrd /initramfs-2.6.32-754.el6.x86_64.img
title Other
\trootnoverify (hd0,1)
\tchainloader +1
title CentOS (2.6.32-71.el6.x86_64)
\tkernel /vmlinuz-2.6.32-71.el6.x86_64 ro root=LABEL=root
\tinitrd /initramfs-2.6.32-71.el6.x86_64.img
"""


@pytest.mark.parametrize(
    ("default", "version", "guessed"),
    [
        (b"0", "2.6.32-754.el6.x86_64", False),
        (b"2", "2.6.32-71.el6.x86_64", False),
        (b"9", "2.6.32-754.el6.x86_64", True),
    ],
)
def test_grub_legacy_counts_every_title(default: bytes, version: str, guessed: bool) -> None:
    files: dict[str, bytes | str | None] = {"/etc/redhat-release": b"CentOS release 6.10 (Final)\n"}
    for one in ("2.6.32-754.el6.x86_64", "2.6.32-71.el6.x86_64"):
        files |= kernel(one, gzipped(initramfs(one, "mptspi", prefix="lib/modules")), name="initramfs-{}.img")
    facts = see({**files, "/boot/grub/grub.conf": MENU_LST.replace(b"default=1", b"default=" + default)})
    assert facts.boot_loader == "grub-legacy"
    assert (facts.kernels[0].version, facts.default_guessed) == (version, guessed)
    assert facts.kernels[0].in_initramfs == ("mptspi",)
    assert facts.root_volume == ("my-vg/root" if "754" in version else ROOT.place)


def test_grub_legacy_may_start_another_system_by_default() -> None:
    facts = see({**kernel("2.6.32-754.el6.x86_64"), "/boot/grub/grub.conf": MENU_LST})
    assert not any(one.default for one in facts.kernels)
    assert facts.command_line == ""


def test_a_red_hat_5_has_flat_initramfs_and_no_list_of_what_is_built_in() -> None:
    version = "2.6.18-398.el5"
    facts = see(
        {
            "/etc/redhat-release": b"Red Hat Enterprise Linux Server release 5.11 (Tikanga)\n",
            f"/boot/vmlinuz-{version}": bzimage(version, protocol=0x206),
            f"/boot/initrd-{version}.img": gzipped(cpio({"lib/mptspi.ko": b"", "lib/virtio_blk.ko": b""})),
            f"/boot/config-{version}": b"CONFIG_BLK_DEV_SD=y\nCONFIG_VIRTIO_BLK=m\n",
            f"/lib/modules/{version}/modules.dep": f"/lib/modules/{version}/kernel/e1000.ko:\n".encode(),
        }
    )
    (one,) = facts.kernels
    assert (one.in_initramfs, one.built_in, one.as_module) == (("mptspi", "virtio_blk"), ("sd_mod",), ("e1000",))
    assert one.architecture == "x86_64"
    assert not one.xen_only
    assert facts.boot_loader is None


def test_a_kernel_for_paravirtual_xen_alone_is_known() -> None:
    version = "2.6.18-398.el5xen"
    facts = see(
        {
            f"/boot/vmlinuz-{version}": gzipped(elf(62)),
            f"/boot/initrd-{version}.img": gzipped(cpio({"lib/xennet.ko": b"", "lib/xenblk.ko": b""})),
            f"/lib/modules/{version}/modules.dep": b"",
            "/boot/grub/menu.lst": b"default 0\ntitle Xen\nkernel /xen.gz-2.6.18-398.el5\n"
            b"module /vmlinuz-2.6.18-398.el5xen ro root=LABEL=root\nmodule /initrd-2.6.18-398.el5xen.img\n",
        }
    )
    (one,) = facts.kernels
    assert one.xen_only
    assert one.default
    assert one.in_initramfs == ("xen_blkfront", "xen_netfront")
    assert facts.command_line == "ro root=LABEL=root"


def test_suse_keeps_an_unpacked_kernel_beside_each() -> None:
    version = "5.14.21-150500.55-default"
    facts = see(
        {
            "/etc/os-release": b"ID=sles\nVERSION_ID=15.5\n",
            **kernel(version, lzma.compress(initramfs(version, "virtio_blk", suffix=".ko.zst")), name="initrd-{}"),
            f"/boot/vmlinux-{version}.gz": gzipped(elf(62)),
            "/boot/vmlinuz": f"vmlinuz-{version}",
            "/boot/grub2/grub.cfg": grub_cfg(
                "0", menuentry(version, "/@/.snapshots/1/snapshot/boot").replace("initrd.img-", "initrd-")
            ),
        }
    )
    (one,) = facts.kernels
    assert (one.default, one.in_initramfs) == (True, ("virtio_blk",))
    assert facts.missing_kernel is None


def test_an_alpine_starts_by_extlinux() -> None:
    facts = see(
        {
            "/etc/os-release": b"ID=alpine\nVERSION_ID=3.20.3\n",
            "/boot/extlinux.conf": b"DEFAULT menu.c32\nPROMPT 0\nMENU TITLE Alpine\nLABEL lts\n  MENU DEFAULT\n"
            b"  MENU LABEL Linux lts\n  LINUX vmlinuz-lts\n  INITRD intel-ucode.img,initramfs-lts\n"
            b"  APPEND root=UUID=1a2b-3c4d modules=sd-mod,ext4 quiet\nLABEL menu\n  KERNEL menu.c32\n",
            "/boot/vmlinuz-lts": bzimage("6.6.58-0-lts"),
            "/boot/initramfs-lts": gzipped(initramfs("6.6.58-0-lts", "virtio_blk", suffix=".ko.gz")),
            "/boot/intel-ucode.img": early(),
            "/lib/modules/6.6.58-0-lts/modules.dep": b"",
        }
    )
    assert (facts.boot_loader, facts.default_guessed) == ("extlinux", False)
    (one,) = facts.kernels
    assert (one.version, one.default, one.in_initramfs) == ("6.6.58-0-lts", True, ("virtio_blk",))
    assert one.initramfs == "/boot/initramfs-lts"
    assert facts.root_volume == ESP.place


def test_an_arch_starts_by_systemd_boot() -> None:
    version = "6.11.5-arch1-1"
    facts = see(
        {
            "/etc/os-release": b"ID=arch\n",
            f"/usr/lib/modules/{version}/modules.dep": b"",
            f"/usr/lib/modules/{version}/vmlinuz": bzimage(version),
        },
        boot={
            "/EFI/systemd/systemd-bootx64.efi": b"MZ",
            "/EFI/BOOT/BOOTX64.EFI": b"MZ",
            "/loader/loader.conf": b"timeout 3\ndefault arch*.conf\n",
            "/loader/entries/arch.conf": b"title\tArch Linux\nlinux\t/vmlinuz-linux\ninitrd\t/amd-ucode.img\n"
            b"initrd\t/initramfs-linux.img\noptions\troot=PARTUUID=e5b0-01 rw\n",
            "/vmlinuz-linux": bzimage(version),
            "/amd-ucode.img": early(),
            "/initramfs-linux.img": zstandard.compress(initramfs(version, "nvme", suffix=".ko.zst")),
        },
    )
    assert (facts.boot_loader, facts.default_guessed) == ("systemd-boot", False)
    assert facts.boot_config == "/boot/loader/loader.conf"
    (one,) = facts.kernels
    assert (one.image, one.initramfs, one.in_initramfs) == (
        "/boot/vmlinuz-linux",
        "/boot/initramfs-linux.img",
        ("nvme",),
    )
    assert facts.efi_fallback == "/EFI/BOOT/BOOTX64.EFI"
    assert facts.root_volume == ESP.place


def test_a_unified_kernel_image_is_looked_into() -> None:
    version = "6.11.5-300.fc41.x86_64"
    packed = early() + zstandard.compress(initramfs(version, "virtio_blk", "nvme", suffix=".ko.xz"))
    facts = see(
        {f"/usr/lib/modules/{version}/modules.dep": b""},
        esp={"/EFI/Linux/fedora.efi": unified(version, "root=LABEL=root console=ttyS0", packed)},
    )
    assert facts.boot_loader == "systemd-boot"
    assert facts.command_line == "root=LABEL=root console=ttyS0"
    (one,) = facts.kernels
    assert (one.image, one.initramfs) == ("/efi/EFI/Linux/fedora.efi", "/efi/EFI/Linux/fedora.efi")
    assert (one.version, one.in_initramfs, one.initramfs_size) == (version, ("nvme", "virtio_blk"), len(packed))
    assert one.default
    assert facts.efi_loaders == ()


def test_lilo_starts_what_it_names() -> None:
    facts = see(
        {
            **kernel("2.6.32-5-amd64", gzipped(initramfs("2.6.32-5-amd64", "ata_piix", prefix="lib/modules"))),
            "/etc/lilo.conf": b'boot=/dev/sda\nroot="/dev/sda2"\ndefault=Linux\nimage=/boot/vmlinuz-2.6.32-5-amd64\n'
            b'  label=Linux\n  initrd=/boot/initrd.img-2.6.32-5-amd64\n  append="quiet"\n',
        }
    )
    assert (facts.boot_loader, facts.default_guessed, facts.command_line) == ("lilo", False, "root=/dev/sda2 quiet")
    assert facts.kernels[0].in_initramfs == ("ata_piix",)


def test_a_photon_names_its_kernel_in_a_file_of_its_own() -> None:
    version = "6.1.10-11.ph5"
    facts = see(
        {
            "/etc/os-release": b"ID=photon\nVERSION_ID=5.0\n",
            **kernel(version, gzipped(initramfs(version, "vmw_pvscsi", suffix=".ko.xz"))),
            "/boot/photon.cfg": f"linux-{version}.cfg",
            f"/boot/linux-{version}.cfg": f"photon_cmdline=init=/lib/systemd/systemd loglevel=3\n"
            f"photon_linux=vmlinuz-{version}\nphoton_initrd=initrd.img-{version}\n".encode(),
            "/boot/grub2/grub.cfg": b"set default=0\nset timeout=2\nload_env -f /boot/photon.cfg\n"
            b'set rootpartition=PARTUUID=e5b0-01\nmenuentry "Photon" {\n'
            b"    linux /boot/$photon_linux root=$rootpartition $photon_cmdline\n"
            b"    if [ -f /boot/$photon_initrd ]; then\n        initrd /boot/$photon_initrd\n    fi\n}\n",
        }
    )
    assert facts.command_line == "root=PARTUUID=e5b0-01 init=/lib/systemd/systemd loglevel=3"
    assert facts.kernels[0].in_initramfs == ("vmw_pvscsi",)
    assert not facts.default_guessed


def test_a_flatcar_keeps_two_kernels_without_initramfs() -> None:
    facts = see(
        {"/etc/os-release": b"ID=flatcar\nVERSION_ID=3975.2.2\n"},
        usr={
            "/lib/modules/6.6.60-flatcar/modules.builtin": b"kernel/drivers/block/virtio_blk.ko\n",
            "/lib/modules/6.6.60-flatcar/modules.dep": b"",
        },
        boot={
            "/flatcar/vmlinuz-a": bzimage("6.6.60-flatcar"),
            "/flatcar/grub/x86_64-efi/core.efi": b"MZ",
            "/EFI/boot/bootx64.efi": b"MZ",
        },
    )
    (one,) = facts.kernels
    assert (one.version, one.initramfs, one.built_in) == ("6.6.60-flatcar", None, ("virtio_blk",))
    assert (facts.boot_loader, facts.default_guessed) == ("grub2", True)
    assert facts.image_based == "flatcar"
    assert facts.efi_fallback == "/EFI/boot/bootx64.efi"


def test_a_fedora_coreos_is_seen_from_its_deployment() -> None:
    version, name = "6.11.5-300.fc41.x86_64", f"ostree/fedora-coreos-{'ab' * 32}"
    packed = zstandard.compress(initramfs(version, "virtio_blk", suffix=".ko.xz"))
    files: dict[str, bytes | str | None] = {
        "/ostree": "sysroot/ostree",
        "/etc/os-release": "../usr/lib/os-release",
        "/usr/lib/os-release": b"ID=fedora\nVERSION_ID=41\nVARIANT_ID=coreos\n",
        f"/usr/lib/modules/{version}/vmlinuz": bzimage(version),
        f"/usr/lib/modules/{version}/initramfs.img": packed,
        f"/usr/lib/modules/{version}/modules.dep": b"",
        "/usr/lib/systemd/systemd": X86_64,
        "/usr/lib/systemd/system/sshd.service": b"",
        "/usr/lib/systemd/system-preset/90-default.preset": b"enable sshd.service\n",
    }
    entry = f"title Fedora CoreOS\nversion 1\nlinux /{name}/vmlinuz-{version}\n"
    entry += f"initrd /{name}/initramfs-{version}.img\noptions rw root=LABEL=root ostree=/ostree/boot.1/x/0\n"
    boot: dict[str, bytes | str | None] = {
        f"/{name}/vmlinuz-{version}": bzimage(version),
        f"/{name}/initramfs-{version}.img": packed,
        "/loader": "loader.1",
        "/loader.1/entries/ostree-1-fedora-coreos.conf": entry.encode(),
        "/grub2/grub.cfg": b"set default=0\nblscfg\n",
    }
    alone, facts = see(files), see(files, boot=boot)
    assert (facts.distribution, facts.version, facts.image_based, facts.ssh) == ("fedora", "41", "ostree", True)
    assert facts.root_volume == ROOT.place
    (one,) = facts.kernels
    assert (one.version, one.default, one.in_initramfs) == (version, True, ("virtio_blk",))
    assert one.image == f"/boot/{name}/vmlinuz-{version}"
    # Where nobody mounts its /boot, the deployment still has kernel and initramfs.
    assert [kernel.in_initramfs for kernel in alone.kernels] == [("virtio_blk",)]


def test_a_kernel_that_is_named_and_gone_is_said() -> None:
    facts = see({"/boot/grub/grub.cfg": grub_cfg("0", menuentry("6.1.0-28-amd64", "/boot"))})
    assert facts.missing_kernel == "/boot/vmlinuz-6.1.0-28-amd64"
    assert facts.missing_initramfs == "/boot/initrd.img-6.1.0-28-amd64"
    assert facts.kernels == ()


def test_what_is_started_and_no_kernel_is_a_problem() -> None:
    facts = see(
        {
            "/boot/grub/grub.cfg": grub_cfg("0", menuentry("6.1.0", "/boot")),
            "/boot/vmlinuz-6.1.0": b"hello" * 400,
            "/boot/initrd.img-6.1.0": b"",
        }
    )
    assert facts.problems == ("/boot/vmlinuz-6.1.0 is started by the boot loader, and is no kernel that we know.",)
    assert facts.kernels == ()


@pytest.mark.parametrize(
    ("packed", "problem"),
    [
        (b"hello", "it has neither an archive nor packed data that we know at offset 0."),
        (gzipped(initramfs("6.1.0"))[:60], "it ends in the middle of its packed data."),
        (zstandard.compress(bytes(1 << 20) + b"x"), "what it has packed at offset 0 is no archive."),
    ],
    ids=["strange", "cut short", "no archive"],
)
def test_a_damaged_initramfs_is_a_finding(packed: bytes, problem: str) -> None:
    facts = see(kernel("6.1.0", packed))
    assert facts.kernels[0].initramfs_problem == f"/boot/initrd.img-6.1.0 could not be read to its end: {problem}"
    assert facts.kernels[0].initramfs == "/boot/initrd.img-6.1.0"


def test_modules_in_a_file_system_inside_the_initramfs_are_not_guessed_at() -> None:
    facts = see(kernel("6.1.0", gzipped(cpio({"squashfs-root.img": b"hsqs"}))))
    assert facts.kernels[0].initramfs_problem == (
        "/boot/initrd.img-6.1.0 keeps its modules in a file system of its own, which is not looked into."
    )


def test_the_newest_kernel_is_first_where_nothing_chooses() -> None:
    files: dict[str, bytes | str | None] = {}
    for version in ("5.9.0-1", "5.10.0-9", "5.10.0-30"):
        files |= kernel(version)
    facts = see(files)
    assert [one.version for one in facts.kernels] == ["5.10.0-30", "5.10.0-9", "5.9.0-1"]
    assert (facts.boot_loader, facts.default_guessed) == (None, False)


def test_a_hundred_kernels_are_not_all_looked_at() -> None:
    files: dict[str, bytes | str | None] = {}
    for number in range(100):
        files |= kernel(f"6.1.{number}", gzipped(initramfs(f"6.1.{number}", "nvme")))
    facts = see(files)
    assert len(facts.kernels) == 32
    assert facts.problems == ("There are more than 32 kernels: the rest was not looked at.",)


def test_the_initramfs_of_the_kernel_that_starts_is_read_before_all_others() -> None:
    files = {
        **kernel("6.1.2", bytes(48 << 20)),
        **kernel("6.1.1", gzipped(initramfs("6.1.1", "nvme"))),
        "/boot/grub/grub.cfg": grub_cfg("1", menuentry("6.1.2", "/boot"), menuentry("6.1.1", "/boot")),
    }
    first, second = see(files).kernels
    assert (first.version, first.in_initramfs, first.initramfs_problem) == ("6.1.1", ("nvme",), None)
    assert (second.version, second.initramfs_size) == ("6.1.2", 48 << 20)
    assert second.initramfs_problem == (
        "/boot/initrd.img-6.1.2 was not read: with those of the kernels before it they are more than 44 MiB."
    )


@pytest.mark.parametrize("policy", [b"MODULES=most\n", b"MODULES=dep\n"])
def test_of_an_initramfs_beyond_the_limit_the_guests_settings_tell(policy: bytes) -> None:
    """Ubuntu's has 100 MiB in one piece, the firmware first."""
    version = "5.15.0-130-generic"
    firmware = cpio({"usr/lib/firmware/a": random.Random(1).randbytes(45 << 20)})
    large = zstandard.compress(firmware + initramfs(version, "nvme"), 1)
    (one,) = see({**kernel(version, large), "/etc/initramfs-tools/initramfs.conf": policy}).kernels
    if policy == b"MODULES=most\n":
        assert (one.in_initramfs, one.initramfs_expected) == (("nvme", "virtio_blk", "virtio_pci"), True)
        assert one.initramfs_problem is None
    else:
        assert (one.in_initramfs, one.initramfs_expected, one.initramfs_partly) == ((), False, True)
        assert one.initramfs_problem is not None
        assert "only 43 MiB of its 45 MiB were looked at" in one.initramfs_problem


def test_of_two_systems_each_says_which_root_it_starts() -> None:
    """An old installation is still there, and its boot loader starts the new one."""
    named = grub_cfg("0", menuentry("6.1.0", "/boot").replace(str(ROOT.uuid), str(BOOT.uuid)))
    old = see({"/etc/os-release": b"ID=debian\nVERSION_ID=10\n", **kernel("6.1.0"), "/boot/grub/grub.cfg": named})
    new = see({"/etc/os-release": b"ID=debian\nVERSION_ID=12\n", **kernel("6.1.0")})
    assert (old.version, old.root_volume) == ("10", BOOT.place)
    assert (new.version, new.root_volume) == ("12", None)


def test_a_system_without_programs_has_its_kernels_architecture() -> None:
    facts = look({"/usr/lib/os-release": b"ID=flatcar\n", "/boot/vmlinuz-6.1.0": bzimage("6.1.0")})
    assert facts is not None
    assert facts.architecture == "x86_64"


def test_disks_that_the_device_map_names_are_kept() -> None:
    facts = see({"/boot/grub2/device.map": b"# this device map\n(fd0) /dev/fd0\n(hd0) /dev/sda\n(hd1) /dev/sdb\n"})
    assert facts.device_map == ("/dev/sda", "/dev/sdb")

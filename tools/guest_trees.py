"""The root file systems of our guests, made from the host's own distribution (Debian or Ubuntu).

``demo_tree``: the distribution's minimal system with systemd, its stock kernel and a login prompt on the serial port;
about 620 MB of files. Needs root or a user namespace. ``tiny_tree``: the same kernel with busybox, for tests.
"""

from __future__ import annotations

import lzma
import os
import platform
import pwd
import re
import shutil
from pathlib import Path
from uuid import UUID

from guest_disk import Tree
from programs import environment, run
from vmferry.errors import ConfigError, VmferryError

_KERNELS = {"debian": "linux-image-amd64", "ubuntu": "linux-image-virtual"}
_DRIVERS = "ext4 virtio_pci virtio_blk virtio_scsi virtio_net ahci sd_mod ata_piix mptspi nvme"
"""What the demo guest's initramfs holds: enough for the buses of VMware, VirtualBox, Hyper-V's IDE and KVM."""
_GRUB_TOOLS = ",grub-pc-bin,grub2-common"
_GRUB_HOOKS = (
    'mkdir -p "$1"/boot/grub && cp -r "$1"/usr/lib/grub/i386-pc "$1"/boot/grub/',
    'echo GRUB_CMDLINE_LINUX="console=ttyS0,115200" > "$1"/etc/default/grub',
)
"""What virt-v2v asks of a guest: it makes GRUB's configuration anew."""
_SLOW_HOST = "[Manager]\nDefaultTimeoutStartSec=900\nDefaultDeviceTimeoutSec=900"
"""systemd waits 90 s for the serial port; emulated on a host that does much else, that may take longer to show up."""
_TINY_MODULES = (
    "scsi_common scsi_mod libata libahci ahci sd_mod ata_piix ata_generic crc16 mbcache jbd2 ext4 crc32c_generic "
    "t10-pi crc64 crc64-rocksoft crc64_rocksoft crc-t10dif crct10dif_common nvme-core nvme-common nvme "
    "virtio virtio_ring virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_blk virtio_scsi"
)
_VIRTIO = {"virtio", "virtio_ring", "virtio_pci_modern_dev", "virtio_pci_legacy_dev"}
_VIRTIO |= {"virtio_pci", "virtio_blk", "virtio_scsi"}
_MAPPER = frozenset({"dm-mod", "dax"})
"""What logical volumes need; dax is built into many kernels."""
_ON_ROOT_ONLY = _VIRTIO | {"virtio_net", "net_failover", "failover"}
"""What the host-only guest has on its root, and not in its initramfs."""
_TINY_INIT = """#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /mnt /sbin; /bin/busybox --install -s /bin; export PATH=/bin
mount -t proc p /proc; mount -t sysfs s /sys; mount -t devtmpfs d /dev
@LOAD@
wanted=$(sed 's/.*root=\\([^ ]*\\).*/\\1/' /proc/cmdline)
for second in 1 2 3 4 5 6 7 8 9 10; do @ACTIVATE@device=$(findfs $wanted 2>/dev/null) && break; sleep 1; done
if [ -n "$device" ] && mount -o ro -t ext4 $device /mnt; then
  . /mnt/etc/os-release; echo "VMFERRY-GUEST-READY $PRETTY_NAME on $device" > /dev/ttyS0
else echo VMFERRY-GUEST-NO-ROOT > /dev/ttyS0; fi
while :; do sleep 3600; done
"""
_LOAD_ALL = """# Several passes instead of a dependency order: what fails is tried again when more is there.
left=$(echo /lib/modules/*.ko)
for pass in 1 2 3 4 5; do
  again=; for m in $left; do insmod $m 2>/dev/null || again="$again $m"; done; left=$again
done"""
_LOAD_BY_ALIAS = """# As udev does it: each device names the driver that it wants, and drivers bring more devices.
for pass in 1 2 3; do
  for alias in $(find /sys/devices -name modalias | xargs cat | sort -u); do modprobe -q $alias; done
  sleep 1
done
for m in sd_mod crc32c_generic ext4 dm-mod; do modprobe -q $m; done"""

_ACTIVATE = """for part in /dev/[sv]d?[0-9] /dev/nvme*p*; do
  [ "$(dd if=$part bs=512 skip=1 count=1 2>/dev/null | head -c 8)" = LABELONE ] &&
  dmsetup create vg-root --table "0 $(($(blockdev --getsz $part) - 2048)) linear $part 2048" && break
done
"""
"""What `vgchange -ay` comes to for the only volume of a disk of ours."""


def _distribution() -> dict[str, str]:
    release = platform.freedesktop_os_release()
    if release["ID"] not in _KERNELS:
        raise ConfigError(f"Guests are made of Debian's or Ubuntu's packages; this host runs {release['ID']}.")
    return release


def _user() -> str:
    """Who we are, whatever the environment says."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def demo_tree(work: Path, uuid: UUID, *, complete: bool = False) -> Tree:
    """A minimal system with systemd, login on the serial port as root with the password "vmferry", in ``work/root``.

    ``complete``: with GRUB's own tools, and without virtio in its initramfs: what preparing is measured with.
    As an ordinary user the tree belongs to a user namespace: see ``Tree.namespace``, and remove it with ``remove``.
    Raises ``ConfigError`` when the user may not, or apt knows no packages.
    """
    release = _distribution()
    namespace = () if os.geteuid() == 0 else _user_namespace()
    root = work / "root"
    target = work / "root.tar" if namespace else root
    command = ["mmdebstrap", f"--mode={'unshare' if namespace else 'root'}", "--variant=apt", "--quiet"]
    packages = f"{_KERNELS[release['ID']]},systemd-sysv,udev,initramfs-tools,procps,iproute2"
    command += [f"--include={packages}{_GRUB_TOOLS if complete else ''}"]
    command += ["--dpkgopt=force-unsafe-io", '--aptopt=Acquire::Languages "none"', *_apt_options()]
    command += [f"--essential-hook={hook}" for hook in _initramfs_hooks(complete)]
    command += [f"--customize-hook={hook}" for hook in (*_system_hooks(uuid), *(_GRUB_HOOKS if complete else ()))]
    run(
        *command,
        release["VERSION_CODENAME"],
        target,
        "-",
        stdin=_apt_sources(release["ID"]),
        env=environment() | {"TMPDIR": str(work)},
    )
    if namespace:
        root.mkdir()
        run(*namespace, "tar", "-C", root, "--exclude=./dev/*", "-xf", target)
        target.unlink()
    kernel = max((root / "boot").glob("vmlinuz-*")).name
    return Tree(root, f"/boot/{kernel}", f"/boot/{kernel.replace('vmlinuz', 'initrd.img')}", release["NAME"], namespace)


def remove(tree: Tree) -> None:
    """Remove the tree's folder, with the rights that made it."""
    run(*tree.namespace, "rm", "-rf", tree.root)


def _user_namespace() -> tuple[str, ...]:
    user = _user()
    ids = [Path("/etc/subuid"), Path("/etc/subgid")]
    if not shutil.which("newuidmap") or not all(
        path.exists() and re.search(rf"^({re.escape(user)}|{os.getuid()}):", path.read_text(), re.MULTILINE)
        for path in ids
    ):
        raise ConfigError(
            "The demo guest is made by root, or in a user namespace, which needs the package uidmap and lines for "
            f"{user} in /etc/subuid and /etc/subgid: run `sudo apt-get install uidmap` and "
            f"`sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}`."
        )
    return ("unshare", "--user", "--map-auto", "--map-root-user")


def _apt_sources(distribution: str) -> str:
    """The host's own sources of its distribution, third parties' left out, as mmdebstrap reads them."""
    lines = run(
        "apt-get", "indextargets", "--format", "deb $(REPO_URI) $(RELEASE) $(COMPONENT)",
        "Created-By: Packages", f"Origin: {distribution.capitalize()}",
    )  # fmt: skip
    if not lines.strip():
        raise ConfigError("apt has no package lists: run `apt-get update` as root.")
    return "\n".join(sorted(set(lines.splitlines()))) + "\n"


def _apt_options() -> list[str]:
    """How the host reaches its sources (proxies, retries); taken out of the guest again in ``_system_hooks``."""
    wanted = re.compile(r'Acquire::(?:https?::(?!.*Dl-Limit)|Retries|Check-Valid-Until).* ".+";')
    return [f"--aptopt={line.rstrip(';')}" for line in run("apt-config", "dump").splitlines() if wanted.fullmatch(line)]


def _initramfs_hooks(hostonly: bool) -> list[str]:
    # A list of drivers instead of all of them: the initramfs takes 2 s to make, not 20.
    drivers = " ".join(name for name in _DRIVERS.split() if not (hostonly and name.startswith("virtio")))
    folder = '"$1"/etc/initramfs-tools'
    return [
        f"mkdir -p {folder}/conf.d",
        f"echo MODULES=list > {folder}/conf.d/drivers",
        f"printf '%s\\n' {drivers} > {folder}/modules",
    ]


def _system_hooks(uuid: UUID) -> list[str]:
    return [
        'echo vmferry-guest > "$1"/etc/hostname',
        'echo "127.0.1.1 vmferry-guest" >> "$1"/etc/hosts',
        'echo root:vmferry | chroot "$1" chpasswd',
        f'echo "UUID={uuid} / ext4 errors=remount-ro 0 1" > "$1"/etc/fstab',
        'mkdir "$1"/etc/systemd/system.conf.d',
        f'echo "{_SLOW_HOST}" > "$1"/etc/systemd/system.conf.d/slow-host.conf',
        # Where this host gets its packages from, and through what, is no business of the guest's.
        'rm -rf "$1"/etc/apt/sources.list* "$1"/etc/apt/apt.conf.d/99mmdebstrap "$1"/var/lib/apt/lists/*',
    ]


def tiny_tree(work: Path, packages: Path, *, hostonly: bool = False, lvm: bool = False) -> Tree:
    """The distribution's kernel and busybox, in ``work/root``: prints ``VMFERRY-GUEST-READY`` once its root is mounted.

    ``hostonly``: as an initramfs made for the machine it ran on, which had no virtio; those modules are on the root
    only. Without its root it prints ``VMFERRY-GUEST-NO-ROOT``. ``lvm``: the root may be on a logical volume.

    Needs no root. Kernel packages are kept in ``packages``. Raises ``ConfigError`` when apt knows no kernel or busybox
    is missing.
    """
    release = _distribution()
    busybox = shutil.which("busybox", path=environment()["PATH"])
    if busybox is None:
        raise ConfigError("busybox is missing: install the package busybox-static (`make setup`).")
    root, unpacked, initramfs = work / "root", work / "kernel", work / "initramfs"
    for package in _fetch_kernel(_KERNELS[release["ID"]], packages):
        run("dpkg-deb", "-x", package, unpacked)
    for folder in (root / "boot", root / "etc", initramfs / "bin"):
        folder.mkdir(parents=True)
    kernel = next((unpacked / "boot").glob("vmlinuz-*"))
    version = kernel.name.removeprefix("vmlinuz-")
    (root / "etc/os-release").write_text('PRETTY_NAME="vmferry tiny guest"\nID=debian\nVERSION_ID="12"\n')
    shutil.copy(busybox, initramfs / "bin/busybox")
    wanted = frozenset(_TINY_MODULES.split()) | (_MAPPER if lvm else frozenset())
    if hostonly:
        _make_modules(unpacked, root, version, wanted | _ON_ROOT_ONLY, busybox)
        _make_modules(unpacked, initramfs, version, wanted - _VIRTIO, busybox)
    else:
        (initramfs / "lib/modules").mkdir(parents=True)
        for module in _find_modules(unpacked, wanted):
            _copy_module(module, initramfs / "lib/modules")
    if lvm:
        _copy_program("dmsetup", initramfs)
    init = _TINY_INIT.replace("@LOAD@", _LOAD_BY_ALIAS if hostonly else _LOAD_ALL)
    init = init.replace("@ACTIVATE@", _ACTIVATE if lvm else "")
    if hostonly:  # what it has not loaded by now will not come
        init = init.replace("1 2 3 4 5 6 7 8 9 10; do device", "1 2; do device")
    (initramfs / "init").write_text(init)
    (initramfs / "init").chmod(0o755)
    tail = f"-{version}" if hostonly else ""
    shutil.copyfile(kernel, root / f"boot/vmlinuz{tail}")
    shell = 'cd "$1" && find . | cpio --quiet -o -H newc -R 0:0 | gzip -1 > "$2"'
    run("sh", "-c", shell, "sh", initramfs, root / f"boot/initrd.img{tail}")
    return Tree(root, f"/boot/vmlinuz{tail}", f"/boot/initrd.img{tail}", "vmferry tiny guest")


def _find_modules(unpacked: Path, wanted: frozenset[str]) -> list[Path]:
    """The files of the modules called ``wanted``."""
    return [path for path in (unpacked / "lib/modules").rglob("*.ko*") if path.name.partition(".ko")[0] in wanted]


def _make_modules(unpacked: Path, root: Path, version: str, wanted: frozenset[str], busybox: str) -> None:
    """The modules called ``wanted`` with their indexes, below ``root`` where Debian has them: /lib is a link."""
    (root / "usr/lib").mkdir(parents=True)
    (root / "lib").symlink_to("usr/lib")
    for module in _find_modules(unpacked, wanted):
        folder = root / module.relative_to(unpacked).parent
        folder.mkdir(parents=True, exist_ok=True)
        _copy_module(module, folder)
    run(busybox, "depmod", "-b", root, version)


def _copy_program(name: str, root: Path) -> None:
    """The host's program ``name`` with its libraries, into ``root/bin``. Raises ``ConfigError`` where it is missing."""
    program = shutil.which(name, path=environment()["PATH"])
    if program is None:
        raise ConfigError(f"{name} is missing: install the package {name} (`make setup`).")
    shutil.copy(program, root / "bin" / name)
    for library in re.findall(r"(/\S+) \(0x", run("ldd", program)):
        target = root / library.removeprefix("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, target)


def _fetch_kernel(name: str, folder: Path) -> list[Path]:
    """The kernel's packages behind the metapackage ``name``: image and, where split off (Ubuntu), modules."""
    folder.mkdir(parents=True, exist_ok=True)

    def depends(package: str) -> list[str]:
        return re.findall(r"^ *Depends: (linux-\S+)$", run("apt-cache", "depends", package), re.MULTILINE)

    images = [package for package in depends(name) if package.startswith("linux-image-")]
    if not images:
        raise ConfigError(f"apt knows no package {name}: run `apt-get update` as root.")
    wanted = [images[0], *(package for package in depends(images[0]) if package.startswith("linux-modules-"))]
    found: list[Path] = []
    for package in wanted:
        version = run("apt-cache", "show", "--no-all-versions", package).partition("\nVersion: ")[2].partition("\n")[0]
        pattern = f"{package}_{version.replace(':', '%3a')}_*.deb"
        if not list(folder.glob(pattern)):
            # As root, apt would hand the download to its user _apt, who may not write here.
            run("apt-get", "-qq", "-o", f"APT::Sandbox::User={_user()}", "download", package, cwd=folder)
        found += list(folder.glob(pattern))
    if len(found) != len(wanted):
        raise VmferryError(f"apt-get download did not bring {' and '.join(wanted)} into {folder}.")
    return found


def _copy_module(module: Path, folder: Path) -> None:
    """Copy a kernel module, unpacked: busybox's insmod does not read every compression."""
    target = folder / (module.name.partition(".ko")[0] + ".ko")
    if module.suffix == ".xz":
        target.write_bytes(lzma.decompress(module.read_bytes()))
    elif module.suffix == ".zst":
        run("zstd", "-q", "-d", module, "-o", target)
    else:
        shutil.copyfile(module, target)

"""The guest builder, the OVA wrapper and the boot waiter, as one way: a guest is built, wrapped, unwrapped, booted."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OVF = "{http://schemas.dmtf.org/ovf/envelope/1}"


def run_tool(name: str, *words: str | Path, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    command = [python, ROOT / "tools" / f"{name}.py", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module", params=["bios", "uefi"])
def firmware(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def guest(firmware: str) -> Path:
    done = run_tool("build_guest", "tiny", "--firmware", firmware)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


@pytest.fixture(scope="module")
def ova(firmware: str, guest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("ova") / "two-disks.ova"
    data = out.with_name("data.raw")
    data.write_bytes(b"\0" * (1 << 20) + b"second disk" + bytes(range(256)) * 4096 + b"\0" * 501)
    done = run_tool("wrap_ova", out, guest, data, "--name", "two-disks", "--firmware", firmware)
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.slow
def test_an_ova_passes_7z_and_its_own_manifest(ova: Path) -> None:
    judged = subprocess.run(["7z", "t", ova], capture_output=True, text=True)
    assert judged.returncode == 0, judged.stdout
    with tarfile.open(ova) as tar:
        names = tar.getnames()
        content = {name: tar.extractfile(name) for name in names}
        digests = {name: hashlib.sha256(file.read()).hexdigest() for name, file in content.items() if file}
        manifest = tar.extractfile("two-disks.mf")
        assert manifest is not None
        sums = dict(re.findall(r"^SHA256\((.+)\)= ([0-9a-f]{64})$", manifest.read().decode(), re.MULTILINE))
    assert names[0].endswith(".ovf"), "the descriptor comes first (DSP0243, section 5.3)"
    assert sums == {name: digest for name, digest in digests.items() if name != "two-disks.mf"}


@pytest.mark.slow
def test_the_descriptor_names_each_disk_its_size_and_the_firmware(ova: Path, guest: Path, firmware: str) -> None:
    with tarfile.open(ova) as tar:
        descriptor = tar.extractfile("two-disks.ovf")
        assert descriptor is not None
        envelope = ET.parse(descriptor).getroot()
        sizes = {member.name: member.size for member in tar.getmembers()}
    files = {file.get(f"{OVF}href"): int(file.get(f"{OVF}size", 0)) for file in envelope.iter(f"{OVF}File")}
    assert files == {name: size for name, size in sizes.items() if name.endswith(".vmdk")}
    capacities = [int(disk.get(f"{OVF}capacity", 0)) for disk in envelope.iter(f"{OVF}Disk")]
    assert capacities == [guest.stat().st_size, (2 << 20) + 512]
    keys = {element.get("{http://www.vmware.com/schema/ovf}value") for element in envelope.iter()}
    assert ("efi" in keys) == (firmware == "uefi")


@pytest.mark.slow
def test_a_tiny_guest_boots_from_its_stream_optimized_vmdk(
    ova: Path, guest: Path, firmware: str, tmp_path: Path
) -> None:
    vmdk = tmp_path / "two-disks-disk1.vmdk"
    with tarfile.open(ova) as tar, vmdk.open("wb") as target:
        member = tar.extractfile(vmdk.name)
        assert member is not None
        shutil.copyfileobj(member, target)
    compared = subprocess.run(["qemu-img", "compare", "-f", "raw", "-F", "vmdk", guest, vmdk], capture_output=True)
    assert compared.returncode == 0, compared.stdout
    command: list[str | Path] = [
        Path(sys.executable).with_name("vmferry"),
        "boot-check",
        vmdk,
        "--bus",
        "virtio",
        "--seconds",
        "400",
    ]
    booted = subprocess.run(command, capture_output=True, text=True, timeout=450)
    assert booted.returncode == 0, booted.stderr


def test_a_name_that_would_be_markup_is_refused(tmp_path: Path) -> None:
    disk = tmp_path / "disk.raw"
    disk.write_bytes(b"\0" * 512)
    done = run_tool("wrap_ova", tmp_path / "x.ova", disk, "--name", '"><File ovf:href="/etc/passwd"/>')
    assert done.returncode == 1
    assert "is no name for a machine" in done.stderr
    assert not (tmp_path / "x.ova").exists()


def test_an_ordinary_user_is_told_what_the_demo_guest_needs() -> None:
    if os.geteuid() != 0:
        pytest.skip("cannot run here: only root can become a user without ids of its own")
    # The system's Python: the virtual environment's may lie where nobody else may look.
    command = ["setpriv", "--reuid", "65534", "--clear-groups", "env", f"PYTHONPATH={ROOT / 'src'}", "python3", "-B"]
    tool = ROOT / "tools" / "build_guest.py"
    done = subprocess.run(
        [*command, tool, "demo", "/nonexistent/guest.raw"],
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 1
    assert "needs the package uidmap and lines for nobody in /etc/subuid" in done.stderr

"""``vmferry verify`` as a user types it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.cli.material import call_vmferry, make_raw, qemu_img
from vmferry.units import MIB

SIZE = 24 * MIB + 512


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_raw(tmp_path_factory.mktemp("verify") / "disk.raw", SIZE, 11)


@pytest.fixture(scope="module")
def digest(raw: Path) -> str:
    done = call_vmferry("verify", raw)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(("suffix", "name"), [("qcow2", "qcow2"), ("vhdx", "vhdx"), ("vmdk", "vmdk"), ("vdi", "vdi")])
def test_other_programs_images_hold_the_same_and_have_the_same_digest(
    suffix: str, name: str, raw: Path, digest: str, tmp_path: Path
) -> None:
    image = tmp_path / f"disk.{suffix}"
    qemu_img("convert", "-f", "raw", "-O", name, raw, image)
    done = call_vmferry("verify", image, raw)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == f"{image} and {raw} hold the same: 24 MiB."
    done = call_vmferry("verify", image, digest)
    assert (done.returncode, done.stdout.strip()) == (0, f"{image} holds what the digest says: 24 MiB.")


def test_what_converts_on_its_way_takes_the_same_digest(raw: Path, digest: str, tmp_path: Path) -> None:
    for target in ("out.qcow2", "out.vmdk", "out.raw"):
        done = call_vmferry("convert", raw, tmp_path / target, "--digest", "--json")
        assert json.loads(done.stdout)["digest"] == digest
    assert digest in call_vmferry("convert", raw, tmp_path / "out.ova", "--digest").stdout
    assert json.loads(call_vmferry("convert", raw, tmp_path / "plain.raw", "--json").stdout)["digest"] is None


def test_a_larger_image_with_zeros_at_its_end_holds_the_same(raw: Path, tmp_path: Path) -> None:
    image = tmp_path / "disk.vhd"
    assert call_vmferry("convert", raw, image).returncode == 0
    done = call_vmferry("verify", raw, image)
    assert done.returncode == 0
    assert done.stdout.strip().endswith(f"{image} has {25 * MIB - SIZE:,} bytes of zeros more.")


def test_one_bit_is_found(raw: Path, digest: str, tmp_path: Path) -> None:
    other = tmp_path / "other.raw"
    shutil.copyfile(raw, other)
    with other.open("r+b") as file:
        file.seek(20 * MIB + 123)
        bit = file.read(1)[0] ^ 1
        file.seek(20 * MIB + 123)
        file.write(bytes([bit]))
    done = call_vmferry("verify", raw, other)
    assert done.returncode == 1
    assert f"first at guest offset {20 * MIB + 123:,} (sector 40,960)" in done.stderr
    done = call_vmferry("verify", raw, other, "--json")
    assert json.loads(done.stdout) == {
        "identical": False,
        "first_difference": 20 * MIB + 123,
        "virtual_sizes": [SIZE, SIZE],
    }
    done = call_vmferry("verify", other, digest)
    assert done.returncode == 1
    assert "not the one that was given" in done.stderr


def test_what_cannot_be_verified_is_said_in_one_line(raw: Path, tmp_path: Path) -> None:
    for words, code, said in (
        ((raw, "guest1:123"), 1, "64 hexadecimal digits"),
        ((raw, tmp_path / "none.raw"), 1, "does not exist"),
        ((raw, "--to", "raw"), 2, "--to is the format of B"),
        ((raw, raw, "--disk", "2"), 2, "--disk"),
    ):
        done = call_vmferry("verify", *words)
        assert done.returncode == code
        assert said in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1

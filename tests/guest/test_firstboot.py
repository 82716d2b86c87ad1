"""A script of the user's that a guest runs at its first start: where it lies, and who refuses it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.guest.ext_images import dump
from tests.guest.linux_guests import ROOT_UUID, debian, make_disk, make_ext
from tests.guest.test_network_mending import NOW, Prepared, guest
from vmferry.blob import MemoryBlob
from vmferry.errors import UnpreparableError
from vmferry.formats import FORMATS, open_disk
from vmferry.guest.overlay import OverlayDisk
from vmferry.guest.preparation import Wishes
from vmferry.guest.prepare import prepare_linux

pytestmark = pytest.mark.slow

SCRIPT, UNIT = "/etc/vmferry/firstboot", "/etc/systemd/system/vmferry-firstboot.service"
WANTED = "/etc/systemd/system/multi-user.target.d/vmferry-firstboot.conf"


@pytest.mark.parametrize("script", [b"#!/usr/bin/python3\nprint(1)\n", b"apt-get -y purge open-vm-tools\n"])
def test_it_is_run_by_a_unit_that_the_start_wants(script: bytes, tmp_path: Path) -> None:
    wishes = Wishes(firstboot=script)
    prepared = Prepared(guest(), tmp_path, wishes)
    assert prepared.changed() == [SCRIPT, UNIT, WANTED]
    text = dump(prepared.root, SCRIPT)
    assert text.startswith(b"#!")
    assert text.endswith(script)
    assert f"exec {SCRIPT}'\n" in dump(prepared.root, UNIT).decode()
    assert dump(prepared.root, WANTED) == b"[Unit]\nWants=vmferry-firstboot.service\n"
    assert prepared.again(wishes).changes == []
    assert [change.what for change in prepared.again(Wishes(firstboot=b"true\n")).changes] == ["replaced"]


def test_a_guest_that_would_not_run_it_is_refused(tmp_path: Path) -> None:
    made = debian("virtio_pci.ko", "virtio_blk.ko", "virtio_scsi.ko").write(tmp_path / "tree")
    disk = make_disk(make_ext(made, tmp_path / "root.img", 12, ROOT_UUID))
    overlay = OverlayDisk(open_disk(MemoryBlob(disk), FORMATS["raw"]))
    with pytest.raises(UnpreparableError, match=r"^The guest has no systemd, which runs the script of the first"):
        prepare_linux(overlay, ["virtio"], NOW, Wishes(firstboot=b"true\n"))

"""OVF: a descriptor with its files beside it in a folder. Source: OVF specification (DSP0243), section 5."""

from __future__ import annotations

from vmferry.appliances._contents import Contents, read_small
from vmferry.appliances._ovf_package import OvfPackage
from vmferry.appliances._probing import has_root, name_in, need_folder
from vmferry.blob import Blob
from vmferry.errors import quote
from vmferry.folder import Folder
from vmferry.limits import MAX_MACHINE_DISKS, MAX_OVF_DESCRIPTOR
from vmferry.machine import Appliance
from vmferry.registry import About


class OvfFolder:
    """The unpacked OVF package."""

    name = "ovf"
    ec2_name = None
    about = About(
        title="OVF folder",
        reads="as an OVA, unpacked: a descriptor, its manifest and certificate of the same stem, disks beside it",
        writes="",
        refuses="files outside the folder, symbolic links, several machines, delta disks",
        limits=f"{MAX_MACHINE_DISKS} disks; descriptor of 8 MiB; 10,000 files, three folders deep",
    )

    def probe(self, blob: Blob) -> bool:
        """Whether it is called ``….ovf`` and its root element is an Envelope."""
        return has_root(blob, (".ovf",), "Envelope")

    def open(self, blob: Blob, folder: Folder | None = None) -> Appliance:
        contents = Contents(need_folder(blob, folder))
        content = read_small(blob, MAX_OVF_DESCRIPTOR, quote(blob.name))
        descriptor = name_in(contents.folder.names(), blob)
        return OvfPackage(contents, descriptor, blob, alone=False).open(content, blob.name)


PACKAGE = OvfFolder()

"""OVA: a machine in a tar, read in place. Source: OVF specification (DSP0243), section 5.

The descriptor is found wherever it stands and checked against the manifest; disks become blobs that read the tar at an
offset.
"""

from __future__ import annotations

from vmferry.appliances._contents import Contents
from vmferry.appliances._ovf_package import OvfPackage
from vmferry.appliances._tar import TarFolder, is_tar
from vmferry.blob import Blob
from vmferry.errors import CorruptDiskError, UnknownFormatError, quote
from vmferry.folder import Folder
from vmferry.limits import MAX_MACHINE_DISKS, MAX_OVF_DESCRIPTOR
from vmferry.machine import Appliance
from vmferry.registry import About


class Ova:
    """The OVA package."""

    name = "ova"
    ec2_name = "OVA"
    about = About(
        title="OVA",
        reads="OVF 0.9, 1.x and 2.0 in a tar of any dialect; files in chunks, and packed with gzip or bzip2; "
        "the manifest's digests and its signature",
        writes="one pass; streamOptimized VMDK (`--for xen`: VHD, `--for hyperv`: VHDX), SHA-256, SHA-1 or no manifest",
        refuses="links, sparse members, members outside the archive, several machines, delta disks",
        limits=f"{MAX_MACHINE_DISKS} disks; descriptor of 8 MiB; 10,000 members",
    )

    def probe(self, blob: Blob) -> bool:
        return is_tar(blob)

    def open(self, blob: Blob, folder: Folder | None = None) -> Appliance:
        """``folder`` counts for nothing: all that belongs to the machine is in the tar."""
        contents = Contents(TarFolder(blob))
        descriptor = _find_descriptor(blob, contents)
        content = contents.read(descriptor, MAX_OVF_DESCRIPTOR)
        return OvfPackage(contents, descriptor, blob, alone=True).open(content, f"{blob.name}:{descriptor}")


PACKAGE = Ova()


def _find_descriptor(blob: Blob, contents: Contents) -> str:
    found = contents.ending(".ovf")
    if len(found) == 1:
        return found[0]
    if found:
        listed = ", ".join(quote(name) for name in found[:4])
        raise CorruptDiskError(f"Multiple OVF files in {quote(blob.name)} ({listed}): pack one machine into one OVA.")
    xva = "It looks like an XVA of XenServer that was packed again. " if "ova.xml" in contents else ""
    raise UnknownFormatError(
        f"No OVF descriptor found in {quote(blob.name)}. {xva}Export the machine as an OVA, whole."
    )

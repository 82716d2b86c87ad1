"""How much a stranger's file may claim: every bound that a reader checks before it allocates, in one place.

The table in ``docs/formats.md`` is made from this file: a number, and the sentence below it.
"""

from __future__ import annotations

from vmferry.units import GIB, KIB, MIB, TIB

MAX_DISK_SIZE = 64 * TIB
"""Guest bytes of the largest virtual disk: a larger claim is taken for an attack, not for a disk."""

MAX_PARENTS = 32
"""Disks of a chain of snapshots, above its base."""

MAX_EXTENT_FILES = 4096
"""Files that the data of one VMDK lies in: 8 TiB in pieces of 2 GiB."""

MAX_VMDK_DESCRIPTOR = 192 * KIB
"""Bytes of a VMDK descriptor that is a file of its own: a line of 48 for each of the most extent files."""

MAX_BLOCK_SIZE = 256 * MIB
"""Guest bytes of one block of a VHD or a VDI; 2 MiB and 1 MiB are what nearly all of them have."""

MAX_VHDX_LOG = 16 * MIB
"""Bytes of a VHDX's log, which is replayed in memory; Hyper-V and QEMU give it 1 MiB."""

MAX_VHDX_LOG_ZEROS = 4096
"""Ranges of zeros that a VHDX's log may write."""

MAX_BLOCK_TABLE = 32 * MIB
"""Bytes of a VHD's block allocation table or a VDI's block map that are read: 16 TiB of disk in blocks of 2 MiB."""

MAX_QCOW2_L1 = 4 * 1024 * 1024
"""Entries of a qcow2's L1 table: QEMU's own bound, 32 MiB of table."""

MAX_QCOW2_HEADER = 64 * KIB
"""Bytes at the start of a qcow2 that its header extensions and the name of its backing file are looked for in."""

MAX_QCOW2_CLUSTERS = 1 << 31
"""Clusters of a qcow2 file, each of which may take a bit of memory: 128 TiB of 64 KiB, 1 TiB of 512 bytes."""

MAX_QCOW2_SNAPSHOTS = 65_536
"""Internal snapshots of a qcow2: QEMU's own bound."""

MAX_QCOW2_SNAPSHOT_TABLE = 4 * MIB
"""Bytes that are read of a qcow2's table of internal snapshots."""

MAX_OVF_DESCRIPTOR = 8 * MIB
"""Bytes of an OVF descriptor, or of another hypervisor's description of a machine."""

MAX_XML_DEPTH = 64
"""Elements inside one another."""

MAX_XML_TAGS = 300_000
"""Tags, and attributes, of a description: VMware's own stress descriptor of 4 MB stays far below."""

MAX_XML_ATTRIBUTES = 5000
"""Attributes of one element: the parser compares each with all the others."""

MAX_OVF_FILES = 10_000
"""Files that an OVF descriptor refers to."""

MAX_OVF_DISKS = 1024
"""Disks that an OVF descriptor lists, those that no drive of the machine holds included."""

MAX_OVF_ITEMS = 4096
"""Hardware items of an OVF descriptor, and devices of another hypervisor's description."""

MAX_VMX_LINES = 100_000
"""Lines of a VMware ``.vmx``; the largest in the field have a few hundred."""

MAX_VMCX_ENTRIES = 65_536
"""Keys, and objects, of a Hyper-V ``.vmcx``; real ones have some hundreds."""

MAX_MANIFEST = MIB
"""Bytes of a manifest or a certificate."""

MAX_MANIFEST_FILES = 20_000
"""Digests that a manifest lists."""

MAX_TAR_MEMBERS = 10_000
"""Files of a tar that holds a machine."""

MAX_TAR_HEADERS = 40_000
"""Headers walked in a tar, those of directories and extensions included: a stranger's may hold nothing else."""

MAX_TAR_EXTENSION = MIB
"""Bytes of a pax header or a long name in a tar."""

MAX_TAR_EXTENSIONS = 16 * MIB
"""Bytes of all pax headers and long names of a tar together."""

MAX_XVA_CHUNK = 4 * MIB
"""Bytes of one chunk of a disk in an XVA; XenServer writes 1 MiB."""

MAX_XVA_RUNS = 2 * 1024 * 1024
"""Runs of chunks in an XVA that follow one another without a gap: 2 TiB where every other chunk is missing."""

MAX_MACHINE_DISKS = 60
"""Disks of one machine, the root disk included: what four SCSI controllers of VMware's hold; EC2 imports 21."""

MAX_FOLDER_FILES = 10_000
"""Files looked at in a folder that holds a machine."""

MAX_FOLDER_DEPTH = 3
"""Folders inside one another that are looked into."""

MAX_UNPACKED = 64 * TIB
"""Bytes that come out of a packed file (gzip, xz, zstd, bzip2, zip)."""

MAX_UNPACK_RATIO = 1100
"""Times that a packed file may grow, past its first 256 MiB, where only unpacking tells: deflate never passes 1032."""

MAX_UNPACK_WINDOW = 128 * MIB
"""Bytes that decoding a packed file may look back: what ``xz -9`` and ``zstd --long`` ask for at the most."""

MAX_UNPACK_AGAIN = 6
"""Times that a packed file without places to begin is decoded for readers that jump about in it."""

MAX_UNPACK_CHECKPOINTS = 512
"""Places from which decoding deflate can go on, some 50 KiB of memory each."""

MAX_UNPACK_STARTS = 1_000_000
"""Blocks, frames or streams of a packed file that are kept as places to begin."""

MAX_ZIP_DIRECTORY = 16 * MIB
"""Bytes of a zip file's central directory."""

MAX_WRAPPERS = 1
"""Packings around a disk image or an appliance: what came out of one is never unpacked again."""

MAX_GUEST_FILE = 4 * MIB
"""Bytes of a configuration file of a guest that are read; kernels, initramfs and registry hives have bounds of their
own."""

MAX_GUEST_LINKS = 40
"""Symbolic links on the way to one file of a guest: Linux's own bound."""

MAX_GUEST_PATH = 4096
"""Bytes of a path inside a guest: Linux's own bound."""

MAX_GUEST_NAMES = 100_000
"""Names of one folder of a guest that are looked at."""

MAX_GUEST_FACTS = 128 * KIB
"""Characters of all that is said of one guest system: a page or two, where nobody means harm."""

MAX_GUEST_LINES = 50_000
"""Lines of a text file of a guest that are looked at: the list of a kernel's modules has some thousands."""

MAX_GUEST_TEXT = 24 * MIB
"""Bytes of all text files that are read of one guest system; most have two or three MiB."""

MAX_GUEST_NAMES_SEEN = 300_000
"""Names of all folders of one guest system that are looked through."""

MAX_GUEST_MOUNTS = 512
"""Lines of a guest's fstab, and of its other lists of devices and network interfaces."""

MAX_GUEST_PROBLEMS = 64
"""Sentences about what could not be read in one guest system."""

MAX_GUEST_VOLUMES = 1024
"""Partitions and logical volumes of one machine that are looked at."""

MAX_LOOK_READ = 64 * MIB
"""Bytes of a machine's disks that one look into its guest reads."""

MAX_LOOK_SECONDS = 10.0
"""Seconds that one look may take, reading from the store included."""

MAX_LOOK_CPU_SECONDS = 5
"""Seconds of processor time that the child process gets which reads a guest's file systems."""

MAX_LOOK_ADDRESSES = 512 * MIB
"""Bytes of address space of that child, its programs included."""

MAX_LOOK_MEMORY = 192 * MIB
"""Bytes of memory that child may have of its own: with its programs it stays below 256 MiB."""

MAX_LOOK_ANSWER = MIB
"""Bytes of the facts that the child answers with, as JSON."""

MAX_LOOK_RANGE = 4 * MIB
"""Bytes that the child may ask for at a time."""

MAX_LOOK_CACHE = 24 * MIB
"""Bytes of a machine's disks that the child keeps, lest the same sectors come twice."""

MAX_GUEST_FOLDER = 16 * MIB
"""Bytes of one folder of a guest that are read."""

MAX_NTFS_BITMAP = 4 * MIB
"""Bytes of an NTFS volume's map of free clusters that are counted: 128 GiB of 4 KiB clusters."""

MAX_BTRFS_CHUNKS = 100_000
"""Chunks of a Btrfs: 100 TiB of 1 GiB."""

MAX_BTRFS_VISITS = 500_000
"""Times that nodes of a Btrfs are gone through in one look: a hostile tree may hold the same node again and again."""

MAX_GRUB_CORE = MIB
"""Bytes of GRUB's core image, packed; grub-install's own have 30 to 200 KiB."""

MAX_GRUB_CORE_UNPACKED = 4 * MIB
"""Bytes that it unpacks to."""

MAX_LVM_METADATA = 4 * MIB
"""Bytes of the text that describes an LVM volume group; real ones have some KiB."""

MAX_LVM_WORDS = 500_000
"""Words of that text."""

MAX_LVM_SEGMENTS = 65_536
"""Segments of one logical volume."""

MAX_INITRAMFS_READ = 44 * MIB
"""Bytes that are read of all initramfs of a guest: the most that ``MAX_LOOK_READ`` leaves."""

MAX_INITRAMFS_UNPACKED = 1024 * MIB
"""Bytes that come out of an initramfs until it is taken for a bomb."""

MAX_INITRAMFS_WINDOW = 72 * MIB
"""Bytes that unpacking an initramfs may look back: ``xz -9`` asks for 65 MiB, distributions for 1 to 8."""

MAX_INITRAMFS_NAMES = 100_000
"""Names in an initramfs; the largest of distributions have some thousands."""

MAX_INITRAMFS_SECONDS = 3
"""Seconds of a processor that all initramfs of a guest may take, of ``MAX_LOOK_CPU_SECONDS``; most take a tenth."""

MAX_GUEST_ENTRIES = 256
"""Entries of a guest's boot menu that are looked at."""

MAX_GUEST_KERNELS = 32
"""Kernels of one guest system that are looked at."""

MAX_HIVE_READ = 8 * MIB
"""Bytes of one registry hive of Windows that are read: the way to a few hundred values has some hundreds of KiB."""

MAX_HIVE_CELLS = 50_000
"""Cells of one registry hive that are looked at; four entries of a list, or a KiB, count as one."""

MAX_HIVE_VALUE = 64 * KIB
"""Bytes of one value of a registry hive that are looked at; the rest of it is left out."""

MAX_OVERLAY = GIB
"""Bytes of a disk that preparing its guest may change."""

MAX_FIRSTBOOT = 256 * KIB
"""Bytes of the script that a guest runs at its first start: what is more is data, and has a better way into it."""

MAX_PREPARE_SECONDS = 600
"""Seconds for which one file system of a guest is worked on while it is prepared; most take one."""

"""Tags of our own, ``vmferry:…``: with some a request chooses, with others tasks, AMIs and snapshots tell."""

from __future__ import annotations

PREPARE = "vmferry:prepare"
"""Of an import: whether its guest is prepared, ``AUTO`` or ``none``."""
BOOT_CHECK = "vmferry:boot-check"
"""Of an import: whether its machine is started once before there is an AMI, ``AUTO`` or ``none``."""
AUTO = "auto"
"""Yes, to either."""
NETWORK = "vmferry:network"
"""Of an import whose guest is prepared: whether its addresses are kept, ``keep``, or asked for, ``dhcp``."""
FIRSTBOOT = "vmferry:firstboot"
"""Of an import whose guest is prepared: the script that it runs when it starts for the first time, ``s3://bucket/key``."""
PREFLIGHT = "vmferry:preflight"
"""Of an AMI: what preflight found against its guest."""
PREPARED = "vmferry:prepared"
"""Of a task and its AMI: what became of preparing, where that was asked for."""
EVIDENCE = "vmferry:evidence:"
"""Of a task, what the key begins with that says where an object of its boot check's evidence is: the file's name
follows, and the value is ``s3://bucket/key``."""
GUEST_DIGEST = "vmferry:guest-digest"
"""Of a snapshot: the digest of what the guest sees."""

"""The table of what preflight finds: ``rules()`` are all, in the order in which they are looked at.

Sources: AWS, VM Import/Export User Guide, *Requirements and limitations* and *Troubleshooting*; and what guests really
broke of when they were moved.
"""

from __future__ import annotations

from functools import cache

from vmferry.guest.findings import Rule
from vmferry.guest.rules import contents, disks, hardware, linux_boot, linux_system, windows


@cache
def rules() -> tuple[Rule, ...]:
    """Every rule; those whose findings explain others come first."""
    tables = (disks, contents, linux_boot, linux_system, windows, hardware)
    return tuple(rule for table in tables for rule in table.RULES.rules)

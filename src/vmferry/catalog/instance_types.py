"""The instance types there are: so many processors, so much memory. Names are EC2's, for scripts that carry them."""

from __future__ import annotations

from dataclasses import dataclass

from vmferry.units import MIB


@dataclass(frozen=True, slots=True)
class InstanceType:
    """One type."""

    name: str
    vcpus: int
    memory_mib: int


_TABLE = (
    InstanceType("m1.small", 1, 1740),
    InstanceType("t2.micro", 1, 1024),
    InstanceType("t3.nano", 2, 512),
    InstanceType("t3.micro", 2, 1024),
    InstanceType("t3.small", 2, 2048),
    InstanceType("t3.medium", 2, 4096),
    InstanceType("t3.large", 2, 8192),
    InstanceType("t3.xlarge", 4, 16384),
    InstanceType("c5.large", 2, 4096),
    InstanceType("c5.xlarge", 4, 8192),
    InstanceType("c5.2xlarge", 8, 16384),
    InstanceType("m5.large", 2, 8192),
    InstanceType("m5.xlarge", 4, 16384),
    InstanceType("m5.2xlarge", 8, 32768),
    InstanceType("m5.4xlarge", 16, 65536),
    InstanceType("r5.large", 2, 16384),
    InstanceType("r5.xlarge", 4, 32768),
    InstanceType("r5.2xlarge", 8, 65536),
)
INSTANCE_TYPES = {kind.name: kind for kind in _TABLE}


def fitting_type(cpus: int, memory: int) -> InstanceType:
    """The smallest type with so many processors and bytes of memory; the largest one where none has."""
    by_size = sorted(_TABLE, key=lambda kind: (kind.vcpus, kind.memory_mib))
    fits = (kind for kind in by_size if kind.vcpus >= cpus and kind.memory_mib * MIB >= memory)
    return next(fits, by_size[-1])

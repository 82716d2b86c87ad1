"""The network that clients ask for before a launch: a default VPC, a subnet for each zone, and a security group.

Each account has them in each region. Their ids follow from account and region, so that nothing has to be kept; no
packet is filtered or routed by them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from vmferry.catalog.places import Place
from vmferry.ec2.errors import Ec2Error
from vmferry.ec2.zones import Zone, zones_of
from vmferry.errors import quote

VPC_CIDR = "172.31.0.0/16"
GROUP_NAME = "default"


@dataclass(frozen=True, slots=True)
class Subnet:
    """The default subnet of a zone."""

    id: str
    zone: Zone
    cidr: str


@dataclass(frozen=True, slots=True)
class DefaultNetwork:
    """What an account has in a region."""

    vpc_id: str
    group_id: str
    subnets: tuple[Subnet, ...]


def network_of(place: Place) -> DefaultNetwork:
    """The network of ``place``."""
    subnets = tuple(
        Subnet(_id("subnet-", place, zone.name), zone, f"172.31.{16 * number}.0/20")
        for number, zone in enumerate(zones_of(place.region))
    )
    return DefaultNetwork(_id("vpc-", place, "default"), _id("sg-", place, GROUP_NAME), subnets)


def find_subnet(place: Place, subnet_id: str) -> Subnet:
    """Raises ``Ec2Error`` for a subnet that is not there."""
    for subnet in network_of(place).subnets:
        if subnet.id == subnet_id:
            return subnet
    raise Ec2Error("InvalidSubnetID.NotFound", f"The subnet ID '{quote(subnet_id)}' does not exist")


def find_groups(place: Place, ids: tuple[str, ...], names: tuple[str, ...]) -> tuple[str, ...]:
    """The ids of security groups by id and by name; the default one where none is named. Raises ``Ec2Error``."""
    group_id = network_of(place).group_id
    for given, known in (*((one, group_id) for one in ids), *((one, GROUP_NAME) for one in names)):
        if given != known:
            raise Ec2Error("InvalidGroup.NotFound", f"The security group '{quote(given)}' does not exist")
    return (group_id,)


def find_zone(region: str, name: str | None, zone_id: str | None = None) -> Zone:
    """The zone by its name or id; the first one where neither is given. Raises ``Ec2Error``."""
    zones = zones_of(region)
    for zone in zones:
        if (name or zone.name) == zone.name and (zone_id or zone.id) == zone.id:
            return zone
    wanted = quote(name or zone_id or "")
    raise Ec2Error("InvalidZone.NotFound", f"The zone '{wanted}' does not exist. | Zones here: {zones[0].name}.")


def _id(prefix: str, place: Place, name: str) -> str:
    digest = hashlib.sha256(f"{prefix} {place.region} {place.account_id} {name}".encode()).hexdigest()
    return prefix + digest[:17]

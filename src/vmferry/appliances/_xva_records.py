"""``ova.xml`` of an XVA being written: the objects of XenServer's management interface (XAPI) that make up a machine.

Every field that XAPI's data model of XenServer 7 and XCP-ng 8 has without a default is there. Sources: XenServer,
*Management API* (classes VM, VBD, VDI, VIF, SR, network); machines that other open writers of XVA describe.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape  # xml.sax.saxutils would bring half of the network modules

from vmferry.machine import Firmware, Machine

_Value = str | bool | float | datetime | Sequence["_Value"] | Mapping[str, "_Value"]
_Fields = dict[str, _Value]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NULL = "OpaqueRef:NULL"
_NOWHERE = "Ref:3"
"""An object that is not in the file: a host."""
_VM, _SR = "Ref:1", "Ref:2"
_FIRST_DISK, _FIRST_DRIVE, _FIRST_CARD, _FIRST_NETWORK = 1000, 2000, 3000, 4000
_VERSION: _Fields = {
    "hostname": "localhost", "date": "2000-01-01", "product_version": "8.2.1", "product_brand": "XCP-ng",
    "build_number": "release", "xapi_major": "1", "xapi_minor": "20", "export_vsn": "2",
}  # fmt: skip
"""Of a host that would write the same: version 2 of the export has chunks of 1 MiB, since 8.1 with XXH64 digests."""
_HVM_PLATFORM: _Fields = {
    "timeoffset": "0", "nx": "true", "acpi": "1", "apic": "true", "pae": "true", "hpet": "true", "viridian": "true",
}  # fmt: skip
_MACHINE: _Fields = {
    "allowed_operations": [], "current_operations": {}, "power_state": "Halted", "name_description": "",
    "user_version": "1", "is_a_template": False, "is_default_template": False, "suspend_VDI": _NULL,
    "resident_on": _NOWHERE, "affinity": _NOWHERE, "memory_overhead": "0", "memory_target": "0", "VCPUs_params": {},
    "actions_after_shutdown": "destroy", "actions_after_reboot": "restart", "actions_after_crash": "restart",
    "consoles": [], "crash_dumps": [], "VTPMs": [], "VUSBs": [], "PV_bootloader": "", "PV_kernel": "",
    "PV_ramdisk": "", "PV_args": "", "PV_bootloader_args": "", "PV_legacy_args": "", "HVM_boot_policy": "BIOS order",
    "HVM_shadow_multiplier": 1.0, "domain_type": "hvm", "PCI_bus": "", "domid": "-1", "domarch": "",
    "last_boot_CPU_flags": {}, "is_control_domain": False, "metrics": _NULL, "guest_metrics": _NULL,
    "last_booted_record": "", "recommendations": "", "xenstore_data": {}, "ha_always_run": False,
    "ha_restart_priority": "", "is_a_snapshot": False, "snapshot_of": _NULL, "snapshots": [],
    "transportable_snapshot_id": "", "blobs": {}, "tags": [], "blocked_operations": {}, "snapshot_info": {},
    "snapshot_metadata": "", "parent": _NULL, "children": [], "bios_strings": {}, "protection_policy": _NULL,
    "is_snapshot_from_vmpp": False, "is_vmss_snapshot": False, "appliance": _NULL, "start_delay": "0",
    "shutdown_delay": "0", "order": "0", "VGPUs": [], "attached_PCIs": [], "suspend_SR": _NULL, "version": "0",
    "generation_id": "", "hardware_platform_version": "0", "has_vendor_device": False, "requires_reboot": False,
    "reference_label": "", "NVRAM": {},
}  # fmt: skip
_ATTACHED: _Fields = {
    "allowed_operations": [], "current_operations": {}, "currently_attached": False, "status_code": "0",
    "status_detail": "", "runtime_properties": {}, "qos_algorithm_type": "", "qos_algorithm_params": {},
    "qos_supported_algorithms": [], "metrics": _NULL, "other_config": {},
}  # fmt: skip
_DISK: _Fields = {
    "allowed_operations": [], "current_operations": {}, "name_description": "", "SR": _SR, "crash_dumps": [],
    "physical_utilisation": "0", "type": "user", "sharable": False, "read_only": False, "other_config": {},
    "storage_lock": False, "location": "", "managed": True, "missing": False, "parent": _NULL, "xenstore_data": {},
    "sm_config": {}, "is_a_snapshot": False, "snapshot_of": _NULL, "snapshots": [], "tags": [],
    "allow_caching": False, "on_boot": "persist", "metadata_of_pool": "", "metadata_latest": False,
    "is_tools_iso": False, "cbt_enabled": False,
}  # fmt: skip
_STORAGE: _Fields = {
    "uuid": "", "name_label": "Local storage", "name_description": "", "allowed_operations": [],
    "current_operations": {}, "PBDs": [], "virtual_allocation": "0", "physical_utilisation": "0",
    "physical_size": "0", "type": "ext", "content_type": "user", "shared": False, "other_config": {}, "tags": [],
    "sm_config": {}, "blobs": {}, "local_cache_enabled": False, "introduced_by": _NULL, "clustered": False,
    "is_tools_sr": False,
}  # fmt: skip
_NETWORK: _Fields = {
    "name_description": "", "allowed_operations": [], "current_operations": {}, "PIFs": [], "MTU": "1500",
    "other_config": {}, "bridge": "", "managed": True, "blobs": {}, "tags": [], "default_locking_mode": "unlocked",
    "assigned_ips": {}, "purpose": [],
}  # fmt: skip
_CARD: _Fields = {
    "MTU": "1500", "locking_mode": "network_default", "ipv4_allowed": [], "ipv6_allowed": [],
    "ipv4_configuration_mode": "None", "ipv4_addresses": [], "ipv4_gateway": "", "ipv6_configuration_mode": "None",
    "ipv6_addresses": [], "ipv6_gateway": "",
}  # fmt: skip


def disk_ref(index: int) -> str:
    """What disk ``index`` is called in the package. In the order of numbers, which is that of strings, too."""
    return f"Ref:{_FIRST_DISK + index}"


def render_ova_xml(machine: Machine) -> bytes:
    """The description of ``machine``, whose texts are plain, whose disks have capacities and are named by their refs,
    and whose cards are all connected to something."""
    objects = [
        _machine(machine),
        _object("SR", _SR, _STORAGE | {"VDIs": [disk.name for disk in machine.disks]}),
        *_disks(machine),
        *_cards(machine),
    ]
    return f'<?xml version="1.0" encoding="UTF-8"?>{_xml({"version": _VERSION, "objects": objects})}'.encode()


def _machine(machine: Machine) -> _Value:
    memory, cpus = str(machine.memory), str(machine.cpus)
    boot: _Fields = {"order": "cdn"}
    model = "qemu-upstream-uefi" if machine.firmware is Firmware.UEFI else "qemu-upstream-compat"
    if machine.firmware is not None:
        boot["firmware"] = "uefi" if machine.firmware is Firmware.UEFI else "bios"
    fields: _Fields = {
        "uuid": _uuid(machine, "machine"),
        "name_label": machine.name,
        **{f"memory_{kind}": memory for kind in ("static_max", "dynamic_max", "dynamic_min", "static_min")},
        "VCPUs_max": cpus,
        "VCPUs_at_startup": cpus,
        "HVM_boot_params": boot,
        "platform": _HVM_PLATFORM | {"device-model": model},
        "other_config": {"mac_seed": _uuid(machine, "mac seed")},
        "snapshot_time": _EPOCH,
        "VBDs": [f"Ref:{_FIRST_DRIVE + number}" for number in range(len(machine.disks))],
        "VIFs": [f"Ref:{_FIRST_CARD + number}" for number in range(len(machine.interfaces))],
    }
    return _object("VM", _VM, _MACHINE | fields)


def _disks(machine: Machine) -> list[_Value]:
    objects: list[_Value] = []
    for number, disk in enumerate(machine.disks):
        drive = f"Ref:{_FIRST_DRIVE + number}"
        image: _Fields = {
            "uuid": _uuid(machine, disk.name), "name_label": f"{machine.name} {number}",
            "virtual_size": str(disk.capacity), "VBDs": [drive],
        }  # fmt: skip
        attachment: _Fields = {
            "uuid": _uuid(machine, drive), "VM": _VM, "VDI": disk.name, "device": "", "userdevice": str(disk.unit),
            "bootable": number == 0, "mode": "RW", "type": "Disk", "unpluggable": number > 0, "storage_lock": False,
            "empty": False,
        }  # fmt: skip
        objects += [_object("VDI", disk.name, _DISK | image), _object("VBD", drive, _ATTACHED | attachment)]
    return objects


def _cards(machine: Machine) -> list[_Value]:
    objects: list[_Value] = []
    names = list(dict.fromkeys(card.network or "" for card in machine.interfaces))
    refs = {name: f"Ref:{_FIRST_NETWORK + number}" for number, name in enumerate(names)}
    for number, card in enumerate(machine.interfaces):
        ref = f"Ref:{_FIRST_CARD + number}"
        fields: _Fields = {
            "uuid": _uuid(machine, ref), "device": str(number), "VM": _VM, "network": refs[card.network or ""],
            "MAC": card.mac or "", "MAC_autogenerated": card.mac is None,
        }  # fmt: skip
        objects.append(_object("VIF", ref, _ATTACHED | _CARD | fields))
    for name, ref in refs.items():
        cards = [
            f"Ref:{_FIRST_CARD + number}" for number, card in enumerate(machine.interfaces) if card.network == name
        ]
        objects.append(
            _object("network", ref, _NETWORK | {"uuid": _uuid(machine, ref), "name_label": name, "VIFs": cards})
        )
    return objects


def _object(kind: str, ref: str, fields: _Fields) -> _Value:
    return {"class": kind, "id": ref, "snapshot": fields}


def _uuid(machine: Machine, purpose: str) -> str:
    """The same for the same machine, of version 8 (RFC 9562). XenServer gives objects new ones when it imports them."""
    known = f"{machine.name} {[disk.capacity for disk in machine.disks]} {purpose}"
    digits = hashlib.sha256(f"vmferry xva {known}".encode()).hexdigest()
    return f"{digits[:8]}-{digits[8:12]}-8{digits[13:16]}-a{digits[17:20]}-{digits[20:32]}"


def _xml(value: _Value) -> str:
    """A value in the manner of XML-RPC, as XAPI has it: whole numbers are strings."""
    match value:
        case bool():
            inside = f"<boolean>{int(value)}</boolean>"
        case float():
            inside = f"<double>{value:g}</double>"
        case str():
            inside = escape(value, quote=False)
        case datetime():
            inside = f"<dateTime.iso8601>{value:%Y%m%dT%H:%M:%SZ}</dateTime.iso8601>"
        case Mapping():
            members = (
                f"<member><name>{escape(key, quote=False)}</name>{_xml(held)}</member>" for key, held in value.items()
            )
            inside = f"<struct>{''.join(members)}</struct>"
        case _:
            inside = f"<array><data>{''.join(map(_xml, value))}</data></array>"
    return f"<value>{inside}</value>"

"""Through which channel a Windows was licensed, as far as its product key's record tells. The key itself is not read.

Sources: Microsoft, "Volume activation" and "SoftwareLicensingProduct"; the layout of DigitalProductId4 as many public
readers of it have it.
"""

from __future__ import annotations

from vmferry.guest.windows.hive import Key
from vmferry.guest.windows.registry import Registry

_CHANNEL_AT, _CHANNEL_LENGTH = 1016, 128
"""In DigitalProductId4: the name of the key's channel, UTF-16."""
_VOLUME_GROUPS = range(640, 655)
"""Second groups of the product ids of Windows XP's and 2003's volume licences."""


def find_activation(registry: Registry) -> str | None:
    """``kms``, ``kms-server``, ``mak``, ``volume``, ``oem``, ``retail``; ``None`` where nothing tells."""
    version = registry.current_version
    return _read_channel(version) or _read_product_id(version) or ("kms" if find_kms_server(registry) else None)


def find_kms_server(registry: Registry) -> str | None:
    """The server that it is told to ask for its activation."""
    return registry.current_version.key("SoftwareProtectionPlatform").text("KeyManagementServiceName") or None


def _read_channel(version: Key) -> str | None:
    """``Volume:GVLK``, ``OEM:SLP``, ``Retail`` …"""
    record = version.data("DigitalProductId4") or b""
    data = record[_CHANNEL_AT : _CHANNEL_AT + _CHANNEL_LENGTH]
    channel = data.decode("utf-16-le", "replace").split("\0", 1)[0].lower()
    if channel.startswith("volume"):
        return {"volume:gvlk": "kms", "volume:csvlk": "kms-server", "volume:mak": "mak"}.get(channel, "volume")
    return next((known for known in ("oem", "retail") if channel.startswith(known)), None)


def _read_product_id(version: Key) -> str | None:
    """``76487-OEM-0011903-00101`` and the like, of Windows XP and 2003; later ones say OEM in the same place."""
    groups = (version.text("ProductId") or "").split("-")
    if len(groups) < 4:
        return None
    if any(group == "OEM" for group in groups):
        return "oem"
    group = groups[1]
    is_old = len(group) == 3 and group.isascii() and group.isdecimal()
    return ("volume" if int(group) in _VOLUME_GROUPS else "retail") if is_old else None

"""How a Windows was left: hibernated, waiting for a restart, half set up.

Sources: ntfs-3g's manual on hibernated volumes; Microsoft, "Windows Setup State Information" and "MoveFileExA".
"""

from __future__ import annotations

from vmferry.guest.files import Files
from vmferry.guest.windows.registry import Registry

_HIBERFIL = "/hiberfil.sys"
_SESSIONS = (b"hibr", b"rstr")
"""Marks of a session to go on with, and of one that was being gone on with. ``wake`` is one that was gone on with."""
_CURRENT_VERSION = "Microsoft\\Windows\\CurrentVersion"


def is_hibernated(files: Files) -> bool:
    """Whether a session waits in hiberfil.sys: hibernation's, or fast startup's."""
    return files.is_file(_HIBERFIL) and files.read_at(_HIBERFIL, 0, 4).lower() in _SESSIONS


def starts_fast(files: Files, registry: Registry) -> bool:
    """Whether shutting down leaves a session, as Windows 8 and later do where they may hibernate."""
    power = registry.control.key("Session Manager\\Power")
    return power.number("HiberbootEnabled") == 1 and bool(files.size(_HIBERFIL))


def find_pending(files: Files, registry: Registry) -> tuple[str, ...]:
    """What waits for a restart: ``updates``, ``servicing``, ``renames``."""
    version = registry.software.key(_CURRENT_VERSION)
    servicing = version.key("Component Based Servicing")
    manager = registry.control.key("Session Manager")
    waits = {
        "updates": version.key("WindowsUpdate\\Auto Update\\RebootRequired").exists
        or bool(registry.software.key("Microsoft\\Updates").number("UpdateExeVolatile")),
        "servicing": any(servicing.key(name).exists for name in ("RebootPending", "RebootInProgress"))
        or bool(files.size(f"{registry.folder}/WinSxS/pending.xml")),
        "renames": any(manager.texts(name) for name in ("PendingFileRenameOperations", "PendingFileRenameOperations2")),
    }
    return tuple(what for what, does in waits.items() if does)


def find_image_state(files: Files, registry: Registry) -> str | None:
    """How far sysprep or setup came: ``IMAGE_STATE_COMPLETE``."""
    state = registry.software.key(f"{_CURRENT_VERSION}\\Setup\\State").text("ImageState")
    if state:
        return state
    return files.settings(f"{registry.folder}/Setup/State/State.ini").get("ImageState") or None


def is_being_set_up(registry: Registry) -> bool:
    """Whether setup goes on at the next start."""
    setup = registry.system.key("Setup")
    return any(setup.number(name) for name in ("SystemSetupInProgress", "OOBEInProgress"))

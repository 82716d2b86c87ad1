"""The registry of a Windows that does not run: which folder it is in, its hives, and the control set that is in use."""

from __future__ import annotations

from dataclasses import dataclass

from vmferry.errors import quote
from vmferry.guest.files import Files
from vmferry.guest.windows.hive import Hive, Key

_USUAL = ("/Windows", "/WINNT")
_SIGNS = ("config/SYSTEM", "config/SOFTWARE", "ntoskrnl.exe")
_MAX_FOLDERS = 64
"""Folders of the drive that may be Windows' own, where it has another name than most."""
_MAX_CONTROL_SETS = 999
_MAX_PATH = 1024
"""Characters of a driver's path; Windows takes 260."""


@dataclass(frozen=True, slots=True)
class Registry:
    """What the facts about a Windows are read from. Keys of a hive that is not there are missing."""

    folder: str
    """Path of Windows' own folder: ``/Windows``."""
    system: Key
    """Root of SYSTEM."""
    control_set: int | None
    """Number of its control set that is in use: CurrentControlSet is made of that when Windows starts."""
    control: Key
    """Control, in that set."""
    services: Key
    """Services, in that set."""
    software: Key
    """Root of SOFTWARE."""
    drivers: Key
    """Root of DRIVERS, which holds the driver database of Windows 10 and later beside SYSTEM."""

    @property
    def current_version(self) -> Key:
        """``SOFTWARE\\Microsoft\\Windows NT\\CurrentVersion``."""
        return self.software.key("Microsoft\\Windows NT\\CurrentVersion")

    def path(self, path: str) -> str | None:
        """A path as drivers are named by, in the guest: ``\\SystemRoot\\System32\\x.sys``, ``\\??\\C:\\x.sys``.

        ``None`` where it is on another drive than Windows itself, as far as can be told.
        """
        if len(path) > _MAX_PATH:
            return None
        parts = path.strip().strip('"').replace("/", "\\").split("\\")
        parts = [part for part in parts if part not in ("", "??", ".")]
        if not parts or ".." in parts:
            return None
        first = parts[0].lower()
        if first in ("systemroot", "%systemroot%", "%windir%"):
            return "/".join([self.folder, *parts[1:]])
        if first in ("c:", "%systemdrive%"):
            return "/" + "/".join(parts[1:])
        if first.endswith(":"):
            return None
        return "/".join([self.folder, *parts])


def find_registry(files: Files) -> Registry | None:
    """The registry of the Windows in ``files``; ``None`` where there is no Windows."""
    folder = _find_folder(files)
    if folder is None:
        return None
    system = open_hive(files, f"{folder}/System32/config/SYSTEM", needed=True)
    control_set, number = _find_control_set(files, system)
    return Registry(
        folder,
        system,
        number,
        control_set.key("Control"),
        control_set.key("Services"),
        open_hive(files, f"{folder}/System32/config/SOFTWARE", needed=True),
        open_hive(files, f"{folder}/System32/config/DRIVERS"),
    )


def open_hive(files: Files, path: str, *, needed: bool = False) -> Key:
    """The root key of the hive at ``path``, missing where none is; that is a problem where it is ``needed``."""
    size = files.size(path)
    if size is None:
        if needed:
            files.report(f"{quote(path)} is missing: what it tells of the system is not known.")
        return Hive(lambda _, __: b"", 0, path, lambda _: None).root
    hive = Hive(lambda offset, length: files.tree.read_at(path, offset, length), size, path, files.report)
    if hive.dirty:
        logs = ", ".join(quote(path + end) for end in (".LOG1", ".LOG2", ".LOG") if files.size(path + end))
        left = f"its last changes lie in {logs}, which are not looked at" if logs else "its last changes are missing"
        files.report(f"{quote(path)} was not written out whole when the system stopped: {left}.")
    return hive.root


def _find_folder(files: Files) -> str | None:
    others = (f"/{name}" for name in files.names("/")[:_MAX_FOLDERS])
    for folder in (*_USUAL, *others):
        if any(files.is_file(f"{folder}/System32/{sign}") for sign in _SIGNS):
            return folder
    return None


def _find_control_set(files: Files, system: Key) -> tuple[Key, int | None]:
    """The set that ``Select`` names, else the first of those that it names otherwise and that are there."""
    select = system.key("Select")
    for name in ("Current", "Default", "LastKnownGood"):
        number = select.number(name)
        if number is not None and 0 < number <= _MAX_CONTROL_SETS:
            key = system.key(f"ControlSet{number:03d}")
            if key.exists:
                return key, number
        if system.exists:
            said = "no control set" if number is None else f"control set {number}, which is not there"
            files.report(f"The registry's Select\\{name} names {said}.")
    first = system.key("ControlSet001")
    return first, 1 if first.exists else None

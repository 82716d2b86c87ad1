"""GRUB 2: grub.cfg with its menus, or with the entries of the Boot Loader Specification; grubenv; the ESP's stubs.

As much of GRUB's shell is understood as grub-mkconfig of the distributions writes. Source: the GNU GRUB Manual 2.12.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from vmferry.errors import quote
from vmferry.guest.facts import VolumeFacts
from vmferry.guest.files import Files
from vmferry.guest.linux.bls import read_entries
from vmferry.guest.linux.menu import Entry, Menu, bound, locate, split_words
from vmferry.limits import MAX_GUEST_ENTRIES

_CONFIGS = ("/boot/grub2/grub.cfg", "/boot/grub/grub.cfg")
_FOLDERS = ("/boot/grub2", "/boot/grub", "/boot/flatcar/grub", "/boot/coreos/grub")
_BLS = "/boot/loader/entries"
_VARIABLE = re.compile(r"\$(?:\{(\w{1,64})\}|(\w{1,64}))")
_NUMBER = re.compile(r"\d{1,6}")
_LINUX = frozenset({"linux", "linux16", "linuxefi"})
_INITRD = frozenset({"initrd", "initrd16", "initrdefi"})
_MODULE = frozenset({"module", "module2"})
_MAX_TEXT = 4096
_MAX_DEPTH = 64
_MAX_CONFIGS = 8
"""Files that are read, one naming the next."""


@dataclass(slots=True)
class _Node:
    """A menu entry, or a submenu with its own."""

    entry: Entry
    children: list[_Node] | None = None


@dataclass(slots=True)
class _Script:
    """What a grub.cfg came to."""

    nodes: list[_Node] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)
    defaults: list[str] = field(default_factory=list)
    """Every value that ``set default`` has, as it is written."""
    next_configs: list[str] = field(default_factory=list)
    searched: list[str] = field(default_factory=list)
    """UUIDs of file systems that it looks for."""
    bls: bool = False


def read_grub(files: Files, esps: Sequence[str], volumes: Sequence[VolumeFacts]) -> Menu | None:
    """GRUB's menu, or ``None`` where no GRUB 2 is. ``esps`` are where EFI system partitions are mounted."""
    path, script = _find_script(files, esps, volumes)
    if path is None:
        folder = next((folder for folder in _FOLDERS if files.is_file(f"{folder}/grubenv")), None)
        cores = (f"{folder}/{name}/core.*" for folder in _FOLDERS for name in ("i386-pc", "x86_64-efi", "arm64-efi"))
        return Menu("grub2") if folder or files.glob(*cores) else None
    environment = _read_environment(files, path)
    script.variables.update(environment)
    nodes = script.nodes
    if script.bls:
        listed = [_Node(_expand_entry(entry, script)) for entry in read_entries(files, _BLS)]
        nodes = listed + nodes
    entries = bound([node.entry for node in _flatten(nodes)], files, path)
    default, guessed = _find_default(nodes, script, environment)
    return Menu("grub2", path, entries, default, guessed)


def _find_script(files: Files, esps: Sequence[str], volumes: Sequence[VolumeFacts]) -> tuple[str | None, _Script]:
    """The configuration that counts: that of /boot, unless only the ESP has one, or GRUB's environment lies there."""
    paths = [path for path in _CONFIGS if files.is_file(path)]
    on_esp = [path for esp in esps for path in files.glob(f"{esp}/EFI/*/grub.cfg", f"{esp}/efi/*/grub.cfg")]
    environment = files.find("/boot/grub2/grubenv") or ""
    if any(environment.startswith(f"{esp}/") for esp in esps):
        paths = on_esp + paths
    else:
        paths += on_esp
    first: tuple[str | None, _Script] = (None, _Script())
    for path in paths:
        script = _read_script(files, path)
        if path in on_esp:
            _check_search(files, path, script, volumes)
        if script.nodes or script.bls:
            return path, script
        if found := _follow(files, script):
            return found
        first = first if first[0] else (path, script)
    return first


def _follow(files: Files, script: _Script) -> tuple[str, _Script] | None:
    """The menu that a stub without one leads to."""
    for _ in range(_MAX_CONFIGS):
        paths = [locate(files, path) for path in script.next_configs]
        path = next((path for path in paths if path is not None), None)
        if path is None:
            return None
        script = _read_script(files, path)
        if script.nodes or script.bls:
            return path, script
    return None


def _check_search(files: Files, path: str, script: _Script, volumes: Sequence[VolumeFacts]) -> None:
    known = {(volume.uuid or "").lower() for volume in volumes}
    for uuid in script.searched if known - {""} else ():
        if not script.nodes and uuid.lower() not in known:
            files.report(f"{quote(path)} looks for the file system {quote(uuid)}, which no disk of the machine has.")


def _read_script(files: Files, path: str) -> _Script:
    script = _Script(variables={"prefix": path.rpartition("/")[0]})
    reader = _Reader(files, script)
    for line in files.lines(path):
        if line and not line.startswith("#"):
            reader.read(line)
    return script


class _Reader:
    """Reads a script line by line; of ``if`` and its like both branches are taken."""

    def __init__(self, files: Files, script: _Script) -> None:
        self._files = files
        self._script = script
        self._open: list[_Node | None] = []
        """What braces are open: menus, entries, and ``None`` for anything else."""
        self._count = self._environments = 0

    def read(self, line: str) -> None:
        words = split_words(line.rstrip("; "))
        if not words:
            return
        if words[0] in ("menuentry", "submenu"):
            self._begin(words)
        elif words[0] == "}":
            self._open = self._open[:-1]
        elif words[-1] == "{":
            self._push(None)
        elif self._open and (node := self._open[-1]) is not None and node.children is None:
            self._read_in_entry(node, words)
        else:
            self._read_outside(words)

    def _begin(self, words: list[str]) -> None:
        marks = [place for place, word in enumerate(words) if word in ("--id", "$menuentry_id_option")]
        name = words[marks[0] + 1] if marks and marks[0] + 1 < len(words) else ""
        node = _Node(Entry(words[1] if len(words) > 1 else "", name), [] if words[0] == "submenu" else None)
        self._count += 1
        parent = next((node for node in reversed(self._open) if node is not None and node.children is not None), None)
        if self._count <= MAX_GUEST_ENTRIES + 1:
            (self._script.nodes if parent is None or parent.children is None else parent.children).append(node)
        self._push(node)

    def _push(self, node: _Node | None) -> None:
        """Nobody nests as deep as the bound; what does is read wrongly, and soon."""
        if len(self._open) < _MAX_DEPTH:
            self._open.append(node)

    def _read_in_entry(self, node: _Node, words: list[str]) -> None:
        entry = node.entry
        words = [_expand(word, self._script.variables) for word in words]
        if words[0] in _LINUX and len(words) > 1:
            node.entry = Entry(entry.title, entry.name, words[1], entry.initramfs, " ".join(words[2:])[:_MAX_TEXT])
        elif words[0] in _INITRD:
            paths = tuple(word for word in words[1:9] if not word.startswith("newc:"))
            node.entry = Entry(entry.title, entry.name, entry.kernel, paths, entry.options)
        elif words[0] in _MODULE and len(words) > 1:  # of a Xen host: the kernel, then its initramfs
            kernel, paths = (entry.kernel, (words[1],)) if entry.kernel else (words[1], ())
            options = entry.options or " ".join(word for word in words[2:] if word != "placeholder")
            node.entry = Entry(entry.title, entry.name, kernel, entry.initramfs or paths, options[:_MAX_TEXT])

    def _read_outside(self, words: list[str]) -> None:
        script = self._script
        if words[0] == "set" and len(words) > 1:
            name, _, value = words[1].partition("=")
            if name == "default":
                script.defaults.append(value)
            script.variables[name] = _expand(value, script.variables)
        elif words[0] in ("configfile", "source", "normal") and len(words) > 1:
            script.next_configs.append(_expand(words[1], script.variables))
        elif words[0] in ("search.fs_uuid", "search") and len(words) > 1:
            script.searched += _searched(words)
        elif words[0] == "load_env" and len(words) > 2 and words[1] in ("-f", "--file"):
            self._load_environment(_expand(words[2], script.variables))
        elif words[0] == "blscfg":
            script.bls = True

    def _load_environment(self, name: str) -> None:
        self._environments += 1
        if self._environments <= _MAX_CONFIGS and (path := locate(self._files, name)) is not None:
            self._script.variables.update(self._files.settings(path))


def _searched(words: list[str]) -> list[str]:
    if words[0] == "search.fs_uuid":
        return words[1:2]
    plain = [word for word in words[1:] if not word.startswith("-")]
    return plain[-1:] if any(word in ("--fs-uuid", "-u") for word in words) else []


def _read_environment(files: Files, config: str) -> dict[str, str]:
    """grubenv, beside the configuration or in /boot's folder; its padding of ``#`` is no setting."""
    for folder in (config.rpartition("/")[0], *_FOLDERS):
        if settings := files.settings(f"{folder}/grubenv"):
            return settings
    return {}


def _find_default(nodes: list[_Node], script: _Script, environment: dict[str, str]) -> tuple[Entry | None, bool]:
    """The entry that starts, and whether none is named. The last ``set default`` counts; ``next_entry`` counts once."""
    named = [value for value in script.defaults if "next_entry" not in value and "boot_once" not in value]
    value = _expand(named[-1] if named else environment.get("saved_entry", ""), environment)
    for wanted in (environment.get("next_entry", ""), value):
        if wanted and (found := _select(nodes, wanted)) is not None:
            return found, False
    if script.bls and (not value or not _NUMBER.fullmatch(value)):
        entry = next((node.entry for node in nodes if node.entry.kernel), None)
    else:
        entry = _first(nodes)
    # A menu that sets no default starts its first entry: that is no guess.
    return entry, script.bls or bool(named)


def _select(nodes: list[_Node], wanted: str) -> Entry | None:
    """The entry that ``1>2``, an id or a title means."""
    node: _Node | None = None
    for part in wanted.split(">")[:8]:
        node = _match(nodes, part)
        if node is None:
            return None
        nodes = node.children or []
    if node is not None and node.children is not None:
        return _first(node.children)
    return node.entry if node else None


def _match(nodes: list[_Node], part: str) -> _Node | None:
    if _NUMBER.fullmatch(part):
        return nodes[int(part)] if int(part) < len(nodes) else None
    exact = (node for node in nodes if part in (node.entry.name, node.entry.title))
    # Entries of the Boot Loader Specification begin with the machine's id, which a saved name may lack.
    return next(exact, None) or next((node for node in nodes if node.entry.name.endswith(f"-{part}")), None)


def _first(nodes: list[_Node]) -> Entry | None:
    for node in nodes[:1]:
        return node.entry if node.children is None else _first(node.children)
    return None


def _flatten(nodes: Iterable[_Node]) -> list[_Node]:
    """All entries, submenus opened; nesting is as deep as the file's braces, some hundred entries in all."""
    found: list[_Node] = []
    left = list(nodes)[::-1]
    while left:
        node = left.pop()
        if node.children is None:
            found.append(node)
        else:
            left += node.children[::-1]
    return found


def _expand_entry(entry: Entry, script: _Script) -> Entry:
    paths = tuple(_expand(path, script.variables) for path in entry.initramfs)
    kernel = _expand(entry.kernel, script.variables)
    return Entry(entry.title, entry.name, kernel, tuple(path for path in paths if path), _options(entry, script))


def _options(entry: Entry, script: _Script) -> str:
    return " ".join(_expand(entry.options, script.variables).split())[:_MAX_TEXT]


def _expand(text: str, variables: dict[str, str]) -> str:
    """``text`` with each variable's value in its place; once, and bounded."""
    return _VARIABLE.sub(lambda match: variables.get(match[1] or match[2], ""), text)[:_MAX_TEXT]

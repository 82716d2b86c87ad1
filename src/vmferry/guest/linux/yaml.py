"""As much of YAML as netplan and cloud-init write: mappings, lists and plain scalars. Source: YAML 1.2.2, chapters 6-8.

Anchors, tags, documents after the first and block scalars are left out: what cannot be read is missing.
"""

from __future__ import annotations

import re

from vmferry.limits import MAX_GUEST_LINES

Yaml = dict[str, "Yaml"] | list["Yaml"] | str
"""What a document holds; every scalar is text, as it is written."""

_MAX_DEPTH = 24
_END = re.compile(r"[,\]}]")
_NO_KEY = ("[", "{", "&", "*", "!", "|", ">", "%", "@", "`")
_COMMENT = re.compile(r"(?:^|\s)#.*$")
_Line = tuple[int, str]
"""Indentation in columns, and the rest of the line."""


def read_yaml(lines: list[str]) -> Yaml:
    """The first document in ``lines``, which keep their indentation; ``{}`` where there is none."""
    found: list[_Line] = []
    for line in lines[:MAX_GUEST_LINES]:
        text = _without_comment(line.rstrip())
        if text.strip() == "---" and not found:
            continue
        if text.strip() in ("---", "..."):
            break
        if text.strip():
            found.append((len(text) - len(text.lstrip()), text.strip()))
    return _Reader(found).read(-1, 0)


class _Reader:
    """Goes through the lines once."""

    def __init__(self, lines: list[_Line]) -> None:
        self._lines = lines
        self._at = 0

    def read(self, above: int, depth: int) -> Yaml:
        """The block that is indented further than ``above``; ``{}`` where there is none."""
        line = self._peek()
        if line is None or line[0] <= above or depth > _MAX_DEPTH:
            self._skip(above)
            return {}
        return self._read_list(line[0], depth) if _is_item(line[1]) else self._read_mapping(line[0], depth)

    def _read_mapping(self, indent: int, depth: int) -> Yaml:
        found: dict[str, Yaml] = {}
        while (line := self._peek()) is not None and line[0] >= indent:
            self._at += 1
            pair = _split(line[1])
            if line[0] > indent or pair is None:
                continue
            found[pair[0]] = read_flow(pair[1]) if pair[1] else self._read_below(indent, depth)
        return found

    def _read_below(self, indent: int, depth: int) -> Yaml:
        """What a key without a value has: a list may stand as far to the left as its key."""
        line = self._peek()
        return self.read(
            indent - 1 if line is not None and line[0] == indent and _is_item(line[1]) else indent, depth + 1
        )

    def _read_list(self, indent: int, depth: int) -> Yaml:
        found: list[Yaml] = []
        while (line := self._peek()) is not None and line[0] >= indent:
            if line[0] > indent:
                self._at += 1
                continue
            if not _is_item(line[1]):
                break
            rest = line[1][1:].strip()
            if rest and _split(rest) is None:
                self._at += 1
                found.append(read_flow(rest))
                continue
            if rest:  # "- to: default": the mapping begins on the dash's own line
                self._lines[self._at] = (indent + len(line[1]) - len(rest), rest)
            else:
                self._at += 1
            found.append(self.read(indent, depth + 1))
        return found

    def _peek(self) -> _Line | None:
        return self._lines[self._at] if self._at < len(self._lines) else None

    def _skip(self, above: int) -> None:
        while (line := self._peek()) is not None and line[0] > above:
            self._at += 1


def read_flow(text: str) -> Yaml:
    """``[a, b]``, ``{a: b}`` or a scalar, on one line; a bracket that is never closed ends with the line."""
    value, _ = _read_flow(text, 0, 0)
    return value


def _read_flow(text: str, at: int, depth: int) -> tuple[Yaml, int]:
    while text[at : at + 1] == " ":
        at += 1
    if depth < _MAX_DEPTH and text[at : at + 1] in ("[", "{"):
        return _read_collection(text, at, depth)
    if text[at : at + 1] in ("'", '"'):
        end = text.find(text[at], at + 1)
        end = len(text) if end < 0 else end
        return text[at + 1 : end], end + 1
    stop = _END.search(text, at) if depth else None
    end = stop.start() if stop else len(text)
    return text[at:end].strip(), end


def _read_collection(text: str, at: int, depth: int) -> tuple[Yaml, int]:
    is_list = text[at] == "["
    items: list[Yaml] = []
    pairs: dict[str, Yaml] = {}
    at += 1
    while at < len(text) and text[at] not in "]}":
        if is_list:
            value, at = _read_flow(text, at, depth + 1)
            items += [value] if value != "" else []
        else:
            colon = text.find(":", at)
            if colon < 0:
                return pairs, len(text)
            key = _scalar(text[at:colon].strip(" ,"))
            pairs[key], at = _read_flow(text, colon + 1, depth + 1)
        while at < len(text) and text[at] in " ,":
            at += 1
    return (items if is_list else pairs), at + 1


def _split(line: str) -> tuple[str, str] | None:
    """Key and value of ``key: value``; ``None`` for a line that is neither that nor ``key:``."""
    if line.startswith(_NO_KEY):
        return None
    start = max(line.find(line[0], 1), 0) if line[0] in "'\"" else 0
    colon = line.find(": ", start)
    if colon < 0:
        return (_scalar(line[:-1].strip()), "") if line.endswith(":") else None
    return _scalar(line[:colon].strip()), line[colon + 1 :].strip()


def _is_item(text: str) -> bool:
    return text == "-" or text.startswith("- ")


def _scalar(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] in "'\"" and text[-1] == text[0] else text


def _without_comment(line: str) -> str:
    """``line`` up to its comment; one that has quotes is left as it is when the ``#`` may be inside them."""
    match = _COMMENT.search(line)
    if match is None or line[: match.start()].count('"') % 2 or line[: match.start()].count("'") % 2:
        return line
    return line[: match.start()]

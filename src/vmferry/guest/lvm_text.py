"""The text that LVM keeps its metadata in: ``name { key = value … }``. Source: LVM2, lib/config."""

from __future__ import annotations

import re
from typing import Any

from vmferry.limits import MAX_LVM_WORDS

_TOKEN = re.compile(r'[ \t\r\n\0]+|#[^\n]*|("(?:[^"\\]|\\.)*")|(-?\d+(?:\.\d+)?)(?![\w.+-])|([\w.+-]+)|([{}=\[\],])')
_MAX_DEPTH = 8


def parse_metadata(text: str) -> dict[str, Any]:
    """``text`` as dictionaries (sections), lists, strings and integers. ``ValueError`` for what is no such text."""
    tokens = _tokens(text)
    root: dict[str, Any] = {}
    sections = [root]
    at = 0
    while at < len(tokens):
        word = tokens[at]
        if word == "}":
            sections.pop()
            at += 1
            if not sections:
                raise ValueError("a section ends that never began")
            continue
        following = tokens[at + 1] if at + 1 < len(tokens) else None
        if following == "{":
            if len(sections) > _MAX_DEPTH:
                raise ValueError(f"more than {_MAX_DEPTH} sections lie inside one another")
            section: dict[str, Any] = {}
            sections[-1][str(word)] = section
            sections.append(section)
            at += 2
        elif following == "=":
            sections[-1][str(word)], at = _value(tokens, at + 2)
        else:
            raise ValueError(f"neither a section nor a value follows {word!r}")
    return root


def _tokens(text: str) -> list[Any]:
    """Words and signs as they stand, strings as tuples of one, numbers as integers."""
    found: list[Any] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None or len(found) > MAX_LVM_WORDS:
            raise ValueError(f"character {at:,} makes no sense" if match is None else "it has too many words")
        string, number, word, sign = match.groups()
        if string is not None:
            found.append((re.sub(r"\\(.)", r"\1", string[1:-1]),))
        elif number is not None:
            found.append(int(number.partition(".")[0]))
        elif word or sign:
            found.append(word or sign)
        at = match.end()
    return found


def _value(tokens: list[Any], at: int) -> tuple[Any, int]:
    if at < len(tokens) and tokens[at] == "[":
        try:
            end = tokens.index("]", at)
        except ValueError:
            raise ValueError("a list has no end") from None
        return [_plain(token) for token in tokens[at + 1 : end] if token != ","], end + 1
    if at >= len(tokens) or tokens[at] in ("{", "}", "=", ",", "]"):
        raise ValueError("a value is missing")
    return _plain(tokens[at]), at + 1


def _plain(token: Any) -> Any:
    return token[0] if isinstance(token, tuple) else token

"""Wildcards as AWS has them: ``*`` is any run, ``?`` one character, a backslash takes the meaning off the next one."""

from __future__ import annotations

import re

_TOKEN = re.compile(r"\\(?P<escaped>.)|(?P<star>\*+)|(?P<any>\?)|(?P<plain>[^\\*?]+)|(?P<last>\\)", re.DOTALL)


def wildcard_expression(pattern: str) -> str:
    """``pattern`` as a regular expression that takes time in proportion to pattern × text, whoever wrote it.

    What follows a ``*`` up to the next one is an atomic group: matched at its first place, never tried again.
    """
    pieces = [""]
    for token in _TOKEN.finditer(pattern):
        if token["star"]:
            pieces.append("")
        elif token["any"]:
            pieces[-1] += "."
        else:
            pieces[-1] += re.escape(token["escaped"] or token["plain"] or "\\")
    if len(pieces) == 1:
        return pieces[0]
    first, *middle, last = pieces
    return first + "".join(f"(?>.*?{piece})" for piece in middle) + f".*{last}"

"""Many names in little room."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_NUMBERED = re.compile(r"(.*?)([0-9]+)")


def natural(name: str) -> tuple[tuple[str, int], ...]:
    """Return a sort key under which node-2 comes before node-10."""
    return tuple((text, int(number or 0)) for text, number in re.findall(r"([^0-9]*)([0-9]*)", name))


def without_domain(names: Sequence[str]) -> dict[str, str]:
    """Return what to call each: without its domain, if all have the same one.

    >>> without_domain(["a.example", "b.example"])
    {'a.example': 'a', 'b.example': 'b'}
    """
    if len({name.partition(".")[2] for name in names}) > 1:
        return {name: name for name in names}
    return {name: name.partition(".")[0] for name in names}


def describe_names(names: Iterable[str], *, width: int = 30) -> str:
    """Return names as ranges in about `width` characters; at least the first, and how many more there are.

    >>> describe_names(["a-1", "a-2", "a-3", "b"])
    'a-1…3, b'
    """
    ranges: list[list[str]] = []
    for name in sorted(names, key=natural):
        if ranges and _follows(ranges[-1][-1], name):
            ranges[-1].append(name)
        else:
            ranges.append([name])
    for shown in range(len(ranges), 0, -1):
        text, tail = ", ".join(map(_range, ranges[:shown])), _more(ranges[shown:])
        if len(text) + len(tail) <= width or shown == 1:
            return shorten(text, width - len(tail)) + tail
    return ""


def _more(ranges: Sequence[Sequence[str]]) -> str:
    count = sum(map(len, ranges))
    return f" +{count}" if count else ""


def _follows(before: str, name: str) -> bool:
    one, two = _NUMBERED.fullmatch(before), _NUMBERED.fullmatch(name)
    if one is None or two is None or one[1] != two[1]:
        return False
    return int(two[2]) == int(one[2]) + 1


def _range(names: Sequence[str]) -> str:
    last = _NUMBERED.fullmatch(names[-1])
    return f"{names[0]}…{last[2]}" if last and len(names) > 1 else names[0]


def shorten(text: str, length: int) -> str:
    """Return at most `length` (2 or more) characters, the middle left out: both ends of a name tell most.

    >>> shorten("abcdefgh", 5)
    'ab…gh'
    """
    if len(text) <= length:
        return text
    head = (length - 1) // 2
    return f"{text[:head]}…{text[head - length + 1:]}"

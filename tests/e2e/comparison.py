"""Two pure questions: does what was seen hold what is expected, and do two runs differ?

Values are JSON. Both answers are lists of sentences that name the place, "" being none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any, Final, NamedTuple

_MISSING: Final = "(nothing)"
_PATTERN: Final = "~"  # an expected text that begins so is a regular expression for all of it


class Difference(NamedTuple):
    """What the container of one run saw at `where`, and that of the other."""

    where: str
    direct: Any
    virtual: Any

    def __str__(self) -> str:
        return f"{self.where}\n    directly: {self.direct!r}\n    through the virtual node: {self.virtual!r}"


def missing(expected: Any, seen: Any, where: str = "") -> Iterator[str]:
    """Yield for everything in `expected` that `seen` does not hold a sentence.

    Maps may hold more than expected, and None means absent; lists and all else must be equal, a text that begins with
    ~ match as a regular expression.
    """
    if isinstance(expected, dict):
        if not isinstance(seen, dict):
            yield f"{where}: expected a map, saw {seen!r}"
            return
        for key, value in expected.items():
            place = f"{where} > {key}" if where else str(key)
            if value is None:
                if key in seen:
                    yield f"{place}: expected nothing, saw {seen[key]!r}"
            elif key not in seen:
                yield f"{place}: expected {value!r}, saw nothing"
            else:
                yield from missing(value, seen[key], place)
    elif isinstance(expected, list) and isinstance(seen, list) and len(expected) == len(seen):
        for index, (one, other) in enumerate(zip(expected, seen, strict=True)):
            yield from missing(one, other, f"{where} > {index}")
    elif not _fits(expected, seen):
        yield f"{where}: expected {expected!r}, saw {seen!r}"


def _fits(expected: Any, seen: Any) -> bool:
    if isinstance(expected, str) and expected.startswith(_PATTERN) and isinstance(seen, str):
        return re.fullmatch(expected[len(_PATTERN):], seen, re.DOTALL) is not None
    return bool(expected == seen) and isinstance(expected, bool) == isinstance(seen, bool)


def differences(direct: Any, virtual: Any, where: str = "") -> Iterator[Difference]:
    """Yield every place where two runs differ."""
    if isinstance(direct, dict) and isinstance(virtual, dict):
        for key in sorted({*direct, *virtual}, key=str):
            place = f"{where} > {key}" if where else str(key)
            yield from differences(direct.get(key, _MISSING), virtual.get(key, _MISSING), place)
    elif direct != virtual:
        yield Difference(where, direct, virtual)


def sort_out(found: Iterator[Difference], known: Mapping[str, str]) -> tuple[list[Difference], set[str]]:
    """Return the differences that no pattern of `known` covers, and the patterns that covered one."""
    unknown: list[Difference] = []
    used: set[str] = set()
    for difference in found:
        covering = [pattern for pattern in known if fnmatchcase(difference.where, pattern)]
        used.update(covering)
        if not covering:
            unknown.append(difference)
    return unknown, used

"""Passing over watch events without decoding them, by a look at their bytes: most of a busy watch may concern somebody else.

Exact in one direction, whatever the server writes: an event whose object has a JSON string that contains the needle is never
passed over. JSON has but two ways to write one of the needle's characters, itself and an escape with its code in hexadecimal: a
line that has neither the needle nor such an escape cannot say it. What is kept may still be somebody else's (the needle may
stand in an annotation); to tell that is the business of whoever decodes it.

Of an event that is passed over one thing is needed all the same: its resourceVersion, the place to resume the watch at. It is
read from the head of the line, where every member before it is a plain string; a line that looks otherwise is decoded.
"""

from __future__ import annotations

import re

# An event's head as far as metadata.resourceVersion. Strings with a backslash in them end the match: no guess is made.
_HEAD = re.compile(
    rb'\{"type":"(?:ADDED|MODIFIED|DELETED)","object":\{(?:"(?:kind|apiVersion)":"[^"\\]*",){0,2}"metadata":\{'
    rb'(?:"\w+":"[^"\\]*",){0,8}?"resourceVersion":"(\d+)"[,}]'
)


class Skimmer:
    """Tells which events cannot contain `needle`: text of lower-case letters, digits and dashes."""

    __slots__ = ("_escape", "_needle")

    def __init__(self, needle: str) -> None:
        if not re.fullmatch("[a-z0-9-]+", needle):
            raise ValueError(f"{needle!r} has other characters than lower-case letters, digits and dashes")
        self._needle = needle.encode()
        codes = "|".join(sorted({f"{ord(character):02x}" for character in needle}))
        self._escape = re.compile(rb"\\u00(?:" + codes.encode() + rb")", re.IGNORECASE)

    def position_of_foreign(self, line: bytes) -> str:
        """Return the resourceVersion of an event that cannot contain the needle, "" for one that has to be decoded."""
        if self._needle in line or (b"\\u00" in line and self._escape.search(line)):
            return ""
        head = _HEAD.match(line)
        return head[1].decode() if head else ""

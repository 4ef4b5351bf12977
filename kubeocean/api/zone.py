"""IANA time zones in our API: the one rule that CEL cannot check in full."""

from __future__ import annotations

from typing import Annotated, Final
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from kubeocean.api.model import matches

UNKNOWN_ZONE: Final = "unknown"  # stands for one that a binding names and nobody here knows
_REMEDY = "write an IANA time zone such as Europe/Berlin, Asia/Shanghai or UTC"


def is_zone(name: str) -> bool:
    """Tell whether this is the name of a time zone that is known here."""
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # unknown, malformed, and a directory of zones such as "Europe"
        return False
    return True


def _known(name: str) -> str:
    if not is_zone(name):
        raise PydanticCustomError(
            "time_zone", "{name} is no known time zone; {remedy}", {"name": repr(name), "remedy": _REMEDY}
        )
    return name


TimeZone = Annotated[
    str, Field(max_length=64), matches("^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*$", _REMEDY), AfterValidator(_known)
]

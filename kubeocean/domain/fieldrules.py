"""The vocabulary of the field tables (`podfields`, `volumefields`): what may become of a field, and where the rest is decided.

A *table* speaks of one type of the API, by the names of its fields. A row either decides alone, or names the table that
decides about what is below (`of`). A field that is kept without such a table is a plain value, or a list or map of plain
values: there is nothing below it in which a field could hide, and a test asks the real API server's schema whether that
is so.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple


class Treatment(StrEnum):
    """What mapping does with a field."""

    KEEP = "keep"
    RENAME = "rename"
    REWRITE = "rewrite"
    DROP = "drop"
    REFUSE = "refuse"


class Rule(NamedTuple):
    """One row: the treatment, why it is not simply kept ("" for KEEP without a condition), and the table for what is below.

    `since` is set on fields that not every Kubernetes we know has: the first release with it.
    """

    treatment: Treatment
    why: str = ""
    of: str = ""
    since: str = ""


Table = dict[str, Rule]

KEEP: Final = Rule(Treatment.KEEP)
# The name of an object of the virtual namespace. Its copy has another one: `naming.physical_name`.
RENAME: Final = Rule(Treatment.RENAME, "to the name of our copy")


def keep(of: str = "", why: str = "") -> Rule:
    """Return the rule of a field that is kept as far as table `of` lets it."""
    return Rule(Treatment.KEEP, why, of)


def rewrite(why: str, of: str = "") -> Rule:
    """Return the rule of a field that code builds anew."""
    return Rule(Treatment.REWRITE, why, of)


def drop(why: str, of: str = "") -> Rule:
    """Return the rule of a field that is left out."""
    return Rule(Treatment.DROP, why, of)


def refuse(why: str) -> Rule:
    """Return the rule of a field whose use gets a Pod refused."""
    return Rule(Treatment.REFUSE, why)


def plain(fields: str, **others: Rule) -> Table:
    """Return a table whose `fields` (with spaces between) are kept, and `others` as they say."""
    return dict.fromkeys(fields.split(), KEEP) | others

"""Quantities as exact fractions."""

import re
from fractions import Fraction
from math import floor

SUFFIXES = {
    "n": Fraction(1, 10**9), "u": Fraction(1, 10**6), "m": Fraction(1, 1000), "": Fraction(1),
    "k": Fraction(10**3), "M": Fraction(10**6), "G": Fraction(10**9), "T": Fraction(10**12), "P": Fraction(10**15),
    "E": Fraction(10**18), "Ki": Fraction(2**10), "Mi": Fraction(2**20), "Gi": Fraction(2**30), "Ti": Fraction(2**40),
    "Pi": Fraction(2**50), "Ei": Fraction(2**60),
}


def amount(text: str | int) -> Fraction:
    """Return what a quantity means; ValueError when it means nothing."""
    found = re.fullmatch(r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))(?:[eE]([+-]?[0-9]+)|([A-Za-z]*))", str(text))
    if found is None or (found[3] or "") not in SUFFIXES:
        raise ValueError(f"no quantity: {text!r}")
    number = Fraction(found[1].rstrip("."))
    if found[2]:
        return number * Fraction(10) ** int(found[2])
    return number * SUFFIXES[found[3] or ""]


def round_down(resource: str, much: Fraction) -> Fraction:
    """Return how much of a resource can be told: CPU in thousandths, huge pages in pages, everything else in whole units."""
    unit = Fraction(1)
    if resource == "cpu":
        unit = Fraction(1, 1000)
    if resource.startswith("hugepages-"):
        unit = amount(resource.removeprefix("hugepages-"))
    return floor(much / unit) * unit

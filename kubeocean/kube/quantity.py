"""Resource quantities with exact arithmetic and the text the API server itself would write.

A quantity is a whole number of nano units and the form its author used; nothing is ever a float. The rules are those of
apimachinery's `resource.Quantity`: whatever is finer than a nano is rounded up (away from zero), so who asks for a
little gets a little; a binary amount stops at 2^63-1; comparing looks at the value only, so `1Gi == 1073741824`; a sum
keeps the form of its first summand that is not zero.

The canonical text (`str`) is the shortest that loses nothing: the largest suffix that leaves a whole number. A binary
amount below 1024, or one with a fraction, is written in decimal. We differ from apimachinery on purpose in three
ways: above 10^18 we write an exponent (`1e21`), where it drops the suffix and with it the value; we always write the
canonical text, where it keeps some spellings of its users (`1.500`), so compare quantities, never their texts; and a
text without a digit (`m`) is refused, where it reads zero.

In a resource list (Pod, Node, quota) an API server also rounds up to a thousandth: what must not be exceeded has to be
rounded down before it is written.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Final

_NANO: Final = 10**9  # nano units in one
_BINARY_CAP: Final = (2**63 - 1) * _NANO
_LONGEST: Final = 128  # characters; nothing real comes near, and reading digits is quadratic
_LARGEST_EXPONENT: Final = 100
_SMALLEST_EXPONENT: Final = -2 * _LONGEST  # whatever has this exponent is less than a nano, however many digits it has

_DECIMAL_EXPONENTS: Final = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_DECIMAL_SUFFIXES: Final = {exponent: suffix for suffix, exponent in _DECIMAL_EXPONENTS.items()}
_BINARY_SUFFIXES: Final = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
_BINARY_BITS: Final = {suffix: 10 * position for position, suffix in enumerate(_BINARY_SUFFIXES) if suffix}

_TEXT: Final = re.compile(
    r"(?P<sign>[+-]?)(?=\.?[0-9])(?P<whole>[0-9]*)(?:\.(?P<fraction>[0-9]*))?"
    r"(?:(?P<binary>[KMGTPE]i)|[eE](?P<exponent>[+-]?[0-9]+)|(?P<decimal>[numkMGTPE]?))"
)


class InvalidQuantity(ValueError):
    """The text is no quantity; the message says what to write."""


class Form(StrEnum):
    """How the author of a quantity wrote it, which is how it is written back."""

    DECIMAL_SI = "DecimalSI"  # 500m, 2, 10G
    BINARY_SI = "BinarySI"  # 64Mi
    DECIMAL_EXPONENT = "DecimalExponent"  # 12e6


@dataclass(frozen=True, slots=True, order=True)
class Quantity:
    """An amount of a resource: `nano` billionths of a unit. Ordered, equal and hashed by value; false when zero.

    >>> str(Quantity.parse("1.5Gi") + Quantity.parse("512Mi"))
    '2Gi'
    """

    nano: int
    form: Form = field(default=Form.DECIMAL_SI, compare=False)

    @staticmethod
    def parse(value: str | int | float) -> Quantity:
        """Read a quantity as it stands in an object; see `parse`."""
        return parse(value)

    def milli(self) -> int:
        """Return thousandths, rounded up as Kubernetes does (`MilliValue`)."""
        return -(-self.nano // 10**6)

    def whole(self) -> int:
        """Return whole units, rounded down: how many GPUs or Pods there really are."""
        return self.nano // _NANO

    def floor(self) -> Quantity:
        """Return the quantity without its fraction, rounded down; what extended resources and `pods` require."""
        return Quantity(self.whole() * _NANO, self.form)

    def percent(self, share: int) -> Quantity:
        """Return `share` hundredths of it, rounded down to a nano: never more than the share.

        >>> str(Quantity.parse("96").percent(90))
        '86400m'
        """
        return Quantity(self.nano * share // 100, self.form)

    def __str__(self) -> str:
        if self.form is Form.BINARY_SI and abs(self.nano) >= 1024 * _NANO and self.nano % _NANO == 0:
            return _binary_text(self.nano // _NANO)
        return _decimal_text(self.nano, self.form)

    def __add__(self, other: Quantity) -> Quantity:
        return Quantity(self.nano + other.nano, self.form if self.nano else other.form)

    def __sub__(self, other: Quantity) -> Quantity:
        return Quantity(self.nano - other.nano, self.form if self.nano else other.form)

    def __mul__(self, times: int) -> Quantity:
        return Quantity(self.nano * times, self.form)

    def __neg__(self) -> Quantity:
        return Quantity(-self.nano, self.form)

    def __bool__(self) -> bool:
        return self.nano != 0


ZERO: Final = Quantity(0)


def parse(value: str | int | float) -> Quantity:
    """Read a quantity as it stands in an object: text, or a bare YAML number. Raises InvalidQuantity.

    >>> parse("0.1") == parse("100m") == parse(0.1)
    True
    """
    if isinstance(value, str):
        return _parse_text(value)
    # YAML's true is an int to Python, and 1 CPU to nobody.
    if isinstance(value, int) and not isinstance(value, bool):
        return Quantity(value * _NANO)
    if isinstance(value, float) and math.isfinite(value):
        return _parse_text(repr(value))
    raise _invalid(value)


@lru_cache(maxsize=4096)  # a cluster's Pods ask for the same few amounts over and over
def _parse_text(text: str) -> Quantity:
    match = _TEXT.fullmatch(text.strip()) if len(text) <= _LONGEST else None
    if match is None:
        raise _invalid(text)
    sign, whole, fraction, binary, exponent, decimal = match.groups(default="")
    digits = int(whole + fraction)
    if binary:
        nano = min(_scale_up(digits << _BINARY_BITS[binary], 9 - len(fraction)), _BINARY_CAP)
        # A binary amount below one is written in decimal ever after (apimachinery decides that while reading).
        form = Form.DECIMAL_SI if nano < _NANO else Form.BINARY_SI
    else:
        form = Form.DECIMAL_EXPONENT if exponent else Form.DECIMAL_SI
        power = int(exponent) if exponent else _DECIMAL_EXPONENTS[decimal]
        if power > _LARGEST_EXPONENT:
            raise InvalidQuantity(f"{text!r} is too large for a quantity; write an exponent up to {_LARGEST_EXPONENT}")
        nano = _scale_up(digits, max(power, _SMALLEST_EXPONENT) + 9 - len(fraction))
    return Quantity(-nano if sign == "-" else nano, form)


def _scale_up(digits: int, exponent: int) -> int:
    """Return digits * 10^exponent, rounded up to a whole number."""
    power: int = 10 ** abs(exponent)
    return digits * power if exponent >= 0 else -(-digits // power)


def _invalid(value: object) -> InvalidQuantity:
    shown = repr(value)
    shown = shown if len(shown) <= 40 else f"{shown[:40]}…"
    return InvalidQuantity(f"{shown} is no quantity; write a number and maybe a suffix, such as 2, 500m, 10G or 1.5Gi")


def _binary_text(units: int) -> str:
    power = 0
    while units % 1024 == 0 and power < len(_BINARY_SUFFIXES) - 1:
        units //= 1024
        power += 1
    return f"{units}{_BINARY_SUFFIXES[power]}"


def _decimal_text(nano: int, form: Form) -> str:
    if nano == 0:
        return "0"
    exponent = -9
    while nano % 1000 == 0:
        nano //= 1000
        exponent += 3
    if form is not Form.DECIMAL_EXPONENT and exponent in _DECIMAL_SUFFIXES:
        return f"{nano}{_DECIMAL_SUFFIXES[exponent]}"
    return f"{nano}e{exponent}" if exponent else str(nano)

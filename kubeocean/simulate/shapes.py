"""The few things a picture is made of; `svg` and `png` paint them. Lengths in pixels, y grows downwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from kubeocean.simulate.names import shorten

_NARROW = frozenset("iIjlftr.,:;'|!()[]/ -·")
_WIDE = frozenset("mwMW@%…")


class Anchor(StrEnum):
    """Which end of a text stands at its x."""

    START = "start"
    MIDDLE = "middle"
    END = "end"


@dataclass(frozen=True, slots=True)
class Rect:
    """A filled rectangle; `hatch` is the colour of diagonal lines on it, `tip` what a browser shows on hovering."""

    x: float
    y: float
    width: float
    height: float
    fill: str
    hatch: str = ""
    tip: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """A straight line."""

    x1: float
    y1: float
    x2: float
    y2: float
    color: str
    width: float = 1.0
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Polygon:
    """A filled area."""

    points: tuple[tuple[float, float], ...]
    fill: str


@dataclass(frozen=True, slots=True)
class Text:
    """A line of text on the baseline `y`."""

    x: float
    y: float
    text: str
    size: float = 12.0
    color: str = "#1f2328"
    anchor: Anchor = Anchor.START
    bold: bool = False

    @property
    def extent(self) -> tuple[float, float]:
        """Return from where to where it reaches on the x axis, in a wide font."""
        width = text_width(self.text, self.size)
        left = {Anchor.START: self.x, Anchor.MIDDLE: self.x - width / 2, Anchor.END: self.x - width}[self.anchor]
        return left, left + width


Shape = Rect | Line | Polygon | Text


@dataclass(frozen=True, slots=True)
class Picture:
    """Shapes in the order they are painted; texts always lie on top. `title` and `summary` are for who cannot see it."""

    width: float
    height: float
    title: str
    summary: str
    shapes: Sequence[Shape]


def text_width(text: str, size: float) -> float:
    """Return about how wide a text is in the widest of the usual sans-serif fonts: what fits by this always fits.

    >>> text_width("WWW", 10) > text_width("iii", 10)
    True
    """
    return size * sum(0.38 if sign in _NARROW else 0.98 if sign in _WIDE else 0.72 if sign.isupper() else 0.62 for sign in text)


def fit(text: str, size: float, width: float) -> str:
    """Return the text, its middle left out where `width` is too small for it; "" where it is for anything."""
    for length in range(len(text), 1, -1):
        shown = shorten(text, length)
        if text_width(shown, size) <= width:
            return shown
    return ""

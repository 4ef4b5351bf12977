"""Colours: told apart by colour-blind eyes, and on paper."""

from __future__ import annotations

from collections.abc import Sequence

INK, FAINT, GRID, GRID_FINE = "#1f2328", "#59636e", "#c9d1d9", "#eaeef2"
WEEKEND, CLOCKS, NOW = "#f6f8fa", "#b45309", "#0969da"
CLOSED, CLOSED_HATCH, RECLAIMED, RECLAIM = "#eef0f3", "#ccd3da", "#e4e7eb", "#cf222e"

_PALETTE = ("#2f6fb7", "#d98a1f", "#2a8f82", "#8a5fb5", "#b9527d", "#6d8f2e", "#3aa0c9", "#9a6a44")


def policy_colors(policies: Sequence[str]) -> dict[str, str]:
    """Return a colour for each policy; the ninth shares its with the first."""
    return {policy: _PALETTE[position % len(_PALETTE)] for position, policy in enumerate(policies)}


def tint(color: str, share: float) -> str:
    """Return the colour mixed with `share` of white.

    >>> tint("#000000", 0.5)
    '#808080'
    """
    return "#" + "".join(f"{round(part + (255 - part) * share):02x}" for part in _parts(color))


def ink_on(color: str) -> str:
    """Return the colour of text that can be read on `color`."""
    red, green, blue = _parts(color)
    return INK if 0.299 * red + 0.587 * green + 0.114 * blue > 160 else "#ffffff"


def _parts(color: str) -> tuple[int, int, int]:
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)

"""A picture as SVG: no dependency, small, and the same bytes for the same picture."""

from __future__ import annotations

from xml.sax.saxutils import escape, quoteattr

from kubeocean.simulate.shapes import Anchor, Line, Picture, Polygon, Rect, Shape, Text

_FONT = "system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, 'DejaVu Sans', sans-serif"


def render_svg(picture: Picture) -> str:
    """Return the picture as an SVG document of its own."""
    hatches = sorted({shape.hatch for shape in picture.shapes if isinstance(shape, Rect) and shape.hatch})
    width, height = _n(picture.width), _n(picture.height)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" font-family={quoteattr(_FONT)}>',
        f"<title>{escape(picture.title)}</title>", f"<desc>{escape(picture.summary)}</desc>",
        "<defs>", *map(_pattern, hatches), "</defs>", f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        *(_shape(shape) for shape in picture.shapes if not isinstance(shape, Text)),
        *(_text(shape) for shape in picture.shapes if isinstance(shape, Text)),
        "</svg>", "",
    ]
    return "\n".join(lines)


def _shape(shape: Shape) -> str:
    if isinstance(shape, Rect):
        return _rect(shape)
    if isinstance(shape, Line):
        dashes = ' stroke-dasharray="4 3"' if shape.dashed else ""
        ends = f'x1="{_n(shape.x1)}" y1="{_n(shape.y1)}" x2="{_n(shape.x2)}" y2="{_n(shape.y2)}"'
        return f'<line {ends} stroke="{shape.color}" stroke-width="{_n(shape.width)}"{dashes}/>'
    assert isinstance(shape, Polygon)
    points = " ".join(f"{_n(x)},{_n(y)}" for x, y in shape.points)
    return f'<polygon points="{points}" fill="{shape.fill}"/>'


def _rect(rect: Rect) -> str:
    box = f'x="{_n(rect.x)}" y="{_n(rect.y)}" width="{_n(rect.width)}" height="{_n(rect.height)}"'
    fills = [rect.fill, f"url(#{_hatch_id(rect.hatch)})"] if rect.hatch else [rect.fill]
    tip = f"<title>{escape(rect.tip)}</title>" if rect.tip else ""
    drawn = [f'<rect {box} fill="{fill}"/>' for fill in fills[:-1]]
    return "".join([*drawn, f'<rect {box} fill="{fills[-1]}"' + (f">{tip}</rect>" if tip else "/>")])


def _text(text: Text) -> str:
    anchor = "" if text.anchor is Anchor.START else f' text-anchor="{text.anchor.value}"'
    weight = ' font-weight="600"' if text.bold else ""
    at = f'x="{_n(text.x)}" y="{_n(text.y)}" font-size="{_n(text.size)}"'
    return f'<text {at} fill="{text.color}"{anchor}{weight}>{escape(text.text)}</text>'


def _pattern(color: str) -> str:
    return (
        f'<pattern id="{_hatch_id(color)}" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
        f'<line x1="0" y1="0" x2="0" y2="6" stroke="{color}" stroke-width="2"/></pattern>'
    )


def _hatch_id(color: str) -> str:
    return f"hatch-{color.removeprefix('#')}"


def _n(value: float) -> str:
    """Write a length to a tenth of a pixel."""
    return f"{value:.1f}".removesuffix(".0")

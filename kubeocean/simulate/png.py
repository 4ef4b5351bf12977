"""A picture as PNG, through Pillow (extra `simulate`), whose built-in font makes it independent of the machine's."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from kubeocean.simulate.shapes import Anchor, Line, Picture, Polygon, Rect, Shape, Text

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

_SCALE = 2  # dots a pixel: sharp on today's screens
_ANCHORS = {Anchor.START: "ls", Anchor.MIDDLE: "ms", Anchor.END: "rs"}
_DASH, _GAP = 4.0, 3.0
_HATCH = 8.5  # pixels between hatch lines along x: six across


class PillowMissing(Exception):
    """Pillow is not installed; the message says how to get it, and what works without."""

    def __init__(self) -> None:
        super().__init__("a PNG needs Pillow: pip install 'kubeocean[simulate]', or write an .svg, which needs nothing")


def render_png(picture: Picture) -> bytes:
    """Return the picture as a PNG file's content. Raises PillowMissing."""
    try:
        from PIL import Image, ImageDraw  # slow to import, and an extra
    except ImportError:
        raise PillowMissing from None
    image = Image.new("RGB", (round(picture.width * _SCALE), round(picture.height * _SCALE)), "#ffffff")
    draw = ImageDraw.Draw(image)
    for shape in picture.shapes:
        if not isinstance(shape, Text):
            _paint(image, draw, shape)
    for shape in picture.shapes:
        if isinstance(shape, Text):
            _write(draw, shape)
    content = io.BytesIO()
    image.quantize(128).save(content, "PNG", optimize=True)  # flat colours: a third of the size, and no eye sees it
    return content.getvalue()


def _paint(image: Image.Image, draw: ImageDraw.ImageDraw, shape: Shape) -> None:
    if isinstance(shape, Rect):
        draw.rectangle(_box(shape), fill=shape.fill)
        if shape.hatch:
            _hatch(image, shape)
    elif isinstance(shape, Line):
        for x1, y1, x2, y2 in _dashes(shape):
            draw.line((x1 * _SCALE, y1 * _SCALE, x2 * _SCALE, y2 * _SCALE), shape.color, max(1, round(shape.width * _SCALE)))
    elif isinstance(shape, Polygon):
        draw.polygon([(x * _SCALE, y * _SCALE) for x, y in shape.points], fill=shape.fill)


def _box(rect: Rect) -> tuple[int, int, int, int]:
    left, top = round(rect.x * _SCALE), round(rect.y * _SCALE)
    right, bottom = round((rect.x + rect.width) * _SCALE) - 1, round((rect.y + rect.height) * _SCALE) - 1
    return left, top, max(left, right), max(top, bottom)


def _hatch(image: Image.Image, rect: Rect) -> None:
    """Draw diagonals on a piece of paper of the rectangle's size; what hangs over is cut off."""
    from PIL import Image, ImageDraw

    left, top, right, bottom = _box(rect)
    width, height = right - left + 1, bottom - top + 1
    paper = Image.new("RGB", (width, height), rect.fill)
    draw, step = ImageDraw.Draw(paper), _HATCH * _SCALE
    offset = -(left + top) % step - height - step  # lines of neighbours meet
    while offset < width + step:
        draw.line((offset, height, offset + height, 0), rect.hatch, 2 * _SCALE)
        offset += step
    image.paste(paper, (left, top))


def _dashes(line: Line) -> list[tuple[float, float, float, float]]:
    length = ((line.x2 - line.x1) ** 2 + (line.y2 - line.y1) ** 2) ** 0.5
    if not line.dashed or length == 0:
        return [(line.x1, line.y1, line.x2, line.y2)]
    along_x, along_y = (line.x2 - line.x1) / length, (line.y2 - line.y1) / length
    dashes, at = [], 0.0
    while at < length:
        end = min(at + _DASH, length)
        dashes.append((line.x1 + along_x * at, line.y1 + along_y * at, line.x1 + along_x * end, line.y1 + along_y * end))
        at += _DASH + _GAP
    return dashes


def _write(draw: ImageDraw.ImageDraw, text: Text) -> None:
    from PIL import ImageFont

    font = ImageFont.load_default(text.size * _SCALE)
    at = (text.x * _SCALE, text.y * _SCALE)
    draw.text(at, text.text, text.color, font, _ANCHORS[text.anchor], stroke_width=0.5 if text.bold else 0)

"""The same chart as a PNG. Needs Pillow: `pip install minicloud[plot]`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from minicloud.cli.chart import TICKS, Frame, Series, clock, number

_PAPER, _INK, _GRID = (255, 255, 255), (60, 60, 60), (225, 225, 225)
_COLOURS = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167))  # Okabe and Ito: told apart by everybody
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 20, 40, 40
_TIMES = 6
SCALE = 2  # drawn twice as large and made smaller: smooth lines


def write(lines: Sequence[Series], frame: Frame, path: Path, title: str, size: tuple[int, int] = (960, 400)) -> None:
    """Raises click.ClickException (no Pillow), OSError."""
    try:
        from PIL import Image, ImageDraw, ImageFont
    except ModuleNotFoundError:
        raise click.ClickException("a PNG needs the package Pillow: pip install 'minicloud[plot]'") from None
    width, height = size
    image = Image.new("RGB", (width * SCALE, height * SCALE), _PAPER)
    pen = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=12 * SCALE)

    def place(across: float, up: float) -> tuple[float, float]:
        x = _LEFT + across * (width - _LEFT - _RIGHT)
        return x * SCALE, (height - _BOTTOM - up * (height - _TOP - _BOTTOM)) * SCALE

    for part in range(TICKS):
        up = part / (TICKS - 1)
        pen.line([place(0, up), place(1, up)], fill=_GRID, width=SCALE)
        x, y = place(0, up)
        pen.text((x - 6 * SCALE, y), number(frame.low + up * (frame.high - frame.low)), _INK, font, anchor="rm")
    for part in range(_TIMES):
        across = part / (_TIMES - 1)
        x, y = place(across, 0)
        text = clock(frame.start + across * (frame.end - frame.start), frame)
        anchor = "la" if part == 0 else "ra" if part == _TIMES - 1 else "ma"
        pen.text((x, y + 6 * SCALE), text, _INK, font, anchor=anchor)
    pen.text((_LEFT * SCALE, 8 * SCALE), title, _INK, font)
    beside = _LEFT * SCALE
    for index, line in enumerate(lines):
        colour = _COLOURS[index % len(_COLOURS)]
        points = [place(frame.across(at), frame.up(value)) for at, value in zip(line.times, line.values, strict=True)]
        if len(points) == 1:
            x, y = points[0]
            pen.ellipse([x - 2 * SCALE, y - 2 * SCALE, x + 2 * SCALE, y + 2 * SCALE], fill=colour)
        elif points:
            pen.line(points, fill=colour, width=2 * SCALE, joint="curve")
        pen.text((beside, 24 * SCALE), line.label, colour, font)
        beside += int(pen.textlength(line.label, font=font)) + 20 * SCALE
    image.resize(size, Image.Resampling.LANCZOS).save(path, "PNG")

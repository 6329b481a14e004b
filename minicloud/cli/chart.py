"""Lines of points as a drawing in the terminal: braille dots, eight in a character, four lines at most.

A chart says what its axes mean: the highest and lowest value at the left, the first and last time below.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # of a braille character, by row and column
_BLANK = 0x2800
COLOURS = ("cyan", "yellow", "green", "magenta")
LINES_MAX = len(COLOURS)
TICKS = 5


@dataclass(frozen=True, slots=True)
class Series:
    """times: Unix seconds, rising."""

    label: str
    times: Sequence[float]
    values: Sequence[float]


@dataclass(frozen=True, slots=True)
class Frame:
    """What the edges of a chart stand for. low == high never holds."""

    start: float
    end: float
    low: float
    high: float

    @classmethod
    def around(cls, lines: Sequence[Series], start: float, end: float) -> Frame:
        """From 0, where nothing is negative, to the highest value."""
        values = [value for line in lines for value in line.values if math.isfinite(value)] or [0.0]
        low, high = min(0.0, *values), max(0.0, *values)
        return cls(start, max(end, start + 1), low, high if high > low else low + 1)

    def across(self, time: float) -> float:
        """0 (left) to 1."""
        return min(max((time - self.start) / (self.end - self.start), 0.0), 1.0)

    def up(self, value: float) -> float:
        """0 (bottom) to 1."""
        return min(max((value - self.low) / (self.high - self.low), 0.0), 1.0)


@dataclass(frozen=True, slots=True)
class Cell:
    """One character of a drawing. line: whose colour it has, -1 for none."""

    text: str
    line: int = -1


class Canvas:
    """Characters of 2 x 4 dots; where lines meet, the last one gives the colour."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._dots = [[0] * width for _ in range(height)]
        self._owner = [[-1] * width for _ in range(height)]

    def dot(self, x: int, y: int, line: int) -> None:
        """x from the left, y from the bottom, in dots."""
        row, column = self.height - 1 - y // 4, x // 2
        self._dots[row][column] |= _DOTS[3 - y % 4][x % 2]
        self._owner[row][column] = line

    def stroke(self, one: tuple[int, int], two: tuple[int, int], line: int) -> None:
        """A straight line of dots from one to the other."""
        steps = max(abs(two[0] - one[0]), abs(two[1] - one[1]), 1)
        for step in range(steps + 1):
            x = one[0] + (two[0] - one[0]) * step / steps
            y = one[1] + (two[1] - one[1]) * step / steps
            self.dot(round(x), round(y), line)

    def rows(self) -> list[list[Cell]]:
        return [
            [Cell(chr(_BLANK + dots) if dots else " ", owner) for dots, owner in zip(*both, strict=True)]
            for both in zip(self._dots, self._owner, strict=True)
        ]


def draw(lines: Sequence[Series], frame: Frame, width: int, height: int) -> list[list[Cell]]:
    """Rows of characters, `width` wide and `height` high, axes included."""
    ticks = [frame.low + (frame.high - frame.low) * part / (TICKS - 1) for part in range(TICKS)]
    labels = [number(tick) for tick in ticks]
    margin = max(map(len, labels)) + 2
    canvas = Canvas(max(width - margin, 8), max(height - 2, TICKS))
    for index, line in enumerate(lines):
        _plot(canvas, line, frame, index)
    at = {round((canvas.height - 1) * (1 - part / (TICKS - 1))): labels[part] for part in range(TICKS)}
    drawn = []
    for row, cells in enumerate(canvas.rows()):
        drawn.append([Cell(f"{at.get(row, ''):>{margin - 2}} {'┤' if row in at else '│'}"), *cells])
    drawn.append([Cell(" " * (margin - 1) + "└" + "─" * canvas.width)])
    first, last = clock(frame.start, frame), clock(frame.end, frame)
    gap = max(canvas.width - len(first) - len(last), 1)
    drawn.append([Cell(" " * margin + first + " " * gap + last)])
    return drawn


def _plot(canvas: Canvas, line: Series, frame: Frame, index: int) -> None:
    before: tuple[int, int] | None = None
    for time, value in zip(line.times, line.values, strict=True):
        if not math.isfinite(value):
            before = None
            continue
        x = round(frame.across(time) * (canvas.width * 2 - 1))
        y = round(frame.up(value) * (canvas.height * 4 - 1))
        canvas.stroke(before or (x, y), (x, y), index)
        before = (x, y)


def number(value: float) -> str:
    """Four digits, and the power of a thousand: 1.234k, 56.78M."""
    size = abs(value)
    for unit, scale in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if size >= scale:
            return f"{value / scale:.4g}{unit}"
    return f"{value:.4g}"


def clock(time: float, frame: Frame) -> str:
    """With its day where the chart is longer than one; in local time."""
    form = "%m-%d %H:%M" if frame.end - frame.start > 86_400 else "%H:%M:%S"
    return datetime.fromtimestamp(time).astimezone().strftime(form)

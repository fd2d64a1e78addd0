"""Digits as somebody draws them with a mouse: lines of points, in many handwritings, and a pen that paints them.

A shape is a list of strokes, each a list of points (x, y) within a unit square, y downwards. ``drawn`` places a shape
on a canvas, in pixels: the same points can be drawn by a mouse or by ``painted``.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np


def arc(x, y, rx, ry, start, end):
    """Points on an ellipse around (x, y), from one angle to another in degrees; 0 is right, 90 is up."""
    count = max(2, round(abs(end - start) / 15) + 1)
    angles = np.radians(np.linspace(start, end, count))
    return [(x + rx * np.cos(a), y - ry * np.sin(a)) for a in angles]


# Digit -> the ways to write it; the first is the plainest.
SHAPES = {
    0: {
        "oval": [arc(0.5, 0.5, 0.42, 0.5, 90, 450)],
        "narrow": [arc(0.5, 0.5, 0.3, 0.5, 60, 420)],
        "round": [arc(0.5, 0.5, 0.5, 0.46, 110, 470)],
        "not quite closed": [arc(0.5, 0.5, 0.42, 0.5, 75, 415)],
    },
    1: {
        "line": [[(0.5, 0.0), (0.5, 1.0)]],
        "with a serif": [[(0.3, 0.2), (0.55, 0.0), (0.55, 1.0)]],
        "with serif and foot": [[(0.3, 0.2), (0.5, 0.0), (0.5, 1.0)], [(0.3, 1.0), (0.72, 1.0)]],
        "leaning": [[(0.62, 0.0), (0.42, 1.0)]],
    },
    2: {
        "plain": [[*arc(0.48, 0.28, 0.4, 0.28, 165, -35), (0.1, 1.0), (0.92, 1.0)]],
        "with a loop": [
            [*arc(0.5, 0.28, 0.38, 0.28, 160, -40), (0.3, 0.88), *arc(0.22, 0.88, 0.12, 0.1, 0, 290), (0.95, 0.98)]
        ],
        "swan": [[*arc(0.5, 0.25, 0.35, 0.25, 150, -20), (0.6, 0.6), (0.12, 0.96), (0.5, 0.93), (0.9, 1.0)]],
        "angular": [[(0.1, 0.15), (0.45, 0.0), (0.85, 0.18), (0.75, 0.45), (0.1, 1.0), (0.9, 1.0)]],
    },
    3: {
        "two bows": [[*arc(0.45, 0.25, 0.36, 0.25, 150, -80), *arc(0.45, 0.74, 0.43, 0.26, 85, -150)]],
        "flat top": [[(0.1, 0.0), (0.85, 0.0), (0.42, 0.4), *arc(0.43, 0.69, 0.44, 0.31, 75, -150)]],
        "with a loop": [
            [*arc(0.45, 0.24, 0.36, 0.24, 160, -70), (0.36, 0.5), (0.5, 0.47), *arc(0.45, 0.74, 0.42, 0.26, 70, -150)]
        ],
        "open": [[*arc(0.42, 0.27, 0.38, 0.25, 120, -70), *arc(0.42, 0.75, 0.44, 0.25, 70, -120)]],
    },
    4: {
        "open": [[(0.2, 0.0), (0.1, 0.55), (0.9, 0.55)], [(0.75, 0.1), (0.7, 1.0)]],
        "closed": [[(0.65, 1.0), (0.65, 0.0), (0.05, 0.68), (0.95, 0.68)]],
        "upright": [[(0.12, 0.0), (0.12, 0.5), (0.88, 0.5)], [(0.8, 0.0), (0.8, 1.0)]],
        "curved": [[(0.25, 0.0), *arc(0.4, 0.35, 0.32, 0.2, 180, 270), (0.8, 0.5)], [(0.82, 0.0), (0.75, 1.0)]],
    },
    5: {
        "two strokes": [
            [(0.2, 0.0), (0.15, 0.42), *arc(0.42, 0.68, 0.44, 0.32, 125, -140)],
            [(0.2, 0.0), (0.9, 0.0)],
        ],
        "one stroke": [[(0.88, 0.0), (0.22, 0.0), (0.18, 0.42), *arc(0.43, 0.69, 0.42, 0.31, 120, -145)]],
        "angular": [[(0.85, 0.02), (0.25, 0.02), (0.2, 0.45), (0.6, 0.42), (0.85, 0.65), (0.6, 0.97), (0.1, 0.95)]],
        "leaning": [[(0.95, 0.03), (0.4, 0.0), (0.25, 0.4), *arc(0.42, 0.7, 0.36, 0.3, 110, -150)]],
    },
    6: {
        "curved": [[(0.72, 0.0), (0.4, 0.2), (0.18, 0.5), *arc(0.48, 0.72, 0.36, 0.28, 175, 540)]],
        "straight": [[(0.6, 0.0), (0.14, 0.66), *arc(0.46, 0.72, 0.34, 0.28, 180, 530)]],
        "round": [[*arc(0.62, 0.5, 0.5, 0.5, 80, 180), *arc(0.48, 0.7, 0.36, 0.3, 180, 520)]],
        "small bowl": [[(0.5, 0.0), (0.25, 0.4), (0.15, 0.75), *arc(0.42, 0.8, 0.28, 0.2, 180, 510)]],
    },
    7: {
        "plain": [[(0.08, 0.0), (0.9, 0.0), (0.38, 1.0)]],
        "with a bar": [[(0.08, 0.02), (0.9, 0.02), (0.4, 1.0)], [(0.25, 0.5), (0.85, 0.48)]],
        "with a serif": [[(0.1, 0.18), (0.1, 0.0), (0.9, 0.0), (0.4, 1.0)]],
        "curved": [[(0.1, 0.05), (0.88, 0.0), (0.6, 0.4), (0.48, 0.7), (0.45, 1.0)]],
    },
    8: {
        "one stroke": [
            [
                *arc(0.5, 0.25, 0.33, 0.25, 30, 200),
                *arc(0.5, 0.74, 0.4, 0.26, 50, -230),
                *arc(0.5, 0.25, 0.33, 0.25, -40, 40),
            ]
        ],
        "two circles": [[*arc(0.5, 0.24, 0.32, 0.24, 90, 450)], [*arc(0.5, 0.74, 0.4, 0.26, 90, 450)]],
        "cross": [[(0.85, 0.1), (0.5, 0.0), (0.15, 0.2), (0.82, 0.72), (0.5, 1.0), (0.15, 0.75), (0.85, 0.12)]],
        "slim": [[*arc(0.5, 0.23, 0.24, 0.23, 60, 250), *arc(0.5, 0.74, 0.3, 0.26, 70, -250), (0.62, 0.08)]],
    },
    9: {
        "curved": [[*arc(0.45, 0.28, 0.36, 0.28, 20, 380), (0.78, 0.6), (0.6, 1.0)]],
        "straight": [[*arc(0.44, 0.27, 0.34, 0.27, 0, 360), (0.78, 0.0), (0.76, 1.0)]],
        "hooked": [[*arc(0.46, 0.27, 0.38, 0.27, 10, 370), (0.84, 0.6), *arc(0.5, 0.75, 0.33, 0.25, 10, -140)]],
        "open": [[*arc(0.46, 0.26, 0.34, 0.26, 30, 330), (0.82, 0.1), (0.72, 1.0)]],
    },
}


class Hand(NamedTuple):
    """How a digit is drawn: its height and width, the pen's width and the middle as shares of the canvas; its slant."""

    height: float
    width: float
    pen: float
    x: float
    y: float
    slant: float  # to the right, as a share of the height


# Sizes, places, pen widths and slants.
HANDS = (
    Hand(0.7, 0.45, 0.08, 0.5, 0.5, 0.0),
    Hand(0.4, 0.28, 0.06, 0.3, 0.3, 0.15),
    Hand(0.55, 0.4, 0.12, 0.65, 0.6, -0.15),
    Hand(0.85, 0.6, 0.05, 0.5, 0.48, 0.25),
    Hand(0.3, 0.2, 0.05, 0.75, 0.25, 0.05),
    Hand(0.6, 0.6, 0.1, 0.4, 0.55, -0.05),
)


def drawn(shape, hand, canvas):
    """A shape's strokes on a square canvas of so many pixels, each (n, 2) as x and y."""
    placed = []
    for stroke in shape:
        x, y = np.array(stroke, float).T
        x = (x - 0.5) * hand.width - (y - 0.5) * hand.slant * hand.height
        placed.append(np.stack([hand.x + x, hand.y + (y - 0.5) * hand.height], axis=1) * canvas)
    return placed


def painted(strokes, pen, canvas):
    """The picture (canvas, canvas) that a round pen leaves, from 0 to 255, smooth at its edges."""
    away = np.full((canvas, canvas), np.inf)  # from the middle of the nearest line
    for stroke in strokes:
        for start, end in pairwise(stroke):
            low = np.clip(np.minimum(start, end) - pen / 2 - 1, 0, canvas).astype(int)
            high = np.clip(np.maximum(start, end) + pen / 2 + 2, 0, canvas).astype(int)
            near = slice(low[1], high[1]), slice(low[0], high[0])
            rows, columns = np.mgrid[near] + 0.5
            (dx, dy), (x0, y0) = end - start, start
            along = np.clip(((columns - x0) * dx + (rows - y0) * dy) / max(dx * dx + dy * dy, 1e-9), 0.0, 1.0)
            away[near] = np.minimum(away[near], np.hypot(columns - x0 - along * dx, rows - y0 - along * dy))
    return np.round(255 * np.clip(pen / 2 + 0.5 - away, 0.0, 1.0)).astype(np.uint8)


def sixty():
    """(digit, shape, hand) of ten digits in six hands each; of the shapes each is drawn once or twice."""
    for digit, shapes in SHAPES.items():
        ways = list(shapes.values())
        for i, hand in enumerate(HANDS):
            yield digit, ways[i % len(ways)], hand


def many(n, seed=0):
    """The same for ``n`` digits drawn at random: shapes, sizes, places, widths and slants, turned by up to 20 degrees,
    by a hand that shakes; some would make a person hesitate."""
    rng = np.random.default_rng(seed)
    for i in range(n):
        digit = i % 10
        ways = list(SHAPES[digit].values())
        shape = ways[rng.integers(len(ways))]
        angle = np.radians(rng.uniform(-20.0, 20.0))
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        shaken = [np.array(stroke) + rng.normal(0.0, 0.03, (len(stroke), 2)) for stroke in shape]
        height = rng.uniform(0.3, 0.7)
        hand = Hand(
            height=height,
            width=height * rng.uniform(0.4, 1.0),
            pen=min(rng.uniform(0.036, 0.16), height / 4.5),
            x=rng.uniform(0.4, 0.6),
            y=rng.uniform(0.45, 0.55),
            slant=rng.uniform(-0.3, 0.4),
        )
        yield digit, [(stroke - 0.5) @ turn + 0.5 for stroke in shaken], hand

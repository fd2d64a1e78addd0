"""The layer that moves images at random: where each pixel comes from, and what it is made of."""

import math

import numpy as np

from portnn.show.explain.arithmetic import N, as_expression, call, cell, equation, products
from portnn.show.explain.cells import cells
from portnn.show.explain.page import Section
from portnn.show.explain.trace import Pass

HALF = 2**31  # of the number of 32-bit words
B = "b(d) = max(0, 1 - |d|)"


def affine_forward(at: Pass, section: Section) -> None:
    section.formula(
        f"Y[i, j, c] = sum over the pixels (p, q) of b(u - p) b(v - q) X[p, q, c],  {B}",
        "u = M1 + cosine (i - M1 - s) + sine (j - M2 - t),  v = M2 - sine (i - M1 - s) + cosine (j - M2 - t)",
        "cosine = cos(angle) / f,  sine = sin(angle) / f,  (M1, M2) is the centre of the image",
    )
    section.note(
        "The image is moved by s rows and t columns, rotated by the angle, and scaled by f. Each is its largest amount "
        f"times a share from -1 to 1, which a random word of 32 bits gives: seed {at.layer.seed}, step {at.layer.step}."
    )
    s, t, angle, f = _amounts(at, section)
    height, width = at.X.shape[:2]
    m1, m2 = (height - 1) / 2, (width - 1) / 2
    a, b = math.cos(angle) / f, math.sin(angle) / f
    section.equation(equation("cosine", call("cos", N(angle)) / N(f), a))
    section.equation(equation("sine", call("sin", N(angle)) / N(f), b))
    for place in cells(at.Y):
        i, j, c = place
        down, across = N(i) - N(m1) - N(s), N(j) - N(m2) - N(t)
        u, v = (float(row @ (i, j, 1.0)) for row in at.maps)
        section.equation(equation(f"u{cell(place[:2])}", N(m1) + N(a) * down + N(b) * across, u))
        section.equation(equation(f"v{cell(place[:2])}", N(m2) - N(b) * down + N(a) * across, v))
        weights, values = [], []
        for p in (math.floor(u), math.floor(u) + 1):
            for q in (math.floor(v), math.floor(v) + 1):
                weight = _near(u - p) * _near(v - q)
                if weight > 0.0 and 0 <= p < height and 0 <= q < width:
                    put_in = (1 - call("abs", N(u) - p)) * (1 - call("abs", N(v) - q))
                    section.equation(equation(f"b[{p}, {q}]", put_in, weight))
                    weights.append(weight)
                    values.append(at.X[p, q, c])
        if weights:
            section.equation(equation(f"Y{cell(place)}", products(weights, values), at.Y[place]))
        else:
            section.note(f"Y{cell(place)} is 0: it comes from outside the image.")


def _amounts(at: Pass, section: Section) -> tuple[float, float, float, float]:
    """s, t, the angle in radians, and f, with the words that they come from."""
    layer = at.layer
    found = []
    for k, (name, most) in enumerate(
        [("s", layer.shift), ("t", layer.shift), ("angle", math.radians(layer.rotate)), ("f", layer.scale)]
    ):
        word = int(at.words[k])
        share = word / HALF - 1.0
        section.equation(equation(f"share[{k}]", as_expression(word) / HALF - 1, share))
        put_in, amount = N(most) * N(share), most * share
        if name == "f":
            put_in, amount = 1 + put_in, 1.0 + amount
        section.equation(equation(name, put_in, amount))
        found.append(amount)
    return found[0], found[1], found[2], found[3]


def _near(distance: float) -> float:
    return max(0.0, 1.0 - abs(distance))


def affine_backward(at: Pass, section: Section) -> None:
    section.formula(
        f"dE/dX[p, q, c] = sum over the pixels (i, j) of b(u - p) b(v - q) dE/dY[i, j, c],  {B}",
        "u and v of the pixel (i, j) as on the way forward; only pixels that (p, q) went into count",
    )
    i, j = np.indices(at.X.shape[:2])
    u, v = (row[0] * i + row[1] * j + row[2] for row in at.maps)
    for place in cells(at.input_error):
        p, q, c = place
        weights = np.maximum(0.0, 1.0 - np.abs(u - p)) * np.maximum(0.0, 1.0 - np.abs(v - q))
        counts = weights > 0.0
        if counts.any():
            put_in = products(weights[counts], at.D[..., c][counts])
            section.equation(equation(f"dE/dX{cell(place)}", put_in, at.input_error[place]))
        else:
            section.note(f"dE/dX{cell(place)} is 0: this pixel went into no pixel of Y.")

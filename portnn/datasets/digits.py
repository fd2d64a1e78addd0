"""Any picture of one digit, made into an image as MNIST's.

The page that ``network.export("page.html")`` writes does the same in JavaScript (``prepareDigit`` in
``portnn/exchange/page/``), and gives the same bytes. That is why everything below is either one operation on each
pixel or a sum of whole numbers, which is exact in any order.
"""

from typing import Any, NamedTuple

import numpy as np

from portnn.transfer import host_array, is_foreign

SIDE = 28  # of the image
BOX = 20  # of the digit in it: MNIST's longer side
MIDDLE = 14  # MNIST's digits have their centre of mass in this row and column, counted from 0
LIGHT = (299, 587, 114)  # thousandths of red, green and blue in the luminance (ITU-R BT.601)
PAPER = 1 / 16  # ink fainter than this share of the darkest is paper
FAINT = 1 / 32  # a picture whose contrast is below this share of the whole range is blank
ROUNDING = 1e-6  # how far above white and below black, in shares of the range, arithmetic may have left a number

# Pillow's modes: those of more than 8 bits, which its own conversions cut off at 255, and all whose arrays need none.
DEEP = ("I", "I;16", "I;16B", "I;16L", "I;16N", "F")
PLAIN = ("1", "L", "LA", "RGB", "RGBA", *DEEP)


class Prepared(NamedTuple):
    """What ``prepared`` returns: the image, and what it took for ink."""

    image: np.ndarray  # uint8 (28, 28), ink light on dark
    ink: str  # "dark on light", "light on dark", or "none" if the picture is blank
    box: tuple[int, int, int, int]  # where the ink is in the picture: first row and column, last row and column + 1


def prepare_digit(image: Any) -> np.ndarray:
    """Returns a picture of one digit as an image like MNIST's: uint8 (28, 28), light ink on black.

    ``image`` is a picture of any size, (H, W), (H, W, 1), or with colours (H, W, 3), with transparency (H, W, 2) or
    (H, W, 4): an array, nested lists, or a Pillow image. Its numbers are from 0, black, to white: to 1 or 255, or, if
    they are whole, 511, 1023 and so on to 65535, whichever is the first that no number exceeds. So booleans, floats in
    0..1 or 0..255, bytes, and pictures of 10, 12 or 16 bits all do. Colours become luminance.

    The ink may be dark on light or light on dark: the median along the picture's edge is the paper. Transparent pixels
    are paper; where the whole edge is transparent, it is white below dark ink and black below light ink. Then, as MNIST
    was made: the ink is cut out, scaled by averaging over areas so that its longer side is 20 pixels, stretched so that
    the strongest is 255, and placed with its centre of mass in the middle of 28 x 28 pixels. Ink fainter than a
    sixteenth of the strongest, or than four times the paper's own variation, counts as paper. A blank picture, whose
    contrast is less than 1/32 of the range, gives zeros.

    ``portnn.datasets.digits.prepared(image)`` also says which was taken for ink.

    Raises ValueError for other shapes, for NaN, infinity and numbers out of range; TypeError for what is no array of
    numbers, and for arrays of libraries other than NumPy.

    Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits", 1998.

    >>> picture = np.full((200, 120), 255, np.uint8)  # white paper
    >>> picture[30:170, 50:70] = 40  # a dark stroke: a one
    >>> digit = prepare_digit(picture)
    >>> digit.shape, digit.dtype, int(digit.max())
    ((28, 28), dtype('uint8'), 255)
    >>> [int(n) for n in np.flatnonzero(digit.any(axis=1))[[0, -1]]]  # 20 rows
    [4, 23]
    """
    return prepared(image).image


def prepared(image: Any) -> Prepared:
    """The same with what was taken for ink, and where it is: see ``prepare_digit``."""
    gray, top = _gray(image)
    edge = np.concatenate([gray[0], gray[-1], gray[1:-1, 0], gray[1:-1, -1]])
    paper, least, most = _median(edge), gray.min(), gray.max()
    dark = paper > (least + most) / 2
    contrast = paper - least if dark else most - paper
    if contrast < top * FAINT:
        return Prepared(np.zeros((SIDE, SIDE), np.uint8), "none", (0, 0, 0, 0))
    ink = np.floor((paper - gray if dark else gray - paper) * 255 / contrast + 0.5)
    noise = _median(np.abs(edge - paper)) / contrast
    ink[ink < 255 * min(max(PAPER, 4 * noise), 0.5)] = 0
    rows, columns = (np.flatnonzero(ink.any(axis=axis)) for axis in (1, 0))
    box = int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1
    small = _scaled(ink[box[0] : box[2], box[1] : box[3]])
    return Prepared(_centred(small), "dark on light" if dark else "light on dark", box)


def _scaled(ink: np.ndarray) -> np.ndarray:
    """The ink (h, w) as whole numbers from 0 to 255, with a longer side of 20 pixels.

    Each new pixel is the mean of the area that it covers, which is separable. All sums are of whole numbers below
    2**53, and so exact; what they are to be divided by is the same for all pixels, and falls out when the largest
    becomes 255.
    """
    longer = max(ink.shape)
    height, width = (max(1, (2 * BOX * n + longer) // (2 * longer)) for n in ink.shape)  # rounded
    sums = _overlaps(ink.shape[0], height) @ ink @ _overlaps(ink.shape[1], width).T
    largest = sums.max()
    return np.floor((510 * sums + largest) / (2 * largest))  # 255 sums / largest, rounded


def _overlaps(n: int, m: int) -> np.ndarray:
    """(m, n): how much of each of n pixels each of m equal parts covers, in units of which a pixel has m."""
    part, pixel = np.arange(m)[:, None], np.arange(n)
    return np.maximum(np.minimum((part + 1) * n, (pixel + 1) * m) - np.maximum(part * n, pixel * m), 0).astype(float)


def _centred(small: np.ndarray) -> np.ndarray:
    """The scaled ink in 28 x 28 pixels, its centre of mass as near to the middle as whole pixels and the edge allow."""
    mass = int(small.sum())
    corner = []
    for axis in (0, 1):
        moment = int((small.sum(axis=1 - axis) * np.arange(small.shape[axis])).sum())
        place = -((2 * moment - (2 * MIDDLE - 1) * mass) // (2 * mass))  # MIDDLE - moment / mass, a half rounded down
        corner.append(min(max(place, 0), SIDE - small.shape[axis]))
    image = np.zeros((SIDE, SIDE), np.uint8)
    image[corner[0] : corner[0] + small.shape[0], corner[1] : corner[1] + small.shape[1]] = small
    return image


def _median(values: np.ndarray) -> float:
    ordered, n = np.sort(values), len(values)
    return float((ordered[(n - 1) // 2] + ordered[n // 2]) / 2)


# -- pictures of any kind ----------------------------------------------------------------------------------------------


def _gray(image: Any) -> tuple[np.ndarray, int]:
    """The luminance (H, W) as float64, without transparency, and the number that stands for white."""
    if is_foreign(image):
        raise TypeError(
            f"prepare_digit takes NumPy arrays and lists, got {type(image).__module__}.{type(image).__name__}: "
            "call prepare_digit(portnn.to_numpy(image))"
        )
    if hasattr(image, "convert") and getattr(image, "mode", "L") not in PLAIN:  # the array of a palette has no colours
        image = image.convert("RGBA")
    pixels = host_array(image, "image")
    channels = _channels(pixels)
    top = white(pixels)
    if pixels.dtype.kind == "f":
        pixels = np.clip(pixels, 0, top)
    layers = [pixels[..., c].astype(float) for c in range(channels)] if pixels.ndim == 3 else [pixels.astype(float)]
    gray = layers[0]
    if channels > 2:
        red, green, blue = (share * layer for share, layer in zip(LIGHT, layers, strict=False))
        gray = (red + green + blue) / 1000
    return (_on_paper(gray, layers[-1] / top, top) if channels in (2, 4) else gray), top


def _channels(pixels: np.ndarray) -> int:
    shape = pixels.shape
    wanted = "expected one picture: (H, W), or (H, W, C) with 1 to 4 channels"
    if pixels.ndim == 2:
        channels = 1
    elif pixels.ndim == 3 and 1 <= shape[2] <= 4:
        channels = shape[2]
    elif pixels.ndim == 3 and shape[0] <= 4:
        raise ValueError(f"image has shape {shape}, {wanted}: put the channels last, np.moveaxis(image, 0, -1)")
    elif pixels.ndim in (3, 4):
        raise ValueError(f"image has shape {shape}, {wanted}: give several one by one, [prepare_digit(i) for i in x]")
    else:
        raise ValueError(f"image has shape {shape}, {wanted}")
    if pixels.size == 0:
        raise ValueError(f"image has shape {shape}, which holds no pixel")
    return channels


def white(pixels: np.ndarray) -> int:
    """The number that stands for white; ValueError for numbers that no picture has."""
    whole = pixels.dtype.kind in "bui"
    known = "0 to 1, to 255 or to 65535" if whole else "0 to 1 or 0 to 255"
    if not whole and not np.isfinite(pixels).all():
        place = tuple(int(i) for i in np.argwhere(~np.isfinite(pixels))[0])
        raise ValueError(f"image[{', '.join(map(str, place))}] is {pixels[place]}, expected numbers from {known}")
    least, most = pixels.min(), pixels.max()
    slack = 0.0 if whole else ROUNDING
    if least < -slack * (1 if most <= 1 + slack else 255) or most > (65535 if whole else 255 * (1 + slack)):
        advice = "; scale it, (image - image.min()) / (image.max() - image.min())"
        raise ValueError(f"image holds numbers from {least:g} to {most:g}, expected {known}{advice}")
    return next((top for top in (1, 255) if most <= top * (1 + slack)), (1 << int(most).bit_length()) - 1)


def _on_paper(gray: np.ndarray, alpha: np.ndarray, top: int) -> np.ndarray:
    """The picture on paper: of the colour of its edge, or where the edge is transparent, white below dark ink."""
    edges = [(a[0], a[-1], a[1:-1, 0], a[1:-1, -1]) for a in (gray, alpha)]
    around, opacity = (np.concatenate(parts) for parts in edges)
    opaque = opacity >= 0.5
    if 2 * opaque.sum() > len(opaque):
        paper = _median(around[opaque])
    else:
        paper = float(top) if 2 * (gray * alpha).sum() <= top * alpha.sum() else 0.0
    return alpha * gray + (1 - alpha) * paper

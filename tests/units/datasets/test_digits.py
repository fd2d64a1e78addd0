"""prepare_digit: any picture of one digit, made into an image as MNIST's."""

from inspect import signature
from pathlib import Path

import array_api_strict
import numpy as np
import pytest

from portnn import load_mnist
from portnn.datasets import prepare_digit
from portnn.datasets.digits import PAPER, Prepared, prepared


def picture(height=120, width=90, ink=255, paper=0):
    """A seven with a slanted stem: every row and column of it differs."""
    page = np.full((height, width), paper, np.uint8)
    thick = max(1, height // 12)
    page[height // 6 : height // 6 + thick, width // 5 : 4 * width // 5] = ink
    for row in range(height // 6, 5 * height // 6):
        left = int(4 * width / 5 - (row - height / 6) * 0.4 * width / height) - thick
        page[row, left : left + thick] = ink
    return page


SEVEN = prepare_digit(picture())


def test_it_is_an_image_as_mnists():
    assert SEVEN.dtype == np.uint8
    assert SEVEN.shape == (28, 28)
    assert SEVEN.max() == 255
    rows, columns = (np.flatnonzero(SEVEN.any(axis=axis)) for axis in (1, 0))
    assert rows[-1] - rows[0] + 1 == 20
    assert columns[-1] - columns[0] + 1 < 20
    for axis in (0, 1):
        centre = (SEVEN.sum(axis=1 - axis) * np.arange(28)).sum() / SEVEN.sum()
        assert 13.5 <= centre <= 14.5


def test_mnists_own_images_stay_as_they_are():
    """But for the faintest ink, which counts as paper: so the box, the scale and the centre are MNIST's."""
    (_, _), (digits, _) = load_mnist()
    kept = np.where(digits < np.ceil(255 * PAPER), 0, digits).astype(int)
    made = np.stack([prepare_digit(digit) for digit in digits]).astype(int)
    same = (np.abs(made - kept) <= 1).all(axis=(1, 2))  # some have 254 as the largest number
    assert same.mean() > 0.98


@pytest.mark.parametrize(
    "other",
    [
        picture(ink=0, paper=255),
        picture(ink=90, paper=230),
        picture(ink=130, paper=100),
        picture() > 0,
        (picture() > 0).astype(np.int64),
        picture() / 255,
        picture().astype(np.float32),
        (picture() / 255).astype(np.float16),
        picture().astype(np.uint16) * 257,
        picture().astype(np.int32) * 257,
        (picture() > 0).astype(np.uint16) * 1000,  # ten bits
        (picture() > 0).astype(np.uint16) * 4095,
        picture().tolist(),
        picture()[..., None],
        np.stack([picture()] * 3, axis=-1),
        np.stack([picture(ink=200, paper=0), picture(ink=30, paper=0), picture(ink=0, paper=0)], axis=-1),
        np.asfortranarray(picture()),
        np.pad(picture(), ((40, 10), (0, 77))),
    ],
    ids=lambda x: f"{getattr(x, 'dtype', 'list')}{np.shape(x)}",
)
def test_kinds_of_pictures(other):
    assert np.array_equal(prepare_digit(other), SEVEN)


@pytest.mark.parametrize(("ink", "paper", "words"), [(0, 255, "dark on light"), (255, 0, "light on dark")])
def test_it_says_which_it_took(ink, paper, words):
    found = prepared(picture(ink=ink, paper=paper))
    assert found.ink == words
    top, left, bottom, right = found.box
    assert (top, bottom) == (20, 100)
    cut = picture(ink=ink, paper=paper)
    cut[top:bottom, left:right] = paper
    assert (cut == paper).all()


@pytest.mark.parametrize("scale", [1, 255, 65535])
@pytest.mark.parametrize("ink", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("gray", [False, True])
def test_transparent_paper(scale, ink, gray):
    alpha = picture() / 255
    colour = np.full((*alpha.shape, 1 if gray else 3), ink)
    colour[alpha == 0] = 0.7  # what colour a transparent pixel has does not matter
    image = np.concatenate([colour, alpha[..., None]], axis=-1) * scale
    image = image if scale == 1 else image.astype(np.uint16 if scale > 255 else np.uint8)
    found = prepared(image)
    assert np.array_equal(found.image, SEVEN)
    assert found.ink == ("light on dark" if ink == 1.0 else "dark on light")


def test_a_card_with_transparent_corners():
    image = np.full((120, 90, 4), 255, np.uint8)
    image[..., :3] = picture(ink=0, paper=255)[..., None]
    for rows in (slice(0, 9), slice(-9, None)):
        for columns in (slice(0, 9), slice(-9, None)):
            image[rows, columns] = 0
    assert np.array_equal(prepare_digit(image), SEVEN)


BLANK = [
    np.zeros((1, 1)),
    np.ones((1, 1), np.uint8) * 255,
    [[7]],
    np.full((50, 30), 128, np.uint8),
    np.full((5, 5), True),
    np.zeros((9, 9, 4), np.uint8),
    np.full((9, 9, 4), [255, 0, 0, 0], np.uint8),
    np.random.default_rng(0).integers(248, 255, (60, 60)).astype(np.uint8),
]


@pytest.mark.parametrize("image", BLANK, ids=lambda x: str(np.shape(x)))
def test_no_ink(image):
    assert prepared(image)[1:] == ("none", (0, 0, 0, 0))
    assert np.array_equal(prepare_digit(image), np.zeros((28, 28), np.uint8))


@pytest.mark.parametrize("shape", [(3, 3), (5, 5), (3, 100), (100, 3), (1, 3), (2, 2), (1001, 707)])
def test_any_size(shape):
    image = np.zeros(shape, np.uint8)
    image[shape[0] // 2, shape[1] // 2] = 255
    found = prepared(image)
    assert found.ink == "light on dark"
    assert found.image.max() == 255
    assert (found.image > 0).sum() == 400  # the one pixel becomes the whole box
    assert found.image[4:24, 4:24].all()


@pytest.mark.parametrize("upright", [True, False])
def test_a_thin_line(upright):
    image = np.zeros((200, 200), np.uint8)
    image[20:180, 90] = 255
    digit = prepare_digit(image if upright else image.T)
    digit = digit if upright else digit.T
    assert np.array_equal(np.argwhere(digit)[:, 0], np.arange(4, 24))
    assert np.unique(np.argwhere(digit)[:, 1]).size == 1
    assert (digit[digit > 0] == 255).all()


def test_areas_are_averaged():
    """A chessboard of single pixels is gray when scaled down, where picking pixels would give patterns."""
    board = np.zeros((404, 404), np.uint8)
    board[2:402, 2:402] = np.indices((400, 400)).sum(axis=0) % 2 * 255
    board[2:402, 2:22] = 255  # full ink, so that gray is not stretched
    digit = prepare_digit(board)
    assert set(np.unique(digit)) == {0, 128, 255}
    assert (digit == 128).sum() == 20 * 19


def test_uneven_paper_is_paper():
    """A photograph: light from one side, noise, and a pencil's gray."""
    rng = np.random.default_rng(3)
    page = np.linspace(170, 200, 90)[None, :] + rng.normal(0, 3, (120, 90))
    page = np.where(picture() > 0, 60, page).astype(np.uint8)
    digit = prepare_digit(page)
    assert ((digit > 40) == (SEVEN > 40)).mean() > 0.97


def test_the_picture_is_not_written_to():
    image = picture()
    image.flags.writeable = False
    before = image.copy()
    prepare_digit(image)
    assert np.array_equal(image, before)


def test_the_mass_cannot_leave_the_image():
    image = np.zeros((100, 100), np.uint8)
    image[0:100, 10:12] = 20
    image[99, 10:90] = 255
    image[98:100, 88:90] = 255
    digit = prepare_digit(np.pad(image, 30))
    assert (digit > 0).any(axis=1).sum() == 20


@pytest.mark.parametrize(
    ("image", "kind", "words"),
    [
        (np.full((9, 9), np.nan), ValueError, r"image\[0, 0\] is nan, expected numbers from 0 to 1 or 0 to 255"),
        ([[0.0, 1.0], [float("inf"), 0.0]], ValueError, r"image\[1, 0\] is inf"),
        (np.full((3, 3), -0.5), ValueError, r"from -0\.5 to -0\.5, expected 0 to 1 or 0 to 255; scale it"),
        (np.full((3, 3), 256.5), ValueError, "expected 0 to 1 or 0 to 255; scale it"),
        (np.full((3, 3), 65536), ValueError, "to 65535"),
        (np.zeros((3, 9, 9)), ValueError, r"channels last, np\.moveaxis\(image, 0, -1\)"),
        (np.zeros((10, 28, 28)), ValueError, r"one by one, \[prepare_digit\(i\) for i in x\]"),
        (np.zeros((10, 28, 28, 1)), ValueError, "one by one"),
        (np.zeros(784), ValueError, r"shape \(784,\), expected one picture: \(H, W\)"),
        (3, ValueError, r"shape \(\), expected one picture"),
        (np.zeros((0, 5)), ValueError, r"shape \(0, 5\), which holds no pixel"),
        ([[0, 1], [2]], ValueError, "cannot be made an array"),
        ("seven.png", TypeError, "must be real numbers"),
        (None, TypeError, "must be"),
        (np.full((3, 3), 1j), TypeError, "must be real numbers"),
        (array_api_strict.zeros((5, 5)), TypeError, r"prepare_digit\(portnn\.to_numpy\(image\)\)"),
    ],
    ids=str,
)
def test_what_is_no_picture(image, kind, words):
    with pytest.raises(kind, match=words):
        prepare_digit(image)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA", "P", "PA", "CMYK", "YCbCr", "I", "F"])
def test_pictures_of_pillow(mode):
    pillow = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    image = pillow.fromarray(picture(ink=0, paper=255))
    image = image.convert("L").convert("P") if mode == "PA" else image
    found = prepared(image.convert("RGB").convert(mode) if mode in ("CMYK", "YCbCr") else image.convert(mode))
    assert isinstance(found, Prepared)
    assert found.ink == "dark on light"
    assert np.abs(found.image.astype(int) - SEVEN).max() <= 3


def test_a_palette_has_colours_of_its_own():
    pillow = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    image = pillow.fromarray((picture() > 0).astype(np.uint8)).convert("P")
    image.putpalette([255, 255, 255, 10, 10, 60])  # number 0 is white, 1 a dark blue
    found = prepared(image)
    assert found.ink == "dark on light"
    assert np.array_equal(found.image, SEVEN)


def test_its_call_is_documented():
    page = (Path(__file__).parents[3] / "docs" / "api.md").read_text()
    assert f"| `datasets.prepare_digit` | `({', '.join(signature(prepare_digit).parameters)})` |" in page

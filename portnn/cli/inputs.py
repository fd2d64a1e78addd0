"""What a saved network takes, and how a picture or an array from a file becomes that."""

import warnings
import zipfile
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from portnn import Network, ReshapeLayer
from portnn.cli.arguments import check_ordinary
from portnn.datasets.digits import DEEP, PLAIN, SIDE, prepared, white
from portnn.exchange.samples import IMAGES, PIXELS, most, sample_shape

Shape = tuple[int, ...]


def input_shape(net: Network) -> Shape | None:
    """The shape of one sample, as the layers say; None where they do not."""
    if net.layers and isinstance(net.layers[0], ReshapeLayer):
        return tuple(net.layers[0].shape)  # any shape with as many values would do: this one tells images from rows
    try:
        return sample_shape(net)
    except ValueError:
        return None


def takes_digits(shape: Shape | None) -> bool:
    """Whether samples of this shape are images as MNIST's, of one channel or in a row."""
    return shape in IMAGES


@dataclass
class Sample:
    """A sample as the network takes it, and what was done to get it, in words."""

    x: np.ndarray
    how: str = ""
    place: str = ""  # of several in one file: "[3]"


def samples(net: Network, path: str, as_is: bool = False) -> list[Sample]:
    """The samples in a file: one, or all of an .npy file with a batch of them.

    A picture for a network of 28 x 28 pixels becomes an image as MNIST's, whatever its size and colours, unless it is
    to be taken ``as_is``. Any other has to have the network's input shape. ValueError or OSError for what is neither.
    """
    check_ordinary(path)
    shape = input_shape(net)
    prepares = takes_digits(shape) and not as_is
    if path.lower().endswith(".npy"):
        array = _array(path)
    else:
        array = _picture(path, shape, prepares)
        if not prepares:
            array = array * np.float32(most(net.layers) / 255)
    if shape is None:
        return [Sample(array)]
    if prepares:
        array = _as_images(array)
        batch = array.ndim > 2 and array.shape[1:3] == (SIDE, SIDE) and array.shape[3:] in ((), (1,))
        pictures = list(array) if batch else [array]
        return [_digit(net, shape, one, f"[{i}]" if batch else "") for i, one in enumerate(pictures)]
    if prod(array.shape) == prod(shape) and _alike(array.shape, shape):
        return [Sample(array.reshape(shape))]
    if array.ndim > 1 and prod(array.shape[1:]) == prod(shape) and _alike(array.shape[1:], shape):
        return [Sample(one.reshape(shape), place=f"[{i}]") for i, one in enumerate(array)]
    raise ValueError(f"its shape is {array.shape}, but the network takes samples of shape {shape}")


def _as_images(array: np.ndarray) -> np.ndarray:
    """Rows of 784 values, (784,), (N, 784) or (N, 1, 784), as images; anything else as it is."""
    if array.shape[-1:] != (PIXELS,) or prod(array.shape[1:-1]) != 1:
        return array
    return array.reshape(*array.shape[:-1][:1], SIDE, SIDE)


def _alike(shape: Shape, wanted: Shape) -> bool:
    """Whether two shapes differ by axes of length 1 only, or one of them is flat."""
    flat = [tuple(n for n in each if n > 1) for each in (shape, wanted)]
    return flat[0] == flat[1] or min(map(len, flat)) <= 1


def _digit(net: Network, shape: Shape, picture: Any, place: str) -> Sample:
    digit = prepared(picture)
    if digit.ink == "none":
        raise ValueError(f"{place + ': ' if place else ''}it is blank: no ink was found")
    pixels = digit.image.reshape(shape)
    return Sample(pixels * np.float32(most(net.layers) / 255), digit.ink, place)


def _array(path: str) -> np.ndarray:
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, SyntaxError, zipfile.BadZipFile) as error:
        raise ValueError(f"it is no .npy file of numbers: {error}") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "buif":
        raise ValueError(f"it holds {getattr(array, 'dtype', 'several arrays')}, expected an array of numbers")
    if array.size == 0:
        raise ValueError(f"it holds no numbers, an array of shape {array.shape}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError("it holds NaN or infinity")
    return array


def _picture(path: str, shape: Shape | None, any_size: bool) -> np.ndarray:
    """The pixels of a picture, turned upright; of the network's colours and size where not any size will do."""
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ImportError:
        raise ImportError("pictures need Pillow: python -m pip install Pillow; .npy files do not") from None
    try:
        # Pillow warns of pictures that are large, but not too large.
        with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
            upright = ImageOps.exif_transpose(image)
            if any_size:
                return _pixels(upright)
            channels = shape[-1] if shape is not None and len(shape) == 3 else 1
            colours = {1: "L", 3: "RGB", 4: "RGBA"}.get(channels)
            if shape is not None and len(shape) == 1 and not takes_digits(shape):
                colours = None
            if colours is None:
                raise ValueError(f"the network takes samples of shape {shape}, which are no picture: give an .npy file")
            if upright.mode in DEEP:  # Pillow would cut its numbers off at 255
                deep = np.asarray(upright)
                upright = Image.fromarray(np.floor(deep * (255.0 / white(deep)) + 0.5).clip(0, 255).astype(np.uint8))
            pixels = np.asarray(upright.convert(colours))
    except UnidentifiedImageError:
        raise ValueError("it is no picture that Pillow can read") from None
    except (SyntaxError, EOFError, Image.DecompressionBombError) as error:  # what Pillow raises for damaged files
        raise ValueError(f"it cannot be read as a picture: {error}") from error
    size = (SIDE, SIDE) if takes_digits(shape) else pixels.shape[:2] if shape is None else shape[:2]
    if pixels.shape[:2] != size:
        height, width = pixels.shape[:2]
        raise ValueError(
            f"it has {height} x {width} pixels, but the network takes samples of shape {shape}: scale the picture to "
            "that size, or give an .npy file"
        )
    return pixels


def _pixels(image: Any) -> np.ndarray:
    """The pixels as ``prepared`` takes them: a palette or other colours as red, green, blue and transparency."""
    known = image.mode in DEEP or (image.mode in PLAIN and "transparency" not in image.info)
    return np.asarray(image if known else image.convert("RGBA"))

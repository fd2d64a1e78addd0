"""``portnn predict`` and ``portnn explain``: pictures and arrays of any kind."""

import re
import sys

import numpy as np
import pytest

import portnn as library
from portnn import ActivationLayer, ConvLayer, FCLayer, FlattenLayer, Network, ScaleLayer
from portnn.cli.explain import target
from portnn.cli.inputs import input_shape, samples

LINE = re.compile(r"(?P<name>[^:]*): (?P<number>\d+), probability (?P<share>[01]\.\d{4}) \((?P<ink>.*)\)")


@pytest.fixture
def save(tmp_path):
    """Writes an array or a picture to a file; returns its path."""

    def write(name, content):
        path = tmp_path / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif name.endswith(".npy"):
            np.save(path, content)
        else:
            image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
            (content if isinstance(content, image.Image) else image.fromarray(content)).save(path)
        return path

    return write


def enlarged(digit, factor=5, margin=(7, 30, 11, 3)):
    """A digit with larger pixels, and paper around it."""
    above, below, left, right = margin
    return np.pad(np.kron(digit, np.ones((factor, factor), np.uint8)), ((above, below), (left, right)))


def pictures(digit):
    """The same digit in several kinds of pictures: name -> (array, what is ink)."""
    light = enlarged(digit)
    alpha = np.zeros((*light.shape, 4), np.uint8)
    alpha[..., 3] = light
    colours = (np.array([250, 240, 200]) - light[..., None] / 255 * 190).astype(np.uint8)
    return {
        "light.npy": (light, "light on dark"),
        "dark.npy": (255 - light, "dark on light"),
        "same.npy": (digit, "light on dark"),
        "floats.npy": (digit / 255, "light on dark"),
        "light.png": (light, "light on dark"),
        "dark.png": (255 - light, "dark on light"),
        "alpha.png": (alpha, "dark on light"),
        "colours.png": (colours, "dark on light"),
        "dark.bmp": (255 - light, "dark on light"),
        "dark.jpg": (255 - light, "dark on light"),
    }


def test_any_picture_of_a_digit_is_read(portnn, trained, digits, save):
    x, _ = digits
    net = library.load(trained)
    for digit in x[:5]:
        expected = int(net.predict_classes(digit[None])[0])
        found = pictures(digit)
        paths = [save(name, array) for name, (array, _) in found.items()]
        status, out, err = portnn("predict", trained, *paths)
        assert (status, err) == (0, "")
        for line, path, (_, ink) in zip(out.splitlines(), paths, found.values(), strict=True):
            match = LINE.fullmatch(line)
            assert (match["name"], int(match["number"]), match["ink"]) == (str(path), expected, ink)


def test_the_probability_is_the_networks(portnn, trained, digits, save):
    digit = digits[0][0]
    _, out, _ = portnn("predict", trained, save("one.npy", digit))
    prepared = library.datasets.prepare_digit(digit)
    share = library.load(trained).predict_proba(prepared[None]).max()
    assert LINE.fullmatch(out.rstrip("\n"))["share"] == f"{share:.4f}"


def test_several_digits_in_one_file(portnn, trained, digits, save):
    status, out, _ = portnn("predict", trained, save("four.npy", digits[0][:4]))
    assert status == 0
    assert [line.partition(": ")[0][-3:] for line in out.splitlines()] == ["[0]", "[1]", "[2]", "[3]"]


def test_a_palette_and_the_orientation_of_a_photo(portnn, trained, digits, save):
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    upright = image.fromarray(255 - enlarged(digits[0][0]))
    turned = upright.transpose(image.Transpose.ROTATE_90)
    exif = image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    path = save("photo.jpg", b"")
    turned.save(path, exif=exif)
    clear = upright.convert("P")
    palette = save("palette.png", b"")
    clear.save(palette, transparency=255)
    status, out, _ = portnn("predict", trained, save("upright.png", upright), path, palette)
    assert status == 0
    assert len({line.split(": ")[1].split(",")[0] for line in out.splitlines()}) == 1


def test_a_network_of_fractions_gets_fractions(save, digits):
    net = Network([FCLayer(784, 10)], seed=1)
    (sample,) = samples(net, str(save("one.npy", digits[0][0])))
    assert (sample.x.shape, sample.x.max()) == ((784,), 1.0)
    bytes_net = Network([ScaleLayer(1 / 255), FCLayer(784, 10)], seed=1)
    (sample,) = samples(bytes_net, str(save("one.npy", digits[0][0])))
    assert sample.x.max() == 255


def test_as_is(save, digits, trained, portnn, fails):
    clothes = np.full((28, 28), 200, np.uint8)  # all ink: prepare_digit would find none
    net = library.load(trained)
    (sample,) = samples(net, str(save("shirt.npy", clothes)), as_is=True)
    assert np.array_equal(sample.x[..., 0], clothes)
    (sample,) = samples(Network([FCLayer(784, 10)]), str(save("shirt.png", clothes)), as_is=True)
    assert np.allclose(sample.x, 200 / 255)
    assert portnn("predict", trained, "--as-is", save("shirt.png", clothes))[0] == 0
    assert "it has 56 x 28 pixels" in fails(
        "predict", trained, "--as-is", save("two.png", np.vstack([clothes, clothes]))
    )


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("blank.npy", np.zeros((30, 30)), "it is blank: no ink was found"),
        ("nan.npy", np.full((28, 28), np.nan), "it holds NaN or infinity"),
        ("empty.npy", np.zeros((0, 28, 28)), "it holds no numbers"),
        ("cube.npy", np.zeros((9, 9, 9, 9)), "image has shape (9, 9, 9, 9)"),
        ("objects.npy", np.array([{}], dtype=object), "it is no .npy file of numbers: Object arrays cannot be loaded"),
        ("texts.npy", np.array(["a"]), "it holds <U1, expected an array of numbers"),
        ("text.npy", b"hello", "it is no .npy file of numbers"),
        ("nothing.npy", b"", "it is no .npy file of numbers"),
        (
            "huge.npy",
            b"\x93NUMPY\x01\x00v\x00"
            + b"{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000000000, 28), }".ljust(117)
            + b"\n",
            "",
        ),
        ("nothing.png", b"", "it is no picture that Pillow can read"),
        ("text.png", b"hello", "it is no picture that Pillow can read"),
        ("magic.png", b"\x89PNG\r\n\x1a\n" + b"\0" * 50, ""),
        ("zip.jpg", b"PK\x03\x04", "it is no picture that Pillow can read"),
    ],
    ids=lambda value: value if isinstance(value, str) and "." in value[-5:] else "",
)
def test_a_bad_image_is_one_line_and_the_others_are_read(portnn, trained, digits, save, name, content, told):
    if not name.endswith(".npy"):
        pytest.importorskip("PIL", reason="Pillow is not installed")
    good = save("good.npy", digits[0][0])
    bad = save(name, content)
    status, out, err = portnn("predict", trained, good, bad, good)
    assert status == 1
    assert out.count("\n") == 2
    assert err.count("\n") == 1
    assert err.startswith(f"portnn predict: error: {bad}: {told}")


def test_a_picture_that_was_cut_off(portnn, trained, digits, save):
    whole = save("whole.png", 255 - enlarged(digits[0][0]))
    cut = save("cut.png", whole.read_bytes()[:200])
    status, out, err = portnn("predict", trained, cut)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert f"{cut}: " in err


def test_missing_files_and_folders(fails, trained, tmp_path):
    assert fails("predict", trained, tmp_path / "none.png") == f"{tmp_path / 'none.png'}: No such file or directory"
    assert fails("predict", trained, tmp_path / "none.npy") == f"{tmp_path / 'none.npy'}: No such file or directory"
    assert fails("predict", trained, tmp_path) == f"{tmp_path}: Is a directory"


def test_without_pillow_the_error_says_what_to_install(fails, portnn, trained, digits, save, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    path = save("digit.png", b"any")
    assert fails("predict", trained, path).endswith(
        "pictures need Pillow: python -m pip install Pillow; .npy files do not"
    )
    assert portnn("predict", trained, save("digit.npy", digits[0][0]))[0] == 0


def test_debug_shows_where_an_image_fails(portnn, trained, tmp_path):
    status, _, err = portnn("predict", "--debug", trained, tmp_path / "none.npy")
    assert status == 1
    assert err.startswith("Traceback")


# -- other networks ----------------------------------------------------------------------------------------------------


def other(*layers, loss="softmax_cross_entropy"):
    net = Network(layers, seed=1)
    if loss:
        net.use(loss)
    return net


def test_a_network_of_other_samples_takes_its_shape_only(portnn, fails, tmp_path, save):
    model = tmp_path / "model"
    net = other(ConvLayer((5, 4, 3), (2, 2), 2), FlattenLayer(), FCLayer(24, 3))
    net.save(model)
    x = np.random.default_rng(0).random((2, 5, 4, 3))
    expected = [
        f"{n}, probability {p.max():.4f}" for n, p in zip(net.predict_classes(x), net.predict_proba(x), strict=True)
    ]
    paths = save("one.npy", x[0]), save("two.npy", x), save("flat.npy", x[1].ravel())
    status, out, _ = portnn("predict", model, *paths)
    assert status == 0
    assert [line.split(": ")[1] for line in out.splitlines()] == [expected[0], *expected, expected[1]]
    assert fails("predict", model, save("other.npy", x[0, :4])).endswith(
        "its shape is (4, 4, 3), but the network takes samples of shape (5, 4, 3)"
    )
    assert fails("predict", model, save("turned.npy", np.moveaxis(x[0], -1, 0))).endswith("shape (5, 4, 3)")


def test_pictures_of_the_networks_size_and_colours(portnn, fails, tmp_path, save):
    model = tmp_path / "model"
    other(ScaleLayer(1 / 255), ConvLayer((5, 4, 3), (2, 2), 2), FlattenLayer(), FCLayer(24, 3)).save(model)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    assert (
        portnn("predict", model, save("a.png", pixels))[1].split(": ")[1]
        == portnn("predict", model, save("a.npy", pixels))[1].split(": ")[1]
    )
    assert "it has 6 x 4 pixels" in fails("predict", model, save("b.png", np.zeros((6, 4), np.uint8)))
    other(ConvLayer((5, 4, 2), (2, 2), 2), FlattenLayer(), FCLayer(24, 3)).save(model)
    assert "which are no picture" in fails("predict", model, save("a.png", pixels))


def test_what_the_outputs_mean(portnn, tmp_path, save, fails):
    model, path = tmp_path / "model", save("x.npy", np.array([1.0, -2.0]))
    other(FCLayer(2, 1), loss="binary_cross_entropy").save(model)
    number, share = re.fullmatch(r".*: ([01]), probability (0\.\d{4})\n", portnn("predict", model, path)[1]).groups()
    assert float(share) > 0.5, number
    other(FCLayer(2, 4), ActivationLayer("tanh"), loss="mse").save(model)
    assert re.fullmatch(r".*: [0-3], output -?0\.\d{4}\n", portnn("predict", model, path)[1])
    other(FCLayer(2, 4), loss=None).save(model)
    assert ", output " in portnn("predict", model, path)[1]
    net = other(FCLayer(2, 4))
    net.layers[0].weights = np.full((2, 4), 3e38)
    net.save(model)
    assert "the network's output is" in fails("predict", model, save("big.npy", np.array([1e30, 1e30])))
    other(ConvLayer((5, 4, 1), (2, 2), 2)).save(model)
    assert "not with a value for each class" in fails("predict", model, save("y.npy", np.zeros((5, 4, 1))))


def test_a_network_of_the_articles_with_a_row_for_a_sample(portnn, digits, tmp_path, save):
    net = Network([FCLayer(784, 10), ActivationLayer("tanh")], seed=1)
    net.use("mse")
    x = digits[0][:5].reshape(-1, 1, 784) / 255
    net.fit(x, np.eye(10)[digits[1][:5]], epochs=30, learning_rate=0.1, verbose=0)
    net.save(tmp_path / "model")
    status, out, _ = portnn("predict", tmp_path / "model", save("all.npy", digits[0][:5]))
    assert status == 0
    assert [int(line.split(": ")[1][0]) for line in out.splitlines()] == digits[1][:5].tolist()


def test_the_input_shape():
    assert input_shape(Network([FCLayer(784, 10)])) == (784,)
    assert input_shape(Network([ScaleLayer(2.0), ConvLayer((5, 4, 3), (2, 2), 2)])) == (5, 4, 3)
    assert input_shape(Network([library.ReshapeLayer((3, 2)), FlattenLayer()])) == (3, 2)
    assert input_shape(Network([ActivationLayer("tanh")])) in (None, (28, 28, 1))


# -- explain -----------------------------------------------------------------------------------------------------------


def test_explain(portnn, fails, trained, digits, save, tmp_path):
    path = save("one.npy", digits[0][0])
    status, out, err = portnn("explain", trained, path, "--label", "3")
    assert (status, err) == (0, "")
    net = library.load(trained)
    (sample,) = samples(net, str(path))
    assert out.rstrip("\n") == net.explain(sample.x, 3).text.rstrip("\n")
    page = tmp_path / "page.html"
    assert portnn("explain", trained, path, "--output", page) == (0, f"written: {page}\n", "")
    assert page.read_text().lower().startswith("<!doctype html>")
    assert "classes 0 to 9" in fails("explain", trained, path, "--label", "10")
    assert "expected a file that ends in .html" in fails("explain", trained, path, "--output", "page.txt", status=2)
    assert "holds 2 samples" in fails("explain", trained, save("two.npy", digits[0][:2]))
    assert fails("explain", trained, tmp_path / "no.npy").startswith(str(tmp_path / "no.npy"))


def test_the_target_of_an_explanation():
    x = np.array([1.0, 2.0])
    assert target(other(FCLayer(2, 3)), x, 2) == 2
    assert target(other(FCLayer(2, 3), loss="mse"), x, 1).tolist() == [0.0, 1.0, 0.0]
    assert target(other(FCLayer(2, 1), loss="binary_cross_entropy"), x, 1).tolist() == [1.0]
    assert target(other(FCLayer(2, 1), loss="binary_cross_entropy"), x, 0).tolist() == [0.0]
    net = other(FCLayer(2, 3))
    assert target(net, x, None) == int(net.predict_classes(x[None])[0])
    with pytest.raises(ValueError, match="the classes 0 to 1"):
        target(other(FCLayer(2, 1), loss="binary_cross_entropy"), x, 2)

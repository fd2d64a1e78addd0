"""Many small models, exported by the installed PyTorch in several ways, and loaded: outputs, and ten steps of training.

Batch normalization is exported unfolded, so that it is there to be trained.
"""

import copy

import numpy as np
import pytest

import portnn

pytest.importorskip("onnx", minversion="1.17", reason="onnx is not installed")
torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pytest.importorskip("onnxscript", reason="onnxscript, which PyTorch's exporter needs, is not installed")
from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
EXPORTERS = {
    "traced": {"dynamo": False, "opset_version": 17, "do_constant_folding": False, "training": torch.onnx.TrainingMode.PRESERVE},
    "traced, folded": {"dynamo": False, "opset_version": 14},
    "traced, open batch": {"dynamo": False, "opset_version": 20, "input_names": ["x"], "dynamic_axes": {"x": {0: "n"}}},
    "captured": {"dynamo": True, "opset_version": 18},
    "captured, in pieces": {"dynamo": True, "opset_version": 18, "optimize": False},
}  # fmt: skip
ROW, IMAGE, SEQUENCE = (4,), (2, 7, 6), (3, 17)


class Written(nn.Module):
    """A module whose forward is a function of its parts and the input."""

    def __init__(self, function, *parts):
        super().__init__()
        self.function, self.parts = function, nn.ModuleList(parts)

    def forward(self, x):
        return self.function(self.parts, x)


def rows(between):
    return nn.Sequential(nn.Linear(4, 6), between, nn.Linear(6, 3))


def images(*between):
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), *between, nn.Flatten(), nn.LazyLinear(3))


def convolution(*args, **options):
    return nn.Sequential(nn.Conv2d(2, *args, **options), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3))


def flattened(function):
    return Written(function, nn.Conv2d(2, 4, 3), nn.Linear(80, 3))


MODELS = {
    "gelu": (lambda: rows(nn.GELU()), ROW),
    "gelu by tanh": (lambda: rows(nn.GELU("tanh")), ROW),
    "silu": (lambda: rows(nn.SiLU()), ROW),
    "hard swish": (lambda: rows(nn.Hardswish()), ROW),
    "elu": (lambda: rows(nn.ELU(0.3)), ROW),
    "celu": (lambda: rows(nn.CELU(2.0)), ROW),
    "leaky relu": (lambda: rows(nn.LeakyReLU(0.2)), ROW),
    "softplus": (lambda: rows(nn.Softplus()), ROW),
    "relu6": (lambda: rows(nn.ReLU6()), ROW),
    "relu cut off at 20": (lambda: rows(nn.Hardtanh(0.0, 20.0)), ROW),
    "layer norm": (lambda: rows(nn.LayerNorm(6)), ROW),
    "linear on sequences": (lambda: rows(nn.ReLU()), (5, 4)),
    "no bias": (lambda: nn.Sequential(nn.Linear(4, 6, bias=False), nn.Tanh(), nn.Linear(6, 3, bias=False)), ROW),
    "softmax": (lambda: nn.Sequential(nn.Linear(4, 3), nn.Softmax(1)), ROW),
    "double": (lambda: rows(nn.ELU(0.2)).double(), ROW),
    "batch norm": (lambda: images(nn.BatchNorm2d(4)), IMAGE),
    "instance norm": (lambda: images(nn.InstanceNorm2d(4, affine=True)), IMAGE),
    "max, rounded up": (lambda: images(nn.MaxPool2d(3, 2, 1, ceil_mode=True)), IMAGE),
    "average, rounded up": (lambda: images(nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False)), IMAGE),
    "adaptive average": (lambda: images(nn.AdaptiveAvgPool2d((1, 2))), IMAGE),
    "enlarged": (lambda: images(nn.Upsample(scale_factor=2)), IMAGE),
    "groups": (lambda: nn.Sequential(nn.Conv2d(2, 6, 3, groups=2), nn.Flatten(), nn.LazyLinear(3)), IMAGE),
    "same": (lambda: convolution(4, 4, padding="same"), IMAGE),
    "asymmetric": (lambda: convolution(4, (3, 2), (2, 1), (1, 0)), IMAGE),
    "zeros around": (lambda: nn.Sequential(nn.ZeroPad2d((1, 2, 0, 1)), convolution(4, 3, 2, padding=1)), IMAGE),
    "sequences": (lambda: nn.Sequential(nn.Conv1d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool1d(2), nn.Flatten(), nn.LazyLinear(3)), SEQUENCE),
    "zeros before": (lambda: nn.Sequential(nn.ConstantPad1d((4, 0), 0.0), nn.Conv1d(3, 4, 3, dilation=2), nn.Flatten(), nn.LazyLinear(3)), SEQUENCE),
    "view": (lambda: flattened(lambda m, x: m[1](m[0](x).view(x.size(0), -1))), IMAGE),
    "reshape": (lambda: flattened(lambda m, x: m[1](m[0](x).reshape(-1, 80))), IMAGE),
    "permute": (lambda: flattened(lambda m, x: m[1](m[0](x).permute(0, 2, 3, 1).flatten(1))), IMAGE),
    "mean": (lambda: Written(lambda m, x: m[1](m[0](x).mean((2, 3))), nn.Conv2d(2, 4, 3), nn.Linear(4, 3)), IMAGE),
    "concatenated": (lambda: Written(lambda m, x: m[2](torch.cat([m[0](x), functional.relu(m[1](x)), x], 1)), nn.Linear(4, 5), nn.Linear(4, 6), nn.Linear(15, 3)), ROW),
    "summed": (lambda: Written(lambda m, x: 0.3 * m[0](x) + 0.7 * functional.relu(m[1](x)), nn.Linear(4, 4), nn.Linear(4, 4)), ROW),
    "an image made of a row": (lambda: nn.Sequential(nn.Linear(4, 24), nn.ReLU(), nn.Unflatten(1, (2, 3, 4)), nn.Conv2d(2, 3, 3, padding=1), nn.Upsample(scale_factor=2), nn.Sigmoid()), ROW),
    "convnext": (lambda: Written(lambda m, x: (x + m[2](m[1](m[0](x).permute(0, 2, 3, 1))).permute(0, 3, 1, 2)).mean((2, 3)), nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.LayerNorm(4), nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 4))), (4, 7, 6)),
}  # fmt: skip
REFUSED = {
    "mish": (lambda: rows(nn.Mish()), ROW),
    "a slope for each channel": (lambda: rows(nn.PReLU(6)), ROW),
    "mirrored": (lambda: convolution(4, 3, padding=1, padding_mode="reflect"), IMAGE),
    "dilated maximum": (lambda: images(nn.MaxPool2d(2, dilation=2)), IMAGE),
    "averages of the padding": (lambda: images(nn.AvgPool2d(3, 2, 1)), IMAGE),
    "interpolated": (lambda: images(nn.Upsample(scale_factor=2, mode="bilinear")), IMAGE),
    "transposed": (lambda: nn.Sequential(nn.ConvTranspose2d(2, 3, 3), nn.Flatten(), nn.LazyLinear(3)), IMAGE),
    "log softmax": (lambda: nn.Sequential(nn.Linear(4, 3), nn.LogSoftmax(1)), ROW),
    "recurrent": (lambda: Written(lambda m, x: m[0](x)[0][:, -1], nn.LSTM(4, 5, batch_first=True)), (6, 4)),
    "attention": (lambda: Written(lambda m, x: m[0](x, x, x)[0], nn.MultiheadAttention(4, 2, batch_first=True)), (6, 4)),
    "gated": (lambda: Written(lambda m, x: x * torch.sigmoid(m[0](x)), nn.Linear(4, 4)), ROW),
    "a weight on the left": (lambda: Written(lambda m, x: torch.matmul(torch.ones(5, 5), x)), (5, 4)),
    "half precision": (lambda: rows(nn.ReLU()).half(), ROW),
}  # fmt: skip


def made(models, name):
    torch.manual_seed(1)
    build, shape = models[name]
    model = build().eval()
    x = torch.randn(3, *shape).to(
        torch.float64 if name == "double" else torch.float16 if "half" in name else torch.float32
    )
    with torch.no_grad():
        model(x)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2.0)
    return model, x


def exported(model, x, exporter, path):
    torch.onnx.export(copy.deepcopy(model), (x,), str(path), **EXPORTERS[exporter])
    return path


def last(array):
    return np.ascontiguousarray(np.moveaxis(array, 1, -1)) if array.ndim > 2 else array


def near(got, expected, limit):
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() <= limit * np.abs(expected).max()


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("name", MODELS)
def test_models_compute_and_learn_as_in_pytorch(name, exporter, tmp_path):
    model, x = made(MODELS, name)
    y = model(x).detach().numpy()
    path = exported(model, x, exporter, tmp_path / "net.onnx")
    net = portnn.onnx.load(path)
    turn = last if net._checked != tuple(x.shape[1:]) or y.ndim > 3 else lambda array: array
    given = turn(x.numpy())
    near(net.predict(given), turn(y), 1e-5)
    if "batch norm" in name and exporter != "traced":
        return  # it is folded into the convolution
    for optimizer, made_by in [
        (portnn.SGD(0.02), lambda parameters: torch.optim.SGD(parameters, 0.02)),
        (portnn.Adam(0.01), lambda parameters: torch.optim.Adam(parameters, 0.01)),
    ]:
        theirs, net = copy.deepcopy(model).train(), portnn.onnx.load(path)
        targets = torch.randn(y.shape, generator=torch.Generator().manual_seed(0), dtype=x.dtype)
        update = made_by(theirs.parameters())
        for _ in range(10):
            update.zero_grad()
            ((theirs(x) - targets) ** 2).mean().backward()
            update.step()
        net.use("mse", optimizer=optimizer)
        net.fit(given, turn(targets.numpy()), epochs=10, batch_size=3, shuffle=False, verbose=0)
        after = theirs.eval()(x).detach().numpy()
        assert np.abs(after - y).max() > 1e-3 * np.abs(y).max(), "ten steps change the outputs"
        near(net.predict(given), turn(after), 1e-4)


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("name", REFUSED)
def test_models_that_no_layers_compute_are_refused(name, exporter, tmp_path):
    model, x = made(REFUSED, name)
    try:
        path = exported(model, x, exporter, tmp_path / "net.onnx")
    except Exception as error:
        pytest.skip(f"PyTorch does not export it: {error!s:.80}")
    with pytest.raises(ValueError, match=r"no layer for|takes float32 or float64"):
        portnn.onnx.load(path)

"""Networks of portnn with the modules of PyTorch that compute the same: for exchanging weights.

A row has the shape of a sample as portnn takes it, a function that makes the network, and one that makes the module,
given ``torch.nn``. Modules of plain chains mirror the network in an ``nn.Sequential``; ``Named`` ones have names.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from portnn import (
    ActivationLayer,
    BatchNormLayer,
    ConvLayer,
    DropoutLayer,
    FCLayer,
    FlattenLayer,
    GlobalAvgPoolLayer,
    GroupNormLayer,
    LayerNormLayer,
    MaxPoolLayer,
    Network,
    ParallelLayer,
    ReshapeLayer,
    ResidualLayer,
    ScaleLayer,
    SequentialLayer,
)


@dataclass(frozen=True)
class Row:
    """``mirrors``: whether the module's names are those of ``portnn.torch.state_dict``."""

    shape: tuple[int, ...]
    layers: Any
    module: Any
    mirrors: bool = True


def relu():
    return ActivationLayer("relu")


def chain(*parts):
    return lambda nn: nn.Sequential(*(part(nn) for part in parts))


def residual(nn, *parts):
    """Adds its input to what its parts return; they are called 0, 1, ..."""

    class Residual(nn.Sequential):
        def forward(self, x):
            return x + super().forward(x)

    return Residual(*parts)


def parallel(nn, merge, *branches):
    import torch

    class Parallel(nn.ModuleList):
        def forward(self, x):
            found = [branch(x) for branch in self]
            return sum(found[1:], found[0]) if merge == "add" else torch.cat(found, 1)

    return Parallel(branches)


def lenet_layers():
    return [
        ConvLayer((12, 12, 1), (5, 5), 4, padding="same"),
        relu(),
        MaxPoolLayer(2),
        ConvLayer((6, 6, 4), (3, 3), 6),
        relu(),
        MaxPoolLayer(2),
        FlattenLayer(),
        FCLayer(24, 10),
        relu(),
        FCLayer(10, 3),
    ]


def named_lenet(nn):
    class LeNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(1, 4, 5, padding=2), nn.Conv2d(4, 6, 3)
            self.fc1, self.fc2 = nn.Linear(24, 10), nn.Linear(10, 3)

        def forward(self, x):
            x = nn.functional.max_pool2d(self.conv1(x).relu(), 2)
            x = nn.functional.max_pool2d(self.conv2(x).relu(), 2)
            return self.fc2(self.fc1(x.flatten(1)).relu())

    return LeNet()


def resnet_layers():
    def block(side, before, after, stride=1):
        main = [
            ConvLayer((side, side, before), (3, 3), after, stride=stride, padding=1, bias=False),
            BatchNormLayer(),
            relu(),
            ConvLayer((side // stride, side // stride, after), (3, 3), after, padding=1, bias=False),
            BatchNormLayer(),
        ]
        if before == after:
            return [ResidualLayer(*main), relu()]
        shortcut = [ConvLayer((side, side, before), (1, 1), after, stride=stride, bias=False), BatchNormLayer()]
        return [ParallelLayer(main, shortcut, merge="add"), relu()]

    first = [ConvLayer((8, 8, 3), (3, 3), 4, padding=1, bias=False), BatchNormLayer(), relu()]
    return [*first, *block(8, 4, 4), *block(8, 4, 6, 2), GlobalAvgPoolLayer(), FCLayer(6, 5)]


def named_resnet(nn):
    class Block(nn.Module):
        def __init__(self, before, after, stride):
            super().__init__()
            self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(after)
            self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(after)
            self.shortcut = nn.Sequential()
            if before != after:
                self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

        def forward(self, x):
            return (self.bn2(self.conv2(self.bn1(self.conv1(x)).relu())) + self.shortcut(x)).relu()

    class ResNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(3, 4, 3, 1, 1, bias=False), nn.BatchNorm2d(4)
            self.layer1, self.layer2 = nn.Sequential(Block(4, 4, 1)), nn.Sequential(Block(4, 6, 2))
            self.fc = nn.Linear(6, 5)

        def forward(self, x):
            x = self.layer2(self.layer1(self.bn1(self.conv1(x)).relu()))
            return self.fc(x.mean((2, 3)))

    return ResNet()


def mixed_layers():
    """Behind a Flatten: normalization, and blocks whose inputs and outputs keep the order of (C, H, W)."""
    return [
        MaxPoolLayer(2),
        FlattenLayer(),
        BatchNormLayer(),
        ResidualLayer(FCLayer(12, 8), relu(), FCLayer(8, 12)),
        LayerNormLayer(),
        ParallelLayer([FCLayer(12, 4, bias=False)], [], [ResidualLayer(FCLayer(12, 12))]),
        FCLayer(28, 2),
    ]


def mixed(nn):
    return nn.Sequential(
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.BatchNorm1d(12),
        residual(nn, nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 12)),
        nn.LayerNorm(12),
        parallel(
            nn,
            "concat",
            nn.Sequential(nn.Linear(12, 4, bias=False)),
            nn.Sequential(),
            nn.Sequential(residual(nn, nn.Linear(12, 12))),
        ),
        nn.Linear(28, 2),
    )


def decoder(nn):
    return nn.Sequential(
        nn.Linear(5, 24),
        nn.ReLU(),
        nn.Unflatten(1, (6, 2, 2)),
        nn.Conv2d(6, 4, 3, padding=1),
        nn.Upsample(scale_factor=2),
        nn.Conv2d(4, 2, 3, padding=1, bias=False),
        nn.Flatten(),
        nn.Linear(32, 3),
    )


def decoder_layers():
    from portnn import UpsampleLayer

    return [
        FCLayer(5, 24),
        relu(),
        ReshapeLayer((2, 2, 6)),
        ConvLayer((2, 2, 6), (3, 3), 4, padding=1),
        UpsampleLayer(2),
        ConvLayer((4, 4, 4), (3, 3), 2, padding=1, bias=False),
        FlattenLayer(),
        FCLayer(32, 3),
    ]


ROWS: dict[str, Row] = {
    "mlp": Row(
        (7,),
        lambda: [FCLayer(7, 16), relu(), DropoutLayer(0.5), FCLayer(16, 16, bias=False), relu(), FCLayer(16, 3)],
        lambda nn: nn.Sequential(
            nn.Linear(7, 16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 16, bias=False), nn.ReLU(), nn.Linear(16, 3)
        ),
    ),
    "lenet": Row(
        (12, 12, 1),
        lenet_layers,
        lambda nn: nn.Sequential(
            nn.Conv2d(1, 4, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(4, 6, 3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(24, 10),
            nn.ReLU(),
            nn.Linear(10, 3),
        ),
    ),
    "lenet with names": Row((12, 12, 1), lenet_layers, named_lenet, mirrors=False),
    "lenet with layers in front": Row(
        (144,),
        lambda: [ReshapeLayer((12, 12, 1)), ScaleLayer(1.0), *lenet_layers()],
        lambda nn: nn.Sequential(nn.Unflatten(1, (1, 12, 12)), nn.Dropout(0.0), named_lenet(nn)),
        mirrors=False,
    ),
    "residual": Row((8, 8, 3), resnet_layers, named_resnet, mirrors=False),
    "1-D": Row(
        (10, 3),
        lambda: [
            ConvLayer((10, 3), (3,), 4, padding=1),
            BatchNormLayer(),
            ActivationLayer("gelu"),
            ConvLayer((10, 4), (3,), 4, dilation=2),
            FlattenLayer(),
            FCLayer(24, 2),
        ],
        lambda nn: nn.Sequential(
            nn.Conv1d(3, 4, 3, padding=1),
            nn.BatchNorm1d(4),
            nn.GELU(),
            nn.Conv1d(4, 4, 3, dilation=2),
            nn.Flatten(),
            nn.Linear(24, 2),
        ),
    ),
    "depthwise": Row(
        (6, 6, 4),
        lambda: [
            SequentialLayer(ConvLayer((6, 6, 4), (3, 3), 4, groups=4, padding=1, bias=False), BatchNormLayer()),
            relu(),
            ConvLayer((6, 6, 4), (1, 1), 6),
            relu(),
            ConvLayer((6, 6, 6), (3, 3), 4, groups=2, stride=2),
            FlattenLayer(),
            FCLayer(16, 2),
        ],
        lambda nn: nn.Sequential(
            nn.Sequential(nn.Conv2d(4, 4, 3, groups=4, padding=1, bias=False), nn.BatchNorm2d(4)),
            nn.ReLU(),
            nn.Conv2d(4, 6, 1),
            nn.ReLU(),
            nn.Conv2d(6, 4, 3, 2, groups=2),
            nn.Flatten(),
            nn.Linear(16, 2),
        ),
    ),
    "dilation": Row(
        (9, 8, 2),
        lambda: [
            ConvLayer((9, 8, 2), (3, 2), 3, dilation=(2, 3), padding=(1, 0)),
            relu(),
            FlattenLayer(),
            FCLayer(105, 2),
        ],
        lambda nn: nn.Sequential(
            nn.Conv2d(2, 3, (3, 2), dilation=(2, 3), padding=(1, 0)), nn.ReLU(), nn.Flatten(), nn.Linear(105, 2)
        ),
    ),
    "gelu": Row(
        (6,),
        lambda: [FCLayer(6, 8), LayerNormLayer(), ActivationLayer("gelu"), FCLayer(8, 8), ActivationLayer("gelu_tanh")],
        lambda nn: nn.Sequential(
            nn.Linear(6, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 8), nn.GELU(approximate="tanh")
        ),
    ),
    "group norm": Row(
        (6, 5, 4),
        lambda: [
            GroupNormLayer(2),
            ConvLayer((6, 5, 4), (3, 3), 6),
            GroupNormLayer(3),
            relu(),
            FlattenLayer(),
            FCLayer(72, 4),
            GroupNormLayer(2),
        ],
        lambda nn: nn.Sequential(
            nn.GroupNorm(2, 4),
            nn.Conv2d(4, 6, 3),
            nn.GroupNorm(3, 6),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(72, 4),
            nn.GroupNorm(2, 4),
        ),
    ),
    "blocks behind a flatten": Row((4, 4, 3), mixed_layers, mixed),
    "image first": Row(
        (3, 2, 4),
        lambda: [FlattenLayer(), FCLayer(24, 5)],
        lambda nn: nn.Sequential(nn.Flatten(), nn.Linear(24, 5)),
    ),
    "rows first": Row(
        (5, 4),
        lambda: [FCLayer(4, 3), LayerNormLayer(), FlattenLayer(), FCLayer(15, 2)],
        lambda nn: nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3), nn.Flatten(), nn.Linear(15, 2)),
    ),
    "decoder": Row((5,), decoder_layers, decoder),
}
IMAGES = {name for name, row in ROWS.items() if len(row.shape) > 1 and name != "rows first"}


def network(name, dtype="float64", **options):
    """The network of a row, which has predicted once: all of its parameters are drawn."""
    made = Network(ROWS[name].layers(), seed=3, dtype=dtype, **options)
    made.predict(batch(name, 1))
    return made


def batch(name, samples=5):
    return np.random.default_rng(7).standard_normal((samples, *ROWS[name].shape))


def as_pytorch_takes_it(name, x):
    """(N, H, W, C) -> (N, C, H, W)."""
    return np.ascontiguousarray(np.moveaxis(x, -1, 1)) if name in IMAGES else x


def module(name):
    """The module of a row in float64, for prediction, with running values unlike the initial ones."""
    import torch

    torch.manual_seed(5)
    made = ROWS[name].module(torch.nn).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, dtype=parameter.dtype)
        made.train()
        made(torch.from_numpy(as_pytorch_takes_it(name, 2.0 * batch(name, 9) + 1.0)))
    return made.eval()


def answer(made, name, x):
    import torch

    with torch.no_grad():
        return made(torch.from_numpy(as_pytorch_takes_it(name, x))).numpy()

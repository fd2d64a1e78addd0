"""Models in PyTorch, for ``tools/record_onnx.py`` and the live comparison; needs PyTorch."""

import torch
from torch import nn

SAMPLES, STEPS, RATE = 6, 10, 0.02


class LeNet(nn.Module):
    """Flattens with ``view``, as much code on the web does."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 3, 5, padding=2), nn.Conv2d(3, 4, 3)
        self.third, self.last = nn.Linear(8, 6), nn.Linear(6, 3)

    def forward(self, x):
        x = nn.functional.max_pool2d(torch.tanh(self.first(x)), 2)
        x = nn.functional.avg_pool2d(torch.relu(self.second(x)), 2)
        x = x.view(x.size(0), -1)
        return self.last(torch.tanh(self.third(x)))


def conv(before, after, size, stride=1):
    return nn.Conv2d(before, after, size, stride=stride, padding=size // 2, bias=False)


class ResNet(nn.Module):
    """Batch normalization behind the convolutions: the exporters fold it into them."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(conv(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.same = nn.Sequential(conv(4, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), conv(4, 4, 3), nn.BatchNorm2d(4))
        self.down = nn.Sequential(conv(4, 6, 3, 2), nn.BatchNorm2d(6), nn.ReLU(), conv(6, 6, 3), nn.BatchNorm2d(6))
        self.shortcut = nn.Sequential(conv(4, 6, 1, 2), nn.BatchNorm2d(6))
        self.pool, self.last = nn.AdaptiveAvgPool2d(1), nn.Linear(6, 3)

    def forward(self, x):
        x = self.stem(x)
        x = torch.relu(self.same(x) + x)
        x = torch.relu(self.down(x) + self.shortcut(x))
        return self.last(torch.flatten(self.pool(x), 1))


class PreActivation(nn.Module):
    """Batch normalization and activation before the convolutions."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1)
        self.same = nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1))
        self.down = nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 3, padding=1, stride=2))
        self.shortcut = nn.Conv2d(4, 6, 1, stride=2)
        self.last = nn.Linear(6, 3)

    def forward(self, x):
        x = self.stem(x)
        x = x + self.same(x)
        x = self.shortcut(x) + self.down(x)
        return self.last(x.mean((2, 3)))


class Inception(nn.Module):
    """Branches side by side."""

    def __init__(self):
        super().__init__()
        self.one, self.three = nn.Conv2d(3, 2, 1), nn.Sequential(nn.Conv2d(3, 2, 1), nn.Conv2d(2, 3, 3, padding=1))
        self.pool, self.last = nn.MaxPool2d(3, stride=1, padding=1), nn.Linear(8 * 4 * 5, 3)

    def forward(self, x):
        x = torch.cat([self.one(x), torch.relu(self.three(x)), self.pool(x)], 1)
        return self.last(torch.relu(x).flatten(1))


class Decoder(nn.Module):
    """A row that becomes an image."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(5, 3 * 2 * 4), nn.Conv2d(3, 2, 3, padding=1)

    def forward(self, x):
        x = torch.relu(self.first(x)).view(-1, 3, 2, 4)
        return self.last(nn.functional.interpolate(x, scale_factor=2.0))


MODELS = {  # how to make it, and the shape of one sample
    "mlp": (lambda: nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 3)), (5,)),
    "lenet": (LeNet, (1, 12, 10)),
    "residual": (PreActivation, (2, 8, 6)),
    "folded": (ResNet, (3, 8, 8)),
    "parallel": (Inception, (3, 4, 5)),
    "decoder": (Decoder, (5,)),
    "conv1d": (
        lambda: nn.Sequential(
            nn.Conv1d(2, 4, 3, padding=1),
            nn.SiLU(),
            nn.MaxPool1d(2),
            nn.BatchNorm1d(4),
            nn.Conv1d(4, 3, 3),
            nn.Sigmoid(),
            nn.Flatten(),
            nn.Linear(9, 3),
        ),
        (2, 10),
    ),
    "depthwise": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 6, 3, groups=3, padding=1),
            nn.ReLU6(),
            nn.Conv2d(6, 4, 1),
            nn.Hardswish(),
            nn.Flatten(),
            nn.Linear(120, 3),
        ),
        (3, 6, 5),
    ),
    "dilation": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3, dilation=2, padding=2),
            nn.ELU(),
            nn.Upsample(scale_factor=2),
            nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=True),
            nn.LeakyReLU(0.1),
            nn.Flatten(),
            nn.Linear(224, 3),
        ),
        (2, 7, 6),
    ),
    "gelu": (
        lambda: nn.Sequential(
            nn.Linear(5, 8),
            nn.GELU(),
            nn.LayerNorm(8),
            nn.Linear(8, 8),
            nn.GELU(approximate="tanh"),
            nn.Linear(8, 3),
            nn.Softplus(),
        ),
        (4, 5),
    ),
    "groupnorm": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1),
            nn.GroupNorm(2, 4),
            nn.ReLU(),
            nn.AvgPool2d(2),
            nn.Hardsigmoid(),
            nn.Flatten(),
            nn.Linear(36, 3),
        ),
        (2, 6, 6),
    ),
}
EXPORTERS = {  # by name: the arguments of torch.onnx.export, for a batch of any size
    "script": dict(dynamo=False, input_names=["x"], dynamic_axes={"x": {0: "N"}}),
    "old": dict(dynamo=False, input_names=["x"], dynamic_axes={"x": {0: "N"}}, opset_version=14),
    "dynamo": dict(dynamo=True, dynamic_shapes=({0: "N"},), external_data=False, verbose=False),
}


def made(name):
    """A model, in eval mode, with running values that are not those of a new one, and samples for it."""
    make, shape = MODELS[name]
    torch.manual_seed(3)
    model = make()
    x = torch.randn(SAMPLES, *shape)
    for each in model.modules():
        if isinstance(each, (nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm)):
            nn.init.uniform_(each.weight, 0.5, 1.5)
            nn.init.uniform_(each.bias, -0.5, 0.5)
    with torch.no_grad():
        model.train()(x)
    return model.eval(), x


def trained(model, x):
    """What the model returns for x before and after some steps of gradient descent, and the targets of these."""
    with torch.no_grad():
        before = model(x)
    targets = torch.rand(before.shape, generator=torch.Generator().manual_seed(4))
    for each in model.train().modules():
        if isinstance(each, nn.Dropout):
            each.eval()
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    for _ in range(STEPS):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), targets).backward()
        optimizer.step()
    with torch.no_grad():
        return before.numpy(), targets.numpy(), model.eval()(x).numpy()

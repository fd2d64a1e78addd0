"""The same layers, losses, optimizers and schedules in PyTorch: the other side of every comparison.

``forward(layer, X, parameters)`` runs a portnn layer, with all its options, in PyTorch's functions; autograd then gives
every gradient. In PyTorch, channels are the second axis, in portnn the last: inputs and outputs are transposed.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812

import portnn
from portnn import schedules

ACTIVATIONS = {
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "selu": F.selu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "softplus": lambda x: F.softplus(x, threshold=100),  # by default it returns x above 20, an error of 2e-9
    "softsign": F.softsign,
    # F.hardsigmoid's derivative is 1/6 rounded to float32, in float64 too (2.13): an error of 3e-8
    "hard_sigmoid": lambda x: torch.clamp(x / 6 + 0.5, 0, 1),
    "softmax": lambda x: F.softmax(x, dim=-1),
    "log_softmax": lambda x: F.log_softmax(x, dim=-1),
}


# -- layers ------------------------------------------------------------------------------------------------------------


def forward(layer, X, P):
    """Y of a portnn layer in training, computed by PyTorch; P: dotted path below the layer -> parameter.

    The new running statistics of batch normalization are added to P.
    """
    return LAYERS[type(layer).__name__](layer, X, P)


def fc(layer, X, P):
    bias = P.get("bias")
    return F.linear(X, P["weights"].T, None if bias is None else bias[0])


def conv(layer, X, P):
    x = second(X)
    axes = x.ndim - 2
    stride, dilation = per_axis(layer.stride, axes), per_axis(layer.dilation, axes)
    reach = [(k - 1) * d + 1 for k, d in zip(layer.kernel_shape, dilation, strict=True)]
    x = padded(x, pads(layer.padding, x.shape[2:], reach, stride), 0.0)
    W = P["weights"].movedim(-1, 0).movedim(-1, 1).contiguous()  # (h, w, C, F) -> (F, C, h, w)
    run = {1: F.conv1d, 2: F.conv2d}[axes]
    return last(run(x, W, P.get("bias"), stride=stride, dilation=dilation, groups=layer.groups))


def max_pool(layer, X, P):
    x = second(X)
    axes = x.ndim - 2
    window, stride = per_axis(layer.window, axes), per_axis(layer.stride, axes)
    x = padded(x, pads(layer.padding, x.shape[2:], window, stride), -math.inf)
    return last({1: F.max_pool1d, 2: F.max_pool2d}[axes](x, window, stride))


def avg_pool(layer, X, P):
    x = second(X)
    axes = x.ndim - 2
    window, stride = per_axis(layer.window, axes), per_axis(layer.stride, axes)
    around = pads(layer.padding, x.shape[2:], window, stride)
    run = {1: F.avg_pool1d, 2: F.avg_pool2d}[axes]
    if all(before == after and before <= k // 2 for (before, after), k in zip(around, window, strict=True)):
        return last(run(x, window, stride, [before for before, _ in around], count_include_pad=False))
    # PyTorch cannot pad on one side only: divide the sum of each window by its number of pixels
    counts = run(padded(torch.ones_like(x), around, 0.0), window, stride)
    return last(run(padded(x, around, 0.0), window, stride) / counts)


def global_avg_pool(layer, X, P):
    x = second(X)
    return {3: F.adaptive_avg_pool1d, 4: F.adaptive_avg_pool2d}[x.ndim](x, 1).flatten(1)


def global_max_pool(layer, X, P):
    x = second(X)
    return {3: F.adaptive_max_pool1d, 4: F.adaptive_max_pool2d}[x.ndim](x, 1).flatten(1)


def upsample(layer, X, P):
    factors = per_axis(layer.factor, X.ndim - 2)
    return last(F.interpolate(second(X), scale_factor=tuple(map(float, factors)), mode="nearest"))


def batch_norm(layer, X, P):
    mean, var = torch.zeros_like(P["weights"]), torch.ones_like(P["weights"])
    Y = F.batch_norm(second(X), mean, var, P["weights"], P["bias"], True, layer.momentum, layer.epsilon)
    P["running_mean"], P["running_var"] = mean, var
    return last(Y)


def layer_norm(layer, X, P):
    return F.layer_norm(X, X.shape[-1:], P["weights"], P["bias"], layer.epsilon)


def group_norm(layer, X, P):
    return last(F.group_norm(second(X), layer.groups, P["weights"], P["bias"], layer.epsilon))


def dropout(layer, X, P):
    """PyTorch draws other masks, so ours is used, computed as the documentation describes it."""
    words = portnn.random.bits(
        portnn.random.key(layer.seed, f"{layer.path}.mask" if layer.path else "mask"), 0, X.numel()
    )
    kept = torch.as_tensor(words >= round(layer.rate * 2**32)).reshape(X.shape)
    return torch.where(kept, X / (1 - layer.rate), 0.0)


def random_affine(layer, X, P):
    """With our random words, as the documentation describes what they mean."""
    key = portnn.random.key(layer.seed, f"{layer.path}.affine" if layer.path else "affine")
    words = torch.as_tensor(portnn.random.bits(key, 0, 4 * len(X)))
    return resampled(X, random_maps(words, X.shape, layer.shift, layer.rotate, layer.scale))


def random_maps(words, shape, shift, rotate, scale):
    """(N, 2, 3): where each pixel (i, j, 1) comes from; the inverse of moving, turning and scaling about the centre."""
    n, height, width, _ = shape
    s, t, a, f = (words.to(torch.float64).reshape(n, 4) / 2**31 - 1).T
    a, f = torch.deg2rad(rotate * a), 1 + scale * f
    row, column = (height - 1) / 2, (width - 1) / 2
    zero, one = torch.zeros_like(s), torch.ones_like(s)

    def matrices(*entries):  # (N, 3, 3)
        return torch.stack([zero + entry for entry in entries], dim=1).reshape(n, 3, 3)

    to_centre = matrices(one, zero, -row, zero, one, -column, zero, zero, one)
    turned = matrices(f * a.cos(), -f * a.sin(), zero, f * a.sin(), f * a.cos(), zero, zero, zero, one)
    back = matrices(one, zero, row + shift * s, zero, one, column + shift * t, zero, zero, one)
    return torch.linalg.inv(back @ turned @ to_centre)[:, :2]


def resampled(X, maps):
    """``grid_sample``, for which images reach from -1 to 1; of an image's edge, not of its last pixel's centre:
    align_corners=False, since an image may be one pixel wide."""
    n, height, width, _ = X.shape
    pixel = [[0.0, height / 2, (height - 1) / 2], [width / 2, 0.0, (width - 1) / 2], [0.0, 0.0, 1.0]]
    pixel = torch.tensor(pixel, dtype=torch.float64)  # (x, y, 1) from -1 to 1 -> (i, j, 1)
    last_row = torch.tensor([[[0.0, 0.0, 1.0]]], dtype=torch.float64).expand(n, 1, 3)
    theta = (torch.linalg.inv(pixel) @ torch.cat([maps, last_row], dim=1) @ pixel)[:, :2]
    x = second(X)
    grid = F.affine_grid(theta, x.shape, align_corners=False)
    return last(F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False))


def below(P, path):
    """The parameters of a child layer, by path below it."""
    prefix = f"{path}."
    return {name.removeprefix(prefix): array for name, array in P.items() if name.startswith(prefix)}


def sequence(layers, path, X, P):
    for i, layer in enumerate(layers):
        inside = below(P, f"{path}{i}")
        X = forward(layer, X, inside)
        P.update({f"{path}{i}.{name}": array for name, array in inside.items()})
    return X


def residual(layer, X, P):
    return X + sequence(layer.layers, "", X, P)


def parallel(layer, X, P):
    outputs = []
    for i, branch in enumerate(layer.layers):
        if isinstance(branch, list):
            outputs.append(sequence(branch, f"{i}.", X, P))
        else:
            inside = below(P, str(i))
            outputs.append(forward(branch, X, inside))
            P.update({f"{i}.{name}": array for name, array in inside.items()})
    return torch.cat(outputs, dim=-1) if layer.merge == "concat" else sum(outputs[1:], outputs[0])


LAYERS = {
    "FCLayer": fc,
    "ConvLayer": conv,
    "ActivationLayer": lambda layer, X, P: ACTIVATIONS[layer.activation.__name__](X),
    "FlattenLayer": lambda layer, X, P: torch.flatten(X, 1),
    "ReshapeLayer": lambda layer, X, P: torch.reshape(X, (-1, *layer.shape)),
    "ScaleLayer": lambda layer, X, P: layer.factor * X + layer.offset,
    "MaxPoolLayer": max_pool,
    "AvgPoolLayer": avg_pool,
    "GlobalAvgPoolLayer": global_avg_pool,
    "GlobalMaxPoolLayer": global_max_pool,
    "UpsampleLayer": upsample,
    "DropoutLayer": dropout,
    "RandomAffineLayer": random_affine,
    "BatchNormLayer": batch_norm,
    "LayerNormLayer": layer_norm,
    "GroupNormLayer": group_norm,
    "SoftmaxLayer": lambda layer, X, P: F.softmax(X, dim=-1),
    "SequentialLayer": lambda layer, X, P: sequence(layer.layers, "", X, P),
    "ResidualLayer": residual,
    "ParallelLayer": parallel,
    "OwnLayer": lambda layer, X, P: X * P["scale"],
}


def second(x):
    """Moves channels from the last axis to the second."""
    return x.movedim(-1, 1).contiguous()  # some PyTorch functions need contiguous tensors


def last(x):
    return x.movedim(1, -1)


def per_axis(value, axes):
    return tuple(value) if isinstance(value, (tuple, list)) else (value,) * axes


def pads(padding, sizes, reach, stride):
    """(before, after) for each axis, derived from the documentation of ``padding``."""
    axes = len(sizes)
    if padding == "valid":
        return [(0, 0)] * axes
    if padding == "same":
        total = [max((math.ceil(n / s) - 1) * s + r - n, 0) for n, r, s in zip(sizes, reach, stride, strict=True)]
        return [(t // 2, t - t // 2) for t in total]
    return [p if isinstance(p, tuple) else (p, p) for p in per_axis(padding, axes)]


def padded(x, around, value):
    """Pads all axes after the second; PyTorch expects the last axis first."""
    return F.pad(x, [n for pair in reversed(around) for n in pair], value=value)


def tensor(a, grad=False):
    return torch.tensor(np.asarray(a), requires_grad=grad)


def reference(layer, X, D, parameters):
    """Y, dE/dX, every dE/d(parameter) and every new buffer, by PyTorch in the dtype of X; parameters by dotted path."""
    x = tensor(X, True)
    P = {path: tensor(array, True) for path, array in parameters.items()}
    leaves = dict(P)
    Y = forward(layer, x, P)
    Y.backward(tensor(D))
    found = {"Y": Y, "dE/dX": x.grad}
    found |= {f"dE/d{path}": leaf.grad for path, leaf in leaves.items()}
    found |= {path: array for path, array in P.items() if path not in leaves}
    return {name: array.detach().numpy() for name, array in found.items()}


# -- losses ------------------------------------------------------------------------------------------------------------


def loss(case_name, y_true, y_pred):
    """The same loss, by PyTorch."""
    name, t = case_name.split(",")[0], tensor(y_true)
    huber, smooth = 0.7, 0.1  # as in the table of cases
    return {
        "mse": lambda: F.mse_loss(y_pred, t),
        "mae": lambda: F.l1_loss(y_pred, t),
        "Huber": lambda: F.huber_loss(y_pred, t, delta=huber),
        "hinge": lambda: torch.clamp(1 - t * y_pred, min=0).mean(),
        "binary_cross_entropy": lambda: F.binary_cross_entropy_with_logits(y_pred, t),
        "softmax_cross_entropy": lambda: F.cross_entropy(y_pred, t),
        "SoftmaxCrossEntropy": lambda: F.cross_entropy(y_pred, t, label_smoothing=smooth),
    }[name]()


def loss_reference(case_name, y_true, y_pred):
    """The loss and its derivative, by PyTorch."""
    y = tensor(y_pred, True)
    E = loss(case_name, y_true, y)
    E.backward()
    return {"E": E.detach().numpy(), "dE/dY": y.grad.numpy()}


# -- optimizers and schedules ------------------------------------------------------------------------------------------


def optimizer(ours, parameters):
    """The same optimizer, by PyTorch, at the first learning rate."""
    kind, lr = type(ours).__name__, rate(ours, 0)
    decay = dict(lr=lr, weight_decay=ours.weight_decay)
    if kind == "SGD":
        return torch.optim.SGD(parameters, momentum=ours.momentum, nesterov=ours.nesterov, **decay)
    if kind == "AdaGrad":
        return torch.optim.Adagrad(parameters, **decay)
    if kind == "RMSprop":
        return torch.optim.RMSprop(parameters, alpha=ours.decay, **decay)
    make = {"Adam": torch.optim.Adam, "AdamW": torch.optim.AdamW}[kind]
    return make(parameters, betas=(ours.beta1, ours.beta2), eps=ours.epsilon, **decay)


def rate(ours, k):
    return ours.learning_rate(k) if callable(ours.learning_rate) else ours.learning_rate


def descend(ours, weights, gradients):
    """The weights after each step with these gradients: PyTorch's clipping functions, then its optimizer."""
    parameters = [tensor(w, True) for w in weights]
    theirs, steps = optimizer(ours, parameters), []
    for k, step in enumerate(gradients):
        for group in theirs.param_groups:
            group["lr"] = rate(ours, k)
        for parameter, g in zip(parameters, step, strict=True):
            parameter.grad = tensor(g)
        if ours.clip_value is not None:
            torch.nn.utils.clip_grad_value_(parameters, ours.clip_value)
        if ours.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(parameters, ours.clip_norm)
        theirs.step()
        steps.append([p.detach().numpy().copy() for p in parameters])
    return steps


def rates(ours, n):
    """The first n learning rates of the same schedule, by PyTorch."""
    S = torch.optim.lr_scheduler
    peak = ours.peak if isinstance(ours, schedules.OneCycle) else schedules.rate_at(base(ours), 0)
    sgd = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=peak)
    made, found = schedule(ours, sgd, S), []
    for _ in range(n):
        found.append(sgd.param_groups[0]["lr"])
        sgd.step()
        made.step()
    return found


def base(ours):
    """The schedule after a warm-up."""
    return ours.schedule if isinstance(ours, schedules.WarmUp) else ours


def schedule(ours, sgd, S):
    if isinstance(ours, float):
        return S.ConstantLR(sgd, factor=1.0)
    if isinstance(ours, schedules.StepDecay):
        return S.StepLR(sgd, ours.every, ours.factor)
    if isinstance(ours, schedules.ExponentialDecay):
        return S.ExponentialLR(sgd, ours.factor)
    if isinstance(ours, schedules.CosineDecay):
        return S.CosineAnnealingLR(sgd, ours.steps)
    if isinstance(ours, schedules.OneCycle):
        return S.OneCycleLR(sgd, ours.peak, total_steps=ours.steps, cycle_momentum=False)
    assert isinstance(ours, schedules.WarmUp)
    up = S.LinearLR(sgd, start_factor=1.0 / ours.steps, total_iters=ours.steps - 1)
    return S.SequentialLR(sgd, [up, schedule(ours.schedule, sgd, S)], milestones=[ours.steps])

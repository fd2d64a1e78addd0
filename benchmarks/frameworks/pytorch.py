"""PyTorch: eager, with channels last, compiled, and on the GPU as a CUDA graph; with its fused optimizers."""

from typing import Any

import numpy as np
import torch
import workloads
from torch import nn

# By default PyTorch's convolutions, not its products, use TF32, which keeps 10 bits of the 23; portnn's do not.
torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False


class Eager:
    channels_last, compiled = False, False

    def __init__(self, workload: Any, x: np.ndarray, y: np.ndarray):
        self.workload = workload
        self.device = "cuda" if workload.backend == "gpu" else "cpu"
        if self.device == "cuda" and not torch.cuda.is_available():
            raise ImportError("PyTorch sees no GPU here")
        self.model = nn.Sequential(*map(module, workload.parts))
        with torch.no_grad():
            ours = workloads.initial_weights(workload)
            for part, weights in zip(filter(has_weights, self.model), adapted(workload, ours), strict=True):
                part.weight.copy_(torch.from_numpy(weights[0]))
                part.bias.copy_(torch.from_numpy(weights[1]))
        self.model = self.model.to(self.device)
        self.image = len(workload.shape) == 3
        self.x = self._input(x)
        self.y = (torch.from_numpy(y) if workload.loss != "mse" else torch.eye(10)[torch.from_numpy(y)]).to(self.device)
        if self.channels_last:
            self.model = self.model.to(memory_format=torch.channels_last)
        kind, lr, *momentum = workload.optimizer
        self.optimizer = (
            torch.optim.Adam(self.model.parameters(), lr, fused=True, capturable=self.device == "cuda")
            if kind == "adam"
            else torch.optim.SGD(self.model.parameters(), lr, momentum=momentum[0], fused=True)
        )
        loss = nn.functional.mse_loss if workload.loss == "mse" else nn.functional.cross_entropy

        def error(xb: torch.Tensor, yb: torch.Tensor) -> torch.Tensor:
            return loss(self.model(xb), yb)

        self.error = torch.compile(error) if self.compiled else error

    def _input(self, x: np.ndarray) -> torch.Tensor:
        t = torch.from_numpy(x).to(self.device)
        if not self.image:
            return t
        t = t.permute(0, 3, 1, 2).contiguous()
        return t.to(memory_format=torch.channels_last) if self.channels_last else t

    def round(self, epoch: int) -> float:
        w, total = self.workload, torch.zeros((), device=self.device)
        order = torch.from_numpy(workloads.order(w, epoch, len(self.x))).to(self.device) if w.shuffle else None
        for start in range(0, len(self.x), w.batch):
            if order is None:
                xb, yb = self.x[start : start + w.batch], self.y[start : start + w.batch]
            else:
                index = order[start : start + w.batch]
                xb, yb = self.x[index], self.y[index]
            total += self.step(xb, yb) * len(xb)
        return float(total) / len(self.x)

    def step(self, xb: torch.Tensor, yb: torch.Tensor) -> torch.Tensor:
        error = self.error(xb, yb)
        self.optimizer.zero_grad(set_to_none=True)
        error.backward()
        self.optimizer.step()
        return error.detach()

    def predict(self, x: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return self.model(self._input(x)).cpu().numpy()

    def about(self) -> str:
        if self.device == "cuda":
            return f"PyTorch {torch.__version__}, {torch.cuda.get_device_name()}, no TF32"
        return f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads"


class ChannelsLast(Eager):
    channels_last = True


class Compiled(Eager):
    compiled = True


class Graphed(Eager):
    """A whole step as one CUDA graph; the first three, real steps of the training, run eagerly on a side stream."""

    WARM_UPS = 3

    def __init__(self, workload: Any, x: np.ndarray, y: np.ndarray):
        if workload.backend != "gpu":
            raise ImportError("CUDA graphs need a GPU")
        super().__init__(workload, x, y)
        self.calls, self.graph = 0, None
        self.inputs: tuple[torch.Tensor, ...] = ()

    def step(self, xb: torch.Tensor, yb: torch.Tensor) -> torch.Tensor:
        if len(xb) < self.workload.batch:
            return super().step(xb, yb)
        if self.calls < self.WARM_UPS:
            self.calls += 1
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                error = super().step(xb, yb)
            torch.cuda.current_stream().wait_stream(side)
            return error
        if self.graph is None:
            self.inputs = xb.clone(), yb.clone()
            self.graph = torch.cuda.CUDAGraph()
            self.optimizer.zero_grad(set_to_none=True)
            with torch.cuda.graph(self.graph):
                self.result = super().step(*self.inputs)
        for place, batch in zip(self.inputs, (xb, yb), strict=True):
            place.copy_(batch)
        self.graph.replay()
        return self.result.clone()


def module(part: tuple[Any, ...]) -> nn.Module:
    name, *arguments = part
    if name == "fc":
        return nn.Linear(*arguments)
    if name == "conv":
        (_, _, channels), k, filters, padding = arguments
        return nn.Conv2d(channels, filters, k, padding=padding)
    return {
        "tanh": nn.Tanh,
        "relu": nn.ReLU,
        "maxpool": lambda: nn.MaxPool2d(2),
        "avgpool": lambda: nn.AvgPool2d(2),
        "flatten": nn.Flatten,
    }[name]()


def has_weights(part: nn.Module) -> bool:
    return isinstance(part, (nn.Linear, nn.Conv2d))


def adapted(workload: Any, ours: list[tuple[np.ndarray, np.ndarray]]) -> list[tuple[np.ndarray, np.ndarray]]:
    """portnn's weights in PyTorch's order of axes; after the last convolution the rows are those of (C, H, W)."""
    found, image = [], None
    for part in workload.parts:
        if part[0] == "conv":
            W, B = ours[len(found)]
            found.append((np.ascontiguousarray(W.transpose(3, 2, 0, 1)), B))
            image = part[3]
        elif part[0] == "fc":
            W, B = ours[len(found)]
            if image is not None:  # the first one after "flatten"
                side = round((len(W) // image) ** 0.5)
                W = W.reshape(side, side, image, -1).transpose(2, 0, 1, 3).reshape(len(W), -1)
                image = None
            found.append((np.ascontiguousarray(W.T), B))
    return found

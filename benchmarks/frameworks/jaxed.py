"""JAX: a jitted step called from Python, and a whole epoch as one compiled loop (for information)."""

import os
from functools import partial
from typing import Any

# Before JAX is imported: it would take three quarters of the GPU's memory, which the others need, and use TF32.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
os.environ.setdefault("JAX_DEFAULT_MATMUL_PRECISION", "highest")

import jax
import jax.numpy as jnp
import numpy as np
import workloads
from jax import lax


class Jitted:
    def __init__(self, workload: Any, x: np.ndarray, y: np.ndarray):
        self.workload = workload
        if workload.backend == "gpu" and jax.default_backend() != "gpu":
            raise ImportError("JAX sees no GPU here")
        self.x, self.y = jnp.asarray(x), jnp.asarray(y)
        parameters = [tuple(map(jnp.asarray, pair)) for pair in workloads.initial_weights(workload)]
        slots = jax.tree.map(jnp.zeros_like, (parameters, parameters))
        self.state = (parameters, slots, jnp.zeros((), jnp.int32))
        self.step = jax.jit(partial(step, workload), donate_argnums=0)
        self.forward = jax.jit(partial(forward, workload))
        on_device = workload.backend == "gpu"  # batches are sliced where the data is
        self.x_host, self.y_host = (self.x, self.y) if on_device else (np.asarray(x), np.asarray(y))

    def round(self, epoch: int) -> float:
        w, n, errors = self.workload, len(self.x_host), []
        order = workloads.order(w, epoch, n)
        for start in range(0, n, w.batch):
            rows = order[start : start + w.batch] if w.shuffle else slice(start, start + w.batch)
            self.state, error = self.step(self.state, self.x_host[rows], self.y_host[rows])
            errors.append(error * len(self.y_host[rows]))
        return float(np.sum(jax.device_get(errors))) / n

    def predict(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(self.forward(self.state[0], x))

    def about(self) -> str:
        return f"JAX {jax.__version__}, {jax.devices()[0].device_kind}"


class Loop(Jitted):
    def __init__(self, workload: Any, x: np.ndarray, y: np.ndarray):
        super().__init__(workload, x, y)

        @partial(jax.jit, donate_argnums=0)
        def epoch(state: Any, order: Any) -> Any:
            def body(state: Any, rows: Any) -> Any:
                return step(workload, state, self.x[rows], self.y[rows])

            return lax.scan(body, state, order)

        self.epoch = epoch

    def round(self, epoch: int) -> float:
        w, n = self.workload, len(self.x_host)
        order = workloads.order(w, epoch, n)
        whole = n - n % w.batch
        self.state, errors = self.epoch(self.state, jnp.asarray(order[:whole].reshape(-1, w.batch)))
        total = float(errors.sum()) * w.batch
        if whole < n:
            rows = order[whole:]
            self.state, error = self.step(self.state, self.x_host[rows], self.y_host[rows])
            total += float(error) * len(rows)
        return total / n


def forward(workload: Any, parameters: Any, x: Any) -> Any:
    rest = iter(parameters)
    for name, *arguments in workload.parts:
        if name == "fc":
            W, B = next(rest)
            x = x @ W + B
        elif name == "conv":
            W, B = next(rest)
            x = (
                lax.conv_general_dilated(x, W, (1, 1), arguments[3].upper(), dimension_numbers=("NHWC", "HWIO", "NHWC"))
                + B
            )
        elif name == "flatten":
            x = x.reshape(x.shape[0], -1)
        elif name in ("maxpool", "avgpool"):
            window, add = (1, 2, 2, 1), name == "avgpool"
            start, join = (0.0, lax.add) if add else (-jnp.inf, lax.max)
            x = lax.reduce_window(x, start, join, window, window, "VALID") * (0.25 if add else 1.0)
        else:
            x = jnp.tanh(x) if name == "tanh" else jax.nn.relu(x)
    return x


def step(workload: Any, state: Any, x: Any, y: Any) -> Any:
    parameters, (first, second), k = state

    def error(parameters: Any) -> Any:
        out = forward(workload, parameters, x)
        if workload.loss == "mse":
            return jnp.mean((out - jax.nn.one_hot(y, 10)) ** 2)
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(out), y[:, None], 1))

    value, gradients = jax.value_and_grad(error)(parameters)
    kind, lr, *momentum = workload.optimizer
    k = k + 1
    if kind == "adam":
        first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, gradients)
        second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, second, gradients)
        rate, root = lr / (1 - 0.9**k), 1 / jnp.sqrt(1 - 0.999**k)
        parameters = jax.tree.map(lambda p, m, v: p - rate * m / (jnp.sqrt(v) * root + 1e-8), parameters, first, second)
    else:
        first = jax.tree.map(lambda v, g: momentum[0] * v + g, first, gradients)
        parameters = jax.tree.map(lambda p, v: p - lr * v, parameters, first)
    return (parameters, (first, second), k), value

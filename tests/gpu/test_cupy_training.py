"""Validation, weights, metrics, data in chunks and callbacks on the GPU: as on the CPU, in captured steps."""

import numpy as np
import pytest

import portnn
from portnn import ActivationLayer, Adam, EarlyStopping, FCLayer, Network, ReduceLROnPlateau, sources
from portnn_cupy.graph import EagerStepWarning

pytestmark = pytest.mark.gpu
RNG = np.random.default_rng(0)
X, Y, W = RNG.standard_normal((44, 4)), RNG.integers(0, 3, 44), RNG.random(44)
EPOCHS, STEPS = 5, 6  # batches of 8, the last of 4


def network(backend):
    net = Network([FCLayer(4, 8), ActivationLayer("tanh"), FCLayer(8, 3)], backend=backend, seed=1, dtype="float64")
    net.use("softmax_cross_entropy", optimizer=Adam(0.05), metrics=["accuracy", "f1", "top_2"])
    return net


class Rows:
    """Stands for an array in a file."""

    def __init__(self, array):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype

    def __getitem__(self, some):
        return self.array[some]

    def __len__(self):
        return len(self.array)


def batches():
    for start in range(0, 44, 8):
        some = slice(start, start + 8)
        yield X[some], Y[some], W[some]


CASES = {
    "weights": dict(x=X, y=Y, sample_weight=W, class_weight="balanced", batch_size=8, shuffle=True),
    "rows": dict(x=Rows(X), y=Y, sample_weight=W, batch_size=8, shuffle=True),
    "batches": dict(x=batches),
}


@pytest.mark.parametrize("case", CASES)
def test_data_metrics_and_callbacks_as_on_the_cpu(case, backend, launches, monkeypatch):
    monkeypatch.setattr(sources, "CHUNK", 4 * 8 * 8 * 2)  # two batches per chunk, three chunks per epoch
    gpu, cpu = network(backend), network("cpu")
    for net in (gpu, cpu):
        callbacks = [EarlyStopping(patience=3), ReduceLROnPlateau("error", patience=1, factor=0.5)]
        net.fit(epochs=EPOCHS, validation_data=(X, Y, W), callbacks=callbacks, verbose=0, **CASES[case])
    assert list(gpu.history) == list(cpu.history)
    for name, values in cpu.history.items():
        assert np.allclose(gpu.history[name], values, rtol=1e-9, atol=0), name
    for path, array in cpu.parameters.items():
        assert np.allclose(backend.to_numpy(gpu.parameters[path]), array, rtol=1e-7, atol=1e-10), path
    steps = STEPS * len(cpu.history["error"])
    assert len(launches) == steps - 4  # for each of the two batch sizes, two steps run eagerly


def test_gradients_for_a_callback_make_steps_eager(backend, launches):
    class Norm(portnn.Callback):
        reads_gradients = True
        seen = 0

        def on_step_end(self, network, step):
            assert backend.to_numpy(network.gradients["0.weights"]).any()
            self.seen += 1

    norm, net = Norm(), network(backend)
    with pytest.warns(EagerStepWarning, match="a callback reads the gradients of each step"):
        net.fit(X, Y, epochs=2, batch_size=8, callbacks=[norm], verbose=0)
    assert (norm.seen, len(launches)) == (12, 0)

"""What callbacks must not do within a fit, and what is wrong with their files, is said at once and by name."""

import numpy as np
import pytest

from portnn import SGD, Callback, Checkpoint, FCLayer, Network, SequentialLayer


def network(*layers):
    net = Network([*layers, SequentialLayer(FCLayer(3, 3)), FCLayer(3, 3)], seed=1)
    net.use("mse", optimizer=SGD(0.01, momentum=0.9))
    return net


def fit(net, *calls, epochs=3, **options):
    x = np.random.default_rng(0).standard_normal((12, 3))
    return net.fit(x, x, epochs=epochs, batch_size=4, callbacks=calls, verbose=0, **options)


# -- layers ----------------------------------------------------------------------------------------------------------------

CHANGES = {
    "appended": lambda net: net.layers.append(FCLayer(3, 3)),
    "replaced": lambda net: net.layers.__setitem__(1, FCLayer(3, 3)),
    "removed": lambda net: net.layers.pop(),
    "none left": lambda net: net.layers.clear(),
    "inside": lambda net: net.layers[0].layers.__setitem__(0, FCLayer(3, 3)),
    "another list": lambda net: setattr(net, "layers", [FCLayer(3, 3)]),
    "no list": lambda net: setattr(net, "layers", None),
}


@pytest.mark.parametrize("change", list(CHANGES))
@pytest.mark.parametrize(
    ("hook", "steps"), [("on_fit_begin", 0), ("on_epoch_begin", 0), ("on_step_end", 1), ("on_epoch_end", 3)]
)
def test_layers_that_a_callback_changes(hook, steps, change, tmp_path):
    def act(self, network, *given):
        CHANGES[change](network)

    calls, net = type("Changes", (Callback,), {hook: act}), network()
    if change == "inside":
        net.layers[0].layers = list(net.layers[0].layers)
        net._arrange()
    with pytest.raises(RuntimeError, match="the layers were changed within fit: change them before, or after"):
        fit(net, calls(), Checkpoint(tmp_path / "run"))
    assert net.step == steps
    assert not (tmp_path / "run").exists()

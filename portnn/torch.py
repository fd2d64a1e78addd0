"""Weights to and from PyTorch, which need not be installed.

The names are those of an ``nn.Sequential`` that has a module for each layer: ``0.weight``, ``1.running_mean``.
``docs/howto/pytorch_weights.md`` shows both ways.
"""

from typing import Any

import numpy as np

from portnn.exchange import torch_weights

__all__ = ["load_state_dict", "state_dict"]


def load_state_dict(network: Any, weights: Any, *, input_shape: tuple[int, ...] | None = None) -> None:
    """Gives a network the weights of a PyTorch module, from a safetensors file or a dict of arrays.

    ``weights`` is the path of a file that ``safetensors.torch.save_file(model.state_dict(), path)`` wrote, or a dict of
    arrays by name, such as ``model.state_dict()`` itself: NumPy arrays, or tensors and arrays of other libraries on the
    host or the network's device. Layouts are turned: (out, in) of a linear module, (F, C, h, w) of a convolution, and
    the order of channels after a Flatten. All are cast to the network's dtype; bfloat16 and float16 are taken, too.
    Running means and variances of batch normalization are taken with the weights; optimizer and counters stay as they
    are, and frozen layers are set as well.

    Arrays are found by name, as ``state_dict`` has them, with or without ``module.`` and ``_orig_mod.`` in front of
    all, from DataParallel and ``torch.compile``. Where the names are others, as in a module with names of its own, they
    are found by order and shape: a dict's own order; in a file, which is sorted by name, by shape and, where several
    have one shape, by the numbers in the names, by which modules are within one another, and by which one is called
    ``downsample``, ``shortcut``, ``skip`` or ``identity``, for a branch. If that does not tell, the error shows pairs.

    The order after a Flatten depends on the shape of what it takes. Where the layers do not say it, ``input_shape`` is
    the shape of one sample, (H, W, C), or that of the samples last predicted.

    Raises ValueError (FileError, for a file) that lists everything missing, misshapen, with both shapes, and too much,
    and for pickled files (``.pt``, ``.pth``), which are not read; TypeError for anything but a path or a dict, and for
    arrays on another device; RuntimeError within a fit; OSError if there is no such file. Nothing is changed then.

    >>> import numpy as np
    >>> from portnn import FCLayer, Network
    >>> net = Network([FCLayer(2, 1)])
    >>> load_state_dict(net, {"0.weight": np.array([[1.0, 2.0]]), "0.bias": np.array([0.5])})
    >>> net.predict([[3.0, 4.0]])
    array([[11.5]], dtype=float32)
    """
    torch_weights.load_state_dict(network, weights, input_shape=input_shape)


def state_dict(network: Any, *, input_shape: tuple[int, ...] | None = None) -> dict[str, np.ndarray]:
    """Returns a network's weights as NumPy arrays, copies, under PyTorch's names, in its layouts and order.

    The names are those of an ``nn.Sequential`` with one module for each layer, activations and others without weights
    counted: ``0.weight``, ``2.bias``. Layers in others have their path, ``3.0.weight``, as in modules that hold
    theirs in an ``nn.Sequential``. PyTorch takes them once each is a tensor, ``torch.from_numpy(array)``, by
    ``model.load_state_dict(tensors)``; without it, ``safetensors.numpy.save_file(state_dict(net), path)`` writes a
    file. Parameters of layers of your own keep their names and layouts.

    ``input_shape`` is as in ``load_state_dict``. Raises ValueError where the order after a Flatten is not known, or
    does not exist, and for layers written as in the article; RuntimeError for parameters that do not exist yet.

    >>> from portnn import FCLayer, Network
    >>> {name: array.shape for name, array in state_dict(Network([FCLayer(2, 3)])).items()}
    {'0.weight': (3, 2), '0.bias': (3,)}
    """
    return torch_weights.state_dict(network, input_shape=input_shape)

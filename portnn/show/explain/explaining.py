"""The page: the sample, forward, the error, backward and the update, layer by layer."""

from collections.abc import Callable
from typing import Any

from portnn import layers
from portnn.show.explain import losses, norms, resampling, simple, windows
from portnn.show.explain.cells import MOST_PICTURES, described, pictures, pictures_of_sample
from portnn.show.explain.page import Explanation, Page, Pictures, Row, Section
from portnn.show.explain.trace import Pass, Trace, trace
from portnn.show.explain.update import Update

Show = Callable[[Pass, Section], None]

# How a layer of exactly this class is shown: forward, backward. All others are shown by their numbers alone.
SHELF: dict[type, tuple[Show, Show]] = {
    layers.FCLayer: (simple.fc_forward, simple.fc_backward),
    layers.ConvLayer: (windows.conv_forward, windows.conv_backward),
    layers.ActivationLayer: (simple.activation_forward, simple.activation_backward),
    layers.FlattenLayer: (simple.reshape_forward, simple.reshape_backward),
    layers.ReshapeLayer: (simple.reshape_forward, simple.reshape_backward),
    layers.ScaleLayer: (simple.scale_forward, simple.scale_backward),
    layers.RandomAffineLayer: (resampling.affine_forward, resampling.affine_backward),
    layers.DropoutLayer: (simple.dropout_forward, simple.dropout_backward),
    layers.MaxPoolLayer: (windows.max_pool_forward, windows.max_pool_backward),
    layers.AvgPoolLayer: (windows.avg_pool_forward, windows.avg_pool_backward),
    layers.GlobalMaxPoolLayer: (windows.global_max_forward, windows.global_max_backward),
    layers.GlobalAvgPoolLayer: (windows.global_avg_forward, windows.global_avg_backward),
    layers.UpsampleLayer: (windows.upsample_forward, windows.upsample_backward),
    layers.SoftmaxLayer: (norms.softmax_forward, norms.softmax_backward),
    layers.BatchNormLayer: (norms.norm_forward, norms.norm_backward),
    layers.LayerNormLayer: (norms.norm_forward, norms.norm_backward),
    layers.GroupNormLayer: (norms.norm_forward, norms.norm_backward),
    layers.SequentialLayer: (simple.sequential_forward, simple.sequential_backward),
    layers.ResidualLayer: (simple.residual_forward, simple.residual_backward),
    layers.ParallelLayer: (simple.parallel_forward, simple.parallel_backward),
}
PICTURES = 80  # of a page
OTHER = (simple.other_forward, simple.other_backward)


def explain(network: Any, x: Any, y: Any) -> Explanation:
    """Explains the next step on one sample; ``network`` is a copy, which is used up."""
    traced = trace(network, x, y)
    update = Update(traced)
    sample = Section("The sample", "sample")
    sample.note(f"X, the input: {described(traced.passes[0].X)}.")
    _draw(sample, "X", pictures_of_sample(traced.passes[0].X))
    forward = Section("Forward", "forward")
    forward.note("Each layer computes its output Y from its input X, which is Y of the layer before.")
    drawn = [at for at in traced.walk() if at.Y is not None and pictures(at.Y)]
    most = max(1, min(MOST_PICTURES, PICTURES // max(1, len(drawn))))
    forward.sections = [_section(at, "forward", most) for at in traced.passes]
    error = Section("The error", "error")
    losses.show_error(traced, error)
    backward = Section("Backward", "backward")
    backward.note("It begins with dE/dY of the last layer: how the error changes with each output.")
    losses.show_derivative(traced, backward)
    backward.note(
        "Then each layer, from the last to the first, computes dE/dX from its dE/dY, and dE/dW and dE/dB on the way. "
        "Its dE/dX is dE/dY of the layer before."
    )
    backward.sections = [_section(at, "backward") for at in reversed(traced.passes)]
    changes = Section("The update", "update")
    changes.note("Each parameter moves against its gradient, so that the error becomes smaller.")
    update.common(changes)
    changes.sections = [_updated(at, update) for at in traced.walk() if _learns(at)]
    rows = [_row(at) for at in traced.walk()]
    return Explanation(Page(_title(traced), _intro(traced), rows, [sample, forward, error, backward, changes]))


def _title(traced: Trace) -> str:
    return f"One step of a network of {len(traced.passes)} layer{'s' * (len(traced.passes) > 1)}, in numbers"


def _intro(traced: Trace) -> list[str]:
    return [
        "How one sample goes through the network, how the error comes back, and what changes. The letters are those "
        "of Omar Aflak's article 'Neural Network from scratch in Python': X and Y are a layer's input and output, W "
        "and B its weights and bias, E the error, and dE/dX, dE/dY, dE/dW and dE/dB its derivatives.",
        f"All numbers are the network's own ({traced.network.dtype}, backend {traced.network.backend.name!r}), "
        "rounded, and each equation holds for the numbers as they are printed. Large arrays are shown by some of their "
        "cells, long sums by their largest terms. The network itself has not been changed.",
        f"It is the step that fit would make next, after {traced.step} update{'s' * (traced.step != 1)}.",
    ]


def _section(at: Pass, way: str, most: int = 0) -> Section:
    """A layer on its way forward, with at most ``most`` pictures of Y, or backward; with the layers inside."""
    section = Section(_name(at), f"{way}-{at.path}")
    if way == "backward" and (at.D is None or at.input_error is None):  # in a user's layer, which does not need it
        section.note("The layer around this one has not asked for its dE/dX.")
        return section
    if way == "forward":
        section.note(f"X: {described(at.X)}. Y: {described(at.Y)}.")
        if not at.children:
            _draw(section, "Y", pictures(at.Y, most))
    else:
        section.note(f"dE/dY: {described(at.D)}. dE/dX: {described(at.input_error)}.")
    if at.frozen and at.parameters and not at.made_alone and way == "backward":
        section.note("The layer is frozen (trainable=False): it has no dE/dW and no dE/dB.")
    show = SHELF.get(type(at.layer), OTHER) if not {"forward", "backward"} & vars(at.layer).keys() else OTHER
    show[0 if way == "forward" else 1](at, section)
    children = at.children if way == "forward" else at.children[::-1]
    section.sections = [_section(child, way, most) for child in children if child.X is not None]
    return section


def _draw(section: Section, name: str, images: list[Any]) -> None:
    if images:
        of = f"channels 0 to {len(images) - 1} of {name}, each" if len(images) > 1 else f"{name}, drawn"
        section.blocks.append(Pictures(of, images))


def _updated(at: Pass, update: Update) -> Section:
    section = Section(_name(at), f"update-{at.path}")
    update.of_layer(at, section)
    return section


def _name(at: Pass) -> str:
    layer = at.layer
    shown = type(layer).__name__ if layer.layers and not layer.updates_itself else repr(layer)
    return f"{at.path} {' '.join(shown.split()):.70}"


def _learns(at: Pass) -> bool:
    return bool(at.parameters)


def _row(at: Pass) -> Row:
    ways = ["forward", "backward", *(["update"] if _learns(at) else [])]
    shape = "" if at.Y is None else str(at.Y.shape)
    return Row(_name(at), at.path.count("."), shape, {way: f"{way}-{at.path}" for way in ways})

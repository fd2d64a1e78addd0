"""The source of a network in Keras 3, whose layouts are ours: images have their channels last."""

from typing import Any

from portnn._typing import Shape
from portnn.exchange import counterparts
from portnn.exchange.counterparts import Windows, shown
from portnn.exchange.source import parts

FUNCTIONS = {
    name: f'layers.Activation("{name}"@)'
    for name in ("tanh", "sigmoid", "relu", "elu", "selu", "gelu", "silu", "softplus", "softsign", "hard_sigmoid")
}
FUNCTIONS |= {"leaky_relu": "layers.LeakyReLU(0.01@)", "gelu_tanh": "layers.Activation(gelu_tanh@)"}
WEIGHTS = {
    "FCLayer": ("weights", "bias"),
    "ConvLayer": ("weights", "bias"),
    "BatchNormLayer": ("weights", "bias", "running_mean", "running_var"),
    "LayerNormLayer": ("weights", "bias"),
    "GroupNormLayer": ("weights", "bias"),
}


def source(network: Any) -> str:
    """The text: a function that makes the network, one that loads its weights, the loss, the layers that these use."""
    parts.check(network, "Keras", {*LAYERS, "SequentialLayer", "ResidualLayer", "ParallelLayer"})
    shape = counterparts.shape_of_samples(network)
    writer = Writer()
    output = writer.chain(network.layers, shape)
    body = "\n".join(f"    {line}" for line in writer.lines)
    wide = WIDE if network.dtype == "float64" else ""
    build = (
        f'def build():\n    """The network, with new weights."""\n{wide}'
        f"    x = inputs = keras.Input({shown(shape)})\n{body}\n    return keras.Model(inputs, x)"
    )
    table = "\n".join(f'    "{name}": [{", ".join(paths)}],' for name, paths in writer.weights.items())
    weights = (
        f"# For each layer its weights in the order of Keras, by their names in portnn.\nWEIGHTS = {{\n{table}\n}}"
    )
    head = HEAD.replace("@made@", counterparts.how_it_was_made('network.to_source("keras")')).replace(
        "@shapes@", f"A sample x is {shown(shape)}, its result {shown(output)}, as in portnn, in {network.dtype}."
    )
    loss = _loss(network)
    own = parts.used(OWN, f"{build} {loss}")
    text = "\n\n\n".join([head, *own, build, weights if table else "WEIGHTS = {}", LOAD, *([loss] if loss else [])])
    return text + "\n"


WIDE = """    # JAX needs the environment variable JAX_ENABLE_X64=1 too. Except on TensorFlow, Keras computes tanh,
    # means and normalization in float32 nevertheless.
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")  # floatx alone changes nothing once a layer was made
"""

HEAD = '''"""A neural network in Keras 3.

@made@
@shapes@
Its weights: in portnn,

    network.save("net.portnn.safetensors")

and here

    model = build()
    load_weights(model, "net.portnn.safetensors")
"""

import keras
from keras import layers'''

LOAD = '''def load_weights(model, file):
    """Takes the weights from the file that network.save has written."""
    from safetensors.numpy import load_file

    arrays = {name.partition("/")[2]: array for name, array in load_file(file).items() if name.count("/") == 1}
    for name, paths in WEIGHTS.items():
        layer = model.get_layer(name)
        layer.set_weights([arrays[path].reshape(w.shape) for path, w in zip(paths, layer.weights)])'''

OWN = {
    "gelu_tanh": """
def gelu_tanh(x):
    return keras.activations.gelu(x, approximate=True)
""",
    "Every": '''
class Every(layers.Layer):
    """Every so many pixels of each axis: Keras has no convolution with both stride and dilation."""

    def __init__(self, *strides, **options):
        super().__init__(**options)
        self.strides = strides

    def call(self, x):
        return x[(slice(None), *(slice(None, None, stride) for stride in self.strides))]
''',
    "Padded": '''
class Padded(layers.Layer):
    """Pixels of a value around each image, (before, after) on each axis."""

    def __init__(self, *padding, value=0.0, **options):
        super().__init__(**options)
        self.padding, self.value = padding, value

    def call(self, x):
        return keras.ops.pad(x, ((0, 0), *self.padding, (0, 0)), constant_values=self.value)
''',
    "PaddedMean": '''
class PaddedMean(layers.Layer):
    """The mean of each window, of the pixels that are not padding, (before, after) on each axis."""

    def __init__(self, window, strides, padding, **options):
        super().__init__(**options)
        self.window, self.strides, self.padding = window, strides, padding

    def call(self, x):
        around = ((0, 0), *self.padding, (0, 0))

        def means(values):
            return keras.ops.average_pool(keras.ops.pad(values, around), self.window, self.strides, "valid")

        return means(x) / means(keras.ops.ones_like(x))
''',
    "RandomAffine": '''
class RandomAffine(layers.Layer):
    """In training, rotates (by degrees), scales and moves each image at random, with other numbers than in portnn."""

    def __init__(self, shift, rotate, scale, **options):
        super().__init__(**options)
        self.shift, self.rotate, self.scale = shift, rotate, scale

    def build(self, shape):
        _, height, width, _ = shape
        self.steps = [
            layers.RandomRotation(self.rotate / 360, "constant"),
            layers.RandomZoom(self.scale, fill_mode="constant"),
            layers.RandomTranslation(min(1.0, self.shift / height), min(1.0, self.shift / width), "constant"),
        ]

    def call(self, x, training=False):
        for step in self.steps if training else []:
            x = step(x, training=True)
        return x
''',
}


class Writer:
    """Writes the lines of ``build``, a layer at a time: ``x`` holds the values before and after each."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.weights: dict[str, list[str]] = {}

    def chain(self, chain: Any, shape: Shape) -> Shape:
        """Lines for layers in order; returns the shape of one sample after the last."""
        for layer in chain:
            shape = self.layer(layer, shape)
        return shape

    def layer(self, layer: Any, shape: Shape) -> Shape:
        name, after = type(layer).__name__, counterparts.shape_after(layer, shape)
        self.lines.append(parts.about(layer, shape, after))
        if name == "SequentialLayer":
            self.chain(layer.layers, shape)
        elif name == "ResidualLayer":
            self._residual(layer, shape)
        elif name == "ParallelLayer":
            self._parallel(layer, shape)
        else:
            called = f"layer_{layer.path.replace('.', '_')}"
            for call in LAYERS[name](layer, shape):
                named = call.replace("@", f', name="{called}"').replace("(, ", "(")
                self.lines.append(f"x = {named}(x)")
            names = [each for each in WEIGHTS.get(name, ()) if each in layer.parameters or each in layer.buffers]
            if names:
                self.weights[called] = [f'"{layer.path}.{each}"' for each in names]
        return after

    def _residual(self, layer: Any, shape: Shape) -> None:
        kept = f"x_{layer.path.replace('.', '_')}"
        self.lines.append(f"{kept} = x")
        self.chain(layer.layers, shape)
        self.lines.append(f"x = layers.Add()([{kept}, x])")

    def _parallel(self, layer: Any, shape: Shape) -> None:
        kept, ends = f"x_{layer.path.replace('.', '_')}", []
        self.lines.append(f"{kept} = x")
        for i, branch in enumerate(layer.layers):
            if i:
                self.lines.append(f"x = {kept}")
            self.layer(branch, shape)
            ends.append(f"y_{branch.path.replace('.', '_')}")
            self.lines.append(f"{ends[-1]} = x")
        if len(ends) > 1:
            merge = "layers.Add()" if layer.merge == "add" else "layers.Concatenate()"
            self.lines.append(f"x = {merge}([{', '.join(ends)}])")


# -- for each kind of layer the calls, in order; @ stands for the name of the one that has its weights -----------------


def _fully_connected(layer: Any, shape: Shape) -> list[str]:
    bias = "" if "bias" in layer.parameters else ", use_bias=False"
    return [f"layers.Dense({layer.output_size}{bias}@)"]


def _convolution(layer: Any, shape: Shape) -> list[str]:
    axes = len(layer.kernel_shape)
    plan = counterparts.convolution(layer).along(axes)
    both = set(plan.stride) != {1} and set(plan.dilation) != {1}
    around, same = _padding(plan)
    options = 'padding="same"' if same and not both else ""
    given = [
        options,
        f"strides={parts.one(plan.stride)}" if set(plan.stride) != {1} and not both else "",
        f"dilation_rate={parts.one(plan.dilation)}" if set(plan.dilation) != {1} else "",
        f"groups={layer.groups}" if layer.groups != 1 else "",
        "" if "bias" in layer.parameters else "use_bias=False",
    ]
    shown_options = "".join(f", {each}" for each in given if each)
    call = f"layers.Conv{axes}D({layer.layer_depth}, {parts.one(plan.window)}{shown_options}@)"
    strided = [f"Every({', '.join(map(str, plan.stride))})"] if both else []
    padded = [f"Padded({around})"] if around and not (same and not both) else []
    return [*padded, call, *strided]


def _padding(plan: Windows) -> tuple[str, bool]:
    """Padding as arguments, and whether it is Keras' "same"; an empty text for none."""
    same = []
    for n, k, s, d in zip(plan.image, plan.window, plan.stride, plan.dilation, strict=True):
        missing = max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
        same.append((missing // 2, missing - missing // 2))
    if not any(map(any, plan.padding)):
        return "", False
    return ", ".join(map(str, plan.padding)), tuple(same) == plan.padding


def _max_pool(layer: Any, shape: Shape) -> list[str]:
    axes, plan = parts.check_axes(layer, shape, "Keras"), counterparts.pooling(layer, shape)
    around, same = _padding(plan)
    sizes = f"{parts.one(plan.window)}, {parts.one(plan.stride)}" + (', padding="same"' if same else "")
    call = f"layers.MaxPooling{axes}D({sizes}@)"
    return [f'Padded({around}, value=-float("inf"))', call] if around and not same else [call]


def _avg_pool(layer: Any, shape: Shape) -> list[str]:
    axes, plan = parts.check_axes(layer, shape, "Keras"), counterparts.pooling(layer, shape)
    if any(map(any, plan.padding)):
        return [f"PaddedMean({plan.window}, {plan.stride}, {plan.padding}@)"]
    return [f"layers.AveragePooling{axes}D({parts.one(plan.window)}, {parts.one(plan.stride)}@)"]


def _global(kind: str) -> Any:
    return lambda layer, shape: [f"layers.Global{kind}Pooling{parts.check_axes(layer, shape, 'Keras')}D(@)"]


def _upsample(layer: Any, shape: Shape) -> list[str]:
    axes = parts.check_axes(layer, shape, "Keras")
    factors = layer.factors(axes)
    return [f"layers.UpSampling{axes}D({factors[0] if axes == 1 else factors}@)"]


def _random_affine(layer: Any, shape: Shape) -> list[str]:
    return [f"RandomAffine({layer.shift!r}, {layer.rotate!r}, {layer.scale!r}@)"]


def _batch_norm(layer: Any, shape: Shape) -> list[str]:
    momentum = 1.0 - layer.momentum
    return [f"layers.BatchNormalization(momentum={momentum!r}, epsilon={float(layer.epsilon)!r}@)"]


LAYERS: dict[str, Any] = {
    "FCLayer": _fully_connected,
    "ConvLayer": _convolution,
    "ActivationLayer": lambda layer, shape: [FUNCTIONS[counterparts.activation_name(layer) or ""]],
    "FlattenLayer": lambda layer, shape: ["layers.Flatten(@)"],
    "ReshapeLayer": lambda layer, shape: [f"layers.Reshape({shown(layer.shape)}@)"],
    "ScaleLayer": lambda layer, shape: [f"layers.Rescaling({float(layer.factor)!r}, {float(layer.offset)!r}@)"],
    "MaxPoolLayer": _max_pool,
    "AvgPoolLayer": _avg_pool,
    "GlobalMaxPoolLayer": _global("Max"),
    "GlobalAvgPoolLayer": _global("Average"),
    "UpsampleLayer": _upsample,
    "DropoutLayer": lambda layer, shape: [f"layers.Dropout({float(layer.rate)!r}@)"],
    "RandomAffineLayer": _random_affine,
    "BatchNormLayer": _batch_norm,
    "LayerNormLayer": lambda layer, shape: [f"layers.LayerNormalization(epsilon={float(layer.epsilon)!r}@)"],
    "GroupNormLayer": lambda layer, shape: [
        f"layers.GroupNormalization({layer.groups}, epsilon={float(layer.epsilon)!r}@)"
    ],
    "SoftmaxLayer": lambda layer, shape: ["layers.Softmax(@)"],
}


def _loss(network: Any) -> str:
    """The loss, for ``model.compile``; nothing for a network without one."""
    name = None if network.loss is None else parts.loss_name(network)
    if name is None:
        return ""
    smoothing = f", label_smoothing={network.loss.label_smoothing!r}" if name == "SoftmaxCrossEntropy" else ""
    kinds = {
        "mse": "MeanSquaredError()",
        "mae": "MeanAbsoluteError()",
        "Huber": f"Huber({getattr(network.loss, 'delta', 1.0)!r})",
        "binary_cross_entropy": "BinaryCrossentropy(from_logits=True)",
        "hinge": "Hinge()",
        "softmax_cross_entropy": "SparseCategoricalCrossentropy(from_logits=True)  # of class numbers",
        "SoftmaxCrossEntropy": f"CategoricalCrossentropy(from_logits=True{smoothing})  # of one-hot rows",
    }
    return f"# For model.compile.\nloss = keras.losses.{kinds[name]}"

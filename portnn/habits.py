"""What those who come from Keras, PyTorch or scikit-learn write out of habit, and what to write here instead.

Nothing here is an alias: each table leads from a name that others use to ours, which an error then tells, or to a piece
of advice where no single name corresponds. Names of losses, metrics and so on are in ``names.py``.
"""

import sys
from collections.abc import Callable, Iterable, Mapping
from functools import cache, wraps
from inspect import Parameter
from typing import Any, TypeVar

from portnn import names
from portnn.checks import signature_of

Function = TypeVar("Function", bound=Callable[..., Any])
Answers = dict[str, str]

# -- arguments ---------------------------------------------------------------------------------------------------------

_PRINTS_NOTHING = {"verbose": "it prints nothing; leave it out", "verbosity": "it prints nothing; leave it out"}
_RATE = dict.fromkeys(("lr", "learning_rate_init", "eta0", "initial_learning_rate"), "learning_rate")
_SAMPLES = {"X": "x", "inputs": "x", "data": "x"}
_DATA = {**_SAMPLES, "Y": "y", "target": "y", "targets": "y", "labels": "y"}
_ALL_OF_IT = dict.fromkeys(("steps", "workers", "callbacks"), "it takes all samples at once; leave it out")
_OUTPUTS = {**_SAMPLES, **_PRINTS_NOTHING, **_ALL_OF_IT}
_BY_USE = "net.use(loss, optimizer=..., metrics=[...]) sets it"
_BY_OPTIMIZER = "it belongs to the optimizer: net.use(loss, optimizer=Adam(0.001, weight_decay=0.01, clip_norm=1.0))"
_SEED = "the seed is the network's, Network(layers, seed=1)"
_TO = 'net.to("gpu") moves the network, as does net.to("cpu")'
_READS_AHEAD = "data that are read in chunks are read ahead in any case; leave it out"
_MONITOR = {**_PRINTS_NOTHING, "metric": "monitor", "baseline": "there is none; leave it out"}
_SET_AFTERWARDS = {
    "mode": 'set it afterwards, callback.mode = "max"; "auto" knows the metrics of portnn',
    **dict.fromkeys(("min_delta", "threshold", "tol"), "set it afterwards, callback.min_delta = 0.001"),
}
_LOGGER = {
    "append": "a new fit starts the file afresh, one with resume=path goes on in it",
    "separator": "there is one format only; leave it out",
    "filename": "path",
    "filepath": "path",
}
_SCALED_AND_SHIFTED = dict.fromkeys(
    ("center", "scale", "affine", "elementwise_affine"), "it scales and shifts in any case; leave it out"
)
_ALL_MEANS = {
    "from_logits": "y_pred are logits in any case; leave it out",
    "reduction": "it is the mean over the batch; leave it out",
    "name": "a loss has no name; leave it out",
}
_FILE = {
    "filepath": "path",
    "filename": "path",
    "file": "path",
    "overwrite": "a file that exists is replaced; leave it out",
    "save_format": "there is one format, safetensors; leave it out",
    "include_optimizer": "the optimizer is in the file too; leave it out",
    "compile": "loss, optimizer and metrics are in the file; leave it out",
    "weights_only": "nothing in a file is executed; leave it out",
    "strict": "all paths and shapes must fit; leave it out",
    "by_name": "weights are found by their paths; leave it out",
}

# By method, or by class; a class has the answers of its bases too.
ARGUMENTS: dict[str, Answers] = {
    "NetworkEstimator": {
        **dict.fromkeys(("hidden_layer_sizes", "hidden_layers", "hidden_sizes", "layers"), "hidden"),
        **dict.fromkeys(("max_iter", "n_epochs", "max_epochs", "n_iter"), "epochs"),
        **dict.fromkeys(("learning_rate_init", "lr"), "learning_rate"),
        **dict.fromkeys(("n_iter_no_change", "early_stopping_patience"), "patience"),
        **dict.fromkeys(("validation_split", "val_fraction"), "validation_fraction"),
        **dict.fromkeys(("model", "module", "network", "build_fn", "build_model"), "build"),
        **dict.fromkeys(("seed", "random_seed"), "random_state"),
        **dict.fromkeys(("momentum", "nesterovs_momentum"), "write optimizer=SGD(0.01, momentum=0.9, nesterov=True)"),
        **dict.fromkeys(("beta_1", "beta_2", "epsilon"), "write optimizer=Adam(0.001, beta1=0.9, beta2=0.999)"),
        "alpha": "weight_decay=0.0001 adds so much of each weight to its gradient, whatever the size of the batch",
        "early_stopping": "write validation_fraction=0.1, patience=10",
        "warm_start": "partial_fit trains on, for one epoch",
        "tol": "write patience=10: it counts the epochs without a smaller error",
        "solver": "optimizer",
        "device": "backend",
        "loss": "a classifier has softmax_cross_entropy and a regressor mse; leave it out",
    },
    "Network": {
        "device": "backend",
        "random_state": "seed",
        "input_shape": "it follows from the layers; leave it out",
        **dict.fromkeys(
            ("inputs", "outputs"), "a network is a list of layers: ParallelLayer and ResidualLayer have branches"
        ),
        "name": "a network has no name; leave it out",
        "lr": _BY_OPTIMIZER,
        "learning_rate": _BY_OPTIMIZER,
        **dict.fromkeys(("loss", "optimizer", "metrics"), _BY_USE),
    },
    "use": {
        "criterion": "loss",
        "loss_fn": "loss",
        "opt": "optimizer",
        "metric": "metrics",
        **dict.fromkeys(
            ("lr", "learning_rate", "learning_rate_init"), "write optimizer=Adam(0.001), or give it to fit"
        ),
        **dict.fromkeys(("weight_decay", "momentum", "clipnorm"), _BY_OPTIMIZER),
        "weighted_metrics": "metrics are weighted wherever fit and evaluate are given weights; leave it out",
        "loss_weights": "weights are given to fit: sample_weight, class_weight",
        "run_eagerly": 'write Network(layers, kernels="portable"), which runs without fast versions',
        "jit_compile": "fast versions are chosen in any case; leave it out",
    },
    "fit": {
        **_DATA,
        **_RATE,
        "validation_freq": "validation_frequency",
        "validation_steps": "all of validation_data is used; leave it out",
        "validation_batch_size": "validation chooses its batches itself; leave it out",
        "initial_epoch": "fit goes on from the weights as they are; an interrupted run goes on with resume=path",
        **dict.fromkeys(("workers", "num_workers", "use_multiprocessing", "max_queue_size"), _READS_AHEAD),
        **dict.fromkeys(("n_epochs", "num_epochs", "nb_epoch", "max_epochs", "max_iter", "n_iter", "epoch"), "epochs"),
        **dict.fromkeys(("loss", "optimizer", "metrics", "criterion"), _BY_USE),
        **dict.fromkeys(("momentum", "weight_decay", "alpha", "clipnorm", "gradient_clip_val"), _BY_OPTIMIZER),
        **dict.fromkeys(("random_state", "seed"), _SEED),
        **dict.fromkeys(("device", "accelerator"), _TO),
        **dict.fromkeys(("generator", "dataloader", "train_loader", "train_dataloaders"), "x"),
        **dict.fromkeys(("val_data", "validation", "eval_set", "val_loader", "val_dataloaders"), "validation_data"),
        **dict.fromkeys(("validation_fraction", "val_split"), "validation_split"),
        "early_stopping": "write callbacks=[EarlyStopping(patience=3)], with validation_split=0.2",
        "callback": "callbacks",
        "batch": "batch_size",
        "bs": "batch_size",
        "sample_weights": "sample_weight",
        "weights": "sample_weight",
        "class_weights": "class_weight",
        "limit_train_batches": "steps_per_epoch",
        "ckpt_path": "resume",
        "verbosity": "verbose",
        "progress_bar": "verbose",
    },
    "predict": _OUTPUTS,
    "predict_classes": _OUTPUTS,
    "predict_proba": _OUTPUTS,
    "evaluate": {
        **_OUTPUTS,
        **_DATA,
        "return_dict": "it always returns a dict; leave it out",
        "sample_weights": "sample_weight",
        "metrics": _BY_USE,
    },
    "summary": {
        "input_size": "input_shape",
        **dict.fromkeys(
            ("line_length", "positions", "print_fn", "expand_nested", "show_trainable"), "print it; leave it out"
        ),
    },
    "diagram": {"input_size": "input_shape"},
    "to": {"device": "backend"},
    "save": _FILE,
    "export": {
        **_FILE,
        "format": 'the ending says it: "net.onnx", "net.py", "net.c", "net.html"',
        **dict.fromkeys(
            ("opset", "opset_version"), "onnx.export(net, path, opset=18) takes it, from portnn import onnx"
        ),
    },
    "load": {**_FILE, "custom_objects": "layers", "map_location": "backend", "device": "backend"},
    "load_weights": _FILE,
    "to_categorical": {"y": "labels", "x": "labels", "num_classes": "classes", "n_classes": "classes"},
    "load_mnist": {"path": "folder", "root": "folder", "data_home": "folder", "download": "full"},
    "EarlyStopping": {
        **_MONITOR,
        **dict.fromkeys(("tol", "threshold"), "min_delta"),
        "n_iter_no_change": "patience",
        "restore_best_weights": "restore_best",
        "start_from_epoch": "there is none; give more patience",
        "check_on_train_epoch_end": "it watches at the end of each epoch; leave it out",
    },
    "ReduceLROnPlateau": {
        **_MONITOR,
        **_SET_AFTERWARDS,
        "verbose": "fit prints the learning rate of each epoch; leave it out",
        "min_lr": "least",
        "cooldown": "there is none; give more patience",
        "optimizer": "it changes the learning rate of the fit that it is given to; leave it out",
    },
    "Checkpoint": {
        **_MONITOR,
        **_SET_AFTERWARDS,
        "filepath": "path",
        "filename": "path",
        "dirpath": "path",
        "save_best_only": 'write monitor="val_error", which saves at each new best value only',
        "save_weights_only": "a file holds everything; net.load_weights(path) takes the weights alone",
        "save_freq": 'write every=1, or every=100, unit="step"',
        "period": "every",
        "every_n_epochs": "every",
        "save_top_k": "keep",
    },
    "CSVLogger": _LOGGER,
    "JSONLogger": _LOGGER,
    "TimeLimit": {
        "max_time": "seconds",
        "minutes": "write TimeLimit(60 * minutes)",
        "hours": "write TimeLimit(3600 * hours)",
    },
    "Optimizer": {
        **_RATE,
        "params": "an optimizer is given no parameters; leave it out",
        "l2": "weight_decay",
        "decay": "give a schedule as the learning rate, such as ExponentialDecay(0.01, 0.999)",
        **dict.fromkeys(("amsgrad", "use_ema", "loss_scale_factor"), "there is none; leave it out"),
        "betas": "write Adam(0.001, beta1=0.9, beta2=0.999)",
        "name": "an optimizer has no name; leave it out",
    },
    "RMSprop": {
        **dict.fromkeys(("rho", "alpha"), "decay"),
        **dict.fromkeys(("momentum", "centered", "epsilon", "eps"), "there is none; leave it out"),
    },
    "AdaGrad": dict.fromkeys(
        ("initial_accumulator_value", "epsilon", "eps", "lr_decay"), "there is none; leave it out"
    ),
    "SGD": {"dampening": "there is none; leave it out"},
    "Huber": _ALL_MEANS,
    "SoftmaxCrossEntropy": _ALL_MEANS,
    "StepDecay": {**_RATE, "step_size": "every", "gamma": "factor"},
    "ExponentialDecay": {
        **_RATE,
        "gamma": "factor",
        "decay_rate": "factor",
        "decay_steps": "the factor is that of one step: write decay_rate ** (1 / decay_steps)",
        "staircase": "write StepDecay(0.1, every=100, factor=0.9)",
    },
    "CosineDecay": {**_RATE, "decay_steps": "steps", "T_max": "steps"},
    "OneCycle": {"max_lr": "peak", "learning_rate": "peak", "total_steps": "steps"},
    "WarmUp": {"warmup_steps": "steps", "learning_rate": "schedule"},
    "Layer": {
        "activation": 'it is a layer of its own, ActivationLayer("relu"), after this one',
        "input_shape": "the shape that comes in follows from the layer before; leave it out",
        "name": "a layer goes by its place in the network; leave it out",
        "dtype": "it is the network's, Network(layers, dtype=...)",
        "trainable": "set it afterwards, layer.trainable = False",
        "use_bias": "bias",
        "kernel_initializer": "initializer",
        "weight_init": "initializer",
        **dict.fromkeys(
            ("kernel_regularizer", "bias_regularizer", "activity_regularizer"),
            "it belongs to the optimizer, Adam(0.001, weight_decay=0.01)",
        ),
        **dict.fromkeys(("kernel_constraint", "bias_constraint"), "there is none; leave it out"),
        "bias_initializer": "biases start at zero; leave it out",
        "data_format": "images have their channels last; leave it out",
        "eps": "epsilon",
        "seed": "it is the network's, Network(layers, seed=...)",
    },
    "FCLayer": {
        **dict.fromkeys(("in_features", "input_dim"), "input_size"),
        **dict.fromkeys(("out_features", "units"), "output_size"),
    },
    "ConvLayer": {
        "filters": "layer_depth",
        "out_channels": "layer_depth",
        "in_channels": "it is the last number of input_shape, (28, 28, 1)",
        "kernel_size": "kernel_shape",
        "strides": "stride",
        "dilation_rate": "dilation",
        "padding_mode": "it pads with zeros; leave it out",
    },
    "PoolLayer": {"pool_size": "window", "kernel_size": "window", "strides": "stride"},
    "UpsampleLayer": {
        "size": "factor",
        "scale_factor": "factor",
        **dict.fromkeys(("interpolation", "mode"), "it repeats pixels; leave it out"),
    },
    "DropoutLayer": {"p": "rate", "noise_shape": "each value is dropped for itself; leave it out"},
    "RandomAffineLayer": {
        "degrees": "rotate",
        **dict.fromkeys(("translate", "translation", "height_factor", "width_factor"), "shift"),
        "factor": "rotate in degrees, or scale",
        "shear": "it moves, rotates and scales only; leave it out",
    },
    "ScaleLayer": {"scale": "factor"},
    "ReshapeLayer": {"target_shape": "shape"},
    "BatchNormLayer": {
        "num_features": "it follows from the data; leave it out",
        "axis": "it is the last; leave it out",
        **_SCALED_AND_SHIFTED,
        "track_running_stats": "it does; leave it out",
    },
    "LayerNormLayer": {
        **_SCALED_AND_SHIFTED,
        "normalized_shape": "it is the last axis; leave it out",
        "axis": "it is the last; leave it out",
    },
    "GroupNormLayer": {
        **_SCALED_AND_SHIFTED,
        "num_groups": "groups",
        "num_channels": "it follows from the data; leave it out",
    },
}

# -- attributes of a network -------------------------------------------------------------------------------------------

_PARAMETERS = 'net.parameters has them by path, net.parameters["0.weights"]'
_SETS = "net.parameters.update({path: array}) sets them, net.load_weights(path) takes those of a file"
_LAYERS = "net.layers is a list, net.walk() goes through the layers inside layers too"
_SHAPES = "net.summary() has the shapes"
_BATCHES = "fit, evaluate and predict take iterables of batches"
_DTYPE = 'write Network(layers, dtype="float64"), or "float32"'

NETWORK: Answers = {
    "compile": "write net.use(loss, optimizer=..., metrics=[...])",
    "train": "write net.fit(x, y, epochs=10); there is no mode to set, fit trains and predict does not",
    "eval": "there is no mode to set, fit trains and predict does not",
    "forward": "write net.predict(x)",
    "call": "write net.predict(x)",
    "backward": "fit does it; layer.backward_propagation(output_error) is that of one layer",
    "zero_grad": "each step computes its gradients anew; leave it out",
    "score": 'write net.evaluate(x, y), which returns a dict, {"error": ..., "accuracy": ...}',
    "partial_fit": "write net.fit, which goes on from the weights as they are",
    "fit_transform": "write net.fit and then net.predict",
    "fit_predict": "write net.fit and then net.predict",
    "train_on_batch": "write net.fit(x, y, epochs=1, batch_size=len(x), verbose=0)",
    "train_step": "write net.fit(x, y, epochs=1, batch_size=len(x), verbose=0)",
    "training_step": "write net.fit(x, y, epochs=1, batch_size=len(x), verbose=0)",
    "test_on_batch": "write net.evaluate(x, y)",
    "test": "write net.evaluate(x, y)",
    "validate": "write net.evaluate(x, y), or give fit validation_data",
    "predict_on_batch": "write net.predict(x)",
    "predict_log_proba": "write log_softmax(net.predict(x))",
    **dict.fromkeys(("fit_generator", "evaluate_generator", "predict_generator"), _BATCHES),
    "save_weights": "write net.save(path), and later net.load_weights(path)",
    "save_model": "write net.save(path)",
    "load_model": "write portnn.load(path)",
    "to_onnx": "write net.export(path), with a path that ends with .onnx",
    **dict.fromkeys(("reset_states", "reset_metrics"), "each fit begins anew; leave it out"),
    **dict.fromkeys(("add_loss", "losses"), "write a loss of your own, net.use(loss, loss_prime)"),
    "load_state_dict": _SETS,
    "set_weights": _SETS,
    "state_dict": f"net.save(path) writes everything; {_PARAMETERS}",
    **dict.fromkeys(("get_weights", "weights", "trainable_weights", "variables", "trainable_variables"), _PARAMETERS),
    **dict.fromkeys(("named_parameters", "coefs_", "intercepts_"), _PARAMETERS),
    **dict.fromkeys(("modules", "children", "named_modules", "get_layer", "model"), _LAYERS),
    "append": "write net.add(layer)",
    "pop": "write net.layers.pop()",
    "insert": "write net.layers.insert(i, layer)",
    "build": "layers are built as they are added; leave it out",
    **dict.fromkeys(("count_params", "num_parameters"), 'write net.summary().total["parameters"]'),
    **dict.fromkeys(("input_shape", "output_shape", "inputs", "outputs"), _SHAPES),
    **dict.fromkeys(("cuda", "cpu", "gpu", "device"), _TO),
    **dict.fromkeys(("double", "float", "half"), _DTYPE),
    **dict.fromkeys(("freeze", "requires_grad_"), "freeze its layers, layer.trainable = False"),
    **dict.fromkeys(
        ("plot", "plot_model", "draw", "visualize"), "net.diagram() draws it; portnn.plot has other pictures"
    ),
    "metrics_names": "net.history has them as its keys",
    "loss_curve_": 'write net.history["error"]',
    "n_iter_": "write net.epoch",
    "classes_": "classes are numbers from 0 on: keep the names of yours beside the network",
    **dict.fromkeys(("to_json", "get_config"), "net.save(path) writes layers and weights to a file"),
}

# What somebody sets on a network, and where it belongs.
SETTINGS: Answers = {
    "learning_rate": "it belongs to the optimizer, net.optimizer.learning_rate, or to fit(..., learning_rate=...)",
    "lr": "it belongs to the optimizer, net.optimizer.learning_rate, or to fit(..., learning_rate=...)",
    "batch_size": "it is an argument of fit, predict and evaluate",
    "epochs": "it is an argument of fit",
    "verbose": "it is an argument of fit",
    "trainable": "freeze its layers, layer.trainable = False",
}

# -- names to import ---------------------------------------------------------------------------------------------------

_SCALING = (
    "subtract the mean and divide by the standard deviation of the samples, or begin the network with a ScaleLayer"
)
_BY_NAME = "it is an activation: ActivationLayer({0!r})"
_NO_TEXT = "portnn has no embeddings, no attention, and no recurrent layers"
_OPTIMIZERS = "the optimizers are SGD, AdaGrad, RMSprop, Adam and AdamW"
_LOADER = "fit takes arrays, or any iterable of batches (x, y)"
_FLAT = "all public names are in portnn itself"

EXPORTS: Answers = {
    **dict.fromkeys(("Sequential", "Model", "Functional", "NeuralNetwork"), "Network"),
    **{
        name + kind: f"Network{kind}, in portnn.sklearn, is an estimator for scikit-learn; a Network has fit, too"
        for name in ("MLP", "Network")
        for kind in ("Classifier", "Regressor")
    },
    "plot_model": "net.diagram() draws a network",
    "ConfusionMatrixDisplay": "plot.confusion(y_true, y_pred) draws it, from portnn import plot",
    "DecisionBoundaryDisplay": "plot.boundary(net, x, y) draws it, from portnn import plot",
    "Module": "derive a layer of your own from Layer; a Network runs layers in order",
    **dict.fromkeys(("Trainer", "LightningModule"), "a Network trains itself, net.fit(x, y, epochs=10)"),
    **dict.fromkeys(("Dense", "Linear", "DenseLayer", "LinearLayer", "Gemm", "MatMul"), "FCLayer"),
    **dict.fromkeys(("Conv1D", "Conv2D", "Conv1d", "Conv2d", "Convolution2D", "Conv2DLayer", "Conv"), "ConvLayer"),
    **dict.fromkeys(
        ("MaxPooling1D", "MaxPooling2D", "MaxPool1D", "MaxPool2D", "MaxPool1d", "MaxPool2d", "MaxPool"), "MaxPoolLayer"
    ),
    **dict.fromkeys(
        ("AveragePooling1D", "AveragePooling2D", "AvgPool1d", "AvgPool2d", "AvgPool", "AveragePool"), "AvgPoolLayer"
    ),
    **dict.fromkeys(
        ("GlobalAveragePooling1D", "GlobalAveragePooling2D", "AdaptiveAvgPool2d", "GlobalAveragePool"),
        "GlobalAvgPoolLayer",
    ),
    **dict.fromkeys(
        ("GlobalMaxPooling1D", "GlobalMaxPooling2D", "AdaptiveMaxPool2d", "GlobalMaxPool"), "GlobalMaxPoolLayer"
    ),
    **dict.fromkeys(
        ("InferenceSession", "load_onnx", "from_onnx"),
        "onnx.load(path) makes a network, from portnn import onnx",
    ),
    **dict.fromkeys(("to_onnx", "export_onnx"), 'write net.export("net.onnx")'),
    **dict.fromkeys(("Dropout", "SpatialDropout2D"), "DropoutLayer"),
    **dict.fromkeys(("RandomAffine", "RandomRotation", "RandomTranslation", "RandomZoom"), "RandomAffineLayer"),
    "Flatten": "FlattenLayer",
    "Reshape": "ReshapeLayer",
    **dict.fromkeys(("BatchNormalization", "BatchNorm", "BatchNorm1d", "BatchNorm2d"), "BatchNormLayer"),
    **dict.fromkeys(("LayerNormalization", "LayerNorm"), "LayerNormLayer"),
    **dict.fromkeys(("GroupNormalization", "GroupNorm"), "GroupNormLayer"),
    **dict.fromkeys(
        ("InstanceNormalization", "InstanceNorm", "InstanceNorm1d", "InstanceNorm2d"),
        "write GroupNormLayer(C) for C channels, each of which is a group",
    ),
    **dict.fromkeys(("UpSampling1D", "UpSampling2D", "Upsample", "Resize"), "UpsampleLayer"),
    "Rescaling": "ScaleLayer",
    "Activation": "ActivationLayer",
    "Softmax": "SoftmaxLayer",
    **{each: _BY_NAME.format(each.lower()) for each in ("ReLU", "Tanh", "Sigmoid", "ELU", "SELU", "GELU", "SiLU")},
    "LeakyReLU": _BY_NAME.format("leaky_relu"),
    **dict.fromkeys(("DepthwiseConv1D", "DepthwiseConv2D"), "write ConvLayer(..., groups=C), C the number of channels"),
    **dict.fromkeys(
        ("SeparableConv1D", "SeparableConv2D"), "write two ConvLayers, one with groups=C, one of windows (1, 1)"
    ),
    **dict.fromkeys(
        ("Conv2DTranspose", "ConvTranspose2d", "ConvTranspose1d", "Conv1DTranspose"),
        "write UpsampleLayer(2), ConvLayer(...)",
    ),
    **dict.fromkeys(("Conv3D", "Conv3d"), "a ConvLayer is of sequences (L, C) or images (H, W, C)"),
    **dict.fromkeys(("MaxPooling3D", "MaxPool3d"), "MaxPoolLayer"),
    **dict.fromkeys(("AveragePooling3D", "AvgPool3d"), "AvgPoolLayer"),
    **dict.fromkeys(("ZeroPadding1D", "ZeroPadding2D", "ZeroPad2d"), "write ConvLayer(..., padding=((1, 1), (1, 1)))"),
    **dict.fromkeys(("Lambda", "Permute", "Cropping2D", "RepeatVector"), "derive a layer of your own from Layer"),
    **dict.fromkeys(("Multiply", "Average", "Maximum", "Dot"), 'a ParallelLayer concatenates, or adds: merge="add"'),
    "Subtract": 'write ParallelLayer([], [..., ScaleLayer(-1.0)], merge="add")',
    "Identity": "write SequentialLayer(), or leave it out",
    "SpatialDropout1D": "DropoutLayer",
    **dict.fromkeys(("GlobalAveragePooling3D", "AdaptiveAvgPool3d"), "GlobalAvgPoolLayer"),
    **dict.fromkeys(("GlobalMaxPooling3D", "AdaptiveMaxPool3d"), "GlobalMaxPoolLayer"),
    "UpSampling3D": "UpsampleLayer",
    **dict.fromkeys(("RandomFlip", "RandomCrop"), "RandomAffineLayer moves, rotates and scales images"),
    "Add": 'write ParallelLayer(..., merge="add"), or ResidualLayer(...) for X + F(X)',
    **dict.fromkeys(("Concatenate", "Concat"), "write ParallelLayer(...), which concatenates its branches"),
    **dict.fromkeys(("Input", "InputLayer"), "the first layer says what it takes; leave it out"),
    **dict.fromkeys(("Embedding", "LSTM", "GRU", "RNN", "SimpleRNN", "Bidirectional", "TimeDistributed"), _NO_TEXT),
    **dict.fromkeys(("Attention", "MultiHeadAttention", "MultiheadAttention", "Masking"), _NO_TEXT),
    **dict.fromkeys(("MSELoss", "MeanSquaredError", "MSE", "mean_squared_error", "mse_loss"), "mse"),
    **dict.fromkeys(("L1Loss", "MeanAbsoluteError", "MAE", "l1_loss"), "mae"),
    **dict.fromkeys(("HuberLoss", "SmoothL1Loss"), "Huber"),
    **dict.fromkeys(("Hinge", "HingeLoss", "hinge_loss"), "hinge"),
    **dict.fromkeys(
        ("BCELoss", "BCEWithLogitsLoss", "BinaryCrossentropy", "binary_crossentropy"), "binary_cross_entropy"
    ),
    **dict.fromkeys(
        (
            *("CrossEntropyLoss", "CategoricalCrossentropy", "SparseCategoricalCrossentropy", "NLLLoss"),
            *("cross_entropy", "categorical_crossentropy", "sparse_categorical_crossentropy", "log_loss"),
        ),
        "softmax_cross_entropy",
    ),
    **dict.fromkeys(
        ("Accuracy", "CategoricalAccuracy", "SparseCategoricalAccuracy", "BinaryAccuracy", "accuracy_score"), "accuracy"
    ),
    **dict.fromkeys(("Precision", "precision_score"), "precision"),
    **dict.fromkeys(("Recall", "recall_score"), "recall"),
    **dict.fromkeys(("F1Score", "f1_score"), "f1"),
    **dict.fromkeys(("R2Score", "r2_score"), "r2"),
    **dict.fromkeys(("TopKCategoricalAccuracy", "SparseTopKCategoricalAccuracy", "top_k_accuracy_score"), "TopK"),
    "ConfusionMatrix": "confusion_matrix",
    "Adagrad": "AdaGrad",
    **dict.fromkeys(
        ("Nadam", "NAdam", "Adamax", "Adadelta", "LBFGS", "Ftrl", "Lion", "Muon", "Adafactor"), _OPTIMIZERS
    ),
    **dict.fromkeys(
        ("L1", "L2", "L1L2", "l1", "l2", "l1_l2"), "write Adam(0.001, weight_decay=0.01), for all parameters"
    ),
    **{
        "".join(word.capitalize() for word in name.split("_")): f"write FCLayer(4, 3, initializer={name!r})"
        for name in (
            *("glorot_uniform", "glorot_normal", "he_uniform", "he_normal"),
            *("lecun_uniform", "lecun_normal", "orthogonal", "zeros"),
        )
    },
    **dict.fromkeys(
        ("PiecewiseConstantDecay", "PolynomialDecay", "InverseTimeDecay", "CosineDecayRestarts"),
        "a schedule is any function of the step, optimizer=Adam(lambda k: 0.001 / (1 + 0.01 * k))",
    ),
    "StepLR": "StepDecay",
    "ExponentialLR": "ExponentialDecay",
    **dict.fromkeys(("CosineAnnealingLR", "CosineAnnealing"), "CosineDecay"),
    "OneCycleLR": "OneCycle",
    **dict.fromkeys(("LinearLR", "WarmupLR"), "WarmUp"),
    **dict.fromkeys(
        ("LearningRateScheduler", "LambdaLR"),
        "a schedule is any function of the step, optimizer=Adam(CosineDecay(0.001, 1000))",
    ),
    "ModelCheckpoint": "Checkpoint",
    "BackupAndRestore": "write Checkpoint(path), and fit(..., resume=path)",
    "TerminateOnNaN": "fit raises DivergedError in any case",
    "TensorBoard": "CSVLogger and JSONLogger write each epoch to a file",
    "LambdaCallback": "derive a class of your own from Callback",
    **dict.fromkeys(("DataLoader", "Dataset", "TensorDataset"), _LOADER),
    "load_model": "load",
    **dict.fromkeys(("save", "save_model"), "write net.save(path)"),
    "load_weights": "write net.load_weights(path)",
    "export": "write net.export(path)",
    "InferenceSession": "onnx.load(path) makes a network of a model, from portnn import onnx",
    "clone_model": "write copy.deepcopy(net)",
    **dict.fromkeys(("StandardScaler", "MinMaxScaler", "Normalization", "normalize"), _SCALING),
    "train_test_split": "fit(..., validation_split=0.2) holds the last samples out",
    "one_hot": "to_categorical",
    "no_grad": "predict computes no gradients; leave it out",
    **dict.fromkeys(("manual_seed", "set_seed", "set_random_seed", "seed"), _SEED),
    **dict.fromkeys(
        ("Tensor", "tensor"), "NumPy arrays go in and come out; to_device(x, backend) makes arrays of a device"
    ),
    **dict.fromkeys(("nn", "optim", "functional", "models", "utils", "keras"), _FLAT),
}


# -- answers -----------------------------------------------------------------------------------------------------------


def told(answers: Mapping[str, str], name: str, known: Iterable[str]) -> str:
    """``": it is called epochs here"``, or a colon and the advice; empty for a name that is not in the table."""
    ours = answers.get(name)
    if ours is None or (ours.isidentifier() and ours not in known):  # a base class's, which this one does not take
        return ""
    return f": it is called {ours} here" if ours in known else f": {ours}"


def of_class(made: type) -> Answers:
    """The answers to foreign arguments of a class, with those of its bases."""
    found: Answers = {}
    for base in reversed(made.__mro__):
        found |= ARGUMENTS.get(base.__name__, {})
    return found


def unknown_argument(call: str, name: str, known: list[str], answers: Mapping[str, str]) -> str:
    """The error message for an argument that a call does not have."""
    advice = told(answers, name, known) or names.meant("argument", name, known)
    first = f"{call} has no argument {name!r}{advice}"
    return first if advice else names.sentences(first, f"Its arguments are: {', '.join(known) or 'none'}")


@cache
def _parameters(function: Callable[..., Any]) -> list[Parameter]:
    return [p for p in signature_of(function).parameters.values() if p.name not in ("self", "cls")]


def misfit(call: str, function: Callable[..., Any], given: Any, options: Any, answers: Mapping[str, str]) -> str:
    """Which of a call's arguments, without ``self``, the function does not take; empty if it takes them all.

    An argument that is missing is left to Python, whose error names it.
    """
    parameters = _parameters(function)
    kinds = {p.kind for p in parameters}
    known = [p.name for p in parameters if p.kind is not p.VAR_KEYWORD]
    foreign = [name for name in options if name not in known]
    if foreign and Parameter.VAR_KEYWORD not in kinds:
        return unknown_argument(call, foreign[0], known, answers)
    by_place = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    if len(given) <= len(by_place) or Parameter.VAR_POSITIONAL in kinds:
        return ""
    takes = f"{', '.join(by_place) or 'nothing'} by position, got {len(given)} arguments"
    others = ", ".join(f"{name}=..." for name in known if name not in by_place)
    return f"{call} takes {takes}" + (f": name the others, {others}" if others else "")


def answered(function: Function) -> Function:
    """Decorates a function: to a call that does not fit its arguments the error says what to write instead.

    The arguments are looked at only after Python has refused them.
    """

    @wraps(function)
    def called(*given: Any, **options: Any) -> Any:
        try:
            return function(*given, **options)
        except TypeError as error:
            if error.__traceback__ is None or error.__traceback__.tb_next is not None:  # raised within the function
                raise
            refusal = str(error)
        owner, _, name = function.__qualname__.rpartition(".")
        call, answers = name, ARGUMENTS.get(name, {})
        if name == "__init__":
            made = type(given[0])
            call, answers = made.__name__ if made.__module__.startswith("portnn.") else owner, of_class(made)
        fault = misfit(call, function, given[bool(owner) :], options, answers)
        raise TypeError(fault or refusal)

    return called  # type: ignore[return-value]


def check_making(made: type, given: Any, options: Any) -> None:
    """Raises TypeError for arguments that the constructor of one of portnn's own classes does not take."""
    if (given or options) and made.__module__.startswith("portnn."):
        fault = misfit(made.__name__, made.__init__, given, options, of_class(made))  # type: ignore[misc]
        if fault:
            raise TypeError(fault)


def no_name(package: str, name: str, known: Iterable[str]) -> Exception:
    """The error for a name that a package does not have.

    It is an AttributeError, as ``hasattr`` expects. But ``from portnn import Dense`` asks ``hasattr`` first, and has a
    message of its own for the answer no: there it is an ImportError.
    """
    advice = told(EXPORTS, name, known)
    if not advice:
        return AttributeError(f"module {package!r} has no attribute {name!r}", name=name, obj=sys.modules[package])
    asked = sys._getframe(2).f_code.co_name == "_handle_fromlist"
    return (ImportError if asked else AttributeError)(f"{package} has no {name}{advice}")

"""Look-up of names: suggestions for unknown ones."""

from collections.abc import Iterable
from typing import Any

# Names used elsewhere -> the name here. The keys have no capitals, spaces or underscores; an answer with parentheses is
# the object to create instead. An empty answer: portnn has no such thing, however similar the name looks.
OTHERS: dict[str, dict[str, str]] = {
    "activation": {
        "swish": "silu",
        "logistic": "sigmoid",
        "expit": "sigmoid",
        "hyperbolictangent": "tanh",
        "lrelu": "leaky_relu",
        "geluapproximate": "gelu_tanh",
        "gelunew": "gelu_tanh",
        "prelu": "",
        "rrelu": "",
        "relu6": "",
        "celu": "",
        "hardtanh": "",
        "logsigmoid": "",
    },
    "loss": {
        "meansquarederror": "mse",
        "squarederror": "mse",
        "l2": "mse",
        "meanabsoluteerror": "mae",
        "l1": "mae",
        "crossentropy": "softmax_cross_entropy",
        "logloss": "softmax_cross_entropy",
        "categoricalcrossentropy": "softmax_cross_entropy",
        "sparsecategoricalcrossentropy": "softmax_cross_entropy",
        "negativeloglikelihood": "softmax_cross_entropy",
        "nll": "softmax_cross_entropy",
        "binarycrossentropy": "binary_cross_entropy",
        "sigmoidcrossentropy": "binary_cross_entropy",
        "bce": "binary_cross_entropy",
        "bcewithlogits": "binary_cross_entropy",
        "huber": "Huber()",
        **{each: f'use(loss, optimizer="{each}")' for each in ("sgd", "adagrad", "rmsprop", "adam", "adamw")},
        "smoothl1": "Huber()",
        "squaredhinge": "",
        "msle": "",
        "rmse": "",
        "mape": "",
        "mce": "",
    },
    "value": {
        "loss": "error",
        "valloss": "val_error",
        "acc": "accuracy",
        "valacc": "val_accuracy",
        "f1score": "f1",
        "valf1score": "val_f1",
        "mae": "mean_absolute_error",
        "valmae": "val_mean_absolute_error",
        "r2score": "r2",
        "valr2score": "val_r2",
        "trainloss": "error",
        "validationloss": "val_error",
        "lr": "learning_rate",
    },
    "metric": {
        "acc": "accuracy",
        "binaryaccuracy": "accuracy",
        "categoricalaccuracy": "accuracy",
        "sparsecategoricalaccuracy": "accuracy",
        "mae": "mean_absolute_error",
        "l1": "mean_absolute_error",
        "top5accuracy": "top_5",
        "top5categoricalaccuracy": "top_5",
        "topk": "TopK(5)",
        "topkaccuracy": "TopK(5)",
        "topkcategoricalaccuracy": "TopK(5)",
        "positivepredictivevalue": "precision",
        "sensitivity": "recall",
        "recallscore": "recall",
        "truepositiverate": "recall",
        "balancedaccuracy": "recall",
        "f1score": "f1",
        "f1macro": "f1",
        "macrof1": "f1",
        "fscore": "f1",
        "fmeasure": "f1",
        "r2score": "r2",
        "rsquared": "r2",
        "coefficientofdetermination": "r2",
        "auc": "",
        "specificity": "",
        "mse": "",
        "rmse": "",
    },
    "optimizer": {
        "gradientdescent": "sgd",
        "momentum": "SGD(0.01, momentum=0.9)",
        "nesterov": "SGD(0.01, momentum=0.9, nesterov=True)",
        "nadam": "",
        "adamax": "",
        "adadelta": "",
        "rprop": "",
    },
    "initializer": {
        "glorot": "glorot_uniform or glorot_normal",
        "xavier": "glorot_uniform or glorot_normal",
        "xavieruniform": "glorot_uniform",
        "xaviernormal": "glorot_normal",
        "he": "he_uniform or he_normal",
        "kaiming": "he_uniform or he_normal",
        "kaiminguniform": "he_uniform",
        "kaimingnormal": "he_normal",
        "lecun": "lecun_uniform or lecun_normal",
        "article": "article_uniform",
        "zero": "zeros",
        "ones": "",
        "uniform": "",
        "normal": "",
    },
    "backend": {"numpy": "cpu", "np": "cpu", "cupy": "gpu", "cuda": "gpu", "cuda0": "gpu", "nvidia": "gpu", "tpu": ""},
    "dtype": {
        "f32": "float32",
        "f4": "float32",
        "single": "float32",
        "f64": "float64",
        "f8": "float64",
        "double": "float64",
        "float": "float32 or float64",
        "float16": "",
        "bfloat16": "",
        "int32": "",
        "int64": "",
    },
    "callback method": {
        "ontrainbegin": "on_fit_begin",
        "ontrainend": "on_fit_end",
        "onbatchend": "on_step_end",
        "ontrainbatchend": "on_step_end",
        "onepochstart": "on_epoch_begin",
        "onbatchbegin": "",
        "ontrainbatchbegin": "",
    },
    "mode": {"maximum": "max", "maximize": "max", "minimum": "min", "minimize": "min"},
    "merge": {"sum": "add", "plus": "add", "concatenate": "concat", "cat": "concat", "stack": "concat"},
    "padding": {"none": "valid", "zeros": "", "causal": "", "full": ""},
    "setting of a layer": {
        "requiresgrad": "trainable",
        "frozen": "trainable",
        "freeze": "trainable",
        "eps": "epsilon",
        "p": "rate",
        "gamma": "weights",
        "beta": "bias",
        "kernel": "weights",
    },
    "kernels": {"fast": "auto", "plain": "portable"},
    "data set": {"fashion": "fashion_mnist", "digits": "mnist", "kuzushiji": "kmnist", "kuzushijimnist": "kmnist"},
}
NEAR = 0.75  # the least similarity, from 0 to 1, of a misspelt name to the right one


def squeezed(name: str) -> str:
    """The name in lower case, letters and digits only."""
    return "".join(letter for letter in name.lower() if letter.isalnum())


def meant(kind: str, given: Any, known: Iterable[str], near: float = NEAR) -> str:
    """``"; did you mean 'relu'?"``, or an empty string where no known name of that ``kind`` is similar."""
    if not isinstance(given, str):
        return ""
    by_letters = {squeezed(name): name for name in known}
    bare = squeezed(given)
    answer = by_letters.get(bare)
    if answer is None:
        others = OTHERS.get(kind, {})
        answer = others.get(bare, others.get(bare.removesuffix(squeezed(kind))))  # "mse loss", "relu activation"
        answer = by_letters.get(bare.removesuffix(squeezed(kind)), answer)
        named = answer is not None and all(word in by_letters.values() for word in answer.split(" or "))
        if answer and not named and not answer.endswith(")"):
            answer = None  # a name that is not in this list
    if answer is None:
        from difflib import get_close_matches  # here: it is slow to import, and rarely needed

        close = get_close_matches(bare, by_letters, 1, near)
        answer = by_letters[close[0]] if close else ""
    if not answer:
        return ""
    words = answer if answer.endswith(")") else " or ".join(map(repr, answer.split(" or ")))
    return f"; did you mean {words}?"


def unknown(kind: str, given: Any, known: Iterable[str], then: str = "", *, quoted: bool = False) -> str:
    """The error message for a name that is not among the ``known`` ones of its ``kind``; ``then`` is further advice.

    >>> unknown("loss", "mean_squared_error", ["mse", "mae"])
    "unknown loss 'mean_squared_error'; known: mse, mae; did you mean 'mse'?"
    """
    known = list(known)
    listed = ", ".join(map(repr, known) if quoted else known)
    return sentences(f"unknown {kind} {given!r:.60}; known: {listed}{meant(kind, given, known)}", then)


def sentences(first: str, then: str) -> str:
    """Two sentences, the second of which may be empty; the first may end with a question mark."""
    return first + (" " if first.endswith("?") else ". ") * bool(then) + then


def no_value(name: Any, known: Iterable[str]) -> str:
    """What to say of the name of a value that is not among the ``known`` ones: the right name, or how to have it."""
    known = list(known)
    later = [] if any(each.startswith("val_") for each in known) else [f"val_{each}" for each in known]
    if name in later:
        return ": give fit validation_data or validation_split"
    guess = meant("value", name, [*known, *later])
    if any(repr(each) in guess for each in later):
        return sentences(guess, "Give fit validation_data or validation_split")
    return guess or '; net.use(loss, metrics=["accuracy"]) sets the metrics'

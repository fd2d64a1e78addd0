"""ONNX's own test cases for the operators that our layers cover: both must give the same results.

The cases ship with ONNX: graphs of one operator, with outputs that its authors computed in NumPy, and graphs exported
from PyTorch, with PyTorch's results. ``onnx_cases.py`` implements the operators with our layers. Cases that cannot be
expressed this way are listed here with the reason, so that none is skipped silently.
"""

import importlib
import pkgutil
import warnings
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from onnx_cases import OPERATORS, Node, NotOursError, Why

onnx = pytest.importorskip("onnx", minversion="1.17", reason="the cases come with ONNX 1.17 or newer")
VERSION = tuple(map(int, onnx.__version__.split(".")[:2]))

FOLDERS = ("pytorch-converted", "pytorch-operator")


class Case(NamedTuple):
    """A graph: its nodes as (operator, attributes, input names, output names), and its input and output arrays."""

    name: str
    opset: int
    nodes: list[tuple[str, dict[str, Any], list[str], list[str]]]
    inputs: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]

    @property
    def operator(self):
        """The first operator that we implement; None if there is none."""
        return next((op for op, *_ in self.nodes if op in OPERATORS), None)


def split(X, axis=0, split=None):
    return np.split(X, np.cumsum(split)[:-1] if split else 2, axis)


# Auxiliary operators in the older graphs, in NumPy.
BETWEEN = {
    "Constant": lambda value: [value],
    "Mul": lambda X, Y: [X * Y],
    "Neg": lambda X: [-X],
    "Split": split,
    "Squeeze": lambda X, axes: [np.squeeze(X, tuple(axes))],
    "Transpose": lambda X, perm: [np.transpose(X, perm)],
    "Unsqueeze": lambda X, axes: [np.expand_dims(X, tuple(axes))],
}


def run(case, kernels):
    """All values in the graph by name, as our layers compute them."""
    if any(op not in OPERATORS and op not in BETWEEN for op, *_ in case.nodes):
        raise NotOursError(Why.OTHER_OPERATORS)
    values = dict(case.inputs)
    for op, attributes, inputs, outputs in case.nodes:
        given = [values[name] if name else None for name in inputs]
        if op in BETWEEN:
            results = BETWEEN[op](*given, **attributes)
        else:
            node = Node(attributes, case.opset, kernels)
            results = OPERATORS[op](node, *given)
            if node.attributes:
                raise NotOursError(Why.OTHER_ATTRIBUTES)
        values.update(zip(outputs, results if isinstance(results, (tuple, list)) else [results], strict=False))
    return values


# -- collecting --------------------------------------------------------------------------------------------------------


def array(value):
    """Converts what ONNX stores (tensors, arrays, numbers) to a NumPy array."""
    return onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)


def attribute(a):
    value = onnx.helper.get_attribute_value(a)
    return array(value) if isinstance(value, onnx.TensorProto) else value


def case_of(name, model, inputs, outputs):
    """A case made from a model; the weights stored in the model become inputs too."""
    graph = model.graph
    weights = {tensor.name: array(tensor) for tensor in graph.initializer}
    names = [i.name for i in graph.input if i.name not in weights]
    nodes = [(n.op_type, {a.name: attribute(a) for a in n.attribute}, [*n.input], [*n.output]) for n in graph.node]
    return Case(
        name,
        model.opset_import[0].version,
        nodes,
        weights | dict(zip(names, map(array, inputs), strict=True)),
        dict(zip([o.name for o in graph.output], map(array, outputs), strict=True)),
    )


def generated():
    """The cases that ONNX generates when an operator's module is imported; only the modules we need are imported."""
    from onnx.backend.test.case import node

    modules = [module.name for module in pkgutil.iter_modules(node.__path__)]
    for name in modules:
        if any(operator.lower().startswith(name.replace("_", "")) for operator in OPERATORS):
            importlib.import_module(f"{node.__name__}.{name}")
    for case in node._NodeTestCases:
        # "expanded" cases are the same, with the operator decomposed into others
        if case.model.graph.node[0].op_type in OPERATORS and "_expanded" not in case.name:
            for inputs, outputs in case.data_sets:
                yield case_of(case.name, case.model, inputs, outputs)


def stored():
    """The cases stored in ONNX's data folders."""
    for kind in FOLDERS:
        for folder in sorted((Path(onnx.__file__).parent / "backend" / "test" / "data" / kind).glob("*/")):
            model = onnx.load(folder / "model.onnx")
            for data in folder.glob("test_data_set_*"):
                tensors = [
                    [onnx.load_tensor(data / f"{part}_{i}.pb") for i in range(len(list(data.glob(f"{part}_*.pb"))))]
                    for part in ("input", "output")
                ]
                yield case_of(folder.name, model, *tensors)


def collected():
    """{operator: the cases that are compared}, {operator: {name of a case: why it is skipped}}."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = [case for case in [*generated(), *stored()] if case.operator]
    compared, left_out = {op: [] for op in OPERATORS}, {op: {} for op in OPERATORS}
    for case in cases:
        try:
            run(case, "auto")
        except NotOursError as why:
            left_out[case.operator][case.name] = str(why)
            continue
        except Exception:  # test_results_equal_onnx will report it
            pass
        compared[case.operator].append(case)
    return compared, left_out


COMPARED, LEFT_OUT = collected()

# -- what is compared, and what is not ---------------------------------------------------------------------------------

# The minimum number of cases compared per operator, so that none gets lost unnoticed; counted with ONNX 1.23.
NUMBERS_COMPARED = {
    "Adagrad": 2,
    "Adam": 2,
    "Add": 4,
    "AveragePool": 13,
    "BatchNormalization": 9,
    "Concat": 13,
    "Conv": 26,
    "Dropout": 8,
    "Elu": 1,
    "Erf": 1,
    "Flatten": 5,
    "Gelu": 4,
    "Gemm": 9,
    "GlobalAveragePool": 2,
    "GlobalMaxPool": 2,
    "GroupNormalization": 2,
    "HardSigmoid": 3,
    "InstanceNormalization": 3,
    "LayerNormalization": 19,
    "LeakyRelu": 2,
    "LogSoftmax": 10,
    "MatMul": 4,
    "MaxPool": 15,
    "Momentum": 3,
    "OneHot": 3,
    "Relu": 2,
    "Reshape": 7,
    "Resize": 4,
    "Selu": 3,
    "Sigmoid": 5,
    "Softmax": 11,
    "SoftmaxCrossEntropyLoss": 6,
    "Softplus": 3,
    "Softsign": 2,
    "Swish": 1,
    "Tanh": 3,
    "Upsample": 1,
}
if VERSION < (1, 22):
    NUMBERS_COMPARED |= {"Adam": 1, "MatMul": 2, "Swish": 0}

# Every case of ONNX 1.23 that is not compared, {operator: {name or pattern: reason}}.
TABLE_OF = (1, 23)
TABLE = {
    "Adam": {"test_adam_multiple": Why.UNSTATED} if VERSION < (1, 22) else {},
    "Add": {
        "test_add_*int*": Why.NUMBERS,
        "test_add_bcast": Why.BROADCAST,
        "test_operator_add_*broadcast": Why.BROADCAST,
        "test_operator_non_float_params": Why.NUMBERS,
        "test_Softsign": Why.OTHER_OPERATORS,
    },
    "AveragePool": {
        "*3d*": Why.THREE_AXES,
        "test_averagepool_2d_*count_include_pad": Why.PADDING_COUNTS,
        "test_averagepool_2d_ceil*": Why.ROUNDED_UP,
        "test_averagepool_2d_dilations": Why.DILATED,
    },
    "Conv": {"test_Conv3d*": Why.THREE_AXES},
    "Dropout": {f"test_training_dropout{option}": Why.RANDOM for option in ("", "_mask", "_default", "_default_mask")},
    "Elu": {"test_elu": Why.CONSTANTS, "test_elu_example": Why.CONSTANTS, "test_ELU": Why.CONSTANTS},
    "Flatten": {"test_flatten_axis[023]": Why.SAMPLES, "test_flatten_negative_axis[124]": Why.SAMPLES},
    "Gemm": {
        "test_gemm_default_matrix_bias": Why.OWN_BIAS,
        "test_operator_addmm": Why.OWN_BIAS,
        "test_gemm_alpha": Why.FACTORS,
        "test_gemm_beta": Why.FACTORS,
        "test_gemm_all_attributes": Why.FACTORS,
    },
    "LeakyRelu": {
        "test_leakyrelu": Why.CONSTANTS,
        "test_leakyrelu_example": Why.CONSTANTS,
        "test_LeakyReLU_with_negval": Why.CONSTANTS,
    },
    "MatMul": {
        "test_matmul_*3d": Why.OWN_WEIGHTS,
        "test_matmul_4d": Why.OWN_WEIGHTS,
        "test_matmul_bcast": Why.OWN_WEIGHTS,
    },
    "MaxPool": {
        "*3d*": Why.THREE_AXES,
        "test_maxpool_2d_uint8": Why.NUMBERS,
        "test_maxpool_2d_ceil*": Why.ROUNDED_UP,
        "test_maxpool_2d_dilations": Why.DILATED,
        "test_MaxPool[12]d_stride_padding_dilation": Why.DILATED,
    },
    "OneHot": {
        "test_onehot_negative_indices": Why.NEGATIVE,
        "test_onehot_out_of_range_indices": Why.NEGATIVE,
        "test_onehot_with_bfloat16_values": Why.NUMBERS,
    },
    "Reshape": {
        "test_reshape_reordered_all_dims": Why.SAMPLES,
        "test_reshape_one_dim": Why.SAMPLES,
        "test_reshape_negative_extended_dims": Why.SAMPLES,
        "test_reshape_allowzero_reordered": Why.SAMPLES,
        "test_operator_repeat_dim_overflow": Why.OTHER_OPERATORS,
    },
    "Resize": {
        "*_linear*": Why.INTERPOLATED,
        "*_cubic*": Why.INTERPOLATED,
        "*_tf_crop_and_resize*": Why.INTERPOLATED,
        "test_resize_downsample_*_nearest*": Why.NOT_WHOLE,
        "test_resize_upsample_sizes_nearest": Why.NOT_WHOLE,
        "test_resize_upsample_sizes_nearest_axes_*": Why.NOT_WHOLE,
        "test_resize_upsample_sizes_nearest_not_larger": Why.NOT_WHOLE,
        "test_resize_upsample_sizes_nearest_floor_align_corners": Why.NEIGHBOUR,
        "test_resize_upsample_sizes_nearest_round_prefer_ceil_asymmetric": Why.NEIGHBOUR,
        "test_resize_upsample_sizes_nearest_ceil_half_pixel": Why.NEIGHBOUR,
    },
    "Selu": {"test_selu": Why.CONSTANTS, "test_selu_example": Why.CONSTANTS},
    "SoftmaxCrossEntropyLoss": {
        "test_sce_none": Why.EACH_LOSS,
        "test_sce_none_log_prob": Why.EACH_LOSS,
        "test_sce_NCd1d2d3d4d5_none_no_weight*": Why.EACH_LOSS,
        "test_sce_*_no_weight_ii*": Why.IGNORED,
        "test_sce_*_no_weight_negative_ii*": Why.IGNORED,
        "test_sce_*_weight_high_ii*": Why.CLASS_WEIGHTS,
        "test_sce_none_weights*": Why.CLASS_WEIGHTS,
        "test_sce_mean_weight*": Why.CLASS_WEIGHTS,
        "test_sce_NC*_mean_weight*": Why.CLASS_WEIGHTS,
    },
}


def rows_for(operator, name):
    """The reasons that TABLE gives for skipping a case."""
    return {reason for pattern, reason in TABLE.get(operator, {}).items() if fnmatchcase(name, pattern)}


# -- the tests ---------------------------------------------------------------------------------------------------------

# The allowed difference, relative to the largest value; integers must be equal.
TOLERANCE = {"float32": 1e-5, "float64": 1e-10}


def agree(ours, theirs):
    """Whether two arrays have the same shape and dtype, and values equal within the tolerance."""
    if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
        return False
    ours, theirs, tolerance = (
        *(np.asarray(a, "float64") for a in (ours, theirs)),
        TOLERANCE.get(theirs.dtype.name, 0.0),
    )
    return bool(np.all(np.abs(ours - theirs) <= tolerance * np.max(np.abs(theirs), initial=0.0)))


def results(case, kernels):
    """(name, our output, ONNX's output) for every output that our layers produce."""
    values = run(case, kernels)
    assert next(iter(case.outputs)) in values
    return [(name, values[name], wanted) for name, wanted in case.outputs.items() if name in values]


CASES = [pytest.param(case, id=f"{operator}-{case.name}") for operator in OPERATORS for case in COMPARED[operator]]


@pytest.mark.parametrize("kernels", ["auto", "portable"])
@pytest.mark.parametrize("case", CASES)
def test_results_equal_onnx(case, kernels):
    for name, ours, theirs in results(case, kernels):
        assert agree(ours, theirs), f"{name}:\n{ours}\nbut ONNX's is\n{theirs}"


@pytest.mark.parametrize("operator", OPERATORS)
def test_no_case_is_left_out_unseen(operator):
    """Another version of ONNX may add or remove cases, but a case that TABLE lists as skipped may not be compared."""
    assert len(COMPARED[operator]) >= NUMBERS_COMPARED.get(operator, 1)
    assert not [case.name for case in COMPARED[operator] if rows_for(operator, case.name)], "listed, but compared"
    left_out = LEFT_OUT[operator]
    assert set(left_out.values()) <= set(Why)
    listed = {name: rows_for(operator, name) for name in left_out}
    if VERSION != TABLE_OF:
        listed = {name: reasons for name, reasons in listed.items() if reasons}
    expected = {name: {left_out[name]} for name in listed}
    assert listed == expected, f"the reasons in TABLE for {operator} differ from the actual ones"
    if VERSION == TABLE_OF:
        stale = [row for row in TABLE.get(operator, {}) if not any(fnmatchcase(name, row) for name in left_out)]
        assert not stale


def test_the_tables_name_our_operators():
    new = {operator: len(COMPARED[operator]) for operator in OPERATORS if operator not in NUMBERS_COMPARED}
    assert not new, f"add {new} to NUMBERS_COMPARED"
    assert set(NUMBERS_COMPARED) == set(OPERATORS)
    assert set(TABLE) <= set(OPERATORS)


@pytest.mark.parametrize("operator", [op for op in OPERATORS if COMPARED[op]])
def test_another_result_is_noticed(operator):
    """A slightly wrong value, another shape, another dtype or NaN: ``agree`` rejects each."""
    for case in COMPARED[operator]:
        for _, ours, theirs in results(case, "auto"):
            off = (np.max(np.abs(theirs)) or 1) * (1e-4 if ours.dtype.kind == "f" else 1)
            wrong = np.array(ours)
            wrong[(-1,) * wrong.ndim] += off
            assert not agree(wrong, theirs)
            assert not agree(ours[None], theirs)
            assert not agree(ours.astype("complex128"), theirs)
            if ours.dtype.kind == "f":
                assert not agree(np.full_like(ours, np.nan), theirs)


OTHER_OPTIONS = [
    ("test_Conv2d_dilated", dict(dilations=[1, 1])),
    ("test_Conv2d_padding", dict(pads=[0, 0, 2, 2])),
    ("test_maxpool_2d_same_lower", dict(auto_pad=b"SAME_UPPER")),
    ("test_averagepool_2d_strides", dict(strides=[2, 2])),
    ("test_batchnorm_epsilon_training_mode", dict(momentum=0.8)),
    ("test_batchnorm_epsilon", dict(epsilon=1e-5)),
    ("test_group_normalization_example", dict(num_groups=1)),
    ("test_softmax_axis_1", dict(axis=2)),
    ("test_gelu_tanh_2", dict(approximate=b"none")),
    ("test_nesterov_momentum", dict(mode=b"standard")),
    ("test_adam", dict(beta=0.2)),
]


@pytest.mark.parametrize(("name", "options"), OTHER_OPTIONS)
def test_another_option_is_noticed(name, options):
    """The attributes do reach our layers: with another value the results differ from ONNX's."""
    (case,) = (case for cases in COMPARED.values() for case in cases if case.name == name)
    ((op, attributes, inputs, outputs),) = case.nodes
    changed = case._replace(nodes=[(op, attributes | options, inputs, outputs)])
    assert not all(agree(ours, theirs) for _, ours, theirs in results(changed, "auto"))


def test_an_unknown_attribute_leaves_a_case_out():
    case = COMPARED["Relu"][0]
    ((op, attributes, inputs, outputs),) = case.nodes
    with pytest.raises(NotOursError, match=Why.OTHER_ATTRIBUTES):
        run(case._replace(nodes=[(op, attributes | {"new": 1}, inputs, outputs)]), "auto")

"""ONNX: a network's formulas, run once on symbols that record each operation as a node.

There is no second copy of a formula: whatever a layer or a loss, also one of yours, computes
through ``xp`` is exported as it is. The onnx package infers shapes and dtypes. Only operations that
ONNX Runtime has in both dtypes are used.
"""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from xpnn._core.files import PathLike, check_writable, replacing
from xpnn._core.scopes import Place, enter, scope, where
from xpnn._version import __version__
from xpnn.backends import to_numpy
from xpnn.errors import ArgumentError
from xpnn.losses import CrossEntropy
from xpnn.model import Sequential

Array = Any

# the first opset in which all reductions take their axes as an input; ONNX Runtime from 1.14 (2023)
OPSET, IR_VERSION = 18, 8


@np.errstate(all="ignore")
def export_onnx(model: Sequential, path: PathLike) -> None:
    """Write a trained model to an ONNX file, replacing one that exists.

    The graph's input is `x`, of shape (batch, features), for any size of the batch. It has the
    model's dtype; or, if features are normalized or columns encoded, float64, in which `predict`
    does that too. Divide pixels by 255 first, as `predict` does; the model's normalizers are part
    of the graph. All outputs have shape (batch, outputs). If the loss turns the network's outputs
    into probabilities, the graph has the outputs `logits` and `probabilities`; otherwise, as with
    the losses of a regression, it has one, `outputs`, with what `predict` returns. A runtime
    computes only the outputs that it is asked for.

    What turns a table's texts and missing cells into features is part of the graph too. `x` then
    has the table's columns, as numbers and codes: NaN is missing; a text is its number among the
    column's categories, from 0 on; any other number, such as -1, is an unknown category.

    Parameters
    ----------
    model
        A trained model. Its layers and its loss may use the functions of the array API that have a
        node in opset 18. They can't compute with the number of samples, and an ``if`` can't depend
        on an array's values.
    path
        The file.

    Raises
    ------
    ArgumentError
        If the model has no parameters yet, a layer can't be exported, the onnx package isn't
        installed, or the file can't be written.

    Notes
    -----
    The file's metadata are `xpnn` (the version), `model`, `loss`, `classes` (the number, if the
    targets were class labels), `labels` (as JSON, if the classes have names) and `columns` (as
    JSON, if the features aren't all numbers; see `xpnn.datasets.columns.Columns.config`).
    """
    path = check_writable("path", path)
    xp = OnnxNamespace(np.dtype(model.placed()[0].dtype_name))
    plain = AttributeError, IndexError, NotImplementedError, TypeError, ValueError
    own = xp.onnx.shape_inference.InferenceError, xp.onnx.checker.ValidationError
    with scope("model"):
        try:
            _trace(model, xp)
        except (*plain, *own) as error:
            raise ArgumentError(f"{_place()} can't be exported to ONNX: {error}") from error
    content = xp.finished(model).SerializeToString()
    with replacing("model", path) as file:
        file.write(content)


def _place() -> str:
    """Return the name of the layer, or the other part of a model, that is being traced."""
    place = where()
    assert place is not None
    return place.name


def _trace(model: Sequential, xp: OnnxNamespace) -> None:
    """Run a model and its loss on symbols, which adds its inputs, nodes and outputs to a graph."""
    task = model.task
    arrays = [
        {name: xp.parameter(array, f"{layer}.{name}") for name, array in own.items()}
        for layer, own in zip(model.names, model.host_parameters(), strict=True)
    ]
    columns = task.columns
    changed = columns is not None or task.normalizer is not None
    given = np.dtype(np.float64) if changed else xp.dtype
    x = xp.input("x", model.inputs if columns is None else len(columns), given)
    if columns is not None:
        enter(Place("columns"))
        x = columns.apply(x, xp=xp)
    if task.normalizer is not None:
        enter(Place("normalizer"))
        x = task.normalizer.apply(x, xp=xp)
    x = xp.astype(x, xp.dtype)
    # `forward` enters each layer; what it returns is the output of the last one
    enter(Place(model.names[-1]))
    x = xp.checked(model.forward(arrays, x, xp=xp)[0])
    enter(Place("loss"))
    loss = task.loss or CrossEntropy()
    predicted = xp.checked(loss.predict(x, xp=xp))
    if task.target_normalizer is not None:
        enter(Place("target normalizer"))
        xp.output("outputs", xp.astype(task.in_units(predicted, xp=xp), xp.dtype))
    elif predicted is x or loss.of_values:
        xp.output("outputs", predicted)
    else:
        xp.output("logits", x)
        xp.output("probabilities", predicted)


class Graph:
    """Nodes and constants of an ONNX graph, in the order in which they are computed.

    Parameters
    ----------
    dtype
        The dtype of the model.
    """

    def __init__(self, dtype: np.dtype[Any]) -> None:
        try:
            import onnx
        except ImportError:
            raise ArgumentError(
                "ONNX export needs the onnx package; install it with: pip install 'xpnn[onnx]'"
            ) from None
        self.dtype, self.onnx = dtype, onnx
        self._nodes: list[Any] = []
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []
        self._constants: dict[str, Any] = {}
        self._known: dict[tuple[Any, ...], Symbol] = {}

    def checked(self, y: Any) -> Symbol:
        """Return `y` if it is an array of the graph with one row per sample."""
        if not isinstance(y, Symbol):
            raise TypeError(f"it returns {type(y).__name__}")
        if not y.shape or y.shape[0] is not SAMPLES:
            raise ValueError(f"it returns shape {y.shape} for any number of samples")
        return y

    def input(self, name: str, features: int | None, dtype: np.dtype[Any]) -> Symbol:
        """Add an input with one row per sample."""
        kind = self._kind(dtype, ["batch", features])
        self._inputs.append(self.onnx.helper.make_value_info(name, kind))
        return Symbol(self, name, kind)

    def output(self, name: str, symbol: Symbol) -> None:
        """Add an output with one row per sample."""
        helper = self.onnx.helper
        self._nodes.append(helper.make_node("Identity", [symbol.name], [name], name=name))
        kind = self._kind(symbol.dtype, ["batch", *symbol.shape[1:]])
        self._outputs.append(helper.make_value_info(name, kind))

    def _kind(self, dtype: np.dtype[Any], shape: Sequence[Any]) -> Any:
        helper = self.onnx.helper
        return helper.make_tensor_type_proto(helper.np_dtype_to_tensor_dtype(dtype), shape)

    def parameter(self, value: np.ndarray, name: str) -> Symbol:
        """Return the symbol of a named constant."""
        value = np.ascontiguousarray(value)
        self._constants[name] = self.onnx.numpy_helper.from_array(value, name)
        return Symbol(self, name, self._kind(value.dtype, value.shape))

    def constant(self, value: Any) -> Symbol:
        """Return the symbol of a constant; equal constants have the same symbol."""
        value = np.asarray(value)
        key = value.dtype, value.shape, value.tobytes()
        if key not in self._known:
            self._known[key] = self.parameter(value, f"constant{len(self._known)}")
        return self._known[key]

    def node(self, kind: str, *inputs: Any, **attributes: Any) -> Symbol:
        """Add a node for `inputs`, symbols or constants, and return its output."""
        onnx, make_node = self.onnx, self.onnx.helper.make_node
        name = f"{_place()}/{kind}{len(self._nodes)}".replace(" ", "_")
        symbols = [i if isinstance(i, Symbol) else self.constant(i) for i in inputs]
        names = [symbol.name for symbol in symbols]
        self._nodes.append(make_node(kind, names, [name], name=name, **attributes))
        # onnx 1.19 and older infer nothing for GreaterOrEqual and LessOrEqual
        alike = kind.removesuffix("OrEqual")
        inferred = onnx.shape_inference.infer_node_outputs(
            onnx.defs.get_schema(alike, OPSET),
            make_node(alike, names, [name], **attributes),
            {symbol.name: symbol.kind for symbol in symbols},
            {name: self._constants[name] for name in names if name in self._constants},
        )
        return Symbol(self, name, inferred[name])

    def finished(self, model: Sequential) -> Any:
        """Return the content of the file, checked."""
        helper, task = self.onnx.helper, model.task
        used = {name for node in self._nodes for name in node.input}
        constants = [constant for name, constant in self._constants.items() if name in used]
        made = helper.make_model(
            helper.make_graph(self._nodes, "xpnn", self._inputs, self._outputs, constants),
            producer_name="xpnn",
            producer_version=__version__,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            doc_string=repr(model),
        )
        about = {"xpnn": __version__, "model": repr(model), "loss": repr(task.loss)}
        if task.classes is not None:
            about["classes"] = json.dumps(task.classes)
        if task.columns is not None:
            about["columns"] = json.dumps(task.columns.config())
        if task.labels is not None:
            about["labels"] = json.dumps(task.labels.tolist())
        helper.set_model_props(made, about)
        self.onnx.checker.check_model(made, full_check=True)
        return made


class _Samples(NDArrayOperatorsMixin):
    """The number of samples, which is unknown. Only `reshape` accepts it, as a length."""

    def _unknown(self, *_: Any, **__: Any) -> Any:
        raise TypeError("it computes with the number of samples")

    __array_ufunc__ = __array__ = _unknown
    __bool__ = __float__ = __int__ = __index__ = _unknown

    def __repr__(self) -> str:
        return "batch"


SAMPLES = _Samples()

# NumPy's names of operators that have another name in the array API
_OPERATORS = {
    "absolute": "abs",
    "power": "pow",
    "invert": "logical_not",
    "bitwise_and": "logical_and",
    "bitwise_or": "logical_or",
    "bitwise_xor": "logical_xor",
}


class Symbol(NDArrayOperatorsMixin):
    """An array of a graph, with a name, a dtype and a shape but no values; operators add nodes.

    Parameters
    ----------
    xp
        The graph, which is also the namespace.
    name
        The name by which nodes refer to the array.
    kind
        The type of the array in ONNX: dtype and shape.
    """

    def __init__(self, xp: Any, name: str, kind: Any) -> None:
        self.xp, self.name, self.kind = xp, name, kind
        tensor = kind.tensor_type
        self.dtype: np.dtype[Any] = xp.onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        self.shape: tuple[Any, ...] = tuple(
            length.dim_value if length.HasField("dim_value") else SAMPLES
            for length in tensor.shape.dim
        )
        self.ndim, self.device = len(self.shape), "cpu"

    def __array_namespace__(self, *, api_version: str | None = None) -> Any:
        return self.xp

    def __array_ufunc__(self, ufunc: Any, method: str, *operands: Any, **out: Any) -> Any:
        # an in-place operator returns a new array too, and Python binds the name to it
        if method != "__call__":
            return NotImplemented
        return getattr(self.xp, _OPERATORS.get(ufunc.__name__, ufunc.__name__))(*operands)

    def _no_value(self, *_: Any, **__: Any) -> Any:
        raise TypeError("an array's values aren't known before the network runs")

    __bool__ = __float__ = __int__ = __index__ = __iter__ = __array__ = _no_value

    @property
    def size(self) -> int:
        """The number of elements; it can't be computed from the number of samples."""
        return math.prod(self.shape)

    @property
    def T(self) -> Array:  # noqa: N802
        """The transpose of a matrix."""
        return self.xp.matrix_transpose(self)

    def __getitem__(self, index: Any) -> Symbol:
        """Return a part, selected by slices, integers and None."""
        items = list(index) if isinstance(index, tuple) else [index]
        for item in items:
            if not (item is None or item is Ellipsis or isinstance(item, (int, slice))):
                raise TypeError(f"index {item!r} must be a slice, a whole number or None")
        if Ellipsis in items:
            at = items.index(Ellipsis)
            missing = self.ndim - sum(isinstance(item, (int, slice)) for item in items)
            items[at : at + 1] = [slice(None)] * missing
        own = [item for item in items if item is not None]
        cuts = [(axis, *_bounds(item)) for axis, item in enumerate(own) if item != slice(None)]
        removed = [axis for axis, item in enumerate(own) if isinstance(item, int)]
        left = [item for item in items if not isinstance(item, int)]
        added = [axis for axis, item in enumerate(left) if item is None]
        x, node = self, self.xp.node
        if cuts:
            axes, starts, stops, steps = np.asarray(cuts, np.int64).T
            x = node("Slice", x, starts, stops, axes, steps)
        if removed:
            x = node("Squeeze", x, np.asarray(removed, np.int64))
        if added:
            x = node("Unsqueeze", x, np.asarray(added, np.int64))
        return x


def _bounds(item: int | slice) -> tuple[int, int, int]:
    """Return start, stop and step of an index, as ONNX takes them."""
    far = np.iinfo(np.int64).max
    if isinstance(item, int):
        return item, item + 1 or far, 1
    step = 1 if item.step is None else item.step
    start = (0 if step > 0 else far) if item.start is None else item.start
    stop = (far if step > 0 else -far) if item.stop is None else item.stop
    return start, stop, step


# names in the array API: names in ONNX
_UNARY = {
    "abs": "Abs",
    "ceil": "Ceil",
    "cos": "Cos",
    "exp": "Exp",
    "floor": "Floor",
    "isnan": "IsNaN",
    "log": "Log",
    "logical_not": "Not",
    "negative": "Neg",
    "reciprocal": "Reciprocal",
    "sign": "Sign",
    "sin": "Sin",
    "sqrt": "Sqrt",
    "tanh": "Tanh",
}
_BINARY = {
    "add": "Add",
    "divide": "Div",
    "equal": "Equal",
    "greater": "Greater",
    "greater_equal": "GreaterOrEqual",
    "less": "Less",
    "less_equal": "LessOrEqual",
    "logical_and": "And",
    "logical_or": "Or",
    "logical_xor": "Xor",
    "maximum": "Max",
    "minimum": "Min",
    "multiply": "Mul",
    "pow": "Pow",
    "subtract": "Sub",
}
_REDUCTIONS = {
    "max": "ReduceMax",
    "mean": "ReduceMean",
    "min": "ReduceMin",
    "prod": "ReduceProd",
    "sum": "ReduceSum",
}
# taken from NumPy, without a node
_PLAIN = ("bool", "float32", "float64", "int32", "int64", "e", "inf", "nan", "newaxis", "pi")


class OnnxNamespace(Graph):
    """The functions of the array API that can be written with ONNX's nodes, which they add."""

    def __getattr__(self, name: str) -> Any:
        if kind := _UNARY.get(name) or _BINARY.get(name):
            return partial(self._elementwise, kind)
        if name in _REDUCTIONS:
            return partial(self._reduced, _REDUCTIONS[name])
        if name in _PLAIN:
            return getattr(np, name)
        raise AttributeError(f"xp.{name} has no counterpart here")

    def _elementwise(self, kind: str, *operands: Any) -> Array:
        return self.node(kind, *self._promoted(*operands))

    def _promoted(self, *operands: Any) -> list[Any]:
        """Return operands in their common dtype; Python numbers take the dtype of arrays."""
        dtypes = [x.dtype for x in operands if isinstance(x, (Symbol, np.ndarray))]
        numbers = [x for x in operands if type(x) in (int, float)]
        if numbers and all(dtype == np.bool_ for dtype in dtypes):
            dtypes = [self.dtype]
        dtype = np.result_type(*dtypes, *numbers)
        return [
            self.astype(x, dtype) if isinstance(x, Symbol) else np.asarray(x, dtype)
            for x in operands
        ]

    def _reduced(self, kind: str, x: Array, axis: Any = None, keepdims: bool = False) -> Array:
        axes = range(x.ndim) if axis is None else np.atleast_1d(axis)
        return self.node(kind, x, np.asarray(axes, np.int64), keepdims=int(keepdims))

    def isdtype(self, dtype: Any, kind: Any) -> bool:
        """Return whether a dtype is of a kind."""
        return bool(np.isdtype(dtype, kind))

    def asarray(self, x: Any, *, dtype: Any = None, device: Any = None) -> Array:
        """Return a constant, or `x` if it is an array of the graph."""
        if isinstance(x, Symbol):
            return x if dtype is None else self.astype(x, dtype)
        default = self.dtype if isinstance(x, float) else None
        return self.constant(np.asarray(to_numpy(x), dtype=dtype or default))

    def astype(self, x: Array, dtype: Any, *, copy: bool = True, device: Any = None) -> Array:
        """Return `x` in another dtype."""
        kind = self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return x if x.dtype == dtype else self.node("Cast", x, to=kind)

    def zeros_like(self, x: Array, **_: Any) -> Array:
        """Return 0 in the shape of `x`."""
        return self.where(self.equal(x, x), 0.0, x)

    def ones_like(self, x: Array, **_: Any) -> Array:
        """Return 1 in the shape of `x`."""
        return self.add(self.zeros_like(x), 1.0)

    def where(self, condition: Array, a: Any, b: Any) -> Array:
        """Return `a` where the condition holds, else `b`."""
        return self.node("Where", condition, *self._promoted(a, b))

    def not_equal(self, a: Any, b: Any) -> Array:
        """Return where two arrays differ."""
        return self.logical_not(self.equal(a, b))

    def clip(self, x: Array, min: Any = None, max: Any = None) -> Array:  # noqa: A002
        """Return `x` within its bounds."""
        x = x if min is None else self.maximum(x, min)
        return x if max is None else self.minimum(x, max)

    def positive(self, x: Array) -> Array:
        """Return `x`."""
        return x

    def square(self, x: Array) -> Array:
        """Return ``x²``."""
        return self.multiply(x, x)

    def expm1(self, x: Array) -> Array:
        """Return ``exp(x) - 1``; near 0, ``2 t / (1 - t)`` with t = tanh(x / 2)."""
        t = self.tanh(self.clip(x, -1.0, 1.0) * 0.5)
        return self.where(self.abs(x) < 1.0, 2.0 * t / (1.0 - t), self.exp(x) - 1.0)

    def log1p(self, x: Array) -> Array:
        """Return ``log(1 + x)``: with w = 1 + x as rounded, ``log(w) x / (w - 1)`` (Kahan)."""
        w = x + 1.0
        return self.where(w == 1.0, x, self.log(w) * (x / (w - 1.0)))

    def matmul(self, a: Array, b: Array) -> Array:
        """Return the matrix product."""
        # ONNX would accept any length as the number of samples
        if (a.shape[-1] is SAMPLES) != (b.shape[-2:][0] is SAMPLES):
            raise ValueError(f"matmul of shapes {a.shape} and {b.shape}")
        return self.node("MatMul", *self._promoted(a, b))

    def matrix_transpose(self, x: Array) -> Array:
        """Return the transpose of a matrix."""
        return self.permute_dims(x, (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))

    def permute_dims(self, x: Array, axes: Sequence[int]) -> Array:
        """Return `x` with its axes in another order."""
        return self.node("Transpose", x, perm=list(axes))

    def expand_dims(self, x: Array, *, axis: int = 0) -> Array:
        """Return `x` with one more axis, of length 1."""
        return self.node("Unsqueeze", x, np.asarray([axis], np.int64))

    def squeeze(self, x: Array, axis: int) -> Array:
        """Return `x` without an axis of length 1."""
        return self.node("Squeeze", x, np.asarray([axis], np.int64))

    def reshape(self, x: Array, shape: Sequence[Any]) -> Array:
        """Return `x` in another shape, which may have the number of samples on the same axis."""
        # 0 means in ONNX that the length stays
        lengths = [
            0 if length is SAMPLES and x.shape[axis] is SAMPLES else operator.index(length)
            for axis, length in enumerate(shape)
        ]
        return self.node("Reshape", x, np.asarray(lengths, np.int64))

    def concat(self, arrays: Sequence[Array], *, axis: int = 0) -> Array:
        """Return arrays one after the other."""
        return self.node("Concat", *self._promoted(*arrays), axis=axis)

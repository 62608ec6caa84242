"""ONNX: a network's own formulas, run on symbols that note each operation as a node of a graph.

There is no second copy of a formula: whatever a layer or a loss computes through ``xp``, one's own
too, is exported as it is. The operations are those that ONNX Runtime has in both dtypes.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from xpnn._core.files import PathLike, check_writable, replacing
from xpnn._version import __version__
from xpnn.backends import namespace, to_numpy
from xpnn.errors import ArgumentError
from xpnn.losses import CrossEntropy
from xpnn.model import Sequential

Array = Any

# what ONNX Runtime from 1.14 on (2023) runs; the first whose reductions all take axes as input
OPSET, IR_VERSION = 18, 8

# numbers of samples that a network is traced with: graphs that differ have one of them inside
_SAMPLES = (2, 3)


def export_onnx(model: Sequential, path: PathLike) -> None:
    """Write a trained model to an ONNX file, in place of one that is there.

    The graph's input is `x`, shape (batch, features), of the dtype that the model has (its
    parameters are written as they are); the batch's size is free. Unsigned bytes must be divided
    by 255 first, as `predict` does; the model's normalizers are part of the graph. The outputs,
    of shape (batch, outputs), are both `logits` and `probabilities` where the loss makes the one
    of the other, and one `outputs` where it takes the network's outputs for what they are, as mean
    squared error does. A runtime computes only those that it is asked for.

    Parameters
    ----------
    model
        Its layers, one's own too, may use whatever of the array API has a node in opset 18; not
        the size of the batch, and not an array's values in Python's own ``if``.
    path
        The file.

    Raises
    ------
    ArgumentError
        If the model has no parameters yet, a layer can't be exported, the onnx package isn't
        installed, or the file can't be written.

    Notes
    -----
    The file's metadata: `xpnn` (version), `model`, `loss`, `classes` (their number, where the
    targets were class labels), `labels` (as JSON, where they have names of their own).
    """
    check()
    path = check_writable("path", path)
    graph, other = (_traced(model, samples) for samples in _SAMPLES)
    # the outputs are last, so that graphs of different lengths differ before one ends
    for (place, step), (_, same) in zip(graph.steps, other.steps, strict=False):
        if step != same:
            raise ArgumentError(
                f"{place} can't be exported to ONNX: it computes with the number of samples"
            )
    content = graph.model(model).SerializeToString()
    with replacing(path) as beside:
        beside.write_bytes(content)


def check() -> None:
    """Raise `ArgumentError` unless the onnx package is installed."""
    _onnx()


def _onnx() -> Any:
    try:
        import onnx
    except ImportError:
        raise ArgumentError(
            "ONNX export needs the onnx package; install it with: pip install 'xpnn[onnx]'"
        ) from None
    return onnx


def _traced(model: Sequential, samples: int) -> Graph:
    """Return the graph of a model and its loss."""
    parameters = model.host_parameters()
    dtype = np.dtype(model.placed()[0].dtype_name)
    graph = Graph(dtype)
    x = graph.input("x", np.zeros((samples, model.inputs or 0), dtype))
    rows = model.summary()
    if model.task.normalizer is not None:
        with graph.at("normalizer"):
            x = graph.xp.astype(model.task.normalizer.apply(x, xp=graph.xp), dtype)
    for layer, row, own in zip(model.layers, rows, parameters, strict=True):
        symbols = {
            name: graph.parameter(array, f"{row.layer}.{name}") for name, array in own.items()
        }
        with graph.at(row.layer):
            x = graph.checked(layer.forward(symbols, x, xp=graph.xp)[0])
    loss = model.task.loss or CrossEntropy()
    with graph.at("loss"):
        predicted = graph.checked(loss.predict(x, xp=graph.xp))
    if model.task.target_normalizer is not None:
        with graph.at("target normalizer"):
            predicted = model.task.target_normalizer.invert(predicted, xp=graph.xp)
            graph.output("outputs", graph.xp.astype(predicted, dtype))
        return graph
    if predicted is x:
        graph.output("outputs", x)
    else:
        graph.output("logits", x)
        graph.output("probabilities", predicted)
    return graph


class Graph:
    """Nodes and constants of an ONNX graph, in the order in which they are computed."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.onnx = _onnx()
        self.dtype = dtype
        self.xp = Namespace(self)
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        # what each node does, constants and all, and for which layer
        self.steps: list[tuple[str, tuple[Any, ...]]] = []
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []
        self._known: dict[tuple[Any, ...], Symbol] = {}
        self._place = ""

    @contextlib.contextmanager
    def at(self, place: str) -> Iterator[None]:
        """Name nodes after `place` within a ``with`` block, and what can't be exported too."""
        self._place = place
        try:
            # the values are stand-ins
            with np.errstate(all="ignore"):
                yield
        except (AttributeError, IndexError, NotImplementedError, TypeError, ValueError) as error:
            raise ArgumentError(f"{place} can't be exported to ONNX: {error}") from error

    def checked(self, y: Any) -> Symbol:
        """Return `y` if it belongs to the graph."""
        if not isinstance(y, Symbol):
            raise TypeError(f"it returns {type(y).__name__}")
        return y

    def input(self, name: str, value: np.ndarray) -> Symbol:
        """Add an input of free batch size."""
        self._inputs.append(self._typed(name, value))
        return Symbol(self, name, value)

    def output(self, name: str, symbol: Symbol) -> None:
        """Add an output of free batch size."""
        self.nodes.append(self.onnx.helper.make_node("Identity", [symbol.name], [name], name=name))
        self.steps.append((name, (name, symbol.name)))
        self._outputs.append(self._typed(name, symbol.value))

    def _typed(self, name: str, value: np.ndarray) -> Any:
        kind = self.onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
        shape = ["batch", *value.shape[1:]]
        return self.onnx.helper.make_tensor_value_info(name, kind, shape)

    def parameter(self, value: np.ndarray, name: str) -> Symbol:
        """Return the symbol of a named constant."""
        self.constants.append(self.onnx.numpy_helper.from_array(np.ascontiguousarray(value), name))
        return Symbol(self, name, value)

    def constant(self, value: Any) -> Symbol:
        """Return the symbol of a constant; equal ones are one."""
        value = np.asarray(value)
        key = _key(value)
        if key not in self._known:
            self._known[key] = self.parameter(value, f"constant{len(self._known)}")
        return self._known[key]

    def node(self, kind: str, value: Any, *inputs: Any, **attributes: Any) -> Symbol:
        """Add a node for `inputs`, symbols or constants, whose output is like `value`."""
        name = f"{self._place}/{kind}{len(self.nodes)}".replace(" ", "_")
        names = [(i if isinstance(i, Symbol) else self.constant(i)).name for i in inputs]
        self.nodes.append(self.onnx.helper.make_node(kind, names, [name], name=name, **attributes))
        about = (i.name if isinstance(i, Symbol) else _key(i) for i in inputs)
        self.steps.append((self._place, (kind, *about, *map(str, attributes.items()))))
        return Symbol(self, name, np.asarray(value))

    def model(self, model: Sequential) -> Any:
        """Return the checked model."""
        helper = self.onnx.helper
        used = {name for node in self.nodes for name in node.input}
        graph = helper.make_graph(
            self.nodes,
            "xpnn",
            self._inputs,
            self._outputs,
            [constant for constant in self.constants if constant.name in used],
        )
        made = helper.make_model(
            graph,
            producer_name="xpnn",
            producer_version=__version__,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            doc_string=repr(model),
        )
        about = {"xpnn": __version__, "model": repr(model), "loss": repr(model.task.loss)}
        if model.task.classes is not None:
            about["classes"] = json.dumps(model.task.classes)
        if model.task.labels is not None:
            about["labels"] = json.dumps(model.task.labels.tolist())
        helper.set_model_props(made, about)
        self.onnx.checker.check_model(made, full_check=True)
        return made


def _key(value: Any) -> tuple[Any, ...]:
    value = np.asarray(value)
    return value.dtype, value.shape, value.tobytes()


class Symbol:
    """An array of a graph that is being traced; its value is a stand-in for shape and dtype."""

    def __init__(self, graph: Graph, name: str, value: np.ndarray) -> None:
        self.graph, self.name, self.value = graph, name, value
        self.dtype, self.shape, self.ndim = value.dtype, value.shape, value.ndim
        self.size, self.device = value.size, "cpu"

    def __repr__(self) -> str:
        return f"<ONNX {self.name}, {self.dtype} of shape {self.shape}>"

    def __array_namespace__(self, api_version: str | None = None) -> Any:
        return self.graph.xp

    def _no_value(self, *_: Any) -> Any:
        raise TypeError("an array's values aren't known before the network runs")

    __bool__ = __float__ = __int__ = __index__ = __iter__ = __array__ = _no_value

    @property
    def T(self) -> Array:  # noqa: N802
        """The transpose of a matrix."""
        return self.graph.xp.matrix_transpose(self)

    def __getitem__(self, index: Any) -> Symbol:
        """Return a part by slices, whole numbers and None."""
        items = index if isinstance(index, tuple) else (index,)
        if Ellipsis in items:
            missing = self.ndim - sum(item is not None for item in items) + 1
            at = items.index(Ellipsis)
            items = items[:at] + (slice(None),) * missing + items[at + 1 :]
        axis, squeezed, x = 0, [], self
        expanded, out = [], 0
        for item in items:
            if item is None:
                expanded.append(out)
                out += 1
                continue
            if isinstance(item, slice):
                x = x._sliced(axis, item)
                out += 1
            elif isinstance(item, int):
                x = x._sliced(axis, slice(item, item + 1 or None))
                squeezed.append(axis)
            else:
                raise TypeError(f"index {item!r} must be a slice, a whole number or None")
            axis += 1
        graph = self.graph
        if squeezed:
            value = np.squeeze(x.value, axis=tuple(squeezed))
            x = graph.node("Squeeze", value, x, np.asarray(squeezed, np.int64))
        if expanded:
            value = np.expand_dims(x.value, tuple(expanded))
            x = graph.node("Unsqueeze", value, x, np.asarray(expanded, np.int64))
        return x

    def _sliced(self, axis: int, item: slice) -> Symbol:
        if item == slice(None):
            return self
        step = 1 if item.step is None else item.step
        far = np.iinfo(np.int64).max
        start = (0 if step > 0 else far) if item.start is None else item.start
        stop = (far if step > 0 else -far) if item.stop is None else item.stop
        value = self.value[(slice(None),) * axis + (item,)]
        bounds = (np.asarray([number], np.int64) for number in (start, stop, axis, step))
        return self.graph.node("Slice", value, self, *bounds)


# array API name: ONNX's
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
_OPERATORS = {
    "add": "add",
    "sub": "subtract",
    "mul": "multiply",
    "truediv": "divide",
    "pow": "pow",
    "matmul": "matmul",
    "and": "logical_and",
    "or": "logical_or",
    "xor": "logical_xor",
}
_COMPARISONS = {
    "eq": "equal",
    "ne": "not_equal",
    "lt": "less",
    "le": "less_equal",
    "gt": "greater",
    "ge": "greater_equal",
}
# they bring nothing into the graph
_PLAIN = ("bool", "float32", "float64", "int32", "int64", "e", "inf", "nan", "newaxis", "pi")


class Namespace:
    """The part of the array API that a graph can hold, as functions of symbols."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._numpy = namespace(np.empty(0))
        for name in _PLAIN:
            setattr(self, name, getattr(self._numpy, name))

    def __getattr__(self, name: str) -> Any:
        if name in _UNARY:
            return lambda x: self._same(name, _UNARY[name], x)
        if name in _BINARY:
            return lambda a, b: self._same(name, _BINARY[name], a, b)
        if name in _REDUCTIONS:
            return lambda x, **how: self._reduced(name, x, **how)
        raise AttributeError(f"xp.{name} has no counterpart here")

    def _value(self, x: Any) -> Any:
        return x.value if isinstance(x, Symbol) else x

    def _operands(self, *operands: Any) -> list[Any]:
        """Return operands of one dtype: a Python number takes that of the array beside it."""
        arrays = [x for x in operands if isinstance(x, Symbol)]
        dtype = np.result_type(*(x.dtype for x in arrays))
        if dtype == np.bool_ and any(type(x) in (int, float) for x in operands):
            dtype = self._graph.dtype
        return [
            self.astype(x, dtype) if isinstance(x, Symbol) else np.asarray(x, dtype)
            for x in operands
        ]

    def _same(self, name: str, kind: str, *operands: Any) -> Array:
        operands = tuple(self._operands(*operands))
        value = getattr(self._numpy, name)(*map(self._value, operands))
        return self._graph.node(kind, value, *operands)

    def _reduced(
        self, name: str, x: Array, axis: Any = None, keepdims: bool = False, **dtype: Any
    ) -> Array:
        if dtype:
            raise TypeError(f"xp.{name} can't take {', '.join(dtype)} here")
        value = getattr(self._numpy, name)(x.value, axis=axis, keepdims=keepdims)
        axes = range(x.ndim) if axis is None else np.atleast_1d(axis)
        axes = np.asarray([a % x.ndim for a in axes], np.int64)
        return self._graph.node(_REDUCTIONS[name], value, x, axes, keepdims=int(keepdims))

    def astype(self, x: Array, dtype: Any, **_: Any) -> Array:
        """Return `x` in another dtype."""
        dtype = np.dtype(dtype)
        if x.dtype == dtype:
            return x
        kind = self._graph.onnx.helper.np_dtype_to_tensor_dtype(dtype)
        return self._graph.node("Cast", x.value.astype(dtype), x, to=kind)

    def isdtype(self, dtype: Any, kind: Any) -> bool:
        """Return whether a dtype is of a kind."""
        return bool(self._numpy.isdtype(dtype, kind))

    def asarray(self, x: Any, *, dtype: Any = None, device: Any = None) -> Array:
        """Return a constant."""
        if isinstance(x, Symbol):
            return x if dtype is None else self.astype(x, dtype)
        default = self._graph.dtype if isinstance(x, float) else None
        return self._graph.constant(np.asarray(to_numpy(x), dtype=dtype or default))

    def zeros_like(self, x: Array, **_: Any) -> Array:
        """Return an array of 0 of the shape of `x`."""
        return self.where(self.equal(x, x), 0.0, x)

    def ones_like(self, x: Array, **_: Any) -> Array:
        """Return an array of 1 of the shape of `x`."""
        return self.zeros_like(x) + 1.0

    def where(self, condition: Array, a: Any, b: Any) -> Array:
        """Return `a` where the condition holds, else `b`."""
        if isinstance(a, Symbol) or isinstance(b, Symbol):
            a, b = self._operands(a, b)
        else:
            a, b = (np.asarray(x, self._graph.dtype) for x in (a, b))
        value = np.where(condition.value, self._value(a), self._value(b))
        return self._graph.node("Where", value, condition, a, b)

    def not_equal(self, a: Any, b: Any) -> Array:
        """Return where two arrays differ."""
        return self._same("logical_not", "Not", self.equal(a, b))

    def clip(self, x: Array, min: Any = None, max: Any = None) -> Array:  # noqa: A002
        """Return `x`, and a bound where it is beyond it."""
        x = x if min is None else self.maximum(x, min)
        return x if max is None else self.minimum(x, max)

    def square(self, x: Array) -> Array:
        """Return ``x²``."""
        return self.multiply(x, x)

    def positive(self, x: Array) -> Array:
        """Return `x`."""
        return x

    def expm1(self, x: Array) -> Array:
        """Return ``exp(x) - 1``; near 0, ``2 t / (1 - t)`` with t = tanh(x / 2)."""
        t = self.tanh(self.clip(x, -1.0, 1.0) * 0.5)
        return self.where(self.abs(x) < 1.0, 2.0 * t / (1.0 - t), self.exp(x) - 1.0)

    def log1p(self, x: Array) -> Array:
        """Return ``log(1 + x)``: with w = 1 + x as rounded, ``log(w) x / (w - 1)`` (Kahan)."""
        w = x + 1.0
        return self.where(self.equal(w, 1.0), x, self.log(w) * (x / (w - 1.0)))

    def matmul(self, a: Array, b: Array) -> Array:
        """Return the matrix product."""
        return self._graph.node("MatMul", a.value @ b.value, a, b)

    def matrix_transpose(self, x: Array) -> Array:
        """Return the transpose of a matrix."""
        return self.permute_dims(x, (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))

    def permute_dims(self, x: Array, axes: Sequence[int]) -> Array:
        """Return `x` with its axes in another order."""
        return self._graph.node("Transpose", np.transpose(x.value, axes), x, perm=list(axes))

    def expand_dims(self, x: Array, *, axis: int = 0) -> Array:
        """Return `x` with an axis of length 1."""
        axes = np.asarray([axis], np.int64)
        return self._graph.node("Unsqueeze", np.expand_dims(x.value, axis), x, axes)

    def squeeze(self, x: Array, axis: int) -> Array:
        """Return `x` without an axis of length 1."""
        axes = np.asarray([axis], np.int64)
        return self._graph.node("Squeeze", np.squeeze(x.value, axis), x, axes)

    def reshape(self, x: Array, shape: Sequence[int]) -> Array:
        """Return `x` in another shape; its first length, if it is the batch's, stays free."""
        value = np.reshape(x.value, shape)
        fixed = [0 if i == 0 and n == x.shape[0] else n for i, n in enumerate(shape)]
        return self._graph.node("Reshape", value, x, np.asarray(fixed, np.int64))

    def concat(self, arrays: Sequence[Array], *, axis: int = 0) -> Array:
        """Return arrays one after the other."""
        value = np.concatenate([x.value for x in arrays], axis=axis)
        return self._graph.node("Concat", value, *self._operands(*arrays), axis=axis)


def _operator(name: str, reflected: bool = False) -> Callable[[Symbol, Any], Array]:
    def operator(a: Symbol, b: Any) -> Array:
        if not isinstance(b, (Symbol, int, float)):
            return NotImplemented
        function = getattr(a.graph.xp, name)
        return function(b, a) if reflected else function(a, b)

    return operator


for _name, _function in _OPERATORS.items():
    setattr(Symbol, f"__{_name}__", _operator(_function))
    setattr(Symbol, f"__r{_name}__", _operator(_function, reflected=True))
for _name, _function in _COMPARISONS.items():
    setattr(Symbol, f"__{_name}__", _operator(_function))
for _name, _function in (("neg", "negative"), ("abs", "abs"), ("invert", "logical_not")):
    setattr(Symbol, f"__{_name}__", lambda x, f=_function: getattr(x.graph.xp, f)(x))
Symbol.__hash__ = object.__hash__  # type: ignore[method-assign]

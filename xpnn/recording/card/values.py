"""The values of a recorded step: what each operation makes, also where it overwrites an array.

A node of a recording says which array it writes to. On a card, the order of operations is chosen
anew, so that an array which is changed in place must be told from what it was before: each change
makes another `Value`. Operands are values, seen through the views that the step took of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from xpnn._core.tree import leaves, rebuilt
from xpnn.recording.card.operations import ELEMENTWISE, FLOATING, REDUCTIONS, TRUTHS
from xpnn.recording.card.positions import Layout, packed_layout
from xpnn.recording.layout import is_packed
from xpnn.recording.nodes import Node, RecordingError, Ref, copied, refs_in
from xpnn.recording.recorder import Recorded, Recording, item

Array = np.ndarray


@dataclass(eq=False)
class Value:
    """The elements that an operation makes, or that a step is given.

    Attributes
    ----------
    kind
        "given" by the caller, a "constant" of all steps, "elementwise", a "reduction", or a
        "product" of matrices.
    dtype, layout
        Those of the array; its elements are stored without gaps.
    name
        The operation, as `operations` calls it; for "given" the name of the pointer to it.
    operands
        What it is computed from: `Operand`, or a number.
    computed
        The dtype that an elementwise operation converts its operands to.
    axes
        The axes that a reduction goes along.
    host
        The elements of a constant.
    """

    kind: str
    dtype: np.dtype[Any]
    layout: Layout
    name: str = ""
    operands: tuple[Any, ...] = ()
    computed: np.dtype[Any] | None = None
    axes: tuple[int, ...] = ()
    host: Array | None = None
    number: int = -1

    @property
    def whole(self) -> Operand:
        """The value as an operand."""
        return Operand(self, self.layout)

    @property
    def sources(self) -> list[Value]:
        """The values that it is computed from."""
        return [operand.value for operand in self.operands if isinstance(operand, Operand)]


@dataclass(frozen=True, eq=False)
class Operand:
    """A view of a value: its layout is that of the view within the value's memory."""

    value: Value
    layout: Layout


class Values:
    """The values of a recording, in an order in which they can be computed.

    Parameters
    ----------
    recording
        The recording, done with NumPy's arrays.
    nodes
        Those of its nodes that are needed.
    given
        The given arrays by name; no two share memory.

    Attributes
    ----------
    all
        The values.

    Raises
    ------
    RecordingError
        If the step does something that no kernel is written for.
    """

    def __init__(
        self, recording: Recording, nodes: Sequence[Node], given: dict[str, Recorded]
    ) -> None:
        self._recording = recording
        self._current: dict[int, Value] = {}  # the present value of each array, by its root
        self.all: list[Value] = []
        for name, array in given.items():
            layout = _layout(array.value, array.value)
            self._set(recording.key(array), Value("given", array.dtype, layout, name))
        for node in nodes:
            self._do(node)

    def of(self, array: Recorded) -> Operand:
        """Return what an array is at the end of the step."""
        return self._operand(self._recording.key(array))

    def add(self, value: Value) -> Value:
        """Give a value its number, after those that it is computed from; return it."""
        if value.number < 0:
            value.number = len(self.all)
            self.all.append(value)
        return value

    def _set(self, root: int, value: Value) -> None:
        self._current[root] = self.add(value)

    def _operand(self, key: int) -> Operand:
        root, arrays = self._recording.root(key), self._recording.arrays
        if root not in self._current:
            host = arrays[root]
            constant = Value("constant", host.dtype, _layout(host, host), host=host)
            self._set(root, constant)
        return Operand(self._current[root], _layout(arrays[key], arrays[root]))

    def _do(self, node: Node) -> None:
        arrays = self._recording.arrays
        if node.kind == "view":
            return
        if node.kind == "check":
            raise RecordingError(
                f"what the step does depends on an array's truth, in {node.origin}"
            )
        try:
            value = self._made(node)
        except _UnknownError as error:
            raise RecordingError(f"{error} has no kernel, in {node.origin}") from None
        root = self._recording.root(node.out)
        if node.kind == "mutate":
            target, own = arrays[node.out], arrays[root]
            if target.size != own.size or not is_packed(target):
                raise RecordingError(f"a part of an array is changed in place, in {node.origin}")
            if target.dtype != own.dtype:
                raise RecordingError(f"an array is changed in another dtype, in {node.origin}")
        self._set(root, value)

    def _made(self, node: Node) -> Value:
        """Return the value that a node makes."""
        array, name = self._recording.arrays[node.out], node.title
        layout = _layout(array, array)
        if not array.size:
            raise _UnknownError("an empty array")
        args: tuple[Any, ...] = rebuilt(
            node.args,
            [self._operand(a.key) if isinstance(a, Ref) else a for a in leaves(node.args)],
        )
        if node.function is copied:
            return self._elementwise("copy", (args[1],), array, layout)
        if node.function is item and not refs_in(node.args[1:]):
            return self._elementwise("copy", (_item(args[0], args[1]),), array, layout)
        if name in ("concat", "stack"):
            return self._gathered(name, args[0], node.kwargs.get("axis", 0), array, layout)
        if name in ("astype", "asarray") and isinstance(args[0], Operand):
            return self._elementwise("copy", args[:1], array, layout)
        if name == "take" and len(args) == 2:
            return self._taken(args[0], args[1], node.kwargs, array, layout)
        if name == "reshape":
            return Value("elementwise", array.dtype, layout, "reshape", args[:1], array.dtype)
        if name == "matmul" and not node.kwargs:
            return self._product(args[0], args[1], array, layout)
        if name in REDUCTIONS:
            return self._reduction(name, args, node.kwargs, array, layout)
        if name == "searchsorted" and node.kwargs.keys() <= {"side"} and len(args) == 2:
            side = node.kwargs.get("side", "left")
            return self._elementwise(f"searchsorted_{side}", args, array, layout)
        if name == "add" and (whole := _whole_product(*args)) is not None:
            return whole
        if name in ELEMENTWISE and not node.kwargs:
            return self._elementwise(name, args, array, layout)
        raise _UnknownError(name)

    def _elementwise(self, name: str, args: tuple[Any, ...], array: Array, layout: Layout) -> Value:
        if not all(isinstance(a, (Operand, int, float)) for a in args):
            raise _UnknownError(f"{name} of {[type(a).__name__ for a in args]}")
        if name.startswith("searchsorted"):
            table, x = args
            if len(table.layout.shape) != 1 or table.value.dtype != x.value.dtype:
                raise _UnknownError(name)
            return Value("elementwise", array.dtype, layout, name, args, x.value.dtype)
        numbers = args[1:] if name == "where" else args
        given = [a.value.dtype if isinstance(a, Operand) else a for a in numbers]
        computed = np.result_type(*given)
        if name not in TRUTHS and computed != array.dtype and name in FLOATING:
            computed = array.dtype
        if computed.kind == "b" and name in ("add", "multiply", "negative", "maximum", "minimum"):
            raise _UnknownError(f"{name} of truths")
        if computed.kind not in "biuf" or computed == np.float16:
            raise _UnknownError(f"{name} of {computed}")
        return Value("elementwise", array.dtype, layout, name, args, computed)

    def _gathered(
        self, name: str, parts: Sequence[Any], axis: int, array: Array, layout: Layout
    ) -> Value:
        """Return a value whose elements are those of several operands, one behind the other."""
        if axis is None or not all(isinstance(part, Operand) for part in parts):
            raise _UnknownError(name)
        if name == "stack":  # a concatenation along a new axis
            axis %= array.ndim
            parts = [Operand(p.value, _with_axis(p.layout, axis)) for p in parts]
        axes = (axis % array.ndim,)
        return Value("elementwise", array.dtype, layout, "concat", tuple(parts), array.dtype, axes)

    def _taken(
        self, x: Operand, rows: Operand, kwargs: dict[str, Any], array: Array, layout: Layout
    ) -> Value:
        axis = kwargs.get("axis")
        if axis is None and len(x.layout.shape) == 1:
            axis = 0
        if axis is None or kwargs.keys() - {"axis"} or rows.value.dtype.kind not in "iu":
            raise _UnknownError("take")
        if len(rows.layout.shape) != 1:
            raise _UnknownError("take of indices with several axes")
        axes = (axis % len(x.layout.shape),)
        return Value("elementwise", array.dtype, layout, "take", (x, rows), array.dtype, axes)

    def _product(self, a: Any, b: Any, array: Array, layout: Layout) -> Value:
        if not (isinstance(a, Operand) and isinstance(b, Operand)):
            raise _UnknownError("matmul")
        alike = a.value.dtype == b.value.dtype == array.dtype
        if len(a.layout.shape) != 2 or len(b.layout.shape) != 2 or not alike:
            raise _UnknownError("a product of anything but two matrices of one dtype")
        if array.dtype.kind != "f" or layout != packed_layout(array.shape):
            raise _UnknownError(f"a product in {array.dtype}")
        made = Value("product", array.dtype, layout, "matmul", (a, b))
        made.operands = tuple(self._stored(operand) for operand in made.operands)
        return made

    def _stored(self, operand: Operand) -> Operand:
        """Return a matrix as cuBLAS can read it: one axis without gaps."""
        (rows, columns), (down, across) = operand.layout.shape, operand.layout.strides
        by_row = (across == 1 or columns == 1) and (down >= columns or rows == 1)
        by_column = (down == 1 or rows == 1) and (across >= rows or columns == 1)
        if by_row or by_column:
            return operand
        layout = packed_layout((rows, columns))
        dtype = operand.value.dtype
        return self.add(Value("elementwise", dtype, layout, "copy", (operand,), dtype)).whole

    def _reduction(
        self, name: str, args: Any, kwargs: dict[str, Any], array: Array, layout: Layout
    ) -> Value:
        if len(args) != 1 or not isinstance(args[0], Operand):
            raise _UnknownError(name)
        if kwargs.keys() - {"axis", "keepdims", "dtype"}:
            raise _UnknownError(f"{name} with {', '.join(kwargs)}")
        axis, rank = kwargs.get("axis"), len(args[0].layout.shape)
        axes = range(rank) if axis is None else (axis,) if isinstance(axis, int) else axis
        return Value(
            "reduction", array.dtype, layout, name, (args[0],),
            axes=tuple(sorted(a % rank for a in axes)),
        )  # fmt: skip


def _whole_product(one: Any, other: Any) -> Value | None:
    """Return the product of which two products are neighbouring parts, None if they aren't.

    ``a[:, :k] @ b[:k] + a[:, k:] @ b[k:]`` is ``a @ b``: one launch, whose sums cuBLAS adds up in
    an order of its own anyway. Reproducible products are exact in any order.
    """
    products = [p.value for p in (one, other) if isinstance(p, Operand)]
    if len(products) < 2 or any(product.kind != "product" for product in products):
        return None
    if not all(p.layout.alike(p.value.layout) for p in (one, other)):
        return None
    (a, b), (c, d) = (product.operands for product in products)
    rows, inner = a.layout.shape
    more, columns = d.layout.shape
    follows = (
        (a.value, a.layout.strides, a.layout.start + inner * a.layout.strides[1]),
        (b.value, b.layout.strides, b.layout.start + inner * b.layout.strides[0]),
    )
    if follows != tuple((x.value, x.layout.strides, x.layout.start) for x in (c, d)):
        return None
    if (rows, columns) != (c.layout.shape[0], b.layout.shape[1]):
        return None
    a = Operand(a.value, a.layout._replace(shape=(rows, inner + more)))
    b = Operand(b.value, b.layout._replace(shape=(inner + more, columns)))
    return replace(products[0], operands=(a, b), number=-1)


class _UnknownError(Exception):
    """An operation that no kernel is written for; its argument names it."""


def _layout(array: Array, root: Array) -> Layout:
    """Return the layout of a view within the memory of another array."""
    size = root.itemsize
    if array.itemsize != size:
        raise RecordingError("an array is seen in another dtype")
    distance = array.ctypes.data - root.ctypes.data
    return Layout(array.shape, tuple(s // size for s in array.strides), distance // size)


def _item(x: Operand, key: Any) -> Operand:
    """Return ``x[key]`` as a view, also where it is a scalar."""
    shape, strides, start = x.layout
    # an array of the same layout, of which no element is looked at
    probe = np.lib.stride_tricks.as_strided(np.empty(1, np.int8), shape, strides)
    keys = key if isinstance(key, tuple) else (key,)
    if not all(isinstance(k, (int, slice, type(None), type(Ellipsis))) for k in keys):
        raise _UnknownError(f"an index {key!r}")
    found = probe[keys if Ellipsis in keys else (*keys, Ellipsis)]
    distance = found.ctypes.data - probe.ctypes.data
    return Operand(x.value, Layout(found.shape, found.strides, start + distance))


def _with_axis(layout: Layout, axis: int) -> Layout:
    shape, strides = list(layout.shape), list(layout.strides)
    shape.insert(axis, 1)
    strides.insert(axis, 0)
    return Layout(tuple(shape), tuple(strides), layout.start)


def uniform(value: Value) -> Any:
    """Return the one number that a constant consists of, None if there are several."""
    host = value.host
    if host is None or not host.size:
        return None
    first = host.reshape(-1)[0]
    same = host.size == 1 or (host == first).all()
    if not same or (host.dtype.kind == "f" and np.signbit(host).any() != np.signbit(first)):
        return None
    return None if isinstance(first, np.floating) and math.isnan(first) else first

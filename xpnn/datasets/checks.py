"""Checks of data sets that a user passes."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np

from xpnn._core.mapped import EXACT, blocks, is_mapped, plain
from xpnn.backends import to_numpy
from xpnn.datasets.cells import is_absent, shown
from xpnn.datasets.dataset import Dataset, NamedDataset, located
from xpnn.datasets.frames import as_cells, is_frame
from xpnn.datasets.labels import label_indices, truth_values
from xpnn.errors import ArgumentError, DataError

if TYPE_CHECKING:
    from xpnn.task import Task


def as_pair(name: str, data: Any) -> tuple[Any, Any]:
    """Return x and y of `data`, or raise an ArgumentError if it isn't a pair."""
    if is_frame(data):
        raise ArgumentError(
            f"{name} must be a pair (x, y), got a DataFrame; xpnn.datasets.from_table(frame, "
            "target=NAME) takes the target from it"
        )
    try:
        x, y = data
    except (TypeError, ValueError):
        raise ArgumentError(
            f"{name} must be a pair of arrays (x, y), got {type(data).__name__}"
        ) from None
    return x, y


def as_dataset(name: str, data: Any, task: Task | None = None) -> Dataset:
    """Return `data` checked, as arrays on the host.

    Parameters
    ----------
    name
        What messages call `data`.
    data
        A `Dataset`, or a pair of arrays of any library.
    task
        What a model knows of its data. If it has labels, each label in y becomes its index there;
        for x, see `as_inputs`.

    Raises
    ------
    ArgumentError
        If `data` isn't a pair.
    DataError
        If x isn't two-dimensional or images, y has more than two dimensions, x and y differ in
        length, one of them isn't numeric, there is a NaN or an infinity, or there is an integer in
        x, or in two-dimensional y, that float64 can't hold.
    """
    x, y = as_pair(name, as_table(data, task))
    with located(data):
        if task is not None and task.labels is not None:
            y = label_indices(f"{name}.y", y, task.labels)
        else:
            truths = truth_values(y)
            y = y if truths is None else truths
        x, y = as_inputs(f"{name}.x", x, task), _numeric(f"{name}.y", y)
    if is_mapped(y) and y.ndim == 1:
        y = np.array(y)
    if y.ndim not in (1, 2):
        raise DataError(f"{name}.y must have shape (n,) or (n, outputs), got shape {y.shape}")
    check_lengths(name, x, y)
    return data._replace(x=x, y=y) if isinstance(data, NamedDataset) else Dataset(x, y)


def as_table(data: Any, task: Task | None) -> Any:
    """Return data with names as cells where a model encodes columns: their numbers are no codes."""
    encodes = task is not None and task.columns is not None
    if encodes and isinstance(data, NamedDataset) and data.feature_names:
        return data._replace(x=data.x.astype(object))
    return data


def as_inputs(name: str, x: Any, task: Task | None = None) -> np.ndarray:
    """Return `x`, of any library, as a checked two-dimensional array on the host.

    Images become rows of features. The `task` is what a model knows of its data: if it has columns,
    x is a table that they turn into features; of a DataFrame, those with its names are taken; its
    kind is for `in_kind`. An array that is mapped from a file stays mapped, if its dtype stays.
    """
    columns, kind = (None, None) if task is None else (task.columns, task.input_kind)
    if is_frame(x):
        x = as_cells(x, None if task is None else task.feature_names)
        # its numbers are cells, also in a column that held texts, and no codes
        x = x if columns is None else x.astype(object)
    if columns is not None:
        codes = columns.codes(name, to_numpy(x, name))
        return _numeric(name, columns.apply(codes, xp=np))
    inputs = in_kind(name, _numeric(name, x, kind), kind)
    if inputs.ndim == 4 and image_shape_of(inputs) is None:
        raise DataError(
            f"{name} must have 1, 3 or 4 channels as its last axis, or 1 or 3 as its second, where "
            f"it has four, got shape {inputs.shape}"
        )
    if inputs.ndim not in (2, 3, 4):
        raise DataError(f"{name} must have shape (n, features), got shape {inputs.shape}")
    # sparse rows, which have two axes, stay sparse
    return inputs if inputs.ndim == 2 else np.asanyarray(flat(inputs))


def kind_of(x: np.ndarray) -> str:
    """Return what inputs are: "bytes", "integers" (also truth values) or "floats"."""
    if x.dtype == np.uint8:
        return "bytes"
    return "floats" if x.dtype.kind == "f" else "integers"


def in_kind(name: str, x: Any, kind: str | None, *, xp: Any = np) -> Any:
    """Return inputs in the units of those that a model was trained on.

    Unsigned bytes are divided by 255 if the model was trained on bytes, and only then. So integers
    become bytes for such a model; bytes become plain integers for one that was trained on integers.

    Parameters
    ----------
    name
        What messages call `x`.
    x
        Numbers, on the host or on a device.
    kind
        What `kind_of` said of the training data; None if unknown, and `x` is returned as it is.
    xp
        The namespace of `x`.

    Raises
    ------
    DataError
        If there are truth values, or an integer that isn't one from 0 to 255, where bytes were
        trained on, or floats were certainly not divided by 255 there; or if there are bytes where
        the model was trained on floats, which may have been bytes divided by 255 or not.
    """
    bytes_given, bytes_known = x.dtype == xp.uint8, kind == "bytes"
    if kind is None or bytes_given == bytes_known:
        return x
    if not bytes_known:
        if kind == "floats":
            wanted = "floats, as those that the model was trained on, and not bytes"
            _check(name, x, lambda rows: rows > 1, wanted, xp)
        return xp.astype(x, xp.int16)
    if xp.isdtype(x.dtype, "real floating"):
        wanted = "bytes, or bytes / 255, as the model was trained on bytes"
        # with room for noise that was added
        _check(name, x, lambda rows: (rows < -2) | (rows > 2), wanted, xp)
        return x
    if xp.isdtype(x.dtype, "bool"):
        raise DataError(
            f"{name} must be bytes, or bytes / 255, as the model was trained on bytes, got truth "
            "values; if True is white, pass 255 * x.astype('uint8')"
        )
    wanted = "integers from 0 to 255, as the model was trained on bytes"
    _check(name, x, lambda rows: (rows < 0) | (rows > 255), wanted, xp)
    return xp.astype(x, xp.uint8)


def image_shape_of(x: Any) -> tuple[int, int, int] | None:
    """Return height, width and channels of images in an array of three or four axes, else None.

    Channels are the last axis, or the second one, as in PyTorch, if only that can be theirs.
    """
    shape = None
    # nested tensors have a shape that can't be asked for; what is no array is refused elsewhere
    with contextlib.suppress(ArgumentError, RuntimeError):
        shape = x.shape if hasattr(x, "shape") else to_numpy(x).shape
    match tuple(shape or ()):
        case (_, height, width):
            return height, width, 1
        case (_, height, width, (1 | 3) as channels):
            return height, width, channels
        case (_, (1 | 3) as channels, height, width):
            return height, width, channels
        case (_, height, width, 4):
            return height, width, 4
    return None


def flat(x: Any, *, xp: Any = np) -> Any:
    """Return images as rows of features, row by row with the channels of a pixel side by side."""
    if x.ndim == 2:
        return x
    shape = image_shape_of(x)
    assert shape is not None
    if x.ndim == 4 and tuple(x.shape[1:]) != shape:
        x = xp.permute_dims(x, (0, 2, 3, 1))
    return xp.reshape(x, (x.shape[0], math.prod(shape)))


def check_lengths(name: str, x: np.ndarray, y: np.ndarray) -> None:
    """Raise a DataError if x and y differ in length."""
    if x.shape[0] != y.shape[0]:
        raise DataError(
            f"{name}.x and {name}.y must have the same length, got {x.shape[0]} and {y.shape[0]}"
        )


def check_images(data: Any, shape: Sequence[int] | None, name: str = "data") -> None:
    """Raise a DataError if `data` are images of another shape than those a model was trained on.

    Accept data that don't know an image shape, and any data if the model wasn't trained on images
    (`shape` is None).

    Parameters
    ----------
    data
        A pair (x, y).
    shape
        Height, width and channels of the training images.
    name
        What the message calls data that weren't read from a file.
    """
    found = image_shape(data)
    if found is None or shape is None or tuple(found) == tuple(shape):
        return
    path = getattr(data, "path", "") or name
    raise DataError(
        f"{path} must hold images of {size_of(shape)} as the training data do, got {size_of(found)}"
    )


def image_shape(data: Any) -> tuple[int, int, int] | None:
    """Return height, width and channels of the images in a pair (x, y), None if unknown."""
    if isinstance(data, NamedDataset) and data.image_shape is not None:
        return data.image_shape
    return image_shape_of(data[0]) if isinstance(data, tuple | list) and len(data) == 2 else None


def size_of(shape: Sequence[int]) -> str:
    """Return a shape (height, width, channels) in words, such as "28 × 28 grey"."""
    height, width, channels = shape
    return f"{width} × {height} {'grey' if channels == 1 else 'colour'}"


def _numeric(name: str, values: Any, kind: str | None = None) -> np.ndarray:
    array: np.ndarray = values if is_mapped(values) else to_numpy(values, name)
    if array.dtype.kind == "b":
        # while they aren't integers yet
        in_kind(name, array, kind)
    if array.dtype.kind == "O" and array.ndim == 2:
        array = _numbers_of(name, array)
    if array.dtype.kind not in "biuf":
        found = type(values).__name__ if array.ndim == 0 else f"dtype {array.dtype}"
        raise DataError(f"{name} must be an array of numbers, got {found}")
    if array.dtype.kind == "f" and array.ndim:
        _check(name, array, lambda rows: ~np.isfinite(rows), "finite")
    elif array.dtype.kind in "iu" and array.dtype.itemsize == 8 and array.ndim == 2:
        _check(name, array, _inexact, "integers that float64 can hold")
    if not is_mapped(array):
        array = array.astype(plain(array.dtype), copy=False)
    return array


def _numbers_of(name: str, cells: np.ndarray) -> np.ndarray:
    """Return cells as float64, or raise a DataError about the first one that isn't a number."""
    for (row, column), cell in np.ndenumerate(cells):
        large = isinstance(cell, Integral) and abs(int(cell)) > EXACT
        if is_absent(cell) or large or not isinstance(cell, Real):
            found = "a missing value" if is_absent(cell) else f"{shown(str(cell))} is not a number"
            found = f"{shown(str(cell))} is larger than 2**53" if large else found
            raise DataError(
                f"{found}, and the model knows of numbers only",
                part=name.rpartition(".")[2],
                row=row,
                column=column,
            )
    return cells.astype(np.float64)


def _check(name: str, array: Any, wrong: Callable[[Any], Any], wanted: str, xp: Any = np) -> None:
    """Raise a DataError about the first value that is `wrong`, which must be `wanted`."""
    if xp is not np:
        if not xp.any(wrong(array)):
            return
        array = to_numpy(array)
    for first, rows in blocks(array):
        found = wrong(rows)
        if found.any():
            index = tuple(int(i) for i in np.argwhere(found)[0])
            raise DataError(
                f"{name} must be {wanted}, got {rows[index]}",
                part=name.rpartition(".")[2],
                row=first + index[0],
                column=index[1] if len(index) > 1 else None,
            )


def _inexact(rows: np.ndarray) -> np.ndarray:
    """Return which integers float64 can't hold."""
    # up to 2**53, all are exact; Python's integers compare the few others without rounding
    far = rows > EXACT
    if rows.dtype.kind == "i":
        far |= rows < -EXACT
    far[far] = [int(float(value)) != value for value in rows[far].tolist()]
    return far

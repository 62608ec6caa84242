"""Where xpnn's training step on NumPy goes: every array operation, counted and timed.

An epoch runs through `xpnn.fit` on arrays of a subclass of NumPy's, whose operations are NumPy's
own, called on plain views of the same memory. The clock runs around that call alone, so that what
Python does between the operations is what is left of the epoch.
"""

from __future__ import annotations

import os
import statistics
import sys
import time

import numpy as np
from bench_contenders import RATE, SEED, model_of

import xpnn
from xpnn.backends import NumpyBackend, get_backend

PACKAGE = os.path.dirname(xpnn.__file__)
LARGE = 100_000

# (where, operation, shape, dtype): (bytes allocated, bytes read and written, seconds) of each call
_notes: dict | None = None


class Noted(np.ndarray):
    """An array whose operations are noted."""

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **kwargs):
        called = getattr(ufunc, method)
        name = ufunc.__name__ if method == "__call__" else f"{ufunc.__name__}.{method}"
        if out is not None:
            kwargs["out"] = tuple(map(plain, out))
        result = noted(name, called, [plain(a) for a in inputs], kwargs, out is not None)
        if out is not None:
            return out[0] if len(out) == 1 else out
        return wrapped(result)

    def __array_function__(self, function, types, args, kwargs):
        args = [plain(a) for a in args]
        kwargs = {key: plain(a) for key, a in kwargs.items()}
        given = kwargs.get("out")
        result = noted(function.__name__, function, args, kwargs, given is not None)
        return wrapped(result)

    def __getitem__(self, key):
        result = plain(self)[plain(key)]
        if isinstance(result, np.ndarray) and not np.may_share_memory(result, plain(self)):
            # a gather; a view is no operation
            result = noted("getitem", lambda: plain(self)[plain(key)], [], {}, False)
        return wrapped(result)

    def __setitem__(self, key, value):
        noted("setitem", lambda: plain(self).__setitem__(plain(key), plain(value)), [], {}, True)

    def astype(self, *args, **kwargs):
        return wrapped(noted("astype", plain(self).astype, list(args), kwargs, False))


def plain(value):
    """Return `value` with plain arrays in place of noted ones."""
    if isinstance(value, Noted):
        return value.view(np.ndarray)
    if isinstance(value, (list, tuple)):
        return type(value)(map(plain, value))
    return value


def wrapped(value):
    """Return `value` with noted arrays in place of plain ones."""
    if isinstance(value, np.ndarray):
        return value.view(Noted)
    if isinstance(value, (list, tuple)):
        return type(value)(map(wrapped, value))
    # a scalar of NumPy would lose sight of what is computed from it
    return np.asarray(value).view(Noted) if isinstance(value, np.generic) else value


def noted(name, function, args, kwargs, in_place):
    """Call, and note what it took."""
    begun = time.perf_counter()
    result = function(*args, **kwargs)
    seconds = time.perf_counter() - begun
    if _notes is None:
        return result
    arrays = [a for a in (*args, *kwargs.get("out", ())) if isinstance(a, np.ndarray)]
    results = result if isinstance(result, (list, tuple)) else (result,)
    made = [a for a in results if isinstance(a, (np.ndarray, np.generic))]
    if not in_place and any(np.may_share_memory(a, b) for a in made for b in arrays):
        # a view is no operation
        return result
    size = sum(a.nbytes for a in made)
    if name == "take":
        arrays = arrays[1:] + made
    moved = sum(a.nbytes for a in arrays) + (0 if in_place else size)
    shape, dtype = (made[0].shape, made[0].dtype) if made else ((), "")
    note = _notes.setdefault((place(), name, shape, str(dtype)), [])
    note.append((0 if in_place else size, moved, seconds))
    return result


def place():
    """Return the innermost function of xpnn that is running."""
    frame = sys._getframe(2)
    while frame is not None:
        code = frame.f_code
        if code.co_filename.startswith(PACKAGE):
            module = os.path.basename(code.co_filename).removesuffix(".py")
            return f"{module}:{frame.f_lineno} {code.co_name}"
        frame = frame.f_back
    return ""


class _Backend(NumpyBackend):
    """NumPy, its arrays noted."""

    def asarray(self, host):
        return np.asarray(host).view(Noted)

    def dataset(self, host):
        return np.asarray(super().dataset(host)).view(Noted)


class _Epoch(xpnn.Callback):
    """Notes the second epoch."""

    def on_epoch(self, epoch):
        global _notes
        if epoch.epoch == 1:
            _notes = {}
        elif epoch.epoch == 2:
            self.notes, _notes = _notes, None


def profile(case):
    """Return a Markdown table of the operations of a step, the slowest first."""
    steps = case.samples // case.batch

    def run(backend, *callbacks):
        settings = {"optimizer": xpnn.SGD(lr=RATE), "epochs": 2, "batch_size": case.batch}
        history = xpnn.fit(
            model_of(case),
            case.arrays,
            seed=SEED,
            backend=backend,
            callbacks=callbacks,
            **settings,
        )
        return history[-1].seconds / steps

    step = run(get_backend("numpy", dtype=case.dtype))
    epoch = _Epoch()
    run(_Backend(dtype=case.dtype), epoch)
    rows = []
    for (where, name, shape, dtype), calls in epoch.notes.items():
        new, moved, seconds = zip(*calls, strict=True)
        count = len(calls) / steps
        # the median: the sum would count what else the machine did meanwhile
        total = count * statistics.median(seconds)
        large = count if new[0] >= LARGE else 0.0
        rows.append((total, count, sum(new) / steps, sum(moved) / steps, large, where, name))
        rows[-1] += (f"{dtype} {'x'.join(map(str, shape)) or 'scalar'}",)
    seconds, count, new, moved, large = (
        sum(column) for column in list(zip(*rows, strict=True))[:5]
    )
    lines = [
        f"{case}: {step * 1e6:.0f} us a step as it stands. With each operation noted:",
        "",
        "| where | operation | result | per step | bytes allocated | read and written | us |",
        "|---|---|---|---:|---:|---:|---:|",
        *(
            f"| {where} | {name} | {result} | {n:.4g} | {a:.0f} | {m:.0f} | {t * 1e6:.1f} |"
            for t, n, a, m, _, where, name, result in sorted(rows, reverse=True)
        ),
        f"| all | | | {count:.4g} | {new:.0f} | {moved:.0f} | {seconds * 1e6:.1f} |",
        "",
        f"{count:.1f} operations and {large:.1f} allocations of {LARGE} bytes or more per step.",
        "",
    ]
    return "\n".join(lines)

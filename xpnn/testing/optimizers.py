"""A check that an optimizer takes the same steps on every backend."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from xpnn._core.tree import Tree, flatten, paths, tree_map
from xpnn.backends import Backend
from xpnn.errors import ArgumentError
from xpnn.optimizers import OPTIMIZERS, Optimizer
from xpnn.testing.calls import called, check_unchanged, short, to_device, to_host
from xpnn.testing.differences import ROUNDINGS
from xpnn.testing.report import PartError, Report, report

_STEPS = 5

_PARAMETERS: Tree = [{"weight": np.empty((4, 3)), "bias": np.empty(3)}, {"scale": np.empty(2)}]


def check_optimizer(
    optimizer: str | Optimizer, *, backends: Iterable[str] | None = None, seed: int = 0
) -> Report:
    """Check that an optimizer takes the same steps on every backend that is installed.

    It takes five steps with random parameters and gradients, twice. Parameters and state must keep
    structure, shapes and dtypes; gradients must not be changed; the step must run compiled where
    the backend compiles. Each time, all backends must end with the same parameters, up to rounding.
    Since a compiled step runs its Python code once, that finds an optimizer that keeps something in
    itself instead of in its state.

    Parameters
    ----------
    optimizer
        An instance, or a name as at the command line, such as "nesterov:lr=0.1".
    backends
        As for `check_gradients`.
    seed
        The seed of the random parameters and gradients.

    Returns
    -------
    report
        What was compared; printed, it is a table.

    Raises
    ------
    PartError
        At the first mistake.
    ArgumentError
        If `optimizer` isn't one, or `backends` is empty or a string.
    """
    if isinstance(optimizer, str):
        optimizer = OPTIMIZERS.make(optimizer)
    if not isinstance(optimizer, Optimizer):
        raise ArgumentError(f"optimizer must be an Optimizer or its name, got {optimizer!r}")
    # for each dtype, the first backend and its parameters at the end
    first: dict[str, tuple[str, np.ndarray]] = {}

    def check(backend: Backend) -> tuple[int, int, float]:
        found, again = (_stepped(optimizer, backend, seed) for _ in range(2))
        if not np.array_equal(found, again):
            raise PartError(
                "the same steps don't end with the same parameters twice: is something kept in the "
                "optimizer instead of in its state?"
            )
        name, expected = first.setdefault(backend.dtype_name, (backend.name, found))
        error = float(np.abs(found - expected).max() / np.abs(expected).max())
        bound = _STEPS * ROUNDINGS * float(np.finfo(backend.dtype_name).eps)
        if not error <= bound:
            raise PartError(
                f"its parameters differ from those on {name} by {error:.3g} of the largest, more "
                f"than rounding does ({bound:.3g})"
            )
        return found.size, 0, error

    return report(repr(optimizer), "takes the same steps everywhere", backends, check)


def _stepped(optimizer: Optimizer, backend: Backend, seed: int) -> np.ndarray:
    """Return all parameters after the steps as one array; check what each step must keep."""
    rng, xp = np.random.RandomState(seed), backend.xp

    def drawn() -> Tree:
        return tree_map(lambda like: short(rng.standard_normal(like.shape)), _PARAMETERS)

    init = backend.compile(lambda parameters: optimizer.init(parameters, xp=xp))
    update = backend.compile(lambda *trees: optimizer.update(*trees, xp=xp))
    # a step may write to these
    parameters = tree_map(lambda a: backend.asarray(a.astype(backend.dtype_name)), drawn())
    state = called(init, parameters)
    before = {"parameters": _described(parameters), "state": _described(state)}
    for _ in range(_STEPS):
        host = drawn()
        gradients = tree_map(lambda a: to_device(backend, a), host)
        parameters, state = called(update, parameters, gradients, state)
        for what, tree in (("parameters", parameters), ("state", state)):
            if _described(tree) != before[what]:
                raise PartError(
                    f"a step must keep the {what}, {before[what]}, got {_described(tree)}"
                )
        for name, array in flatten(gradients).items():
            check_unchanged(backend, f"the gradient of {name}", array, flatten(host)[name])
    arrays = flatten(parameters)
    return np.concatenate([to_host(backend, arrays[name]).ravel() for name in sorted(arrays)])


def _described(tree: Any) -> dict[str, str]:
    """Return dtype and shape of the arrays of a nest, by path."""
    return {
        path: f"{getattr(leaf, 'dtype', type(leaf).__name__)}{list(getattr(leaf, 'shape', ()))}"
        for path, leaf in paths(tree).items()
    }

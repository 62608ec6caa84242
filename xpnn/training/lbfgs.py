"""L-BFGS: SciPy's minimizer on a whole data set, with a network's gradients."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from xpnn._core.tree import Tree
from xpnn.backends import Backend
from xpnn.losses import Loss
from xpnn.model import Sequential
from xpnn.training.history import UNKNOWN, Epoch, Figures, History
from xpnn.training.plan import Method, Plan, run_settings
from xpnn.training.samples import Samples, as_samples
from xpnn.training.steps import Context, GradientStep, mini_batches
from xpnn.training.streams import moved

Array = Any

# rows whose activations are in memory at a time
_ROWS = 10_000


@dataclass(frozen=True)
class LBFGS:
    """L-BFGS (Liu and Nocedal 1989), method "L-BFGS-B" of `scipy.optimize.minimize`.

    It minimizes ``scale * loss + decay / 2 * sum(w²)``, where w are the matrices but not the
    biases. The gradients are those of all samples, computed on the backend; the minimizer itself
    computes on the host in float64.

    Parameters
    ----------
    scale, decay
        The factors of the loss and of the penalty.
    tol
        The minimizer stops where no element of the gradient is larger, >= 0.
    max_iter, max_fun
        The largest numbers of iterations and of evaluations, >= 1.
    """

    scale: float = 1.0
    decay: float = 0.0
    tol: float = 1e-5
    max_iter: int = 15000
    max_fun: int = 15000

    def fit(
        self,
        model: Sequential,
        train: tuple[Array, Array],
        *,
        loss: Loss,
        seed: int,
        backend: Backend,
        labels: Sequence[Any] | np.ndarray | None = None,
        sample_weight: Array | None = None,
        told: Callable[[Epoch], None] = lambda row: None,
    ) -> tuple[History, str | None]:
        """Train a model on all samples at once.

        Parameters
        ----------
        model, train, loss, seed, backend, labels, sample_weight
            As for `xpnn.fit`. No layer may compute something else in training.
        told
            Called with the row of each iteration.

        Returns
        -------
        history
            A row for the parameters before, then one per iteration, with the figures of the
            parameters after it and without a penalty.
        problem
            Why the result may be no minimum, in SciPy's words; None if the minimizer converged.

        Raises
        ------
        ArgumentError, DataError
            As by `xpnn.fit`.
        DivergenceError
            If the loss became NaN or infinite; the model's parameters are then as before.
        """
        # scikit-learn, for whose estimators this is, needs SciPy too
        from scipy.optimize import minimize

        samples = as_samples(
            model, loss, train, None, seed=seed, labels=labels, normalizer=None,
            target_normalizer=None, sample_weight=sample_weight, class_weight=None,
        )  # fmt: skip
        n, inputs = samples.train.x.shape
        plan, method = Plan(self.max_iter, n, seed, shuffle=False), Method(loss, self)  # type: ignore[arg-type]
        history = History(run_settings(plan, method, samples, backend))
        begun = time.perf_counter()

        def note(vector: np.ndarray) -> None:
            nonlocal begun
            # the minimizer has just evaluated these parameters
            accuracy, mean = objective.figures
            row = Epoch(len(history), accuracy, mean, *UNKNOWN, time.perf_counter() - begun)
            begun = time.perf_counter()
            history.append(row)
            if row.epoch:
                told(row)

        with backend.scope():
            if model.parameters is None:
                model.initialize(inputs, backend=backend, rng=backend.random_state(seed))
            model.task, model.history = samples.task, history
            objective = _Objective(self, model, samples, backend)
            start = objective.packed(model.parameters)
            objective(start)
            note(start)
            options = {"maxiter": self.max_iter, "maxfun": self.max_fun, "gtol": self.tol}
            result = minimize(
                objective, start, method="L-BFGS-B", jac=True, options=options, callback=note
            )
            model.parameters = objective.unpacked(result.x)
        if not result.success:
            return history, str(result.message)
        history.stopped = str(result.message)
        return history, None


class _Objective:
    """Loss and gradient of a network as functions of one vector, which holds its parameters.

    Parameters
    ----------
    method, model, samples, backend
        Those of the run; the model has its parameters.

    Attributes
    ----------
    figures
        Accuracy and loss of the last parameters, without a penalty.
    """

    def __init__(
        self, method: LBFGS, model: Sequential, samples: Samples, backend: Backend
    ) -> None:
        self.method, self.model, self.backend = method, model, backend
        assert samples.task.loss is not None
        self.loss: Loss = samples.task.loss
        self.data = moved(samples.train, backend, samples.task, weights=samples.weights)
        self.fold = backend.fold(GradientStep(model.network, self.loss, backend.dtype))
        assert model.parameters is not None
        self.shapes = [
            {name: tuple(array.shape) for name, array in layer.items()}
            for layer in model.parameters
        ]
        sizes = [np.full(shape, len(shape) == 2).ravel() for shape in self._leaves(self.shapes)]
        self.decayed = np.concatenate(sizes)
        self.ends = np.cumsum([size.size for size in sizes])
        self.figures = UNKNOWN

    def _leaves(self, tree: list[dict[str, Any]]) -> list[Any]:
        """Return the leaves in the order of `shapes`: JAX returns dictionaries sorted by key."""
        pairs = zip(tree, self.shapes, strict=True)
        return [layer[name] for layer, names in pairs for name in names]

    def packed(self, tree: Tree | None) -> np.ndarray:
        """Return the arrays of a tree as one vector of float64 on the host."""
        assert tree is not None
        hosts = (self.backend.to_numpy(array).ravel() for array in self._leaves(tree))
        return np.concatenate([host.astype(np.float64) for host in hosts])

    def unpacked(self, vector: np.ndarray) -> Tree:
        """Return a vector as a tree on the device."""
        arrays = iter(np.split(vector.astype(self.backend.dtype_name), self.ends[:-1]))
        return [
            {
                name: self.backend.asarray(next(arrays).reshape(shape))
                for name, shape in layer.items()
            }
            for layer in self.shapes
        ]

    def __call__(self, vector: np.ndarray) -> tuple[float, np.ndarray]:
        backend, method, n = self.backend, self.method, len(self.data)
        figures = Figures(self.loss, 0, training=False)
        carry: Any = (
            self.unpacked(vector),
            self.model.buffers,
            self.unpacked(np.zeros_like(vector)),
        )
        size = min(_ROWS, self.data.capacity)
        for x, y, order, weights in self.data.chunks(size):
            context = Context(x, y, () if weights is None else weights)
            rows = list(map(backend.asarray, mini_batches(order, size, 1)))
            carry, sums = backend.sweep(self.fold, carry, rows, context, lambda count: None)
            columns = zip(*sums, strict=True)
            figures.add(*(map(backend.to_numpy, column) for column in columns))
        self.figures = figures.evaluation(n, self.model.task)
        gradient = method.scale / n * self.packed(carry[2])
        decayed = np.where(self.decayed, method.decay * vector, 0.0)
        penalty = 0.5 * float(decayed @ vector)
        return method.scale * self.figures.loss + penalty, gradient + decayed

"""scikit-learn estimators, trained by `xpnn.fit`: `MLPClassifier` and `MLPRegressor`.

The package doesn't import this module, which needs scikit-learn: ``from xpnn.estimators import
MLPClassifier``. Parameters, attributes and methods have the names, the order and the meaning that
they have in scikit-learn's estimators of the same names; our own parameters come after them.
scikit-learn's own tests are run on them in tests/test_scikit_learns_tests.py.
"""

from __future__ import annotations

import contextlib
import math
import numbers
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, field, fields
from typing import Any, NamedTuple, Self

import numpy as np
from array_api_compat import is_array_api_obj

from xpnn._core.mapped import SparseRows
from xpnn._core.tree import leaves, paths
from xpnn.backends import Backend, backend_of, get_backend, to_numpy
from xpnn.datasets.dataset import NamedDataset
from xpnn.datasets.frames import is_frame, named, same_names
from xpnn.datasets.labels import as_labels
from xpnn.errors import (
    ArgumentError,
    DataError,
    DivergenceError,
    check_plain,
    fraction,
    integer,
    nonnegative,
    positive,
    unknown,
)
from xpnn.inference import class_probabilities, outputs_of, predict_proba
from xpnn.layers import Dense
from xpnn.losses import LOSSES, MeanSquaredError, Quantile
from xpnn.model import Sequential
from xpnn.optimizers import SGD, Adam, Momentum, Nesterov, Optimizer
from xpnn.schedules import Schedule, power
from xpnn.settings import Settings
from xpnn.training import fit, streams
from xpnn.training.callback import Callback
from xpnn.training.checkpoint import SavedRun, on_host, taken
from xpnn.training.history import UNKNOWN, Epoch, History
from xpnn.training.lbfgs import LBFGS
from xpnn.training.loop import Trainer
from xpnn.training.run import Run
from xpnn.training.samples import as_test_set, sample_weights

__all__ = [
    "MLPClassifier",
    "MLPRegressor",
]

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.metrics import accuracy_score, d2_pinball_score, r2_score
    from sklearn.model_selection import train_test_split
    from sklearn.utils import check_array, check_consistent_length, check_random_state, column_or_1d
    from sklearn.utils.class_weight import compute_sample_weight
    from sklearn.utils.metaestimators import available_if
    from sklearn.utils.multiclass import check_classification_targets, type_of_target
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    raise ImportError(
        "xpnn.estimators needs scikit-learn; install it with: pip install 'xpnn[sklearn]'"
    ) from error

Array = Any

# an adaptive learning rate is divided by 5 as long as it is above 1e-6
_FALL, _LEAST_RATE = 5.0, 1e-6

# what a loss makes of the outputs, in scikit-learn's words
_OUTPUTS = {
    "binary_cross_entropy": "logistic",
    "binary_focal": "logistic",
    "cross_entropy": "softmax",
    "focal": "softmax",
    "poisson": "exp",
}


def _glorot(
    rng: np.random.RandomState, inputs: int, outputs: int, factor: float = 6.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return weights and biases from U(-r, r), r = sqrt(factor / (inputs + outputs)).

    The numbers are those that scikit-learn draws.
    """
    bound = math.sqrt(factor / (inputs + outputs))
    return rng.uniform(-bound, bound, (inputs, outputs)), rng.uniform(-bound, bound, outputs)


def _glorot_of_logistic(
    rng: np.random.RandomState, inputs: int, outputs: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the smaller weights and biases that scikit-learn draws for "logistic"."""
    return _glorot(rng, inputs, outputs, 2.0)


class _DecayOfMatrices:
    """Weight decay of the matrices only, not of biases or of what a `BatchNorm` learns."""

    def decayed(self, w: Array, g: Array) -> Array:
        return super().decayed(w, g) if w.ndim == 2 else g  # type: ignore[misc]


class _SGD(_DecayOfMatrices, SGD):
    pass


class _Momentum(_DecayOfMatrices, Momentum):
    pass


class _Nesterov(_DecayOfMatrices, Nesterov):
    pass


class _Adam(_DecayOfMatrices, Adam):
    pass


@dataclass(frozen=True)
class _InverseScaling(Schedule):
    """The factor ``(t + 1) ** -power_t`` in an epoch before which t samples were seen."""

    power_t: float
    samples: int

    def factors(self, times: np.ndarray, epochs: float, history: Sequence[Any]) -> np.ndarray:
        before = math.floor(times[0]) * self.samples + 1
        return np.full(times.shape, power(before, -self.power_t))


@dataclass(frozen=True)
class _Adaptive(Schedule):
    """The factor ``5 ** -falls``, where `falls` counts how often training came to a halt."""

    halts: _Halts = field(repr=False)

    def factors(self, times: np.ndarray, epochs: float, history: Sequence[Any]) -> np.ndarray:
        return np.full(times.shape, _FALL**-self.halts.falls)


class _Halts(Callback):
    """Ends a run by scikit-learn's rule: after more than `patience` epochs without improvement.

    An epoch is an improvement if its figure is at least `tol` above the best one so far, whether or
    not that was an improvement.

    Parameters
    ----------
    figure
        Returns the figure of an epoch; the larger, the better.
    earlier
        The figures of the runs that this one continues.
    restore_best
        Whether the model gets the parameters of the best epoch at the end.
    rate
        The initial learning rate if it is to fall at a halt as long as it is large enough, else
        None.
    verbose
        Whether to print a line per epoch.
    """

    def __init__(
        self,
        figure: Callable[[Epoch], float],
        earlier: Iterable[float],
        *,
        tol: float,
        patience: float,
        restore_best: bool,
        rate: float | None,
        verbose: bool,
    ) -> None:
        self.figure, self.tol, self.patience = figure, tol, patience
        self.restore_best, self.rate, self.verbose = restore_best, rate, verbose
        self.figures: list[float] = []
        self.best, self.falls, self._waited = -math.inf, 0, 0
        self._learned: dict[str, np.ndarray] | None = None
        for value in earlier:
            self._note(value)

    def _note(self, value: float) -> bool:
        """Add a figure; return whether the run comes to a halt there."""
        self.figures.append(value)
        self._waited = self._waited + 1 if value < self.best + self.tol else 0
        self.best = max(self.best, value)
        if self._waited <= self.patience:
            return False
        if self.rate is None or self.rate * _FALL**-self.falls <= _LEAST_RATE:
            return True
        self.falls, self._waited = self.falls + 1, 0
        return False

    def on_start(self, run: Run) -> None:
        self._run = run
        if self.restore_best and self.figures:
            # the parameters of the best epoch, with which the run before ended
            self._learned = run.learned()

    def on_epoch(self, epoch: Epoch) -> None:
        if epoch.epoch == 0:
            return
        value, best = self.figure(epoch), self.best
        if self.verbose:
            score = f", validation score = {value:.6f}" if self.restore_best else ""
            print(f"Iteration {epoch.epoch}, loss = {epoch.train_loss:.8f}{score}", flush=True)
        if self._note(value):
            kind = "Validation score" if self.restore_best else "Training loss"
            self._run.stop(
                f"{kind} did not improve more than tol={self.tol:f} "
                f"for {self.patience} consecutive epochs."
            )
        if self.restore_best and value > best:
            self._learned = self._run.learned()

    def on_end(self) -> None:
        if self._learned is not None:
            self._run.restore(self._learned)


class _Continuation(Callback):
    """Keeps the end of a run, so that a later run of the same model can continue from it.

    The later run continues the random numbers, the optimizer's state and the log as one long run
    would. No epoch is spent on evaluating the network first.

    Parameters
    ----------
    past
        The earlier run, None if there was none; once this run has ended, this run.
    one_epoch
        Whether the run ends after one epoch.
    """

    def __init__(self, past: SavedRun | None, *, one_epoch: bool) -> None:
        self.past = past
        self._last = self.done + 1 if one_epoch else None

    @property
    def done(self) -> int:
        """The number of epochs in `past`."""
        return 0 if self.past is None else self.past.done

    def on_start(self, run: Run) -> None:
        self.run = run

    def on_epoch(self, epoch: Epoch) -> None:
        if epoch.epoch == self._last:
            self.run.stop("one epoch was asked for")

    def on_end(self) -> None:
        # the model may have the parameters of the best epoch; there is no row if its evaluation
        # before the first epoch diverged
        if len(self.run.history):
            self.past = taken(self.run, of_the_model=True)


class _Problem(NamedTuple):
    """What a network is to learn.

    Attributes
    ----------
    y, labels
        The targets and the class labels, as `xpnn.fit` takes them.
    outputs
        The number of outputs of the network.
    loss
        The loss's name in `xpnn.losses.LOSSES`.
    per_sample
        The factor by which scikit-learn's loss is larger than ours.
    gradient
        The factor by which our gradient is larger than scikit-learn's, which has no 2 from a
        squared error, and sums over the outputs where we take the mean.
    constant
        What scikit-learn's loss of each sample has more than ours, times `per_sample`.
    """

    y: np.ndarray
    labels: np.ndarray | None
    outputs: int
    loss: str
    per_sample: float = 1.0
    gradient: float = 1.0
    constant: np.ndarray | None = None

    def reported(self, row: Epoch, weights: np.ndarray | None) -> float:
        """Return the training loss of an epoch as scikit-learn reports it."""
        loss = self.per_sample * row.train_loss
        if self.constant is None:
            return loss
        return loss + float(np.average(self.constant, weights=weights))


def _on_host(values: Any, name: str = "X") -> Any:
    """Return another library's array as NumPy's; anything else, such as a table, as it is."""
    check_plain(values, name)
    # also what no backend can hold, as PyTorch's tensors without values
    other = is_array_api_obj(values) and not isinstance(values, np.ndarray)
    return to_numpy(values, name) if other else values


def _numbers(values: Any, name: str = "X") -> Any:
    """Return what `_on_host` does; raise about dates and times, which NumPy takes for numbers."""
    found = _on_host(values, name)
    # a list has none of NumPy's, and the columns of a DataFrame are looked at one by one
    if not (is_frame(found) or isinstance(found, list)):
        dtype = np.asarray(found).dtype
        if dtype.kind in "Mm":
            raise DataError(f"{name} must hold numbers, got dates or times of dtype {dtype}")
    return found


@contextlib.contextmanager
def _columns_told(estimator: Any, x: Any, *, reset: bool) -> Iterator[None]:
    """Raise `DataError` with the columns of a DataFrame that are dates, or turn out no numbers.

    Unless `reset`, columns with other names than in the last `fit` are refused first.
    """
    if not is_frame(x):
        yield
        return
    if not reset:
        validate_data(estimator, x, reset=False, skip_check_array=True)
    if len(set(map(str, x.columns))) < len(x.columns):
        raise same_names(x)
    kinds = {name: to_numpy(x[name], f"column {name!r}").dtype.kind for name in x.columns}
    dates = [name for name, kind in kinds.items() if kind in "Mm"]
    if dates:
        raise DataError(
            f"X must hold numbers, not dates or times as in {_quoted(dates)}; make a number of "
            f"each, such as X[{dates[0]!r}].dt.year"
        )
    try:
        yield
    except (TypeError, ValueError) as error:
        texts = [name for name, kind in kinds.items() if kind not in "biuf" and _has_text(x[name])]
        if not texts:
            raise
        raise DataError(
            f"X must hold numbers, not text as in {_quoted(texts)}; encode it in a pipeline: "
            "make_pipeline(make_column_transformer((OneHotEncoder(handle_unknown='ignore'), "
            f"{texts}), remainder='passthrough'), estimator)"
        ) from error


def _has_text(column: Any) -> bool:
    return any(isinstance(cell, str) for cell in np.asarray(column, object).ravel())


def _quoted(names: list[str]) -> str:
    return f"column{'s' * (len(names) > 1)} {', '.join(map(repr, names))}"


def _answer(x: Any, values: np.ndarray) -> Array:
    """Return numbers as an array in the library and on the device of `x`, if that is an array."""
    backend = backend_of(x)
    if backend is None or values.dtype.kind not in "biuf":
        return values
    with backend.scope():
        return backend.asarray(values)


def _has_steps(estimator: _Keywords) -> bool:
    """Return True, or raise AttributeError if an estimator has no `partial_fit`."""
    if estimator.solver == "lbfgs":
        raise AttributeError("partial_fit needs solver 'adam' or 'sgd', got 'lbfgs'")
    return True


@dataclass(eq=False, repr=False)
class _Keywords(BaseEstimator):  # type: ignore[misc]
    """The keyword parameters of both estimators; `MLPClassifier` describes them."""

    _: KW_ONLY
    solver: str = "adam"
    alpha: float = 0.0001
    batch_size: int | str = "auto"
    learning_rate: str = "constant"
    learning_rate_init: float = 0.001
    power_t: float = 0.5
    max_iter: int = 200
    shuffle: bool = True
    random_state: Any = None
    tol: float = 1e-4
    verbose: bool = False
    warm_start: bool = False
    momentum: float = 0.9
    nesterovs_momentum: bool = True
    early_stopping: bool = False
    validation_fraction: float = 0.1
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    n_iter_no_change: float = 10
    max_fun: int = 15000
    backend: str | Backend | None = None
    device: str | None = None
    dtype: str | None = None
    reproducible: bool = False
    flood: float | None = None
    dropout: float | None = None
    batch_norm: bool = False
    schedule: str | None = None


@dataclass(eq=False, repr=False)
class _OfClassifier(_Keywords):
    """The parameters of `MLPClassifier`, in scikit-learn's order."""

    hidden_layer_sizes: Any = (100,)
    activation: str = "relu"
    _: KW_ONLY
    loss: str = "log_loss"
    class_weight: Any = None


@dataclass(eq=False, repr=False)
class _OfRegressor(_Keywords):
    """The parameters of `MLPRegressor`, in scikit-learn's order."""

    loss: str = "squared_error"
    hidden_layer_sizes: Any = (100,)
    activation: str = "relu"


class _Train(NamedTuple):
    """What `fit` was given, checked.

    Attributes
    ----------
    model, problem, settings
        The network, what it is to learn, and its settings.
    X, y
        The features, on the host or `SparseRows`, and the targets as they were given.
    weights
        The weights of the samples, None if all count alike.
    seed, backend
        Those of the run.
    """

    model: Sequential
    problem: _Problem
    settings: Settings
    X: Any
    y: np.ndarray
    weights: np.ndarray | None
    seed: int
    backend: Backend

    def part(self, rows: Any) -> _Train:
        """Return the same with some of the samples."""
        sparse = isinstance(self.X, SparseRows)
        problem = self.problem._replace(y=self.problem.y[rows])
        if problem.constant is not None:
            problem = problem._replace(constant=problem.constant[rows])
        return self._replace(
            X=SparseRows(self.X.matrix[rows]) if sparse else self.X[rows],
            y=self.y[rows],
            weights=None if self.weights is None else self.weights[rows],
            problem=problem,
        )

    def loss(self, row: Epoch) -> float:
        """Return the training loss of an epoch as scikit-learn reports it."""
        return self.problem.reported(row, self.weights)


class _Open(NamedTuple):
    """The run of the last `partial_fit`, which a call that is alike continues.

    Attributes
    ----------
    key
        What the run depends on: the parameters, shapes and dtypes.
    run, trainer
        The run, and what trains it.
    kept
        Its data, for `xpnn.training.streams.moved`.
    """

    key: str
    run: Run
    trainer: Trainer
    kept: list[np.ndarray]


def _named(loss: Any, example: str) -> str:
    if not isinstance(loss, str):
        raise ArgumentError(f"loss must be a name such as {example!r}, got {loss!r}")
    return loss


class _MLP(_Keywords):
    """What both estimators have in common; each has its `_problem` and its `_score`."""

    hidden_layer_sizes: Any
    activation: str
    class_weight: Any = None
    model_: Sequential
    history_: History
    n_iter_: int
    t_: int
    loss_curve_: list[float]
    best_loss_: float | None
    validation_scores_: list[float] | None
    best_validation_score_: float | None
    n_layers_: int
    n_outputs_: int
    out_activation_: str
    _past: SavedRun | None = None
    _open: _Open | None = None
    _target_names: tuple[str, ...] | None = None

    def __getstate__(self) -> Any:
        self._close()
        return super().__getstate__()

    def _close(self, carry: dict[str, np.ndarray] | None = None) -> None:
        """Close the run that `partial_fit` left open, so that others can continue it.

        `carry` is that of its last epoch, if it isn't its own any more.
        """
        if self._open is None or self._past is None:
            return
        run, backend = self._open.run, self._open.trainer.backend
        self._past = self._past._replace(
            history=run.history[:],
            random_state=run.rng.get_state(legacy=False),
            carry=on_host(run.carry, backend) if carry is None else carry,
        )
        self._open = None

    @property
    def coefs_(self) -> list[np.ndarray]:
        """The weight matrix of each layer, on the host, of shape (inputs, outputs)."""
        return self._of_dense_layers("weight")

    @property
    def intercepts_(self) -> list[np.ndarray]:
        """The biases of each layer, on the host, of shape (outputs,)."""
        return self._of_dense_layers("bias")

    def _of_dense_layers(self, name: str) -> list[np.ndarray]:
        return [layer[name] for layer in self.model_.host_parameters() if "weight" in layer]

    @property
    def loss_(self) -> float:
        """The last value of `loss_curve_`."""
        return self.loss_curve_[-1]

    def fit(self, X: Array, y: Array, sample_weight: Array | None = None) -> Self:
        """Train the network.

        Parameters
        ----------
        X
            Shape (n, features): an array of any of xpnn's libraries, a sparse matrix of SciPy, a
            DataFrame of pandas or polars, or nested lists. Unsigned bytes are used as they are, not
            divided by 255.

            As in scikit-learn, the columns of a DataFrame must be numbers, none of them missing,
            and `predict` wants the same names in the same order. A pipeline with a
            ``ColumnTransformer`` encodes others; `xpnn.fit` does it by itself.

            A sparse matrix that takes up to 64 MB when it is dense becomes dense before training.
            A larger one stays sparse; chunks of that size become dense in turn, of which two are in
            memory at a time, and `xpnn.fit` shuffles it as it does data mapped from a file.
        y
            For `MLPClassifier`, labels of any kind of shape (n,), or 0 and 1 of shape (n, classes);
            for `MLPRegressor`, values of shape (n,) or (n, outputs).
        sample_weight
            Shape (n,), as for `xpnn.fit`: a sample with weight 2 counts like two samples.

        Raises
        ------
        ValueError
            If a parameter or the data can't be used: an `ArgumentError`, a `DataError` or an error
            of scikit-learn.
        DivergenceError
            If the loss became NaN or infinite; it is a `ValueError` too. With `early_stopping`, the
            best parameters so far are restored instead, with a `ConvergenceWarning`.
        """
        return self._fit(X, y, sample_weight)

    @np.errstate(all="ignore")
    def _fit(
        self, X: Any, y: Any, sample_weight: Any, *, classes: Any = None, partial: bool = False
    ) -> Self:
        if partial and self.early_stopping:
            raise ArgumentError("partial_fit does not support early_stopping=True")
        again = hasattr(self, "model_") and (partial or self.warm_start)
        host = _on_host(X)
        given = backend_of(X)
        y = self._targets(y, reset=not again)
        with _columns_told(self, X, reset=not again):
            X, y = validate_data(
                self, _numbers(host), y, reset=not again, multi_output=True,
                y_numeric=isinstance(self, RegressorMixin), dtype=(np.float64, np.float32),
                accept_sparse="csr",
            )  # fmt: skip
        y = y.toarray() if hasattr(y, "toarray") else y
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        problem = self._problem(y, classes, again=again, partial=partial)
        weights = self._weights(y, sample_weight, partial=partial)
        last = self._open
        parameters = {own.name: getattr(self, own.name) for own in fields(self)}
        mean = None if weights is None else np.mean(weights)
        key = repr((parameters, X.shape, X.dtype.str, problem.outputs, problem.y.dtype.str, mean))
        if partial and last and last.key == key and last.run.history is self.model_.history:
            self._take_one_more(last, problem, X, weights)
            return self
        self._close()
        settings = self._settings(problem)
        draw = _glorot_of_logistic if self.activation == "logistic" else _glorot
        model = Sequential(*(
            Dense(layer.units, weight=draw) if isinstance(layer, Dense) else layer
            for layer in settings.layers(problem.outputs)
        ))  # fmt: skip
        if again:
            if repr(self.model_) != repr(model):
                raise ArgumentError(
                    "the network must be as it was for training to continue, "
                    f"{self.model_!r}, got {model!r}"
                )
            model = self.model_
        past = self._past if again else None
        train = _Train(
            model, problem, settings, X, y, weights,
            self._seed() if past is None else past.settings["seed"],
            model.backend or self._backend(given, X.dtype),
        )  # fmt: skip
        train = train._replace(X=SparseRows(X)) if hasattr(X, "tocsr") else train
        run = None
        try:
            if self.solver == "lbfgs":
                self._minimize(train)
            else:
                run = self._take_steps(train, past, partial=partial)
        except DivergenceError as error:
            raise DivergenceError(
                f"{error}. Solver produced non-finite parameter weights. The input data may "
                "contain large values and need to be preprocessed."
            ) from None
        self.model_, self.history_ = model, model.history
        self.n_layers_ = len(self.coefs_) + 1
        self.n_outputs_ = problem.outputs
        self.out_activation_ = _OUTPUTS.get(problem.loss.partition(":")[0], "identity")
        changing = self.schedule is not None or self._rate() != "constant"
        if run and partial and not (changing or self.verbose or hasattr(X, "tocsr")):
            self._open = _Open(key, run, Trainer(run, train.backend), [])
        return self

    def _targets(self, y: Any, *, reset: bool = False) -> Any:
        """Return targets on the host, a DataFrame's columns in the order of the first `fit`."""
        if reset:
            self._target_names = None
        data = named(([], y), targets=self._target_names)
        if isinstance(data, NamedDataset) and reset:
            self._target_names = data.target_names
        # dates may be labels
        return (_on_host if isinstance(self, ClassifierMixin) else _numbers)(data[1], "y")

    def _take_steps(self, train: _Train, past: SavedRun | None, *, partial: bool) -> Run:
        """Train by "adam" or "sgd", after the earlier run if there is one; return the run."""
        max_iter = integer("max_iter", self.max_iter, minimum=1)
        model, problem, settings, *_ = train
        rows, unseen = self._split(problem.y, train.seed)
        held = None if unseen is None else train.part(unseen)
        validation = None if held is None else (held.X, held.problem.y)
        train = train if held is None else train.part(rows)
        weights, n = train.weights, train.X.shape[0]
        batch_size = self._batch_size(n)
        halts = self._halts(train, held, again=past is not None, partial=partial)
        continuation = _Continuation(past, one_epoch=partial)
        done, diverged = continuation.done, False
        try:
            fit(
                model,
                (train.X, train.problem.y),
                validation=validation,
                labels=problem.labels,
                loss=settings.make_loss(),
                optimizer=self._optimizer(
                    problem, batch_size * (1.0 if weights is None else float(np.mean(weights)))
                ),
                schedule=self._schedule(settings, n, halts),
                sample_weight=weights,
                # a schedule is made for max_iter epochs
                epochs=max(max_iter, done + 1) if partial else done + max_iter,
                batch_size=batch_size,
                seed=train.seed,
                shuffle=self.shuffle,
                backend=train.backend,
                # the first may restore the best parameters, which the second then keeps
                callbacks=[halts, continuation],
                resume=past,
                verbose=False,
            )
        except KeyboardInterrupt:
            if continuation.done == done:
                raise
            warnings.warn("Training interrupted by user.", stacklevel=4)
        except DivergenceError as error:
            if continuation.done == done or not halts.restore_best:
                raise
            diverged = True
            halts.figures.append(math.nan)
            warnings.warn(
                f"{error}; the parameters are those of the best epoch before",
                ConvergenceWarning,
                stacklevel=4,
            )
        assert continuation.past is not None
        self._past = continuation.past
        self.n_iter_ = continuation.done - done + diverged
        self.t_ = (self.t_ if past is not None else 0) + self.n_iter_ * n
        self.loss_curve_ = (self.loss_curve_ if past is not None else []) + [
            train.loss(row) for row in self._past.history[done + 1 :]
        ]
        self.loss_curve_ += [math.nan] * diverged
        self.best_loss_ = None if self.early_stopping else -halts.best
        self.validation_scores_ = halts.figures if self.early_stopping else None
        self.best_validation_score_ = halts.best if self.early_stopping else None
        if not partial and model.history.stopped is None and self.n_iter_ == max_iter:
            warnings.warn(
                f"Maximum iterations ({max_iter}) reached and the optimization hasn't converged "
                "yet.",
                ConvergenceWarning,
                stacklevel=4,
            )
        return continuation.run

    def _take_one_more(
        self, last: _Open, problem: _Problem, x: Any, weights: np.ndarray | None
    ) -> None:
        """Continue the run of the last call for an epoch, as `_take_steps` would."""
        begun = time.perf_counter()
        _, run, trainer, kept = last
        model, backend = run.model, trainer.backend
        data = as_test_set(model, run.method.loss, (x, problem.y))
        own = sample_weights(data.y, weights, None, None)
        carry, copies = run.carry, [np.array(backend.to_numpy(leaf)) for leaf in leaves(run.carry)]
        try:
            with backend.scope():
                running = trainer(streams.moved(data, backend, model.task, weights=own, kept=kept))
        except BaseException:
            self._close(dict(zip(paths(carry), copies, strict=True)))
            raise
        row = Epoch(len(run.history), *running, *UNKNOWN, time.perf_counter() - begun)
        run.history.append(row)
        run.settings["epochs"] = max(run.settings["epochs"], row.epoch)
        assert self.best_loss_ is not None
        loss = problem.reported(row, weights)
        self.loss_curve_.append(loss)
        self.best_loss_ = min(self.best_loss_, loss)
        self.t_ += len(x)

    def _minimize(self, train: _Train) -> None:
        """Train by "lbfgs", from the parameters that the model has, if any."""
        for name in ("flood", "dropout", "batch_norm", "schedule", "reproducible"):
            default = getattr(_Keywords, name)
            if getattr(self, name) != default:
                raise ArgumentError(
                    f"{name} must be {default} for solver 'lbfgs', got {getattr(self, name)!r}"
                )
        problem, weights = train.problem, train.weights
        total = train.X.shape[0] if weights is None else float(np.sum(weights))
        method = LBFGS(
            1 / problem.gradient,
            nonnegative("alpha", self.alpha) / total if total > 0 else 0.0,
            nonnegative("tol", self.tol),
            integer("max_iter", self.max_iter, minimum=1),
            integer("max_fun", self.max_fun, minimum=1),
        )

        def told(row: Epoch) -> None:
            if self.verbose:
                print(f"Iteration {row.epoch}, loss = {train.loss(row):.8f}", flush=True)

        history, why = method.fit(
            train.model, (train.X, problem.y), labels=problem.labels,
            loss=train.settings.make_loss(), sample_weight=weights, seed=train.seed,
            backend=train.backend, told=told,
        )  # fmt: skip
        self._past, self.t_ = None, 0
        self.n_iter_ = len(history) - 1
        self.loss_curve_ = [train.loss(row) for row in history[1:] or history]
        self.best_loss_ = min(self.loss_curve_)
        self.validation_scores_ = self.best_validation_score_ = None
        if why is not None:
            warnings.warn(
                f"lbfgs failed to converge after {self.n_iter_} iterations: {why}\n"
                "Increase max_iter or max_fun, or scale the data.",
                ConvergenceWarning,
                stacklevel=4,
            )

    def _weights(self, y: np.ndarray, sample_weight: Any, *, partial: bool) -> np.ndarray | None:
        """Return the weights of the samples, and of their classes; None if all count alike."""
        weights: np.ndarray | None = None
        if sample_weight is not None:
            weights = check_array(
                _numbers(sample_weight, "sample_weight"), ensure_2d=False, dtype=np.float64,
                input_name="sample_weight",
            )  # fmt: skip
            check_consistent_length(y, weights)
        if self.class_weight is None:
            return weights
        if isinstance(self.class_weight, str):
            if self.class_weight != "balanced":
                raise unknown("class_weight", self.class_weight, ["balanced"])
            if partial:
                raise ArgumentError(
                    "class_weight must be weights such as {0: 1.0, 1: 2.5} for partial_fit, which "
                    "doesn't see all samples, got 'balanced'"
                )
        of_classes: np.ndarray = compute_sample_weight(self.class_weight, y)
        return of_classes if weights is None else weights * of_classes

    def _settings(self, problem: _Problem) -> Settings:
        sizes = self.hidden_layer_sizes
        if isinstance(sizes, numbers.Integral):
            sizes = [sizes]
        if isinstance(sizes, str) or not isinstance(sizes, Iterable):
            raise ArgumentError(
                f"hidden_layer_sizes must be whole numbers such as (100, 50), got {sizes!r}"
            )
        widths = [integer("hidden_layer_sizes", size, minimum=1) for size in sizes]
        return Settings(
            hidden=",".join(map(str, widths)),
            activation="sigmoid" if self.activation == "logistic" else self.activation,
            loss=problem.loss,
            flood=self.flood,
            batch_norm=self.batch_norm,
            dropout=self.dropout,
            schedule=self.schedule,
        )

    def _seed(self) -> int:
        if isinstance(self.random_state, numbers.Integral):
            return integer("random_state", self.random_state, minimum=0, maximum=2**32 - 1)
        return int(check_random_state(self.random_state).randint(2**32, dtype=np.uint32))

    def _split(self, y: np.ndarray, seed: int) -> tuple[Any, np.ndarray | None]:
        """Return the rows to train on, and those kept for validation, if any."""
        if not self.early_stopping:
            return slice(None), None
        share = fraction("validation_fraction", self.validation_fraction)
        # as in scikit-learn, each class has the same share, but not each of several labels
        classes = y if isinstance(self, ClassifierMixin) and y.ndim == 1 else None
        rows, unseen = train_test_split(
            np.arange(len(y)), test_size=share, stratify=classes, random_state=seed
        )
        if len(unseen) < 2:
            raise ArgumentError(
                "The validation set is too small. Increase 'validation_fraction' or the size of "
                f"your dataset; two samples are needed, got {share} of {len(y)}"
            )
        return rows, unseen

    def _batch_size(self, n: int) -> int:
        if isinstance(self.batch_size, str) and self.batch_size == "auto":
            return min(200, n)
        batch_size = integer("batch_size", self.batch_size, minimum=1)
        if batch_size > n:
            warnings.warn(
                f"batch_size is {batch_size}, more than the {n} samples: a mini-batch has them all",
                stacklevel=5,
            )
        return min(batch_size, n)

    def _halts(self, train: _Train, held: _Train | None, *, again: bool, partial: bool) -> _Halts:
        patience = self.n_iter_no_change
        if patience != math.inf:
            patience = integer("n_iter_no_change", patience, minimum=1)
        earlier: list[float] = []
        if partial and again and self.best_loss_ is not None:
            # without patience only the best one counts, and the time mustn't grow with the calls
            earlier = [-self.best_loss_]
        elif again and held is None:
            earlier = [-loss for loss in self.loss_curve_]
        elif again:
            earlier = self.validation_scores_ or []

        def figure(row: Epoch) -> float:
            if held is None:
                return -train.loss(row)
            values = predict_proba(held.model, held.X)
            score: float = self._score(held.y, self._predicted(values), held.weights)
            return score

        return _Halts(
            figure,
            earlier,
            tol=nonnegative("tol", self.tol),
            patience=math.inf if partial else patience,
            restore_best=held is not None,
            rate=self.learning_rate_init if self._rate() == "adaptive" else None,
            verbose=bool(self.verbose),
        )

    def _optimizer(self, problem: _Problem, weight: float) -> Optimizer:
        """Return the optimizer; `weight` is the sum of the weights in a mini-batch."""
        scale = problem.gradient
        rate = positive("learning_rate_init", self.learning_rate_init)
        alpha = nonnegative("alpha", self.alpha)
        # `fit` refuses a set whose weights are all 0
        decay = {"weight_decay": scale * alpha / weight if weight > 0 else 0.0}
        if self.solver == "adam":
            betas = fraction("beta_1", self.beta_1), fraction("beta_2", self.beta_2)
            epsilon = scale * positive("epsilon", self.epsilon)
            return _Adam(rate, *betas, eps=epsilon, **decay)
        if self.solver == "sgd":
            momentum = fraction("momentum", self.momentum)
            if not momentum:
                return _SGD(rate / scale, **decay)
            kind = _Nesterov if self.nesterovs_momentum else _Momentum
            return kind(rate / scale, momentum, **decay)
        raise unknown("solver", self.solver, ["lbfgs", "sgd", "adam"])

    def _rate(self) -> str:
        allowed = ["constant", "invscaling", "adaptive"]
        if self.learning_rate not in allowed:
            raise unknown("learning_rate", self.learning_rate, allowed)
        # only for this solver, as in scikit-learn
        return self.learning_rate if self.solver == "sgd" else "constant"

    def _schedule(self, settings: Settings, n: int, halts: _Halts) -> Schedule | None:
        rate, schedule = self._rate(), settings.make_schedule()
        if schedule is not None and rate != "constant":
            raise ArgumentError(
                f"learning_rate must be 'constant' beside a schedule, got {rate!r} "
                f"and {self.schedule!r}"
            )
        if rate == "invscaling":
            return _InverseScaling(nonnegative("power_t", self.power_t), n)
        return _Adaptive(halts) if rate == "adaptive" else schedule

    def _backend(self, given: Backend | None, dtype: Any) -> Backend:
        """Return the backend that was asked for; by default that of X, in its dtype."""
        name, device, wanted = self.backend, self.device, self.dtype
        if name is None:
            own = given or get_backend()
            name, device = own.name, device or own.options()["device"]
        if wanted is None and isinstance(name, Backend):
            wanted = name.dtype_name
        elif wanted is None:
            # the line search of L-BFGS needs it; scikit-learn computes so too
            wanted = "float64" if self.solver == "lbfgs" else np.dtype(dtype).name
        return get_backend(name, device=device, dtype=wanted, reproducible=self.reproducible)

    @np.errstate(all="ignore")
    def _values(self, x: Any, of: Callable[..., np.ndarray] = predict_proba) -> np.ndarray:
        """Return ``of(model_, x)`` for checked features: a row of numbers per sample."""
        check_is_fitted(self)
        with _columns_told(self, x, reset=False):
            x = validate_data(
                self, _numbers(x), reset=False, dtype=(np.float64, np.float32), accept_sparse="csr"
            )
        if not hasattr(x, "tocsr"):
            return of(self.model_, x)
        # as many rows become dense at a time as take the memory of a chunk
        rows = max(1, streams.CHUNK_BYTES // (8 * x.shape[1]))
        parts = (SparseRows(x[i : i + rows]) for i in range(0, x.shape[0], rows))
        return np.concatenate([of(self.model_, part) for part in parts])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def _listed(labels: np.ndarray) -> str:
    return ", ".join(map(repr, labels.tolist()))


class _Scored:
    """Scores of arrays of any library, by the `score` of a mixin of scikit-learn."""

    @np.errstate(all="ignore")
    def score(self, X: Array, y: Array, sample_weight: Array | None = None) -> float:
        """Return the accuracy of a classifier, or R² of a regressor.

        For multilabels, a row counts as right if all its labels are; for several outputs, R² is
        their mean.
        """
        targets = self._targets(y)  # type: ignore[attr-defined]
        weights = _numbers(sample_weight, "sample_weight")
        return super().score(_on_host(X), targets, weights)  # type: ignore[misc, no-any-return]


class MLPClassifier(_Scored, ClassifierMixin, _MLP, _OfClassifier):  # type: ignore[misc]
    """Multi-layer perceptron for classes, with scikit-learn's parameters and `xpnn.fit`.

    For two classes the network has one logistic output, for more a softmax over an output each, and
    for labels that don't exclude each other (`y` of shape (n, classes), 0 and 1) a logistic output
    for each. If there is only one class, it is predicted.

    The initial weights and biases are those of scikit-learn with the same seed.

    Parameters
    ----------
    hidden_layer_sizes
        The widths of the hidden layers, each >= 1; empty for no hidden layer.
    activation
        The activation of the hidden layers: any of xpnn's, with its parameters, such as
        "h_swish:n=6"; "logistic" is sigmoid.
    solver
        "adam"; "sgd" (with `momentum`); or "lbfgs", SciPy's minimizer L-BFGS-B, which takes all
        samples at once. As in scikit-learn, "lbfgs" has no mini-batches, no learning rate, no
        `early_stopping` and no `partial_fit`. It refuses `flood`, `dropout`, `batch_norm` and
        `schedule`, and also `reproducible`: the gradients could have the same bits everywhere, but
        the minimizer's own arithmetic needn't.
    alpha
        L2 penalty ``alpha / 2 * sum(w²) / n`` of a mini-batch of n samples, over the matrices but
        not the biases, >= 0. The reported losses don't contain it. Here n is always the batch size,
        also for a smaller last mini-batch, and doesn't depend on the weights of the samples in a
        mini-batch.
    batch_size
        The number of samples in a mini-batch, >= 1; "auto" is ``min(200, n)``.
    learning_rate
        For "sgd": "constant"; "invscaling", divided by ``(t + 1) ** power_t`` after each epoch,
        where t is the number of samples seen so far; or "adaptive", divided by 5 where training
        would stop, as long as it is above 1e-6.
    learning_rate_init
        The initial learning rate, > 0.
    power_t
        The exponent of "invscaling", >= 0.
    max_iter
        The largest number of epochs, or of iterations of "lbfgs", >= 1.
    shuffle
        Whether each epoch takes the samples in a new order.
    random_state
        An integer is the seed of `xpnn.fit`. A `RandomState`, or NumPy's global one if None, draws
        the seed.
    tol
        The improvement that counts, >= 0: see `n_iter_no_change`. "lbfgs" stops where no element of
        the gradient is larger.
    n_iter_no_change
        Training stops after more than this many epochs in a row in which the loss, or with
        `early_stopping` the validation score, wasn't better than the best one by `tol`; >= 1, or
        `numpy.inf` for never.
    max_fun
        The largest number of evaluations of the loss by "lbfgs", >= 1.
    verbose
        Whether to print a line per epoch.
    warm_start
        Whether `fit` continues where the last call ended, including the state of random numbers and
        optimizer: the bits are those of one run of all the epochs. The network, its backend and its
        dtype stay.
    momentum
        The momentum of "sgd", >= 0 and < 1.
    nesterovs_momentum
        Whether the momentum is Nesterov's.
    early_stopping
        Whether to keep some samples for validation, stratified except for multilabels, and to
        restore the parameters that were best there.
    validation_fraction
        The share of the samples kept for validation, >= 0 and < 1; at least two samples.
    beta_1, beta_2
        The decay rates of the moments of "adam", >= 0 and < 1.
    epsilon
        Added to the root of the corrected second moment by "adam", as in the paper, > 0;
        scikit-learn adds it to the root of the uncorrected one.
    backend, device
        What computes, see `xpnn.get_backend`. By default the library and the device of `X`, NumPy
        if `X` isn't an array.
    dtype
        "float32" or "float64"; None for that of `X`, float64 for integers and for "lbfgs".
    reproducible
        Whether every backend gives the same bits.
    flood
        The level b of `Flooding` around the loss, None for no flooding. With several logistic
        outputs, the flooded loss is the mean of their losses.
    dropout
        The p of a `Dropout` after each hidden activation, None for no dropout.
    batch_norm
        Whether a `BatchNorm` follows each hidden `Dense` layer.
    schedule
        The schedule of the learning rate over `max_iter` epochs, by name: "cosine:final=0.01".
    loss
        "log_loss", the cross entropy of the outputs; "focal", or another loss of `xpnn.losses` by
        name with its parameters: "focal:gamma=1", "cross_entropy:label_smoothing=0.1". For logistic
        outputs, these two become "binary_focal" and "binary_cross_entropy".
    class_weight
        The weights of the classes, which multiply those of their samples: a mapping from labels to
        numbers, with 1 for labels that are missing; or "balanced" for ``n / (classes * count)``,
        except in `partial_fit`. For multilabels, a list of mappings, one per label.

    Attributes
    ----------
    classes_
        The labels, sorted, a NumPy array.
    model_
        The `xpnn.Sequential`, for everything that xpnn does with a model; it knows the labels if
        they are integers or strings.
    history_
        The `xpnn.History` of all epochs so far, with row 0 for the untrained network.
    coefs_, intercepts_
        The weight matrix and the biases of each layer, copies in NumPy arrays.
    n_iter_
        The number of epochs, or of iterations of "lbfgs", of the last call.
    t_
        The number of samples that training has seen; 0 with "lbfgs", as in scikit-learn.
    loss_curve_, loss_, best_loss_
        The training loss of each epoch, or after each iteration of "lbfgs", the last one and the
        least one; `best_loss_` is None with `early_stopping`.
    validation_scores_, best_validation_score_
        With `early_stopping`, the score of the samples kept for validation after each epoch, as
        `score` computes it, and the largest one; else None.
    n_layers_, n_outputs_
        The number of layers, counting the input, and the number of outputs.
    out_activation_
        "softmax" or "logistic".
    n_features_in_, feature_names_in_
        The number of features, and their names if `X` has names.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from xpnn.estimators import MLPClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> network = MLPClassifier((50,), activation="h_swish", random_state=1).fit(X, y)
    >>> network.predict(X[:3])
    array([0, 0, 0])

    References
    ----------
    F. Pedregosa et al., *Scikit-learn: Machine Learning in Python*, JMLR 12 (2011).
    """

    loss: str
    classes_: np.ndarray
    _multilabel: bool

    @available_if(_has_steps)  # type: ignore[untyped-decorator]
    def partial_fit(
        self, X: Array, y: Array, sample_weight: Array | None = None, classes: Array | None = None
    ) -> Self:
        """Train for one more epoch, starting where the last call ended.

        Parameters
        ----------
        X, y, sample_weight
            As for `fit`. ``max_iter`` calls with the same samples give the bits of one `fit`.
        classes
            All labels, needed in the first call; `y` needn't contain each of them.

        Raises
        ------
        ValueError
            As by `fit`, and if `early_stopping` is True.
        AttributeError
            If `solver` is "lbfgs".
        """
        return self._fit(X, y, sample_weight, classes=classes, partial=True)

    def predict(self, X: Array) -> Array:
        """Return the label of each row of `X`; for multilabels 0 and 1 of shape (n, classes).

        All methods return an array of the library and on the device of `X`, but a NumPy array if
        `X` isn't an array or the labels aren't numbers.
        """
        return _answer(X, self._predicted(self._values(X)))

    def predict_proba(self, X: Array) -> Array:
        """Return probabilities of shape (n, classes), in the order of `classes_`.

        If there is only one class, they are 1.
        """
        return _answer(X, self._values(X, self._probabilities))

    def predict_log_proba(self, X: Array) -> Array:
        """Return the logarithms of `predict_proba`."""
        with np.errstate(all="ignore"):
            return _answer(X, np.log(self._values(X, self._probabilities)))

    def decision_function(self, X: Array) -> Array:
        """Return logits of shape (n, classes); for two classes (n,), > 0 for the second one."""
        values = self._values(X, outputs_of)
        return _answer(X, values if values.shape[1] > 1 else values[:, 0])

    def _predicted(self, values: np.ndarray) -> np.ndarray:
        if self._multilabel:
            return (values > 0.5).astype(np.int64)
        if len(self.classes_) == 1:
            return np.repeat(self.classes_, len(values))
        indices = values[:, 0] > 0.5 if values.shape[1] == 1 else np.argmax(values, axis=1)
        return self.classes_[indices.astype(np.int64)]

    def _probabilities(self, model: Sequential, x: Any) -> np.ndarray:
        values = class_probabilities(model, x)
        return values if len(self.classes_) > 1 else np.ones_like(values[:, :1])

    def _problem(self, y: Any, classes: Any, *, again: bool, partial: bool) -> _Problem:
        check_classification_targets(y)
        multilabel = y.ndim == 2 and type_of_target(y) == "multilabel-indicator"
        if multilabel:
            found = np.arange(y.shape[1])
        elif y.ndim == 1:
            found = np.unique(y)
        else:
            raise DataError(f"y must be labels of shape (n,), or 0 and 1, got shape {y.shape}")
        given = found if multilabel or classes is None else np.unique(_on_host(classes, "classes"))
        if again:
            if multilabel != self._multilabel:
                was = "multilabel" if self._multilabel else "a label for each row"
                raise DataError(f"y must be {was} as before, got shape {y.shape}")
            if classes is not None and not np.array_equal(given, self.classes_):
                raise ArgumentError(
                    f"classes must be {_listed(self.classes_)} as in the first call, "
                    f"got {_listed(given)}"
                )
            given = self.classes_
            if not partial and not np.array_equal(found, given):
                raise DataError(
                    "warm_start can only be used where `y` has the same classes as in the previous "
                    f"call to fit. Previously got {given}, `y` has {found}"
                )
        elif partial and classes is None:
            raise ArgumentError("classes must be given in the first call of partial_fit, got None")
        strange = np.setdiff1d(found, given)
        if len(strange):
            raise DataError(f"y must hold the classes {_listed(given)}, got {_listed(strange)}")
        k = len(given)
        self.classes_, self._multilabel = given, multilabel
        if multilabel:
            y = y.astype(np.float64)
            return _Problem(y, None, k, self._loss(logistic=True), per_sample=k, gradient=1 / k)
        if k == 1:
            # as scikit-learn does it: a logistic output that is to be 0
            return _Problem(np.zeros(len(y)), None, 1, self._loss(logistic=True))
        y, labels = np.searchsorted(given, y), as_labels(given)
        if labels is not None:
            y = labels[y]
        return _Problem(y, labels, 1 if k == 2 else k, self._loss(logistic=k == 2))

    def _loss(self, *, logistic: bool) -> str:
        """Return the loss by its name in xpnn, for logistic outputs or for a softmax."""
        name, colon, parameters = _named(self.loss, "log_loss").partition(":")
        kinds = {
            "log_loss": ("cross_entropy", "binary_cross_entropy"),
            "cross_entropy": ("cross_entropy", "binary_cross_entropy"),
            "focal": ("focal", "binary_focal"),
        }
        return f"{kinds[name][logistic] if name in kinds else name}{colon}{parameters}"

    def _score(self, y: np.ndarray, predicted: np.ndarray, weights: np.ndarray | None) -> float:
        return float(accuracy_score(y, predicted, sample_weight=weights))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


class MLPRegressor(_Scored, RegressorMixin, _MLP, _OfRegressor):  # type: ignore[misc]
    """Multi-layer perceptron for values, with scikit-learn's parameters and `xpnn.fit`.

    Parameters
    ----------
    loss
        "squared_error", half the squared error; "poisson", half the Poisson deviance, for `y` >= 0,
        with the exponential function after the last layer; or another loss of `xpnn.losses` by name
        with its parameters, such as "huber:delta=2". With several levels, "quantile:levels=0.1,0.9"
        predicts the columns of `y` for the first level, then for the next.
    hidden_layer_sizes, activation, solver, alpha, batch_size, learning_rate, learning_rate_init, …
        All as for `MLPClassifier`, which also has `class_weight`, except:
    flood
        The level b of `Flooding` around the loss in `xpnn.losses`: the mean squared error, without
        the half.

    Attributes
    ----------
    model_, history_, …
        All as for `MLPClassifier`, which also has `classes_`, except:
    history_
        Its losses are those in `xpnn.losses`: mean squared errors, without the half.
    out_activation_
        "identity", or "exp" for "poisson".

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from xpnn.estimators import MLPRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> network = MLPRegressor(hidden_layer_sizes=50, learning_rate_init=0.01, random_state=1)
    >>> make_pipeline(StandardScaler(), network).fit(X, y).predict(X[:3]).shape
    (3,)
    """

    loss: str
    _levels: Any

    @available_if(_has_steps)  # type: ignore[untyped-decorator]
    def partial_fit(self, X: Array, y: Array, sample_weight: Array | None = None) -> Self:
        """Train for one more epoch, starting where the last call ended.

        See `fit` for parameters and errors, and `MLPClassifier.partial_fit`.
        """
        return self._fit(X, y, sample_weight, partial=True)

    def predict(self, X: Array) -> Array:
        """Return the values for each row of `X`, shape (n,) or (n, outputs).

        The array is of the library that `MLPClassifier.predict` describes.
        """
        return _answer(X, self._predicted(self._values(X)))

    def _predicted(self, values: np.ndarray) -> np.ndarray:
        return values[:, 0] if values.shape[1] == 1 else values

    def _problem(self, y: Any, classes: Any, *, again: bool, partial: bool) -> _Problem:
        columns = y.shape[1] if y.ndim == 2 else 1
        name = _named(self.loss, "squared_error")
        loss = MeanSquaredError() if name == "squared_error" else LOSSES.make(name)
        outputs = columns * loss.outputs_per_target
        if again and outputs != self.n_outputs_:
            before = self.n_outputs_ // loss.outputs_per_target
            raise DataError(f"y must have {before} columns as before, got {columns}")
        y = y.astype(np.float64)
        self._levels = loss.levels if isinstance(loss, Quantile) else ()
        if name == "squared_error":
            return _Problem(
                y, None, outputs, "mean_squared_error", per_sample=0.5, gradient=2 / outputs
            )
        problem = _Problem(y, None, outputs, name, gradient=1 / outputs)
        if name != "poisson":
            return problem
        if (y < 0).any():
            raise DataError(f"y must be >= 0 for loss 'poisson', got {y.min()}")
        # half the deviance has y log(y) - y more, which is 0 for y = 0
        constant = (y * np.log(np.where(y > 0, y, 1.0)) - y).reshape(len(y), -1).sum(axis=1)
        return problem._replace(per_sample=outputs, constant=constant)

    @np.errstate(all="ignore")
    def score(self, X: Array, y: Array, sample_weight: Array | None = None) -> float:
        """Return R², for several outputs their mean; for "quantile" the mean D² of the levels.

        D² is the share by which the quantile loss is less than that of the best constant.
        """
        check_is_fitted(self)
        if not self._levels:
            return super().score(X, y, sample_weight)
        predicted = self._predicted(self._values(X))
        return self._score(
            np.asarray(self._targets(y)), predicted, _numbers(sample_weight, "sample_weight")
        )

    def _score(self, y: np.ndarray, predicted: np.ndarray, weights: np.ndarray | None) -> float:
        if not self._levels:
            return float(r2_score(y, predicted, sample_weight=weights))
        parts = np.split(predicted.reshape(len(y), -1), len(self._levels), axis=1)
        y = y.reshape(len(y), -1)
        scores = [
            d2_pinball_score(y, part, sample_weight=weights, alpha=level)
            for level, part in zip(self._levels, parts, strict=True)
        ]
        return float(np.mean(scores))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

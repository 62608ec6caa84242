"""scikit-learn estimators, trained by `xpnn.fit`: `MLPClassifier` and `MLPRegressor`.

The package doesn't import this module, which needs scikit-learn: ``from xpnn.estimators import
MLPClassifier``. A parameter that scikit-learn's estimators of these names have means here what it
means there.
"""

from __future__ import annotations

import math
import numbers
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from xpnn.backends import Backend, backend_of, get_backend, to_numpy
from xpnn.datasets.labels import as_labels
from xpnn.errors import (
    ArgumentError,
    DataError,
    fraction,
    integer,
    nonnegative,
    positive,
    unknown,
)
from xpnn.inference import outputs_of, predict_proba
from xpnn.layers import Dense, Layer
from xpnn.model import Sequential
from xpnn.optimizers import SGD, Adam, Momentum, Nesterov, Optimizer
from xpnn.schedules import Schedule, power
from xpnn.settings import Settings
from xpnn.training import fit
from xpnn.training.callback import Callback
from xpnn.training.checkpoint import SavedRun, taken
from xpnn.training.history import Epoch, History
from xpnn.training.run import Run

__all__ = [
    "MLPClassifier",
    "MLPRegressor",
]

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.model_selection import train_test_split
    from sklearn.utils import check_array, check_consistent_length, check_random_state, column_or_1d
    from sklearn.utils.multiclass import check_classification_targets, type_of_target
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    raise ImportError(
        "xpnn.estimators needs scikit-learn; install it with: pip install 'xpnn[sklearn]'"
    ) from error

Array = Any

# an adaptive learning rate is divided by the one until it is no larger than the other
_FALL, _LEAST_RATE = 5.0, 1e-6


class _OfMatrices:
    """Weight decay of matrices alone: not of biases, nor of what a `BatchNorm` learns."""

    def decayed(self, w: Array, g: Array) -> Array:
        return super().decayed(w, g) if w.ndim == 2 else g  # type: ignore[misc]


class _SGD(_OfMatrices, SGD):
    pass


class _Momentum(_OfMatrices, Momentum):
    pass


class _Nesterov(_OfMatrices, Nesterov):
    pass


class _Adam(_OfMatrices, Adam):
    pass


@dataclass(frozen=True)
class _InverseScaling(Schedule):
    """The factor ``(t + 1) ** -power_t`` in an epoch that t samples came before."""

    power_t: float
    samples: int

    def factors(self, times: np.ndarray, epochs: float, history: Sequence[Any]) -> np.ndarray:
        before = math.floor(times[0]) * self.samples + 1
        return np.full(times.shape, power(before, -self.power_t))


@dataclass(frozen=True)
class _Adaptive(Schedule):
    """The factor ``5 ** -falls``, by how often the run has come to a halt."""

    halts: _Halts = field(repr=False)

    def factors(self, times: np.ndarray, epochs: float, history: Sequence[Any]) -> np.ndarray:
        return np.full(times.shape, _FALL**-self.halts.falls)


class _Halts(Callback):
    """Ends a run by scikit-learn's rule, once more than `patience` epochs in a row were no better.

    An epoch is better if its figure is at least `tol` above the best one before it, which counts
    as the best also where it was so by less.

    Parameters
    ----------
    figure
        Of an epoch; the larger, the better.
    earlier
        The figures of the runs that this one goes on from.
    restore_best
        Whether the model is given the weights of the best epoch at the end.
    rate
        Where it isn't None, the learning rate falls at a halt, as long as it is large enough.
    verbose
        What to print an epoch's figure after, if anything.
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
        self._weights: dict[str, np.ndarray] | None = None
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
            # those of the best epoch, which the run before has left
            self._weights = run.learned()

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
            self._weights = self._run.learned()

    def on_end(self) -> None:
        if self._weights is not None:
            self._run.restore(self._weights)


class _Continuation(Callback):
    """Keeps the end of a run, from which a later one of the same model goes on.

    Random state, optimizer and log go on: so do the orders of the samples, the masks, and the
    learning rates, and no epoch is spent on evaluating the network first.

    Parameters
    ----------
    past
        The earlier run, None if there was none.
    epochs
        The run ends after this many; not before all of its epochs if None.

    Attributes
    ----------
    past
        This run, once it has ended.
    """

    def __init__(self, past: SavedRun | None, epochs: int | None) -> None:
        self.past = past
        self._end = None if epochs is None else epochs + self.done

    @property
    def done(self) -> int:
        """The number of epochs before the run."""
        return 0 if self.past is None else self.past.done

    def on_start(self, run: Run) -> None:
        self._run = run

    def on_epoch(self, epoch: Epoch) -> None:
        if epoch.epoch == self._end:
            self._run.stop("one epoch was asked for")

    def on_end(self) -> None:
        # its parameters may be those of the best epoch
        self.past = taken(self._run, of_the_model=True)


class _Problem(NamedTuple):
    """What a network is to learn.

    Attributes
    ----------
    y
        The targets as `xpnn.fit` takes them.
    labels
        Of the classes, if it takes any.
    outputs
        Of the network.
    loss
        Its name in `xpnn.losses.LOSSES`.
    per_sample
        scikit-learn's loss of a sample, divided by ours.
    gradient
        The gradient of ours, divided by that of scikit-learn's. It has no 2 in that of a squared
        error, and adds outputs up of which we take the mean.
    stratify
        Whether a validation set has the same share of each class.
    """

    y: np.ndarray
    labels: np.ndarray | None
    outputs: int
    loss: str
    per_sample: float = 1.0
    gradient: float = 1.0
    stratify: bool = False


def _on_host(values: Any) -> Any:
    """Return another library's array as NumPy's; anything else, such as a table, as it is."""
    return values if backend_of(values) is None else to_numpy(values)


def _answer(x: Any, values: np.ndarray) -> Array:
    """Return values as an array of the kind that `x` is, where it is; NumPy's for a table."""
    home = backend_of(x)
    if home is None or values.dtype.kind not in "biuf":
        return values
    with home.scope():
        return home.asarray(values)


class _MLP(BaseEstimator):  # type: ignore[misc]
    """What both estimators are: their parameters, and a run of `xpnn.fit`."""

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: str = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        backend: str | Backend | None = None,
        device: str | None = None,
        dtype: str | None = None,
        reproducible: bool = False,
        flood: float | None = None,
        dropout: float | None = None,
        batch_norm: bool = False,
        schedule: str | None = None,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.backend = backend
        self.device = device
        self.dtype = dtype
        self.reproducible = reproducible
        self.flood = flood
        self.dropout = dropout
        self.batch_norm = batch_norm
        self.schedule = schedule

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
    _past: SavedRun

    @property
    def coefs_(self) -> list[np.ndarray]:
        """The weights of each layer, on the host, of shape (inputs, outputs)."""
        return [layer["weight"] for layer in self._dense()]

    @property
    def intercepts_(self) -> list[np.ndarray]:
        """The biases of each layer, on the host, of shape (outputs,)."""
        return [layer["bias"] for layer in self._dense()]

    def _dense(self) -> list[dict[str, np.ndarray]]:
        return [layer for layer in self.model_.host_parameters() if "weight" in layer]

    @property
    def loss_(self) -> float:
        """The last of `loss_curve_`."""
        return self.loss_curve_[-1]

    def _fit(
        self, X: Any, y: Any, sample_weight: Any, *, classes: Any = None, partial: bool = False
    ) -> Any:
        if partial and self.early_stopping:
            raise ArgumentError("early_stopping must be False for partial_fit, got True")
        again = hasattr(self, "model_") and (partial or self.warm_start)
        max_iter = integer("max_iter", self.max_iter, minimum=1)
        home = backend_of(X)
        X, y = validate_data(
            self, _on_host(X), _on_host(y), reset=not again, multi_output=True,
            y_numeric=isinstance(self, RegressorMixin), dtype=(np.float64, np.float32),
        )  # fmt: skip
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        problem = self._problem(y, classes, again=again, partial=partial)
        settings = self._settings(problem)
        layers = [_glorot(layer) for layer in settings.layers(problem.outputs)]
        model, place, past = Sequential(*layers), None, None
        if again:
            _check_same(self.model_, model)
            model, place, past = self.model_, self.model_.backend, self._past
        seed = self._seed() if past is None else past.settings["seed"]
        train, validation, weights = self._split(X, problem, sample_weight, seed)
        n = len(train[0])
        batch_size = self._batch_size(n)
        halts = self._halts(problem, validation, again=again, partial=partial)
        going_on = _Continuation(past, 1 if partial else None)
        done = going_on.done
        try:
            fit(
                model,
                train,
                validation=validation,
                labels=problem.labels,
                loss=settings.make_loss(),
                optimizer=self._optimizer(
                    problem, batch_size * (1.0 if weights is None else float(np.mean(weights)))
                ),
                schedule=self._schedule(settings, n, halts),
                sample_weight=weights,
                # a schedule is made for max_iter of them
                epochs=max(max_iter, done + 1) if partial else done + max_iter,
                batch_size=batch_size,
                seed=seed,
                shuffle=self.shuffle,
                backend=self._place(home, X.dtype) if place is None else place,
                # the first one may put the best parameters back, which the second one keeps
                callbacks=[halts, going_on],
                resume=past,
            )
        except KeyboardInterrupt:
            if going_on.done == done:
                raise
            warnings.warn("Training interrupted by user.", stacklevel=3)
        assert going_on.past is not None
        rows = going_on.past.rows
        self.model_, self.history_, self._past = model, model.history, going_on.past
        self.n_iter_ = going_on.done - done
        self.t_ = (self.t_ if again else 0) + self.n_iter_ * n
        self.loss_curve_ = (self.loss_curve_ if again else []) + [
            problem.per_sample * row.train_loss for row in rows[done + 1 :]
        ]
        self.best_loss_ = None if self.early_stopping else -halts.best
        self.validation_scores_ = halts.figures if self.early_stopping else None
        self.best_validation_score_ = halts.best if self.early_stopping else None
        self.n_layers_ = len(self.coefs_) + 1
        self.n_outputs_ = problem.outputs
        self.out_activation_ = {
            "mean_squared_error": "identity",
            "binary_cross_entropy": "logistic",
            "cross_entropy": "softmax",
        }[problem.loss]
        if not partial and model.history.stopped is None and self.n_iter_ == max_iter:
            warnings.warn(
                f"Maximum iterations ({max_iter}) reached and the optimization hasn't converged "
                "yet.",
                ConvergenceWarning,
                stacklevel=3,
            )
        return self

    def _problem(self, y: Any, classes: Any, *, again: bool, partial: bool) -> _Problem:
        raise NotImplementedError

    def _score(self, row: Epoch, y: np.ndarray) -> float:
        """Return the validation score of an epoch, given the validation set's targets."""
        raise NotImplementedError

    def _settings(self, problem: _Problem) -> Settings:
        sizes = self.hidden_layer_sizes
        if isinstance(sizes, numbers.Integral):
            sizes = [sizes]
        if isinstance(sizes, str) or not isinstance(sizes, Iterable):
            raise ArgumentError(
                f"hidden_layer_sizes must be whole numbers such as (100, 50), got {sizes!r}"
            )
        widths = [integer("hidden_layer_sizes", size, minimum=1) for size in sizes]
        name = self.activation
        return Settings(
            hidden=",".join(map(str, widths)),
            activation="sigmoid" if name == "logistic" else name,
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

    def _split(
        self, x: np.ndarray, problem: _Problem, sample_weight: Any, seed: int
    ) -> tuple[tuple[Any, Any], tuple[Any, Any] | None, np.ndarray | None]:
        """Return the training set, the validation set if any, and the weights of the first."""
        parts = [x, problem.y]
        if sample_weight is not None:
            weights = check_array(
                _on_host(sample_weight), ensure_2d=False, dtype=np.float64,
                input_name="sample_weight",
            )  # fmt: skip
            check_consistent_length(x, weights)
            parts.append(weights)
        if not self.early_stopping:
            return (parts[0], parts[1]), None, (parts[2] if len(parts) > 2 else None)
        size = fraction("validation_fraction", self.validation_fraction)
        train_x, x, train_y, y, *weights = train_test_split(
            *parts,
            random_state=seed,
            test_size=size,
            stratify=problem.y if problem.stratify else None,
        )
        if len(x) < 2:
            raise ArgumentError(
                "validation_fraction must leave two samples or more for validation, got "
                f"{size} of {len(parts[0])}"
            )
        return (train_x, train_y), (x, y), (weights[0] if weights else None)

    def _batch_size(self, n: int) -> int:
        if isinstance(self.batch_size, str) and self.batch_size == "auto":
            return min(200, n)
        batch_size = integer("batch_size", self.batch_size, minimum=1)
        if batch_size > n:
            warnings.warn(
                f"batch_size is {batch_size}, and taken as the {n} samples that there are",
                stacklevel=4,
            )
        return min(batch_size, n)

    def _halts(
        self, problem: _Problem, validation: tuple[Any, Any] | None, *, again: bool, partial: bool
    ) -> _Halts:
        patience = self.n_iter_no_change
        if patience != math.inf:
            patience = integer("n_iter_no_change", patience, minimum=1)
        if validation is None:
            earlier = [-loss for loss in self.loss_curve_] if again else []
        else:
            earlier = (self.validation_scores_ or []) if again else []

        def figure(row: Epoch) -> float:
            if validation is None:
                return -problem.per_sample * row.train_loss
            return self._score(row, validation[1])

        return _Halts(
            figure,
            earlier,
            tol=nonnegative("tol", self.tol),
            patience=math.inf if partial else patience,
            restore_best=validation is not None,
            rate=self.learning_rate_init if self._rate() == "adaptive" else None,
            verbose=bool(self.verbose),
        )

    def _optimizer(self, problem: _Problem, weight: float) -> Optimizer:
        """Return the optimizer of steps over samples with a sum of weights of so much."""
        scale = problem.gradient
        rate = positive("learning_rate_init", self.learning_rate_init)
        alpha = nonnegative("alpha", self.alpha)
        # a set without any weight is refused later
        decay = {"weight_decay": scale * alpha / weight if weight > 0 else 0.0}
        if self.solver == "adam":
            betas = fraction("beta_1", self.beta_1), fraction("beta_2", self.beta_2)
            return _Adam(rate, *betas, eps=scale * positive("epsilon", self.epsilon), **decay)
        if self.solver == "sgd":
            momentum = fraction("momentum", self.momentum)
            if not momentum:
                return _SGD(rate / scale, **decay)
            kind = _Nesterov if self.nesterovs_momentum else _Momentum
            return kind(rate / scale, momentum, **decay)
        if self.solver == "lbfgs":
            raise ArgumentError("solver must be 'adam' or 'sgd', got 'lbfgs', which xpnn hasn't")
        raise unknown("solver", self.solver, ["adam", "sgd"])

    def _rate(self) -> str:
        allowed = ["constant", "invscaling", "adaptive"]
        if self.learning_rate not in allowed:
            raise unknown("learning_rate", self.learning_rate, allowed)
        # as there, of one solver alone
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

    def _place(self, home: Backend | None, dtype: Any) -> Backend:
        """Return the backend that was asked for; by default, where X is and in its dtype."""
        name, device, wanted = self.backend, self.device, self.dtype
        if name is None:
            own = get_backend() if home is None else home
            name, device = own.name, device or own.options()["device"]
        if wanted is None:
            wanted = name.dtype_name if isinstance(name, Backend) else np.dtype(dtype).name
        return get_backend(name, device=device, dtype=wanted, reproducible=self.reproducible)

    def _values(self, x: Any, of: Callable[..., np.ndarray] = predict_proba) -> np.ndarray:
        """Return what the network says, a row a sample: probabilities or values, or its outputs."""
        check_is_fitted(self)
        x = validate_data(self, _on_host(x), reset=False, dtype=(np.float64, np.float32))
        return of(self.model_, x)


def _listed(labels: np.ndarray) -> str:
    return ", ".join(map(repr, labels.tolist()))


def _glorot(layer: Layer) -> Layer:
    """Return the layer, one with weights with the initial ones that scikit-learn draws."""
    return Dense(layer.units, weight="glorot_uniform") if isinstance(layer, Dense) else layer


def _check_same(old: Sequential, new: Sequential) -> None:
    if repr(old) != repr(new):
        raise ArgumentError(
            f"the network must be as it was for training to go on, {old!r}, got {new!r}"
        )


class MLPClassifier(ClassifierMixin, _MLP):  # type: ignore[misc]
    """Multi-layer perceptron for classes, with scikit-learn's parameters and `xpnn.fit`.

    Two classes are told apart by one logistic output, more by a softmax, and labels that don't
    exclude each other (`y` of shape (n, classes), 0 and 1) by a logistic output each.

    Parameters
    ----------
    hidden_layer_sizes
        The widths of the hidden layers, each >= 1; none if empty.
    activation
        That of the hidden layers: any of xpnn's, with parameters, "h_swish:n=6"; "logistic" is
        sigmoid.
    solver
        "adam" or "sgd" (with `momentum`); there is no "lbfgs", and so no ``max_fun``.
    alpha
        L2 penalty ``alpha / 2 * sum(w²) / n`` of a mini-batch of n samples, over weights but not
        biases, >= 0. It isn't part of the losses that are shown. A last, smaller mini-batch has
        no larger one here, and a mini-batch's n doesn't follow the weights of its samples.
    batch_size
        The samples of a mini-batch, >= 1; "auto" is ``min(200, n)``.
    learning_rate
        For "sgd": "constant"; "invscaling", divided by ``(t + 1) ** power_t`` after each epoch,
        with t the samples seen so far; or "adaptive", divided by 5 where training would stop, as
        long as it is above 1e-6.
    learning_rate_init
        The first learning rate, > 0.
    power_t
        The exponent of "invscaling", >= 0.
    max_iter
        The number of epochs, >= 1.
    shuffle
        Whether each epoch takes the samples in a new order.
    random_state
        An integer is the seed of `xpnn.fit`; a `RandomState`, or NumPy's global one if None, draws
        one.
    tol, n_iter_no_change
        Training stops once the loss, or with `early_stopping` the validation score, wasn't better
        than the best one by `tol` for more than `n_iter_no_change` epochs in a row, which may be
        `numpy.inf`.
    verbose
        Whether to print a line an epoch.
    warm_start
        Whether `fit` goes on where the last one ended, also with the state of random numbers and
        of the optimizer: the bits are those of one run of all the epochs. The network, its
        backend and dtype stay.
    momentum
        The momentum of "sgd", >= 0 and < 1.
    nesterovs_momentum
        Whether the momentum is Nesterov's.
    early_stopping
        Whether to keep a part of the samples for validation, stratified but for multilabels, and
        to go back to the weights that were best there.
    validation_fraction
        The share of the samples kept for validation, >= 0 and < 1; at least two samples.
    beta_1, beta_2, epsilon
        Of "adam", `epsilon` as in the paper, beside the corrected root; scikit-learn adds it to the
        uncorrected one.
    backend, device
        What computes, see `xpnn.get_backend`; None is the library and the device of `X`, NumPy
        for what is no array.
    dtype
        "float32" or "float64"; that of `X` if None, float64 for integers.
    reproducible
        Whether every backend gives the same bits.
    flood
        The level b of `Flooding` around the loss, no flooding if None.
        With several logistic outputs, the loss there is the mean of their losses.
    dropout
        The p of a `Dropout` after each hidden activation; no dropout if None.
    batch_norm
        Whether a `BatchNorm` follows each hidden `Dense` layer.
    schedule
        The schedule of the learning rate, by name: "cosine:final=0.01". It is made for
        `max_iter` epochs.

    Attributes
    ----------
    classes_
        The labels, sorted, a NumPy array.
    model_
        The `xpnn.Sequential`, for all that xpnn does with one; it knows the labels if they are
        integers or strings.
    history_
        The `xpnn.History` of all epochs so far, with row 0 for the untrained network.
    coefs_, intercepts_
        Weights and biases of each layer, NumPy arrays.
    n_iter_
        The epochs of the last call.
    t_
        The samples that training has seen.
    loss_curve_, loss_, best_loss_
        The training loss in each epoch, the last and the least; the latter None with
        `early_stopping`.
    validation_scores_, best_validation_score_
        With `early_stopping`, the accuracy in each epoch (of multilabels: the share of outputs that
        are right) and the largest; else None.
    n_layers_, n_outputs_, out_activation_
        The number of layers with the input, of outputs, and "softmax" or "logistic".
    n_features_in_, feature_names_in_
        The number of features, and their names if `X` had some.

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

    classes_: np.ndarray
    _multilabel: bool

    def fit(self, X: Array, y: Array, sample_weight: Array | None = None) -> MLPClassifier:
        """Train the network.

        Parameters
        ----------
        X
            Shape (n, features): an array of any of xpnn's libraries, a table, or nested lists.
            Unsigned bytes enter as they are, not divided by 255.
        y
            Labels of any kind, shape (n,), or 0 and 1 of shape (n, classes).
        sample_weight
            Shape (n,), as for `xpnn.fit`: a weight of 2 is a sample that is there twice.

        Raises
        ------
        ValueError
            If a parameter or the data can't be used: `ArgumentError`, `DataError` or
            scikit-learn's.
        DivergenceError
            If the loss became NaN or infinite.
        """
        return self._fit(X, y, sample_weight)  # type: ignore[no-any-return]

    def partial_fit(
        self, X: Array, y: Array, classes: Array | None = None, sample_weight: Array | None = None
    ) -> MLPClassifier:
        """Train for one more epoch, going on where the last call ended.

        Parameters
        ----------
        X, y, sample_weight
            As for `fit`. ``max_iter`` calls with the same samples leave the bits of one `fit`.
        classes
            All labels, in the first call; y needn't hold each.
        """
        return self._fit(  # type: ignore[no-any-return]
            X, y, sample_weight, classes=classes, partial=True
        )

    def predict(self, X: Array) -> Array:
        """Return the label of each row of `X`; of multilabels 0 and 1 of shape (n, classes).

        As with all methods, an array of another library than NumPy is answered with one, on the
        same device; anything else, and labels that are no numbers, with NumPy's.
        """
        return _answer(X, self._predictions(self._values(X)))

    def _predictions(self, values: np.ndarray) -> np.ndarray:
        if self._multilabel:
            return (values > 0.5).astype(np.int64)
        indices = values[:, 0] > 0.5 if values.shape[1] == 1 else np.argmax(values, axis=1)
        return self.classes_[indices.astype(np.int64)]

    def predict_proba(self, X: Array) -> Array:
        """Return probabilities of shape (n, classes), in the order of `classes_`."""
        return _answer(X, self._probabilities(X))

    def predict_log_proba(self, X: Array) -> Array:
        """Return the logarithms of `predict_proba`."""
        with np.errstate(divide="ignore"):
            return _answer(X, np.log(self._probabilities(X)))

    def decision_function(self, X: Array) -> Array:
        """Return the logits of shape (n, classes); (n,) for two classes, > 0 for the second."""
        values = self._values(X, outputs_of)
        return _answer(X, values if self._multilabel or values.shape[1] > 1 else values[:, 0])

    def _probabilities(self, x: Array) -> np.ndarray:
        values = self._values(x)
        if values.shape[1] == 1 and not self._multilabel:
            return np.concatenate([1 - values, values], axis=1)
        return values

    def score(self, X: Array, y: Array, sample_weight: Array | None = None) -> float:
        """Return the accuracy; of multilabels, the share of rows that are right throughout."""
        return super().score(  # type: ignore[no-any-return]
            _on_host(X), _on_host(y), _on_host(sample_weight)
        )

    def _problem(self, y: Any, classes: Any, *, again: bool, partial: bool) -> _Problem:
        check_classification_targets(y)
        multilabel = type_of_target(y) == "multilabel-indicator"
        if multilabel:
            y = y.toarray() if hasattr(y, "toarray") else y
            found = np.arange(y.shape[1])
        elif y.ndim == 1:
            found = np.unique(y)
        else:
            raise DataError(f"y must be labels of shape (n,), or 0 and 1, got shape {y.shape}")
        given = found if multilabel or classes is None else np.unique(_on_host(classes))
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
        elif partial and classes is None:
            raise ArgumentError("classes must be given in the first call of partial_fit, got None")
        strange = np.setdiff1d(found, given)
        if len(strange):
            raise DataError(f"y must hold the classes {_listed(given)}, got {_listed(strange)}")
        k = len(given)
        if k < 2:
            raise DataError(f"y must hold two classes or more, got one class, {_listed(given)}")
        self.classes_, self._multilabel = given, multilabel
        if multilabel:
            y = y.astype(np.float64)
            return _Problem(y, None, k, "binary_cross_entropy", per_sample=k, gradient=1 / k)
        y, labels = np.searchsorted(given, y), as_labels(given)
        if labels is not None:
            y = labels[y]
        loss = "binary_cross_entropy" if k == 2 else "cross_entropy"
        return _Problem(y, labels, 1 if k == 2 else k, loss, stratify=True)

    def _score(self, row: Epoch, y: np.ndarray) -> float:
        return row.test_accuracy

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


class MLPRegressor(RegressorMixin, _MLP):  # type: ignore[misc]
    """Multi-layer perceptron for values, with scikit-learn's parameters and `xpnn.fit`.

    The loss is half the mean squared error.

    Parameters
    ----------
    hidden_layer_sizes, activation, solver, alpha, batch_size, learning_rate, learning_rate_init
        As for `MLPClassifier`, like all the others.
    flood
        The level b of `Flooding`, around the mean squared error without its half.

    Attributes
    ----------
    model_, history_
        As for `MLPClassifier`, like all the others but `classes_`; their losses are without the
        half.
    validation_scores_, best_validation_score_
        With `early_stopping`, ``1 - test_loss / variance`` in each epoch: R², of several outputs
        the variance-weighted one. With `flood`, the loss is the flooded one.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from xpnn.estimators import MLPRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> network = MLPRegressor((50,), learning_rate_init=0.01, random_state=1)
    >>> make_pipeline(StandardScaler(), network).fit(X, y).predict(X[:3]).shape
    (3,)
    """

    def fit(self, X: Array, y: Array, sample_weight: Array | None = None) -> MLPRegressor:
        """Train the network.

        Parameters
        ----------
        X, sample_weight
            As for `MLPClassifier.fit`.
        y
            Values of shape (n,) or (n, outputs).

        Raises
        ------
        ValueError, DivergenceError
            As for `MLPClassifier.fit`.
        """
        return self._fit(X, y, sample_weight)  # type: ignore[no-any-return]

    def partial_fit(self, X: Array, y: Array, sample_weight: Array | None = None) -> MLPRegressor:
        """Train for one more epoch, going on where the last call ended.

        Parameters
        ----------
        X, y, sample_weight
            As for `fit`.
        """
        return self._fit(X, y, sample_weight, partial=True)  # type: ignore[no-any-return]

    def predict(self, X: Array) -> Array:
        """Return the values for each row of `X`, shape (n,) or (n, outputs).

        The array is of the library that `MLPClassifier.predict` would answer with.
        """
        values = self._values(X)
        return _answer(X, values[:, 0] if values.shape[1] == 1 else values)

    def score(self, X: Array, y: Array, sample_weight: Array | None = None) -> float:
        """Return R², of several outputs the mean."""
        return super().score(  # type: ignore[no-any-return]
            _on_host(X), _on_host(y), _on_host(sample_weight)
        )

    def _problem(self, y: Any, classes: Any, *, again: bool, partial: bool) -> _Problem:
        outputs = y.shape[1] if y.ndim == 2 else 1
        if again and outputs != self.n_outputs_:
            raise DataError(f"y must have {self.n_outputs_} columns as before, got {outputs}")
        y = y.astype(np.float64)
        return _Problem(
            y, None, outputs, "mean_squared_error", per_sample=0.5, gradient=2 / outputs
        )

    def _score(self, row: Epoch, y: np.ndarray) -> float:
        variance = float(np.mean(np.var(y, axis=0)))
        if not variance:
            return float(not row.test_loss)
        return 1.0 - row.test_loss / variance

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

"""scikit-learn estimators, trained by `xpnn.fit`: `MLPClassifier` and `MLPRegressor`.

The package doesn't import this module, which needs scikit-learn: ``from xpnn.estimators import
MLPClassifier``. A parameter has the same meaning as in scikit-learn's estimator of the same name.
"""

from __future__ import annotations

import math
import numbers
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, NamedTuple, Self

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
from xpnn.inference import class_probabilities, outputs_of, predict_proba
from xpnn.layers import Dense
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

# an adaptive learning rate is divided by 5 as long as it is above 1e-6
_FALL, _LEAST_RATE = 5.0, 1e-6


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
        self._run = run

    def on_epoch(self, epoch: Epoch) -> None:
        if epoch.epoch == self._last:
            self._run.stop("one epoch was asked for")

    def on_end(self) -> None:
        # the model may have the parameters of the best epoch
        self.past = taken(self._run, of_the_model=True)


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
    """

    y: np.ndarray
    labels: np.ndarray | None
    outputs: int
    loss: str
    per_sample: float = 1.0
    gradient: float = 1.0


def _on_host(values: Any) -> Any:
    """Return another library's array as NumPy's; anything else, such as a table, as it is."""
    return values if backend_of(values) is None else to_numpy(values)


def _answer(x: Any, values: np.ndarray) -> Array:
    """Return numbers as an array in the library and on the device of `x`, if that is an array."""
    backend = backend_of(x)
    if backend is None or values.dtype.kind not in "biuf":
        return values
    with backend.scope():
        return backend.asarray(values)


@dataclass(eq=False, repr=False)
class _Parameters(BaseEstimator):  # type: ignore[misc]
    """The parameters of both estimators; `MLPClassifier` describes them."""

    hidden_layer_sizes: Any = (100,)
    activation: str = "relu"
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
    backend: str | Backend | None = None
    device: str | None = None
    dtype: str | None = None
    reproducible: bool = False
    flood: float | None = None
    dropout: float | None = None
    batch_norm: bool = False
    schedule: str | None = None


class _MLP(_Parameters):
    """What both estimators have in common; each has its `_problem` and its `_score`."""

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
            Shape (n, features): an array of any of xpnn's libraries, a table, or nested lists.
            Unsigned bytes are used as they are, not divided by 255.
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
            If the loss became NaN or infinite.
        """
        return self._fit(X, y, sample_weight)

    def _fit(
        self, X: Any, y: Any, sample_weight: Any, *, classes: Any = None, partial: bool = False
    ) -> Self:
        if partial and self.early_stopping:
            raise ArgumentError("early_stopping must be False for partial_fit, got True")
        again = hasattr(self, "model_") and (partial or self.warm_start)
        max_iter = integer("max_iter", self.max_iter, minimum=1)
        given = backend_of(X)
        X, y = validate_data(
            self, _on_host(X), _on_host(y), reset=not again, multi_output=True,
            y_numeric=isinstance(self, RegressorMixin), dtype=(np.float64, np.float32),
        )  # fmt: skip
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        problem = self._problem(y, classes, again=again, partial=partial)
        settings = self._settings(problem)
        # scikit-learn's initial weights
        layers = [
            Dense(layer.units, weight="glorot_uniform") if isinstance(layer, Dense) else layer
            for layer in settings.layers(problem.outputs)
        ]
        model, past = Sequential(*layers), None
        if again:
            if repr(self.model_) != repr(model):
                raise ArgumentError(
                    "the network must be as it was for training to continue, "
                    f"{self.model_!r}, got {model!r}"
                )
            model, past = self.model_, self._past
        seed = self._seed() if past is None else past.settings["seed"]
        weights = None
        if sample_weight is not None:
            weights = check_array(
                _on_host(sample_weight), ensure_2d=False, dtype=np.float64,
                input_name="sample_weight",
            )  # fmt: skip
            check_consistent_length(X, weights)
        rows, unseen = self._split(problem.y, seed)
        validation = None if unseen is None else (X[unseen], problem.y[unseen])
        X, y = X[rows], problem.y[rows]
        weights = None if weights is None else weights[rows]
        n = len(X)
        batch_size = self._batch_size(n)
        halts = self._halts(problem, validation, again=again, partial=partial)
        continuation = _Continuation(past, one_epoch=partial)
        done = continuation.done
        try:
            fit(
                model,
                (X, y),
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
                seed=seed,
                shuffle=self.shuffle,
                backend=model.backend or self._backend(given, X.dtype),
                # the first may restore the best parameters, which the second then keeps
                callbacks=[halts, continuation],
                resume=past,
                verbose=False,
            )
        except KeyboardInterrupt:
            if continuation.done == done:
                raise
            warnings.warn("Training interrupted by user.", stacklevel=3)
        assert continuation.past is not None
        self.model_, self.history_, self._past = model, model.history, continuation.past
        self.n_iter_ = continuation.done - done
        self.t_ = (self.t_ if again else 0) + self.n_iter_ * n
        self.loss_curve_ = (self.loss_curve_ if again else []) + [
            problem.per_sample * row.train_loss for row in self._past.rows[done + 1 :]
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
                "validation_fraction must leave two samples or more for validation, got "
                f"{share} of {len(y)}"
            )
        return rows, unseen

    def _batch_size(self, n: int) -> int:
        if isinstance(self.batch_size, str) and self.batch_size == "auto":
            return min(200, n)
        batch_size = integer("batch_size", self.batch_size, minimum=1)
        if batch_size > n:
            warnings.warn(
                f"batch_size is {batch_size}, more than the {n} samples: a mini-batch has them all",
                stacklevel=4,
            )
        return min(batch_size, n)

    def _halts(
        self, problem: _Problem, validation: tuple[Any, Any] | None, *, again: bool, partial: bool
    ) -> _Halts:
        patience = self.n_iter_no_change
        if patience != math.inf:
            patience = integer("n_iter_no_change", patience, minimum=1)
        earlier: list[float] = []
        if again and validation is None:
            earlier = [-loss for loss in self.loss_curve_]
        elif again:
            earlier = self.validation_scores_ or []

        def figure(row: Epoch) -> float:
            if validation is None:
                return -problem.per_sample * row.train_loss
            score: float = self._score(row, validation[1])
            return score

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
        if self.solver == "lbfgs":
            raise ArgumentError("solver must be 'adam' or 'sgd', got 'lbfgs', which isn't in xpnn")
        raise unknown("solver", self.solver, ["adam", "sgd"])

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
        if wanted is None:
            wanted = name.dtype_name if isinstance(name, Backend) else np.dtype(dtype).name
        return get_backend(name, device=device, dtype=wanted, reproducible=self.reproducible)

    def _values(self, x: Any, of: Callable[..., np.ndarray] = predict_proba) -> np.ndarray:
        """Return ``of(model_, x)`` for checked features: a row of numbers per sample."""
        check_is_fitted(self)
        x = validate_data(self, _on_host(x), reset=False, dtype=(np.float64, np.float32))
        return of(self.model_, x)


def _listed(labels: np.ndarray) -> str:
    return ", ".join(map(repr, labels.tolist()))


class _Scored:
    """Scores of arrays of any library, by the `score` of a mixin of scikit-learn."""

    def score(self, X: Array, y: Array, sample_weight: Array | None = None) -> float:
        """Return the accuracy of a classifier, or R² of a regressor.

        For multilabels, a row counts as right if all its labels are; for several outputs, R² is
        their mean.
        """
        return super().score(  # type: ignore[misc, no-any-return]
            _on_host(X), _on_host(y), _on_host(sample_weight)
        )


class MLPClassifier(_Scored, ClassifierMixin, _MLP):  # type: ignore[misc]
    """Multi-layer perceptron for classes, with scikit-learn's parameters and `xpnn.fit`.

    For two classes the network has one logistic output, for more a softmax over an output each, and
    for labels that don't exclude each other (`y` of shape (n, classes), 0 and 1) a logistic output
    for each.

    Parameters
    ----------
    hidden_layer_sizes
        The widths of the hidden layers, each >= 1; empty for no hidden layer.
    activation
        The activation of the hidden layers: any of xpnn's, with its parameters, such as
        "h_swish:n=6"; "logistic" is sigmoid.
    solver
        "adam" or "sgd" (with `momentum`). There is no "lbfgs", and so no ``max_fun``.
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
        The number of epochs, >= 1.
    shuffle
        Whether each epoch takes the samples in a new order.
    random_state
        An integer is the seed of `xpnn.fit`. A `RandomState`, or NumPy's global one if None, draws
        the seed.
    tol
        The improvement that counts, >= 0: see `n_iter_no_change`.
    n_iter_no_change
        Training stops after more than this many epochs in a row in which the loss, or with
        `early_stopping` the validation score, wasn't better than the best one by `tol`; >= 1, or
        `numpy.inf` for never.
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
        "float32" or "float64"; None for that of `X`, float64 for integers.
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
        The weight matrix and the biases of each layer, NumPy arrays.
    n_iter_
        The number of epochs of the last call.
    t_
        The number of samples that training has seen.
    loss_curve_, loss_, best_loss_
        The training loss of each epoch, the last one and the least one; `best_loss_` is None with
        `early_stopping`.
    validation_scores_, best_validation_score_
        With `early_stopping`, the accuracy of each epoch (for multilabels the share of right
        outputs) and the largest one; else None.
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

    classes_: np.ndarray
    _multilabel: bool

    def partial_fit(
        self, X: Array, y: Array, classes: Array | None = None, sample_weight: Array | None = None
    ) -> Self:
        """Train for one more epoch, starting where the last call ended.

        Parameters
        ----------
        X, y, sample_weight
            As for `fit`. ``max_iter`` calls with the same samples give the bits of one `fit`.
        classes
            All labels, needed in the first call; `y` needn't contain each of them.
        """
        return self._fit(X, y, sample_weight, classes=classes, partial=True)

    def predict(self, X: Array) -> Array:
        """Return the label of each row of `X`; for multilabels 0 and 1 of shape (n, classes).

        All methods return an array of the library and on the device of `X`, but a NumPy array if
        `X` isn't an array or the labels aren't numbers.
        """
        values = self._values(X)
        if self._multilabel:
            return _answer(X, (values > 0.5).astype(np.int64))
        indices = values[:, 0] > 0.5 if values.shape[1] == 1 else np.argmax(values, axis=1)
        return _answer(X, self.classes_[indices.astype(np.int64)])

    def predict_proba(self, X: Array) -> Array:
        """Return probabilities of shape (n, classes), in the order of `classes_`."""
        return _answer(X, self._values(X, class_probabilities))

    def predict_log_proba(self, X: Array) -> Array:
        """Return the logarithms of `predict_proba`."""
        with np.errstate(divide="ignore"):
            return _answer(X, np.log(self._values(X, class_probabilities)))

    def decision_function(self, X: Array) -> Array:
        """Return logits of shape (n, classes); for two classes (n,), > 0 for the second one."""
        values = self._values(X, outputs_of)
        return _answer(X, values if values.shape[1] > 1 else values[:, 0])

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
        return _Problem(y, labels, 1 if k == 2 else k, loss)

    def _score(self, row: Epoch, y: np.ndarray) -> float:
        """Return the validation score of an epoch, given the validation set's targets."""
        return row.test_accuracy

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


class MLPRegressor(_Scored, RegressorMixin, _MLP):  # type: ignore[misc]
    """Multi-layer perceptron for values, with scikit-learn's parameters and `xpnn.fit`.

    The loss is half the mean squared error.

    Parameters
    ----------
    hidden_layer_sizes, activation, solver, alpha, batch_size, learning_rate, learning_rate_init, …
        All as for `MLPClassifier`, except:
    flood
        The level b of `Flooding` around the mean squared error, without the half.

    Attributes
    ----------
    model_, history_, …
        All as for `MLPClassifier`, which also has `classes_`, except:
    history_
        Its losses are mean squared errors, without the half.
    validation_scores_, best_validation_score_
        With `early_stopping`, ``1 - test_loss / variance`` of each epoch, that is R², for several
        outputs weighted by their variances, and the largest one. With `flood`, the loss is the
        flooded one.
    out_activation_
        "identity".

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

    def partial_fit(self, X: Array, y: Array, sample_weight: Array | None = None) -> Self:
        """Train for one more epoch, starting where the last call ended; see `fit`."""
        return self._fit(X, y, sample_weight, partial=True)

    def predict(self, X: Array) -> Array:
        """Return the values for each row of `X`, shape (n,) or (n, outputs).

        The array is of the library that `MLPClassifier.predict` describes.
        """
        values = self._values(X)
        return _answer(X, values[:, 0] if values.shape[1] == 1 else values)

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

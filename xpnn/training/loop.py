"""`fit`, the only training loop."""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xpnn._core import limits, random_bits
from xpnn._core.files import PathLike
from xpnn._core.interrupts import held
from xpnn.backends import Backend, Step, get_backend
from xpnn.datasets.dataset import Dataset
from xpnn.datasets.frames import is_table
from xpnn.errors import ArgumentError, CheckpointWarning
from xpnn.losses import CrossEntropy, Loss
from xpnn.metrics import Metric
from xpnn.model import Sequential
from xpnn.normalizers import Normalizer
from xpnn.optimizers import Optimizer
from xpnn.schedules import Schedule
from xpnn.task import Task
from xpnn.training import checkpoint
from xpnn.training.callback import Callback, as_callbacks
from xpnn.training.checkpoint import SavedRun
from xpnn.training.defaults import defaults_for
from xpnn.training.history import UNKNOWN, Epoch, Evaluation, Figures, History
from xpnn.training.plan import Plan, as_method, made, measuring, run_settings
from xpnn.training.run import Run
from xpnn.training.samples import Data, as_samples
from xpnn.training.steps import (
    Context,
    EvaluationStep,
    InitialState,
    Rates,
    TrainingStep,
    mini_batches,
)
from xpnn.training.stopping import stopped_early
from xpnn.training.streams import Stream, Whole, moved
from xpnn.training.terminal import shown

Array = Any

# rows that are evaluated at a time: enough for the BLAS, little memory
EVALUATION_ROWS = 1000

# how often callbacks hear of progress in an epoch
_PIECES = 10


@np.errstate(all="ignore")
def fit(
    model: Sequential,
    train: Data | Array,
    y: Array | None = None,
    *,
    validation: Data | float | None = None,
    labels: Sequence[Any] | np.ndarray | None = None,
    normalizer: str | Normalizer | None = None,
    target_normalizer: str | Normalizer | None = None,
    loss: str | Loss | None = None,
    optimizer: str | Optimizer | None = None,
    schedule: str | Schedule | None = None,
    clip_norm: float | None = None,
    sample_weight: Array | None = None,
    class_weight: Mapping[Any, float] | str | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    seed: int | None = None,
    shuffle: bool = True,
    backend: str | Backend = "numpy",
    device: str | None = None,
    dtype: str | None = None,
    reproducible: bool = False,
    metrics: str | Iterable[str | Metric] | None = None,
    callbacks: Iterable[Callback] = (),
    resume: PathLike | SavedRun | None = None,
    max_bytes: int | None = None,
    verbose: bool | None = None,
) -> History:
    """Train `model` by mini-batch gradient descent.

    Where nothing is asked for, a table is trained on as `xpnn train` does it: a DataFrame, a data
    set whose columns have names, as `from_table` returns it, or an array of cells. All other data,
    arrays of numbers and images, are taken as they are and trained on by plain SGD.

    Parameters
    ----------
    model
        The model to train, in place. Its parameters are drawn first if it has none; a trained
        model goes on from those that it has, and keeps its loss, labels and normalizers where no
        others are given.
    train, y
        The data to train on: a pair (x, y), or x and y as two arguments. x has the shape
        (n, features), or is images of shape (n, height, width) or (n, height, width, channels),
        with the channels before the height as in PyTorch too; y is class labels of shape (n,) or
        values of shape (n, outputs). Arrays are of any library that has DLPack or NumPy's
        protocols. They are moved to the device once and never changed. Unsigned bytes in x are
        pixels, which enter the network as ``float32(x / 255)``; other integers enter as they are.

        Or batches: a generator or another iterable of pairs (x, y), such as PyTorch's DataLoader or
        one of its data sets. It is read once, to its end, and what it gave stays in memory: what it
        shuffles or changes at random, it changes once, and `batch_size` is that of the training.

        x may be a DataFrame, or an object array of a table's cells: numbers, truth values, texts,
        and None or NaN where one is missing. What turns them into features is learned from train
        and then belongs to the model; a trained model keeps its own. See
        `xpnn.datasets.from_table` and `xpnn.datasets.columns`.

        Arrays mapped from a file, as by ``numpy.load("x.npy", mmap_mode="r")``, may be larger than
        the memory. Sets of more than 64 MB are read in each epoch, in chunks of that size; smaller
        ones are treated like arrays in memory.
    validation
        The data to test on after each epoch, likewise a pair or batches; or the fraction of the
        training data, > 0 and < 1, that is set apart for it, drawn with `seed` as
        `xpnn.datasets.split` draws it.
    labels
        The label of each class in y, in the order of the model's outputs: distinct integers or
        strings. If None, a trained model keeps its own; otherwise they are the sorted distinct
        strings in train.y; its sorted distinct integers, if there is one for each output and not
        all number the outputs; or the integers from 0 on. `predict` returns these labels
        afterwards.
    normalizer
        "standard", "minmax", a `Normalizer`, or "none". Unless it is fitted already, it is fitted
        to train.x in float64 on the host. It then belongs to the model; a trained model keeps its
        own. If None, "standard" for a table, else "none".
    target_normalizer
        The same for the values of a regression. The loss is that of the normalized values (with
        "standard" and the mean squared error, the fraction of the variance that is not explained);
        predictions are transformed back. Counts can't be normalized.
    loss
        The loss function, or its name with parameters as at the command line:
        ``"cross_entropy:label_smoothing=0.1"``, ``"mse"`` for ``"mean_squared_error"``. If None, a
        trained model keeps its own; otherwise the targets say which: `CrossEntropy` for class
        labels and for rows that are probabilities or one-hot, `BinaryCrossEntropy` for classes with
        a single output and for other rows of 0 and 1, and `MeanSquaredError` for all others. With
        a single output, more than two different integers are values.
    optimizer
        The optimizer, or its name with parameters: ``"adam:lr=0.01"``. Its state starts afresh with
        each call. If None, `Adam` for a table, else `SGD` with a learning rate of 0.1.
    schedule
        A schedule of the learning rate, such as ``xpnn.schedules.Cosine()`` or ``"cosine"``. If
        None, the optimizer's learning rate stays constant.
    clip_norm
        The largest norm, > 0, of the gradient of all parameters as one vector; a larger gradient is
        scaled down to it. Weight decay is added afterwards.
    sample_weight
        The weight of each training sample: shape (n,), finite and >= 0. Weights are scaled to a
        mean of 1 over the training set, so that the loss keeps its size; a mini-batch's loss is
        ``sum(weight * loss) / n``. The training figures are weighted too, the test figures aren't.
    class_weight
        A mapping from labels to numbers >= 0, with 1 for labels that are missing; or "balanced",
        which gives each class ``n / (classes * count)`` over the training set. The weight of a
        sample is multiplied by that of its class.
    epochs
        The number of epochs, >= 0. If None, 50; for a table 100, and with `validation` the run ends
        with the best parameters once the test loss hasn't improved for 20 epochs, unless there is
        an `EarlyStopping` among the callbacks.
    batch_size
        The number of samples in a mini-batch, >= 1. The last one of an epoch is smaller if
        `batch_size` doesn't divide n. If None, 32 for a table, else 100.
    seed
        The seed, from 0 to 2^32 - 1, of everything random, which is the same on every backend: the
        initial parameters and then the order of each epoch are drawn on the host from one
        `numpy.random.RandomState`, the masks of `Dropout` on the device. If None, a seed is drawn
        and kept in the history's settings.
    shuffle
        Whether each epoch takes the samples in a new random order. For sets in memory, all orders
        are equally likely. A set that is read in chunks is cut into blocks of about 512 kB; each
        epoch shuffles the blocks, of which a chunk holds about a hundred, and then the samples
        of each chunk.
    backend, device, dtype, reproducible
        See `get_backend`.
    metrics
        More figures for the log, by name or as instances: ``["f1", "roc_auc"]`` adds "train_f1",
        "test_f1", "train_roc_auc" and "test_roc_auc". `xpnn.metrics.METRICS` has the names; where
        scikit-learn is installed, the names of its scorers and metrics are known too. Precision,
        recall, F1, balanced accuracy, top-k accuracy, R², MAE and RMSE are computed on the device;
        all others on the host, once an epoch, from the predictions. Like the training loss,
        training figures come from the mini-batches before their steps, and are weighted. Errors
        are in units of the targets, before a target normalizer.
    callbacks
        Callbacks to call for each epoch, in this order.
    resume
        A file that `Checkpoint` wrote, to continue from with the same bits as a run that was never
        stopped. The model's parameters are replaced. All other arguments must be those of the saved
        run, except for `epochs`, which may be larger, and `seed`, which may be left out; in a
        reproducible run, `backend` and `device` may differ too. If the file is damaged, the one
        before it is read, with a `CheckpointWarning`.

        Or what `Run.checkpoint` returned, to continue from in the same process with other data and
        settings: nothing is compared, and the optimizer starts afresh if its state doesn't fit.
    max_bytes
        How many bytes of memory the file of `resume` may take; what is free if None.
    verbose
        Whether to print a line for each epoch, with a progress bar below, as `Terminal` does; and
        before, of a table, what was understood of it, as `xpnn train` says it: two lines, and one
        that begins with CAREFUL for whatever is odd. If None, only where somebody looks on: in a
        terminal or a notebook.

    Returns
    -------
    history
        A row for the untrained network, then one per epoch.

    Raises
    ------
    ArgumentError, DataError
        If an argument or the data can't be used, or if the checkpoint can't be read or belongs to
        another run; the model and all files are then unchanged.
    BackendError
        If the backend isn't installed or has no such device.
    DivergenceError
        If the loss became NaN or infinite. Callbacks have seen the epochs before; the model's
        parameters are useless.

    Examples
    --------
    >>> import numpy as np, xpnn
    >>> x = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    >>> y = np.array([0, 1, 1, 0])
    >>> model = xpnn.Sequential(xpnn.Dense(8), xpnn.Activation("tanh"), xpnn.Dense(2))
    >>> history = xpnn.fit(model, x, y, epochs=300, batch_size=4, seed=1, verbose=False)
    >>> xpnn.predict(model, x)
    array([0, 1, 1, 0])
    """
    if not isinstance(model, Sequential):
        raise ArgumentError(f"model must be an xpnn.Sequential, got {model!r}")
    if y is not None:
        if isinstance(train, tuple):
            raise ArgumentError("y must be left out where train is a pair (x, y)")
        train = train, y
    resolved = get_backend(backend, device=device, dtype=dtype, reproducible=reproducible)
    asked = None if loss is None else made("loss", loss)
    usual = defaults_for(train)
    method = as_method(
        asked or CrossEntropy(), usual.optimizer if optimizer is None else optimizer, schedule,
        clip_norm, validated=validation is not None,
    )  # fmt: skip
    path, saved, note = None, None, None
    if isinstance(resume, SavedRun):
        saved = resume
    elif resume is not None:
        # not for what callbacks read
        with limits.at_most(max_bytes):
            saved, note = checkpoint.read(resume)
        path = Path(resume)
    plan = Plan(
        usual.epochs if epochs is None else epochs,
        usual.batch_size if batch_size is None else batch_size,
        _seed(seed, saved), shuffle,
    )  # fmt: skip
    callbacks = shown(verbose, as_callbacks(callbacks), table=is_table(train))
    callbacks = stopped_early(callbacks, usual.waits(epochs=epochs, validation=validation))
    samples = as_samples(
        model, asked, train, validation, seed=plan.seed, labels=labels, normalizer=normalizer,
        target_normalizer=target_normalizer, sample_weight=sample_weight, class_weight=class_weight,
    )  # fmt: skip
    method = method._replace(loss=samples.task.loss or method.loss)
    method = measuring(method, metrics, model, samples)
    run = Run(
        model, plan, method, samples, History(run_settings(plan, method, samples, resolved)),
        resolved.random_state(plan.seed), callbacks, path,
    )  # fmt: skip
    if saved is not None and path is not None:
        checkpoint.check_same_run(run, saved)
    if note is not None:
        warnings.warn(note, CheckpointWarning, stacklevel=3)
    with resolved.scope(), contextlib.ExitStack() as ends:
        with _unchanged_if_refused(model):
            _begin(run, saved, resolved)
            trainer = Trainer(run, resolved)
            evaluated = Evaluator(model, method.loss, resolved, method.metrics)
            rows = _epochs(run, trainer, evaluated, *_moved_sets(run, resolved, evaluated))
            started: list[Callback] = []
            ends.callback(_end, started)
            for callback in callbacks:
                callback.on_start(run)
                started.append(callback)
        while run.history.stopped is None and (row := next(rows, None)):
            # a Ctrl-C waits: all files have the same rows, and the last of them whole
            with held():
                run.history.append(row)
                _hear(row, callbacks)
        run.finished = True
    return run.history


def _seed(given: int | None, saved: SavedRun | None) -> int:
    """Return the seed of a run: the given one, that of the saved run, or a drawn one."""
    if given is not None:
        return given
    if saved is not None:
        return saved.settings["seed"]  # type: ignore[no-any-return]
    return int(np.random.SeedSequence().generate_state(1)[0])


@contextlib.contextmanager
def _unchanged_if_refused(model: Sequential) -> Iterator[None]:
    """Give a model back its attributes if an error ends the block.

    Nothing is trained in the block, so the arrays themselves are unchanged.
    """
    held = dict(vars(model))
    try:
        yield
    except BaseException:
        vars(model).clear()
        vars(model).update(held)
        raise


def _begin(run: Run, saved: SavedRun | None, backend: Backend) -> None:
    """Move a model's arrays to the backend: drawn ones, its own, or those of a checkpoint."""
    model, inputs = run.model, run.train.x.shape[1]
    if model.parameters is None:
        model.initialize(inputs, backend=backend, rng=run.rng)
    elif saved is None or (model.backend, model.inputs) != (backend, inputs):
        model.place(model.host_parameters(), inputs=inputs, backend=backend)
    model.task, model.history = run.samples.task, run.history
    init = backend.compile(InitialState(run.method.optimizer))
    run.carry = (model.parameters, model.buffers, init(model.parameters))
    if saved is not None:
        checkpoint.go_on(run, saved, compared=run.resumed is not None)


def _hear(row: Epoch, callbacks: Sequence[Callback]) -> None:
    """Give a row to all callbacks in their order, also after one whose file can't be written.

    Raises
    ------
    OSError
        The first such error, with the others as its `others`. Any other error is raised at once.
    """
    failed: list[OSError] = []
    for callback in callbacks:
        try:
            callback.on_epoch(row)
        except OSError as error:
            failed.append(error)
    if failed:
        vars(failed[0])["others"] = failed[1:]
        raise failed[0]


def _end(callbacks: Sequence[Callback]) -> None:
    """Call `on_end` of all callbacks in their order, even if one of them raises."""
    with contextlib.ExitStack() as stack:
        for callback in reversed(callbacks):
            stack.callback(callback.on_end)


def _moved_sets(
    run: Run, backend: Backend, evaluated: Evaluator
) -> tuple[Whole | Stream, Whole | Stream | None]:
    """Return the training and the validation set of a run, moved to the device."""
    samples, size = run.samples, run.plan.batch_size
    train = moved(samples.train, backend, samples.task, weights=samples.weights, batch_size=size)
    if samples.validation is None:
        return train, None
    return train, evaluated.moved(samples.validation, samples.task, size)


def _epochs(
    run: Run,
    trainer: Trainer,
    evaluated: Evaluator,
    data: Whole | Stream,
    test: Whole | Stream | None,
) -> Iterator[Epoch]:
    """Train, and yield each missing row of a run's log once the model has been trained so far."""
    for epoch in range(len(run.history), run.plan.epochs + 1):
        begun = time.perf_counter()
        running = trainer(data) if epoch else evaluated(data, epoch)
        tested = UNKNOWN if test is None else evaluated(test, epoch)
        _note_reason(run.settings, trainer.fold, evaluated.fold)
        row = Epoch(epoch, *running, *tested, time.perf_counter() - begun)
        both = (("train", running), ("test", tested))
        metrics = {f"{part}_{n}": v for part, found in both for n, v in found.metrics.items()}
        yield row.measured(metrics)


class Trainer:
    """Train the model of a run that has begun, from where it is, an epoch at each call.

    Parameters
    ----------
    run, backend
        The run and its backend.

    Attributes
    ----------
    fold
        The folded training step, see `Backend.fold`.
    """

    def __init__(self, run: Run, backend: Backend) -> None:
        plan, method = run.plan, run.method
        self.run, self.backend = run, backend
        self._step = TrainingStep(
            run.model.network, method.loss, method.optimizer, backend.dtype,
            scheduled=method.schedule is not None, clip_norm=method.clip_norm,
            metrics=method.metrics,
        )  # fmt: skip
        self.fold = backend.fold(self._step)
        self._seeds = [random_bits.stream_key(plan.seed, i) for i in self._step.drawing]
        self._rates = Rates(method.schedule, method.optimizer, backend, plan.epochs, run.batches)

    def __call__(self, data: Whole | Stream) -> Evaluation:
        """Train for the next epoch of the log; return its running figures."""
        run, model, method = self.run, self.run.model, self.run.method
        epoch = len(run.history)
        # no checkpoint within the epoch: steps may change the arrays in place
        carry, run.carry = run.carry, None
        carry, running = _sweep(
            self.fold, carry, data, run.plan.batch_size,
            Figures(method.loss, epoch, training=True, metrics=method.metrics), self.backend,
            model.task, rng=run.rng if run.plan.shuffle else None,
            headed=self._step.headed(epoch, self._seeds),
            rates=self._rates.of(epoch, run.history), callbacks=run.callbacks,
        )  # fmt: skip
        run.carry, (model.parameters, model.buffers, _) = carry, carry
        return running


def _sweep(
    fold: Step,
    carry: Any,
    data: Whole | Stream,
    batch_size: int,
    figures: Figures,
    backend: Backend,
    task: Task,
    *,
    headed: Callable[[np.ndarray], np.ndarray] = lambda rows: rows,
    rates: Array | tuple[()] = (),
    rng: np.random.RandomState | None = None,
    callbacks: tuple[Callback, ...] = (),
) -> tuple[Any, Evaluation]:
    """Fold over all mini-batches of a data set; return the carry and the figures.

    Callbacks hear of progress at least `_PIECES` times, or after each mini-batch if there are
    fewer. The order of a chunk is moved to the device before its first step, and the sums come back
    after its last one: nothing synchronises in between.
    """
    pieces = _PIECES if callbacks else 1

    def told(count: int) -> None:
        for callback in callbacks:
            callback.on_batches(count)

    with contextlib.closing(data.chunks(batch_size, rng)) as chunks:
        for x, y, order, weights in chunks:
            context = Context(x, y, () if weights is None else weights, rates)
            count = -(-pieces * len(order) // len(data))
            batches = map(headed, mini_batches(order, batch_size, count))
            rows = list(map(backend.asarray, batches))
            carry, sums = backend.sweep(fold, carry, rows, context, told)
            columns = zip(*sums, strict=True)
            figures.add(
                *(map(backend.to_numpy, column) for column in columns),
                weighted=weights is not None,
            )
    return carry, figures.evaluation(len(data), task, padded=data.padded)


class Evaluator:
    """Evaluate a model, with the arrays that it has at each call, on data sets on the device.

    Parameters
    ----------
    model, loss, backend, metrics
        Those of the run.

    Attributes
    ----------
    fold
        The folded evaluation step, see `Backend.fold`.
    """

    def __init__(
        self,
        model: Sequential,
        loss: Loss,
        backend: Backend,
        metrics: tuple[Metric, ...] = (),
    ) -> None:
        self._model, self._loss, self._backend, self._metrics = model, loss, backend, metrics
        step = EvaluationStep(model.network, loss, backend.dtype, metrics)
        self.fold = backend.fold(step)
        # other parts than ours may mix rows
        self._by_rows = step.key is not None

    def moved(self, data: Dataset, task: Task, batch_size: int = 1) -> Whole | Stream:
        """Return a data set without weights on the device."""
        count = len(data.x)
        padded = self._backend.padded(count) if self._by_rows and count <= EVALUATION_ROWS else 0
        return moved(data, self._backend, task, batch_size=batch_size, rows=padded)

    def __call__(self, data: Whole | Stream, epoch: int) -> Evaluation:
        """Return the figures on a data set; `epoch` is only for messages."""
        rows = min(EVALUATION_ROWS, data.capacity)
        figures = Figures(self._loss, epoch, training=False, metrics=self._metrics)
        model = self._model
        return _sweep(self.fold, model.arrays, data, rows, figures, self._backend, model.task)[1]


def _note_reason(settings: dict[str, Any], *folds: Step) -> None:
    """Note in a history's settings why NumPy couldn't record one of the steps."""
    reasons = [reason for fold in folds if (reason := getattr(fold, "reason", None))]
    if reasons:
        settings["not_recorded"] = reasons[0]

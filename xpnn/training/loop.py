"""`fit`, the only training loop."""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xpnn._core import random_bits
from xpnn._core.files import PathLike
from xpnn.backends import Backend, Step, get_backend
from xpnn.datasets import Dataset
from xpnn.errors import ArgumentError, CheckpointWarning
from xpnn.losses import Loss
from xpnn.model import Sequential
from xpnn.normalizers import Normalizer
from xpnn.optimizers import Optimizer
from xpnn.schedules import Schedule
from xpnn.training import checkpoint
from xpnn.training.callback import Callback, as_callbacks
from xpnn.training.checkpoint import SavedRun
from xpnn.training.history import UNKNOWN, Epoch, Evaluation, Figures, History
from xpnn.training.plan import Plan, as_method, described
from xpnn.training.run import Run
from xpnn.training.samples import as_samples
from xpnn.training.steps import (
    Context,
    EvaluationStep,
    InitialState,
    Rates,
    TrainingStep,
    mini_batches,
)
from xpnn.training.streams import Stream, Whole, moved

Array = Any

# rows that are evaluated at a time: enough for the BLAS, little memory
EVALUATION_ROWS = 1000

# parts of an epoch between two signs of progress
_PIECES = 10


def fit(
    model: Sequential,
    train: Dataset | tuple[Array, Array],
    *,
    validation: Dataset | tuple[Array, Array] | None = None,
    labels: Sequence[Any] | np.ndarray | None = None,
    normalizer: str | Normalizer | None = None,
    target_normalizer: str | Normalizer | None = None,
    loss: Loss | None = None,
    optimizer: Optimizer | None = None,
    schedule: Schedule | None = None,
    clip_norm: float | None = None,
    sample_weight: Array | None = None,
    class_weight: Mapping[Any, float] | str | None = None,
    epochs: int = 50,
    batch_size: int = 100,
    seed: int | None = None,
    shuffle: bool = True,
    backend: str | Backend = "numpy",
    device: str | None = None,
    dtype: str | None = None,
    reproducible: bool = False,
    callbacks: Iterable[Callback] = (),
    resume: PathLike | SavedRun | None = None,
) -> History:
    """Train `model` by mini-batch gradient descent.

    Parameters
    ----------
    model
        Trained in place: its parameters are drawn first if it has none, and else trained on.
    train, validation
        Pairs (x, y): x of shape (n, features); y class labels of shape (n,) or values of shape
        (n, outputs). Moved to the device once, never mutated. An x of unsigned bytes is pixels,
        and enters the network as ``float32(x / 255)``; other integers enter as they are.

        Arrays that are mapped from a file, as by ``numpy.load("x.npy", mmap_mode="r")``, may be
        larger than the memory. Those that take more than 64 MB are read again in each epoch, a
        chunk of that size at a time; smaller ones are as if they were in memory.
    labels
        What y calls each class, in the order of the model's outputs: different integers or strings.
        If None, those of a trained model; else, of strings, the sorted different ones in train.y;
        and integers are from 0 on. The model answers with labels from then on.
    normalizer
        "standard", "minmax" or a `Normalizer`, fitted to train.x alone in float64 on the host
        unless it is fitted; part of the model from then on. A trained model keeps its own.
    target_normalizer
        Likewise for the values of a regression. The loss is then that of the normalized values (for
        "standard" and the mean squared error, the fraction of the variance that is not explained),
        and predictions are turned back.
    loss
        `CrossEntropy` if None.
    optimizer
        `SGD` with a learning rate of 0.1 if None. Starts afresh with each call.
    schedule
        Of the learning rate, such as ``xpnn.schedules.Cosine()``; the optimizer's own all along if
        None.
    clip_norm
        The largest norm, > 0, that the gradient of all parameters may have as one vector; a larger
        one is scaled down to it. Weight decay is added afterwards.
    sample_weight
        Shape (n,), finite and >= 0: how much each training sample counts. Scaled to a mean of 1
        over the training set, so that the loss is as large as without, and the mini-batch's loss
        is ``sum(weight * loss) / n``. The training figures are weighted likewise; the test figures
        aren't.
    class_weight
        A mapping from labels to numbers >= 0, 1 for those that aren't in it, or "balanced":
        ``n / (classes * count)`` of each class in the training set. A sample's weight is multiplied
        by its class's.
    epochs, batch_size
        The last mini-batch of an epoch is smaller if `batch_size` doesn't divide n.
    seed
        Of the one stream, `numpy.random.RandomState`, from which the initial weights and then each
        epoch's order are drawn, on the host, alike for every backend; and of the masks of
        `Dropout`, which are drawn on the device, alike too. Drawn if None, and kept in the
        history's settings.
    shuffle
        Whether each epoch takes the samples in a new order: any order is as likely as any other
        for sets in memory. A set that is read in chunks is cut into blocks of about 512 kB; each
        epoch draws an order of the blocks, some hundred of which make a chunk, and then one of
        the samples in each chunk.
    backend, device, dtype, reproducible
        See `get_backend`.
    callbacks
        Told of each epoch, in order.
    resume
        A file of `Checkpoint` to go on from, with the bits that a run without a break would have.
        Whatever parameters the model has are replaced. All other arguments must be those that the
        run was begun with, except for `epochs`, which may be more; in a reproducible run `backend`
        and `device` may be others too. The seed may be left out. Where the file is damaged, the one
        before is taken, with a `CheckpointWarning`.

        Or what `Run.checkpoint` returned, to go on from in the same process with whatever data and
        settings there are now: nothing is compared, and the optimizer begins afresh if its state
        doesn't fit.

    Returns
    -------
    history
        A row for the untrained network, then one per epoch.

    Raises
    ------
    ArgumentError, DataError
        If an argument can't be used, the checkpoint can't be read or is another run's; nothing was
        changed then.
    BackendError
        If the backend isn't installed or has no such device.
    DivergenceError
        If the loss became NaN or infinite. The callbacks have seen the epochs before; the model's
        parameters are of no use.

    Examples
    --------
    >>> import numpy as np, xpnn
    >>> x = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    >>> y = np.array([0, 1, 1, 0])
    >>> model = xpnn.Sequential(xpnn.Dense(8), xpnn.Activation("tanh"), xpnn.Dense(2))
    >>> history = xpnn.fit(model, (x, y), epochs=300, batch_size=4, seed=1)
    >>> xpnn.predict(model, x)
    array([0, 1, 1, 0])
    """
    if not isinstance(model, Sequential):
        raise ArgumentError(f"model must be an xpnn.Sequential, got {model!r}")
    place = get_backend(backend, device=device, dtype=dtype, reproducible=reproducible)
    method = as_method(loss, optimizer, schedule, clip_norm, validated=validation is not None)
    path, saved, note = None, None, None
    if isinstance(resume, SavedRun):
        saved = resume
    elif resume is not None:
        saved, note = checkpoint.read(resume)
        path = Path(resume)
    plan = Plan(epochs, batch_size, _seed(seed, saved), shuffle)
    callbacks = as_callbacks(callbacks)
    samples = as_samples(
        model, method.loss, train, validation, labels=labels, normalizer=normalizer,
        target_normalizer=target_normalizer, sample_weight=sample_weight, class_weight=class_weight,
    )  # fmt: skip
    run = Run(
        model, plan, method, samples, History(described(plan, method, samples, place)),
        place.random_state(plan.seed), callbacks, path,
    )  # fmt: skip
    if saved is not None and path is not None:
        checkpoint.check(run, saved)
    if note is not None:
        warnings.warn(note, CheckpointWarning, stacklevel=2)
    with place.scope(), contextlib.ExitStack() as ends:
        with _unchanged_if_refused(model):
            _begin(run, saved, place)
            rows = _epochs(run, place, *_moved_sets(run, place))
            started: list[Callback] = []
            ends.callback(_end, started)
            for callback in callbacks:
                callback.on_start(run)
                started.append(callback)
        while run.history.stopped is None and (row := next(rows, None)):
            run.history.append(row)
            for callback in callbacks:
                callback.on_epoch(row)
        run.finished = True
    return run.history


def _seed(given: int | None, saved: SavedRun | None) -> int:
    """Return the seed of a run: given, that of the run it goes on from, or drawn."""
    if given is None and saved is not None:
        given = saved.settings["seed"]
    if given is None:
        given = int(np.random.SeedSequence().generate_state(1)[0])
    return given


@contextlib.contextmanager
def _unchanged_if_refused(model: Sequential) -> Iterator[None]:
    """Give a model back what it held if an error ends the block.

    Nothing has been trained by then, so that its arrays are as they were.
    """
    held = dict(vars(model))
    try:
        yield
    except BaseException:
        vars(model).clear()
        vars(model).update(held)
        raise


def _begin(run: Run, saved: SavedRun | None, backend: Backend) -> None:
    """Put a model's arrays in place for a run, drawn, its own, or those of a checkpoint."""
    model, inputs = run.model, run.train.x.shape[1]
    if model.parameters is None:
        model.initialize(inputs, backend=backend, rng=run.rng)
    else:
        model.place(model.host_parameters(), inputs=inputs, backend=backend)
    model.task, model.history = run.samples.task, run.history
    init = backend.compile(InitialState(run.method.optimizer))
    run.carry = (model.parameters, model.buffers, init(model.parameters))
    if saved is not None:
        checkpoint.go_on(run, saved, compared=run.resumed is not None)


def _end(callbacks: Sequence[Callback]) -> None:
    """Call `on_end` of callbacks in their order, of each even if another one raises."""
    with contextlib.ExitStack() as stack:
        for callback in reversed(callbacks):
            stack.callback(callback.on_end)


def _moved_sets(run: Run, backend: Backend) -> tuple[Whole | Stream, Whole | Stream | None]:
    """Return the training and the validation set of a run, moved to the device."""
    samples, size = run.samples, run.plan.batch_size
    normalizers = (samples.task.normalizer, samples.task.target_normalizer)
    train = moved(samples.train, backend, *normalizers, weights=samples.weights, batch_size=size)
    if samples.validation is None:
        return train, None
    return train, moved(samples.validation, backend, *normalizers, batch_size=size)


def _epochs(
    run: Run, backend: Backend, data: Whole | Stream, test: Whole | Stream | None
) -> Iterator[Epoch]:
    """Yield the rows of a run's log that are missing, leaving its model trained so far."""
    model, plan, method = run.model, run.plan, run.method
    loss, size = method.loss, plan.batch_size
    rng = run.rng if plan.shuffle else None
    step = TrainingStep(
        model.network, loss, method.optimizer, backend.dtype,
        scheduled=method.schedule is not None, clip_norm=method.clip_norm,
    )  # fmt: skip
    train, evaluated = backend.fold(step), Evaluator(model, loss, backend)
    seeds = [random_bits.key_of(plan.seed, i) for i in step.drawing]
    rates = Rates(method.schedule, method.optimizer, backend, plan.epochs, run.batches)

    for epoch in range(len(run.history), plan.epochs + 1):
        begun = time.perf_counter()
        if epoch == 0:
            running = evaluated(data, epoch)
        else:
            # steps may change the arrays in place
            carry, run.carry = run.carry, None
            carry, running = _sweep(
                train, carry, data, size, Figures(loss, epoch, training=True), backend, rng=rng,
                headed=step.headed(epoch, seeds), rates=rates.of(epoch, run.history),
                callbacks=run.callbacks,
            )  # fmt: skip
            run.carry, (model.parameters, model.buffers, _) = carry, carry
        tested = UNKNOWN if test is None else evaluated(test, epoch)
        _note_reason(run.settings, train, evaluated.fold)
        yield Epoch(epoch, *running, *tested, time.perf_counter() - begun)


def _sweep(
    fold: Step,
    carry: Any,
    data: Whole | Stream,
    batch_size: int,
    figures: Figures,
    place: Backend,
    *,
    headed: Callable[[np.ndarray], np.ndarray] = lambda rows: rows,
    rates: Array | tuple[()] = (),
    rng: np.random.RandomState | None = None,
    callbacks: tuple[Callback, ...] = (),
) -> tuple[Any, Evaluation]:
    """Fold over all mini-batches of a data set; return the carry, and the figures over them.

    Callbacks are told at least `_PIECES` times, where there are as many mini-batches. What the host
    knows of a chunk is moved before its first step, and what it wants to know after its last:
    nothing synchronises in between.
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
            rows = list(map(place.asarray, batches))
            carry, sums = place.sweep(fold, carry, rows, context, told)
            columns = zip(*sums, strict=True)
            figures.add(*(map(place.to_numpy, column) for column in columns))
    return carry, figures.evaluation(len(data))


class Evaluator:
    """Evaluates a model, as it is at each call, on data sets that were moved.

    Parameters
    ----------
    model, loss, backend
        Those of the run.

    Attributes
    ----------
    fold
        Its steps, by the backend.
    """

    def __init__(self, model: Sequential, loss: Loss, backend: Backend) -> None:
        self._model, self._loss, self._backend = model, loss, backend
        self.fold = backend.fold(EvaluationStep(model.network, loss, backend.dtype))

    def __call__(self, data: Whole | Stream, epoch: int) -> Evaluation:
        """Return the figures of an epoch, which messages name."""
        rows = min(EVALUATION_ROWS, data.capacity)
        figures = Figures(self._loss, epoch, training=False)
        return _sweep(self.fold, self._model.arrays, data, rows, figures, self._backend)[1]


def _note_reason(settings: dict[str, Any], *folds: Step) -> None:
    """Note in a history's settings why NumPy couldn't record one of the steps."""
    reasons = [reason for fold in folds if (reason := getattr(fold, "reason", None))]
    if reasons:
        settings["not_recorded"] = reasons[0]

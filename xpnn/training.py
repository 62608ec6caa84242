"""`fit`, the only training loop; `evaluate` and `predict`; what a run leaves behind."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from xpnn import metrics
from xpnn.backends import Backend, Step, get_backend, namespace, to_numpy
from xpnn.datasets import (
    Dataset,
    NamedDataset,
    as_dataset,
    as_inputs,
    as_labels,
    check_labels,
    distinct,
)
from xpnn.errors import ArgumentError, DataError, DivergenceError, integer
from xpnn.losses import CrossEntropy, Loss, labels
from xpnn.mapped import Source, is_mapped, scaled
from xpnn.model import Sequential
from xpnn.normalizers import Normalizer, as_normalizer
from xpnn.optimizers import SGD, Optimizer
from xpnn.streams import Stream, Whole, fits
from xpnn.tree import Tree

Array = Any

# rows that are evaluated at a time: enough for the BLAS, little memory
EVALUATION_ROWS = 1000

_NORMALIZERS = ("normalizer", "target_normalizer")

# parts of an epoch between two signs of progress
_PIECES = 10


class Epoch(NamedTuple):
    """A row of a run's log. Row 0 is the untrained network, evaluated on both sets.

    The training figures of the other rows are running ones: each mini-batch counts as it was
    predicted before its step. Without a validation set, the test figures are NaN; so are
    accuracies where the targets aren't classes.
    """

    epoch: int
    train_accuracy: float
    train_loss: float
    test_accuracy: float
    test_loss: float
    seconds: float


class History(Sequence[Epoch]):
    """The log of a run: a sequence of `Epoch`, row 0 first.

    Parameters
    ----------
    settings
        What the run was asked for, the seed that was drawn included.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self._epochs: list[Epoch] = []

    def __getitem__(self, index: Any) -> Any:
        return self._epochs[index]

    def __len__(self) -> int:
        return len(self._epochs)

    def __repr__(self) -> str:
        return f"History({len(self)} epochs, last: {self[-1] if self else None})"

    def append(self, epoch: Epoch) -> None:
        """Add a row."""
        self._epochs.append(epoch)

    def column(self, name: str) -> list[float]:
        """Return the values of one column, such as "test_loss"."""
        return [getattr(epoch, name) for epoch in self._epochs]

    @property
    def seconds(self) -> float:
        """The time that all epochs took."""
        return math.fsum(self.column("seconds"))

    def best(self, name: str = "test_accuracy") -> tuple[int, float] | None:
        """Return the epoch where a column is largest, and its value there; None if all are NaN."""
        return metrics.best(self.column(name))

    def first_reached(self, level: float, name: str = "test_accuracy") -> int | None:
        """Return the first epoch where a column is `level` or more, None if there is none."""
        return metrics.first_reached(self.column(name), level)


class Callback:
    """Base of callbacks, with hooks that do nothing.

    A hook may raise: the run ends there, and what it raised goes to the caller of `fit`.
    """

    def on_start(self, model: Sequential, epochs: int, batches: int) -> None:
        """Begin a run of so many epochs of so many mini-batches; parameters are in place."""

    def on_batches(self, count: int) -> None:
        """Note that so many more mini-batches have been handed to the backend."""

    def on_epoch(self, epoch: Epoch) -> None:
        """Note a finished row of the log."""

    def on_end(self) -> None:
        """Close up; called in any case, also after an error."""


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
    epochs: int = 50,
    batch_size: int = 100,
    seed: int | None = None,
    shuffle: bool = True,
    backend: str | Backend = "numpy",
    device: str | None = None,
    dtype: str = "float32",
    reproducible: bool = False,
    callbacks: Iterable[Callback] = (),
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
    epochs, batch_size
        The last mini-batch of an epoch is smaller if `batch_size` doesn't divide n.
    seed
        Of the one stream, `numpy.random.RandomState`, from which the initial weights and then each
        epoch's order are drawn, on the host, alike for every backend. Drawn if None, and kept in
        the history's settings.
    shuffle
        Whether each epoch takes the samples in a new order: any order is as likely as any other
        for sets in memory. A set that is read in chunks is cut into blocks of about 512 kB; each
        epoch draws an order of the blocks, some hundred of which make a chunk, and then one of
        the samples in each chunk.
    backend, device, dtype, reproducible
        See `get_backend`.
    callbacks
        Told of each epoch, in order.

    Returns
    -------
    history
        A row for the untrained network, then one per epoch.

    Raises
    ------
    ArgumentError, DataError
        If an argument can't be used; nothing was changed then.
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
    loss = CrossEntropy() if loss is None else _instance("loss", loss, Loss)
    optimizer = SGD() if optimizer is None else _instance("optimizer", optimizer, Optimizer)
    epochs = integer("epochs", epochs, minimum=0)
    batch_size = integer("batch_size", batch_size, minimum=1)
    if seed is None:
        seed = int(np.random.SeedSequence().generate_state(1)[0])
    seed = integer("seed", seed, minimum=0, maximum=2**32 - 1)
    names = (train.feature_names, train.target_name) if isinstance(train, NamedDataset) else None
    classified = _find_labels(model, train, labels)
    train = as_dataset("train", train, classified)
    if validation is not None:
        validation = as_dataset("validation", validation, classified)
    callbacks = _check_callbacks(callbacks)
    samples, features = train.x.shape
    if classified is not None:
        _check_outputs(model, loss, features, classified)
    train = _as_targets(train, loss, model)
    validation = None if validation is None else _as_targets(validation, loss, model)
    classes = _check_fit(model, loss, {"train": train, "validation": validation})
    normalizers = (
        _fitted("normalizer", normalizer, model, train.x),
        _fitted("target_normalizer", target_normalizer, model, train.y),
    )

    rng = place.random_state(seed)
    history = History(
        {
            "loss": repr(loss),
            "optimizer": repr(optimizer),
            "epochs": epochs,
            "batch_size": batch_size,
            "seed": seed,
            "shuffle": shuffle,
            "backend": place.name,
            "device": str(place.device),
            "dtype": place.dtype_name,
            **{
                name: repr(own)
                for name, own in zip(_NORMALIZERS, normalizers, strict=True)
                if own is not None
            },
        }
    )
    with place.scope():
        if model.parameters is None:
            model.initialize(features, backend=place, rng=rng)
        else:
            model.place(model.host_parameters(), inputs=features, backend=place)
        model.loss, model.classes, model.history = loss, classes, history
        model.labels, (model.normalizer, model.target_normalizer) = classified, normalizers
        if names is not None:
            model.feature_names, model.target_name = names
        steps = _Steps(model, loss, optimizer, place)
        with contextlib.ExitStack() as stack:
            for callback in reversed(callbacks):
                stack.callback(callback.on_end)
            for callback in callbacks:
                callback.on_start(model, epochs, -(-samples // batch_size))
            for row in _epochs(
                steps, train, validation, epochs, batch_size, rng if shuffle else None, callbacks
            ):
                history.append(row)
                for callback in callbacks:
                    callback.on_epoch(row)
    return history


def _find_labels(model: Sequential, train: Any, labels: Any) -> np.ndarray | None:
    """Return what the classes are called; None where they are integers from 0 on, or no classes."""
    if labels is not None:
        return check_labels(labels)
    if model.parameters is not None and model.labels is not None:
        return model.labels
    if not isinstance(train, Sequence) or len(train) != 2:
        return None
    found = as_labels(train[1])
    return distinct(found, "train.y") if found is not None and found.dtype.kind == "U" else None


def _check_outputs(model: Sequential, loss: Loss, features: int, labels: np.ndarray) -> None:
    outputs = model.outputs(features)
    if not loss.classifies(outputs):
        raise ArgumentError(f"loss must be one for classes where there are labels, got {loss!r}")
    if len(labels) != max(outputs, 2):
        raise ArgumentError(
            f"model must have an output for each of the {len(labels)} classes, got {outputs} "
            "outputs"
        )


def _fitted(name: str, given: Any, model: Sequential, values: np.ndarray) -> Normalizer | None:
    """Return the normalizer that a run is to have, fitted to `values` if need be."""
    own: Normalizer | None = getattr(model, name)
    normalizer = as_normalizer(name, given)
    if model.parameters is not None and (normalizer is None or type(own) is type(normalizer)):
        return own
    if normalizer is None:
        return None
    if model.parameters is not None:
        raise ArgumentError(
            f"{name} of a model that is trained already must be its own, {own!r}, got {given!r}"
        )
    of_targets = name == "target_normalizer"
    if of_targets and is_label_array(values):
        raise ArgumentError(f"{name} is for values, and train.y holds class labels; got {given!r}")
    columns = values.reshape(len(values), -1) if of_targets else values
    if not normalizer.fitted:
        return normalizer.fit(columns, name="train.y" if of_targets else "train.x")
    assert normalizer.offset is not None
    if len(normalizer.offset) != columns.shape[1]:
        raise ArgumentError(
            f"{name} must have {columns.shape[1]} columns, got {len(normalizer.offset)}"
        )
    return normalizer


def _transform(normalizer: Normalizer | None) -> Callable[[np.ndarray], np.ndarray] | None:
    return None if normalizer is None else normalizer.apply


def _instance(name: str, value: Any, base: type[Any]) -> Any:
    if not isinstance(value, base):
        example = {"loss": "CrossEntropy()", "optimizer": "SGD(lr=0.1)"}[name]
        raise ArgumentError(f"{name} must be an instance such as {example}, got {value!r}")
    return value


def _check_callbacks(callbacks: Any) -> tuple[Callback, ...]:
    given = tuple(callbacks) if isinstance(callbacks, Iterable) else None
    if given is None or not all(isinstance(callback, Callback) for callback in given):
        raise ArgumentError(
            f"callbacks must be a list of instances such as CSVLogger('run.csv'), got {callbacks!r}"
        )
    return given


def _as_targets(data: Dataset, loss: Loss, model: Sequential) -> Dataset:
    """Return the data with integer targets as values, where the loss doesn't classify."""
    if is_label_array(data.y) and not loss.classifies(model.outputs(data.x.shape[1])):
        return data._replace(y=data.y.astype(np.float64))
    return data


def _check_fit(model: Sequential, loss: Loss, sets: dict[str, Dataset | None]) -> int | None:
    """Check that data, network and loss fit together; return the number of classes, if any."""
    given = {name: data for name, data in sets.items() if data is not None}
    first, train = next(iter(given.items()))
    for name, data in given.items():
        if data.x.size == 0:
            raise DataError(f"{name}.x must hold at least one value, got shape {data.x.shape}")
    features = train.x.shape[1]
    if model.inputs not in (None, features):
        raise DataError(f"{first}.x must have the model's {model.inputs} features, got {features}")
    outputs = model.outputs(features)
    if not any(layer.shapes(width) for layer, width in model.widths(features)):
        raise ArgumentError("model must have a layer with parameters, got none")
    loss.check(outputs)
    classes = max(outputs, 2) if is_label_array(train.y) else None
    for name, data in given.items():
        if data.x.shape[1] != features:
            raise DataError(
                f"{name}.x must have {features} features as train.x has, got {data.x.shape[1]}"
            )
        if is_label_array(data.y) != (classes is not None):
            raise DataError("train.y and validation.y must both be class labels, or neither")
        if classes is not None:
            _check_labels(name, data.y, classes)
        elif (data.y.shape[1] if data.y.ndim == 2 else 1) != outputs:
            raise DataError(
                f"{name}.y must have shape (n, {outputs}) for {outputs} outputs of the model, or "
                f"hold integer class labels of shape (n,), got {data.y.dtype} of shape "
                f"{data.y.shape}"
            )
    return classes


def is_label_array(y: np.ndarray) -> bool:
    """Return whether host targets are integer class labels."""
    return y.ndim == 1 and y.dtype.kind in "iu"


def _check_labels(name: str, y: np.ndarray, classes: int) -> None:
    outside = (y < 0) | (y >= classes)
    if outside.any():
        row = int(np.argmax(outside))
        raise DataError(
            f"{name}.y must hold labels from 0 to {classes - 1} for the model's outputs, "
            f"got {y[row]} in row {row}"
        )


def _epochs(
    steps: _Steps,
    train: Dataset,
    validation: Dataset | None,
    epochs: int,
    batch_size: int,
    rng: np.random.RandomState | None,
    callbacks: tuple[Callback, ...],
) -> Iterator[Epoch]:
    """Yield the log of a run, row by row, leaving `steps.model` trained so far."""
    model = steps.model
    data = steps.move(train, batch_size)
    test = None if validation is None else steps.move(validation, batch_size)
    pieces = _PIECES if callbacks else 1

    def progress(count: int) -> None:
        for callback in callbacks:
            callback.on_batches(count)

    begun = time.perf_counter()
    running = steps.evaluate(model.parameters, data, 0)
    state = steps.init(model.parameters)
    for epoch in range(epochs + 1):
        if epoch > 0:
            begun = time.perf_counter()
            carry, running = steps.sweep(
                steps.train,
                (model.parameters, state),
                data,
                batch_size,
                epoch,
                rng,
                pieces,
                progress,
            )
            model.parameters, state = carry
        tested = _UNKNOWN if test is None else steps.evaluate(model.parameters, test, epoch)
        yield Epoch(epoch, *running, *tested, time.perf_counter() - begun)


def _pieces(order: np.ndarray, batch_size: int, count: int) -> list[np.ndarray]:
    """Cut an order into matrices with a mini-batch a row, and a smaller last one alone."""
    whole = len(order) // batch_size
    matrix = order[: whole * batch_size].reshape(whole, batch_size)
    pieces = np.array_split(matrix, min(count, whole)) if whole else []
    rest = order[whole * batch_size :]
    return [*pieces, rest.reshape(1, -1)] if len(rest) else pieces


class Evaluation(NamedTuple):
    """Accuracy, from 0 to 1, and loss on a data set. NaN where there is nothing to count."""

    accuracy: float
    loss: float


_UNKNOWN = Evaluation(math.nan, math.nan)


class _Steps:
    """What a run computes on the device: the training step and the evaluation step, folded."""

    def __init__(
        self, model: Sequential, loss: Loss, optimizer: Optimizer, backend: Backend
    ) -> None:
        self.model, self.loss, self.backend = model, loss, backend
        xp, dtype = backend.xp, backend.dtype

        def predict(
            xp: Any, parameters: Tree, rows: Array, x: Array, y: Array
        ) -> tuple[Callable[[Array], Tree], Array, tuple[Array, ...]]:
            inputs, targets = xp.take(x, rows, axis=0), xp.take(y, rows, axis=0)
            if inputs.dtype != dtype:
                inputs = xp.astype(inputs, dtype)
            outputs, pullback = model.forward(parameters, inputs, xp=xp)
            samples, gradient = loss.samples(outputs, targets, xp=xp)
            total = xp.sum(loss.reported(samples, xp=xp))
            hits = loss.hits(outputs, targets, xp=xp)
            return pullback, gradient, (total,) if hits is None else (total, xp.sum(hits))

        def training_step(carry: Any, *batch: Array) -> Any:
            parameters, state = carry
            xp = namespace(batch[0])
            pullback, gradient, figures = predict(xp, parameters, *batch)
            return optimizer.update(parameters, pullback(gradient), state, xp=xp), figures

        def evaluation_step(parameters: Tree, *batch: Array) -> Any:
            _, _, figures = predict(namespace(batch[0]), parameters, *batch)
            return parameters, figures

        self.init = backend.compile(lambda parameters: optimizer.init(parameters, xp=xp))
        self.train = backend.fold(training_step)
        self.evaluation = backend.fold(evaluation_step)

    def move(self, data: Dataset, batch_size: int = 1) -> Whole | Stream:
        """Return the data on the device; if they are mapped from a file, chunk by chunk."""
        name = self.backend.dtype_name
        x = Source(data.x, name, pixels=True, transform=_transform(self.model.normalizer))
        y = Source(data.y, name, transform=_transform(self.model.target_normalizer))
        if (is_mapped(data.x) or is_mapped(data.y)) and not fits(x, y):
            return Stream(x, y, self.backend, batch_size)
        return Whole(*(self.backend.dataset(source.rows(0, len(source))) for source in (x, y)))

    def evaluate(self, parameters: Any, data: Whole | Stream, epoch: int) -> Evaluation:
        """Return the figures of the network on a data set that was moved."""
        _, figures = self.sweep(
            self.evaluation, parameters, data, min(EVALUATION_ROWS, data.capacity), epoch
        )
        return figures

    def sweep(
        self,
        fold: Step,
        carry: Any,
        data: Whole | Stream,
        batch_size: int,
        epoch: int,
        rng: np.random.RandomState | None = None,
        pieces: int = 1,
        progress: Callable[[int], None] = lambda _: None,
    ) -> tuple[Any, Evaluation]:
        """Fold over all mini-batches of a data set; return the carry, and the figures over them.

        `progress` is told at least `pieces` times, where there are as many mini-batches. What the
        host knows of a chunk is moved before its first step, and what it wants to know after its
        last: nothing synchronises in between.
        """
        columns: list[list[float]] = []
        with contextlib.closing(data.chunks(batch_size, rng)) as chunks:
            for x, y, order in chunks:
                count = -(-pieces * len(order) // len(data))
                moved = [self.backend.asarray(p) for p in _pieces(order, batch_size, count)]
                figures = []
                for piece in moved:
                    carry, outputs = fold(carry, piece, x, y)
                    figures.append(outputs)
                    progress(piece.shape[0])
                columns = columns or [[] for _ in figures[0]]
                done = len(columns[0])
                for column, parts in zip(columns, zip(*figures, strict=True), strict=True):
                    for part in parts:
                        column += map(float, self.backend.to_numpy(part))
                for i, value in enumerate(columns[0][done:], done + 1):
                    if not math.isfinite(value):
                        where = f"batch {i}" if fold is self.train else "the evaluation"
                        hint = "; a smaller learning rate may help" if epoch else ""
                        raise DivergenceError(
                            f"the loss became {value} at epoch {epoch}, in {where}{hint}"
                        )
        loss = self.loss.value(math.fsum(columns[0]) / len(data))
        accuracy = math.fsum(columns[1]) / len(data) if len(columns) > 1 else math.nan
        return carry, Evaluation(accuracy, loss)


def evaluate(
    model: Sequential, data: Dataset | tuple[Array, Array], *, loss: Loss | None = None
) -> Evaluation:
    """Return accuracy and loss of a trained model on a data set.

    Parameters
    ----------
    model
        Its parameters stay where they are, and are computed with there.
    data
        A pair (x, y) as for `fit`, mapped from files or not.
    loss
        The loss that the model was trained for if None.

    Raises
    ------
    ArgumentError, DataError
        If the model has no parameters yet, or the data don't fit it.
    """
    place, parameters = model.placed()
    loss = model.loss or CrossEntropy() if loss is None else _instance("loss", loss, Loss)
    data = _as_targets(as_dataset("data", data, model.labels), loss, model)
    _check_fit(model, loss, {"data": data})
    with place.scope():
        steps = _Steps(model, loss, SGD(), place)
        return steps.evaluate(parameters, steps.move(data), 0)


def predict(model: Sequential, x: Array) -> Array:
    """Return what the model says of `x`: class labels, or what its loss takes the outputs for.

    Parameters
    ----------
    model
        A trained model.
    x
        Shape (n, features); unsigned bytes are pixels, as for `fit`. An array of the model's own
        library is answered with one; any other array, which may be mapped from a file, with a
        NumPy array.

    Returns
    -------
    labels
        Shape (n,) if the targets were class labels: such as these were, strings in a NumPy array
        in any case. Else `predict_proba`.
    """
    if model.classes is None:
        return predict_proba(model, x)
    outputs = _outputs(model, x)
    place = model.placed()[0]
    with place.scope():
        indices = labels(outputs)
        if model.labels is None:
            return indices
        if isinstance(indices, np.ndarray) or model.labels.dtype.kind == "U":
            return model.labels[to_numpy(indices)]
        return place.xp.take(place.asarray(model.labels), indices)


def predict_proba(model: Sequential, x: Array) -> Array:
    """Return probabilities (cross entropies) or values (squared error), shape (n, outputs).

    Parameters and arrays are as for `predict`. Probabilities are in the order of `model.labels`;
    values of a model with a `target_normalizer` are turned back, and are float64.
    """
    loss = model.loss or CrossEntropy()
    outputs = _outputs(model, x)
    with model.placed()[0].scope():
        values = loss.predict(outputs, xp=namespace(outputs))
        return values if model.target_normalizer is None else model.target_normalizer.invert(values)


def _outputs(model: Sequential, x: Array) -> Array:
    place, parameters = model.placed()
    own = place.owns(x) and not isinstance(x, np.ndarray)
    if not own:
        x = as_inputs("x", x)
    if x.ndim != 2 or x.shape[1] != model.inputs:
        raise DataError(f"x must have shape (n, {model.inputs}), got {tuple(x.shape)}")
    xp, normalizer = place.xp, model.normalizer
    with place.scope():
        parts = []
        source = (
            None
            if own
            else Source(x, place.dtype_name, pixels=True, transform=_transform(normalizer))
        )
        for start in range(0, max(x.shape[0], 1), EVALUATION_ROWS):
            stop = min(start + EVALUATION_ROWS, x.shape[0])
            if source is not None:
                part = place.asarray(source.rows(start, stop))
            elif x.dtype == xp.uint8:
                part = place.asarray(scaled(place.to_numpy(x[start:stop, :])))
            else:
                part = x[start:stop, :]
            if source is None and normalizer is not None:
                part = normalizer.apply(part, xp=xp)
            part = xp.astype(part, place.dtype)
            part = model.apply(parameters, part)
            parts.append(part if own else place.to_numpy(part))
        return xp.concat(parts) if own else np.concatenate(parts)

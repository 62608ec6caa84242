"""`fit`, the only training loop; `evaluate` and `predict`; what a run leaves behind."""

from __future__ import annotations

import contextlib
import itertools
import math
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xpnn import images, random_bits, snapshots
from xpnn.backends import Backend, Step, get_backend, namespace, to_numpy
from xpnn.datasets import (
    Dataset,
    NamedDataset,
    Where,
    as_dataset,
    as_inputs,
    as_labels,
    check_labels,
    distinct,
)
from xpnn.errors import (
    ArgumentError,
    CheckpointWarning,
    DataError,
    integer,
    nonnegative,
    positive,
    unknown,
)
from xpnn.files import PathLike
from xpnn.history import UNKNOWN, Epoch, Evaluation, Figures, History
from xpnn.losses import CrossEntropy, Loss, is_labels, labels
from xpnn.mapped import Source, is_mapped, scaled
from xpnn.model import Sequential
from xpnn.normalizers import Normalizer, as_normalizer
from xpnn.optimizers import SGD, Optimizer, clipped
from xpnn.runs import Callback, Run, as_callbacks, told
from xpnn.schedules import Schedule
from xpnn.streams import Stream, Whole, fits
from xpnn.tree import Tree

Array = Any

# rows that are evaluated at a time: enough for the BLAS, little memory
EVALUATION_ROWS = 1000

_NORMALIZERS = ("normalizer", "target_normalizer")

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
    dtype: str = "float32",
    reproducible: bool = False,
    callbacks: Iterable[Callback] = (),
    resume: PathLike | None = None,
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
        run was begun with, but for `epochs`, which may be more; in a reproducible run also but for
        `backend` and `device`. The seed may be left out. Where the file is damaged, the one before
        is taken, with a `CheckpointWarning`.

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
    loss = CrossEntropy() if loss is None else _instance("loss", loss, Loss)
    optimizer = SGD() if optimizer is None else _instance("optimizer", optimizer, Optimizer)
    schedule = None if schedule is None else _instance("schedule", schedule, Schedule)
    if schedule is not None:
        schedule.check(validation is not None)
        if not hasattr(optimizer, "lr"):
            raise ArgumentError(f"optimizer must have an lr for a schedule, got {optimizer!r}")
    clip_norm = None if clip_norm is None else positive("clip_norm", clip_norm)
    epochs = integer("epochs", epochs, minimum=0)
    batch_size = integer("batch_size", batch_size, minimum=1)
    saved, note = (None, None) if resume is None else snapshots.read(resume)
    if seed is None and saved is not None:
        seed = saved.settings["seed"]
    if seed is None:
        seed = int(np.random.SeedSequence().generate_state(1)[0])
    seed = integer("seed", seed, minimum=0, maximum=2**32 - 1)
    named = train if isinstance(train, NamedDataset) else None
    shape = model.image_shape if model.parameters is not None else None
    for data in (train, validation):
        if isinstance(data, NamedDataset):
            images.check_size(data.path, data.image_shape, shape)
            shape = shape or data.image_shape
    classified = _find_labels(model, train, labels)
    train = as_dataset("train", train, classified)
    if validation is not None:
        validation = as_dataset("validation", validation, classified)
    callbacks = as_callbacks(callbacks)
    samples, features = train.x.shape
    if classified is not None:
        _check_outputs(model, loss, features, classified)
    train = _as_targets(train, loss, model)
    validation = None if validation is None else _as_targets(validation, loss, model)
    classes = _check_fit(model, loss, {"train": train, "validation": validation})
    known = classified if classified is not None or classes is None else np.arange(classes)
    weights = _weights(train.y, sample_weight, class_weight, known)
    normalizers = (
        _fitted("normalizer", normalizer, model, train.x, named),
        _fitted("target_normalizer", target_normalizer, model, train.y, named),
    )

    rng = place.random_state(seed)
    history = History(
        {
            "loss": repr(loss),
            "optimizer": repr(optimizer),
            "schedule": None if schedule is None else repr(schedule),
            "clip_norm": clip_norm,
            "sample_weight": sample_weight is not None,
            "class_weight": _plain(class_weight),
            "epochs": epochs,
            "batch_size": batch_size,
            "seed": seed,
            "shuffle": bool(shuffle),
            "backend": place.name,
            "device": str(place.device),
            "dtype": place.dtype_name,
            "reproducible": place.options().get("reproducible", False),
            "precision": place.options().get("precision"),
            **({} if shape is None else {"image_shape": shape}),
            **{
                name: repr(own)
                for name, own in zip(_NORMALIZERS, normalizers, strict=True)
                if own is not None
            },
        }
    )
    parts = {
        "loss": told(loss),
        "optimizer": told(optimizer),
        "schedule": told(schedule),
        **dict(zip(_NORMALIZERS, map(told, normalizers), strict=True)),
        "labels": None if classified is None else classified.tolist(),
        **{name: getattr(named, name, None) for name in ("feature_names", "target_name")},
    }
    run = Run(
        model, epochs, -(-samples // batch_size), history, train, validation, weights, rng,
        callbacks, None if resume is None else Path(resume), parts,
    )  # fmt: skip
    if saved is not None:
        run.check(saved, schedule)
    if note is not None:
        warnings.warn(note, CheckpointWarning, stacklevel=2)
    with place.scope():
        if model.parameters is None:
            model.initialize(features, backend=place, rng=rng)
        else:
            model.place(model.host_parameters(), inputs=features, backend=place)
        model.loss, model.classes, model.history = loss, classes, history
        model.labels, (model.normalizer, model.target_normalizer) = classified, normalizers
        model.image_shape = shape
        if named is not None:
            model.feature_names, model.target_name = named.feature_names, named.target_name
        steps = _Steps(
            model, loss, optimizer, place, schedule=schedule, clip_norm=clip_norm, seed=seed
        )
        run.carry = (model.parameters, model.buffers, steps.init(model.parameters))
        if saved is not None:
            run.resume(saved)
            model.parameters, model.buffers, _ = run.carry
        with contextlib.ExitStack() as stack:
            for callback in reversed(callbacks):
                stack.callback(callback.on_end)
            for callback in callbacks:
                callback.on_start(run)
            rows = _epochs(steps, run, batch_size, rng if shuffle else None)
            while history.stopped is None and (row := next(rows, None)):
                history.append(row)
                for callback in callbacks:
                    callback.on_epoch(row)
            run.finished = True
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


def _fitted(
    name: str, given: Any, model: Sequential, values: np.ndarray, named: NamedDataset | None
) -> Normalizer | None:
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
    if of_targets and is_labels(values):
        raise ArgumentError(f"{name} is for values, and train.y holds class labels; got {given!r}")
    columns = values.reshape(len(values), -1) if of_targets else values
    if not normalizer.fitted:
        part = "train.y" if of_targets else "train.x"
        if named is None:
            return normalizer.fit(columns, name=part)
        target = None if named.target_name is None else (named.target_name,)
        return normalizer.fit(
            columns,
            name=f"{named.path}: {part}",
            columns=target if of_targets else named.feature_names,
        )
    assert normalizer.offset is not None
    if len(normalizer.offset) != columns.shape[1]:
        raise ArgumentError(
            f"{name} must have {columns.shape[1]} columns, got {len(normalizer.offset)}"
        )
    return normalizer


def _source(
    x: np.ndarray, dtype: str, normalizer: Normalizer | None, where: Where | None
) -> Source:
    """Return features as the device will hold them; bytes are pixels."""
    place = None if where is None else lambda row, column: where(row, "x", column)
    return Source(x, dtype, pixels=True, transform=_transform(normalizer), where=place)


def _transform(normalizer: Normalizer | None) -> Callable[[np.ndarray], np.ndarray] | None:
    return None if normalizer is None else normalizer.apply


def _instance(name: str, value: Any, base: type[Any]) -> Any:
    if not isinstance(value, base):
        example = {
            "loss": "CrossEntropy()",
            "optimizer": "SGD(lr=0.1)",
            "schedule": "xpnn.schedules.Cosine()",
        }[name]
        raise ArgumentError(f"{name} must be an instance such as {example}, got {value!r}")
    return value


def _as_targets(data: Dataset, loss: Loss, model: Sequential) -> Dataset:
    """Return the data with integer targets as values, where the loss doesn't classify."""
    if is_labels(data.y) and not loss.classifies(model.outputs(data.x.shape[1])):
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
    classes = max(outputs, 2) if is_labels(train.y) else None
    for name, data in given.items():
        if data.x.shape[1] != features:
            raise DataError(
                f"{name}.x must have {features} features as train.x has, got {data.x.shape[1]}"
            )
        if is_labels(data.y) != (classes is not None):
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


def _check_labels(name: str, y: np.ndarray, classes: int) -> None:
    outside = (y < 0) | (y >= classes)
    if outside.any():
        row = int(np.argmax(outside))
        raise DataError(
            f"{name}.y must hold labels from 0 to {classes - 1} for the model's outputs, "
            f"got {y[row]} in row {row}"
        )


def _weights(
    y: np.ndarray,
    sample_weight: Array | None,
    class_weight: Mapping[Any, float] | str | None,
    known: np.ndarray | None,
) -> np.ndarray | None:
    """Return the weights of the training samples, of mean 1, float64; None if all count alike."""
    if sample_weight is None and class_weight is None:
        return None
    n = len(y)
    weights = np.ones(n)
    if sample_weight is not None:
        given = to_numpy(sample_weight)
        if given.shape != (n,) or given.dtype.kind not in "biuf":
            raise DataError(
                f"sample_weight must be {n} numbers, of shape ({n},) as train.x has rows, "
                f"got {given.dtype} of shape {given.shape}"
            )
        weights = given.astype(np.float64)
        wrong = ~(np.isfinite(weights) & (weights >= 0))
        if wrong.any():
            row = int(np.argmax(wrong))
            raise DataError(f"sample_weight must be finite and >= 0, got {given[row]} in row {row}")
    if class_weight is not None:
        if known is None:
            raise ArgumentError("class_weight needs train.y to be class labels")
        weights = weights * _class_weights(y, class_weight, known)[y]
    # a sum that is correctly rounded, so alike on every platform
    try:
        total = math.fsum(weights)
    except OverflowError:
        total = math.inf
    if n and not 0 < total < math.inf:
        raise DataError(
            "weights of the training samples must have a sum that isn't zero or infinite, "
            f"got {total}"
        )
    return weights * (n / total) if n else weights


def _plain(given: Mapping[Any, float] | str | None) -> dict[str, float] | str | None:
    """Return class weights that were checked as a file can hold them."""
    if not isinstance(given, Mapping):
        return given
    return {str(label): float(weight) for label, weight in given.items()}


def _class_weights(
    y: np.ndarray, given: Mapping[Any, float] | str, known: np.ndarray
) -> np.ndarray:
    if isinstance(given, str):
        if given != "balanced":
            raise unknown("class_weight", given, ["balanced"])
        counts = np.bincount(y, minlength=len(known))
        present = int(np.count_nonzero(counts))
        return len(y) / (present * np.maximum(counts, 1))
    if not isinstance(given, Mapping):
        raise ArgumentError(
            f"class_weight must be a mapping such as {{0: 1.0, 1: 2.5}} or 'balanced', "
            f"got {given!r}"
        )
    # as text too: at the command line and in files, labels are
    places = {str(label): i for i, label in enumerate(known)}
    weights = np.ones(len(known))
    for label, weight in given.items():
        if str(label) not in places:
            raise unknown("label in class_weight", str(label), places)
        weights[places[str(label)]] = nonnegative(f"class_weight of {label}", weight)
    return weights


def _epochs(
    steps: _Steps, run: Run, batch_size: int, rng: np.random.RandomState | None
) -> Iterator[Epoch]:
    """Yield the rows of a run's log that are missing, leaving its model trained so far."""
    model = run.model
    data = steps.move(run.train, run.weights, batch_size)
    test = None if run.validation is None else steps.move(run.validation, batch_size=batch_size)
    pieces = _PIECES if run.callbacks else 1

    def progress(count: int) -> None:
        for callback in run.callbacks:
            callback.on_batches(count)

    for epoch in range(len(run.history), run.epochs + 1):
        begun = time.perf_counter()
        if epoch == 0:
            running = steps.evaluate(model.arrays, data, 0)
        else:
            # steps may change the arrays in place
            carry, run.carry = run.carry, None
            rates = steps.rates(epoch, run.epochs, run.batches)
            carry, running = steps.sweep(
                steps.train, carry, data, batch_size, epoch, rng, pieces, progress, rates
            )
            run.carry, (model.parameters, model.buffers, _) = carry, carry
        tested = UNKNOWN if test is None else steps.evaluate(model.arrays, test, epoch)
        yield Epoch(epoch, *running, *tested, time.perf_counter() - begun)


def _pieces(order: np.ndarray, batch_size: int, count: int) -> list[np.ndarray]:
    """Cut an order into matrices with a mini-batch a row, and a smaller last one alone."""
    whole = len(order) // batch_size
    matrix = order[: whole * batch_size].reshape(whole, batch_size)
    pieces = np.array_split(matrix, min(count, whole)) if whole else []
    rest = order[whole * batch_size :]
    return [*pieces, rest.reshape(1, -1)] if len(rest) else pieces


def _headed(
    piece: np.ndarray, epoch: int, numbers: Iterator[int], seeds: Iterable[int]
) -> np.ndarray:
    """Return mini-batches headed by their numbers in the epoch, and a random key for each seed."""
    own = np.array(list(itertools.islice(numbers, len(piece))))
    moment = np.array([epoch])
    keys = [random_bits.split(random_bits.split(seed, moment), own) for seed in seeds]
    return np.column_stack([own, *keys, piece])


class _Steps:
    """What a run computes on the device: the training step and the evaluation step, folded.

    A training step's carry is all that one hands to the next: the parameters, the buffers and the
    optimizer's state. What else it depends on is a function of its number and epoch: the random
    numbers of its layers, whose keys head its row of samples, and, given the log so far, its
    learning rate.
    """

    def __init__(
        self,
        model: Sequential,
        loss: Loss,
        optimizer: Optimizer,
        backend: Backend,
        *,
        schedule: Schedule | None = None,
        clip_norm: float | None = None,
        seed: int = 0,
    ) -> None:
        self.model, self.loss, self.backend = model, loss, backend
        self.optimizer, self.schedule = optimizer, schedule
        # of each layer that draws random numbers
        self.seeds = {
            i: random_bits.key_of(seed, i) for i, layer in enumerate(model.layers) if layer.draws
        }
        self.headed = bool(self.seeds) or schedule is not None
        self._rates = np.empty(0)
        xp, dtype = backend.xp, backend.dtype

        def inputs_of(xp: Any, rows: Array, x: Array) -> Array:
            inputs = xp.take(x, rows, axis=0)
            return inputs if inputs.dtype == dtype else xp.astype(inputs, dtype)

        def criticize(
            xp: Any, outputs: Array, rows: Array, y: Array, weights: Array | None = None
        ) -> tuple[Array, tuple[Array, ...]]:
            """Return the gradient of the loss, and the sums that the log's figures are made of."""
            targets = xp.take(y, rows, axis=0)
            if weights is None:
                samples, gradient = loss.samples(outputs, targets, xp=xp)
            else:
                weights = xp.take(weights, rows, axis=0)
                samples, gradient = loss.weighted(outputs, targets, weights, xp=xp)

            def total(part: Array) -> Array:
                return xp.sum(part if weights is None else weights * part)

            figures = total(loss.reported(samples, xp=xp))
            hits = loss.hits(outputs, targets, xp=xp)
            return gradient, (figures,) if hits is None else (figures, total(hits))

        def training_step(carry: Any, row: Array, x: Array, *context: Array) -> Any:
            parameters, buffers, state = carry
            xp, stepping = namespace(row), optimizer
            keys = {layer: row[k : k + 1] for k, layer in enumerate(self.seeds, 1)}
            if schedule is not None:
                context, rates = context[:-1], context[-1]
                stepping = optimizer.at(xp.take(rates, row[:1], axis=0)[0])
            if self.headed:
                row = row[1 + len(keys) :]
            outputs, pullback, buffers = model.train(
                parameters, buffers, inputs_of(xp, row, x), keys, xp=xp
            )
            gradient, figures = criticize(xp, outputs, row, *context)
            gradients = pullback(gradient)
            if clip_norm is not None:
                gradients = clipped(gradients, clip_norm, xp=xp)
            parameters, state = stepping.update(parameters, gradients, state, xp=xp)
            return (parameters, buffers, state), figures

        def evaluation_step(arrays: Tree, row: Array, x: Array, *context: Array) -> Any:
            xp = namespace(row)
            outputs, _ = model.forward(arrays, inputs_of(xp, row, x), xp=xp)
            _, figures = criticize(xp, outputs, row, *context)
            return arrays, figures

        self.init = backend.compile(lambda parameters: optimizer.init(parameters, xp=xp))
        self.train = backend.fold(training_step)
        self.evaluation = backend.fold(evaluation_step)

    def move(
        self, data: Dataset, weights: np.ndarray | None = None, batch_size: int = 1
    ) -> Whole | Stream:
        """Return the data on the device; if they are mapped from a file, chunk by chunk."""
        name = self.backend.dtype_name
        where = data.where if isinstance(data, NamedDataset) else None
        x = _source(data.x, name, self.model.normalizer, where)
        y = Source(
            data.y, name, transform=_transform(self.model.target_normalizer),
            where=None if where is None else lambda row, column: where(row, "y", column),
        )  # fmt: skip
        own = [] if weights is None else [Source(weights, name)]
        if (is_mapped(data.x) or is_mapped(data.y)) and not fits(x, y, *own):
            return Stream(x, y, self.backend, batch_size, *own)
        sources = (x, y, *own)
        return Whole(*(self.backend.dataset(source.rows(0, len(source))) for source in sources))

    def rates(self, epoch: int, epochs: int, batches: int) -> tuple[Array, ...]:
        """Return what the steps of an epoch must know beside the data: their learning rates."""
        if self.schedule is None:
            return ()
        times = epoch - 1 + np.arange(batches) / batches
        factors = np.asarray(self.schedule.factors(times, epochs, self.model.history))
        if factors.shape != times.shape or not (np.isfinite(factors) & (factors >= 0)).all():
            raise ArgumentError(
                f"schedule must give {batches} finite factors >= 0 in epoch {epoch}, got {factors}"
            )
        if self._rates.shape != times.shape:
            # kept, for NumPy's recorded steps know arrays by identity
            self._rates = np.empty(batches, self.backend.dtype_name)
        self._rates[:] = self.optimizer.lr * factors  # type: ignore[attr-defined]
        return (self.backend.chunk(self._rates, None),)

    def evaluate(self, arrays: Tree, data: Whole | Stream, epoch: int) -> Evaluation:
        """Return the figures of the network on a data set that was moved."""
        _, figures = self.sweep(
            self.evaluation, arrays, data, min(EVALUATION_ROWS, data.capacity), epoch
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
        rates: tuple[Array, ...] = (),
    ) -> tuple[Any, Evaluation]:
        """Fold over all mini-batches of a data set; return the carry, and the figures over them.

        `progress` is told at least `pieces` times, where there are as many mini-batches. What the
        host knows of a chunk is moved before its first step, and what it wants to know after its
        last: nothing synchronises in between.
        """
        training = fold is self.train
        figures = Figures(self.loss, epoch, training=training)
        numbers = itertools.count()
        with contextlib.closing(data.chunks(batch_size, rng)) as chunks:
            for x, y, order, weights in chunks:
                count = -(-pieces * len(order) // len(data))
                cut = _pieces(order, batch_size, count)
                if self.headed and training:
                    seeds = self.seeds.values()
                    cut = [_headed(piece, epoch, numbers, seeds) for piece in cut]
                context = (y, *rates) if weights is None else (y, weights, *rates)
                moved = [self.backend.asarray(piece) for piece in cut]
                sums = []
                for rows in moved:
                    carry, own = fold(carry, rows, x, *context)
                    sums.append(own)
                    progress(rows.shape[0])
                columns = zip(*sums, strict=True)
                figures.add(*(map(self.backend.to_numpy, column) for column in columns))
        return carry, figures.evaluation(len(data))


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
    place, arrays = model.placed()
    loss = model.loss or CrossEntropy() if loss is None else _instance("loss", loss, Loss)
    if isinstance(data, NamedDataset):
        images.check_size(data.path, data.image_shape, model.image_shape)
    data = _as_targets(as_dataset("data", data, model.labels), loss, model)
    _check_fit(model, loss, {"data": data})
    with place.scope():
        steps = _Steps(model, loss, SGD(), place)
        return steps.evaluate(arrays, steps.move(data), 0)


def predict(model: Sequential, x: Array, *, where: Where | None = None) -> Array:
    """Return what the model says of `x`: class labels, or what its loss takes the outputs for.

    Parameters
    ----------
    model
        A trained model.
    x
        Shape (n, features); unsigned bytes are pixels, as for `fit`. An array of the model's own
        library is answered with one; any other array, which may be mapped from a file, with a
        NumPy array.
    where
        ``where(row, "x", column)`` says in words where a feature is, or for None a row, for
        messages.

    Returns
    -------
    labels
        Shape (n,) if the targets were class labels: such as these were, strings in a NumPy array
        in any case. Else `predict_proba`.

    Raises
    ------
    ArgumentError, DataError
        If the model has no parameters yet, or x doesn't fit it; and, where x is no array of the
        model's own library, if a feature is too large for the dtype, or an output isn't finite.
    """
    if model.classes is None:
        return predict_proba(model, x, where=where)
    outputs = outputs_of(model, x, where=where)
    place = model.placed()[0]
    with place.scope():
        indices = labels(outputs)
        if model.labels is None:
            return indices
        if isinstance(indices, np.ndarray) or model.labels.dtype.kind == "U":
            return model.labels[to_numpy(indices)]
        return place.xp.take(place.asarray(model.labels), indices)


def predict_proba(model: Sequential, x: Array, *, where: Where | None = None) -> Array:
    """Return probabilities (cross entropies) or values (squared error), shape (n, outputs).

    Parameters, errors and arrays are as for `predict`. Probabilities are in the order of
    `model.labels`; values of a model with a `target_normalizer` are turned back, and are float64.
    """
    loss = model.loss or CrossEntropy()
    outputs = outputs_of(model, x, where=where)
    with model.placed()[0].scope():
        values = loss.predict(outputs, xp=namespace(outputs))
        return values if model.target_normalizer is None else model.target_normalizer.invert(values)


def outputs_of(model: Sequential, x: Array, *, where: Where | None = None) -> Array:
    """Return the network's outputs for `x`, shape (n, outputs): logits, or normalized values.

    Parameters, errors and arrays are as for `predict`.
    """
    place, arrays = model.placed()
    own = place.owns(x) and not isinstance(x, np.ndarray)
    if not own:
        x = as_inputs("x", x, where)
    if x.ndim != 2 or x.shape[1] != model.inputs:
        raise DataError(f"x must have shape (n, {model.inputs}), got {tuple(x.shape)}")
    xp, normalizer = place.xp, model.normalizer
    with place.scope():
        parts = []
        source = None if own else _source(x, place.dtype_name, normalizer, where)
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
            part = model.apply(arrays, part)
            if not own:
                part = place.to_numpy(part)
                _check_outputs_finite(part, start, where)
            parts.append(part)
        return xp.concat(parts) if own else np.concatenate(parts)


def _check_outputs_finite(outputs: np.ndarray, start: int, where: Where | None) -> None:
    finite = np.isfinite(outputs).all(axis=1)
    if not finite.all():
        row = int(np.argmin(finite))
        place = f"x, row {start + row}" if where is None else where(start + row, "x", None)
        value = outputs[row][~np.isfinite(outputs[row])][0]
        raise DataError(f"{place}: an output of the model is {value}; its features are too large")

"""Resuming: take the state of a run between two epochs, write it, read it, check it, restore it.

A checkpoint is a safetensors file with everything that is needed to continue a run. Its arrays are
the run's carry (``carry.…``), the arrays of callbacks (``callbacks.…``) and the key of the Mersenne
twister (``random_state``). The metadata hold "checkpoint", a JSON text of everything else, and the
SHA-256 of the whole file: see `xpnn._core.files.sealed`. The previous file is kept beside it as
``FILE.previous``. Tests of resumed runs are in tests/training/test_resuming.py.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import numpy as np

from xpnn._core import limits, schema
from xpnn._core.files import (
    DAMAGED,
    PREVIOUS,
    SEAL,
    PathLike,
    arrays_in,
    as_path,
    real,
    replacing,
    sealed,
    unsealed,
)
from xpnn._core.mapped import EXACT, blocks
from xpnn._core.parts import as_plain, identity, is_plain, part_text, public_attributes
from xpnn._core.tree import paths, rebuilt
from xpnn._version import __version__
from xpnn.backends import Backend
from xpnn.errors import ArgumentError, DataError
from xpnn.layers import GIVEN, Activation, Dense, Layer
from xpnn.schedules import Schedule
from xpnn.training.history import Epoch

if TYPE_CHECKING:
    from xpnn.training.callback import Callback
    from xpnn.training.run import Run
    from xpnn.training.samples import Samples

# format 1 described the parts of a run by their repr
FORMAT = 2

# of reproducible runs whose checkpoint doesn't name theirs
_FIRST_ARITHMETIC = "xpnn-1"

# dtypes of arrays that a file can hold
_DTYPES = (
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "float16", "float32", "float64", "complex64",
)  # fmt: skip


# the words of the Mersenne twister's state
_KEY_LENGTH = 624


@dataclass(frozen=True)
class _Version:
    format: schema.Count


@dataclass(frozen=True)
class _Position:
    pos: Annotated[int, schema.between(0, _KEY_LENGTH)]


@dataclass(frozen=True)
class _RandomState:
    """A state of `numpy.random.RandomState` but for its key, which NumPy doesn't check."""

    bit_generator: Literal["MT19937"]
    state: _Position
    has_gauss: Literal[0, 1]
    gauss: Annotated[float, schema.FINITE]


@dataclass(frozen=True)
class _Settings:
    """The settings that code uses; all others are compared with the run's."""

    epochs: Annotated[int, schema.between(0, EXACT)]


@dataclass(frozen=True)
class _FirstSettings(_Settings):
    """Those of format 1, which described the parts."""

    layers: list[str]
    loss: str | None
    optimizer: str | None
    schedule: str | None
    normalizer: str | None
    target_normalizer: str | None


@dataclass(frozen=True)
class _Parts:
    """The parts that code uses."""

    layers: list[schema.PartEntry]


@dataclass(frozen=True)
class _Data:
    """The fingerprint of each data set."""

    train: dict[str, Any]
    validation: dict[str, Any] | None

    def __post_init__(self) -> None:
        for part, arrays in vars(self).items():
            schema.checked(_Fingerprint | None, arrays, part)
            for name, array in (arrays or {}).items():
                if name != "sha256":
                    schema.checked(_DESCRIBED_ARRAY, array, f"{part}.{name}")


@dataclass(frozen=True)
class _Fingerprint:
    sha256: schema.Sha256


def _is_array(described: list[Any]) -> bool:
    """Return whether a list is the dtype and the shape of an array."""
    sizes = [type(size) is int and size >= 0 for size in described[1:]]
    return bool(described) and isinstance(described[0], str) and all(sizes)


_DESCRIBED_ARRAY = Annotated[list[Any], schema.Rule("a dtype and a shape", _is_array)]


@dataclass(frozen=True)
class _Description:
    """The fields of a checkpoint: what isn't an array."""

    settings: dict[str, Any]
    history: list[list[Any]]
    data: _Data
    random_state: _RandomState
    callbacks: dict[str, dict[str, str | bool | int | float]]
    xpnn: str = ""
    # format 1 has neither
    parts: dict[str, Any] | None = None
    identities: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        first = self.parts is None
        settings = schema.checked(_FirstSettings if first else _Settings, self.settings, "settings")
        if not first:
            schema.checked(_Parts, self.parts, "parts")
        for number, row in enumerate(self.history):
            self._check_row(row, f"history[{number}]")
        numbers = [row[0] for row in self.history]
        if (
            not numbers
            or numbers != list(range(len(numbers)))
            or len(numbers) > settings.epochs + 1
        ):
            wanted = f"the rows of the epochs in order, from 0 to {settings.epochs} at most"
            raise schema.wrong("history", wanted, numbers)

    def _check_row(self, row: list[Any], name: str) -> None:
        size = len(Epoch._fields)
        figures, metrics = row[:size], row[size:]
        if len(figures) != size or len(metrics) > 1:
            raise schema.wrong(name, f"a list of {size} figures, and metrics if it has any", row)
        schema.checked(list[float], figures, name)
        for own in metrics:
            schema.checked(dict[str, float], own, f"{name}[{size}]")


class SavedRun(NamedTuple):
    """A run between two epochs.

    Attributes
    ----------
    settings
        The settings of the run: numbers, strings and lists.
    parts
        The `identity` of each part, the labels and the names of columns; None in files of format 1,
        whose settings describe the parts.
    history
        The rows of its log.
    data
        The `fingerprint` of each data set, None for a missing one.
    random_state
        ``RandomState.get_state(legacy=False)``.
    carry
        What one training step passes to the next, on the host, by path: see
        `xpnn._core.tree.paths`.
    callbacks
        What `Callback.state` returned, by the name of the callback.
    identities
        The `callback_identity` of each callback when the run began, by its name.
    """

    settings: dict[str, Any]
    parts: dict[str, Any] | None
    history: list[Epoch]
    data: dict[str, Any]
    random_state: dict[str, Any]
    carry: dict[str, np.ndarray]
    callbacks: dict[str, dict[str, Any]]
    identities: dict[str, Any]

    @property
    def done(self) -> int:
        """The number of finished epochs."""
        return self.history[-1].epoch


def taken(run: Run, *, of_the_model: bool = False) -> SavedRun:
    """Return everything that is needed to continue a run; see `Run.checkpoint`.

    Parameters
    ----------
    of_the_model
        Whether to take the parameters that the model has now, which a callback may have restored,
        instead of those in the run's carry. It also works within an epoch; the optimizer then has
        no state. What only a file's reader needs is left out: parts, fingerprints, identities.
    """
    backend, _ = run.model.placed()
    if of_the_model:
        state = () if run.carry is None else run.carry[2]
        carry = (run.model.parameters, run.model.buffers, state)
    elif run.carry is None or not run.history:
        raise RuntimeError("a checkpoint can be taken between two epochs only")
    else:
        carry = run.carry
    names = _names(run.callbacks)
    kept = {
        name: _checked_state(callback) for name, callback in zip(names, run.callbacks, strict=True)
    }
    return SavedRun(
        settings=as_plain(run.settings),
        parts=None if of_the_model else run.parts,
        history=run.history[:],
        data={} if of_the_model else run.fingerprints,
        random_state=run.rng.get_state(legacy=False),
        carry=on_host(carry, backend),
        callbacks={name: state for name, state in kept.items() if state},
        identities={} if of_the_model else dict(zip(names, run.identities, strict=True)),
    )


def go_on(run: Run, saved: SavedRun, *, compared: bool) -> None:
    """Continue a run that has just begun from a saved one.

    Parameters
    ----------
    compared
        Whether `check_same_run` has compared both. If not, the optimizer starts afresh where its
        state has other names, shapes or dtypes than the saved one.

    Raises
    ------
    DataError
        If the saved arrays have other names, shapes or dtypes than the run's.
    """
    backend, _ = run.model.placed()
    own = {path: backend.to_numpy(leaf) for path, leaf in paths(run.carry).items()}
    arrays = saved.carry
    was, fresh = _state(arrays), _state(own)
    if not compared and _difference(was, fresh):
        arrays = {name: arrays[name] for name in arrays if name not in was} | fresh
    wrong = _difference(arrays, own)
    if wrong:
        raise DataError(
            f"{run.resumed or 'resume'} doesn't fit the model and the optimizer: {wrong}"
        )
    # copies, because steps may change the arrays in place
    copies = [backend.asarray(np.array(arrays[path])) for path in own]
    run.carry = rebuilt(run.carry, copies)
    run.model.parameters, run.model.buffers, _ = run.carry
    run.rng.set_state(saved.random_state)
    run.history.extend(saved.history)
    run.history.resumed = saved.done
    for name, callback in zip(_matched(run, saved), run.callbacks, strict=True):
        callback.restore({} if name is None else saved.callbacks.get(name, {}))


def _state(carry: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the optimizer's state from the arrays of a carry: parameters, buffers, state."""
    return {name: array for name, array in carry.items() if name.startswith("2.")}


# settings that a resumed run may change, and those that only a reproducible one may
_FREE = {"epochs", "card", "not_recorded"}
_FREE_IF_REPRODUCIBLE = {"backend", "device"}


def check_same_run(run: Run, saved: SavedRun) -> None:
    """Raise unless a checkpoint belongs to this run.

    Settings in `_FREE` may differ, and in a reproducible run those in `_FREE_IF_REPRODUCIBLE`. But
    `epochs` can't be fewer than are done, nor differ if the schedule depends on them.

    Raises
    ------
    ArgumentError, DataError
        If a setting or a data set differs; the message names it with both values.
    """
    free = _FREE | (_FREE_IF_REPRODUCIBLE if run.settings["reproducible"] else set())
    was, now = _compared(run, saved)
    # normalizers last: they differ wherever the columns do
    for name in sorted({**now, **was}, key=lambda name: "normalizer" in name):
        if name not in free and was.get(name) != now.get(name):
            hint = "; a reproducible run may change it" if name in _FREE_IF_REPRODUCIBLE else ""
            raise ArgumentError(
                f"{name} must be {_in_message(was.get(name))} as in {run.resumed}, "
                f"got {_in_message(now.get(name))}{hint}"
            )
    if run.epochs < saved.done:
        raise ArgumentError(
            f"epochs must be >= {saved.done}, which are done in {run.resumed}, got {run.epochs}"
        )
    schedule = run.method.schedule
    if schedule is not None and _has_changed(schedule, was["epochs"], run.epochs, saved.history):
        raise ArgumentError(
            f"epochs must be {was['epochs']} as in {run.resumed}, because {schedule!r} depends on "
            f"them, got {run.epochs}"
        )
    for name, data in run.fingerprints.items():
        before = saved.data[name]
        if data != before:
            raise DataError(
                f"{name} must be the data of {run.resumed}, {_described(before)}, "
                f"got {_described(data)}"
            )


def _compared(run: Run, saved: SavedRun) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the settings and parts of a saved run, and those of this one in the same terms."""
    # the settings have only the repr of a part; its identity takes that place
    now = as_plain(run.settings) | run.parts
    was = dict(saved.settings)
    if was.get("reproducible"):
        was.setdefault("arithmetic", _FIRST_ARITHMETIC)
    if saved.parts is not None:
        was |= saved.parts
        for own in (was, now):
            own["layers"] = list(map(_without_initializer, own["layers"]))
        return was, now
    # format 1 had the repr of each part, then "with" and what the repr doesn't show
    now["layers"] = list(map(_text, run.model.layers))
    was["layers"] = [re.sub(r"^(Dense\(.*), weight='\w+'", r"\1", text) for text in was["layers"]]
    for name, part in _parts(run).items():
        text = type(part).__name__ if repr(part).startswith("<") else repr(part)
        now[name] = None if part is None else text
        was[name] = None if was.get(name) is None else was[name].partition(" with ")[0]
    return was, now


def _text(layer: Layer) -> str:
    """Return a layer as format 1 described it."""
    settings = layer.config()
    if isinstance(layer, Activation):
        settings = {"name": layer.name, **layer.parameters}
    if isinstance(layer, Dense):
        settings = _without_initial_values(settings)
    given = ", ".join(f"{name}={value!r}" for name, value in settings.items())
    return f"{type(layer).__name__}({given})"


def _without_initializer(layer: dict[str, Any]) -> dict[str, Any]:
    """Return a layer's description without how its parameters were drawn before the run began."""
    if layer["name"] != "Dense":
        return layer
    return {**layer, "parameters": _without_initial_values(layer["parameters"])}


def _without_initial_values(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in settings.items()
        if name != "weight" and (name, value) != ("bias", GIVEN)
    }


def _parts(run: Run) -> dict[str, Any]:
    """Return the parts of a run other than its layers."""
    method, task = run.method, run.samples.task
    return {
        "loss": method.loss,
        "optimizer": method.optimizer,
        "schedule": method.schedule,
        "normalizer": task.normalizer,
        "target_normalizer": task.target_normalizer,
    }


def parts_of(run: Run) -> dict[str, Any]:
    """Return what must be equal in a resumed run: its parts, and the names in its data."""
    task, train = run.samples.task, run.samples.train
    labels, columns = task.labels, task.columns
    parts = {
        "layers": list(run.model.layers),
        **_parts(run),
        "labels": None if labels is None else labels.tolist(),
        "feature_names": getattr(train, "feature_names", None),
        "target_name": getattr(train, "target_name", None),
        **({} if task.target_names is None else {"target_names": task.target_names}),
        **({} if columns is None else {"columns": columns.config()}),
    }
    return identity(parts)  # type: ignore[no-any-return]


def _in_message(value: Any) -> str:
    """Return the text of a setting, or of what `identity` returned for a part, for a message."""
    if isinstance(value, list):
        return f"[{', '.join(map(_in_message, value))}]"
    return repr(part_text(value) if isinstance(value, dict) else value)


def _has_changed(schedule: Schedule, before: int, now: int, rows: Sequence[Epoch]) -> bool:
    """Return whether another number of epochs changes the rates of the finished epochs."""
    for epoch in range(1, len(rows)):
        time = np.asarray([epoch - 1.0])
        was, new = (schedule.factors(time, count, rows[:epoch]) for count in (before, now))
        if was != new:
            return True
    return False


def callback_identity(callback: Callback) -> Any:
    """Return what distinguishes a new callback from others of its class: its plain attributes."""
    kind = type(callback)
    attributes = {
        name: identity(own) for name, own in public_attributes(callback).items() if is_plain(own)
    }
    return {"class": f"{kind.__module__}.{kind.__qualname__}", "attributes": attributes}


def _names(callbacks: Sequence[Callback]) -> list[str]:
    """Return a name for each callback, its class and its number among those of that class.

    So callbacks of other classes can be added and removed when a run is resumed.
    """
    kinds = [type(callback).__name__ for callback in callbacks]
    return [f"{kind}-{kinds[: i + 1].count(kind)}" for i, kind in enumerate(kinds)]


def _matched(run: Run, saved: SavedRun) -> list[str | None]:
    """Return the name that each callback of a run has in a saved one, None if it is new.

    Callbacks of one class are first matched by `callback_identity`; those that are left, because
    they were made with other arguments, are matched in their order.
    """
    if not saved.identities:  # format 1 knew them by their order only
        return list(_names(run.callbacks))
    left = list(saved.identities)
    found: list[str | None] = [None] * len(run.callbacks)
    for alike in (True, False):
        for i, (callback, own) in enumerate(zip(run.callbacks, run.identities, strict=True)):
            kind = type(callback).__name__
            same = [name for name in left if name.rpartition("-")[0] == kind]
            if alike:
                same = [name for name in same if saved.identities[name] == own]
            if same and found[i] is None:
                found[i] = same[0]
                left.remove(same[0])
    return found


def fingerprints(samples: Samples) -> dict[str, Any]:
    """Return the fingerprint of each data set, None for a missing one."""
    train = samples.train._asdict()
    if samples.weights is not None:
        train["weights"] = samples.weights
    validation = samples.validation
    return {
        "train": fingerprint(train),
        "validation": None if validation is None else fingerprint(validation._asdict()),
    }


def _described(data: dict[str, Any] | None) -> str:
    """Return the text of a fingerprint for a message."""
    if data is None:
        return "none"
    parts = [
        f"{name} {'×'.join(map(str, shape))} {dtype}"
        for name, (dtype, *shape) in data.items()
        if name != "sha256"
    ]
    return f"{' and '.join(parts)} with SHA-256 {data['sha256'][:16]}…"


def previous(path: PathLike) -> Path:
    """Return the path where `write` keeps the file that it replaces."""
    return kept(path)[0]


def kept(path: PathLike) -> tuple[Path, Path]:
    """Return the paths where `write` keeps what it replaces: as `previous`, or a damaged file."""
    path = real(path)
    return path.with_name(path.name + PREVIOUS), path.with_name(path.name + DAMAGED)


def write(saved: SavedRun, path: PathLike) -> None:
    """Write a checkpoint, and keep the file that was there as `previous`.

    A damaged file is kept as ``FILE.damaged`` instead, so that it never replaces a good one.

    Raises
    ------
    WriteError
        If the file can't be written; the old one is unchanged.
    """
    twister = saved.random_state["state"]
    arrays = {f"carry.{name}": array for name, array in saved.carry.items()}
    plain: dict[str, dict[str, Any]] = {}
    for callback, kept in saved.callbacks.items():
        plain[callback] = {}
        for name, value in kept.items():
            if isinstance(value, np.ndarray):
                arrays[f"callbacks.{callback}.{name}"] = value
            else:
                plain[callback][name] = value
    arrays["random_state"] = twister["key"]
    description = {
        "format": FORMAT,
        "xpnn": __version__,
        **saved._asdict(),
        "history": [[*row, *([row.metrics] if row.metrics else [])] for row in saved.history],
        "callbacks": plain,
        "random_state": {**saved.random_state, "state": {"pos": twister["pos"]}},
    }
    del description["carry"]
    raw = sealed(arrays, {"checkpoint": json.dumps(description)})
    with replacing("checkpoint", path, keep=_keep_as) as file:
        file.write(raw)


def _keep_as(path: Path) -> Path:
    """Return the path where the file that is to be replaced is kept."""
    try:
        # of the run itself, which has no limit for what it writes
        with limits.at_most(2**53):
            _whole(path)
    except DataError:
        return kept(path)[1]
    return kept(path)[0]


def read(path: PathLike) -> tuple[SavedRun, str | None]:
    """Read a checkpoint, or the previous one if the file is damaged.

    Returns
    -------
    saved
        The run.
    note
        What is wrong with the file if the previous one was read instead, else None.

    Raises
    ------
    DataError
        If neither can be read; the message says what is wrong with the first.
    ArgumentError
        If `path` isn't a path.
    """
    path = as_path("resume", path)
    try:
        return _read(path), None
    except DataError as error:
        older = previous(path)
        try:
            saved = _read(older)
        except DataError:
            raise error from None
        return saved, f"{error}; going on from {older}, epoch {len(saved.history) - 1}"


def _whole(path: PathLike) -> tuple[bytes, Any]:
    """Return the bytes of an undamaged file, and its description, which isn't checked yet."""
    metadata, raw = unsealed(path, "checkpoint")
    if "checkpoint" not in metadata and "xpnn" in metadata:
        raise DataError(
            f"{path} is a model, and not a checkpoint: --from {path} goes on from a model's "
            "parameters, in Python xpnn.fit(xpnn.load(path), …)"
        )
    if "checkpoint" not in metadata or SEAL not in metadata:
        raise DataError(f"{path} is no checkpoint, a damaged one, or one of an older xpnn")
    with schema.reading(path):
        description = schema.as_json(metadata["checkpoint"])
        version = schema.checked(_Version, description).format
    if version > FORMAT:
        raise DataError(
            f"{path} was written by xpnn {description.get('xpnn')!s:.20}, whose checkpoint format "
            f"{version} is newer than this one's ({FORMAT})"
        )
    return raw, description


def _read(path: PathLike) -> SavedRun:
    raw, description = _whole(path)
    arrays = arrays_in(raw, path)
    with schema.reading(path):
        own: _Description = schema.checked(_Description, description)
        key = arrays.pop("random_state", None)
        if key is None or key.dtype != np.uint32 or key.shape != (_KEY_LENGTH,):
            got = None if key is None else f"{key.dtype} of shape {key.shape}"
            raise schema.wrong("random_state", f"uint32 of shape ({_KEY_LENGTH},)", got)
        state = dataclasses.asdict(own.random_state)
        state["state"]["key"] = key
        carry: dict[str, np.ndarray] = {}
        callbacks: dict[str, dict[str, Any]] = own.callbacks
        for name, array in arrays.items():
            kind, _, rest = name.partition(".")
            callback, _, inner = rest.partition(".")
            if kind == "carry":
                carry[rest] = array
            elif kind == "callbacks" and callback in callbacks:
                callbacks[callback][inner] = array
            else:
                wanted = "those of the carry, or of a callback that the file names"
                raise schema.wrong("arrays", wanted, name)
    size = len(Epoch._fields)
    return SavedRun(
        settings=own.settings,
        parts=own.parts,
        history=[
            Epoch(int(row[0]), *row[1:size]).measured(*row[size:] or [{}]) for row in own.history
        ],
        data=dict(vars(own.data)),
        random_state=state,
        carry=carry,
        callbacks=callbacks,
        identities=own.identities,
    )


def _checked_state(callback: Callback) -> dict[str, Any]:
    """Return a copy of the state of a callback.

    Raises
    ------
    ArgumentError
        If the state isn't a dictionary of arrays, numbers and strings.
    """
    state, owner = callback.state(), f"state of the callback {type(callback).__name__}"
    if not isinstance(state, dict):
        raise ArgumentError(f"{owner} must be a dictionary, got {type(state).__name__}")
    copies: dict[str, Any] = {}
    for name, value in state.items():
        if isinstance(name, str) and isinstance(value, str | bool | int | float):
            copies[name] = value
            continue
        array = isinstance(value, np.ndarray | np.generic)
        if not (isinstance(name, str) and array and value.dtype.name in _DTYPES):
            kind = f"array of {value.dtype}" if array else type(value).__name__
            raise ArgumentError(
                f"{owner} must be NumPy arrays of numbers, numbers and texts by name, "
                f"got {kind} as {name!r}"
            )
        copies[name] = np.array(value, value.dtype.newbyteorder("="))
    return copies


def fingerprint(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return the dtypes and shapes of host arrays, and the SHA-256 of their bytes.

    The arrays are read in blocks, so that those mapped from a file may be larger than the memory.
    """
    digest = hashlib.sha256()
    for array in arrays.values():
        for _, rows in blocks(array):
            digest.update(np.ascontiguousarray(rows, array.dtype.newbyteorder("<")).data)
    shapes = {name: [array.dtype.name, *array.shape] for name, array in arrays.items()}
    return {**shapes, "sha256": digest.hexdigest()}


def on_host(nest: Any, backend: Backend) -> dict[str, np.ndarray]:
    """Return host copies of all arrays of a nest on `backend`, by their paths in it."""
    return {path: np.array(backend.to_numpy(leaf)) for path, leaf in paths(nest).items()}


def _difference(given: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray]) -> str | None:
    """Return how names, shapes or dtypes of `given` differ from `wanted`, None if they don't."""
    kinds = [{n: (a.dtype, a.shape) for n, a in arrays.items()} for arrays in (wanted, given)]
    for name in sorted({*given, *wanted}) if kinds[0] != kinds[1] else ():
        one, other = (kind.get(name) for kind in kinds)
        if one != other:
            shown = ["{} of shape {}".format(*kind) if kind else "none" for kind in (one, other)]
            return f"{name} must be {shown[0]}, got {shown[1]}"
    return None

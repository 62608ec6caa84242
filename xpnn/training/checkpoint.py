"""Resuming: a run between two epochs is taken, written, read, compared with another, and goes on.

A checkpoint is a safetensors file with everything that a run needs to go on. Its arrays are the
run's carry (``carry.…``), those that callbacks keep (``callbacks.…``) and the Mersenne twister's
key (``random_state``). The metadata hold "checkpoint", a JSON text of all the rest, and the SHA-256
of the whole file: see `xpnn._core.files.sealed`. The one before is kept beside each file, as
``FILE.previous``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from xpnn._core.files import SEAL, PathLike, as_path, replacing, sealed, unsealed
from xpnn._core.mapped import blocks
from xpnn._core.parts import as_plain, identity, is_plain, public_attributes, shown
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

# 1 described the parts of a run by their texts
FORMAT = 2

# of the arrays that a file can hold
_DTYPES = (
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "float16", "float32", "float64", "complex64",
)  # fmt: skip


class SavedRun(NamedTuple):
    """A run between two epochs.

    Attributes
    ----------
    settings
        What the run was asked for: numbers, texts and lists.
    parts
        The `identity` of each part, the labels and the names of the columns; None in files of
        format 1, whose settings describe the parts.
    history
        The rows of its log.
    data
        The `fingerprint` of each data set, None for one that there isn't.
    random_state
        ``RandomState.get_state(legacy=False)``.
    carry
        What a training step hands on to the next, on the host, by path: see
        `xpnn._core.tree.paths`.
    callbacks
        What `Callback.state` returned, by the callback's name and then its own.
    identities
        What told each callback from others of its class when the run began, by its name.
    """

    settings: dict[str, Any]
    parts: dict[str, Any] | None
    history: list[list[float]]
    data: dict[str, Any]
    random_state: dict[str, Any]
    carry: dict[str, np.ndarray]
    callbacks: dict[str, dict[str, Any]]
    identities: dict[str, Any]

    @property
    def rows(self) -> list[Epoch]:
        """The rows of the log."""
        return [Epoch(int(row[0]), *row[1:]) for row in self.history]

    @property
    def done(self) -> int:
        """The number of epochs that are done."""
        return int(self.history[-1][0])


def taken(run: Run, *, of_the_model: bool = False) -> SavedRun:
    """Return everything that a run needs to go on; see `Run.checkpoint`.

    With `of_the_model`, its parameters are those that the model has now, which a callback may have
    put back, and also those of a run that ended within an epoch, whose optimizer begins afresh
    then. The data are not told.
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
        name: checked_state(type(callback).__name__, callback.state())
        for name, callback in zip(names, run.callbacks, strict=True)
    }
    return SavedRun(
        settings=as_plain(run.settings),
        parts=run.parts,
        history=[list(row) for row in run.history],
        data={} if of_the_model else run.fingerprints,
        random_state=run.rng.get_state(legacy=False),
        carry=on_host(carry, backend),
        callbacks={name: state for name, state in kept.items() if state},
        identities=dict(zip(names, run.identities, strict=True)),
    )


def go_on(run: Run, saved: SavedRun, *, compared: bool) -> None:
    """Let a run that has just begun go on from a saved one.

    Parameters
    ----------
    compared
        Whether `check` has found both to be the same run. If not, an optimizer whose state isn't
        the saved one's in names, shapes and dtypes begins afresh.

    Raises
    ------
    DataError
        If the arrays don't have the names, shapes and dtypes of the saved ones.
    """
    backend, _ = run.model.placed()
    own, arrays = on_host(run.carry, backend), saved.carry
    if not compared and same_arrays(_state(arrays), _state(own)):
        arrays = {**{name: arrays[name] for name in arrays.keys() - _state(arrays)}, **_state(own)}
    wrong = same_arrays(arrays, own)
    if wrong:
        raise DataError(
            f"{run.resumed or 'resume'} doesn't fit the model and the optimizer: {wrong}"
        )
    run.carry = on_device(arrays, run.carry, backend)
    run.model.parameters, run.model.buffers, _ = run.carry
    run.rng.set_state(saved.random_state)
    for row in saved.rows:
        run.history.append(row)
    run.history.resumed = saved.done
    for name, callback in zip(_matched(run, saved), run.callbacks, strict=True):
        callback.restore({} if name is None else saved.callbacks.get(name, {}))


def _state(carry: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return those arrays of a carry, parameters, buffers and state, that are the optimizer's."""
    return {name: array for name, array in carry.items() if name.startswith("2.")}


def check(run: Run, saved: SavedRun) -> None:
    """Raise unless a checkpoint belongs to this run; only `epochs` may be larger.

    Raises
    ------
    ArgumentError, DataError
        Naming the setting or the data set, what it was and what it is.
    """
    free = {"epochs", "card", "not_recorded"}
    if run.settings["reproducible"]:
        free |= {"backend", "device"}
    was, now = _compared(run, saved)
    for name in [name for name in {**now, **was} if name not in free]:
        if was.get(name) != now.get(name):
            hint = "; a reproducible run may change it" if name in ("backend", "device") else ""
            raise ArgumentError(
                f"{name} must be {_told(was.get(name))} as in {run.resumed}, "
                f"got {_told(now.get(name))}{hint}"
            )
    if run.epochs < saved.done:
        raise ArgumentError(
            f"epochs must be >= {saved.done}, which are done in {run.resumed}, got {run.epochs}"
        )
    schedule = run.method.schedule
    if schedule is not None and _has_changed(schedule, was["epochs"], run.epochs, saved.rows):
        raise ArgumentError(
            f"epochs must be {was['epochs']} as in {run.resumed}, for {schedule!r} depends on "
            f"them, got {run.epochs}"
        )
    for name, data in run.fingerprints.items():
        before = saved.data[name]
        if data != before:
            raise DataError(
                f"{name} must be the data of {run.resumed}, {_described(before)}, "
                f"got {_described(data)}"
            )


# of the columns of a table
_NAMES = ("feature_names", "target_name")


def _compared(run: Run, saved: SavedRun) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the settings and parts of a saved run, and those of this one in the same terms."""
    now = as_plain(run.settings) | run.parts
    if saved.parts is not None:
        return saved.settings | saved.parts, now
    # format 1 had the text of each part, with what the text doesn't show after "with"
    was = dict(saved.settings)
    now["layers"] = list(map(_text, run.model.layers))
    for name, part in _parts(run).items():
        text = type(part).__name__ if repr(part).startswith("<") else repr(part)
        now[name] = None if part is None else text
        was[name] = None if was.get(name) is None else was[name].partition(" with ")[0]
    return was, now


def _text(layer: Layer) -> str:
    """Return a layer as format 1 had it."""
    settings = layer.config()
    if isinstance(layer, Activation):
        settings = {"name": layer.name, **layer.parameters}
    if isinstance(layer, Dense):
        settings = {
            name: "he_normal" if name == "weight" and value == GIVEN else value
            for name, value in settings.items()
            if (name, value) != ("bias", GIVEN)
        }
    given = ", ".join(f"{name}={value!r}" for name, value in settings.items())
    return f"{type(layer).__name__}({given})"


def _parts(run: Run) -> dict[str, Any]:
    """Return the parts of a run beside its layers."""
    method, task = run.method, run.samples.task
    return {
        "loss": method.loss,
        "optimizer": method.optimizer,
        "schedule": method.schedule,
        "normalizer": task.normalizer,
        "target_normalizer": task.target_normalizer,
    }


def parts_of(run: Run) -> dict[str, Any]:
    """Return what tells the parts of a run, and the names in its data, from those of others."""
    labels = run.samples.task.labels
    parts = {
        "layers": list(run.model.layers),
        **_parts(run),
        "labels": None if labels is None else labels.tolist(),
        **{name: getattr(run.samples.train, name, None) for name in _NAMES},
    }
    return as_plain(identity(parts))  # type: ignore[no-any-return]


def _told(value: Any) -> str:
    """Return a setting, or what `identity` returned for a part, as a message shows it."""
    if isinstance(value, list):
        return f"[{', '.join(map(_told, value))}]"
    return repr(shown(value) if isinstance(value, dict) else value)


def _has_changed(schedule: Schedule, before: int, now: int, rows: Sequence[Epoch]) -> bool:
    """Return whether the epochs that are done would have had other rates in this run."""
    for epoch in range(1, len(rows)):
        time = np.asarray([epoch - 1.0])
        was, new = (schedule.factors(time, count, rows[:epoch]) for count in (before, now))
        if was != new:
            return True
    return False


def told_apart(callback: Callback) -> Any:
    """Return what tells a callback from others of its class, given as it was made."""
    kind = type(callback)
    attributes = {
        name: identity(own) for name, own in public_attributes(callback).items() if is_plain(own)
    }
    return as_plain({"class": f"{kind.__module__}.{kind.__qualname__}", "attributes": attributes})


def _names(callbacks: Sequence[Callback]) -> list[str]:
    """Return the class and number of each callback: other ones may come and go."""
    kinds = [type(callback).__name__ for callback in callbacks]
    return [f"{kind}-{kinds[: i + 1].count(kind)}" for i, kind in enumerate(kinds)]


def _matched(run: Run, saved: SavedRun) -> list[str | None]:
    """Return the name that each callback of a run has in a saved one, None where it is new.

    Callbacks of one class are told apart by what they were made with; those that weren't made alike
    are taken in their order.
    """
    if not saved.identities:  # format 1 knew them by their order only
        return list(_names(run.callbacks))
    left = list(saved.identities)
    found: list[str | None] = [None] * len(run.callbacks)
    kinds = [name.rpartition("-")[0] for name in _names(run.callbacks)]
    for alike in (True, False):
        for i, (kind, own) in enumerate(zip(kinds, run.identities, strict=True)):
            if found[i] is not None:
                continue
            same = [name for name in left if name.rpartition("-")[0] == kind]
            if alike:
                same = [name for name in same if saved.identities.get(name) == own]
            if same:
                found[i] = same[0]
                left.remove(same[0])
    return found


def fingerprints(samples: Samples) -> dict[str, Any]:
    """Return the fingerprint of each data set, None for one that there isn't."""
    train = samples.train._asdict()
    if samples.weights is not None:
        train["weights"] = samples.weights
    validation = samples.validation
    return {
        "train": fingerprint(train),
        "validation": None if validation is None else fingerprint(validation._asdict()),
    }


def _described(data: dict[str, Any] | None) -> str:
    if data is None:
        return "none"
    parts = [
        f"{name} {'×'.join(map(str, shape))} {dtype}"
        for name, (dtype, *shape) in data.items()
        if name != "sha256"
    ]
    return f"{' and '.join(parts)} with SHA-256 {data['sha256'][:16]}…"


def previous(path: PathLike) -> Path:
    """Return where the file that was replaced last is kept."""
    path = Path(path).resolve()
    return path.with_name(f"{path.name}.previous")


def write(saved: SavedRun, path: PathLike) -> None:
    """Write a file that `read` reads, and keep the whole one that was there as `previous`.

    One that is not whole is kept as ``FILE.damaged``, so that it doesn't take the place of a good
    one.

    Raises
    ------
    ArgumentError
        If it can't be written; the old one is as it was.
    """
    import json

    key = saved.random_state["state"]["key"]
    arrays = {f"carry.{name}": array for name, array in saved.carry.items()}
    plain: dict[str, dict[str, Any]] = {}
    for callback, kept in saved.callbacks.items():
        plain[callback] = {}
        for name, value in kept.items():
            if isinstance(value, np.ndarray):
                arrays[f"callbacks.{callback}.{name}"] = value
            else:
                plain[callback][name] = value
    arrays["random_state"] = key
    description = {
        "format": FORMAT,
        "xpnn": __version__,
        "settings": saved.settings,
        "parts": saved.parts,
        "history": saved.history,
        "data": saved.data,
        "callbacks": plain,
        "identities": saved.identities,
        "random_state": {
            **saved.random_state,
            "state": {"pos": saved.random_state["state"]["pos"]},
        },
    }
    raw = sealed(arrays, {"checkpoint": json.dumps(description)})
    try:
        with replacing(path, keep=_kept, part=f".{Path(path).resolve().name}.part") as beside:
            beside.write_bytes(raw)
    except OSError as error:
        raise ArgumentError(f"can't write checkpoint {str(path)!r}: {error.strerror}") from None


def _kept(path: Path) -> Path:
    try:
        _whole(path)
    except DataError:
        return path.with_name(f"{path.name}.damaged")
    return previous(path)


def read(path: PathLike) -> tuple[SavedRun, str | None]:
    """Read what `write` wrote, or the previous one where that is damaged.

    Returns
    -------
    saved
        The run.
    note
        None if all is well; what is wrong with the file if the previous one was taken.

    Raises
    ------
    DataError
        If neither can be read; it says what is wrong with the first.
    ArgumentError
        If `path` is no path.
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


def _whole(path: PathLike) -> tuple[bytes, dict[str, Any]]:
    """Return the bytes of a file that is as it was written, and its description."""
    import json

    metadata, raw = unsealed(path, "checkpoint")
    if "checkpoint" not in metadata and "xpnn" in metadata:
        raise DataError(f"{path} is a model, and not a checkpoint")
    if "checkpoint" not in metadata or SEAL not in metadata:
        raise DataError(f"{path} is no checkpoint, a damaged one, or one of an older xpnn")
    description = json.loads(metadata["checkpoint"])
    if description["format"] > FORMAT:
        raise DataError(
            f"{path} was written by xpnn {description['xpnn']}, whose checkpoint format "
            f"{description['format']} is newer than this one's ({FORMAT})"
        )
    return raw, description


def _read(path: PathLike) -> SavedRun:
    from safetensors.numpy import load

    raw, description = _whole(path)
    arrays = load(raw)
    state = description["random_state"]
    state["state"]["key"] = arrays.pop("random_state")
    carry: dict[str, np.ndarray] = {}
    callbacks: dict[str, dict[str, Any]] = description["callbacks"]
    for name, array in arrays.items():
        kind, _, rest = name.partition(".")
        if kind == "carry":
            carry[rest] = array
        else:
            callback, _, rest = rest.partition(".")
            callbacks[callback][rest] = array
    return SavedRun(
        description["settings"],
        description.get("parts"),
        description["history"],
        description["data"],
        state,
        carry,
        callbacks,
        description.get("identities", {}),
    )


def checked_state(callback: str, state: Any) -> dict[str, Any]:
    """Return a copy of what a callback of the class of this name must have again.

    Raises
    ------
    ArgumentError
        If it isn't a dictionary of arrays, numbers and texts; it names callback, key and type.
    """
    if not isinstance(state, dict):
        raise ArgumentError(
            f"state of the callback {callback} must be a dictionary, got {type(state).__name__}"
        )
    copies: dict[str, Any] = {}
    for name, value in state.items():
        if isinstance(name, str) and isinstance(value, str | bool | int | float):
            copies[name] = value
            continue
        array = isinstance(value, np.ndarray | np.generic)
        if not (isinstance(name, str) and array and value.dtype.name in _DTYPES):
            kind = f"array of {value.dtype}" if array else type(value).__name__
            raise ArgumentError(
                f"state of the callback {callback} must be NumPy arrays of numbers, numbers and "
                f"texts by name, got {kind} as {name!r}"
            )
        copies[name] = np.array(value, value.dtype.newbyteorder("="))
    return copies


def fingerprint(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return shapes and dtypes of host arrays, and the SHA-256 of their bytes.

    They are read in blocks, so that they may be mapped from files that are larger than the memory.
    """
    digest = hashlib.sha256()
    for array in arrays.values():
        for _, rows in blocks(array):
            digest.update(np.ascontiguousarray(rows, array.dtype.newbyteorder("<")).data)
    shapes = {name: [array.dtype.name, *array.shape] for name, array in arrays.items()}
    return {**shapes, "sha256": digest.hexdigest()}


def on_host(nest: Any, backend: Backend) -> dict[str, np.ndarray]:
    """Return copies of all arrays of a nest on `backend`, by their paths in it."""
    return {path: np.array(backend.to_numpy(leaf)) for path, leaf in paths(nest).items()}


def on_device(arrays: Mapping[str, np.ndarray], like: Any, backend: Backend) -> Any:
    """Return a nest like `like` of copies of what `on_host` returned."""
    return rebuilt(like, [backend.asarray(np.array(arrays[path])) for path in paths(like)])


def same_arrays(given: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray]) -> str | None:
    """Return how names, shapes or dtypes of `given` differ from `wanted`, None if they don't."""
    for name in sorted({*given, *wanted}):
        shown = [
            f"{arrays[name].dtype} of shape {arrays[name].shape}" if name in arrays else "none"
            for arrays in (wanted, given)
        ]
        if shown[0] != shown[1]:
            return f"{name} must be {shown[0]}, got {shown[1]}"
    return None

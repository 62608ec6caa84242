"""A job of a study: what it asks for, and how it is done."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xpnn._core import limits
from xpnn._core.registry import error_text, load_parts, position_in
from xpnn.activations import ACTIVATIONS
from xpnn.backends import Backend, get_backend
from xpnn.callbacks import EarlyStopping
from xpnn.datasets import Dataset, NamedDataset
from xpnn.datasets.dataset import fingerprint
from xpnn.errors import ArgumentError, DataError, Door, XpnnError, entered
from xpnn.metrics import METRICS, as_metric
from xpnn.settings import FIELDS, Settings
from xpnn.source import READING, Source
from xpnn.study.machine import machine_record
from xpnn.training.callback import Callback
from xpnn.training.history import Epoch

# the version of the content that `execute` returns
FORMAT = 1
# the rule by which initial parameters were drawn when studies and results didn't say it yet
EARLIER_INIT = "he_normal"
# the columns of the log that each result holds; those of the metrics come after them
FIGURES = Epoch._fields[1:]
# what a result holds only where it is given
_LATER = ("metrics", "patience")

MNIST = Source("data/mnist")

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Job:
    """A run that a study asks for: only texts and numbers, which pickle and JSON can hold.

    Parameters
    ----------
    settings
        The network and its training.
    source
        The data, and how they are read.
    backend, device, dtype, reproducible
        As for `get_backend`.
    environment
        Environment variables with which the job's process starts, such as ``OPENBLAS_CORETYPE``.
    parts
        The files of the user's own parts, in the order in which they are loaded, each with its
        SHA-256: see `load_own_parts`.
    metrics
        More figures of the log, as a text such as "f1,roc_auc"; None for none.
    patience
        The epochs without improvement of the test loss after which the run stops, with the
        parameters of the best one; None for never.
    """

    settings: Settings
    source: Source = MNIST
    backend: str = "numpy"
    device: str | None = None
    dtype: str = "float32"
    reproducible: bool = False
    environment: tuple[tuple[str, str], ...] = ()
    parts: tuple[tuple[str, str], ...] = ()
    metrics: str | None = None
    patience: int | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the log that hold `metrics`, without "train_" and "test_"."""
        texts = [] if self.metrics is None else METRICS.split(self.metrics)
        return tuple(as_metric(text).column for text in texts if text != "accuracy")

    def as_dict(self) -> dict[str, Any]:
        """Return the job as `from_dict` takes it: settings, source and the rest, side by side."""
        own = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)[2:]}
        own["environment"], own["parts"] = dict(self.environment), dict(self.parts)
        return {**dataclasses.asdict(self.settings), **dataclasses.asdict(self.source), **own}

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Job:
        """Return the job that `as_dict` described."""
        settings = Settings(**{k: v for k, v in given.items() if k in FIELDS})
        source = dataclasses.replace(cls.source, **{k: given[k] for k in READING if k in given})
        rest = {k: v for k, v in given.items() if k not in FIELDS and k not in READING}
        rest["environment"] = tuple(sorted(dict(rest.get("environment", {})).items()))
        rest["parts"] = tuple(dict(rest.get("parts", {})).items())
        return cls(settings, source, **rest)

    def replaced(self, **changes: Any) -> Job:
        """Return the job with some of the values in `as_dict` changed."""
        return self.from_dict({**self.as_dict(), **changes})

    def make_backend(self) -> Backend:
        """Return the backend that the job runs on."""
        return get_backend(
            self.backend, device=self.device, dtype=self.dtype, reproducible=self.reproducible
        )

    def identity(self) -> dict[str, Any]:
        """Return what tells one job from another, however its settings are written.

        ``h_swish:n=6`` is the same as ``h_swish``, whose default is 6. The files of the data and
        the parts don't count, nor does how the data are read, which their fingerprint shows.
        """
        settings, source = self.settings, self.source
        name, given = ACTIVATIONS.parse(settings.activation)
        parameters = {**ACTIVATIONS.parameters(name), **given}
        schedule = settings.make_schedule()
        # results from before these settings have file names without them
        later = {
            "batch_norm": settings.batch_norm,
            "dropout": settings.dropout,
            "schedule": schedule and repr(schedule),
            "clip_norm": settings.clip_norm and float(settings.clip_norm),
            "class_weight": str(settings.make_class_weight() or ""),
            "parts": [digest for _, digest in self.parts],
            "init": "" if settings.init == EARLIER_INIT else settings.init,
            "metrics": list(self.columns),
            "patience": self.patience,
            **source.applied,
        }
        return {
            "hidden": [int(width) for width in settings.hidden.split(",") if settings.hidden],
            # floats, so that 6 and 6.0 are the same
            "activation": [
                name,
                {k: float(v) if isinstance(v, int | float) else v for k, v in parameters.items()},
            ],
            "optimizer": repr(settings.make_optimizer()),
            "loss": repr(settings.make_loss()),
            "epochs": settings.epochs,
            "batch_size": settings.batch_size,
            "seed": settings.seed,
            "backend": self.backend,
            "device": self.device,
            "dtype": self.dtype,
            "reproducible": self.reproducible,
            "environment": dict(self.environment),
            **{name: value for name, value in later.items() if value},
        }

    @functools.cached_property
    def key(self) -> str:
        """The `identity` as text: equal for jobs that ask for the same."""
        return repr(self.identity())

    def file_name(self, fingerprint: str) -> str:
        """Return the name of the file with the result for data with this fingerprint."""
        own = self.identity()
        identity = json.dumps({**own, "data": fingerprint}, sort_keys=True)
        digest = hashlib.sha256(identity.encode()).hexdigest()[:12]
        activation, parameters = own["activation"]
        words = [
            activation,
            *(f"{k}={v:g}" for k, v in parameters.items() if isinstance(v, float)),
            *map(str, own["hidden"]),
            own["optimizer"],
            f"flood={self.settings.flood}" if "Flooding" in own["loss"] else "",
            str(self.settings.epochs),
            self.backend,
            self.dtype,
            "reproducible" if self.reproducible else "",
            *own["environment"].values(),
        ]
        plain = re.sub(r"[^A-Za-z0-9.=]+", "-", " ".join(filter(None, words)))
        return f"{plain[:100].strip('-')}-{digest}.json"

    def __str__(self) -> str:
        """Return the settings that differ from the defaults, activation and optimizer always."""
        plain = Job(Settings()).as_dict()
        paths = ("data", "validation" if self.source.share is None else "", "parts")
        given = {k: v for k, v in self.as_dict().items() if v != plain[k] and k not in paths}
        given |= given.pop("environment", {})
        shown = {"activation": self.settings.activation, "optimizer": self.settings.optimizer}
        return " ".join(f"{k}={v}" for k, v in {**shown, **given}.items())


# the files of parts that ran in this process, each with the SHA-256 that it had
_loaded: dict[str, str] = {}


def load_own_parts(paths: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Load files with the user's own parts; a file that was loaded before only if it has changed.

    Returns
    -------
    parts
        Each path, with the SHA-256 of the file.

    Raises
    ------
    ArgumentError
        As `load_parts` does.
    """
    found = tuple((path, _digest(path)) for path in paths)
    for path, digest in found:
        if _loaded.get(path) != digest:
            load_parts(path)
            _loaded[path] = digest
    return found


def loaded_parts(paths: Iterable[str]) -> tuple[tuple[str, str], ...] | None:
    """Return what `load_own_parts` does if all files were loaded before; None if it would run one.

    A study or a folder of results may come from anybody. What is only read runs nothing.
    """
    found = tuple((path, _digest(path)) for path in paths)
    return found if all(_loaded.get(path) == digest for path, digest in found) else None


def _digest(path: str) -> str:
    # `load_parts` says what is wrong with a file that can't be read
    content = limits.read_bytes(path) if Path(path).is_file() else b""
    return hashlib.sha256(content).hexdigest()


@functools.lru_cache(maxsize=1)
@entered(Door.STUDY)
def load_data(source: Source) -> tuple[Dataset, Dataset | None, str]:
    """Return what `Source.read` does, and the SHA-256 of it; the last data are cached."""
    data, other = source.read()
    digest = fingerprint(data, other)
    weights = data.weights if isinstance(data, NamedDataset) else None
    if weights is not None:
        digest = fingerprint(Dataset(np.array([digest]), weights))
    return data, other, digest


class _Reporter(Callback):
    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def on_epoch(self, epoch: Epoch) -> None:
        self.progress(epoch.epoch)


@limits.bounded
@entered(Door.STUDY)
def execute(
    job: Job,
    fingerprint: str,
    progress: Progress | None = None,
    *,
    max_bytes: int | None = None,
) -> dict[str, Any]:
    """Do a job and return its result, in the form in which `write_result` takes it.

    The function depends only on its arguments, so that any executor can call it; the worker needs
    xpnn, the data and the parts.

    Parameters
    ----------
    job
        The job. Its environment isn't set here: see `xpnn.study.worker.Processes`.
    fingerprint
        The fingerprint of the data that the job is meant for.
    progress
        Called with the number of each finished epoch.
    max_bytes
        How many bytes the data may have: see `xpnn.datasets.load`.

    Raises
    ------
    XpnnError
        If the job can't be done, the run diverges, one of the user's parts raises, or the data or
        the parts have changed.
    """
    paths = [path for path, _ in job.parts]
    if load_own_parts(paths) != job.parts:
        raise DataError(f"{', '.join(paths)} changed after the study was started")
    data, other, found = load_data(job.source)
    if found != fingerprint:
        raise DataError(f"the data in {job.source.data} are not those of the study")
    train, test = job.source.divided(data, other, job.settings.seed)
    settings, options = job.source.options(job.settings, train)
    backend = job.make_backend()
    model = settings.make_model(train, test, options["labels"])
    callbacks: list[Callback] = [_Reporter(progress)] if progress else []
    if job.patience is not None:
        callbacks.append(EarlyStopping("test_loss", patience=job.patience))
    try:
        history = settings.fit(
            model, train, test, backend=backend, callbacks=callbacks, metrics=job.metrics, **options
        )
    except XpnnError:
        raise
    except (Exception, SystemExit) as error:
        position = position_in(error, {path: path for path in paths})
        if position is None:
            raise
        raise ArgumentError(f"{position}: {error_text(error)}") from error
    # the fingerprint stands for the files and how they are read
    about = {name: value for name, value in job.as_dict().items() if name not in READING}
    about |= job.source.applied
    if settings.loss is None:
        # as results have always held it
        about["loss"] = "cross_entropy"
    # results from before these have none either
    about = {name: value for name, value in about.items() if value or name not in _LATER}
    return {
        "format": FORMAT,
        "run": about,
        "data": fingerprint,
        "weights_sha256": model.sha256(),
        "machine": machine_record(backend),
        "log": {name: history.column(name) for name in (*FIGURES, *history[0].metrics)},
    }

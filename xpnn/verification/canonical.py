"""Standard runs whose hashes are published with xpnn, and data made for them."""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from xpnn._version import ARITHMETIC
from xpnn.backends import get_backend
from xpnn.datasets import Dataset
from xpnn.settings import Settings
from xpnn.verification.record import record


def generated(
    samples: int = 2000, features: int = 64, classes: int = 10
) -> tuple[Dataset, Dataset]:
    """Return a small classification problem that is the same on every platform.

    A class is a random pattern of bytes; a sample is the mean of its class and three patterns of
    noise. Only integers are drawn; features are ``float32(byte / 255)``, as those of MNIST are.

    Parameters
    ----------
    samples, features, classes
        The number of each. Three quarters of the samples are for training.

    Returns
    -------
    train, test
        Features of shape (n, features) and labels of shape (n,).
    """
    rng = np.random.RandomState(0)
    patterns = rng.randint(0, 256, (classes, features))
    y = rng.randint(0, classes, samples)
    noise = rng.randint(0, 256, (3, samples, features)).sum(axis=0)
    x = (((patterns[y] + noise) // 4) / 255).astype(np.float32)
    cut = samples * 3 // 4
    return Dataset(x[:cut], y[:cut]), Dataset(x[cut:], y[cut:])


class Canonical(NamedTuple):
    """A standard run, and the hashes that it must give on every backend.

    Attributes
    ----------
    name
        What the run shows.
    data
        "generated", for `generated`, or "mnist".
    dtype, settings
        The dtype and the settings of the run.
    hashes
        `Sequential.sha256` of the untrained model and after each epoch.
    log
        The lines of the log: epoch, training accuracy and loss, test accuracy and loss.
    arithmetic
        The name of the arithmetic that gives these hashes; see docs/versions.md.
    """

    name: str
    data: str
    dtype: str
    settings: Settings
    hashes: tuple[str, ...] = ()
    log: tuple[str, ...] = ()
    arithmetic: str = ARITHMETIC


def canonical_runs() -> list[Canonical]:
    """Return the standard runs with their published hashes."""
    folder = importlib.resources.files("xpnn.verification")
    text = folder.joinpath("canonical.json").read_text("utf-8")
    runs = [
        Canonical(**{**run, "settings": Settings(**run["settings"])}) for run in json.loads(text)
    ]
    return [run._replace(hashes=tuple(run.hashes), log=tuple(run.log)) for run in runs]


def run_canonical(
    run: Canonical, data: tuple[Dataset, Dataset], name: str, *, device: str | None = None
) -> Canonical:
    """Repeat a standard run on a backend, and return it with the new hashes and the new log.

    Parameters
    ----------
    run
        The standard run.
    data
        Training and test data.
    name, device
        The name and the device of the backend, as for `xpnn.backends.get_backend`.
    """
    backend = get_backend(name, device=device, dtype=run.dtype, reproducible=True)
    found = record(run.settings, *data, backend)
    return run._replace(hashes=tuple(found.hashes), log=tuple(found.log))


def as_json(runs: Sequence[Canonical]) -> str:
    """Return the text of ``canonical.json`` for `runs`."""
    listed = [{**run._asdict(), "settings": run.settings.changed()} for run in runs]
    return json.dumps(listed, indent=1) + "\n"

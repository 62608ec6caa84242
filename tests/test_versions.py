"""The promise of docs/versions.md: bits change only under another name."""

import hashlib
import json

import numpy as np
import pytest

import xpnn
from xpnn._version import ARITHMETIC
from xpnn.verification import canonical_runs

# of the published hashes and logs of each arithmetic there ever was: none is ever changed here
KEPT = {"xpnn-1": "51b4a862f602a49344222b1eb01f6fabc4bc0df2b7e6c935656fac2eb2c8e775"}


def train(**options):
    x = np.random.RandomState(0).randn(8, 3)
    model = xpnn.Sequential(xpnn.Dense(2))
    xpnn.fit(model, (x, np.arange(8) % 2), batch_size=4, seed=0, **{"epochs": 1, **options})
    return model


def test_the_hashes_of_every_arithmetic_are_kept():
    published = {}
    for run in canonical_runs():
        own = [run.name, run.data, run.dtype, run.settings.changed(), run.hashes, run.log]
        published.setdefault(run.arithmetic, []).append(own)
    found = {
        name: hashlib.sha256(json.dumps(sorted(runs)).encode()).hexdigest()
        for name, runs in published.items()
    }
    assert found == KEPT
    assert ARITHMETIC in KEPT


def test_a_reproducible_run_names_its_arithmetic(tmp_path):
    model = train(reproducible=True)
    assert model.history.settings["arithmetic"] == ARITHMETIC
    xpnn.save(model, tmp_path / "model")
    assert xpnn.load(tmp_path / "model").history.settings["arithmetic"] == ARITHMETIC
    assert "arithmetic" not in train().history.settings


def test_a_run_goes_on_only_in_its_arithmetic(tmp_path, monkeypatch):
    path = tmp_path / "run"
    train(reproducible=True, callbacks=[xpnn.Checkpoint(path)])
    monkeypatch.setattr("xpnn.backends.base.ARITHMETIC", "xpnn-2")
    with pytest.raises(xpnn.ArgumentError, match=r"arithmetic must be 'xpnn-1' as in .* 'xpnn-2'"):
        train(reproducible=True, resume=path, epochs=2)

"""`xpnn.testing` finds nothing in xpnn's own parts; what it reports, and what it refuses."""

import re

import numpy as np
import pytest

import xpnn
from tests.helpers import ROOT, shipped
from xpnn.activations import ACTIVATIONS
from xpnn.backends import BACKENDS
from xpnn.losses import LOSSES
from xpnn.testing import PartError, check_gradients


@pytest.mark.parametrize("activation", shipped(ACTIVATIONS))
def test_every_activation_is_right(activation):
    assert check_gradients(activation, backends=["numpy"]).part == activation


@pytest.mark.parametrize("loss", shipped(LOSSES))
def test_every_loss_is_right(loss, name):
    double, single = check_gradients(LOSSES[loss](), backends=[name]).rows
    assert double.entries > 300
    assert double.error < 1e-6
    assert single.error < 1e-4


def shown(part):
    return getattr(part, "__name__", repr(part))


@pytest.mark.parametrize(
    "part",
    [
        "relu6:cap=2.5",
        xpnn.Activation("gelu", approximate="tanh"),
        lambda u, *, xp: (u * u * u, lambda dz: 3.0 * u * u * dz),
        lambda u, *, xp: (u * xp.abs(u), lambda dz: 2.0 * xp.abs(u) * dz),
        lambda u, *, xp: (xp.sin(30.0 * u), lambda dz: 30.0 * xp.cos(30.0 * u) * dz),
        xpnn.Dense(3),
        xpnn.Dense(4, bias=False),
        xpnn.Dropout(0.25),
        xpnn.BatchNorm(),
        xpnn.CrossEntropy(label_smoothing=0.2),
        xpnn.Flooding(xpnn.CrossEntropy(), b=5.0),
        xpnn.MeanSquaredError(),
        xpnn.Flooding(xpnn.MeanSquaredError(), b=0.5),
        xpnn.BinaryCrossEntropy(),
        xpnn.Huber(delta=0.25),
        xpnn.Flooding(xpnn.Poisson(), b=0.5),
        xpnn.Quantile(0.9),
        xpnn.Focal(0.5, alpha=(0.5, 2, 0, 1)),
        xpnn.Focal(5),
        xpnn.BinaryFocal(0.5, alpha=0.25),
        xpnn.Sequential(xpnn.Dense(5), xpnn.Activation("relu"), xpnn.Dense(2)),
    ],
    ids=shown,
)
def test_right_parts(part):
    double, single = check_gradients(part, backends=["numpy"]).rows
    assert double.entries > 0
    assert double.error < 1e-6
    assert single.error < 1e-4


@pytest.mark.parametrize(
    "part",
    [
        xpnn.activations.tanhexp,
        xpnn.CrossEntropy(),
        xpnn.Sequential(xpnn.Dense(2), xpnn.BatchNorm(), xpnn.Dropout(0.25)),
    ],
    ids=shown,
)
def test_right_parts_on_every_backend(part, name):
    report = check_gradients(part, backends=[name])
    double, single = report.rows
    assert (double.backend, double.dtype, single.dtype) == (name, "float64", "float32")
    assert double.entries > 0
    assert double.error < 1e-6
    assert single.error < 1e-4


def test_several_quantiles():
    targets = np.random.RandomState(0).uniform(0, 2, (5, 2))
    (double, _) = check_gradients(
        xpnn.Quantile((0.1, 0.9)), targets=targets, backends=["numpy"]
    ).rows
    assert double.error < 1e-6


def test_targets_of_a_loss():
    labels = np.array([0, 3, 1, 2, 0, 0])
    numpy = ["numpy"]
    report = check_gradients(xpnn.CrossEntropy(), targets=labels, backends=numpy)
    # of 25 sizes about 0 and the targets, of 3 sizes with 2 samples and all, and with weights
    assert report.rows[0].entries == 25 * 2 * 4 + 3 * (8 + 24) + 4 + 3 * (8 + 24)
    one = check_gradients(xpnn.BinaryCrossEntropy(), inputs=1, targets=labels % 2, backends=numpy)
    assert one.rows[0].entries == 25 * 2 + 3 * (2 + 6) + 1 + 3 * (2 + 6)


def test_a_trained_model():
    rng = np.random.RandomState(0)
    model = xpnn.Sequential(xpnn.Dense(30), xpnn.Activation("relu"), xpnn.Dense(3))
    xpnn.fit(model, (rng.standard_normal((40, 6)), rng.randint(0, 3, 40)), epochs=2, seed=1)
    before = model.sha256()
    (row, _) = check_gradients(model, backends=["numpy"]).rows
    # of 180 weights, 100 are drawn, and 25 for each other mini-batch
    assert row.entries == 100 + 30 + 90 + 3 + 4 * (25 + 25 + 25 + 3)
    assert model.sha256() == before


def test_kinks_are_told_apart():
    rows = {
        activation: check_gradients(activation, backends=["numpy"]).rows[0].kinks
        for activation in ("relu", "relu6", "leaky_relu", "h_swish", "tanh", "elu", "elu:alpha=2")
    }
    assert rows == {
        "relu": 1, "relu6": 2, "leaky_relu": 1, "h_swish": 2, "tanh": 0, "elu": 0, "elu:alpha=2": 1
    }  # fmt: skip


def test_the_report_is_a_table(monkeypatch):
    monkeypatch.setattr("xpnn.backends.CupyBackend.module", "not_a_module")
    report = check_gradients("relu")
    lines = str(report).splitlines()
    assert lines[0] == "relu: the derivative is right"
    assert lines[1].split() == ["backend", "dtype", "entries", "kinks", "largest", "error"]
    assert ["numpy", "float64", "4120", "1", "0.0e+00"] in [line.split() for line in lines]
    assert any(line.startswith("skipped cupy: backend 'cupy' is not installed") for line in lines)
    names = {row.backend for row in report.rows} | set(report.skipped)
    assert names == set(BACKENDS)


def test_a_backend_that_was_asked_for_must_be_there(monkeypatch):
    monkeypatch.setattr("xpnn.backends.CupyBackend.module", "not_a_module")
    with pytest.raises(xpnn.BackendError, match="'cupy' is not installed"):
        check_gradients("relu", backends=["cupy"])


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("tanhex", "unknown activation 'tanhex'; did you mean 'tanhexp'"),
        (3, r"part must be an activation \(name or function\), a layer, a loss or a model, got 3"),
        (xpnn.Dense, "part must be .*, got <class"),
    ],
)
def test_what_is_no_part(part, message):
    with pytest.raises(xpnn.ArgumentError, match=message):
        check_gradients(part)


def test_arguments():
    with pytest.raises(xpnn.ArgumentError, match="inputs must be a whole number >= 1, got 0"):
        check_gradients("relu", inputs=0)
    with pytest.raises(xpnn.ArgumentError, match=r"targets must be of 1 sample or more, got shape"):
        check_gradients(xpnn.MeanSquaredError(), targets=np.zeros((0, 4)))
    with pytest.raises(xpnn.ArgumentError, match="targets are only for a loss"):
        check_gradients("relu", targets=np.zeros(3))
    with pytest.raises(xpnn.ArgumentError, match=r"needs a network with 2 or more outputs"):
        check_gradients(xpnn.CrossEntropy(), inputs=1)
    with pytest.raises(xpnn.ArgumentError, match=r"unknown backend 'nump'"):
        check_gradients("relu", backends=["nump"])


@pytest.mark.parametrize("backends", [[], "numpy", iter(())])
def test_backends_are_a_list_of_names(backends):
    with pytest.raises(xpnn.ArgumentError, match="backends must be a list of one name or more"):
        xpnn.testing.check_gradients("relu", backends=backends)


def test_the_page_shows_what_a_mistake_costs():
    """The message in docs/guide/own-parts.md, of its activation without the 1."""

    def squareplus(u, b=4.0, *, xp):
        root = xp.sqrt(u * u + b)
        return 0.5 * (u + root), lambda dz: 0.5 * dz * (u / root)

    page = (ROOT / "docs" / "guide" / "own-parts.md").read_text(encoding="utf-8")
    (shown,) = re.findall(
        r"^```text\n(squareplus on numpy .*?)\n```", page, re.MULTILINE | re.DOTALL
    )
    with pytest.raises(PartError) as caught:
        check_gradients(squareplus, backends=["numpy"])
    # the last digits are the machine's
    digits = r"(\d\.\d{5})\d*"
    shown, found = (re.sub(digits, r"\1", text) for text in (shown, str(caught.value)))
    assert found == shown.replace("\n", " ")

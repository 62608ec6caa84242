"""Files that earlier versions wrote: a checkpoint of format 1 and a model of format 3."""

import numpy as np
import pytest

import xpnn
from tests.helpers import ROOT

X = np.random.RandomState(5).randn(23, 4)
Y = np.arange(23) % 3
DATA = ROOT / "tests" / "training" / "data"
# of the run below, by the version that wrote the files
SHA256 = "91cfa95ed02bc5a110335054a6766170f5a0ca30700014fd108b5efbb06f750c"


def older_run(*callbacks, weight="he_normal", **options):
    """Train the network of the files in `DATA`."""
    model = xpnn.Sequential(
        xpnn.Dense(6, weight=weight), xpnn.BatchNorm(), xpnn.Activation("elu", alpha=0.5),
        xpnn.Dropout(0.25), xpnn.Dense(3, weight=weight),
    )  # fmt: skip
    arguments = {
        "loss": xpnn.Flooding(xpnn.CrossEntropy(), b=0.01),
        "optimizer": xpnn.Momentum(lr=0.05),
        "schedule": xpnn.schedules.Cosine(),
        "normalizer": "standard",
    }
    xpnn.fit(
        model, (X, Y), validation=(X, Y), epochs=4, batch_size=5, seed=3, reproducible=True,
        callbacks=callbacks, **{**arguments, **options},
    )  # fmt: skip
    return model


def test_a_checkpoint_of_format_1_goes_on():
    path = DATA / "format1.checkpoint"
    stopping = xpnn.EarlyStopping(patience=9)
    assert older_run(stopping, resume=path).sha256() == older_run().sha256() == SHA256
    assert stopping.best == 4
    # how parameters were drawn before it began is of no matter
    assert older_run(resume=path, weight="uniform").sha256() == SHA256


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer": xpnn.Momentum(lr=0.06)}, r"optimizer must be 'Momentum\(lr=0.05.* got"),
        ({"loss": xpnn.CrossEntropy()}, "loss must be 'Flooding.* got 'CrossEntropy"),
        ({"schedule": None}, "schedule must be 'Cosine.* got None"),
    ],
)
def test_a_checkpoint_of_format_1_belongs_to_its_run(options, message):
    with pytest.raises(xpnn.ArgumentError, match=message):
        older_run(resume=DATA / "format1.checkpoint", **options)


def test_a_model_of_format_3_loads():
    model = xpnn.load(DATA / "format3.safetensors")
    assert model.sha256() == SHA256
    assert repr(model) == (
        "Sequential(Dense(6), BatchNorm(momentum=0.1, eps=1e-05), "
        "Activation('elu', alpha=0.5), Dropout(0.25), Dense(3))"
    )
    assert model.task.loss == xpnn.Flooding(xpnn.CrossEntropy(), b=0.01)
    assert isinstance(model.task.normalizer, xpnn.StandardScaler)
    assert len(model.history) == 5

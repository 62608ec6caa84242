"""Files that earlier versions wrote, of every format there ever was, as docs/versions.md promises.

A new format adds a file here, and none is ever taken away or written anew.
"""

import numpy as np
import pytest

import xpnn
from tests.helpers import ROOT
from xpnn import saving
from xpnn.training import checkpoint

X = np.random.RandomState(5).randn(23, 4)
Y = np.arange(23) % 3
# of the first class, as the version gave them that wrote format5
PROBABILITIES = [
    0.6545173367018338, 0.6790856415016809, 0.6831028660182588, 0.6496859790811229,
    0.6467017422529421,
]  # fmt: skip
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


@pytest.mark.parametrize("version", [1, 2])
def test_a_checkpoint_goes_on(version):
    path = DATA / f"format{version}.checkpoint"
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


def test_a_file_of_every_format_is_here():
    models = {path.name for path in DATA.glob("*.safetensors")}
    assert models == {f"format{i}.safetensors" for i in range(1, saving.FORMAT + 1)}
    checkpoints = {path.name for path in DATA.glob("*.checkpoint")}
    assert checkpoints == {f"format{i}.checkpoint" for i in range(1, checkpoint.FORMAT + 1)}


@pytest.mark.parametrize(
    ("version", "sha256", "labels"),
    [
        (
            1,
            "366a74e718e7514326c594fd4f56e5ed742188763f17022f5acbf3b8a2a3a97e",
            "00210100121002010211001",
        ),
        (
            2,
            "f5ed34fa3b59cc1c0aa443afeade5ba69343aaec2ac33f777c53cf156d44c9f3",
            "00222100121011000101001",
        ),
        (
            4,
            "f5ed34fa3b59cc1c0aa443afeade5ba69343aaec2ac33f777c53cf156d44c9f3",
            "00222100121011000101001",
        ),
    ],
)
def test_a_model_of_numbers_loads(version, sha256, labels):
    """Hashes and predictions are those that the versions gave which wrote the files."""
    model = xpnn.load(DATA / f"format{version}.safetensors", reproducible=True)
    assert model.sha256() == sha256
    assert "".join(map(str, xpnn.predict(model, X))) == labels
    assert model.task.loss == xpnn.Flooding(xpnn.CrossEntropy(), b=0.01)


def test_a_model_of_a_table_loads():
    """A missing number is filled and has its indicator; a text that training never saw is none."""
    pandas = pytest.importorskip("pandas")
    model = xpnn.load(DATA / "format5.safetensors", reproducible=True)
    assert model.sha256() == "31e5579df8d9376a0690765fbfe7dc3b5ded6e811d6b884f6e7dadcaff1118fd"
    assert model.task.columns.config()[1]["categories"] == ["blue", "green", "red"]
    assert list(model.task.labels) == ["a", "b"]
    sizes, colours = [1.5, None, 4.0, 7.0, 3.25], ["red", "green", "blue", "purple", "green"]
    found = xpnn.predict_proba(model, pandas.DataFrame({"colour": colours, "size": sizes}))
    assert found[:, 0].tolist() == PROBABILITIES

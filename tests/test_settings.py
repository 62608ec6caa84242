import inspect

import numpy as np
import pytest

import xpnn
from xpnn.datasets import Dataset
from xpnn.settings import FIELDS, Settings, types_of

RNG = np.random.RandomState(0)
DATA = Dataset(RNG.standard_normal((20, 4)), RNG.randint(0, 3, 20))


def test_the_defaults_are_the_articles():
    settings = Settings()
    assert repr(settings.make_model(DATA).layers) == repr(
        (
            xpnn.Dense(100),
            xpnn.Activation("relu"),
            xpnn.Dense(50),
            xpnn.Activation("relu"),
            xpnn.Dense(3),
        )
    )
    assert settings.make_loss() == xpnn.CrossEntropy()
    assert settings.make_optimizer() == xpnn.optimizers.SGD(lr=0.1)
    assert (settings.epochs, settings.batch_size, settings.seed) == (50, 100, 10)


def test_fields_are_the_arguments():
    parameters = inspect.signature(Settings).parameters
    assert {name: p.default for name, p in parameters.items()} == FIELDS


def test_what_differs_from_the_defaults():
    assert Settings().changed() == {}
    assert Settings(epochs=50, seed=3, batch_norm=True).changed() == {"batch_norm": True, "seed": 3}


def test_types_of_the_fields():
    assert types_of(Settings)["batch_norm"] is bool
    assert {name: types_of(Settings)[name] for name in ("hidden", "schedule")} == {
        "hidden": str,
        "schedule": str,
    }
    assert {types_of(Settings)[name] for name in ("flood", "warmup", "dropout")} == {float}
    assert {types_of(Settings)[name] for name in ("epochs", "batch_size", "seed")} == {int}


@pytest.mark.parametrize(
    ("given", "optimizer"),
    [
        ({"optimizer": "nesterov:lr=0.2,mu=0.8"}, xpnn.Nesterov(lr=0.2, mu=0.8)),
        ({"weight_decay": 1e-4}, xpnn.optimizers.SGD(lr=0.1, weight_decay=1e-4)),
        ({"weight_decay": 0.0}, xpnn.optimizers.SGD(lr=0.1, weight_decay=0.0)),
        ({"optimizer": "sgd:lr=0.1,weight_decay=0.5"}, xpnn.optimizers.SGD(0.1, 0.5)),
        ({"optimizer": "adamw"}, xpnn.AdamW()),
        ({"optimizer": "adamw", "weight_decay": 0.0}, xpnn.AdamW(weight_decay=0.0)),
    ],
)
def test_the_optimizer(given, optimizer):
    assert Settings(**given).make_optimizer() == optimizer


@pytest.mark.parametrize(
    ("given", "loss"),
    [
        ({"flood": 0.0}, xpnn.Flooding(xpnn.CrossEntropy(), b=0.0)),
        (
            {"loss": "quantile:levels=0.1,0.9", "flood": 0.5},
            xpnn.Flooding(xpnn.Quantile((0.1, 0.9)), b=0.5),
        ),
        ({"loss": "mae"}, xpnn.MeanAbsoluteError()),
        (
            {"loss": "mean_squared_error", "flood": 0.5},
            xpnn.Flooding(xpnn.MeanSquaredError(), b=0.5),
        ),
        ({"loss": "binary_cross_entropy"}, xpnn.BinaryCrossEntropy()),
    ],
)
def test_the_loss(given, loss):
    assert Settings(**given).make_loss() == loss


@pytest.mark.parametrize(
    ("hidden", "widths"), [("", [3]), ("7", [7, 3]), ("7,6,5", [7, 6, 5, 3]), ("7, 6", [7, 6, 3])]
)
def test_hidden_layers(hidden, widths):
    layers = Settings(hidden=hidden).layers(3)
    assert [layer.units for layer in layers if isinstance(layer, xpnn.Dense)] == widths
    assert len(layers) == 2 * len(widths) - 1


def test_an_output_for_each_level_and_target():
    """A network of quantiles has more outputs than its targets have columns."""
    settings = Settings(loss="quantile:levels=0.1,0.5,0.9", flood=0.1)
    for y in (np.zeros(4), np.zeros((4, 1))):
        assert settings.make_model(Dataset(np.zeros((4, 2)), y)).outputs(2) == 3
    assert settings.make_model(Dataset(np.zeros((4, 2)), np.zeros((4, 2)))).outputs(2) == 6


@pytest.mark.parametrize(
    ("init", "names"),
    [
        ("he_normal", ["he_normal"] * 3),
        ("he_normal, zeros,glorot_uniform", ["he_normal", "zeros", "glorot_uniform"]),
    ],
)
def test_initializers(init, names):
    layers = Settings(hidden="4,5", init=init).layers(2)
    found = [layer.config()["weight"] for layer in layers if isinstance(layer, xpnn.Dense)]
    assert found == names


@pytest.mark.parametrize(
    ("labels", "outputs"), [([[0, 0]], 2), ([[0, 1], [4, 0]], 5), ([[6], [1]], 7), ([[]], 2)]
)
def test_an_output_per_class_and_at_least_two(labels, outputs):
    data = [Dataset(np.zeros((len(y), 3)), np.array(y, dtype=np.int64)) for y in labels]
    assert Settings().make_model(*data).outputs(3) == outputs


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"init": "he_norml"}, r"unknown initializer 'he_norml'; did you mean 'he_normal'\?"),
        (
            {"init": "zeros,zeros"},
            r"init must be one initializer, or one for each of the 3 dense layers, got 'zer",
        ),
        ({"hidden": "10,x"}, r"hidden must be whole numbers such as 100,50, got '10,x'"),
        ({"hidden": "10,"}, r"hidden must be whole numbers such as 100,50, got '10,'"),
        ({"hidden": "-1"}, r"hidden must be whole numbers such as 100,50, got '-1'"),
        ({"hidden": "1.5"}, r"hidden must be whole numbers such as 100,50, got '1.5'"),
        ({"hidden": "0"}, r"hidden must be a whole number >= 1, got 0"),
        ({"hidden": "1" * 5000}, r"hidden must be whole numbers such as 100,50, got '1"),
        ({"activation": "h_swich"}, r"unknown activation 'h_swich'; did you mean 'h_swish'\?"),
        ({"activation": "h_swish:m=6"}, r"unknown parameter of activation 'h_swish'.*'m'.*\bn\b"),
        ({"activation": "relu:n=6"}, r"'relu' has no parameters, got 'n'"),
        ({"activation": "h_swish:n=six"}, r"n of activation 'h_swish' must be a number, got 'six'"),
        ({"activation": "h_swish:n"}, r"'n' must have the form parameter=value"),
        ({"activation": "h_swish:n=6,n=7"}, r"'n' is given twice"),
        ({"activation": "h_swish:n=0"}, r"\bn\b.*must be a finite number > 0, got 0.0"),
        (
            {"schedule": "step:every=3.5"},
            r"every of schedule 'step' must be a whole number, got '3",
        ),
        ({"schedule": ""}, r"unknown schedule ''"),
        ({"optimizer": "sdg"}, r"unknown optimizer 'sdg'; did you mean 'sgd'\?"),
        ({"optimizer": "sgd:lr=-0.1"}, r"lr must be a finite number > 0, got -0.1"),
        ({"optimizer": "sgd:lr=nan"}, r"lr must be a finite number > 0, got nan"),
        ({"optimizer": "sgd:lr=inf"}, r"lr must be a finite number > 0, got inf"),
        ({"optimizer": "nesterov:mu=1"}, r"mu must be a number >= 0 and < 1, got 1.0"),
        ({"weight_decay": -1.0}, r"weight_decay must be a finite number >= 0, got -1.0"),
        (
            {"optimizer": "sgd:weight_decay=0.5", "weight_decay": 0.25},
            r"weight_decay is given twice: in 'sgd:weight_decay=0.5' and as 0.25",
        ),
        ({"loss": "crossentropy"}, r"unknown loss 'crossentropy'; did you mean 'cross_entropy'\?"),
        ({"epochs": -1}, r"epochs must be a whole number >= 0, got -1"),
        ({"batch_size": 0}, r"batch_size must be a whole number >= 1, got 0"),
        ({"seed": -1}, r"seed must be a whole number >= 0 and <= 4294967295, got -1"),
        ({"flood": -0.1}, r"flood must be a finite number >= 0, got -0.1"),
        ({"flood": float("nan")}, r"flood must be a finite number >= 0, got nan"),
    ],
)
def test_wrong_settings_are_refused_at_once(given, message):
    with pytest.raises(xpnn.ArgumentError, match=message):
        Settings(**given)


def test_fit_does_what_was_asked():
    settings = Settings(
        hidden="6",
        activation="tanh",
        optimizer="momentum:lr=0.05,mu=0.5",
        flood=0.25,
        weight_decay=1e-3,
        epochs=3,
        batch_size=7,
        seed=4,
    )
    model = settings.make_model(DATA)
    history = settings.fit(model, DATA, DATA, backend=xpnn.get_backend(dtype="float64"))

    expected = xpnn.Sequential(xpnn.Dense(6), xpnn.Activation("tanh"), xpnn.Dense(3))
    same = xpnn.fit(
        expected,
        DATA,
        validation=DATA,
        loss=xpnn.Flooding(xpnn.CrossEntropy(), b=0.25),
        optimizer=xpnn.Momentum(lr=0.05, mu=0.5, weight_decay=1e-3),
        epochs=3,
        batch_size=7,
        seed=4,
        dtype="float64",
    )
    assert model.sha256() == expected.sha256()
    assert [row[:5] for row in history] == [row[:5] for row in same]

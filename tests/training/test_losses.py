"""Losses in whole runs: what is learned, on every backend, saved, evaluated and predicted."""

import numpy as np
import pytest

import xpnn
from tests.helpers import open_backend, rng, shipped
from xpnn.backends import get_backend
from xpnn.errors import ArgumentError, DataError
from xpnn.losses import LOSSES

X = rng(0).standard_normal((60, 4))
COUNTS = rng(1).poisson(np.exp(0.5 * X[:, 0] + 0.3))
PAIRS = np.column_stack([X[:, 0] - X[:, 1], 10 * X[:, 2] + 100])


def model_of(outputs, width=6):
    return xpnn.Sequential(xpnn.Dense(width), xpnn.Activation("tanh"), xpnn.Dense(outputs))


def constant(loss, y, epochs=2000, **options):
    """Return the outputs of a network that knows nothing of its samples, after training."""
    model = xpnn.Sequential(xpnn.Dense(loss.outputs_per_target))
    x, n = np.zeros((len(y), 1)), len(y)
    schedule = xpnn.schedules.Cosine()
    xpnn.fit(model, (x, y), loss=loss, optimizer=xpnn.Adam(0.02), schedule=schedule, epochs=epochs,
             batch_size=n, seed=1, dtype="float64", **options)  # fmt: skip
    return xpnn.predict_proba(model, x[:1])[0]


def test_quantiles_are_learned():
    """The best output for a level is a quantile of the targets, whatever their distribution."""
    y = rng(2).gamma(2.0, size=201)
    found = constant(xpnn.Quantile((0.1, 0.5, 0.9)), y)
    ordered = np.sort(y)
    for level, value in zip((0.1, 0.5, 0.9), found, strict=True):
        # within two samples of it, because Adam's last steps are small, but not 0
        at = int(level * 201)
        assert ordered[at - 2] <= value <= ordered[at + 2]


def test_the_median_and_the_mean_count_are_learned():
    y = rng(3).gamma(2.0, size=101)
    ordered = np.sort(y)
    assert ordered[48] <= constant(xpnn.MeanAbsoluteError(), y)[0] <= ordered[52]
    # a smooth loss, so that Adam comes to rest
    mean = constant(xpnn.Poisson(), COUNTS.astype(float))[0]
    np.testing.assert_allclose(mean, COUNTS.mean(), rtol=1e-6)
    # far outside of delta all samples pull alike, as with the median
    assert ordered[47] <= constant(xpnn.Huber(delta=1e-3), y)[0] <= ordered[53]
    np.testing.assert_allclose(constant(xpnn.Huber(delta=1e3), y)[0], y.mean(), rtol=1e-6)


def test_a_linear_poisson_regression_is_scikit_learns():
    linear_model = pytest.importorskip("sklearn.linear_model")
    model = xpnn.Sequential(xpnn.Dense(1))
    xpnn.fit(model, (X, COUNTS), loss=xpnn.Poisson(), optimizer=xpnn.SGD(0.2), epochs=2000,
             batch_size=60, seed=1, dtype="float64")  # fmt: skip
    theirs = linear_model.PoissonRegressor(alpha=0, tol=1e-10, max_iter=1000).fit(X, COUNTS)
    parameters = model.host_parameters()[0]
    np.testing.assert_allclose(parameters["weight"][:, 0], theirs.coef_, rtol=0, atol=1e-6)
    np.testing.assert_allclose(parameters["bias"], theirs.intercept_, rtol=0, atol=1e-6)
    np.testing.assert_allclose(xpnn.predict(model, X), theirs.predict(X), rtol=1e-5)


# a set for each loss, and the number of outputs
def run_of(name, levels=(0.25, 0.75)):
    loss = LOSSES[name](levels=levels) if name == "quantile" else LOSSES[name]()
    classes = name in ("cross_entropy", "focal", "binary_cross_entropy", "binary_focal")
    y = COUNTS.clip(max=2) if classes else COUNTS.astype(float)
    return loss, y, 3 if classes else loss.outputs_per_target


@pytest.mark.parametrize("library", ["torch", "jax", "strict", "cupy"])
@pytest.mark.parametrize("name", shipped(LOSSES))
def test_reproducible_runs_have_the_same_bits_everywhere(name, library):
    loss, y, outputs = run_of(name)
    loss = xpnn.Flooding(loss, 0.6)

    def bits(backend):
        model = model_of(outputs)
        history = xpnn.fit(
            model, (X, y), validation=(X[:9], y[:9]), loss=loss, sample_weight=1.0 + (y > 1),
            epochs=2, batch_size=25, seed=2, backend=backend,
        )  # fmt: skip
        return model.sha256(), [row[:-1] for row in history]

    device = open_backend(library, "float32").options()["device"]
    expected = bits(get_backend("numpy", reproducible=True))
    # NaN of a regression's accuracies
    np.testing.assert_equal(bits(get_backend(library, device=device, reproducible=True)), expected)


@pytest.mark.parametrize("name", shipped(LOSSES))
def test_every_loss_trains_on_every_backend(name, library, dtype):
    loss, y, outputs = run_of(name)
    backend = open_backend(library, dtype)
    models = [model_of(outputs) for _ in range(2)]
    histories = [
        xpnn.fit(model, (X, y), loss=loss, epochs=5, batch_size=20, seed=2, backend=place)
        for model, place in zip(models, (backend, get_backend("numpy", dtype=dtype)), strict=True)
    ]
    ours, expected = (np.array([row[:-1] for row in history]) for history in histories)
    assert ours[-1][2] < ours[0][2]
    # 15 small steps, each of which rounds sums of at most 20 numbers of the size 1 to 10
    atol = 15 * 200 * np.finfo(dtype).eps
    np.testing.assert_allclose(ours, expected, rtol=0, atol=atol)
    proba = np.asarray(xpnn.predict_proba(models[0], X))
    np.testing.assert_allclose(proba, xpnn.predict_proba(models[1], X), rtol=0, atol=atol)


@pytest.mark.parametrize("columns", [1, 2])
@pytest.mark.parametrize("flooded", [False, True])
def test_quantiles_of_normalized_targets(flooded, columns, tmp_path):
    """One block of columns for each level, in the units of the targets; saved, loaded, exported."""
    loss = xpnn.Quantile((0.1, 0.5, 0.9))
    loss = xpnn.Flooding(loss, 0.01) if flooded else loss
    y = PAIRS[:, -columns:]
    model = model_of(3 * columns, width=20)
    xpnn.fit(model, (X, y), loss=loss, normalizer="standard", target_normalizer="standard",
             optimizer=xpnn.Adam(0.02), epochs=300, batch_size=20, seed=1)  # fmt: skip
    values = xpnn.predict(model, X)
    assert values.shape == (60, 3 * columns)
    low, middle, high = np.moveaxis(values.reshape(60, 3, columns), 1, 0)
    # nothing in the targets is noise, and their spread is 1 and 10
    assert np.mean(np.abs(middle - y) / y.std(axis=0)) < 0.1
    assert np.all(np.mean(low <= high, axis=0) > 0.8)
    found = xpnn.evaluate(model, (X, y))
    scaled = (y - y.mean(axis=0)) / y.std(axis=0)
    outputs = (values.reshape(60, 3, columns) - y.mean(axis=0)) / y.std(axis=0)
    d = outputs - scaled[:, None, :]
    q = np.array([0.1, 0.5, 0.9])[:, None]
    pinball = np.mean(np.maximum((1 - q) * d, -q * d))
    expected = abs(pinball - 0.01) + 0.01 if flooded else pinball
    np.testing.assert_allclose(found.loss, expected, rtol=1e-4)
    assert np.isnan(found.accuracy)

    xpnn.save(model, tmp_path / "model.safetensors")
    loaded = xpnn.load(tmp_path / "model.safetensors")
    assert loaded.task.loss == loss
    np.testing.assert_array_equal(xpnn.predict(loaded, X), values)

    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    xpnn.export_onnx(model, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (got,) = session.run(["outputs"], {"x": X})
    # layers of 4 and 20 inputs, and a scale of 10 beside an offset of 100
    np.testing.assert_allclose(got, values, rtol=0, atol=10 * 100 * 2.0**-23)


@pytest.mark.parametrize(
    ("loss", "y", "outputs", "options", "error", "message"),
    [
        (xpnn.Poisson(), -COUNTS, 1, {}, DataError,
         r"^train.y, row \d+: targets must be >= 0 for the loss Poisson\(\), got -\d"),
        (xpnn.Flooding(xpnn.Poisson(), 0.1), PAIRS, 2, {}, DataError,
         r"^train.y, row \d+, column 0: targets must be >= 0 .* got -\d"),
        (xpnn.Poisson(), COUNTS, 1, {"target_normalizer": "standard"}, ArgumentError,
         r"target_normalizer must be None for the loss Poisson\(\), whose targets must be >= 0"),
        (xpnn.BinaryCrossEntropy(), np.where(X[:, 0] > 0, 1.0, -1.0), 1, {}, DataError,
         r"^train.y, row \d+: targets must be from 0 to 1 for the loss BinaryCross.* got -1.0$"),
        (xpnn.Flooding(xpnn.BinaryFocal()), np.tile([0, 7], (60, 1)), 2, {}, DataError,
         r"^train.y, row 0, column 1: targets must be from 0 to 1 .* got 7$"),
        (xpnn.BinaryCrossEntropy(), (X[:, 0] > 0) * 1.0, 1, {"target_normalizer": "standard"},
         ArgumentError, r"target_normalizer must be None .* targets must be from 0 to 1, got"),
        (xpnn.CrossEntropy(), np.where(np.arange(60)[:, None] == 59, 0.4, [[0.25, 0.75]]), 2, {},
         DataError, r"^train.y, row 59: targets must be probabilities, .* got a sum of 0.8$"),
        (xpnn.Focal(), np.tile([-0.5, 1.5], (60, 1)), 2, {}, DataError,
         r"^train.y, row 0, column 0: targets must be probabilities, .* got -0.5$"),
        (xpnn.Quantile((0.1, 0.9)), PAIRS, 2, {}, DataError,
         r"train.y must have shape \(n, 1\) for 2 outputs of the model"),
        (xpnn.Quantile((0.1, 0.9)), PAIRS, 3, {}, ArgumentError,
         r"'quantile' needs a network with 2 outputs for each target"),
        (xpnn.Quantile((0.1, 0.9)), COUNTS.astype(str), 2, {}, ArgumentError,
         r"loss must be one for classes where there are labels, got Quantile"),
        (xpnn.Focal(alpha=(1, 2)), COUNTS.clip(max=2), 3, {}, ArgumentError,
         r"alpha must have a weight for each of the 3 outputs, got \(1.0, 2.0\)"),
    ],
)  # fmt: skip
def test_refusals(loss, y, outputs, options, error, message):
    model = model_of(outputs)
    with pytest.raises(error, match=message):
        xpnn.fit(model, (X, y), loss=loss, epochs=1, **options)
    assert model.parameters is None


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_rounded_probabilities_are_accepted(dtype):
    logits = np.random.default_rng(2).normal(scale=3, size=(60, 40))
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    history = xpnn.fit(model_of(40), (X, shares.astype(dtype)), loss="cross_entropy", epochs=1)
    assert history.settings["loss"].startswith("CrossEntropy")


def test_counts_are_checked_wherever_they_come_from():
    model = model_of(1)
    xpnn.fit(model, (X, COUNTS), loss=xpnn.Poisson(), epochs=1, seed=1)
    with pytest.raises(DataError, match=r"data.y, row 3: targets must be >= 0"):
        xpnn.evaluate(model, (X, np.where(np.arange(60) == 3, -1, COUNTS)))
    with pytest.raises(DataError, match=r"validation.y, row 0: targets must be >= 0"):
        xpnn.fit(model, (X, COUNTS), validation=(X, COUNTS - 9.0), loss=xpnn.Poisson(), epochs=1)


@pytest.mark.parametrize("loss", [xpnn.Focal(), xpnn.BinaryFocal(alpha=0.25)], ids=repr)
def test_focal_losses_classify_rare_classes(loss):
    y = np.where(X[:, 0] > 1, "rare", "usual")
    outputs = 1 if isinstance(loss, xpnn.BinaryFocal) else 2
    model = model_of(outputs)
    xpnn.fit(model, (X, y), loss=loss, optimizer=xpnn.Adam(0.05), class_weight="balanced",
             epochs=200, batch_size=20, seed=1)  # fmt: skip
    assert xpnn.evaluate(model, (X, y)).accuracy == 1
    assert (xpnn.predict(model, X) == y).all()
    assert ((xpnn.predict_proba(model, X) >= 0) & (xpnn.predict_proba(model, X) <= 1)).all()


def test_a_regressions_picture(tmp_path):
    pytest.importorskip("matplotlib")
    history = xpnn.fit(
        model_of(2), (X, COUNTS * 1.0), loss=xpnn.Quantile((0.1, 0.9)), epochs=2, seed=1
    )
    xpnn.plot_history(history, tmp_path / "history.png")
    assert (tmp_path / "history.png").stat().st_size > 0

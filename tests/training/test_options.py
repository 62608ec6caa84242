"""Clipping, weights, label smoothing: by PyTorch and scikit-learn; and all of it in one run."""

import contextlib

import numpy as np
import pytest

import xpnn
from tests.helpers import LIBRARIES, open_backend
from xpnn import schedules
from xpnn._core.random_bits import UNIFORM, split, stream_key, uniform
from xpnn.backends import NumpyBackend, get_backend
from xpnn.errors import ArgumentError, DataError
from xpnn.optimizers import clipped
from xpnn.settings import Settings
from xpnn.training import streams
from xpnn.training.samples import class_weights, sample_weights
from xpnn.verification import generated, verify
from xpnn.verification.tracing import trace_of

RNG = np.random.RandomState(6)


def draw(*shape):
    """Return normal numbers that are float32, and so exact in each dtype."""
    return RNG.randn(*shape).astype("float32").astype("float64")


# Clipping


@pytest.mark.parametrize("clip_norm", [0.125, 1.0, 1e3])
def test_clipping_is_pytorchs(clip_norm, backend, array, dtype):
    torch = pytest.importorskip("torch")
    shapes = [{"weight": (4, 3), "bias": (3,)}, {}, {"weight": (3, 2)}]
    host = [{name: draw(*shape) for name, shape in layer.items()} for layer in shapes]
    parameters = []
    for layer in host:
        for gradient in layer.values():
            parameters.append(torch.zeros(gradient.shape, requires_grad=True))
            parameters[-1] = parameters[-1].double().detach().requires_grad_()
            parameters[-1].grad = torch.tensor(gradient)
    norm = float(torch.nn.utils.clip_grad_norm_(parameters, clip_norm))
    given = [{name: array(gradient) for name, gradient in layer.items()} for layer in host]
    found = [
        backend.to_numpy(gradient)
        for layer in clipped(given, clip_norm, xp=backend.xp)
        for gradient in layer.values()
    ]
    # it divides by a norm that is 1e-6 larger
    tolerance = 1e-6 / norm + 30 * np.finfo(dtype).eps
    for own, theirs in zip(found, parameters, strict=True):
        np.testing.assert_allclose(own, theirs.grad.numpy(), rtol=tolerance, atol=0)
        assert own.dtype == dtype
    if clip_norm > norm:
        before = [gradient for layer in host for gradient in layer.values()]
        for own, theirs in zip(found, before, strict=True):
            np.testing.assert_array_equal(own, theirs.astype(dtype))
    else:
        total = np.sqrt(sum((own.astype("float64") ** 2).sum() for own in found))
        np.testing.assert_allclose(total, clip_norm, rtol=30 * np.finfo(dtype).eps, atol=0)


def test_gradients_of_zero_stay(backend, array):
    (layer,) = clipped([{"w": array(np.zeros(3))}], 1.0, xp=backend.xp)
    np.testing.assert_array_equal(backend.to_numpy(layer["w"]), np.zeros(3))


# Label smoothing

OUTPUTS = draw(6, 4)
LABELS = RNG.randint(0, 4, 6)
SOFT = RNG.dirichlet(np.ones(4), 6)


@pytest.mark.parametrize("targets", [LABELS, SOFT], ids=["labels", "probabilities"])
@pytest.mark.parametrize("smoothing", [0.1, 0.5])
def test_smoothed_cross_entropy_is_pytorchs(targets, smoothing, backend, array, dtype):
    torch = pytest.importorskip("torch")
    u = torch.tensor(OUTPUTS, requires_grad=True)
    expected = torch.nn.functional.cross_entropy(
        u, torch.tensor(targets), label_smoothing=smoothing
    )
    expected.backward()
    loss = xpnn.CrossEntropy(label_smoothing=smoothing)
    value, gradient = loss(array(OUTPUTS), array(targets))
    # a dozen operations on numbers of size 5
    error = 60 * np.finfo(dtype).eps
    np.testing.assert_allclose(float(value), expected.item(), rtol=0, atol=error)
    np.testing.assert_allclose(backend.to_numpy(gradient), u.grad.numpy(), rtol=0, atol=error)


def test_smoothed_binary_cross_entropy(backend, array, dtype):
    """Keras's definition, by PyTorch's loss of the targets that it makes."""
    torch = pytest.importorskip("torch")
    targets = (SOFT > 0.3).astype(float)
    u = torch.tensor(OUTPUTS, requires_grad=True)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(
        u, torch.tensor(targets * 0.8 + 0.1)
    )
    expected.backward()
    value, gradient = xpnn.BinaryCrossEntropy(label_smoothing=0.2)(array(OUTPUTS), array(targets))
    error = 60 * np.finfo(dtype).eps
    np.testing.assert_allclose(float(value), expected.item(), rtol=0, atol=error)
    np.testing.assert_allclose(backend.to_numpy(gradient), u.grad.numpy(), rtol=0, atol=error)


def test_no_smoothing_is_not_spoken_of():
    """The results of studies are found by these texts."""
    assert repr(xpnn.CrossEntropy()) == "CrossEntropy(floor=1e-07)"
    assert repr(xpnn.BinaryCrossEntropy()) == "BinaryCrossEntropy()"
    smooth = xpnn.CrossEntropy(label_smoothing=0.1)
    assert repr(smooth) == "CrossEntropy(floor=1e-07, label_smoothing=0.1)"
    assert smooth != xpnn.CrossEntropy()
    assert Settings(loss="cross_entropy:label_smoothing=0.1").make_loss() == smooth
    for wrong in (1, -0.1, "much"):
        with pytest.raises(ArgumentError, match="label_smoothing must be a number >= 0 and < 1"):
            xpnn.CrossEntropy(label_smoothing=wrong)


def test_a_smoothed_loss_is_saved(tmp_path):
    model = xpnn.Sequential(xpnn.Dense(4))
    loss = xpnn.Flooding(xpnn.CrossEntropy(label_smoothing=0.1), b=0.5)
    xpnn.fit(model, (OUTPUTS, LABELS), loss=loss, epochs=0)
    xpnn.save(model, tmp_path / "model.safetensors")
    assert xpnn.load(tmp_path / "model.safetensors").task.loss == loss


# Weights


def test_balanced_weights_are_scikit_learns():
    weight = pytest.importorskip("sklearn.utils.class_weight")
    y = np.array([0, 0, 0, 0, 2, 2, 1])
    expected = weight.compute_class_weight("balanced", classes=np.arange(3), y=y)
    np.testing.assert_array_equal(class_weights(y, "balanced", np.arange(3)), expected)
    # of the classes that are there
    gaps = np.array([0, 0, 0, 3])
    expected = weight.compute_class_weight("balanced", classes=np.array([0, 3]), y=gaps)
    np.testing.assert_array_equal(class_weights(gaps, "balanced", np.arange(5))[[0, 3]], expected)
    assert class_weights(y, {1: 2.5}, np.arange(3)).tolist() == [1, 2.5, 1]
    names = np.array(["no", "yes", "1"])
    assert class_weights(y, {"yes": 2.5, "1": 0}, names).tolist() == [1, 2.5, 0]


@pytest.mark.parametrize(
    "given", [{1: 2.5}, {"1": 2.5}, {1.0: 2.5}, {True: 2.5}, {np.float32(1): 2.5}, {np.True_: 2.5}]
)
def test_keys_of_class_weights_are_compared_by_value(given):
    assert class_weights(np.array([0, 1]), given, np.arange(2)).tolist() == [1, 2.5]


def test_each_class_has_one_weight():
    with pytest.raises(xpnn.ArgumentError, match="class_weight must name each class once, got"):
        class_weights(np.array([0, 1]), {1: 2.5, "1": 2}, np.arange(2))
    with pytest.raises(xpnn.ArgumentError, match=r"unknown label in class_weight '0.5'"):
        class_weights(np.array([0, 1]), {0.5: 2.5}, np.arange(2))


def test_weights_have_the_mean_one():
    y = np.array([0, 0, 1])
    np.testing.assert_allclose(
        sample_weights(y, [1, 2, 6], None, np.arange(2)), [1 / 3, 2 / 3, 2], rtol=1e-15
    )
    both = sample_weights(y, [1, 2, 6], {1: 0.5}, np.arange(2))
    np.testing.assert_allclose(both, [0.5, 1, 1.5], rtol=1e-15)
    assert sample_weights(y, None, None, np.arange(2)) is None
    np.testing.assert_array_equal(
        sample_weights(y, [True, False, True], None, np.arange(2)), [1.5, 0, 1.5]
    )


X, Y = draw(12, 3), np.array([0, 1, 2, 0] * 3)
START = draw(3, 3)


def model_of(start=START):
    return xpnn.Sequential(xpnn.Dense(3, weight=start))


@pytest.mark.parametrize("flooded", [False, True])
def test_a_weight_of_two_is_a_sample_that_is_there_twice(flooded, library, dtype):
    """In whole-batch descent, figures included: accuracies and losses count likewise."""
    backend = open_backend(library, dtype)
    counts, loss = np.array([1, 2, 3] * 4), xpnn.CrossEntropy()
    if flooded:
        # between the loss with weights and that without: only one of them is below
        samples, _ = loss.samples(X @ START, Y, xp=np)
        b = 0.25 * samples.mean() + 0.75 * np.average(samples, weights=counts)
        loss = xpnn.Flooding(loss, b=b)
    settings = {
        "loss": loss, "epochs": 3, "seed": 0, "shuffle": False, "backend": backend,
        "optimizer": xpnn.SGD(lr=0.5),
    }  # fmt: skip
    weighted, repeated = model_of(), model_of()
    ours = xpnn.fit(
        weighted, (X, Y), validation=(X, Y), batch_size=12, sample_weight=counts, **settings
    )
    rows = np.repeat(np.arange(12), counts)
    theirs = xpnn.fit(
        repeated, (X[rows], Y[rows]), validation=(X, Y), batch_size=len(rows), **settings
    )
    # sums of 24 terms of size 3, four times
    tolerance = 24 * 3 * 4 * np.finfo(dtype).eps
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a[:5], b[:5], rtol=0, atol=tolerance)
    for name, a in weighted.host_parameters()[0].items():
        b = repeated.host_parameters()[0][name]
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)
    # and the test figures aren't weighted
    assert ours[0].test_loss != pytest.approx(ours[0].train_loss, rel=1e-3)
    assert ours.settings["sample_weight"] is True


def test_class_weights_are_sample_weights():
    chosen = {0: 1.0, 1: 3.0, 2: 0.5}
    runs = []
    for given in ({"class_weight": chosen}, {"sample_weight": [chosen[label] for label in Y]}):
        model = model_of()
        xpnn.fit(model, (X, Y), epochs=2, seed=0, batch_size=5, **given)
        runs.append(model.sha256())
    assert runs[0] == runs[1]


def test_weights_of_a_regression_are_scikit_learns():
    linear = pytest.importorskip("sklearn.linear_model")
    weights = RNG.uniform(0.1, 3, 12)
    y = X @ np.array([1.0, -2.0, 0.5]) + draw(12)
    expected = linear.LinearRegression().fit(X, y, sample_weight=weights)
    model = xpnn.Sequential(xpnn.Dense(1))
    xpnn.fit(
        model, (X, y), loss=xpnn.MeanSquaredError(), sample_weight=weights, epochs=3000,
        batch_size=12, seed=0, dtype="float64", optimizer=xpnn.Momentum(lr=0.05, mu=0.9),
    )  # fmt: skip
    weight, bias = model.host_parameters()[0].values()
    # linear convergence: the residue after 3000 steps is that of rounding
    np.testing.assert_allclose(weight[:, 0], expected.coef_, rtol=0, atol=1e-10)
    np.testing.assert_allclose(bias[0], expected.intercept_, rtol=0, atol=1e-10)


def test_weights_of_a_mapped_set(tmp_path, monkeypatch):
    """Read chunk by chunk beside the samples: the run is that in memory."""
    x, y, weights = draw(103, 5), RNG.randint(0, 3, 103), RNG.uniform(0, 2, 103)
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    runs = []
    for data in ((x, y), (mapped, y)):
        if data[0] is mapped:
            monkeypatch.setattr(streams, "CHUNK_BYTES", 20 * 64)
        model = xpnn.Sequential(xpnn.Dense(4), xpnn.Dropout(0.25), xpnn.Dense(3))
        history = xpnn.fit(
            model, data, sample_weight=weights, epochs=2, batch_size=5, seed=0, shuffle=False,
            schedule=schedules.Cosine(), dtype="float64",
        )  # fmt: skip
        runs.append((model.sha256(), history[-1][:3], history[0].train_accuracy))
    assert runs[0][0] == runs[1][0]
    # figures are sums in another order
    np.testing.assert_allclose(runs[0][1], runs[1][1], rtol=1e-13)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        (
            {"sample_weight": [1, 2]},
            DataError,
            r"sample_weight must be 12 numbers, of shape \(12,\)",
        ),
        ({"sample_weight": ["a"] * 12}, DataError, r"sample_weight must be 12 numbers"),
        (
            {"sample_weight": [1] * 11 + [-1]},
            DataError,
            r"sample_weight must be finite and >= 0, got -1 in row 11",
        ),
        ({"sample_weight": [np.nan] * 12}, DataError, r"finite and >= 0, got nan in row 0"),
        ({"sample_weight": [0] * 12}, DataError, r"a sum that isn't zero or infinite, got 0.0"),
        (
            {"sample_weight": np.full(12, 1e308)},
            DataError,
            "a sum that isn't zero or infinite, got inf",
        ),
        ({"class_weight": "balance"}, ArgumentError, r"unknown class_weight 'balance'; did you"),
        ({"class_weight": 2}, ArgumentError, r"class_weight must be a mapping such as"),
        ({"class_weight": {3: 1}}, ArgumentError, r"unknown label in class_weight '3' .*0, 1, 2"),
        ({"class_weight": {"a": 1}}, ArgumentError, r"unknown label in class_weight 'a'"),
        ({"class_weight": {1: -1}}, ArgumentError, r"class_weight of 1 must be .* >= 0, got -1"),
        ({"clip_norm": 0}, ArgumentError, r"clip_norm must be a finite number > 0, got 0"),
    ],
)
def test_what_fit_refuses(settings, error, message):
    model = model_of()
    with pytest.raises(error, match=message):
        xpnn.fit(model, (X, Y), **settings)
    assert model.parameters is None


def test_class_weights_need_classes():
    with pytest.raises(ArgumentError, match=r"class_weight needs train\.y to be class labels"):
        xpnn.fit(
            model_of(), (X, draw(12, 3)), loss=xpnn.MeanSquaredError(), class_weight="balanced"
        )


# All of it

WIDE, TARGETS = draw(23, 4), RNG.randint(0, 3, 23)
FIRST, SECOND = draw(4, 6), draw(6, 3)
ALL = {
    "loss": xpnn.CrossEntropy(label_smoothing=0.1),
    "optimizer": xpnn.AdamW(lr=0.02, weight_decay=0.1),
    "schedule": schedules.Warmup(1.5, schedules.Cosine(final=0.1)),
    "clip_norm": 0.5,
    "class_weight": "balanced",
}
RUN = {"epochs": 3, "batch_size": 6, "seed": 5, "shuffle": False}


def whole_network():
    return xpnn.Sequential(
        xpnn.Dense(6, weight=FIRST), xpnn.BatchNorm(), xpnn.Activation("tanh"), xpnn.Dropout(0.25),
        xpnn.Dense(3, weight=SECOND),
    )  # fmt: skip


def by_torch():
    """The same run by PyTorch's autograd, its layers, its optimizer; the masks are ours."""
    torch = pytest.importorskip("torch")
    x, y = torch.tensor(WIDE), torch.tensor(TARGETS)
    first, norm, second = (
        torch.nn.Linear(4, 6).double(),
        torch.nn.BatchNorm1d(6).double(),
        torch.nn.Linear(6, 3).double(),
    )
    for layer, weight in ((first, FIRST), (second, SECOND)):
        layer.weight.data.copy_(torch.tensor(weight.T))
        layer.bias.data.zero_()
    parameters = [*first.parameters(), *norm.parameters(), *second.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=0.02, weight_decay=0.1)
    weights = 23 / (3 * np.bincount(TARGETS))
    for epoch in (1, 2, 3):
        rates = 0.02 * ALL["schedule"].factors(epoch - 1 + np.arange(4) / 4, 3, [])
        for number in range(4):
            rows = slice(6 * number, 6 * number + 6)
            key = split(split(stream_key(5, 3), np.array([epoch])), np.array([number]))
            n = len(x[rows])
            mask = (uniform(key, n * 6, xp=np) >= UNIFORM // 4).reshape(n, 6) / 0.75
            hidden = torch.tanh(norm(first(x[rows]))) * torch.tensor(mask)
            losses = torch.nn.functional.cross_entropy(
                second(hidden), y[rows], reduction="none", label_smoothing=0.1
            )
            optimizer.zero_grad()
            (losses * torch.tensor(weights[TARGETS[rows]])).mean().backward()
            total = torch.sqrt(sum((p.grad**2).sum() for p in parameters))
            for p in parameters:
                p.grad *= min(1.0, 0.5 / float(total))
            optimizer.param_groups[0]["lr"] = rates[number]
            optimizer.step()
    arrays = [first.weight.T, first.bias, norm.weight, norm.bias, norm.running_mean]
    arrays += [norm.running_var, second.weight.T, second.bias]
    return [array.detach().numpy() for array in arrays]


@pytest.mark.parametrize("dtype", ["float64"])
def test_all_of_it_is_pytorchs(library, dtype):
    backend = open_backend(library, dtype)
    model = whole_network()
    xpnn.fit(model, (WIDE, TARGETS), backend=backend, **ALL, **RUN)
    found = [array for layer in model.host_parameters() for array in layer.values()]
    for i, (own, theirs) in enumerate(zip(found, by_torch(), strict=True)):
        if i == 1:
            # what comes before a BatchNorm has a bias without gradient: Adam divides its rounding
            continue
        np.testing.assert_allclose(own, theirs, rtol=0, atol=1e-9)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_all_of_it_reproducibly_has_the_same_bits_everywhere(dtype):
    found = {}
    # all shapes are alike, for JAX compiles each operation by itself
    square = draw(4, 4)
    for library in LIBRARIES:
        try:
            options = open_backend(library, dtype).options()
        except pytest.skip.Exception:
            continue
        if (library, dtype) == ("jax", "float64"):
            continue
        backend = get_backend(**{**options, "reproducible": True})
        model = xpnn.Sequential(
            xpnn.Dense(4), xpnn.BatchNorm(), xpnn.Activation("relu"), xpnn.Dropout(0.25),
            xpnn.Dense(4),
        )  # fmt: skip
        settings = {**ALL, **RUN, "batch_size": 4, "epochs": 4}
        history = xpnn.fit(model, (square, np.array([0, 1, 1, 3])), backend=backend, **settings)
        found[library] = (model.sha256(), *(row[:3] for row in history))
    assert len(found) >= 2
    assert len(set(found.values())) == 1


def test_verify_of_all_of_it():
    """The trace takes the same steps as the run, whose schedule looks at its length and its log."""
    open_backend("torch")
    data = generated(samples=80, features=6, classes=3)
    settings = Settings(
        hidden="5", activation="tanh", optimizer="adamw", loss="cross_entropy:label_smoothing=0.1",
        batch_norm=True, dropout=0.25, schedule="plateau:patience=0", warmup=0.5, clip_norm=0.5,
        class_weight="balanced", epochs=2, batch_size=16,
    )  # fmt: skip
    backends = [get_backend(name, reproducible=True) for name in ("numpy", "torch")]
    assert verify(settings, *data, backends).agree
    native = [get_backend(name) for name in ("numpy", "torch")]
    found = verify(settings, *data, native)
    assert not found.agree
    assert "differ first at epoch 1, step 1, " in found.parted
    # the part of a longer run that is traced is that run's
    parts = [
        trace_of(settings.replaced(schedule="cosine", epochs=3), data, native[0], epochs=epochs)
        for epochs in (1, 3)
    ]
    short, long = (trace.events for trace in parts)
    assert long[: len(short)] == short
    assert [short[-1].step, long[-1].step] == [4, 12]


def test_numpy_records_the_steps_once(monkeypatch):
    folds = []

    class Kept(NumpyBackend):
        def fold(self, step):
            folds.append(super().fold(step))
            return folds[-1]

    xpnn.fit(whole_network(), (WIDE, TARGETS), backend=Kept(), **ALL, **{**RUN, "epochs": 9})
    training, _ = folds
    # whole mini-batches and the last one: nothing is recorded anew in each epoch
    assert len(training.programs) == 2
    assert all(played.trusted for played in training._programs.values())


def test_an_epoch_moves_its_rates_at_once(monkeypatch):
    backend = open_backend("strict", "float32")
    counts = []
    asarray = backend.asarray

    def counted(host):
        counts.append(host.shape)
        return asarray(host)

    monkeypatch.setattr(backend, "asarray", counted)
    xpnn.fit(whole_network(), (WIDE, TARGETS), backend=backend, **ALL, **{**RUN, "epochs": 2})
    # each epoch: four rates; three whole mini-batches and a smaller one, with number and key
    assert counts[-6:] == [(4,), (3, 8), (1, 7)] * 2


def test_jax_moves_nothing_that_was_not_asked_for(monkeypatch):
    backend = open_backend("jax", "float32")
    scope = backend.scope

    @contextlib.contextmanager
    def guarded():
        # explicit transfers are let through; the scope itself lets through all
        with scope(), backend.library.transfer_guard("disallow"):
            yield

    monkeypatch.setattr(backend, "scope", guarded)
    history = xpnn.fit(whole_network(), (WIDE, TARGETS), backend=backend, **ALL, **RUN)
    assert np.isfinite(history.column("train_loss")).all()


@pytest.mark.parametrize(
    ("layers", "settings", "more"),
    [
        # the hash of four numbers 12, the numbers 2, the mask 3, forward and back
        ([xpnn.Dropout(0.25)], {}, 12 + 2 + 3 + 2),
        # its two parameters' updates are joined with the others'
        ([xpnn.BatchNorm()], {}, 29),
        # taken, and out of its array
        ([], {"schedule": schedules.Cosine()}, 2),
        # of each of four gradients the square's sum; sums 3, root, maximum, quotient; one product
        ([], {"clip_norm": 1.0}, 4 * 2 + 6 + 1),
        # taken; times gradient, losses and hits
        ([], {"class_weight": "balanced"}, 4),
        ([], {"loss": xpnn.CrossEntropy(label_smoothing=0.1)}, 2),
    ],
    ids=["dropout", "batch_norm", "schedule", "clip_norm", "class_weight", "label_smoothing"],
)
def test_operations_of_a_step(layers, settings, more):
    def count(layers, settings):
        folds = []

        class Kept(NumpyBackend):
            def fold(self, step):
                folds.append(super().fold(step))
                return folds[-1]

        model = xpnn.Sequential(xpnn.Dense(4), *layers, xpnn.Activation("relu"), xpnn.Dense(3))
        xpnn.fit(model, (X, Y), epochs=1, batch_size=4, backend=Kept(), **settings)
        return len(folds[0].programs[0].operations)

    assert count(layers, settings) == count([], {}) + more

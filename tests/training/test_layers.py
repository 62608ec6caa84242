"""Layers that do something else in training: Dropout by its masks, BatchNorm as PyTorch's."""

import io
import pickle

import numpy as np
import pytest

import xpnn
from tests.helpers import open_backend
from xpnn._core.files import sealed
from xpnn._core.random_bits import UNIFORM, split, stream_key, uniform
from xpnn.errors import ArgumentError
from xpnn.layers import LAYERS

N, UNITS = 7, 5
RNG = np.random.RandomState(4)


def draw(*shape):
    """Return normal numbers that are float32, and so exact in each dtype."""
    return RNG.randn(*shape).astype("float32").astype("float64")


X, DY = draw(N, UNITS), draw(N, UNITS)
KEY = np.array([123], np.int64)


def mask_of(p, n=N, key=KEY):
    """The mask by the generator's numbers on the host, tested by themselves."""
    kept = uniform(key, n * UNITS, xp=np) >= round(p * UNIFORM)
    return kept.reshape(n, UNITS) / (1 - p)


@pytest.mark.parametrize("p", [0.25, 0.5, 0.875])
def test_dropout(p, backend, array, dtype):
    layer, x, xp = xpnn.Dropout(p), array(X), backend.xp
    kept = {"buffer": 1}
    y, pullback, buffers = layer.train({}, kept, x, backend.asarray(KEY), xp=xp)
    mask = mask_of(p)
    assert set(np.unique(mask)) == {0, 1 / (1 - p)}
    # one product, which rounds alike everywhere
    mask = mask.astype(dtype)
    np.testing.assert_array_equal(backend.to_numpy(y), X.astype(dtype) * mask, strict=True)
    dx, gradients = pullback(array(DY))
    np.testing.assert_array_equal(backend.to_numpy(dx), DY.astype(dtype) * mask)
    assert pullback(array(DY), input_gradient=False) == (None, {})
    assert (gradients, buffers) == ({}, kept)
    np.testing.assert_array_equal(backend.to_numpy(x), X.astype(backend.dtype_name))


def test_a_trained_dropout_does_nothing(backend, array):
    x, dy = array(X), array(DY)
    y, pullback = xpnn.Dropout(0.5).forward({}, x, xp=backend.xp)
    assert y is x
    assert pullback(dy) == (dy, {})
    assert pullback(dy, input_gradient=False) == (None, {})
    y, pullback, _ = xpnn.Dropout(0.0).train({}, {}, x, None, xp=backend.xp)
    assert y is x
    assert not xpnn.Dropout(0.0).draws
    assert not xpnn.Dropout(1e-6).draws
    assert xpnn.Dropout(1e-4).draws


@pytest.mark.parametrize("p", [0.1, 1 / 3, 0.9, 0.9999999])
def test_dropout_keeps_the_mean(p):
    """That of all 2^16 numbers: the scale is that of the p that was rounded."""
    layer = xpnn.Dropout(p)
    kept = UNIFORM - layer._dropped
    y, _, _ = layer.train({}, {}, np.ones((4, 3)), KEY, xp=np)
    assert set(np.unique(y)) <= {0.0, UNIFORM / kept}
    assert abs(layer._dropped / UNIFORM - p) <= 2.0**-16
    assert kept > 0


def test_each_step_and_layer_has_its_own_mask():
    """Seen from outside: a network of ones whose loss's gradient shows the mask."""
    seen = []

    class Spy(xpnn.Layer):
        kind = "spy"

        def config(self):
            return {}

        def forward(self, parameters, x, *, xp):
            seen.append(np.array(x))
            return x, lambda dy, input_gradient=True: (dy, {})

    start = np.eye(UNITS)
    model = xpnn.Sequential(
        xpnn.Dropout(0.5), Spy(), xpnn.Dropout(0.25), Spy(), xpnn.Dense(UNITS, weight=start)
    )
    data = (np.ones((4, UNITS)), np.zeros((4, UNITS)))
    seed = 9
    # strict runs eagerly, and so the spy sees each step
    xpnn.fit(
        model, data, loss=xpnn.MeanSquaredError(), epochs=2, batch_size=2, seed=seed,
        backend="strict", dtype="float64",
    )  # fmt: skip
    first, second = seen[0::2], seen[1::2]
    drawn = {}
    for layer, p in ((0, 0.5), (2, 0.25)):
        for epoch in (1, 2):
            for number in (0, 1):
                key = split(split(stream_key(seed, layer), np.array([epoch])), np.array([number]))
                drawn[layer, epoch, number] = mask_of(p, n=2, key=key)
    steps = [(epoch, number) for epoch in (1, 2) for number in (0, 1)]
    # the untrained network on the training set, then two steps each epoch
    assert (first[0] == 1).all()
    for (epoch, number), a, b in zip(steps, first[1:], second[1:], strict=True):
        np.testing.assert_array_equal(a, drawn[0, epoch, number])
        np.testing.assert_array_equal(b, drawn[0, epoch, number] * drawn[2, epoch, number])
    assert len({mask.tobytes() for mask in drawn.values()}) == 8


SCALE, BIAS = 1 + draw(UNITS) / 4, draw(UNITS)
MEAN, VAR = draw(UNITS), 0.5 + draw(UNITS) ** 2


def torch_layer(momentum=0.1, eps=1e-5):
    torch = pytest.importorskip("torch")
    layer = torch.nn.BatchNorm1d(UNITS, eps=eps, momentum=momentum).double()
    for own, given in (
        (layer.weight, SCALE),
        (layer.bias, BIAS),
        (layer.running_mean, MEAN),
        (layer.running_var, VAR),
    ):
        own.data.copy_(torch.tensor(given))
    return layer


def error(dtype):
    # means of N numbers of size 3, divided by deviations that are larger than a third
    return 50 * N * np.finfo(dtype).eps


@pytest.mark.parametrize("momentum", [0.1, 0.75])
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_batch_norm_is_pytorchs(mode, momentum, backend, array, dtype):
    torch = pytest.importorskip("torch")
    theirs = torch_layer(momentum, eps=1e-3)
    theirs.train(mode == "train")
    x = torch.tensor(X, requires_grad=True)
    y = theirs(x)
    y.backward(torch.tensor(DY))

    layer = xpnn.BatchNorm(momentum=momentum, eps=1e-3)
    parameters = {"scale": array(SCALE), "bias": array(BIAS)}
    buffers = {"running_mean": array(MEAN), "running_var": array(VAR)}
    if mode == "train":
        ours, pullback, moved = layer.train(parameters, buffers, array(X), None, xp=backend.xp)
    else:
        ours, pullback = layer.forward({**parameters, **buffers}, array(X), xp=backend.xp)
        moved = buffers
    dx, gradients = pullback(array(DY))
    found = {"y": ours, "dx": dx, **gradients, **moved}
    expected = {
        "y": y.detach(),
        "dx": x.grad,
        "scale": theirs.weight.grad,
        "bias": theirs.bias.grad,
        "running_mean": theirs.running_mean,
        "running_var": theirs.running_var,
    }
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        got = backend.to_numpy(found[name])
        assert got.dtype == dtype
        np.testing.assert_allclose(got, value.numpy(), rtol=0, atol=error(dtype), err_msg=name)
    nothing, same = pullback(array(DY), input_gradient=False)
    assert nothing is None
    for name, gradient in gradients.items():
        np.testing.assert_array_equal(*map(backend.to_numpy, (same[name], gradient)))
    # nothing that was given has changed
    for own, given in ((parameters, (SCALE, BIAS)), (buffers, (MEAN, VAR))):
        for moved_there, host in zip(own.values(), given, strict=True):
            np.testing.assert_array_equal(backend.to_numpy(moved_there), host.astype(dtype))


def test_batch_norm_of_one_sample(backend, array):
    """Which has no variance: normalized as by the trained layer, and nothing learned of it."""
    layer = xpnn.BatchNorm()
    parameters = {"scale": array(SCALE), "bias": array(BIAS)}
    buffers = {"running_mean": array(MEAN), "running_var": array(VAR)}
    x, dy = array(X[:1]), array(DY[:1])
    y, pullback, moved = layer.train(parameters, buffers, x, None, xp=backend.xp)
    same, _ = layer.forward({**parameters, **buffers}, x, xp=backend.xp)
    np.testing.assert_array_equal(*map(backend.to_numpy, (y, same)))
    assert moved is buffers
    dx, _ = pullback(dy)
    expected = DY[:1] * SCALE / np.sqrt(VAR + 1e-5)
    tolerance = 10 * np.finfo(backend.dtype_name).eps
    np.testing.assert_allclose(backend.to_numpy(dx), expected, rtol=tolerance, atol=0)


def test_a_column_that_is_constant(backend, array):
    layer = xpnn.BatchNorm()
    parameters = {"scale": array(SCALE), "bias": array(BIAS)}
    buffers = {"running_mean": array(MEAN), "running_var": array(VAR)}
    x = array(np.ones((4, UNITS)))
    y, pullback, _ = layer.train(parameters, buffers, x, None, xp=backend.xp)
    np.testing.assert_array_equal(
        backend.to_numpy(y), np.tile(BIAS, (4, 1)).astype(backend.dtype_name)
    )
    assert np.isfinite(backend.to_numpy(pullback(x)[0])).all()


def network():
    return xpnn.Sequential(
        xpnn.Dense(6), xpnn.BatchNorm(), xpnn.Activation("tanh"), xpnn.Dropout(0.25), xpnn.Dense(3)
    )


DATA = (draw(23, 4), RNG.randint(0, 3, 23))


def trained(epochs=2, **settings):
    model = network()
    settings = {"seed": 1, "batch_size": 5, **settings}
    history = xpnn.fit(model, DATA, validation=DATA, epochs=epochs, **settings)
    return model, history


def test_a_model_with_buffers(library, dtype, tmp_path):
    backend = open_backend(library, dtype)
    model, history = trained(backend=backend)
    assert [list(own) for own in model.host_parameters()] == [
        ["weight", "bias"],
        ["scale", "bias", "running_mean", "running_var"],
        *([], []),
        ["weight", "bias"],
    ]
    assert [list(own) for own in model.buffers] == [[], ["running_mean", "running_var"], [], [], []]
    # trained weights count, running figures don't
    assert [row.parameters for row in model.summary()] == [30, 12, 0, 0, 21]
    expected = xpnn.predict_proba(model, DATA[0])
    xpnn.save(model, tmp_path / "model.safetensors")
    copies = [
        xpnn.load(
            tmp_path / "model.safetensors", backend=backend.name, device=backend._device_name
        ),
        pickle.load(io.BytesIO(pickle.dumps(model))),
    ]
    for copy in copies:
        assert copy.sha256() == model.sha256()
        np.testing.assert_array_equal(xpnn.predict_proba(copy, DATA[0]), expected)
        assert repr(copy.layers) == repr(model.layers)
    evaluation = xpnn.evaluate(model, DATA)
    assert evaluation == (history[-1].test_accuracy, history[-1].test_loss)
    # training goes on from the running figures
    running = model.host_parameters()[1]["running_mean"]
    xpnn.fit(model, DATA, epochs=0, backend=backend)
    np.testing.assert_array_equal(model.host_parameters()[1]["running_mean"], running)


def test_the_hash_sees_buffers():
    model, _ = trained()
    before = model.sha256()
    host = model.host_parameters()
    host[1]["running_var"][2] += 1
    model.place(host, inputs=4, backend=model.backend)
    assert model.sha256() != before


def test_files_with_other_buffers_are_refused(tmp_path):
    from safetensors.numpy import load_file

    model, _ = trained()
    path = tmp_path / "model.safetensors"
    xpnn.save(model, path)
    from safetensors import safe_open

    with safe_open(path, "numpy") as file:
        metadata = file.metadata()
    arrays = load_file(path)
    del arrays["1.running_var"]
    path.write_bytes(sealed(arrays, metadata))
    with pytest.raises(xpnn.DataError, match=r"array [\w.]+ must be .*, got "):
        xpnn.load(path)


@pytest.mark.parametrize(
    ("layer", "config", "text"),
    [
        (xpnn.Dropout(0.25), {"p": 0.25}, "Dropout(0.25)"),
        (
            xpnn.BatchNorm(momentum=0.2),
            {"momentum": 0.2, "eps": 1e-5},
            "BatchNorm(momentum=0.2, eps=1e-05)",
        ),
    ],
)
def test_config(layer, config, text):
    assert (layer.config(), repr(layer)) == (config, text)
    again = LAYERS[type(layer).__name__](**config)
    assert (again.config(), repr(again)) == (config, text)
    assert layer.outputs(7) == 7


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: xpnn.Dropout(1), r"p must be a number >= 0 and < 1, got 1"),
        (lambda: xpnn.Dropout("half"), r"p must be a number >= 0 and < 1, got 'half'"),
        (lambda: xpnn.BatchNorm(momentum=1), r"momentum must be a number >= 0 and < 1, got 1"),
        (lambda: xpnn.BatchNorm(eps=0), r"eps must be a finite number > 0, got 0"),
    ],
)
def test_wrong_settings(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()

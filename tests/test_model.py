"""`Sequential`: what it is made of, where its parameters live, what it says of itself."""

import copy
import hashlib
import pickle
import re

import array_api_compat
import numpy as np
import pytest

import xpnn
from tests.helpers import open_backend
from xpnn.errors import ArgumentError
from xpnn.model import SummaryRow


def network():
    return xpnn.Sequential(
        xpnn.Dense(4, weight="he_normal"),
        xpnn.Activation("tanh"),
        xpnn.Dense(2, weight="he_normal", bias=False),
    )


def placed(backend, seed=3):
    model = network()
    with backend.scope():
        model.initialize(5, backend=backend, rng=np.random.RandomState(seed))
    return model


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ((), "layers must hold at least one layer, got none"),
        (
            (xpnn.Dense(1), "relu"),
            "layers must be xpnn layers such as Dense(10), got 'relu' at position 1",
        ),
        (
            ([xpnn.Dense(1)],),
            "layers must be xpnn layers such as Dense(10), got [Dense(1)] at position 0",
        ),
    ],
)
def test_what_is_no_layer(layers, message):
    with pytest.raises(ArgumentError) as error:
        xpnn.Sequential(*layers)
    assert str(error.value) == message


def test_repr_is_what_one_writes():
    model = xpnn.Sequential(xpnn.Dense(3), xpnn.Activation("h_swish", n=6))
    assert repr(model) == "Sequential(Dense(3), Activation('h_swish', n=6))"


def test_summary_of_the_articles_network():
    act = [xpnn.Activation("h_swish", n=6) for _ in range(2)]
    model = xpnn.Sequential(xpnn.Dense(100), act[0], xpnn.Dense(50), act[1], xpnn.Dense(10))
    assert model.summary(784) == [
        SummaryRow("dense1", "dense", 784, 100, 78500),
        SummaryRow("h_swish1", "h_swish", 100, 100, 0),
        SummaryRow("dense2", "dense", 100, 50, 5050),
        SummaryRow("h_swish2", "h_swish", 50, 50, 0),
        SummaryRow("dense3", "dense", 50, 10, 510),
    ]
    assert model.outputs(784) == 10


SUMMARY = """\
layer   kind   inputs  outputs  parameters
dense1  dense       3        4          16
tanh1   tanh        4        4           0
dense2  dense       4        2          10
total               3        2          26"""


def test_a_summary_is_a_table():
    model = xpnn.Sequential(xpnn.Dense(4), xpnn.Activation("tanh"), xpnn.Dense(2))
    found = model.summary(3)
    assert str(found) == repr(found) == SUMMARY
    assert found.parameters == 26
    # as a list it is what it was
    assert found == list(found)
    assert found[0].kind == "dense"


class Odd(xpnn.Layer):
    """A layer whose text isn't safe in a page."""

    kind = "<b>&amp;"

    def forward(self, parameters, x, *, xp):
        return x, lambda dy, *, input_gradient=True: (dy, {})

    def __repr__(self):
        return "Odd(<script>)"


def cells(page):
    return [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row) for row in page.split("<tr>")[1:]]


def test_a_notebook_shows_a_table():
    model = xpnn.Sequential(xpnn.Dense(4), Odd())
    page = model._repr_html_()
    assert cells(page) == [
        ["layer", "not trained yet"],
        ["dense1", "Dense(4)"],
        ["&lt;b&gt;&amp;amp;1", "Odd(&lt;script&gt;)"],
    ]
    model.initialize(3, backend=xpnn.get_backend("numpy"), rng=np.random.RandomState(0))
    page = model._repr_html_()
    assert page == model.summary()._repr_html_()
    assert cells(page)[0] == list(SummaryRow._fields)
    assert cells(page)[1:] == [
        ["dense1", "dense", "3", "4", "16"],
        ["&lt;b&gt;&amp;amp;1", "&lt;b&gt;&amp;amp;", "4", "4", "0"],
        ["total", "", "3", "4", "16"],
    ]
    assert "<b>" not in page


def test_summary_needs_a_number_of_features():
    model = network()
    with pytest.raises(ArgumentError, match=r"^inputs must be given for a model that has seen no"):
        model.summary()
    rows = model.summary(5)
    model.initialize(5, backend=xpnn.get_backend("numpy"), rng=np.random.RandomState(0))
    assert model.summary() == rows
    assert sum(row.parameters for row in rows) == 5 * 4 + 4 + 4 * 2


def test_untrained_model_has_nothing():
    model = network()
    assert (model.parameters, model.backend, model.inputs, model.history) == (None,) * 4
    for method in (model.placed, model.host_parameters, model.sha256):
        with pytest.raises(ArgumentError) as error:
            method()
        assert str(error.value) == "model has no parameters yet; train it with xpnn.fit first"


def test_initial_parameters_are_the_articles(library, dtype):
    """Layer by layer randn(in, out) * sqrt(2 / in), zeros; the same values on every backend."""
    backend = open_backend(library, dtype)
    model = placed(backend)
    rng = np.random.RandomState(3)
    first = rng.randn(5, 4) * np.sqrt(2 / 5)
    expected = [
        {"weight": first, "bias": np.zeros(4)},
        {},
        {"weight": rng.randn(4, 2) * np.sqrt(2 / 4)},
    ]
    for layer, own, wanted in zip(model.parameters, model.host_parameters(), expected, strict=True):
        assert layer.keys() == own.keys() == wanted.keys()
        for name, array in layer.items():
            assert backend.owns(array)
            assert array.dtype == backend.dtype
            assert array_api_compat.device(array) == backend.device
            np.testing.assert_array_equal(own[name], wanted[name].astype(dtype), strict=True)
    assert model.inputs == 5


def test_place_copies(library):
    backend = open_backend(library, "float64")
    source = placed(backend).host_parameters()
    before = [{name: array.copy() for name, array in layer.items()} for layer in source]
    for layer in source:
        for array in layer.values():
            array.flags.writeable = False
    model = network()
    with backend.scope():
        model.place(source, inputs=5, backend=backend)
    x = np.random.RandomState(0).randn(8, 5)
    xpnn.fit(model, (x, np.arange(8) % 2), epochs=2, batch_size=4, seed=0, backend=backend)
    for old, kept, new in zip(before, source, model.host_parameters(), strict=True):
        for name, array in old.items():
            np.testing.assert_array_equal(kept[name], array, strict=True)
            assert not np.array_equal(new[name], array)


def test_apply_and_forward_are_the_formula(library, dtype):
    backend = open_backend(library, dtype)
    model = placed(backend)
    host = np.random.RandomState(1).randn(7, 5).astype(dtype)
    (w1, b1), _, (w2,) = (tuple(layer.values()) for layer in model.host_parameters())
    hidden = np.tanh(host.astype(float) @ w1 + b1)
    tolerance = {"float32": 2e-6, "float64": 1e-14}[dtype]
    dy = np.random.RandomState(2).randn(7, 2).astype(dtype)
    with backend.scope():
        x = backend.asarray(host)
        applied = model.apply(model.parameters, x)
        y, pullback = model.forward(model.parameters, x, xp=backend.xp)
        gradients = pullback(backend.asarray(dy))
    for output in (applied, y):
        assert output.dtype == backend.dtype
        np.testing.assert_allclose(
            backend.to_numpy(output), hidden @ w2, rtol=tolerance, atol=tolerance
        )
    du = (dy.astype(float) @ w2.T) * (1 - hidden**2)
    expected = [
        {"weight": host.astype(float).T @ du, "bias": du.sum(axis=0)},
        {},
        {"weight": hidden.T @ dy},
    ]
    for own, wanted in zip(gradients, expected, strict=True):
        assert own.keys() == wanted.keys()
        for name, array in own.items():
            np.testing.assert_allclose(
                backend.to_numpy(array), wanted[name], rtol=10 * tolerance, atol=10 * tolerance
            )


def test_the_first_layer_computes_no_gradient_for_its_input():
    asked = []

    class Spy(xpnn.Dense):
        def forward(self, parameters, x, *, xp):
            y, pullback = super().forward(parameters, x, xp=xp)

            def spied(dy, input_gradient=True):
                asked.append(input_gradient)
                return pullback(dy, input_gradient)

            return y, spied

    model = xpnn.Sequential(Spy(3), Spy(3), Spy(2))
    backend = xpnn.get_backend("numpy")
    model.initialize(2, backend=backend, rng=np.random.RandomState(0))
    _, pullback = model.forward(model.parameters, np.ones((1, 2), np.float32), xp=np)
    pullback(np.ones((1, 2), np.float32))
    assert asked == [True, True, False]


def test_sha256_is_of_all_values_in_order(library, dtype):
    model = placed(open_backend(library, dtype))
    little = np.dtype(dtype).newbyteorder("<")
    raw = b"".join(
        np.ascontiguousarray(layer[name]).astype(little).tobytes()
        for layer in model.host_parameters()
        for name in layer
    )
    assert model.sha256() == hashlib.sha256(raw).hexdigest()


def test_names_keep_their_order_in_training(library):
    """The hash of equal weights is equal, though JAX's compiled steps sort what they return."""
    backend = open_backend(library, "float32")
    model = placed(backend)
    before = model.sha256()
    data = np.zeros((4, 5)), np.zeros((4, 2))
    # a step of nothing: inputs, targets and so gradients are 0
    loss = xpnn.MeanSquaredError()
    xpnn.fit(model, data, loss=loss, epochs=1, seed=0, backend=backend)
    assert [list(layer) for layer in model.host_parameters()] == [
        ["weight", "bias"],
        [],
        ["weight"],
    ]
    assert model.sha256() == before


def test_sha256_tells_values_apart_but_not_nans():
    backend = xpnn.get_backend("numpy", dtype="float64")
    model = placed(backend)

    def sha256(value):
        model.parameters[0]["bias"][1] = value
        return model.sha256()

    payload = np.array([0xFFF8000000000123], np.uint64).view(np.float64)[0]
    assert sha256(np.nan) == sha256(-np.nan) == sha256(payload)
    assert len({sha256(value) for value in (np.nan, 0.0, 5e-324, 1.0, np.inf)}) == 5


@pytest.mark.parametrize("reproducible", [False, True])
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_model_is_copied_and_pickled_with_its_parameters(backend, copied, reproducible):
    x, y = np.eye(4, 3), np.array([0, 1, 1, 0])
    model = xpnn.Sequential(xpnn.Dense(3), xpnn.Activation("swish", beta=2), xpnn.Dense(2))
    assert copied(model).parameters is None
    place = xpnn.get_backend(**{**backend.options(), "reproducible": reproducible})
    xpnn.fit(model, (x, y), epochs=1, seed=0, backend=place)
    twin = copied(model)
    before = twin.sha256()
    assert before == model.sha256()
    np.testing.assert_array_equal(xpnn.predict(twin, x), xpnn.predict(model, x))
    xpnn.fit(model, (x, y), epochs=1, seed=0, backend=place)
    assert twin.sha256() == before != model.sha256()
    assert type(twin.backend) is type(place)

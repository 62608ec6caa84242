"""ONNX: ONNX Runtime gives the outputs of xpnn, for every part, to the dtype's rounding."""

import json
import re
import sys
from dataclasses import dataclass

import numpy as np
import pytest

import xpnn
from tests.helpers import ROOT, open_backend
from xpnn import activations
from xpnn.activations import ACTIVATIONS
from xpnn.cli import main
from xpnn.datasets.columns import as_encoding
from xpnn.export import onnx as exporting
from xpnn.layers import LAYERS
from xpnn.losses import LOSSES
from xpnn.task import Task

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

RNG = np.random.RandomState(0)
X, Y = RNG.standard_normal((40, 5)), RNG.randint(0, 3, 40)

PARAMETERS = {
    "relu6": [{}, {"cap": 2.5}],
    "leaky_relu": [{}, {"negative_slope": -0.3}],
    "elu": [{}, {"alpha": 1.75}],
    "swish": [{}, {"beta": 2}, {"beta": -0.3}],
    "h_swish": [{}, {"n": 4}],
    "gelu": [{}, {"approximate": "tanh"}],
}
CASES = [
    (name, parameters)
    for name, function in ACTIVATIONS.items()
    if function.__module__.startswith("xpnn.")
    for parameters in PARAMETERS.get(name, [{}])
]

# where the functions bend, near 0 for expm1 and log1p, where exp overflows or vanishes, kinks
POINTS = np.concatenate(
    [np.linspace(-12, 12, 241), np.outer([1, -1], [1e-30, 1e-9, 1e-4, 30, 95, 750, 1e5]).ravel()]
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.onnx"


def placed(*layers, inputs=5, backend="numpy", dtype="float32", loss=None):
    """Return an untrained model with parameters on a backend."""
    model = xpnn.Sequential(*layers)
    place = open_backend(backend, dtype)
    model.initialize(inputs, backend=place, rng=np.random.RandomState(1))
    model.task = Task(loss=xpnn.MeanSquaredError() if loss is None else loss)
    return model


def run(path, x):
    """Return the outputs of ONNX Runtime by name."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"x": x}), strict=True))


def test_columns_of_a_table_are_part_of_the_graph(dtype, path):
    """0 and 1, comparisons and sums of few of them are exact; the first layer rounds as it does."""
    cells = np.empty((90, 5), object)
    cells[:, 0], cells[:, 1] = np.array(["u", "v", "w"])[Y.repeat(3)[:90]], X[:, 0].repeat(3)[:90]
    cells[:, 2], cells[:, 3] = np.arange(90) % 30, np.arange(90) % 2 == 0
    cells[:, 4] = np.array(["p", "q", "r"])[np.arange(90) % 3]
    cells[:2] = None
    columns = as_encoding({0: "ordinal", 2: "common"}, {3: 1}).fit(cells, range(5))
    model = placed(xpnn.Dense(3), inputs=len(columns.features), dtype=dtype)
    model.task = Task(loss=xpnn.MeanSquaredError(), columns=columns)
    xpnn.export_onnx(model, path)
    cells[3], cells[4] = ["x", 1.0, 99, False, "s"], ["v", None, 7, True, None]
    codes = columns.codes("x", cells)
    # any number that is no category is an unknown one
    codes[np.isinf(codes)] = -1
    got, expected = run(path, codes)["outputs"], xpnn.predict(model, cells)
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(got, expected, rtol=0, atol=40 * eps * np.abs(expected).max())
    about = onnx.load(path).metadata_props
    (told,) = (json.loads(each.value) for each in about if each.key == "columns")
    assert told == columns.config()


@pytest.mark.parametrize(("name", "parameters"), CASES, ids=str)
def test_every_activation(name, parameters, dtype, path):
    """Both evaluate the same formula, in each of whose operations they may round differently.

    No formula multiplies the rounding of more than 16 operations into its value, and the libraries'
    exp, log and tanh are granted 4 eps (test_activations.py); but an exponent x, of gelu (after
    three operations) and swish, makes of its own eps x of them, until exp(-x) is 0: for x = 104
    in float32, 746 in float64.
    """
    model = placed(xpnn.Activation(name, **parameters), inputs=1, dtype=dtype)
    xpnn.export_onnx(model, path)
    x = POINTS.astype(dtype)[:, None]
    got, expected = run(path, x)["outputs"], xpnn.predict(model, x)
    info = np.finfo(dtype)
    exponent = {"float32": 104, "float64": 746}[dtype]
    factor = 32 + (3 * exponent if name in ("gelu", "swish") else 0)
    np.testing.assert_allclose(
        got, expected, rtol=factor * info.eps, atol=1000 * info.smallest_normal, strict=True
    )


def test_every_layer_and_the_rounding_of_a_network(dtype, path):
    """|error| of x W + b is at most (K + 2) eps (|x| |W| + |b|) in each library, in any order."""
    assert {name for name, cls in LAYERS.items() if cls.__module__.startswith("xpnn.")} == {
        "Dense",
        "Activation",
        "Dropout",
        "BatchNorm",
    }, "export the new layer here too"
    rng = np.random.RandomState(3)
    layers = [
        xpnn.Dense(300, bias=rng.standard_normal(300)),
        xpnn.Activation("relu"),
        xpnn.Dense(4, bias=False),
    ]
    model = placed(*layers, inputs=200, dtype=dtype)
    xpnn.export_onnx(model, path)
    x = rng.standard_normal((50, 200)).astype(dtype)
    first, _, last = model.host_parameters()
    eps = np.finfo(dtype).eps
    u = np.abs(x) @ np.abs(first["weight"]) + np.abs(first["bias"])
    # of the first layer, carried through the second, and the second's own
    bound = 2 * (202 + 302) * eps * (u @ np.abs(last["weight"]))
    got, expected = run(path, x)["outputs"], xpnn.predict(model, x)
    assert got.dtype == expected.dtype
    assert (np.abs(got - expected) <= bound).all()


@dataclass(frozen=True)
class Case:
    """A loss, the network's outputs for it, and the names of the graph's."""

    loss: xpnn.Loss
    outputs: int
    names: tuple[str, ...]


@pytest.mark.parametrize(
    "case",
    [
        Case(xpnn.CrossEntropy(), 3, ("logits", "probabilities")),
        Case(xpnn.Flooding(xpnn.CrossEntropy(), b=0.1), 3, ("logits", "probabilities")),
        Case(xpnn.BinaryCrossEntropy(), 1, ("logits", "probabilities")),
        Case(xpnn.MeanSquaredError(), 2, ("outputs",)),
        Case(xpnn.MeanAbsoluteError(), 2, ("outputs",)),
        Case(xpnn.Huber(), 2, ("outputs",)),
        Case(xpnn.Flooding(xpnn.Poisson(), b=0.1), 2, ("outputs",)),
        Case(xpnn.Quantile((0.1, 0.9)), 4, ("outputs",)),
        Case(xpnn.Focal(), 3, ("logits", "probabilities")),
        Case(xpnn.BinaryFocal(), 1, ("logits", "probabilities")),
    ],
    ids=lambda case: repr(case.loss),
)
def test_every_loss_and_backend(case, library, dtype, path):
    layers = xpnn.Dense(7), xpnn.Activation("tanhexp"), xpnn.Dense(case.outputs)
    model = placed(*layers, backend=library, dtype=dtype, loss=case.loss)
    xpnn.export_onnx(model, path)
    x = X.astype(dtype)
    got = run(path, x)
    assert tuple(got) == case.names
    expected = np.asarray(xpnn.predict_proba(model, X))
    # layers of 5 and 7 inputs, of numbers of the size 1 to 4, and a softmax: 200 roundings or less,
    # which the exponential of a mean count makes relative
    atol = 200 * np.finfo(dtype).eps
    rtol = atol if case.loss.name == "poisson" else 0
    np.testing.assert_allclose(got[case.names[-1]], expected, rtol=rtol, atol=atol, strict=True)
    for rows in (0, 1, 3):  # the batch's size is free
        np.testing.assert_allclose(
            run(path, x[:rows])[case.names[-1]],
            expected[:rows],
            rtol=rtol,
            atol=atol,
            strict=True,
        )


def test_losses_here_are_all(kept):
    assert {name for name, cls in LOSSES.items() if cls.__module__.startswith("xpnn.")} == {
        "cross_entropy",
        "mean_squared_error",
        "binary_cross_entropy",
        "mean_absolute_error",
        "huber",
        "poisson",
        "quantile",
        "focal",
        "binary_focal",
    }, "export the new loss above too"


def test_a_reproducible_model(path):
    model = xpnn.Sequential(xpnn.Dense(7), xpnn.Activation("mish"), xpnn.Dense(3))
    xpnn.fit(model, (X, Y), epochs=1, batch_size=8, seed=3, reproducible=True)
    xpnn.export_onnx(model, path)
    got = run(path, X.astype("float32"))["probabilities"]
    np.testing.assert_allclose(got, xpnn.predict_proba(model, X), rtol=0, atol=200 * 2.0**-23)


def test_what_the_file_says(path, dtype):
    model = xpnn.Sequential(xpnn.Dense(7), xpnn.Activation("h_swish", n=4), xpnn.Dense(3))
    xpnn.fit(model, (X, Y), epochs=1, seed=3, dtype=dtype)
    xpnn.export_onnx(model, path)
    made = onnx.load(path)
    onnx.checker.check_model(made, full_check=True)
    assert (made.producer_name, made.producer_version) == ("xpnn", xpnn.__version__)
    assert [(entry.domain, entry.version) for entry in made.opset_import] == [("", 18)]
    about = {entry.key: entry.value for entry in made.metadata_props}
    assert about == {
        "xpnn": xpnn.__version__,
        "model": repr(model),
        "loss": repr(model.task.loss),
        "classes": "3",
    }
    (x,) = made.graph.input
    assert x.name == "x"
    assert [d.dim_param or d.dim_value for d in x.type.tensor_type.shape.dim] == ["batch", 5]
    for output in made.graph.output:
        shape = [d.dim_param or d.dim_value for d in output.type.tensor_type.shape.dim]
        assert shape == ["batch", 3]
    parameters = {i.name: onnx.numpy_helper.to_array(i) for i in made.graph.initializer}
    weight = model.host_parameters()[2]["weight"]
    np.testing.assert_array_equal(parameters["dense2.weight"], weight, strict=True)
    assert {node.name.split("/")[0] for node in made.graph.node} >= {"dense1", "h_swish1", "dense2"}


def test_an_own_activation_layer_and_loss_go_along(kept, path, dtype):
    @activations.register
    def bent(u, a=2.0, *, xp):
        z = xp.where(u > 0, xp.log1p(xp.abs(a * u)), -xp.square(u))
        return z, None

    class Gate(xpnn.Layer):
        """The first half of the features, gated by the second; then one more, their mean."""

        kind = "gate"

        def config(self):
            return {}

        def outputs(self, inputs):
            return inputs // 2 + 1

        def forward(self, parameters, x, *, xp):
            half = x.shape[1] // 2
            gate = 1.0 / (1.0 + xp.exp(-x[:, half:]))
            gated = x[:, :half] * gate
            return xp.concat([gated, xp.mean(gated, axis=-1, keepdims=True)], axis=1), None

    class Halved(xpnn.MeanSquaredError):
        name = "halved"

        def predict(self, outputs, *, xp):
            return outputs / 2.0

    model = placed(xpnn.Dense(6), xpnn.Activation("bent", a=3), Gate(), dtype=dtype, loss=Halved())
    xpnn.export_onnx(model, path)
    got = run(path, X.astype(dtype))
    expected = xpnn.predict_proba(model, X)
    atol = 200 * np.finfo(dtype).eps
    np.testing.assert_allclose(got["probabilities"], expected, rtol=0, atol=atol, strict=True)
    np.testing.assert_allclose(got["logits"], 2 * expected, rtol=0, atol=2 * atol, strict=True)


# 1, 1.5 and 2, which are compared with, are among them
U = np.arange(1, 13).reshape(4, 3) / 4.0
FUNCTIONS = [
    *((name, lambda xp, x, f=name: getattr(xp, f)(x)) for name in sorted(exporting._UNARY)
      if name not in ("isnan", "logical_not")),
    *((name, lambda xp, x, f=name: getattr(xp, f)(x, 2.0 * x)) for name in (
        "add", "divide", "maximum", "minimum", "multiply", "pow", "subtract")),
    *((name, lambda xp, x, f=name: xp.where(getattr(xp, f)(x, 1.5), x, 0.0)) for name in (
        "equal", "greater", "greater_equal", "less", "less_equal", "not_equal")),
    *((name, lambda xp, x, f=name: xp.where(getattr(xp, f)(x > 1, x < 2), x, 0.0)) for name in (
        "logical_and", "logical_or", "logical_xor")),
    *((name, lambda xp, x, f=name: x - getattr(xp, f)(x, axis=1, keepdims=True)) for name in (
        sorted(exporting._REDUCTIONS))),
    ("all of it", lambda xp, x: x * xp.sum(x)),
    ("isnan", lambda xp, x: xp.where(xp.isnan(x), 0.0, x)),
    ("not", lambda xp, x: xp.where(~(x > 1), 0.0, x)),
    ("clip", lambda xp, x: xp.clip(x, 0.5, 2.0) + xp.clip(x, max=1.0)),
    ("expm1", lambda xp, x: xp.expm1(x) + xp.expm1(-x)),
    ("operators", lambda xp, x: 1 - (+x if hasattr(x, "__pos__") else x) ** 2 / 3 + 2 * (-abs(x))),
    ("like", lambda xp, x: xp.zeros_like(x) - xp.ones_like(x) * x),
    ("astype", lambda xp, x: xp.astype(xp.astype(x > 1, x.dtype) * xp.floor(x), x.dtype)),
    ("asarray", lambda xp, x: x * xp.asarray([1.0, 2.0, 3.0], dtype=x.dtype, device=None)),
    ("take apart", lambda xp, x: x[:, ::-1] - x[..., 1:2] + xp.expand_dims(x[:, 1], axis=1)),
    ("none", lambda xp, x: x * x[:, -1, None]),
    ("reshape", lambda xp, x: xp.reshape(xp.reshape(x, (x.shape[0], 3, 1)), (-1, 3)) + x),
    ("squeeze", lambda xp, x: x * xp.squeeze(xp.reshape(x, (x.shape[0], 1, 3)), axis=1)),
    ("transpose", lambda xp, x: (xp.matrix_transpose(x) * 2).T),
    ("integers", lambda xp, x: x + xp.astype(xp.astype(x > 1, xp.int32) * 0.5, x.dtype)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "function"), FUNCTIONS, ids=[name for name, _ in FUNCTIONS])
def test_every_function_of_the_namespace(name, function, dtype, path):
    class Own(xpnn.Layer):
        kind = "own"

        def config(self):
            return {}

        def forward(self, parameters, x, *, xp):
            return function(xp, x), None

    model = placed(Own(), inputs=3, dtype=dtype)
    xpnn.export_onnx(model, path)
    got, expected = run(path, U.astype(dtype))["outputs"], xpnn.predict(model, U)
    # a few operations each, of values up to 6^6
    rtol = 32 * np.finfo(dtype).eps
    np.testing.assert_allclose(got, expected, rtol=rtol, atol=rtol, strict=True)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda xp, x: xp.sort(x), r"own1 can't be exported to ONNX: xp\.sort has no counterpart"),
        (lambda xp, x: x / x.shape[0], r"own1 can't .*: it computes with the number of samples"),
        (lambda xp, x: xp.sum(x, axis=0) * x if x.shape[0] == 2 else x, r"the number of samples"),
        (lambda xp, x: x if x.shape[0] == 1 else -x, r"own1 can't .*: .* the number of samples"),
        (lambda xp, x: xp.reshape(x.T, x.shape), r"own1 can't .*: .* the number of samples"),
        (lambda xp, x: x if x[0, 0] > 0 else -x, r"own1 can't .*: an array's values aren't known"),
        (lambda xp, x: np.ones((2, 3)), r"own1 can't be exported to ONNX: it returns ndarray"),
        (lambda xp, x: xp.asarray([[1.0, 2.0, 3.0]]), r"own1 can't .*: it returns shape \(1, 3\)"),
        (lambda xp, x: x @ x, r"own1 can't be exported to ONNX: matmul"),
        (
            lambda xp, x: x + xp.asarray([1.0, 2.0]),
            r"own1 can't be exported to ONNX: .*ncompatible",
        ),
        (lambda xp, x: xp.exp(x > 0), r"own1 can't be exported to ONNX: .*unsupported type"),
        (lambda xp, x: x * x.size, r"own1 can't .*: it computes with the number of samples"),
        (lambda xp, x: xp.sum(x), r"own1 can't .*: it returns shape \(\)"),
        (lambda xp, x: np.add.reduce(x), r"own1 can't be exported to ONNX: "),
    ],
)
def test_what_cannot_be_exported_is_named(function, message, path):
    class Own(xpnn.Layer):
        kind = "own"

        def config(self):
            return {}

        def forward(self, parameters, x, *, xp):
            return function(xp, x), None

    path.write_text("old")
    with pytest.raises(xpnn.ArgumentError, match=message):
        xpnn.export_onnx(placed(Own(), inputs=3), path)
    assert path.read_text() == "old"
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_network_runs_once(path):
    calls = []

    class Own(xpnn.Layer):
        kind = "own"

        def config(self):
            return {}

        def forward(self, parameters, x, *, xp):
            calls.append(x.shape)
            return x, None

    xpnn.export_onnx(placed(xpnn.Dense(4), Own(), xpnn.Dense(2)), path)
    ((samples, features),) = calls
    assert (repr(samples), features) == ("batch", 4)


def test_a_model_without_parameters(path):
    with pytest.raises(xpnn.ArgumentError, match="no parameters yet"):
        xpnn.export_onnx(xpnn.Sequential(xpnn.Dense(3)), path)


def test_without_onnx(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(xpnn.ArgumentError, match=r"pip install 'xpnn\[onnx\]'"):
        xpnn.export_onnx(placed(xpnn.Dense(3)), path)


def test_the_command(tmp_path, path, capsys):
    model, saved = xpnn.Sequential(xpnn.Dense(4), xpnn.Dense(3)), tmp_path / "model.safetensors"
    xpnn.fit(model, (X, Y), epochs=1, seed=3)
    xpnn.save(model, saved)
    assert main(["export", str(saved), str(path), "--dtype", "float64"]) == 0
    got = run(path, X)["probabilities"]
    expected = xpnn.predict_proba(xpnn.load(saved, dtype="float64"), X)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-14)
    before = saved.read_bytes()
    assert main(["export", str(saved), str(saved)]) == 2
    assert saved.read_bytes() == before
    assert main(["export", str(tmp_path / "nothing"), str(path)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("xpnn: error: ") for line in lines)


PAGE = (ROOT / "docs" / "guide" / "onnx.md").read_text(encoding="utf-8")


def test_the_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    space = {}
    for block in re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL):
        exec(block, space)
    got, expected = space["probabilities"], xpnn.predict_proba(space["model"], space["x"])
    np.testing.assert_allclose(got, expected, rtol=0, atol=200 * 2.0**-23)
    assert f"| opset | {exporting.OPSET}, IR {exporting.IR_VERSION}:" in PAGE


def test_the_page_and_the_tests_have_every_function():
    own = {name for name in vars(exporting.OnnxNamespace) if not name.startswith("_")}
    own |= {*exporting._UNARY, *exporting._BINARY, *exporting._REDUCTIONS}
    listed = re.findall(r"^> (.*)$", PAGE, flags=re.MULTILINE)
    assert set(" ".join(listed).split()) == own


@pytest.mark.parametrize("kind", ["standard", "minmax"])
def test_normalizers_batch_norm_and_dropout_are_in_the_graph(kind, dtype, tmp_path):
    rng = np.random.RandomState(0)
    x = rng.uniform(900, 1100, (60, 4))
    y = x.sum(axis=1, keepdims=True) + 50
    model = xpnn.Sequential(
        xpnn.Dense(7),
        xpnn.BatchNorm(),
        xpnn.Activation("tanhexp"),
        xpnn.Dropout(0.2),
        xpnn.Dense(1),
    )
    xpnn.fit(
        model, (x, y), loss=xpnn.MeanSquaredError(), epochs=3, batch_size=20, seed=1, dtype=dtype,
        normalizer=kind, target_normalizer=kind,
    )  # fmt: skip
    xpnn.export_onnx(model, tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    (found,) = session.run(None, {"x": x})
    expected = xpnn.predict(model, x)
    assert [output.name for output in session.get_outputs()] == ["outputs"]
    # outputs of some thousands, turned back from a few units with some tens of roundings
    np.testing.assert_allclose(found, expected, rtol=100 * np.finfo(dtype).eps)


def test_what_only_float64_tells_apart_is_normalized_in_it(tmp_path):
    rng = np.random.default_rng(1)
    # moments of one day, in milliseconds since 1970: neighbours in float32 are 131 seconds apart
    x = 1.7e12 + rng.uniform(0, 1e5, (200, 2))
    y = (x[:, 0] > x[:, 1]).astype(np.int64)
    model = xpnn.Sequential(xpnn.Dense(2))
    xpnn.fit(model, (x, y), epochs=20, batch_size=20, seed=0, normalizer="standard")
    xpnn.export_onnx(model, tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    assert session.get_inputs()[0].type == "tensor(double)"
    (theirs,) = session.run(["probabilities"], {"x": x})
    # a layer of 2 inputs and a softmax
    np.testing.assert_allclose(theirs, xpnn.predict_proba(model, x), rtol=0, atol=40 * 2.0**-23)
    assert (theirs.argmax(axis=1) == y).mean() > 0.95

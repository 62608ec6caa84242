"""Weights from elsewhere: the outputs are PyTorch's and scikit-learn's."""

import subprocess
import sys

import numpy as np
import pytest

import xpnn
from tests.helpers import open_backend
from xpnn.activations import ACTIVATIONS
from xpnn.errors import ArgumentError, BackendError

RNG = np.random.RandomState(0)
X = RNG.standard_normal((40, 6))


def bound(model, x, dtype, roundings=0):
    """Return how far two evaluations of a model's formulas may be from each other.

    With |layers| those with absolute values in place of all numbers, a layer of K inputs errs by
    (K + 2) eps of that in each library; activations, whose slopes are at most 1.1 (of h-swish 1.5),
    and what is computed from outputs, by 32 eps of it.
    """
    u, roundings = np.abs(x).astype(np.float64), roundings
    for own in model.host_parameters():
        if "weight" in own:
            roundings += len(own["weight"]) + 2
            u = u @ np.abs(own["weight"]) + np.abs(own.get("bias", 0.0))
        elif "scale" in own:
            roundings += 6
            scale = np.abs(own["scale"]) / np.sqrt(own["running_var"])
            u = (u + np.abs(own["running_mean"])) * scale + np.abs(own["bias"])
        else:
            roundings += 32
            u = 1.5 * u + 1
    return 2 * roundings * np.finfo(dtype).eps * u.max()


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


@pytest.fixture
def nn(torch):
    torch.manual_seed(1)
    return torch.nn


def outputs_of(module, torch, x=X):
    """Return a module's outputs in evaluation, in float64."""
    module = module.eval()
    with torch.no_grad():
        dtype = next(module.parameters()).dtype
        return module(torch.from_numpy(x).to(dtype)).double().numpy()


def trained(nn, torch):
    """A module of all that can be taken over, with running figures that aren't the initial ones."""
    module = nn.Sequential(
        nn.Flatten(),
        nn.Linear(6, 9),
        nn.BatchNorm1d(9, eps=1e-3, momentum=0.3),
        nn.Sequential(nn.ReLU(), nn.Dropout(0.25), nn.Sequential(nn.Linear(9, 7, bias=False))),
        nn.BatchNorm1d(7, affine=False),
        nn.Tanh(),
        nn.Linear(7, 3),
    ).double()
    for _ in range(3):
        module(torch.from_numpy(X) * 3 + 1)
    with torch.no_grad():
        module[2].weight.mul_(-1.5)
    return module


def test_from_torch_on_every_backend(nn, torch, library, dtype):
    module = trained(nn, torch)
    backend = open_backend(library, dtype)
    device = backend.options()["device"]
    options = {"backend": backend.name, "device": device, "dtype": dtype}
    model = xpnn.from_torch(module, **options)
    assert [layer.kind for layer in model.layers] == [
        "dense", "batch_norm", "relu", "dropout", "dense", "batch_norm", "tanh", "dense",
    ]  # fmt: skip
    assert (model.inputs, model.backend.name) == (6, backend.name)
    assert repr(model.layers[1]) == "BatchNorm(momentum=0.3, eps=0.001)"
    got, expected = xpnn.predict(model, X), outputs_of(module, torch)
    np.testing.assert_allclose(got, expected, rtol=0, atol=bound(model, X, dtype))


def test_a_model_from_torch_is_a_model(nn, torch, tmp_path):
    """It is evaluated, trained on, saved, and gives a module again."""
    module = trained(nn, torch)
    model = xpnn.from_torch(module, loss=xpnn.CrossEntropy(), labels=["a", "b", "c"])
    y = np.array(["a", "b", "c"])[outputs_of(module, torch).argmax(axis=1)]
    assert xpnn.evaluate(model, (X, y)).accuracy == 1
    xpnn.save(model, tmp_path / "model.safetensors")
    assert (xpnn.predict(xpnn.load(tmp_path / "model.safetensors"), X) == y).all()
    back = xpnn.to_torch(model)
    assert not back.training
    np.testing.assert_allclose(
        outputs_of(back, torch), outputs_of(module, torch), rtol=0, atol=bound(model, X, "float64")
    )
    before = model.host_parameters()[0]["weight"]
    history = xpnn.fit(model, (X, y), loss=xpnn.CrossEntropy(), epochs=20, seed=1, dtype="float64")
    assert history[-1].train_loss < history[0].train_loss
    # the module keeps its weights
    np.testing.assert_array_equal(before.T, module[1].weight.detach().numpy())
    np.testing.assert_array_equal(before.T, back[0].weight.detach().numpy())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_dtype_is_the_modules(nn, torch, dtype):
    module = nn.Sequential(nn.Linear(6, 2)).to(getattr(torch, dtype))
    assert xpnn.from_torch(module).backend.dtype_name == dtype
    assert xpnn.from_torch(module, dtype="float64").backend.dtype_name == "float64"
    assert xpnn.to_torch(xpnn.from_torch(module))[0].weight.dtype == getattr(torch, dtype)
    assert xpnn.from_torch(module.half()).backend.dtype_name == "float32"


@pytest.mark.parametrize(
    ("make", "layer", "error"),
    [
        (lambda nn: nn.Identity(), xpnn.Activation("identity"), 0),
        (lambda nn: nn.ReLU(), xpnn.Activation("relu"), 0),
        (lambda nn: nn.ReLU6(), xpnn.Activation("relu6"), 0),
        (lambda nn: nn.Hardtanh(0.0, 2.5), xpnn.Activation("relu6", cap=2.5), 0),
        (lambda nn: nn.LeakyReLU(0.2), xpnn.Activation("leaky_relu", negative_slope=0.2), 0),
        (lambda nn: nn.ELU(1.5), xpnn.Activation("elu", alpha=1.5), 0),
        (lambda nn: nn.Sigmoid(), xpnn.Activation("sigmoid"), 0),
        (lambda nn: nn.Tanh(), xpnn.Activation("tanh"), 0),
        # above its threshold PyTorch leaves out log(1 + exp(-u))
        (lambda nn: nn.Softplus(), xpnn.Activation("softplus"), 2.1e-9),
        (lambda nn: nn.SiLU(), xpnn.Activation("swish"), 0),
        (lambda nn: nn.Mish(), xpnn.Activation("mish"), 0),
        (lambda nn: nn.Hardswish(), xpnn.Activation("h_swish"), 0),
        (lambda nn: nn.GELU(), xpnn.Activation("gelu", approximate="none"), 0),
        (lambda nn: nn.GELU("tanh"), xpnn.Activation("gelu", approximate="tanh"), 0),
    ],
    ids=lambda value: repr(value) if isinstance(value, xpnn.Layer) else "",
)
def test_every_activation(make, layer, error, nn, torch):
    """In float64, from -30 to 30, within 64 eps of the value or of 1."""
    x = np.linspace(-30, 30, 401)[:, np.newaxis]
    linear = nn.Linear(1, 1, bias=False).double()
    with torch.no_grad():
        linear.weight.fill_(1.0)
    # in the middle, because a last sigmoid becomes part of the loss
    module = nn.Sequential(linear, make(nn), nn.Identity())
    model = xpnn.from_torch(module)
    assert repr(model.layers[1]) == repr(layer)
    expected = outputs_of(module, torch, x)
    tolerance = 64 * np.finfo("float64").eps * np.maximum(np.abs(expected), 1)
    assert (np.abs(xpnn.predict(model, x) - expected) <= tolerance + error).all()
    back = xpnn.to_torch(model)
    assert type(back[1]) is type(module[1])
    # without a threshold, PyTorch's softplus is ours
    assert (np.abs(outputs_of(back, torch, x) - xpnn.predict(model, x)) <= tolerance).all()


def test_activations_that_pytorch_lacks_are_refused(nn):
    without = {"tanhexp": {}, "swish": {"beta": 2}, "h_swish": {"n": 4}}
    for name in ACTIVATIONS:
        given = without.get(name)
        layer = xpnn.Activation(name, **(given or {}))
        model = xpnn.Sequential(xpnn.Dense(2), layer)
        model.initialize(3, backend=open_backend("numpy", "float32"), rng=RNG)
        if given is None:
            assert len(xpnn.to_torch(model)) == 2
        else:
            message = rf"{name}1, Activation\('{name}'.*\), has no counterpart in PyTorch"
            with pytest.raises(ArgumentError, match=message):
                xpnn.to_torch(model)


@pytest.mark.parametrize(
    ("last", "loss", "outputs", "classes"),
    [
        ("Softmax", xpnn.CrossEntropy(), 3, 3),
        ("LogSoftmax", xpnn.CrossEntropy(), 3, 3),
        ("Sigmoid", xpnn.BinaryCrossEntropy(), 1, 2),
        ("Sigmoid", xpnn.BinaryCrossEntropy(), 3, None),
        (None, xpnn.MeanSquaredError(), 3, None),
    ],
)
def test_a_last_softmax_belongs_to_the_loss(last, loss, outputs, classes, nn, torch):
    ends = [] if last is None else [nn.Sigmoid() if last == "Sigmoid" else getattr(nn, last)(dim=1)]
    module = nn.Sequential(nn.Linear(6, outputs), *ends).double()
    model = xpnn.from_torch(module)
    assert (model.task.loss, model.task.classes) == (loss, classes)
    assert len(model.layers) == 1
    expected = outputs_of(module, torch)
    expected = np.exp(expected) if last == "LogSoftmax" else expected
    atol = bound(model, X, "float64", roundings=32)
    np.testing.assert_allclose(xpnn.predict_proba(model, X), expected, rtol=0, atol=atol)
    if classes is not None:
        wanted = expected[:, 0] > 0.5 if outputs == 1 else expected.argmax(axis=1)
        assert (xpnn.predict(model, X) == wanted).all()


def test_a_given_loss_decides(nn):
    module = nn.Sequential(nn.Linear(6, 1), nn.Sigmoid())
    assert len(xpnn.from_torch(module, loss=xpnn.MeanSquaredError()).layers) == 2
    flooded = xpnn.Flooding(xpnn.BinaryFocal(), b=0.1)
    model = xpnn.from_torch(module, loss=flooded, labels=["no", "yes"])
    assert len(model.layers) == 1
    assert set(xpnn.predict(model, X)) <= {"no", "yes"}
    assert xpnn.from_torch(nn.Linear(6, 2), loss=xpnn.Focal()).task.classes == 2
    plain = xpnn.from_torch(nn.Linear(6, 2), loss=xpnn.CrossEntropy(), labels=[0, 1])
    assert (plain.task.classes, plain.task.labels) == (2, None)
    quantiles = xpnn.from_torch(nn.Linear(6, 2), loss=xpnn.Quantile((0.1, 0.9)))
    assert quantiles.task.classes is None


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (lambda nn: 3, {}, r"module must be a torch.nn.Sequential, got 3"),
        (lambda nn: nn.Sequential(), {}, r"module must have a Linear with its inputs, got Sequent"),
        (lambda nn: nn.Sequential(nn.ReLU()), {}, r"must have a Linear with its inputs"),
        (lambda nn: nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.ReLU(), nn.Conv1d(3, 4, 1))),
         {}, r"module '1.1' is Conv1d\(3, 4, .*, which xpnn doesn't have; it has Linear, Batch"),
        (lambda nn: nn.Sequential(nn.Linear(2, 3), nn.Softmax(1), nn.Linear(3, 1)),
         {}, r"module '1' is Softmax\(dim=1\), which xpnn doesn't have"),
        (lambda nn: nn.Sequential(nn.Linear(2, 3), nn.Flatten()), {}, r"module '1' is Flatten"),
        (lambda nn: nn.Sequential(nn.Flatten(0), nn.Linear(2, 3)),
         {}, r"module '0' must have start_dim=1, got Flatten"),
        (lambda nn: nn.Sequential(nn.Linear(2, 3), nn.Softmax(0)),
         {}, r"module '1' must have dim=1, got Softmax\(dim=0\)"),
        (lambda nn: nn.Sequential(nn.Linear(2, 3), nn.Linear(4, 3)),
         {}, r"module '1' must have 3 inputs, the outputs before it, got Linear\(in_features=4"),
        (lambda nn: nn.Sequential(nn.Linear(2, 3), nn.Hardtanh()),
         {}, r"module '1' must have min_val=0.0, got Hardtanh"),
        (lambda nn: nn.Sequential(nn.Linear(2, 3), nn.Softplus(2.0)),
         {}, r"module '1' must have beta=1.0, got Softplus"),
        (lambda nn: nn.Sequential(nn.Linear(2, 3), nn.Dropout(1.0)),
         {}, r"module '1', Dropout\(p=1.0, .*: p must be a number >= 0 and < 1, got 1.0"),
        (lambda nn: nn.BatchNorm1d(3, track_running_stats=False),
         {}, r"module 'BatchNorm1d' must have track_running_stats=True"),
        (lambda nn: nn.BatchNorm1d(3, momentum=None), {}, r"momentum must be .* got None"),
        (lambda nn: type("Own", (nn.Linear,), {})(2, 3), {}, r"is Own\(in_features=2"),
        (lambda nn: nn.Linear(2, 3), {"loss": 3}, r"loss must be such as .* got 3"),
        (lambda nn: nn.Linear(2, 1), {"loss": xpnn.CrossEntropy()}, r"2 or more outputs, got 1"),
        (lambda nn: nn.Sequential(nn.Linear(2, 3), nn.Softmax(1)), {"loss": xpnn.Huber()},
         r"loss must be CrossEntropy or Focal after a Softmax, got Huber\(delta=1.0\)"),
        (lambda nn: nn.Linear(2, 3), {"loss": xpnn.CrossEntropy(), "labels": ["a", "b"]},
         r"labels must have one for each of the 3 classes, got 2"),
        (lambda nn: nn.Linear(2, 1), {"labels": ["a", "b"]}, r"loss must be one for classes where"),
        (lambda nn: nn.Linear(2, 3), {"dtype": "float16"}, r"unknown dtype 'float16'"),
    ],
)  # fmt: skip
def test_modules_that_are_refused(make, options, message, nn):
    with pytest.raises(ArgumentError, match=message):
        xpnn.from_torch(make(nn), **options)


def test_weights_must_be_finite(nn, torch):
    module = nn.Sequential(nn.Linear(2, 3))
    with torch.no_grad():
        module[0].bias[1] = float("nan")
    with pytest.raises(ArgumentError, match=r"weights must be finite, got NaN .* in 0.bias"):
        xpnn.from_torch(module)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("loss", [xpnn.MeanSquaredError(), xpnn.Quantile((0.25, 0.75))], ids=repr)
def test_normalizers_go_along(loss, dtype, torch):
    y = np.column_stack([X[:, 0] + 100, 10 * X[:, 1]])
    x = 5 * X + 20
    layers = xpnn.Dense(7), xpnn.Activation("h_swish"), xpnn.Dense(2 * loss.outputs_per_target)
    model = xpnn.Sequential(*layers)
    xpnn.fit(model, (x, y), loss=loss, normalizer="standard", target_normalizer="minmax", epochs=3,
             batch_size=20, seed=1, dtype=dtype)  # fmt: skip
    module = xpnn.to_torch(model)
    assert [type(part).__name__ for part in module] == [
        "BatchNorm1d", "Linear", "Hardswish", "Linear", "Linear",
    ]  # fmt: skip
    # features of the size 4 after normalization, whose rounding is that of 40 before, a tenfold of
    # it; outputs of the spread of the targets beside an offset of 100
    spread = np.ptp(y, axis=0).max()
    error = 10 * bound(model, (x - x.mean(0)) / x.std(0), dtype) * spread
    error += 4 * np.finfo(dtype).eps * 200
    np.testing.assert_allclose(
        outputs_of(module, torch, x), xpnn.predict(model, x), rtol=0, atol=error
    )


def test_a_normalizer_that_a_batch_norm_cannot_have(torch):
    model = xpnn.Sequential(xpnn.Dense(1))
    tiny = xpnn.StandardScaler(np.zeros(6), np.full(6, 1e-30))
    xpnn.fit(model, (X * 1e-30, X[:, :1]), loss=xpnn.MeanSquaredError(), normalizer=tiny, epochs=1)
    with pytest.raises(ArgumentError, match=r"scales must be > 0, with squares in float32"):
        xpnn.to_torch(model)


def test_to_torch_without_parameters_or_pytorch(monkeypatch):
    model = xpnn.Sequential(xpnn.Dense(1))
    with pytest.raises(ArgumentError, match="model has no parameters yet"):
        xpnn.to_torch(model)
    xpnn.fit(model, (X, X[:, :1]), loss=xpnn.MeanSquaredError(), epochs=1)
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda *_: None)
    with pytest.raises(BackendError, match=r"to_torch needs PyTorch: .* pip install torch"):
        xpnn.to_torch(model)


# scikit-learn


@pytest.fixture
def neural_network():
    return pytest.importorskip("sklearn.neural_network")


def fitted(estimator, y):
    with pytest.warns(match="Maximum iterations"):
        return estimator.fit(X, y)


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("kind", ["two", "floats", "three", "names", "multilabel"])
def test_from_sklearns_classifiers(kind, activation, neural_network):
    y = {
        "two": np.where(X[:, 0] > 0, 7, -7),
        "floats": np.where(X[:, 0] > 0, 2.0, 1.0),
        "three": np.digitize(X[:, 0], [-0.5, 0.5]),
        "names": np.array(["ä", "b", "cc"])[np.digitize(X[:, 0], [-0.5, 0.5])],
        "multilabel": (X[:, :3] > 0).astype(int),
    }[kind]
    theirs = fitted(
        neural_network.MLPClassifier((8, 5), activation=activation, max_iter=5, random_state=1), y
    )
    model = xpnn.from_sklearn(theirs)
    proba = theirs.predict_proba(X)
    expected = proba[:, 1:] if kind in ("two", "floats") else proba
    atol = bound(model, X, "float64", roundings=32)
    np.testing.assert_allclose(xpnn.predict_proba(model, X), expected, rtol=0, atol=atol)
    predicted = xpnn.predict(model, X)
    predicted = (predicted > 0.5).astype(int) if kind == "multilabel" else predicted
    np.testing.assert_array_equal(predicted, theirs.predict(X))
    assert model.backend.dtype_name == "float64"


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("columns", [1, 2])
def test_from_sklearns_regressors(columns, library, neural_network):
    backend = open_backend(library, "float64")
    y = X[:, 0] if columns == 1 else X[:, :2]
    theirs = fitted(
        neural_network.MLPRegressor(hidden_layer_sizes=(8,), max_iter=5, random_state=1), y
    )
    model = xpnn.from_sklearn(theirs, backend=backend.name, dtype="float64")
    atol = bound(model, X, "float64")
    expected = theirs.predict(X)
    np.testing.assert_allclose(xpnn.predict(model, X), expected, rtol=0, atol=atol)
    assert model.task.loss == xpnn.MeanSquaredError()


def test_from_a_poisson_regressor(neural_network):
    try:
        theirs = neural_network.MLPRegressor(
            hidden_layer_sizes=(8,), loss="poisson", max_iter=5, random_state=1
        )
    except TypeError:
        pytest.skip("scikit-learn has no Poisson loss before 1.7")
    theirs = fitted(theirs, np.round(np.exp(X[:, 0])))
    model = xpnn.from_sklearn(theirs)
    # the rounding of an exponent becomes a relative one
    rtol = bound(model, X, "float64", roundings=32)
    np.testing.assert_allclose(xpnn.predict(model, X), theirs.predict(X), rtol=rtol)
    assert model.task.loss == xpnn.Poisson()


def test_names_of_features_go_along(neural_network, tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X[:, :2], columns=["width", "height"])
    with pytest.warns(match="Maximum iterations"):
        theirs = neural_network.MLPClassifier((3,), max_iter=2).fit(frame, X[:, 2] > 0)
    model = xpnn.from_sklearn(theirs)
    assert model.task.feature_names == ("width", "height")
    xpnn.save(model, tmp_path / "model.safetensors")
    loaded = xpnn.load(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(xpnn.predict(loaded, X[:, :2]), theirs.predict(frame))


def test_estimators_that_are_refused(neural_network):
    from sklearn.linear_model import LogisticRegression

    from xpnn.estimators import MLPClassifier

    y = X[:, 0] > 0
    with pytest.raises(ArgumentError, match=r"must be an MLPClassifier .* got LogisticRegression"):
        xpnn.from_sklearn(LogisticRegression().fit(X, y))
    with pytest.raises(ArgumentError, match=r"estimator must be fitted, got MLPRegressor"):
        xpnn.from_sklearn(neural_network.MLPRegressor())
    with pytest.raises(ArgumentError, match=r"of MLPClassifier of xpnn.estimators is .* model_"):
        xpnn.from_sklearn(fitted(MLPClassifier((3,), max_iter=1), y))


def test_neither_library_is_imported():
    code = "import sys, xpnn; xpnn.from_torch, xpnn.from_sklearn, xpnn.to_torch\n"
    code += "sys.exit('torch' in sys.modules or 'sklearn' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)

"""Weights from elsewhere: `from_torch`, `to_torch` and `from_sklearn`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from xpnn._core.tree import Tree, flatten
from xpnn.activations import ACTIVATIONS
from xpnn.backends import get_backend, to_numpy
from xpnn.datasets.labels import check_labels
from xpnn.errors import ArgumentError, BackendError
from xpnn.layers import Activation, BatchNorm, Dense, Dropout, Layer
from xpnn.losses import (
    BinaryCrossEntropy,
    BinaryFocal,
    CrossEntropy,
    Flooding,
    Focal,
    Loss,
    MeanSquaredError,
    Poisson,
)
from xpnn.model import Sequential
from xpnn.task import Task
from xpnn.training.plan import made

__all__ = [
    "from_sklearn",
    "from_torch",
    "to_torch",
]

Array = Any


_NOTHING: Mapping[str, Any] = MappingProxyType({})


class _Known(NamedTuple):
    """An activation that PyTorch has too.

    Attributes
    ----------
    name
        Its name here.
    attributes
        For each parameter here, the attribute of the module that holds it.
    fixed
        The values that other attributes of the module must have.
    ours
        The values that other parameters here must have.
    """

    name: str
    attributes: Mapping[str, str] = _NOTHING
    fixed: Mapping[str, Any] = _NOTHING
    ours: Mapping[str, Any] = _NOTHING


# by the names of the classes in torch.nn; the first one that fits is taken
_ACTIVATIONS = {
    "Identity": _Known("identity"),
    "ReLU": _Known("relu"),
    "ReLU6": _Known("relu6", ours={"cap": 6.0}),
    "Hardtanh": _Known("relu6", {"cap": "max_val"}, {"min_val": 0.0}),
    "LeakyReLU": _Known("leaky_relu", {"negative_slope": "negative_slope"}),
    "ELU": _Known("elu", {"alpha": "alpha"}),
    "Sigmoid": _Known("sigmoid"),
    "Tanh": _Known("tanh"),
    "Softplus": _Known("softplus", fixed={"beta": 1.0}),
    "SiLU": _Known("swish", ours={"beta": 1.0}),
    "Mish": _Known("mish"),
    "Hardswish": _Known("h_swish", ours={"n": 6.0}),
    "GELU": _Known("gelu", {"approximate": "approximate"}),
}
_OTHERS = ("Linear", "BatchNorm1d", "Dropout")

# losses of one class for each sample, and of yes-or-no questions
_SOFTMAX, _SIGMOID = (CrossEntropy, Focal), (BinaryCrossEntropy, BinaryFocal)

_SKLEARN_ACTIVATIONS = {
    "identity": "identity", "logistic": "sigmoid", "tanh": "tanh", "relu": "relu",
}  # fmt: skip
_SKLEARN_LOSSES: dict[str, type[Loss]] = {
    "identity": MeanSquaredError,
    "logistic": BinaryCrossEntropy,
    "softmax": CrossEntropy,
    "exp": Poisson,
}


@np.errstate(all="ignore")
def from_torch(
    module: Any,
    *,
    loss: str | Loss | None = None,
    labels: Sequence[Any] | np.ndarray | None = None,
    backend: str = "numpy",
    device: str | None = None,
    dtype: str | None = None,
    reproducible: bool = False,
) -> Sequential:
    """Return a model with the layers and the weights of a PyTorch module.

    The model computes what ``module.eval()`` does, and can be trained on, saved, and exported.

    Parameters
    ----------
    module
        A `torch.nn.Sequential`, nested ones included, of Linear, BatchNorm1d, Dropout, and the
        activations Identity, ReLU, ReLU6, Hardtanh(0, cap), LeakyReLU, ELU, Sigmoid, Tanh,
        Softplus, SiLU, Mish, Hardswish and GELU. It may begin with a Flatten: the model takes
        features of shape (n, features). A last Softmax, LogSoftmax or Sigmoid becomes part of the
        loss, so that `predict_proba` returns the probabilities.
    loss
        What the outputs are for. If None, cross entropy after a last Softmax or LogSoftmax, binary
        cross entropy after a last Sigmoid, and otherwise mean squared error: `predict` then returns
        the outputs as they are. A module that ends with logits, as PyTorch's losses take them,
        needs ``loss="cross_entropy"``.
    labels
        The names of the classes in the order of the outputs; the integers from 0 on if None.
    backend, device, dtype, reproducible
        As for `load`; by default, the dtype is float64 if a weight is, else float32.

    Raises
    ------
    ArgumentError
        If a module isn't one of these, or has settings that xpnn doesn't have; the message names
        it. If the widths don't fit each other, or loss or labels don't fit the outputs.

    Notes
    -----
    A PyTorch Softplus returns u above its threshold of 20, where ours differs by less than 2.1e-9.
    Dropout's p is rounded to a multiple of 2^-16. BatchNorm1d without `affine` gets a scale of 1
    and a bias of 0, which training changes.

    Examples
    --------
    >>> import torch, xpnn
    >>> module = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    >>> model = xpnn.from_torch(module, loss="cross_entropy", labels=["a", "b", "c"])
    """
    if not _is_torch(module):
        raise ArgumentError(f"module must be a torch.nn.Sequential, got {_short(module)}")
    parts = list(_flat(module, ""))
    loss = None if loss is None else made("loss", loss)
    if parts and _kind(parts[0][1]) == "Flatten":
        name, first = parts.pop(0)
        _require(name, first, {"start_dim": 1, "end_dim": -1})
    last = _kind(parts[-1][1]) if parts else ""
    if last in ("Softmax", "LogSoftmax"):
        name, part = parts.pop()
        _require(name, part, {"dim": part.dim if part.dim in (-1, 1) else 1})
        loss = CrossEntropy() if loss is None else loss
        if not _is(loss, _SOFTMAX):
            raise ArgumentError(f"loss must be CrossEntropy or Focal after a {last}, got {loss!r}")
    elif last == "Sigmoid" and (loss is None or _is(loss, _SIGMOID)):
        parts.pop()
        loss = BinaryCrossEntropy() if loss is None else loss
    layers: list[Layer] = []
    arrays: Tree = []
    inputs, width, double = None, None, False
    for name, part in parts:
        layer, given = _layer(name, part)
        expected = next((len(array) for array in given.values()), None)
        if expected is not None and width not in (None, expected):
            raise ArgumentError(
                f"module {name} must have {width} inputs, the outputs before it, got {part!r}"
            )
        inputs = inputs or expected
        width = width if expected is None else layer.outputs(expected)
        double = double or any(tensor.dtype.itemsize == 8 for tensor in part.parameters())
        layers.append(layer)
        arrays.append(given)
    if inputs is None:
        raise ArgumentError(f"module must have a Linear with its inputs, got {_short(module)}")
    model = Sequential(*layers)
    loss = MeanSquaredError() if loss is None else loss
    model.task = _task(loss, model.outputs(inputs), labels)
    dtype = dtype or ("float64" if double else "float32")
    return _placed(model, arrays, inputs, backend, device, dtype, reproducible)


@np.errstate(all="ignore")
def to_torch(model: Sequential) -> Any:
    """Return a `torch.nn.Sequential` with the layers and the weights of a model, in `eval` mode.

    Its outputs are the network's, as PyTorch's losses take them: logits of classes, the logarithm
    of a `Poisson` mean, and otherwise values in the units of the targets. A normalizer of the
    features becomes a first BatchNorm1d, whose running figures are its offset and scale, and which
    in `train` mode would take those of the mini-batch; one of the targets becomes a last Linear.

    Parameters
    ----------
    model
        A trained model, on any backend.

    Returns
    -------
    module
        On the CPU, in the model's dtype. Its parameters are copies.

    Raises
    ------
    ArgumentError
        If the model has no parameters yet, or a layer has no counterpart in PyTorch; the message
        names it.
    BackendError
        If PyTorch isn't installed.

    Examples
    --------
    >>> import xpnn
    >>> model = xpnn.Sequential(xpnn.Dense(3))
    >>> history = xpnn.fit(model, [[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], [0, 1, 2], epochs=1)
    >>> xpnn.to_torch(model)[0]
    Linear(in_features=2, out_features=3, bias=True)
    """
    own, _ = model.placed()
    try:
        torch = get_backend("torch", device="cpu").library
    except BackendError as error:
        raise BackendError(f"to_torch needs PyTorch: {error}") from None
    dtype = getattr(torch, own.dtype_name)
    task, modules = model.task, []

    def add(module: Any, **arrays: np.ndarray) -> None:
        with torch.no_grad():
            for name, array in arrays.items():
                target = getattr(module, name)
                target.copy_(torch.from_numpy(np.array(array, np.float64)))
        modules.append(module)

    if task.normalizer is not None:
        offset, scale = _figures(task.normalizer)
        squares, limits = scale * scale, np.finfo(own.dtype_name)
        if not ((scale > 0) & (squares >= limits.tiny) & (squares <= limits.max)).all():
            raise ArgumentError(
                f"the normalizer's scales must be > 0, with squares in {own.dtype_name}, for a "
                f"BatchNorm1d, got {scale}"
            )
        first = torch.nn.BatchNorm1d(len(offset), eps=0.0, affine=False, dtype=dtype)
        add(first, running_mean=offset, running_var=squares)
    widths = model.widths(model.inputs or 0)
    for name, (layer, width), a in zip(model.names, widths, model.host_parameters(), strict=True):
        if type(layer) is Dense:
            bias = {"bias": a["bias"]} if "bias" in a else {}
            linear = torch.nn.Linear(width, layer.units, bias=bool(bias), dtype=dtype)
            add(linear, weight=a["weight"].T, **bias)
        elif type(layer) is BatchNorm:
            norm = torch.nn.BatchNorm1d(width, layer.eps, layer.momentum, dtype=dtype)
            running = {key: a[key] for key in ("running_mean", "running_var")}
            add(norm, weight=a["scale"], bias=a["bias"], **running)
        elif type(layer) is Dropout:
            add(torch.nn.Dropout(layer.p))
        else:
            add(_torch_activation(torch, name, layer))
    if task.target_normalizer is not None:
        blocks = 1 if task.loss is None else task.loss.outputs_per_target
        offset, scale = (np.tile(a, blocks) for a in _figures(task.target_normalizer))
        linear = torch.nn.Linear(len(scale), len(scale), dtype=dtype)
        add(linear, weight=np.diag(scale), bias=offset)
    return torch.nn.Sequential(*modules).eval()


@np.errstate(all="ignore")
def from_sklearn(
    estimator: Any,
    *,
    backend: str = "numpy",
    device: str | None = None,
    dtype: str | None = None,
    reproducible: bool = False,
) -> Sequential:
    """Return a model with the weights of scikit-learn's fitted MLPClassifier or MLPRegressor.

    The model predicts what the estimator does: the labels of its classes, 0 and 1 for multilabels,
    or values. `predict_proba` returns the probability of each output: for two classes only that of
    the second one.

    Parameters
    ----------
    estimator
        A fitted `sklearn.neural_network.MLPClassifier` or `MLPRegressor`.
    backend, device, reproducible
        As for `load`.
    dtype
        "float32" or "float64"; None for that of the estimator's weights.

    Raises
    ------
    ArgumentError
        If it is another estimator or isn't fitted, or its classes are neither integers nor strings.

    Examples
    --------
    >>> import xpnn
    >>> from sklearn.neural_network import MLPClassifier
    >>> theirs = MLPClassifier(solver="lbfgs").fit([[0.0], [1.0], [3.0]], ["a", "b", "b"])
    >>> xpnn.predict(xpnn.from_sklearn(theirs), [[0.0], [2.0]]).tolist()
    ['a', 'b']
    """
    ours = getattr(estimator, "model_", None)
    if isinstance(ours, Sequential):
        raise ArgumentError(
            f"estimator must be scikit-learn's; the model of {type(estimator).__name__} of "
            "xpnn.estimators is its attribute model_"
        )
    kinds = [
        kind.__name__ for kind in type(estimator).__mro__
        if kind.__module__.startswith("sklearn.neural_network.")
    ]  # fmt: skip
    if not {"MLPClassifier", "MLPRegressor"} & set(kinds):
        raise ArgumentError(
            "estimator must be an MLPClassifier or MLPRegressor of sklearn.neural_network, "
            f"got {_short(estimator)}"
        )
    if not hasattr(estimator, "coefs_"):
        raise ArgumentError(f"estimator must be fitted, got {_short(estimator)}")
    arrays: Tree = []
    layers: list[Layer] = []
    for weight, bias in zip(estimator.coefs_, estimator.intercepts_, strict=True):
        if layers:
            layers.append(Activation(_SKLEARN_ACTIVATIONS[estimator.activation]))
            arrays.append({})
        layers.append(Dense(len(bias)))
        arrays.append({"weight": weight, "bias": bias})
    outputs, kind = len(arrays[-1]["bias"]), estimator.out_activation_
    labels = None
    # as many logistic outputs as classes are multilabels
    if "MLPClassifier" in kinds and not (kind == "logistic" and outputs > 1):
        classes = np.asarray(estimator.classes_)
        # scikit-learn takes floats for classes if they are whole numbers
        labels = check_labels(classes.astype(np.int64) if classes.dtype.kind == "f" else classes)
    task = _task(_SKLEARN_LOSSES[kind](), outputs, labels)
    names = getattr(estimator, "feature_names_in_", None)
    model = Sequential(*layers)
    model.task = replace(
        task,
        feature_names=None if names is None else tuple(map(str, names)),
        flat=task.classes is None and outputs == 1,
    )
    dtype = dtype or np.asarray(arrays[0]["weight"]).dtype.name
    return _placed(model, arrays, len(arrays[0]["weight"]), backend, device, dtype, reproducible)


def _placed(
    model: Sequential, arrays: Tree, inputs: int,
    backend: str, device: str | None, dtype: str, reproducible: bool,
) -> Sequential:  # fmt: skip
    """Return a model with its arrays on the backend that was asked for."""
    for name, array in flatten(arrays).items():
        if not np.isfinite(array).all():
            raise ArgumentError(f"weights must be finite, got NaN or infinity in {name}")
    target = get_backend(backend, device=device, dtype=dtype, reproducible=reproducible)
    model.place(arrays, inputs=inputs, backend=target)
    return model


def _task(loss: Loss, outputs: int, labels: Any) -> Task:
    """Return the task of a model whose outputs are for a loss."""
    loss.check(outputs)
    # several outputs of a binary loss are multilabels, unless there are labels
    one = _is(loss, _SOFTMAX) or (_is(loss, _SIGMOID) and outputs == 1)
    classes = max(outputs, 2) if one else None
    if labels is None:
        return Task(loss=loss, classes=classes, input_kind="floats")
    names = check_labels(labels)
    if not loss.classifies(outputs):
        raise ArgumentError(f"loss must be one for classes where there are labels, got {loss!r}")
    if len(names) != max(outputs, 2):
        raise ArgumentError(
            f"labels must have one for each of the {max(outputs, 2)} classes, got {len(names)}"
        )
    plain = np.array_equal(names, np.arange(len(names))) if names.dtype.kind == "i" else False
    return Task(loss, len(names), None if plain else names, input_kind="floats")


def _is(loss: Any, kinds: tuple[type[Loss], ...]) -> bool:
    """Return whether a loss, or the one that is flooded, is of one of these kinds."""
    return isinstance(loss, kinds) or (isinstance(loss, Flooding) and _is(loss.loss, kinds))


def _figures(normalizer: Any) -> tuple[np.ndarray, np.ndarray]:
    return normalizer.offset, normalizer.scale


def _short(value: Any) -> str:
    """Return the first line of a repr, as far as a message needs it."""
    return repr(value).partition("\n")[0].rstrip("(")[:100]


def _is_torch(module: Any) -> bool:
    kinds = type(module).__mro__
    return any((k.__name__, k.__module__) == ("Module", "torch.nn.modules.module") for k in kinds)


def _kind(module: Any) -> str:
    """Return the name of a class of torch.nn; an empty text for any other module."""
    kind = type(module)
    return kind.__name__ if kind.__module__.startswith("torch.nn.modules.") else ""


def _flat(module: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield the modules in a Sequential, and in those inside of it, each with its name."""
    if _kind(module) != "Sequential":
        yield repr(path or _kind(module)), module
        return
    for name, part in module.named_children():
        yield from _flat(part, f"{path}.{name}".lstrip("."))


def _require(name: str, module: Any, values: Mapping[str, Any]) -> None:
    for attribute, wanted in values.items():
        if getattr(module, attribute) != wanted:
            raise ArgumentError(f"module {name} must have {attribute}={wanted!r}, got {module!r}")


def _layer(name: str, module: Any) -> tuple[Layer, dict[str, np.ndarray]]:
    """Return the layer that computes what a module does, and its arrays."""

    def host(tensor: Any) -> np.ndarray:
        return to_numpy(tensor.detach().double())

    kind = _kind(module)
    known = _ACTIVATIONS.get(kind)
    fixed = {"track_running_stats": True} if kind == "BatchNorm1d" else {}
    _require(name, module, fixed if known is None else known.fixed)
    try:
        if kind == "Linear":
            weight = {"weight": host(module.weight).T}
            if module.bias is None:
                return Dense(module.out_features, bias=False), weight
            return Dense(module.out_features), {**weight, "bias": host(module.bias)}
        if kind == "Dropout":
            return Dropout(module.p), {}
        if kind == "BatchNorm1d":
            width = module.num_features
            affine = {"scale": np.ones(width), "bias": np.zeros(width)}
            if module.affine:
                affine = {"scale": host(module.weight), "bias": host(module.bias)}
            running = {key: host(getattr(module, key)) for key in ("running_mean", "running_var")}
            return BatchNorm(module.momentum, module.eps), {**affine, **running}
        if known is not None:
            given = {ours: getattr(module, theirs) for ours, theirs in known.attributes.items()}
            return Activation(known.name, **given), {}
    except ArgumentError as error:
        raise ArgumentError(f"module {name}, {_short(module)}: {error}") from None
    raise ArgumentError(
        f"module {name} is {_short(module)}, which xpnn doesn't have; it has "
        f"{', '.join((*_OTHERS, *_ACTIVATIONS))}, and a first Flatten or a last Softmax"
    )


def _torch_activation(torch: Any, name: str, layer: Layer) -> Any:
    """Return the module of torch.nn that computes what a layer does."""
    if type(layer) is Activation:
        values = {**ACTIVATIONS.parameters(layer.name), **layer.parameters}
        for kind, known in _ACTIVATIONS.items():
            if known.name != layer.name:
                continue
            if all(values[key] == value for key, value in known.ours.items()):
                given = {theirs: values[ours] for ours, theirs in known.attributes.items()}
                # from there on, a Softplus returns its input, which is then its value in float64
                more = {"threshold": 40.0} if kind == "Softplus" else {}
                return getattr(torch.nn, kind)(**known.fixed, **given, **more)
    raise ArgumentError(f"{name}, {layer!r}, has no counterpart in PyTorch")

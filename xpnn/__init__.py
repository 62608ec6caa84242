"""Neural networks written once against the array API standard, for all libraries that follow it.

>>> import xpnn
>>> train, test = xpnn.datasets.mnist("data/mnist")
>>> model = xpnn.Sequential(xpnn.Dense(100), xpnn.Activation("h_swish"), xpnn.Dense(10))
>>> history = xpnn.fit(model, train, validation=test, epochs=1, backend="numpy")
"""

from importlib import import_module
from importlib.util import find_spec

from xpnn._version import __version__

# typing takes ten milliseconds, in which the command couldn't answer Ctrl-C yet
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from xpnn import (
        activations,
        backends,
        callbacks,
        datasets,
        errors,
        initializers,
        layers,
        losses,
        metrics,
        normalizers,
        optimizers,
        schedules,
        study,
        testing,
        verification,
    )

    # not in __all__, so that `from xpnn import *` works without scikit-learn
    from xpnn import estimators as estimators
    from xpnn._core.registry import load_parts
    from xpnn.backends import get_backend
    from xpnn.callbacks import (
        Checkpoint,
        CSVLogger,
        EarlyStopping,
        TensorBoard,
        Terminal,
        read_log,
    )
    from xpnn.errors import (
        ArgumentError,
        BackendError,
        CheckpointWarning,
        DataError,
        DataWarning,
        DivergenceError,
        XpnnError,
    )
    from xpnn.export.onnx import export_onnx
    from xpnn.inference import evaluate, predict, predict_proba
    from xpnn.interop import from_sklearn, from_torch, to_torch
    from xpnn.layers import Activation, BatchNorm, Dense, Dropout, Layer
    from xpnn.losses import (
        BinaryCrossEntropy,
        BinaryFocal,
        CrossEntropy,
        Flooding,
        Focal,
        Huber,
        Loss,
        MeanAbsoluteError,
        MeanSquaredError,
        Poisson,
        Quantile,
    )
    from xpnn.metrics import Metric
    from xpnn.model import Sequential
    from xpnn.normalizers import MinMaxScaler, Normalizer, StandardScaler
    from xpnn.optimizers import SGD, AdaGrad, Adam, AdamW, Momentum, Nesterov, Optimizer, RMSprop
    from xpnn.plots import (
        plot_activations,
        plot_confusion,
        plot_errors,
        plot_histories,
        plot_history,
    )
    from xpnn.saving import load, save
    from xpnn.training import fit
    from xpnn.training.callback import Callback
    from xpnn.training.history import Epoch, History
    from xpnn.training.run import Run

__all__ = [
    "SGD",
    "Activation",
    "AdaGrad",
    "Adam",
    "AdamW",
    "ArgumentError",
    "BackendError",
    "BatchNorm",
    "BinaryCrossEntropy",
    "BinaryFocal",
    "CSVLogger",
    "Callback",
    "Checkpoint",
    "CheckpointWarning",
    "CrossEntropy",
    "DataError",
    "DataWarning",
    "Dense",
    "DivergenceError",
    "Dropout",
    "EarlyStopping",
    "Epoch",
    "Flooding",
    "Focal",
    "History",
    "Huber",
    "Layer",
    "Loss",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "Metric",
    "MinMaxScaler",
    "Momentum",
    "Nesterov",
    "Normalizer",
    "Optimizer",
    "Poisson",
    "Quantile",
    "RMSprop",
    "Run",
    "Sequential",
    "StandardScaler",
    "TensorBoard",
    "Terminal",
    "XpnnError",
    "__version__",
    "activations",
    "backends",
    "callbacks",
    "datasets",
    "errors",
    "evaluate",
    "export_onnx",
    "fit",
    "from_sklearn",
    "from_torch",
    "get_backend",
    "initializers",
    "layers",
    "load",
    "load_parts",
    "losses",
    "metrics",
    "normalizers",
    "optimizers",
    "plot_activations",
    "plot_confusion",
    "plot_errors",
    "plot_histories",
    "plot_history",
    "predict",
    "predict_proba",
    "read_log",
    "save",
    "schedules",
    "study",
    "testing",
    "to_torch",
    "verification",
]

# a module is imported when a name of it is first used: training needs no plots, for example
_MODULES = {
    "_core.registry": "load_parts",
    "backends": "get_backend",
    "callbacks": "Checkpoint CSVLogger EarlyStopping TensorBoard Terminal read_log",
    "errors": (
        "ArgumentError BackendError CheckpointWarning DataError DataWarning DivergenceError "
        "XpnnError"
    ),
    "export.onnx": "export_onnx",
    "inference": "evaluate predict predict_proba",
    "layers": "Activation BatchNorm Dense Dropout Layer",
    "interop": "from_sklearn from_torch to_torch",
    "losses": "BinaryCrossEntropy BinaryFocal CrossEntropy Flooding Focal Huber Loss "
    "MeanAbsoluteError MeanSquaredError Poisson Quantile",
    "metrics": "Metric",
    "model": "Sequential",
    "normalizers": "MinMaxScaler Normalizer StandardScaler",
    "optimizers": "SGD AdaGrad Adam AdamW Momentum Nesterov Optimizer RMSprop",
    "plots": "plot_activations plot_confusion plot_errors plot_histories plot_history",
    "saving": "load save",
    "training": "fit",
    "training.history": "Epoch History",
    "training.callback": "Callback",
    "training.run": "Run",
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names.split()}


# hidden from type checkers, which know the names above and can thus find a misspelt one
if not TYPE_CHECKING:

    def __getattr__(name: str) -> "Any":
        path = f"{__name__}.{_HOMES.get(name, name)}"
        if name.startswith("_") or find_spec(path) is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)
        module = import_module(path)
        globals()[name] = value = getattr(module, name) if name in _HOMES else module
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""Neural networks, written once against the array API standard, on any of its libraries.

>>> import xpnn
>>> train, test = xpnn.datasets.mnist("data/mnist")
>>> model = xpnn.Sequential(xpnn.Dense(100), xpnn.Activation("h_swish"), xpnn.Dense(10))
>>> history = xpnn.fit(model, train, validation=test, epochs=1, backend="numpy")
"""

from xpnn import (
    activations,
    datasets,
    initializers,
    layers,
    losses,
    metrics,
    optimizers,
    testing,
)
from xpnn._version import __version__
from xpnn.backends import get_backend
from xpnn.callbacks import CSVLogger, Terminal
from xpnn.checkpoints import load, save
from xpnn.errors import ArgumentError, BackendError, DataError, DivergenceError, XpnnError
from xpnn.layers import Activation, Dense, Layer
from xpnn.losses import BinaryCrossEntropy, CrossEntropy, Flooding, Loss, MeanSquaredError
from xpnn.model import Sequential
from xpnn.onnx_export import export_onnx
from xpnn.optimizers import SGD, AdaGrad, Adam, AdamW, Momentum, Nesterov, Optimizer, RMSprop
from xpnn.plots import plot_history
from xpnn.registry import load_parts
from xpnn.training import Callback, Epoch, History, evaluate, fit, predict, predict_proba

__all__ = [
    "SGD",
    "Activation",
    "AdaGrad",
    "Adam",
    "AdamW",
    "ArgumentError",
    "BackendError",
    "BinaryCrossEntropy",
    "CSVLogger",
    "Callback",
    "CrossEntropy",
    "DataError",
    "Dense",
    "DivergenceError",
    "Epoch",
    "Flooding",
    "History",
    "Layer",
    "Loss",
    "MeanSquaredError",
    "Momentum",
    "Nesterov",
    "Optimizer",
    "RMSprop",
    "Sequential",
    "Terminal",
    "XpnnError",
    "__version__",
    "activations",
    "datasets",
    "evaluate",
    "export_onnx",
    "fit",
    "get_backend",
    "initializers",
    "layers",
    "load",
    "load_parts",
    "losses",
    "metrics",
    "optimizers",
    "plot_history",
    "predict",
    "predict_proba",
    "save",
    "testing",
]

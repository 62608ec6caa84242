"""Callbacks: what joins the training loop from outside."""

from xpnn._core.registry import Registry
from xpnn.callbacks.checkpoint import Checkpoint
from xpnn.callbacks.log import CSVLogger, read_log
from xpnn.callbacks.tensorboard import TensorBoard
from xpnn.metrics import MONITORS
from xpnn.training.callback import Callback
from xpnn.training.stopping import EarlyStopping
from xpnn.training.terminal import Terminal, progress_bar

__all__ = [
    "CALLBACKS",
    "MONITORS",
    "CSVLogger",
    "Checkpoint",
    "EarlyStopping",
    "TensorBoard",
    "Terminal",
    "progress_bar",
    "read_log",
    "register",
]

CALLBACKS: Registry[type[Callback]] = Registry(
    "callback", lambda: Callback, lambda callback: callback.__name__.lower()
)
register = CALLBACKS.register

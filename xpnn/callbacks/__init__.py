"""Callbacks: what joins the training loop from outside."""

from xpnn.callbacks.log import (
    CALLBACKS,
    MONITORS,
    Checkpoint,
    CSVLogger,
    EarlyStopping,
    TensorBoard,
    Terminal,
    progress_bar,
    read_log,
    register,
)

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

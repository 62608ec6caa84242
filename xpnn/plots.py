"""Pictures, drawn with matplotlib."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from xpnn.errors import ArgumentError
from xpnn.files import PathLike, check_writable, replacing
from xpnn.training import Epoch


def check(path: PathLike) -> None:
    """Raise `ArgumentError` unless a picture can be drawn to `path`."""
    supported = _figure(1, 1).canvas.get_supported_filetypes()
    suffix = check_writable("plot", path).suffix[1:].lower()
    if suffix not in supported:
        raise ArgumentError(
            f"plot must be a file that ends in one of {', '.join(sorted(supported))}, "
            f"got {str(path)!r}"
        )


def _figure(width: float, height: float) -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ArgumentError(
            "plot needs matplotlib; install it with: pip install matplotlib"
        ) from None
    return Figure(figsize=(width, height), layout="constrained")


def plot_history(history: Sequence[Epoch], path: PathLike) -> None:
    """Draw accuracy and loss per epoch, training and test, to a PNG, PDF or SVG file.

    Parameters
    ----------
    history
        What `fit` returned, or some of its rows.
    path
        The file's ending says the format.

    Raises
    ------
    ArgumentError
        If the file can't be written, its ending is unknown, or matplotlib isn't installed.
    """
    check(path)
    figure = _figure(10, 4)
    for axes, quantity in zip(figure.subplots(1, 2), ("accuracy", "loss"), strict=True):
        for part, color in (("train", "#8da0cb"), ("test", "#d95f02")):
            values = [getattr(row, f"{part}_{quantity}") for row in history]
            if all(map(math.isnan, values)):
                continue
            marker = "." if len(values) < 3 else ""
            epochs = [row.epoch for row in history]
            axes.plot(epochs, values, label=part, color=color, marker=marker)
        axes.set(xlabel="epoch", title=quantity)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        _zoom(axes)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False)
    with replacing(path) as beside:
        figure.savefig(beside, dpi=150)


def _zoom(axes: Any) -> None:
    """Fit the vertical view to what comes after epoch 0, which would squash all else."""
    trained = [y for line in axes.lines for y in line.get_ydata()[1:] if math.isfinite(y)]
    if trained:
        margin = 0.05 * (max(trained) - min(trained)) or 0.05 * abs(max(trained)) or 1.0
        axes.set_ylim(min(trained) - margin, max(trained) + margin)

"""`Task`: what a trained model knows of the data that it was trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from xpnn.datasets.columns import Columns
from xpnn.datasets.dataset import Share
from xpnn.losses import Loss
from xpnn.normalizers import Normalizer


@dataclass(frozen=True, eq=False)
class Task:
    """What a network is trained for; a model file holds all of it.

    Attributes
    ----------
    loss
        The loss that is minimized; cross entropy if None.
    classes
        The number of classes, None if the targets are values.
    labels
        The name of each class, integers or strings in the order of the outputs; None if the classes
        are the integers from 0 on.
    normalizer
        The normalizer of the features, None if they are used as they are.
    target_normalizer
        The normalizer of the target values, None if they are used as they are.
    feature_names, target_name
        The names of the columns of the training table, None if it wasn't a table.
    target_names
        The names of the targets if they were a DataFrame, else None. They are in the order of the
        outputs.
    columns
        What becomes of each column of a table that isn't all of numbers; None if the features are
        used as they are.
    image_shape
        Height, width and channels of the training images, None if unknown.
    flat
        Whether the values to predict had the shape (n,), as `predict` then returns them.
    share
        How the rows that weren't trained on were drawn; None if the model was trained on all rows,
        or nothing is known. `xpnn.datasets.held_out` finds these rows again.
    input_kind
        What the model was trained on: "bytes", which are pixels and were divided by 255, "integers"
        or "floats", which weren't; see `xpnn.datasets.checks.in_kind`. None if unknown, as in files
        of earlier versions: then unsigned bytes are pixels.
    """

    loss: Loss | None = None
    classes: int | None = None
    labels: np.ndarray | None = None
    normalizer: Normalizer | None = None
    target_normalizer: Normalizer | None = None
    feature_names: tuple[str, ...] | None = None
    target_name: str | None = None
    target_names: tuple[str, ...] | None = None
    image_shape: tuple[int, int, int] | None = None
    columns: Columns | None = None
    flat: bool = False
    share: Share | None = None
    input_kind: str | None = None

    def in_units(self, values: Any, *, xp: Any) -> Any:
        """Return predicted values of shape (n, outputs) in the units of the targets."""
        if self.target_normalizer is None:
            return values
        blocks = 1 if self.loss is None else self.loss.outputs_per_target
        if blocks == 1:
            return self.target_normalizer.invert(values, xp=xp)
        # one block of columns for each level of `Quantile`
        width = values.shape[1] // blocks
        parts = [values[:, i * width : (i + 1) * width] for i in range(blocks)]
        return xp.concat([self.target_normalizer.invert(part, xp=xp) for part in parts], axis=1)

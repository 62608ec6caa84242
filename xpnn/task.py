"""`Task`: what a trained model knows of the data that it was trained on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

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
    image_shape
        Height, width and channels of the training images, None if unknown.
    share
        How the rows that weren't trained on were drawn; None if the model was trained on all rows,
        or nothing is known. `xpnn.datasets.held_out` finds these rows again.
    """

    loss: Loss | None = None
    classes: int | None = None
    labels: np.ndarray | None = None
    normalizer: Normalizer | None = None
    target_normalizer: Normalizer | None = None
    feature_names: tuple[str, ...] | None = None
    target_name: str | None = None
    image_shape: tuple[int, int, int] | None = None
    share: Share | None = None

"""What a run takes where nothing is asked for; docs/notes/defaults.md says why."""

from __future__ import annotations

from typing import Any, NamedTuple

from xpnn.datasets.frames import is_table


class Defaults(NamedTuple):
    """What a run takes where nothing is asked for.

    Attributes
    ----------
    optimizer
        Its name with parameters.
    epochs, batch_size
        Those of `xpnn.fit`.
    normalizer
        The name of the normalizer of the features, and of the values of a regression.
    patience
        With validation data, and where `epochs` isn't given: the epochs without a smaller test loss
        after which the run ends with the best parameters. None if it never does.
    """

    optimizer: str
    epochs: int
    batch_size: int
    normalizer: str
    patience: int | None

    def waits(self, *, epochs: object, validation: object) -> int | None:
        """Return the patience of a run for which these were given; None stands for neither."""
        return self.patience if epochs is None and validation is not None else None


TABLE = Defaults("adam", epochs=100, batch_size=32, normalizer="standard", patience=20)
# of images and of arrays of numbers: the article's
OTHERS = Defaults("sgd:lr=0.1", epochs=50, batch_size=100, normalizer="none", patience=None)


def defaults_for(train: Any) -> Defaults:
    """Return the defaults for data to train on, as they are given to `xpnn.fit`."""
    return TABLE if is_table(train) else OTHERS

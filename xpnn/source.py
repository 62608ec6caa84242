"""Where the data of a run come from: options of the command, and keys of a study's file."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xpnn._core.files import real
from xpnn.datasets import Dataset, NamedDataset, load_training
from xpnn.datasets.readers import reader_of
from xpnn.datasets.splitting import divided
from xpnn.errors import unknown
from xpnn.losses import CrossEntropy
from xpnn.normalizers import NORMALIZERS
from xpnn.settings import Settings
from xpnn.training.samples import are_scaled, default_loss


@dataclass(frozen=True)
class Source:
    """A data set for training, how its files are read, and what is done to it before training.

    Each field is an option of `xpnn train` and `xpnn verify`, and a key of a study's TOML file.

    Parameters
    ----------
    data
        The file or folder: see `xpnn.datasets.load`.
    validation
        The share that is held out, a number or a text such as "0.2" or "20%", or the path of other
        data: see `xpnn.datasets.load_training`.
    target, task, header, weights
        As for `xpnn.datasets.load`; the last column is the target if it is None.
    ignore
        The columns that aren't features, as ``"name, name"``; numbers count from 1 on.
    encode, missing
        How columns of text, and what is missing, become features, as texts: see
        `xpnn.datasets.columns.as_encoding`.
    normalize, normalize_target
        Names of normalizers, or "none". If None, features of a table and values of a regression
        are standardized.

    Raises
    ------
    ArgumentError
        If there is no normalizer of that name.
    """

    data: str
    validation: float | str | None = None
    target: int | str | None = None
    task: str | None = None
    header: bool | None = None
    ignore: str | None = None
    weights: str | None = None
    encode: str | None = None
    missing: str | None = None
    normalize: str | None = None
    normalize_target: str | None = None

    def __post_init__(self) -> None:
        for name in ("normalize", "normalize_target"):
            asked, allowed = getattr(self, name), (*NORMALIZERS, "none")
            if asked is not None and asked not in allowed:
                raise unknown(name, asked, allowed)
        if isinstance(self.validation, str):
            # a frozen class takes no other assignment
            vars(self)["validation"] = _share_or_path(self.validation)

    @property
    def share(self) -> float | None:
        """The share of the data that is held out for validation, None if there is none."""
        return None if isinstance(self.validation, str) else self.validation

    @property
    def is_table(self) -> bool:
        """Whether the data are a table, whose runs have defaults of their own."""
        # unlike Path.exists, it takes a name that is too long for one that isn't there
        return os.path.exists(self.data) and reader_of(Path(self.data)).columns is not None

    @property
    def applied(self) -> dict[str, float | str]:
        """What is done to the data once they are read, as far as it is given.

        The other fields say what is read, which shows in the arrays.
        """
        given = {
            "validation": self.share,
            "encode": self.encode,
            "missing": self.missing,
            "normalize": self.normalize,
            "normalize_target": self.normalize_target,
        }
        return {name: value for name, value in given.items() if value is not None}

    def read(self, features: Sequence[str] | None = None) -> tuple[Dataset, Dataset | None]:
        """Read the data, and the other data for validation; nothing is split off yet.

        `features` are the columns to take; None for all that aren't something else.
        """
        return load_training(
            self.data,
            self.validation if self.share is None else None,
            target=-1 if self.target is None else self.target,
            task=self.task,
            header=self.header,
            ignore=() if self.ignore is None else [n.strip() for n in self.ignore.split(",")],
            features=features,
            weights=self.weights,
            encode=self.encode,
            missing=self.missing,
        )

    def divided(
        self, data: Dataset, other: Dataset | None, seed: int, *, remembered: bool = False
    ) -> tuple[Dataset, Dataset | None]:
        """Return training and validation data: what `read` returned, with the share split off.

        Only if it shall be `remembered`, the training part knows its share, as a saved model needs.
        """
        if self.share is None:
            return data, other
        return divided("data", data, self.share, seed, remembered=remembered)[:2]

    def options(self, settings: Settings, train: Dataset) -> tuple[Settings, dict[str, Any]]:
        """Return the settings with a loss that suits the targets, and the options of `fit`.

        The rule for the loss is that of `xpnn.fit`.

        Parameters
        ----------
        settings
            The settings of the run. A loss that isn't given becomes the mean squared error if the
            targets are values.
        train
            The training data.
        """
        usual = default_loss(train.y, 2)
        if settings.loss is None and not isinstance(usual, CrossEntropy):
            settings = settings.replaced(loss=usual.name)
        values = are_scaled(settings.make_loss(), train.y)
        named = train if isinstance(train, NamedDataset) else NamedDataset(*train)
        rows = train.y.dtype.kind == "f" or train.y.ndim != 1
        numbered = rows or reader_of(Path(self.data)).numbered
        options: dict[str, Any] = {
            "labels": None if numbered else np.unique(train.y),
            "sample_weight": named.weights,
        }
        for argument, name, default in (
            ("normalize", "normalizer", named.feature_names is not None),
            ("normalize_target", "target_normalizer", values),
        ):
            options[name] = getattr(self, argument) or ("standard" if default else "none")
        return settings, options

    def absolute(self) -> Source:
        """Return the source with absolute paths."""
        other = _absolute(self.validation) if isinstance(self.validation, str) else self.validation
        return dataclasses.replace(self, data=_absolute(self.data), validation=other)


# the names of the fields; all runs of a study have the same ones, except the normalizers
READING = tuple(field.name for field in dataclasses.fields(Source))
SHARED = READING[: READING.index("normalize")]


def _share_or_path(text: str) -> float | str:
    """Return the number in "0.2" or "20%", and the path in any other text."""
    percent = text.strip().endswith("%")
    try:
        number = float(text.strip().removesuffix("%"))
    except ValueError:
        return text
    return number / 100 if percent else number


def _absolute(path: str) -> str:
    """Return a path, or two paths with a comma, as absolute ones."""
    paths = path.split(",") if path.lower().endswith(".npy") else [path]
    return ",".join(str(real(each)) for each in paths)

"""The use of a trained model on data: what its commands take, and what they read."""

from __future__ import annotations

import argparse

from xpnn import saving
from xpnn.backends import BACKENDS, DTYPES
from xpnn.cli.options import (
    DATA,
    MODEL,
    add_table,
    header_of,
    names_of,
)
from xpnn.datasets import Dataset, load
from xpnn.datasets.checks import check_images
from xpnn.model import Sequential


def add_use(parser: argparse.ArgumentParser) -> None:
    """Add what the use of a trained model on data takes."""
    add = parser.add_argument
    add("model", metavar="MODEL", help=MODEL)
    add(
        "data",
        metavar="DATA",
        help=f"{DATA}, of which the test part is taken; with the "
        "features that the model was trained on",
    )
    add_table(parser)
    add("--backend", metavar="NAME", default="numpy", help=names_of(BACKENDS))
    add("--device", metavar="NAME", help="such as cuda:0")
    add("--dtype", metavar="NAME", help=f"{names_of(DTYPES)}; the model's if left out")
    add("--reproducible", action="store_true", help="the same bits on every backend")


def opened(args: argparse.Namespace) -> Sequential:
    """Return the model in MODEL, where the options want it."""
    return saving.load(
        args.model,
        backend=args.backend,
        device=args.device,
        dtype=args.dtype,
        reproducible=args.reproducible,
    )


def known_data(args: argparse.Namespace, model: Sequential) -> Dataset:
    """Return DATA with its targets, as a trained model knows them."""
    target = model.task.target_name if args.target is None else args.target
    data = load(
        args.data,
        target=-1 if target is None else target,
        task="regression" if model.task.classes is None else "classification",
        header=header_of(args.header),
        features=model.task.feature_names,
        part="test",
    )
    check_images(data, model.task.image_shape)
    return data

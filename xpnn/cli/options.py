"""Options that several commands have, and functions that read them."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from xpnn import saving
from xpnn._core.files import resolved
from xpnn._core.registry import WANTED
from xpnn.activations import ACTIVATIONS
from xpnn.backends import BACKENDS, DTYPES, Backend, get_backend
from xpnn.datasets import NamedDataset, held_out, load
from xpnn.datasets.checks import check_images
from xpnn.datasets.labels import TASKS
from xpnn.datasets.readers import forms, reader_of
from xpnn.errors import ArgumentError, nearest
from xpnn.losses import LOSSES
from xpnn.metrics import METRICS
from xpnn.model import Sequential
from xpnn.normalizers import NORMALIZERS
from xpnn.optimizers import OPTIMIZERS
from xpnn.schedules import SCHEDULES
from xpnn.settings import FIELDS, TABLE, Settings, types_of
from xpnn.source import Source

DATA = forms()
MODEL = "a file that xpnn train --save wrote"


class Help(argparse.ArgumentDefaultsHelpFormatter):
    """Shows the default of each option that has one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        plain = action.default is None or action.default is False
        return action.help if plain else super()._get_help_string(action)


def number(kind: type[int] | type[float]) -> Callable[[str], float]:
    """Return a function that reads an option's value as int or float, with an error if it isn't."""

    def read(text: str) -> float:
        try:
            return kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"must be {WANTED[kind]}, got {text!r}") from None

    return read


# what options of other programs are called here
_ALIASES = {
    "--batch": "--batch-size",
    "--output": "--out",
    "--test": "--validation",
    "--val": "--validation",
    "--validation-split": "--validation",
}
_PARAMETERS = {"learning_rate": "lr", "learning_rate_init": "lr", "momentum": "mu"}


def unrecognized(
    rest: Sequence[str], args: argparse.Namespace, parser: argparse.ArgumentParser
) -> str:
    """Return the message about arguments that no command has, and what was probably meant."""
    said = f"unrecognized arguments: {' '.join(rest)}"
    found = next((i for i, text in enumerate(rest) if text.startswith("--")), None)
    if found is None:
        return said
    option, equals, value = rest[found].partition("=")
    value = value if equals else next(iter(rest[found + 1 :]), "VALUE")
    name = option[2:].replace("-", "_")
    options = _options_of(parser, args)
    for part, registry in (
        ("optimizer", OPTIMIZERS),
        ("activation", ACTIVATIONS),
        ("schedule", SCHEDULES),
        ("loss", LOSSES),
    ):
        if f"--{part}" not in options:
            continue
        given = (getattr(args, part, None) or "").partition(":")[0]
        for owner in sorted(registry, key=lambda own: own != given):
            known = registry.parameters(owner)
            for parameter in (name, _PARAMETERS.get(name)):
                if parameter in known:
                    text = f"--{part} {owner}:{parameter}={value}"
                    return f"{said}; {parameter} is a parameter of the {part}: write {text}"
    near = _ALIASES.get(option)
    if near not in options:
        near = next((own for own in options if own.startswith(option)), None)
    if near is None:
        # without the dashes, which all have in common
        bare = nearest(option[2:], [own[2:] for own in options])
        near = None if bare is None else f"--{bare}"
    return said if near is None else f"{said}; did you mean {near}?"


def _options_of(parser: argparse.ArgumentParser, args: argparse.Namespace) -> list[str]:
    """Return the long options of the command that was given, such as ``xpnn plot history``."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return _options_of(action.choices[getattr(args, action.dest)], args)
    return [name for name in parser._option_string_actions if name.startswith("--")]


def add_table(parser: argparse.ArgumentParser) -> None:
    """Add the options for reading a CSV file."""
    add = parser.add_argument
    add(
        "--target",
        metavar="NAME",
        help="target column of a CSV file by name or number, from 1 on; the last if left out",
    )
    add(
        "--header",
        metavar="yes|no",
        help="whether a CSV file's first row holds names; if left out, the first two rows tell",
    )


METRICS_HELP = (
    f"more figures: {', '.join(METRICS)}, each with its parameters (f1:average=weighted, or "
    "f1_weighted), and where scikit-learn is installed its scorers and metrics"
)


def add_source(parser: argparse.ArgumentParser) -> None:
    """Add the options for reading data to train on: the fields of `Source`, except DATA."""
    add_table(parser)
    add = parser.add_argument
    add("--task", metavar="NAME", help=f"{', '.join(TASKS)}; determined by the target if left out")
    add("--ignore", metavar="NAME,...", help="columns that are not features, by name or number")
    add(
        "--encode",
        metavar="HOW",
        help="how columns of text become features: onehot (one feature for each text; if left "
        "out), common (the same for the most common ones, and one feature for all others), ordinal "
        "(the texts' numbers in their order); for all, or as town=ordinal,size=small<medium<large",
    )
    add(
        "--missing",
        metavar="VALUE",
        help="what a missing number is taken for: median (of the training part; if left out), or "
        "a number; for all, or as age=30,fare=median; one more feature says where it was missing",
    )
    add(
        "--weights",
        metavar="NAME",
        help="column of a CSV file, or array of an NPZ file, with the weight of each row in "
        "training: numbers >= 0, scaled to a mean of 1; in validation all rows count alike",
    )
    add(
        "--validation",
        metavar="P|DATA",
        help="what to test on after each epoch: a share of DATA such as 0.2, the same of each "
        "class, or other data",
    )
    add(
        "--normalize",
        metavar="NAME",
        help=f"normalizer of the features: {', '.join(NORMALIZERS)}, none; fitted to the training "
        "part, and kept in the model; if left out, standard for a CSV file, else none",
    )
    add(
        "--normalize-target",
        metavar="NAME",
        help="likewise for the values of a regression; standard if left out",
    )


def source_from(args: argparse.Namespace) -> Source:
    """Return the source that was asked for."""
    given = {field.name: getattr(args, field.name) for field in dataclasses.fields(Source)}
    given["header"] = header_from(args)
    with contextlib.suppress(TypeError, ValueError):
        given["validation"] = float(args.validation)
    return Source(**given)


def header_from(args: argparse.Namespace) -> bool | None:
    """Return what ``--header`` says."""
    if args.header not in (None, "yes", "no"):
        raise ArgumentError(f"header must be yes or no, got {args.header!r}")
    return None if args.header is None else args.header == "yes"


def add_settings(parser: argparse.ArgumentParser, *, tables: bool = False, **defaults: Any) -> None:
    """Add an option for each of the `Settings`; `defaults` replace some of their defaults.

    With `tables`, the defaults may depend on the data, so what isn't asked for is None.
    """
    types = types_of(Settings)
    for field in dataclasses.fields(Settings):
        kind, about, parts = types[field.name], field.metadata["about"], field.metadata["parts"]
        details: dict[str, Any] = {"action": "store_true"}
        if kind is not bool:
            read = kind if kind is str else number(kind)
            details = {"metavar": field.metadata["metavar"], "type": read}
        default = defaults.get(field.name, field.default)
        told = about if parts is None else about.format(", ".join(parts))
        if tables and field.name in TABLE and field.name not in defaults:
            told += f" (default: {default}, for a table {TABLE[field.name]})"
            default = None
        parser.add_argument(
            f"--{field.name.replace('_', '-')}", default=default, help=told, **details
        )


def settings_from(args: argparse.Namespace, *, table: bool = False) -> Settings:
    """Return the settings that were asked for, with the defaults for a table if it is one."""
    given = {name: getattr(args, name) for name in FIELDS}
    given = {name: value for name, value in given.items() if value is not None}
    return Settings(**{**(TABLE if table else {}), **given})


def add_backend(
    parser: argparse.ArgumentParser,
    *,
    backend: str | None = "numpy",
    dtype: str | None = None,
    without: str = "",
) -> None:
    """Add the options of `get_backend`; `without` is the end of the help for --dtype."""
    add = parser.add_argument
    add("--backend", metavar="NAME", default=backend, help=", ".join(BACKENDS))
    add("--device", metavar="NAME", help="such as cuda:0")
    add("--dtype", metavar="NAME", default=dtype, help=", ".join(DTYPES) + without)
    add("--reproducible", action="store_true", help="the same bits on every backend")


def _backend_options(args: argparse.Namespace) -> dict[str, Any]:
    return {name: getattr(args, name) for name in ("backend", "device", "dtype", "reproducible")}


def backend_from(args: argparse.Namespace) -> Backend:
    """Return the backend that was asked for."""
    return get_backend(**_backend_options(args))


def add_model_and_data(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of commands that apply a trained model to data."""
    add = parser.add_argument
    add("model", metavar="MODEL", help=MODEL)
    add(
        "data",
        metavar="DATA",
        help=f"{DATA}, of which the test part is used; with the features that the model was "
        "trained on",
    )
    add(
        "--held-out",
        action="store_true",
        help="only the rows that xpnn train --validation P held out; DATA must be what it read",
    )
    add_table(parser)
    add_backend(parser, without="; the model's if left out")


def model_from(args: argparse.Namespace) -> Sequential:
    """Return the model in MODEL, on the backend that was asked for."""
    return saving.load(args.model, **_backend_options(args))


def data_from(args: argparse.Namespace, model: Sequential) -> NamedDataset:
    """Return the features and targets in DATA that the model was trained on."""
    target = model.task.target_name if args.target is None else args.target
    data = load(
        args.data,
        target=-1 if target is None else target,
        task="regression" if model.task.classes is None else "classification",
        header=header_from(args),
        features=model.task.feature_names,
        columns=model.task.columns,
        part="train" if args.held_out else "test",
    )
    check_images(data, model.task.image_shape)
    return held_out(data, model.task.share) if args.held_out else data


def inputs_from(args: argparse.Namespace, model: Sequential, part: str = "test") -> NamedDataset:
    """Return the features in DATA, which needn't have a target."""
    read = functools.partial(load, args.data, target=None, header=header_from(args), part=part)
    if model.task.feature_names is not None:
        return read(features=model.task.feature_names, columns=model.task.columns)
    path = Path(args.data)
    columns = reader_of(path).columns
    # without names of columns, the features are all columns, or all but the target
    if columns is None or (args.target is None and columns(path) == model.inputs):
        return read()
    return read(ignore=[-1 if args.target is None else args.target])


def listed(names: str | None) -> list[str] | None:
    """Return the names in ``"a, b"``."""
    return None if names is None else [name.strip() for name in names.split(",")]


def check_different(paths: dict[str, str | None]) -> None:
    """Raise if an output would overwrite another one or a file that is read."""
    given = {name: resolved(path) for name, path in paths.items() if path}
    read = [
        (name, given.pop(name)) for name in ("data", "validation", "model", "from") if name in given
    ]
    if paths["data"] and "," in paths["data"]:
        read += [("data", resolved(path)) for path in paths["data"].split(",")]
    for name, path in given.items():
        for _, own in read:
            if own in path.parents:
                raise ArgumentError(f"{name} must not be in the data's folder, got {paths[name]!r}")
        for other, own in [*read, *given.items()]:
            if other != name and own == path:
                raise ArgumentError(f"{name} and {other} must be different files, got {path}")

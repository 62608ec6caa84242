"""Registries: parts by name, asked for as the command line asks."""

import sys

import numpy as np
import pytest

import xpnn
from xpnn import activations
from xpnn._core.registry import Registry
from xpnn.activations import ACTIVATIONS
from xpnn.callbacks import CALLBACKS
from xpnn.errors import ArgumentError
from xpnn.initializers import INITIALIZERS
from xpnn.layers import LAYERS
from xpnn.losses import LOSSES
from xpnn.optimizers import OPTIMIZERS

REGISTRIES = {
    "activation": ACTIVATIONS,
    "loss": LOSSES,
    "optimizer": OPTIMIZERS,
    "initializer": INITIALIZERS,
    "layer": LAYERS,
}
MODULES = {
    "activation": activations,
    "loss": xpnn.losses,
    "optimizer": xpnn.optimizers,
    "initializer": xpnn.initializers,
    "layer": xpnn.layers,
    "callback": xpnn.callbacks,
}


@pytest.fixture
def kept(monkeypatch):
    """The registries, as they were before once the test ends."""
    for registry in (*REGISTRIES.values(), CALLBACKS):
        monkeypatch.setattr(registry, "_parts", dict(registry._parts))
    monkeypatch.setattr(activations, "_checks", dict(activations._checks))


@pytest.fixture
def registry():
    registry = Registry("spice")
    registry.add("salt", lambda dish, grams=1.0, kind="sea", *, xp=None: (dish, grams, kind))
    registry.add("pepper", lambda dish: dish)
    return registry


def test_is_a_mapping_in_order(registry):
    assert list(registry) == ["salt", "pepper"]
    assert len(registry) == 2
    assert "salt" in registry
    assert "sugar" not in registry
    assert None not in registry
    assert registry["salt"]("soup") == ("soup", 1.0, "sea")


def test_add_returns_the_part(registry):
    assert registry.add("sugar", print) is print
    assert registry["sugar"] is print


def test_a_name_of_another_module_is_taken(registry):
    message = r"spice 'salt' is \S+'s already; give .* or register it with replace=True"
    with pytest.raises(ArgumentError, match=message):
        registry.add("salt", print)
    assert registry["salt"] is not print
    assert registry.add("salt", print, replace=True) is print
    assert registry["salt"] is print


def test_a_module_replaces_its_own(registry):
    """As a notebook does whose cell runs again."""

    def salt(dish):
        return dish

    assert registry.register(salt) is salt
    assert registry["salt"] is salt


@pytest.mark.parametrize("kind", ["activation", "loss", "optimizer", "initializer", "layer"])
def test_built_in_names_are_taken_in_every_module(kind, kept):
    registry, module = REGISTRIES[kind], MODULES[kind]
    name, old = next(iter(registry.items()))
    # the same part from another module
    if isinstance(old, type):
        own = type(old.__name__, (old,), {"__module__": "own"})
    else:

        def own(*args):
            return args

        own.__name__ = own.__qualname__ = name
    with pytest.raises(ArgumentError, match=rf"{kind} '{name}' is {old.__module__}'s already"):
        module.register(own)
    assert registry[name] is old
    module.register(replace=True)(own)
    assert registry[name].__module__ == own.__module__


@pytest.mark.parametrize(
    ("kind", "part", "message"),
    [
        (
            "loss",
            print,
            r"a registered loss must be a class that extends xpnn\.Loss, got <",
        ),
        ("optimizer", xpnn.Dense, r"must be a class that extends xpnn\.Optimizer"),
        ("layer", xpnn.Dense(3), r"must be a class that extends xpnn\.Layer, got Dense\(3\)"),
        ("callback", xpnn.Dense, r"must be a class that extends xpnn\.Callback"),
        ("loss", type("Nameless", (xpnn.Loss,), {}), r"a registered loss must have a name, got"),
        ("activation", 3, r"an activation must be a function, got 3"),
        ("initializer", 3, r"a registered initializer must have a name, got 3"),
    ],
)
def test_what_cannot_be_registered(kind, part, message, kept):
    with pytest.raises(ArgumentError, match=message):
        MODULES[kind].register(part)


def test_parts_of_a_file(tmp_path, kept):
    (tmp_path / "beside.py").write_text("FACTOR = 3.0\n")
    path = tmp_path / "my parts.py"
    path.write_text(
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n"
        "import beside, xpnn\n"
        "@xpnn.activations.register\n"
        "def tripled(u, *, xp):\n"
        "    return beside.FACTOR * u, lambda dz: beside.FACTOR * dz\n"
        "@xpnn.optimizers.register\n"
        "@dataclass(frozen=True)\n"
        "class Slow(xpnn.SGD):\n"
        "    lr: float = 1e-9\n"
    )
    for _ in range(2):  # the second time replaces the first
        module = xpnn.load_parts(path)
        assert ACTIVATIONS["tripled"](np.array([2.0]))[0] == 6.0
        assert OPTIMIZERS["slow"] is module.Slow
    assert str(tmp_path) not in sys.path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"parts must be a Python file, got '.*own\.py'"),
        ("import xpnn\n\n1 / 0\n", r"from '.*own\.py', line 3: ZeroDivisionError: division"),
        ("x =\n", r"from '.*own\.py', line 1: SyntaxError: invalid syntax"),
        ("import nowhere", r"line 1: ModuleNotFoundError: No module named 'nowhere'"),
        (
            "import xpnn\n@xpnn.activations.register\ndef relu(u, *, xp): ...\n",
            r"line 2: ArgumentError: activation 'relu' is xpnn\.activations's already",
        ),
    ],
)
def test_a_file_of_parts_that_fails_says_where(tmp_path, text, message, kept):
    path = tmp_path / "own.py"
    if text is not None:
        path.write_text(text)
    before = dict(sys.modules)
    with pytest.raises(ArgumentError, match=message):
        xpnn.load_parts(path)
    assert "parts_own" not in sys.modules or "parts_own" in before
    assert str(tmp_path) not in sys.path


def test_a_folder_holds_no_parts(tmp_path):
    with pytest.raises(ArgumentError, match=r"parts must be a Python file, got"):
        xpnn.load_parts(tmp_path)


def test_parameters_are_what_has_a_default_but_xp(registry):
    assert registry.parameters("salt") == {"grams": 1.0, "kind": "sea"}
    assert registry.parameters("pepper") == {}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("salt", ("salt", {})),
        ("salt:", ("salt", {})),
        ("salt:grams=2", ("salt", {"grams": 2.0})),
        ("salt:kind=rock,grams=1e-3", ("salt", {"kind": "rock", "grams": 0.001})),
        ("salt:kind=a=b", ("salt", {"kind": "a=b"})),
        ("salt:grams=nan", ("salt", {"grams": pytest.approx(float("nan"), nan_ok=True)})),
    ],
)
def test_parse(registry, text, expected):
    assert registry.parse(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("salz", r"unknown spice 'salz'; did you mean 'salt'\? \(allowed: salt, pepper\)"),
        ("", r"unknown spice '' \(allowed: salt, pepper\)"),
        (
            "salt:grms=2",
            r"of spice 'salt': 'grms'; did you mean 'grams'\? \(allowed: grams, kind\)",
        ),
        ("salt:xp=2", r"unknown parameter of spice 'salt': 'xp'"),
        ("salt:dish=2", r"unknown parameter of spice 'salt': 'dish'"),
        ("pepper:grams=2", r"spice 'pepper' has no parameters, got 'grams'"),
        ("salt:grams", r"spice 'salt:grams': 'grams' must have the form parameter=value"),
        ("salt:grams=1,", r"'' must have the form parameter=value"),
        ("salt:grams=1,grams=2", r"'grams' is given twice"),
        ("salt:grams=much", r"grams of spice 'salt' must be a number, got 'much'"),
        ("salt:grams=", r"grams of spice 'salt' must be a number, got ''"),
    ],
)
def test_parse_mistakes(registry, text, message):
    with pytest.raises(ArgumentError, match=message):
        registry.parse(text)


@pytest.mark.parametrize("name", ["two words", "", "a:b", "a=b", "1st"])
def test_a_name_can_be_parsed(registry, name):
    with pytest.raises(ArgumentError, match=r"name of the spice must be an identifier, got"):
        registry.add(name, print)
    assert name not in registry


@pytest.mark.parametrize("kind", REGISTRIES)
def test_registry_of_each_kind(kind):
    registry = REGISTRIES[kind]
    assert registry.kind == kind
    assert all(callable(part) for part in registry.values())
    some = next(iter(registry))
    with pytest.raises(ArgumentError, match=rf"unknown {kind} '{some}_'; did you mean '\w+'"):
        registry[f"{some}_"]


def test_classes_are_public_by_the_name_that_registries_know():
    public = {getattr(xpnn, name) for name in xpnn.__all__ if name[0].isupper()}
    for registry in (LAYERS, LOSSES, OPTIMIZERS):
        assert set(registry.values()) <= public
    assert all(getattr(xpnn.activations, name) is ACTIVATIONS[name] for name in ("relu", "mish"))


@pytest.mark.parametrize(
    ("registry", "text", "expected"),
    [
        (ACTIVATIONS, "h_swish:n=6", {"n": 6.0}),
        (ACTIVATIONS, "gelu:approximate=tanh", {"approximate": "tanh"}),
        (OPTIMIZERS, "nesterov:lr=0.1,mu=0.9", {"lr": 0.1, "mu": 0.9}),
        (OPTIMIZERS, "adamw:beta2=0.99", {"beta2": 0.99}),
        (LOSSES, "cross_entropy:floor=1e-6", {"floor": 1e-6}),
    ],
)
def test_the_command_lines_way(registry, text, expected):
    assert registry.parse(text) == (text.partition(":")[0], expected)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("relu", ["relu"]),
        ("relu,elu:alpha=2,relu6", ["relu", "elu:alpha=2", "relu6"]),
        ("a:b=1,c=2,d, e:f=g,h=i", ["a:b=1,c=2", "d", "e:f=g,h=i"]),
        ("", [""]),
        ("b=1,relu", ["b=1", "relu"]),
    ],
)
def test_a_list_of_parts_is_split(text, parts):
    assert ACTIVATIONS.split(text) == parts

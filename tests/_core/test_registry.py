"""Registries: parts by name, asked for as the command line asks."""

import pickle
import sys
from collections.abc import Sequence
from typing import Optional

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
from xpnn.schedules import SCHEDULES

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


DOUBLED = """
import xpnn

@xpnn.activations.register
def {0}(u, *, xp):
    return {1} * u, lambda dz: {1} * dz

class Note:
    factor = {1}
"""


def test_files_of_one_name_keep_their_parts(tmp_path, kept):
    files = [tmp_path / folder / "own.py" for folder in ("a", "b")]
    for i, path in enumerate(files):
        path.parent.mkdir()
        path.write_text(DOUBLED.format(f"own{i}", i + 2))
    modules = [xpnn.load_parts(path) for path in files]
    notes = [module.Note() for module in modules]
    u = np.asarray([1.0])
    assert [ACTIVATIONS[f"own{i}"](u)[0].item() for i in (0, 1)] == [2.0, 3.0]
    assert [sys.modules[module.__name__] for module in modules] == modules
    assert [pickle.loads(pickle.dumps(note)).factor for note in notes] == [2, 3]

    # the name of the other's part is taken, however often a file is loaded
    files[1].write_text(DOUBLED.format("own0", 5))
    with pytest.raises(ArgumentError, match=rf"line 4: .* 'own0' is {modules[0].__name__}'s al"):
        xpnn.load_parts(files[1])
    # and its own a file replaces, by whatever path
    files[0].write_text(DOUBLED.format("own0", 7))
    again = xpnn.load_parts(tmp_path / "b" / ".." / "a" / "own.py")
    assert again.__name__ == modules[0].__name__
    assert ACTIVATIONS["own0"](u)[0] == 7.0
    assert pickle.loads(pickle.dumps(again.Note())).factor == 7


def test_a_module_of_that_name_stays(tmp_path, kept, monkeypatch):
    """Which was imported, and not loaded as parts."""
    other = type(sys)("parts_own")
    monkeypatch.setitem(sys.modules, "parts_own", other)
    (tmp_path / "own.py").write_text(DOUBLED.format("own", 2))
    assert xpnn.load_parts(tmp_path / "own.py").__name__ != "parts_own"
    assert sys.modules["parts_own"] is other


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
    with pytest.raises(ArgumentError, match=r"parts must be a path, got None"):
        xpnn.load_parts(None)


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
        ("salt:grams=1,2", r"grams of spice 'salt' must be a number, got '1,2'"),
        ("salt:grams=1,x", r"'x' must have the form parameter=value"),
        ("salt:grams=1,grams=2", r"'grams' is given twice"),
        ("salt:grams=much", r"grams of spice 'salt' must be a number, got 'much'"),
        ("salt:grams=", r"grams of spice 'salt' must be a number, got ''"),
    ],
)
def test_parse_mistakes(registry, text, message):
    with pytest.raises(ArgumentError, match=message):
        registry.parse(text)


class Stew:
    """A part with parameters of every type, told by the default or by the annotation."""

    def __init__(
        self,
        hours=2,
        salted=False,
        name="stew",
        liters=1.5,
        lid=None,
        guests: int | None = None,
        price: "float | None" = None,
        hot: Optional[bool] = None,  # noqa: UP045
        weight: float = 3,
        label: "str | Unknown" = 7,  # noqa: F821
        spices: Sequence[str] = (),
    ):
        self.given = {name: value for name, value in locals().items() if name != "self"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("hours=3", 3),
        ("hours=-3", -3),
        ("salted=true", True),
        ("salted=Yes", True),
        ("salted=1", True),
        ("salted=false", False),
        ("salted=NO", False),
        ("salted=0", False),
        ("name=3", "3"),
        ("name=true", "true"),
        ("name=", ""),
        ("liters=3", 3.0),
        ("liters=1e3", 1000.0),
        ("lid=3", 3),
        ("lid=3.0", 3.0),
        ("lid=no", False),
        ("lid=glass", "glass"),
        ("guests=3", 3),
        ("price=3", 3.0),
        ("hot=yes", True),
        ("weight=2", 2.0),
        ("weight=2.5", 2.5),
        ("label=3", "3"),
        ("spices=salt", "salt"),
    ],
)
def test_a_value_has_the_type_of_its_parameter(registry, text, value):
    registry.add("stew", Stew)
    name, given = registry.parse(f"stew:{text}")
    (found,) = given.values()
    assert (name, found, type(found)) == ("stew", value, type(value))
    made = registry.make(f"stew:{text}")
    assert isinstance(made, Stew)
    assert made.given[text.partition("=")[0]] is not None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hours=3.5", r"^hours of spice 'stew' must be a whole number, got '3\.5'$"),
        ("hours=1e3", r"^hours of spice 'stew' must be a whole number, got '1e3'$"),
        ("hours=true", r"must be a whole number, got 'true'$"),
        ("salted=perhaps", r"^salted of spice 'stew' must be true or false, got 'perhaps'$"),
        ("salted=2", r"must be true or false, got '2'$"),
        ("liters=true", r"^liters of spice 'stew' must be a number, got 'true'$"),
        ("guests=3.5", r"^guests of spice 'stew' must be a whole number, got '3\.5'$"),
        ("price=dear", r"^price of spice 'stew' must be a number, got 'dear'$"),
        ("price=", r"must be a number, got ''$"),
        (f"hours={'1' * 5000}", r"must be a whole number, got '1"),
    ],
)
def test_a_value_of_another_type(registry, text, message):
    registry.add("stew", Stew)
    with pytest.raises(ArgumentError, match=message):
        registry.parse(f"stew:{text}")


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
        (LOSSES, "quantile:levels=0.1,0.9", {"levels": "0.1,0.9"}),
        (LOSSES, "focal:alpha=0.25,0.75,gamma=1", {"alpha": "0.25,0.75", "gamma": 1.0}),
        (ACTIVATIONS, "elu:alpha=2", {"alpha": 2.0}),
        (SCHEDULES, "step:every=3,gamma=1", {"every": 3, "gamma": 1.0}),
        (
            SCHEDULES,
            "plateau:monitor=train_loss,patience=2",
            {"monitor": "train_loss", "patience": 2},
        ),
    ],
)
def test_the_command_lines_way(registry, text, expected):
    name, given = registry.parse(text)
    assert (name, given) == (text.partition(":")[0], expected)
    assert [type(value) for value in given.values()] == [type(v) for v in expected.values()]


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


def test_three_words_have_initials(registry):
    registry.add("black_hot_pepper", lambda dish, corns=3: (dish, corns))
    assert registry["bhp"] is registry["black_hot_pepper"]
    assert registry.parse("bhp:corns=4") == ("black_hot_pepper", {"corns": 4})
    # only whole names are keys
    assert "bhp" not in registry
    registry.add("bhp", lambda dish: dish)
    assert registry.parse("bhp") == ("bhp", {})
    registry.add("brown_hot_pan", lambda dish: dish)
    del registry._parts["bhp"]
    with pytest.raises(ArgumentError, match="unknown spice 'bhp'; did you mean"):
        registry["bhp"]
    # two words have none
    registry.add("sea_salt", lambda dish: dish)
    with pytest.raises(ArgumentError, match="unknown spice 'ss'"):
        registry["ss"]
    with pytest.raises(ArgumentError, match="unknown spice None"):
        registry[None]


@pytest.mark.parametrize("registry", [*REGISTRIES.values(), CALLBACKS, SCHEDULES])
def test_kinds_have_a_plural(registry):
    plurals = {"loss": "losses"}
    assert registry.plural == plurals.get(registry.kind, f"{registry.kind}s")

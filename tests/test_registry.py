"""Registries: parts by name, asked for as the command line asks."""

import pytest

import xpnn
from xpnn.activations import ACTIVATIONS
from xpnn.errors import ArgumentError
from xpnn.initializers import INITIALIZERS
from xpnn.layers import LAYERS
from xpnn.losses import LOSSES
from xpnn.optimizers import OPTIMIZERS
from xpnn.registry import Registry

REGISTRIES = {
    "activation": ACTIVATIONS,
    "loss": LOSSES,
    "optimizer": OPTIMIZERS,
    "initializer": INITIALIZERS,
    "layer": LAYERS,
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


def test_add_returns_the_part_and_replaces(registry):
    assert registry.add("salt", print) is print
    assert registry["salt"] is print


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

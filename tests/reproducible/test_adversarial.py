"""Every function of the reproducible namespace, given what libraries treat in their own ways."""

import warnings

import pytest

from scripts.checks import adversarial
from tests.helpers import open_backend
from xpnn import reproducible

# JAX compiles and the emulated card interprets each operation: of each class of functions one
FEW = ["abs", "add", "argmax", "copysign", "equal", "exp", "floor_divide", "max", "maximum",
       "negative", "sign", "sum", "where", "matmul"]  # fmt: skip

# Jacobi's method takes seconds; the script has them
SLOW = {f"linalg.{name}" for name in ("eigh", "eigvalsh", "matrix_norm", "matrix_rank", "pinv",
                                      "svd", "svdvals")}  # fmt: skip


def compared(kind, namespaces, functions=None):
    with warnings.catch_warnings(action="ignore"):
        return adversarial.compared(kind, namespaces, functions)


def opened(library):
    return reproducible.namespace(library, device=open_backend(library).options()["device"])


@pytest.mark.parametrize("kind", adversarial.KINDS)
def test_a_function_has_the_same_bits_or_is_an_error(kind):
    functions = [name for name in adversarial.names() if name not in SLOW]
    namespaces = {name: opened(name) for name in ("numpy", "torch")}
    results, refusing, wrong = compared(kind, namespaces, functions)
    assert not wrong
    assert results > 200
    assert len(refusing) <= 60


@pytest.mark.parametrize("library", ["strict", "jax", "cupy"])
@pytest.mark.parametrize("kind", adversarial.KINDS)
def test_a_function_of_each_class_on_the_other_libraries(kind, library):
    _, _, wrong = compared(kind, {name: opened(name) for name in ("numpy", library)}, FEW)
    assert not wrong


def test_all_functions_are_called():
    """Those of `standard`, whose page has a row for each function that there is."""
    assert {*FEW} < {*adversarial.names()}
    assert len(adversarial.names()) > 150


@pytest.mark.parametrize(
    ("name", "kind", "found"),
    [
        ("negative", "-0", "a zero or NaN with bits of its own"),
        ("add", "infinite and huge numbers", "wrong: add of infinite and huge numbers is"),
        ("square", "read-only", "square of read-only changes its arguments"),
    ],
)
def test_a_fault_is_found(monkeypatch, name, kind, found):
    right, wrong = (reproducible.StandardNamespace(open_backend("numpy")) for _ in range(2))
    faults = {
        "negative": lambda x: wrong._whole_array(-x.raw),
        "add": lambda a, b: right.add(a, right.minimum(b, b * 0 + 1)),
        "square": lambda x: x.replace(x.raw * 2, x.facts) or x,
    }
    monkeypatch.setattr(wrong, name, faults[name])
    _, _, texts = compared(kind, {"right": right, "wrong": wrong}, [name])
    assert any(found in text for text in texts), texts

"""Random programs of the reproducible namespace: the same bits after every operation."""

import warnings

import numpy as np
import pytest

from scripts.checks import fuzz_namespace
from tests.helpers import open_backend
from xpnn import reproducible


@pytest.mark.parametrize(
    ("library", "programs"), [("torch", 100), ("strict", 100), ("jax", 4), ("cupy", 4)]
)
def test_programs_have_the_same_bits(library, programs):
    device = open_backend(library).options()["device"]
    namespaces = {
        "numpy": reproducible.namespace("numpy"),
        library: reproducible.namespace(library, device=device),
    }
    with warnings.catch_warnings(action="ignore"):
        for seed in range(programs):
            # JAX compiles and the emulated card interprets each operation
            steps = 12 if programs == 100 else 8
            difference = fuzz_namespace.run(seed, namespaces, steps=steps)
            assert difference is None, difference


def test_a_difference_is_found(monkeypatch):
    """A library that rounds one function in another way."""
    right, wrong = (reproducible.StandardNamespace(open_backend("numpy")) for _ in range(2))
    sine = wrong._functions.sin
    monkeypatch.setattr(wrong, "sin", wrong._function(lambda x: sine(x) * (1 + 2.0**-52)))
    with warnings.catch_warnings(action="ignore"):
        found = [fuzz_namespace.run(seed, {"right": right, "wrong": wrong}) for seed in range(200)]
    found = [text for text in found if text]
    assert found
    assert all(": sin of float" in text for text in found)


def test_a_result_that_is_wrong_everywhere_is_found(monkeypatch):
    """All libraries compute by the same code: only NumPy itself can tell."""
    xp = reproducible.StandardNamespace(open_backend("numpy"))
    right = xp._whole_array
    monkeypatch.setattr(xp, "sum", lambda x, **options: right(0 * np.sum(x.raw, **options)))
    with warnings.catch_warnings(action="ignore"):
        found = [fuzz_namespace.run(seed, {"numpy": xp}) for seed in range(100)]
    found = [text for text in found if text]
    assert any(": sum axis" in text for text in found)
    assert all("far from what NumPy finds" in text for text in found), found

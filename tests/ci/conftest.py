"""Fixtures of the tests of the emulated card."""

import types

import pytest

from tests.helpers import open_backend


@pytest.fixture
def cupy():
    """CuPy's namespace, the two copies, and its own module."""
    backend = open_backend("cupy", "float64")
    with backend.scope():
        yield types.SimpleNamespace(
            xp=backend.xp, put=backend.asarray, get=backend.to_numpy, module=backend.library
        )

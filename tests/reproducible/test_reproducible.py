"""`xpnn.reproducible` as a whole: the same bits on every library, and those pinned here."""

import numpy as np
import pytest

from tests.helpers import DTYPES, bits, digest, everything, expected
from xpnn import reproducible


@pytest.mark.parametrize(
    ("precision", "dtype"), [("training", "float64"), ("training", "float32"), ("full", "float64")]
)
def test_every_backend_gives_the_same_bits(backend, dtype, precision):
    ns = reproducible.arithmetic(backend.xp, precision=precision)
    found = everything(ns, backend, dtype)
    known = expected(dtype, precision)
    assert [name for name in known if bits(known[name]) != bits(found[name])] == []
    assert {value.dtype for value in found.values()} == {np.dtype(dtype)}


def test_pinned_bits():
    """They change only with this package's arithmetic, not with the machine or the library."""
    assert digest() == "fce1a83cb3236ad1b16a3dd2aa81bcfc171b10a7dd6f3c2dca0ed3ca165b1d1d"


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_number_is_a_multiple_of_the_quantum_and_zero_has_no_sign(dtype):
    quantum = np.longdouble(2) ** {"float64": -1022, "float32": -126}[dtype]
    for name, value in expected(dtype, "training").items():
        finite = value[np.isfinite(value)].astype(np.longdouble)
        assert np.all(finite / quantum == np.rint(finite / quantum)), name
        assert not np.any(np.signbit(finite) & (finite == 0)), name

"""`examples/same_bits.py`: one hash of each computation, on every library and with every BLAS."""

import warnings

import numpy as np
import pytest

from examples import same_bits
from scripts.checks import platforms
from tests.helpers import open_backend, printed, skip_without_sorting
from xpnn import reproducible

special = pytest.importorskip("scipy.special")


@pytest.mark.parametrize("library", ["numpy", "torch", "jax", "strict", "cupy"])
@pytest.mark.parametrize("function", same_bits.EXAMPLES, ids=lambda function: function.__name__)
def test_one_hash_on_every_library(library, function):
    device = open_backend(library).options()["device"]
    if function in (same_bits.principal_components, same_bits.best_split):
        skip_without_sorting(library)
    xp = reproducible.namespace(library, device=device)
    with warnings.catch_warnings(action="ignore"):
        result = same_bits.digest(function(xp, *same_bits.data(xp)))
    assert result == same_bits.HASHES[function.__name__]


@pytest.mark.parametrize("kernel", platforms.usable().get("OPENBLAS_CORETYPE", []))
def test_one_hash_with_every_kernel_of_openblas(kernel):
    code = (
        "import json; from examples import same_bits; "
        "print(json.dumps([same_bits.reproducible_digests('numpy'), "
        "same_bits.native_digests('numpy')]))"
    )
    same, own = printed(code, {"OPENBLAS_CORETYPE": kernel})
    assert same == same_bits.HASHES
    assert own.keys() == same_bits.HASHES.keys()


def test_another_hash_is_an_exit_status(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["same_bits.py", "--libraries", "numpy"])
    assert same_bits.main() == 0
    printed = capsys.readouterr().out
    assert all(digest in printed for digest in same_bits.HASHES.values())
    monkeypatch.setitem(same_bits.HASHES, "k_means", "0000000000000000")
    assert same_bits.main() == 1


def test_libraries_are_named_with_or_without_spaces(monkeypatch, capsys):
    assert same_bits.libraries_of("numpy, strict") == ["numpy", "strict"]
    monkeypatch.setattr("sys.argv", ["same_bits.py", "--libraries", "numpy,nump"])
    with pytest.raises(SystemExit, match="2"):
        same_bits.main()
    assert "--libraries: unknown backend 'nump'; did you mean 'numpy'?" in capsys.readouterr().err


def test_the_examples_compute_what_they_say():
    """Against other formulas, in NumPy, on the same numbers."""
    xp = reproducible.namespace("numpy", precision="full")
    points, label, noise = arrays = same_bits.data(xp)
    found = {f.__name__: np.asarray(f(xp, *arrays)) for f in same_bits.EXAMPLES}
    points, label, noise = (np.asarray(a) for a in (points, label, noise))

    centres = found["k_means"]
    nearest = np.linalg.norm(points[:, None] - centres, axis=-1).argmin(axis=1)
    for k in range(3):
        np.testing.assert_allclose(points[nearest == k].mean(axis=0), centres[k], rtol=1e-2)

    centred = points - points.mean(axis=0)
    values, rows = np.linalg.svd(centred)[1:]
    variances, projections = np.split(found["principal_components"], [2])
    np.testing.assert_allclose(variances, values[1::-1] ** 2 / 399, rtol=1e-12)
    own = np.abs(centred @ rows[1::-1].T)
    np.testing.assert_allclose(np.abs(projections).reshape(400, 2), own, atol=1e-11)

    slope = points.T @ (special.expit(points @ found["logistic_regression"]) - label) / 400
    first = points.T @ (0.5 - label) / 400
    assert np.linalg.norm(slope) < np.linalg.norm(first) / 10

    target = points[:, 0] - 0.5 * points[:, 1] + 0.1 * noise
    rows = np.concatenate([points, 0.1**0.5 * np.eye(4)])
    own = np.linalg.lstsq(rows, np.concatenate([target, np.zeros(4)]), rcond=None)[0]
    np.testing.assert_allclose(found["ridge_regression"], own, rtol=1e-10)

    error = found["kalman_filter"][20:, 0] - 0.3 * np.arange(20, 100)
    assert np.sqrt(np.mean(error**2)) < 0.25  # that of a measurement is 0.5

    for k in range(4):
        impurities = []
        for threshold in found["best_split"][0, k], *np.median(points, axis=0)[k : k + 1]:
            sides = label[points[:, k] < threshold], label[points[:, k] >= threshold]
            impurities.append(sum(2 * n.size * n.mean() * (1 - n.mean()) for n in sides) / 400)
        np.testing.assert_allclose(found["best_split"][1, k], impurities[0], rtol=1e-12)
        assert impurities[0] <= impurities[1]

    # the formula of Black and Scholes for a rate of 2 %, a volatility of 20 %, one year
    d = (np.log(100 / 105) + 0.02 + 0.2**2 / 2) / 0.2
    cdf = special.ndtr
    price, deviation = found["option_price"]
    assert abs(price - (100 * cdf(d) - 105 * np.exp(-0.02) * cdf(d - 0.2))) < 4 * deviation

"""Seven computations without networks, each with the same bits on every array library.

    python examples/same_bits.py [--libraries numpy,torch,jax,strict]

Each is written once, against the array API standard. It is called with the arrays of
`xpnn.reproducible.namespace`, and then with the libraries' own arrays of the same numbers. Prints
the hash of its reproducible results, which is one on all libraries, machines and devices, and how
many different results the libraries have by themselves. Exit status 1 if a hash isn't the one in
`HASHES`.
"""

import argparse
import hashlib
import sys
import warnings

import numpy as np

from xpnn import reproducible
from xpnn.backends import get_backend


def k_means(xp, points, *_):
    """Return the centres of three clusters (Lloyd's algorithm)."""
    centres = points[:3, :]
    for _ in range(10):
        distances = xp.sum((points[:, None, :] - centres[None, :, :]) ** 2, axis=-1)
        nearest = xp.argmin(distances, axis=-1)
        belongs = xp.astype(nearest[:, None] == xp.arange(3)[None, :], points.dtype)
        centres = (belongs.T @ points) / xp.sum(belongs, axis=0)[:, None]
    return centres


def principal_components(xp, points, *_):
    """Return the points' two principal components and their variances."""
    centred = points - xp.mean(points, axis=0)
    variances, vectors = xp.linalg.eigh(centred.T @ centred / (points.shape[0] - 1))
    largest = vectors[:, -2:] * xp.sign(vectors[:1, -2:])
    return xp.concat([variances[-2:], xp.reshape(centred @ largest, (-1,))])


def logistic_regression(xp, points, label, _):
    """Return the coefficients after 50 steps of gradient descent."""
    weights = points[0, :] * 0.0
    for _ in range(50):
        probability = 1.0 / (1.0 + xp.exp(-(points @ weights)))
        weights = weights - points.T @ (probability - label) / points.shape[0]
    return weights


def ridge_regression(xp, points, _, noise):
    """Return the coefficients of a linear function plus noise."""
    target = points[:, 0] - 0.5 * points[:, 1] + 0.1 * noise
    penalty = 0.1 * xp.eye(points.shape[1], dtype=points.dtype)
    return xp.linalg.solve(points.T @ points + penalty, points.T @ target)


def kalman_filter(xp, _, __, noise):
    """Return position and speed of a body after measurements with noise."""
    move = xp.asarray([[1.0, 0.1], [0.0, 1.0]], dtype=noise.dtype)
    measure = xp.asarray([[1.0, 0.0]], dtype=noise.dtype)
    unit = xp.eye(2, dtype=noise.dtype)
    state, covariance = xp.zeros((2, 1), dtype=noise.dtype), unit
    found = []
    for k in range(100):
        state, covariance = move @ state, move @ covariance @ move.T + 1e-3 * unit
        spread = measure @ covariance @ measure.T + 0.25
        gain = covariance @ measure.T @ xp.linalg.inv(spread)
        state = state + gain * (0.3 * k + 0.5 * noise[k] - (measure @ state))
        covariance = (unit - gain @ measure) @ covariance
        found.append(state[:, 0])
    return xp.stack(found)


def best_split(xp, points, label, _):
    """Return each feature's best threshold, and the labels' Gini impurity behind it: a stump."""
    order = xp.argsort(points, axis=0)
    values = xp.take_along_axis(points, order, axis=0)
    ones = xp.cumulative_sum(xp.reshape(xp.take(label, xp.reshape(order, (-1,))), order.shape),
                             axis=0)  # fmt: skip
    n = points.shape[0]
    left = xp.arange(1, n, dtype=points.dtype)[:, None]
    low, high = ones[:-1, :] / left, (ones[-1:, :] - ones[:-1, :]) / (n - left)
    impurity = 2.0 * (left * low * (1.0 - low) + (n - left) * high * (1.0 - high)) / n
    best = xp.argmin(impurity, axis=0, keepdims=True)
    middle = (values[:-1, :] + values[1:, :]) / 2.0
    return xp.concat([xp.take_along_axis(a, best, axis=0) for a in (middle, impurity)])


def option_price(xp, _, __, noise):
    """Return the price of a call option and its standard error (Monte Carlo)."""
    prices = 100.0 * xp.exp(0.02 - 0.5 * 0.2**2 + 0.2 * noise)
    gains = xp.exp(noise[:1] * 0.0 - 0.02) * xp.where(prices > 105.0, prices - 105.0, 0.0 * prices)
    return xp.stack([xp.mean(gains), xp.std(gains, correction=1) / noise.shape[0] ** 0.5])


EXAMPLES = (
    k_means, principal_components, logistic_regression, ridge_regression, kalman_filter, best_split,
    option_price,
)  # fmt: skip
# on every library, machine and device
HASHES = {
    "k_means": "f72eda6b516f03b1",
    "principal_components": "7b0a49411ba10740",
    "logistic_regression": "4b9b4d004fd40830",
    "ridge_regression": "48e88bdd4e4a21e1",
    "kalman_filter": "6687af776f07a956",
    "best_split": "24f125dd21278116",
    "option_price": "ab6cf9d2a3701406",
}


def data(xp):
    """Return points in groups, labels, and noise: the same on every library."""
    groups = xp.astype(xp.random(2).integers(0, 3, (400, 1)), xp.float64)
    points = xp.random(1).normal((400, 4)) + 2.0 * groups
    return points, xp.astype(groups[:, 0] > 0.0, xp.float64), xp.random(3).normal(400)


def digest(array):
    """Return the beginning of the SHA-256 of an array's bytes."""
    return hashlib.sha256(np.asarray(array).tobytes()).hexdigest()[:16]


def reproducible_digests(library):
    """Return the hash of each example on the reproducible namespace of a library."""
    xp = reproducible.namespace(library)
    arrays = data(xp)
    return {function.__name__: digest(function(xp, *arrays)) for function in EXAMPLES}


def native_digests(library):
    """Return the hash of each example on the library's own arrays."""
    hosts = [np.asarray(array) for array in data(reproducible.namespace("numpy"))]
    backend = get_backend(library, dtype="float64")
    with backend.scope():
        arrays = [backend.asarray(host) for host in hosts]
        results = {function.__name__: function(backend.xp, *arrays) for function in EXAMPLES}
        return {name: digest(backend.to_numpy(array)) for name, array in results.items()}


def libraries_of(text):
    """Return the names in a text such as "numpy, torch"; raise unless each can be used here."""
    names = [name.strip() for name in text.split(",")]
    try:
        for name in names:
            reproducible.namespace(name)
    except (RuntimeError, ValueError) as error:
        raise argparse.ArgumentTypeError(error) from None
    return names


def main():
    """Print the table; return 1 if a hash isn't what it must be."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--libraries", type=libraries_of, default="numpy,torch,jax,strict")
    libraries = parser.parse_args().libraries
    warnings.simplefilter("ignore")
    same = [reproducible_digests(library) for library in libraries]
    own = [native_digests(library) for library in libraries]
    print(f"{'':22}{'reproducible':22}the libraries' own")
    for name in same[0]:
        hashes = {digests[name] for digests in same}
        natives = {digests[name] for digests in own}
        print(f"{name:22}{' '.join(sorted(hashes)):22}{len(natives)} different results")
    return int(any(digests != HASHES for digests in same))


if __name__ == "__main__":
    sys.exit(main())

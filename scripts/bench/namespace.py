"""Measure what functions of the reproducible namespace cost beside the library's own.

``OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 python scripts/bench/namespace.py [--library torch]``
calls each function in turn natively and reproducibly, and prints a Markdown table of the medians of
CPU times in microseconds, and of the ratio of each pair.
"""

import argparse
import statistics
import time
import warnings

import numpy as np

from xpnn import reproducible
from xpnn.backends import get_backend

SIZE, SIDE, ROUNDS = 100_000, 64, 7
FUNCTIONS = {
    "elementwise": {
        "add": lambda xp, a: xp.add(a.x, a.y),
        "divide": lambda xp, a: xp.divide(a.x, a.y),
        "where, less": lambda xp, a: xp.where(xp.less(a.x, a.y), a.x, a.y),
        "sqrt": lambda xp, a: xp.sqrt(a.y),
        "remainder": lambda xp, a: xp.remainder(a.x, a.y),
    },
    "transcendental": {
        "exp": lambda xp, a: xp.exp(a.x),
        "log": lambda xp, a: xp.log(a.y),
        "tanh": lambda xp, a: xp.tanh(a.x),
        "sin": lambda xp, a: xp.sin(a.x),
        "atan2": lambda xp, a: xp.atan2(a.x, a.y),
        "pow": lambda xp, a: xp.pow(a.y, a.x),
    },
    "sums": {
        "sum": lambda xp, a: xp.sum(a.x),
        "sum along an axis": lambda xp, a: xp.sum(a.rows, axis=1),
        "var": lambda xp, a: xp.var(a.x),
        "prod": lambda xp, a: xp.prod(a.y),
        "cumulative_sum": lambda xp, a: xp.cumulative_sum(a.x),
    },
    "products": {
        "matmul of (1000, 100) and (100, 100)": lambda xp, a: xp.matmul(a.rows, a.rows[:100, :]),
        "vecdot": lambda xp, a: xp.vecdot(a.rows, a.rows),
    },
    "sorting and indexing": {
        "sort": lambda xp, a: xp.sort(a.x),
        "unique_values": lambda xp, a: xp.unique_values(a.x),
        "take": lambda xp, a: xp.take(a.x, a.index),
        "x[mask]": lambda xp, a: a.x[a.mask],
    },
    "linalg, 64 by 64": {
        name: (lambda xp, a, _name=name: getattr(xp.linalg, _name)(a.definite))
        for name in ("cholesky", "inv", "qr", "eigh", "svdvals")
    },
}


class Arrays:
    """The arguments, on one namespace."""

    def __init__(self, asarray):
        rng = np.random.default_rng(1)
        x, m = rng.normal(size=SIZE) * 3.0, rng.normal(size=(SIDE, SIDE))
        self.x, self.y = asarray(x), asarray(rng.uniform(0.5, 2.0, SIZE))
        self.rows = asarray(x.reshape(-1, 100))
        self.definite = asarray(m @ m.T + SIDE * np.eye(SIDE))
        self.index, self.mask = asarray(rng.permutation(SIZE)), asarray(x > 0.0)


def calls(library):
    """Return how to compute natively and reproducibly, to the end."""
    backend, xp = get_backend(library, dtype="float64"), reproducible.namespace(library)
    with backend.scope():
        native = Arrays(lambda host: backend.xp.asarray(host))
    own = Arrays(xp.asarray)

    def natively(function):
        with backend.scope():
            _await(function(backend.xp, native))

    return natively, lambda function: _await(function(xp, own))


def _await(result):
    """Wait until JAX has computed an array, or the first one of several."""
    result = result[0] if isinstance(result, tuple) else result
    getattr(getattr(result, "raw", result), "block_until_ready", lambda: None)()


def table(library, rounds=ROUNDS):
    """Yield the lines of the table, each as soon as it is measured."""
    yield "| class | function | own, us | reproducible, us | ratio |"
    yield "|---|---|---:|---:|---:|"
    ways = calls(library)
    for kind, functions in FUNCTIONS.items():
        for name, function in functions.items():
            times = [[], []]
            for repeat in range(1 + rounds):  # the first is not counted: it may compile
                for way, found in zip(ways, times, strict=True):
                    begun, count = time.process_time(), 0
                    while not count or (repeat and time.process_time() - begun < 5e-3):
                        way(function)
                        count += 1
                    found.append((time.process_time() - begun) / count * 1e6)
            own, same = (statistics.median(found[1:]) for found in times)
            ratio = statistics.median(b / a for a, b in zip(*(t[1:] for t in times), strict=True))
            yield f"| {kind} | {name} | {own:.0f} | {same:.0f} | {ratio:.1f} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--library", default="numpy")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    for line in table(args.library, args.rounds):
        print(line, flush=True)


if __name__ == "__main__":
    main()

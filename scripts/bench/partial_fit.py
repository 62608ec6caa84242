"""Measure a call of the estimators' `partial_fit`, and a small `fit`, beside scikit-learn's.

    python scripts/bench/partial_fit.py [--rounds 200]

Both take turns, a call at a time: A B A B. The table shows the median of each one's calls in
milliseconds, and the median of the ratios of neighbours, by the wall clock and by CPU time.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings

import numpy as np
import sklearn.neural_network

import xpnn.estimators

KINDS = ("MLPClassifier", "MLPRegressor")
CLOCKS = (time.perf_counter, time.process_time)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=200)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    print("| what | rows | dtype | xpnn, ms | scikit-learn, ms | ratio | ratio, CPU |")
    print("|---|---:|---|---:|---:|---:|---:|")
    for kind in KINDS:
        for dtype in ("float32", "float64"):
            for rows in (1, 32, 200):
                cell = f"{kind}.partial_fit | {rows} | {dtype}"
                print(
                    f"| {cell} | {' | '.join(partial(kind, rows, dtype, args.rounds))} |",
                    flush=True,
                )
            cell = f"{kind}.fit, 3 epochs | 150 | {dtype}"
            print(f"| {cell} | {' | '.join(whole(kind, dtype, args.rounds // 4))} |", flush=True)


def data(kind: str, rows: int, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.RandomState(0)
    y = rng.randint(10, size=rows) if kind == "MLPClassifier" else rng.randn(rows).astype(dtype)
    return rng.randn(rows, 20).astype(dtype), y


def partial(kind: str, rows: int, dtype: str, rounds: int) -> list[str]:
    """Return the cells of calls of `partial_fit` with `rows` rows, after some that aren't timed."""
    x, y = data(kind, rows, dtype)
    classes = {"classes": np.arange(10)} if kind == "MLPClassifier" else {}
    models = [getattr(m, kind)(random_state=0) for m in (xpnn.estimators, sklearn.neural_network)]
    for model in models:
        for _ in range(5):
            model.partial_fit(x, y, **classes)
    return compared([lambda model=model: model.partial_fit(x, y) for model in models], rounds)


def whole(kind: str, dtype: str, rounds: int) -> list[str]:
    """Return the cells of a `fit` of three epochs, on as many samples as Iris has."""
    x, y = data(kind, 150, dtype)
    models = [
        getattr(m, kind)(random_state=0, max_iter=3)
        for m in (xpnn.estimators, sklearn.neural_network)
    ]
    return compared([lambda model=model: model.fit(x, y) for model in models], rounds)


def compared(calls: list, rounds: int) -> list[str]:
    times = np.array([[timed(call) for call in calls] for _ in range(rounds)])
    medians = [f"{1e3 * statistics.median(times[:, i, 0]):.2f}" for i in range(2)]
    ratios = [f"{statistics.median(times[:, 0, k] / times[:, 1, k]):.2f}" for k in range(2)]
    return medians + ratios


def timed(call) -> list[float]:
    begun = [clock() for clock in CLOCKS]
    call()
    return [clock() - start for clock, start in zip(CLOCKS, begun, strict=True)]


if __name__ == "__main__":
    main()

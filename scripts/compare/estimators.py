"""Set xpnn's scikit-learn estimators beside scikit-learn's own, on its five small data sets.

    python scripts/compare/estimators.py [--seeds 5] [--folds 5] [--backend numpy] [--max-iter 200]

For each seed the same folds, standardized on what is trained on (the targets of Diabetes too),
the same parameters, all others the default ones. The table shows accuracy (R² for Diabetes) over
all folds, mean ± standard deviation over the seeds, that of the difference from seed to seed, the
epochs until training stopped, and the median of the ratios of the times that the two took to fit
one fold, one right after the other, in turns.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_wine
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.neural_network import MLPClassifier as TheirClassifier
from sklearn.neural_network import MLPRegressor as TheirRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from xpnn.estimators import MLPClassifier, MLPRegressor

DATA = {
    "Iris": load_iris,
    "Wine": load_wine,
    "Digits": load_digits,
    "Breast cancer": load_breast_cancer,
    "Diabetes": load_diabetes,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--max-iter", type=int, default=200)
    args = parser.parse_args()
    # that more epochs might do more
    warnings.simplefilter("ignore")
    print("| data | score | `xpnn` | scikit-learn | difference | epochs | time |")
    print("|---|---|---:|---:|---:|---:|---:|")
    for name, load in DATA.items():
        rows = [compared(name, load, seed, args) for seed in range(args.seeds)]
        ours, theirs = np.array([scores for scores, _, _ in rows]).T
        epochs = np.mean([epochs for _, epochs, _ in rows], axis=0)
        ratio = statistics.median(ratio for _, _, ratios in rows for ratio in ratios)
        cells = [shown(column) for column in (ours, theirs, ours - theirs)]
        cells += [f"{epochs[0]:.0f}, {epochs[1]:.0f}", f"{ratio:.2f}"]
        score = "R²" if name == "Diabetes" else "accuracy"
        print(f"| {name} | {score} | {' | '.join(cells)} |", flush=True)


def shown(column: np.ndarray) -> str:
    return f"{column.mean():.3f} ± {column.std(ddof=1) if len(column) > 1 else 0:.3f}"


def compared(name: str, load: Any, seed: int, args: argparse.Namespace) -> Any:
    """Return both mean scores over the folds, both mean epochs, and each fold's ratio of times."""
    x, y = load(return_X_y=True)
    options = {"max_iter": args.max_iter, "random_state": seed}
    own = {**options, "backend": args.backend}
    values = name == "Diabetes"
    pair = (
        (MLPRegressor(**own), TheirRegressor(**options))
        if values
        else (MLPClassifier(**own), TheirClassifier(**options))
    )
    folds = (KFold if values else StratifiedKFold)(args.folds, shuffle=True, random_state=seed)
    scores, epochs, ratios = [], [], []
    for number, (train, test) in enumerate(folds.split(x, y)):
        seconds, found = [0.0, 0.0], [0.0, 0.0]
        stopped = [0, 0]
        for i in (0, 1) if number % 2 else (1, 0):
            network: Any = clone(pair[i])
            if values:
                network = TransformedTargetRegressor(network, transformer=StandardScaler())
            whole = make_pipeline(StandardScaler(), network)
            begun = time.perf_counter()
            whole.fit(x[train], y[train])
            seconds[i] = time.perf_counter() - begun
            found[i] = whole.score(x[test], y[test])
            stopped[i] = (whole[-1].regressor_ if values else whole[-1]).n_iter_
        scores.append(found)
        epochs.append(stopped)
        ratios.append(seconds[0] / seconds[1])
    return np.mean(scores, axis=0), np.mean(epochs, axis=0), ratios


if __name__ == "__main__":
    main()

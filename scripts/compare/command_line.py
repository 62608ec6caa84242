"""Set xpnn's command line beside scikit-learn's multi-layer perceptrons, on Iris, Wine, Diabetes.

    python scripts/compare/command_line.py [--seeds 10] [--backend numpy]

For each seed a quarter of the data is held out, of each class alike. The rest is written as a CSV
file, and `xpnn train` and `xpnn predict` see these files alone; scikit-learn gets the same rows,
standardized, the same network, optimizer and number of epochs. The table shows accuracy (Iris,
Wine) or R² (Diabetes) on what was held out, mean ± standard deviation over the seeds, and that of
the difference from seed to seed. Needs scikit-learn.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_diabetes, load_iris, load_wine
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

EPOCHS, WIDTH, BATCH = 200, 100, 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--backend", default="numpy")
    args = parser.parse_args()
    print("| data | score | `xpnn` | scikit-learn | difference |\n|---|---|---:|---:|---:|")
    for name, load in (("Iris", load_iris), ("Wine", load_wine), ("Diabetes", load_diabetes)):
        data = load(scaled=False) if name == "Diabetes" else load()
        values = name == "Diabetes"
        y = data.target if values else data.target_names[data.target]
        pairs = []
        for seed in range(args.seeds):
            rows = train_test_split(
                np.arange(len(y)), test_size=0.25, random_state=seed, stratify=None if values else y
            )
            parts = [(data.data[part], y[part]) for part in rows]
            score = r2_score if values else accuracy_score
            pairs.append(
                [
                    score(parts[1][1], predictions)
                    for predictions in (
                        by_command(parts, data.feature_names, seed, args.backend),
                        by_sklearn(parts, seed, values),
                    )
                ]
            )
        ours, theirs = np.array(pairs).T
        cells = [shown(column) for column in (ours, theirs, ours - theirs)]
        print(f"| {name} | {'R²' if values else 'accuracy'} | {' | '.join(cells)} |", flush=True)


def shown(column: np.ndarray) -> str:
    return f"{column.mean():.3f} ± {column.std(ddof=1) if len(column) > 1 else 0:.3f}"


def by_command(parts: Any, names: Sequence[str], seed: int, backend: str) -> np.ndarray:
    """Train and predict by the `xpnn` command, from CSV files to a CSV file."""
    (x, y), (unseen, targets) = parts
    with tempfile.TemporaryDirectory() as folder:
        train, test, model, out = (
            Path(folder) / name
            for name in ("train.csv", "test.csv", "model.safetensors", "out.csv")
        )
        write(train, [*names, "target"], [[*row, target] for row, target in zip(x, y, strict=True)])
        write(test, names, unseen)
        options = f"--hidden {WIDTH} --optimizer adam:lr=0.001 --epochs {EPOCHS}"
        options += f" --batch-size {BATCH} --seed {seed} --backend {backend} --quiet"
        command("train", train, *options.split(), "--save", model)
        command("predict", model, test, "--out", out, "--backend", backend)
        with out.open(newline="", encoding="utf-8") as file:
            found = [row["prediction"] for row in csv.DictReader(file)]
    return np.array(found).astype(targets.dtype)


def by_sklearn(parts: Any, seed: int, values: bool) -> np.ndarray:
    """Train and predict by scikit-learn; the targets of a regression are standardized too."""
    options = {
        "hidden_layer_sizes": (WIDTH,),
        "batch_size": BATCH,
        "max_iter": EPOCHS,
        "n_iter_no_change": EPOCHS,
        "random_state": seed,
    }
    if values:
        network = TransformedTargetRegressor(MLPRegressor(**options), transformer=StandardScaler())
    else:
        network = MLPClassifier(**options)
    with warnings.catch_warnings():
        # that more epochs might do more
        warnings.simplefilter("ignore")
        found = make_pipeline(StandardScaler(), network).fit(*parts[0]).predict(parts[1][0])
    return np.asarray(found)


def write(path: Path, header: Sequence[str], rows: Any) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


def command(*argv: object) -> None:
    subprocess.run([sys.executable, "-m", "xpnn", *map(str, argv)], check=True)


if __name__ == "__main__":
    main()

"""Set `xpnn train`, with its defaults alone, beside scikit-learn and PyTorch on twelve tables.

    python scripts/compare/tables.py [--seeds 10] [--tables friedman1 ...] [-- options of train]

For each seed, three quarters of the rows are trained on and one quarter judged, by R² or accuracy.
The network of scikit-learn and PyTorch has 100 hidden units, ReLU, Adam at 0.001, mini-batches of
64 and 100 epochs, their own initial weights, and standardized features and values. xpnn gets a CSV
file and no option but --target and --seed, once without and once with --validation 0.2, which it
takes from the rows to train on and stops by.

The table shows mean ± standard deviation over the seeds, and by how many of these deviations, the
larger of the two, xpnn is behind (below 0) or ahead of the better of the others.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import r2_score
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.preprocessing import StandardScaler
from tables_data import TABLES

import xpnn
from xpnn.cli import main as command

Arrays = tuple[np.ndarray, ...]
HIDDEN, RATE, BATCH, EPOCHS = 100, 0.001, 64, 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--tables", nargs="+", default=list(TABLES), choices=TABLES)
    parser.add_argument("options", nargs="*", help="further options of xpnn train, after --")
    args = parser.parse_args()
    warnings.simplefilter("ignore")  # scikit-learn's, that more epochs might do more
    torch.set_num_threads(1)

    def ours(*more: str) -> Callable[..., np.ndarray]:
        return lambda parts, values, seed: by_command(parts, seed, (*args.options, *more))

    contenders = {
        "xpnn": ours(),
        "xpnn --validation 0.2": ours("--validation", "0.2"),
        "scikit-learn": by_scikit_learn,
        "PyTorch": by_torch,
    }
    print(f"| table | {' | '.join(contenders)} | xpnn, behind or ahead |")
    print("|---|" + "---:|" * (1 + len(contenders)), flush=True)
    for name in args.tables:
        scores = np.array(
            [[scored(name, fit, seed) for fit in contenders.values()] for seed in range(args.seeds)]
        )
        means, spreads = scores.mean(axis=0), scores.std(axis=0, ddof=1 if args.seeds > 1 else 0)
        cells = [f"{m:.4f} ± {s:.4f}" for m, s in zip(means, spreads, strict=True)]
        best = 2 + int(means[2:].argmax())
        spread = [max(spreads[i], spreads[best], 1e-9) for i in (0, 1)]
        away = ", ".join(f"{(means[i] - means[best]) / spread[i]:+.1f}" for i in (0, 1))
        print(f"| {name} | {' | '.join(cells)} | {away} |", flush=True)


def scored(name: str, fit: Callable[..., np.ndarray], seed: int) -> float:
    make, values = TABLES[name]
    x, y = make()
    if not values:
        y = np.unique(y, return_inverse=True)[1]
    parts = train_test_split(x, y, random_state=seed, stratify=None if values else y)
    predicted, y_test = fit(parts, values, seed), parts[3]
    return float(r2_score(y_test, predicted) if values else np.mean(predicted == y_test))


def by_command(parts: Arrays, seed: int, options: tuple[str, ...]) -> np.ndarray:
    x_train, x_test, y_train, _ = parts
    with tempfile.TemporaryDirectory() as folder:
        table, model = Path(folder) / "table.csv", Path(folder) / "model.safetensors"
        with table.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow([*(f"x{k}" for k in range(x_train.shape[1])), "y"])
            for row, target in zip(x_train.tolist(), y_train.tolist(), strict=True):
                writer.writerow([*row, target])
        asked = ["train", str(table), "--target", "y", "--seed", str(seed), "--save", str(model)]
        with contextlib.redirect_stdout(io.StringIO()):
            status = command([*asked, "--quiet", *options])
        assert status == 0, status
        return np.asarray(xpnn.predict(xpnn.load(model), x_test)).reshape(-1)


def by_scikit_learn(parts: Arrays, values: bool, seed: int) -> np.ndarray:
    x_train, x_test, y_train, mean, scale = standardized(parts, values)
    kind = MLPRegressor if values else MLPClassifier
    network = kind(
        hidden_layer_sizes=(HIDDEN,), batch_size=BATCH, learning_rate_init=RATE, max_iter=EPOCHS,
        random_state=seed,
    )  # fmt: skip
    return network.fit(x_train, y_train).predict(x_test) * scale + mean


def by_torch(parts: Arrays, values: bool, seed: int) -> np.ndarray:
    torch.manual_seed(seed)
    x_train, x_test, y_train, mean, scale = standardized(parts, values)
    outputs = 1 if values else int(y_train.max()) + 1
    network = torch.nn.Sequential(
        torch.nn.Linear(x_train.shape[1], HIDDEN),
        torch.nn.ReLU(),
        torch.nn.Linear(HIDDEN, outputs),
    )
    loss = torch.nn.MSELoss() if values else torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
    x = torch.tensor(x_train, dtype=torch.float32)
    y = torch.tensor(y_train, dtype=torch.float32)[:, None] if values else torch.tensor(y_train)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(x)).split(BATCH):
            optimizer.zero_grad()
            loss(network(x[rows]), y[rows]).backward()
            optimizer.step()
    with torch.no_grad():
        output = network(torch.tensor(x_test, dtype=torch.float32)).numpy()
    return output[:, 0] * scale + mean if values else output.argmax(axis=1)


def standardized(
    parts: Arrays, values: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float, float]:
    """Return features and targets standardized, and what values are shifted and scaled back by."""
    x_train, x_test, y_train, _ = parts
    scaler = StandardScaler().fit(x_train)
    mean, scale = (y_train.mean(), y_train.std()) if values else (0, 1)
    y_train = (y_train - mean) / scale if values else y_train
    return scaler.transform(x_train), scaler.transform(x_test), y_train, mean, scale


if __name__ == "__main__":
    main()

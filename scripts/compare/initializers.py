"""Compare rules for initial weights on seven generated tables.

    python scripts/compare/initializers.py [--seeds 10] [--tables friedman1 ...] [--hidden 100]

Each rule trains the same network: ReLU (--activation), Adam at 0.001, mini-batches of 64, 100
epochs, features and values standardized on the training part, three quarters of the rows, drawn by
the seed. The table shows R² or accuracy on the other quarter, mean ± standard deviation over the
seeds; below it, the loss of the untrained networks, which for standardized values should be near 1.
"""

from __future__ import annotations

import argparse
import math
from typing import Any

import numpy as np
from sklearn.metrics import r2_score
from sklearn.model_selection import train_test_split
from tables_data import GENERATED, TABLES

import xpnn


def normal(variance: Any) -> Any:
    return lambda rng, i, o: rng.randn(i, o) * math.sqrt(variance(i, o))


def uniform(variance: Any) -> Any:
    return lambda rng, i, o: (2 * rng.random_sample((i, o)) - 1) * math.sqrt(3 * variance(i, o))


HE, GLOROT = (lambda i, o: 2 / i), (lambda i, o: 2 / (i + o))
LECUN, TORCH = (lambda i, o: 1 / i), (lambda i, o: 1 / (3 * i))
# hidden layers, output layer, and biases, which are 0 if None
RULES = {
    "he_normal": (normal(HE), normal(HE), None),
    "he_uniform": (uniform(HE), uniform(HE), None),
    "he_normal, last glorot": (normal(HE), normal(GLOROT), None),
    "he_normal, last a tenth": (normal(HE), normal(lambda i, o: 0.01 / i), None),
    "glorot_uniform": (uniform(GLOROT), uniform(GLOROT), None),
    "glorot_normal": (normal(GLOROT), normal(GLOROT), None),
    "lecun_normal": (normal(LECUN), normal(LECUN), None),
    "glorot_uniform, PyTorch's biases": (uniform(GLOROT), uniform(GLOROT), uniform(TORCH)),
    "scikit-learn's": (uniform(GLOROT), uniform(GLOROT), uniform(GLOROT)),
    "uniform": (uniform(TORCH), uniform(TORCH), uniform(TORCH)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--tables", nargs="+", default=GENERATED, choices=TABLES)
    parser.add_argument("--rules", nargs="+", default=list(RULES), choices=RULES)
    parser.add_argument("--hidden", default="100")
    parser.add_argument("--activation", default="relu")
    args = parser.parse_args()
    print("| rule | " + " | ".join(args.tables) + " |")
    print("|---|" + "---:|" * len(args.tables), flush=True)
    begun = {}
    for rule in args.rules:
        cells, losses = [], []
        for name in args.tables:
            rows = np.array([trained(name, rule, seed, args) for seed in range(args.seeds)])
            scores = rows[:, 0]
            cells.append(
                f"{scores.mean():.4f} ± {scores.std(ddof=1) if len(scores) > 1 else 0:.4f}"
            )
            losses.append(f"{rows[:, 1].mean():.2f}")
        begun[rule] = losses
        print(f"| {rule} | " + " | ".join(cells) + " |", flush=True)
    print("\nLoss before training:\n")
    print("| rule | " + " | ".join(args.tables) + " |")
    print("|---|" + "---:|" * len(args.tables))
    for rule, losses in begun.items():
        print(f"| {rule} | " + " | ".join(losses) + " |")


def trained(name: str, rule: str, seed: int, args: argparse.Namespace) -> tuple[float, float]:
    """Return the score on the held-out rows, and the loss of the untrained network."""
    make, values = TABLES[name]
    x, y = make()
    if not values:
        y = np.unique(y, return_inverse=True)[1]
    parts = train_test_split(x, y, random_state=seed, stratify=None if values else y)
    x_train, x_test, y_train, y_test = parts
    hidden, last, biases = RULES[rule]
    rng = np.random.RandomState(1000 + seed)
    layers: list[Any] = []
    width = x.shape[1]
    outputs = 1 if values else int(y.max()) + 1
    widths = [int(n) for n in args.hidden.split(",")]
    for draw, units in (*((hidden, n) for n in widths), (last, outputs)):
        # a row of a matrix with as many rows as the weights have, drawn by the same rule
        bias = np.zeros(units) if biases is None else biases(rng, width, units)[0]
        layers += [xpnn.Dense(units, weight=draw, bias=bias), xpnn.Activation(args.activation)]
        width = units
    model = xpnn.Sequential(*layers[:-1])
    history = xpnn.fit(
        model, (x_train, y_train),
        loss=xpnn.MeanSquaredError() if values else xpnn.CrossEntropy(),
        optimizer=xpnn.Adam(lr=0.001), epochs=100, batch_size=64, seed=seed, normalizer="standard",
        target_normalizer="standard" if values else None,
    )  # fmt: skip
    predicted = np.asarray(xpnn.predict(model, x_test))
    if values:
        score = r2_score(y_test, predicted.reshape(-1))
    else:
        score = float(np.mean(predicted == y_test))
    return float(score), history[0].train_loss


if __name__ == "__main__":
    main()

"""Compare runs with the article's published logs, row by row.

    python scripts/compare/article.py [NAME …] [--backend numpy] [--epochs 50]
    python scripts/compare/article.py --log h_swish run.csv

The first form trains with the article's settings in float64 (NAME: h_swish, tanhexp, flooding,
nesterov; all four if none is given); the second reads a log that `xpnn train --log` wrote. Exit
status 1 if a log that doesn't depend on rounding, or the rows of the others before rounding takes
over, are further from the published ones than what `TOLERANCE` allows.
"""

import argparse
import csv
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "xpnn" / "study" / "article" / "published"
COLUMNS = ("train_accuracy", "train_loss", "test_accuracy", "test_loss")
SETTINGS = {
    "h_swish": ["--init", "he_normal", "--activation", "h_swish:n=6"],
    "tanhexp": ["--init", "he_normal", "--activation", "tanhexp"],
    "flooding": ["--init", "he_normal", "--activation", "relu", "--flood", "0.01"],
    "nesterov": [
        "--init",
        "he_normal",
        "--activation",
        "relu",
        "--optimizer",
        "nesterov:lr=0.1,mu=0.9",
    ],
}
FILES = {"flooding": "flooding_b0.01.csv"}
# name: number of rows and the largest difference allowed in them
TOLERANCE = {
    "h_swish": (51, 1e-12),
    "tanhexp": (51, 1e-12),
    "flooding": (20, 1e-9),
    "nesterov": (8, 1e-9),
}


def read(path):
    with open(path, newline="") as file:
        return [{name: float(row[name]) for name in COLUMNS} for row in csv.DictReader(file)]


def difference(ours, published):
    return max(abs(ours[name] - published[name]) for name in COLUMNS)


def compare(name, log, wanted=51):
    """Print how far a log is from the published one; return whether it is near enough."""
    published = read(PUBLISHED / FILES.get(name, f"{name}.csv"))
    ours = read(log)
    differences = [difference(a, b) for a, b in zip(ours, published, strict=False)]
    rows, allowed = TOLERANCE[name]
    rows = min(rows, wanted)
    if len(differences) < rows or len(ours) > len(published):
        print(f"{name}: {len(ours)} rows, where {rows} to {len(published)} are compared")
        return False
    for level in (1e-15, 1e-12, 1e-9, 1e-6):
        agree = next((i for i, d in enumerate(differences) if d > level), len(differences))
        print(f"{name}: the first {agree} of {len(differences)} rows agree to {level:g}")
    within = max(differences[:rows])
    print(f"{name}: largest difference in the first {rows} rows {within:.2e}, allowed {allowed:g}")
    last_ours, last = ours[-1], published[len(ours) - 1]
    for column in COLUMNS:
        print(f"{name}: last row {column} {last_ours[column]!r}, published {last[column]!r}")
    return within <= allowed


def train(name, arguments, log):
    command = [sys.executable, "-m", "xpnn", "train", str(ROOT / "data" / "mnist"), "--quiet"]
    command += ["--dtype", "float64", "--log", str(log), *SETTINGS[name]]
    subprocess.run([*command, *arguments], check=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(SETTINGS))
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--log", nargs=2, metavar=("NAME", "FILE"))
    args = parser.parse_args()
    for name in [*args.names, *(args.log or [])[:1]]:
        if name not in SETTINGS:
            parser.error(f"unknown name {name!r} (allowed: {', '.join(SETTINGS)})")
    if args.log:
        return 0 if compare(*args.log, 1 + args.epochs) else 1
    near = []
    with tempfile.TemporaryDirectory() as folder:
        for name in args.names or SETTINGS:
            log = Path(folder) / f"{name}.csv"
            train(name, ["--backend", args.backend, "--epochs", str(args.epochs)], log)
            near.append(compare(name, log, 1 + args.epochs))
    return 0 if all(near) else 1


if __name__ == "__main__":
    sys.exit(main())

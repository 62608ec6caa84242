"""Compare the speed of this checkout with another revision's, in turns: A B A B ….

    python scripts/compare/revisions.py 1999111 [--rounds 5] [--cases numpy jax-reproducible …]

Each process trains the article's network (784-100-50-10, ReLU, SGD, mini-batches of 100) on 6000
random samples with the defaults of a user, all cores, or --threads. A case's time is the least of
its epochs but the first, which compiles; the table shows the median of the ratios this / other of
all rounds, with their quartiles. `import` is the time of `import xpnn` with all that a run needs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
EPOCHS = 6
CASES = {
    f"{library}{suffix}": (library, bool(suffix))
    for library in ("numpy", "torch", "jax")
    for suffix in ("", "-reproducible")
}
CHILD = """
import json, sys, time
begun = time.perf_counter()
import xpnn
from xpnn import fit
imported = time.perf_counter() - begun
import numpy as np
library, reproducible, epochs = json.loads(sys.argv[1])
rng = np.random.RandomState(0)
x, y = rng.random_sample((6000, 784)).astype("float32"), rng.randint(0, 10, 6000)
model = xpnn.Sequential(
    xpnn.Dense(100), xpnn.Activation("relu"), xpnn.Dense(50), xpnn.Activation("relu"),
    xpnn.Dense(10),
)
history = fit(
    model, (x, y), epochs=epochs, batch_size=100, seed=1,
    backend=xpnn.get_backend(library, dtype="float32", reproducible=reproducible),
)
print(json.dumps([imported, min(row.seconds for row in history[2:])]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("revision", help="the other one, as git names it")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=CASES)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        other = Path(folder) / "other"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", other, args.revision], check=True)
        try:
            compare(other, args)
        finally:
            subprocess.run([*git, "remove", "--force", other], check=True)


def compare(other: Path, args: argparse.Namespace) -> None:
    print(f"| case | this / {args.revision} | quartiles | this, ms |\n|---|---:|---:|---:|")
    imports = []
    for case in args.cases:
        times = np.array(
            [
                [timed(root, case, args.threads) for root in (ROOT, other)]
                for _ in range(args.rounds)
            ]
        )
        imports.append(times[:, :, 0])
        print(row(case, times[:, :, 1]), flush=True)
    print(row("import", np.concatenate(imports)))


def row(case: str, times: np.ndarray) -> str:
    low, middle, high = np.quantile(times[:, 0] / times[:, 1], [0.25, 0.5, 0.75])
    return f"| {case} | {middle:.2f} | {low:.2f}, {high:.2f} | {1e3 * times[:, 0].min():.1f} |"


def timed(root: Path, case: str, threads: int | None) -> list[float]:
    """Return the seconds of the import and of an epoch in a process of its own."""
    library, reproducible = CASES[case]
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    limits = {} if threads is None else dict.fromkeys(names, str(threads))
    done = subprocess.run(
        [sys.executable, "-c", CHILD, json.dumps([library, reproducible, EPOCHS])],
        env={**os.environ, **limits, "PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return list(json.loads(done.stdout))


if __name__ == "__main__":
    main()

"""Measure whether a long run slows down or grows: the last epochs beside the first.

    OPENBLAS_NUM_THREADS=1 python scripts/bench_long.py data/mnist --epochs 200

The velocities of dead units and tiny probabilities decay into subnormal numbers, which many
processors compute with slowly. Prints, for Momentum and Nesterov in float32, the CPU time of an
epoch in the first and the last tenth of the run, their ratio, and the resident memory after the
first tenth and at the end.
"""

import argparse
import statistics
import time

import numpy as np

import xpnn
from xpnn.datasets import read_idx_folder


def resident():
    """Return the resident memory in MiB."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * 4096 / 2**20


class Watch(xpnn.Callback):
    """Notes CPU time and memory after each epoch."""

    def __init__(self):
        self.times, self.memory = [time.process_time()], []

    def on_epoch(self, epoch):
        self.times.append(time.process_time())
        self.memory.append(resident())


def run(data, cls, epochs):
    layers = [part for n in (100, 50) for part in (xpnn.Dense(n), xpnn.Activation("relu"))]
    watch = Watch()
    model = xpnn.Sequential(*layers, xpnn.Dense(10))
    optimizer = cls(lr=0.1)
    xpnn.fit(
        model, data, optimizer=optimizer, epochs=epochs, seed=10, dtype="float32", callbacks=[watch]
    )
    seconds = np.diff(watch.times)[1:]  # without row 0
    part = max(epochs // 10, 1)
    first, last = (statistics.median(s) for s in (seconds[1 : part + 1], seconds[-part:]))
    return first, last, watch.memory[part], watch.memory[-1]


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", help="MNIST's folder")
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--samples", type=int, default=60_000)
    args = parser.parse_args()
    if args.epochs < 10:
        parser.error("--epochs must be 10 or more")
    train, _ = read_idx_folder(args.data)
    data = train.x[: args.samples], train.y[: args.samples]
    print("| optimizer | first tenth, ms | last tenth, ms | ratio | MiB then | MiB at the end |")
    print("|---|---:|---:|---:|---:|---:|")
    for cls in (xpnn.Momentum, xpnn.Nesterov):
        first, last, then, end = run(data, cls, args.epochs)
        print(
            f"| {cls.__name__} | {first * 1e3:.1f} | {last * 1e3:.1f} | {last / first:.2f} "
            f"| {then:.0f} | {end:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()

"""Measure whether a long run slows down or grows: the last epochs beside the first.

    python scripts/bench_long.py data/mnist --epochs 200

The velocities of dead units and tiny probabilities decay into subnormal numbers, which many
processors compute with slowly. Prints, for Momentum and Nesterov in float32, the CPU time of an
epoch in the first and the last tenth of the run, their ratio, how many velocities are subnormal
after two epochs and at the end, and the resident memory after the first tenth and at the end; and
what such numbers cost this processor.
"""

import argparse
import statistics
import sys
import time

import numpy as np
from bench import again_in, answer, count, environment, setting

import xpnn
from xpnn.datasets import read_idx_folder
from xpnn.tree import leaves

TINY = np.finfo(np.float32).tiny


def resident():
    """Return the resident memory in MiB."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * 4096 / 2**20


class Watch(xpnn.Callback):
    """Notes CPU time, memory and subnormal velocities after each epoch."""

    def __init__(self):
        self.times, self.memory, self.subnormal = [], [], []

    def on_start(self, run):
        self.run, self.begun = run, time.process_time()

    def on_epoch(self, epoch):
        self.times.append(time.process_time() - self.begun)
        self.memory.append(resident())
        _, _, state = self.run.carry
        small = [np.abs(v) for v in leaves(state)]
        self.subnormal.append(sum(np.count_nonzero((v > 0) & (v < TINY)) for v in small))
        self.begun = time.process_time()


def run(data, cls, epochs):
    layers = [part for n in (100, 50) for part in (xpnn.Dense(n), xpnn.Activation("relu"))]
    watch = Watch()
    model = xpnn.Sequential(*layers, xpnn.Dense(10))
    optimizer = cls(lr=0.1)
    xpnn.fit(
        model, data, optimizer=optimizer, epochs=epochs, seed=10, dtype="float32", callbacks=[watch]
    )
    seconds = watch.times[1:]  # without row 0
    part = max(epochs // 10, 1)
    first, last = (statistics.median(s) for s in (seconds[1 : part + 1], seconds[-part:]))
    return first, last, watch.subnormal[2], watch.subnormal[-1], watch.memory[part], resident()


def product(value):
    """Return the microseconds of a product of 78,400 numbers of one value."""
    x, out = np.full(78_400, value, np.float32), np.empty(78_400, np.float32)
    half, times = np.float32(0.5), []
    for _ in range(500):
        begun = time.perf_counter()
        np.multiply(x, half, out)
        times.append(time.perf_counter() - begun)
    return statistics.median(times) * 1e6


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", help="MNIST's folder")
    parser.add_argument("--epochs", type=count(10), default=200)
    parser.add_argument("--samples", type=count(100), default=60_000)
    args = parser.parse_args()
    again_in(environment(1))
    train, _ = read_idx_folder(args.data)
    data = train.x[: args.samples], train.y[: args.samples]
    print(f"{setting()}. {len(data[0])} samples an epoch, {args.epochs} epochs, CPU time.\n")
    print(
        "| optimizer | first tenth, ms | last tenth, ms | ratio | subnormal after 2 epochs "
        "| at the end | MiB then | MiB at the end |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for cls in (xpnn.Momentum, xpnn.Nesterov):
        first, last, few, many, then, end = run(data, cls, args.epochs)
        print(
            f"| {cls.__name__} | {first * 1e3:.1f} | {last * 1e3:.1f} | {last / first:.2f} "
            f"| {few} | {many} | {then:.0f} | {end:.0f} |",
            flush=True,
        )
    subnormal, normal = product(1e-40), product(1e-20)
    print(
        f"\nA product of 78,400 subnormal numbers: {subnormal:.1f} us, of others {normal:.1f} us."
    )
    return 0


if __name__ == "__main__":
    sys.exit(answer("bench_long", main))

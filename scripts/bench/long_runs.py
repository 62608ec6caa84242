"""Measure whether a long run slows down or grows: the last epochs beside the first.

    python scripts/bench/long_runs.py data/mnist --epochs 200

The velocities of dead units and tiny probabilities decay into subnormal numbers, which many
processors compute with slowly. Prints, for Momentum and Nesterov in float32, the CPU time of an
epoch in the first and the last tenth of the run, and the resident memory after the first tenth and
at the end. Minutes differ more than epochs, so then steps are played in turn from the first weights
and from the last: the median of the ratios of CPU time, and how many velocities were subnormal.
"""

import argparse
import statistics
import sys
import time

import numpy as np
from epochs import again_in, answer, count, environment, setting

import xpnn
from xpnn._core.tree import leaves, rebuilt
from xpnn.datasets import read_idx_folder
from xpnn.training.steps import TrainingStep

ROUNDS, STEPS = 15, 50
TINY = np.finfo(np.float32).tiny


def resident():
    """Return the resident memory in MiB."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * 4096 / 2**20


class Watch(xpnn.Callback):
    """Notes CPU time and memory of each epoch, and what the first one begins with."""

    def __init__(self):
        self.times, self.memory = [], []

    def on_start(self, run):
        self.run, self.first = run, copied(run.carry)
        self.begun = time.process_time()

    def on_epoch(self, epoch):
        self.times.append(time.process_time() - self.begun)
        self.memory.append(resident())
        self.begun = time.process_time()


def copied(carry):
    """Return a carry with arrays of its own."""
    return rebuilt(carry, [array.copy() for array in leaves(carry)])


def subnormal(carry):
    """Return how many velocities are subnormal."""
    _, _, state = carry
    return sum(np.count_nonzero((v != 0) & (np.abs(v) < TINY)) for v in leaves(state))


def in_turn(model, optimizer, carries, data):
    """Return the quartiles of the ratios of CPU time of steps from one carry and from the other."""
    place = xpnn.get_backend("numpy", dtype="float32")
    step = TrainingStep(model.network, xpnn.CrossEntropy(), optimizer, place.dtype)
    folds = [place.fold(step) for _ in carries]
    stream, ratios = np.random.RandomState(0), []
    with place.scope():
        for _ in range(ROUNDS):
            rows, times = stream.randint(0, len(data[0]), (STEPS, 100)), []
            for i, fold in enumerate(folds):
                begun = time.process_time()
                carries[i], _ = fold(carries[i], rows, *data)
                times.append(time.process_time() - begun)
            ratios.append(times[1] / times[0])
    # in the first one a step is recorded
    return statistics.quantiles(ratios[1:], n=4)


def run(data, cls, epochs):
    layers = [part for n in (100, 50) for part in (xpnn.Dense(n), xpnn.Activation("relu"))]
    watch = Watch()
    model = xpnn.Sequential(*layers, xpnn.Dense(10))
    optimizer = cls(lr=0.1)
    xpnn.fit(
        model, data, optimizer=optimizer, epochs=epochs, seed=10, dtype="float32",
        callbacks=[watch], verbose=False,
    )  # fmt: skip
    seconds, part = watch.times[1:], max(epochs // 10, 1)  # without row 0
    first, last = (statistics.median(s) for s in (seconds[1 : part + 1], seconds[-part:]))
    carries = [watch.first, copied(watch.run.carry)]
    few, many = map(subnormal, carries)
    low, ratio, high = in_turn(model, optimizer, carries, data)
    return (
        f"{first * 1e3:.1f} | {last * 1e3:.1f} | {watch.memory[part]:.0f} | {watch.memory[-1]:.0f} "
        f"| {ratio:.2f} ({low:.2f}-{high:.2f}) | {few} | {many}"
    )


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
        "| optimizer | first tenth, ms | last tenth, ms | MiB then | MiB at the end "
        "| last steps / first, in turn | subnormal at first | at last |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for cls in (xpnn.Momentum, xpnn.Nesterov):
        print(f"| {cls.__name__} | {run(data, cls, args.epochs)} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(answer("long_runs", main))

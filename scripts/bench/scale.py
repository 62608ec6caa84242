"""Measure training from mapped files beside training from memory: rate, peak memory, flatness.

    python scripts/bench/scale.py [--part rate memory flat] [--backend numpy] > table.md

rate: epochs of the article's network on the same samples from memory, from a mapped file of
float32 and from one of bytes, each in a process of its own, in turns; ratios are taken in each
round. memory: the peak of resident memory over a run on files of --gigabytes. flat: time per sample
from 6,000 to 6,000,000 samples. Files are made in a temporary folder and removed.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from epochs import again_in, answer, count, environment, setting

import xpnn
from xpnn.backends import BACKENDS

WIDE, NARROW = 784, 16
COUNTS = (6_000, 60_000, 600_000, 6_000_000)
PART = 1 << 24  # bytes that are written at once


def parse(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parts = ("rate", "memory", "flat")
    parser.add_argument("--part", nargs="+", choices=parts, default=parts)
    parser.add_argument("--backend", choices=tuple(BACKENDS), default="numpy")
    parser.add_argument("--rounds", type=count(2), default=7, help="epochs of rate, and of flat")
    parser.add_argument("--samples", type=count(1), default=300_000, help="of the rate")
    parser.add_argument("--gigabytes", type=float, nargs="+", default=[1, 4], help="of memory")
    parser.add_argument("--counts", type=count(1), nargs="+", default=COUNTS, help="of flat")
    parser.add_argument("--folder", help="where the files are made; the system's for such files")
    parser.add_argument("--threads", type=count(1), default=1)
    return parser.parse_args(arguments)


def write(folder, dtype, samples, features):
    """Write a file of images, or of like numbers, and one of labels; return their paths."""
    import numpy as np

    x, y = Path(folder) / f"x-{dtype}-{samples}-{features}.npy", Path(folder) / f"y-{samples}.npy"
    size = samples * (features * np.dtype(dtype).itemsize + 1)
    free = shutil.disk_usage(folder).free
    if size > 0.8 * free:
        sys.exit(f"{folder} has {free / 1e9:.1f} GB free, and a file needs {size / 1e9:.1f}")
    rng = np.random.RandomState(0)
    labels = rng.randint(0, 10, samples, np.uint8)
    patterns = rng.randint(0, 192, (10, features)).astype(np.uint8)
    np.save(y, labels)
    if not x.exists():
        images = np.lib.format.open_memmap(x, "w+", dtype, (samples, features))
        rows = PART // features
        noise = rng.randint(0, 64, (rows, features)).astype(np.uint8)
        for start in range(0, samples, rows):
            part = patterns[labels[start : start + rows]]
            part = part + np.roll(noise, start // rows)[: len(part)]
            images[start : start + rows] = part if dtype == "uint8" else part / np.float32(255)
        images.flush()
    return x, y


class Turns(xpnn.Callback):
    """Waits for its turn before each epoch, and reports what the one before it took."""

    def __init__(self, pipe):
        self.pipe = pipe

    def on_epoch(self, epoch):
        if epoch.epoch:
            cpu = time.process_time() - self.cpu
            self.pipe.send((epoch.seconds, cpu, epoch.train_loss, peak()))
        self.pipe.recv()
        self.cpu = time.process_time()


def peak():
    """Return the largest resident memory of this process so far, in bytes; NaN where unknown."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return 1024 * int(line.split()[1])
    return float("nan")


def work(pipe, paths, mapped, hidden, epochs, backend):
    """Train in this process, told and asked through a pipe."""
    import numpy as np

    x, y = (np.load(path, mmap_mode="r" if mapped else None) for path in paths)
    layers = [part for width in hidden for part in (xpnn.Dense(width), xpnn.Activation("relu"))]
    model = xpnn.Sequential(*layers, xpnn.Dense(10))
    place = xpnn.get_backend(backend)
    # what a run takes without data worth a word
    xpnn.fit(
        xpnn.Sequential(*layers, xpnn.Dense(10)),
        (x[:200], y[:200]),
        epochs=1,
        backend=place,
        verbose=False,
    )
    pipe.send(peak())
    with contextlib.suppress(EOFError):  # no more turns are wanted
        xpnn.fit(
            model,
            (x, y),
            epochs=epochs,
            seed=10,
            backend=place,
            callbacks=[Turns(pipe)],
            verbose=False,
        )


class Contender:
    """A process that trains, an epoch at a time."""

    def __init__(self, *arguments):
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=work, args=(other, *arguments), daemon=True)
        self.process.start()
        other.close()
        self.before = self.pipe.recv()

    def epoch(self):
        self.pipe.send(None)
        return self.pipe.recv()

    def end(self):
        self.pipe.close()
        self.process.join()


def middle(values):
    """Return median and quartiles in words."""
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{median:.2f} ({low:.2f}-{high:.2f})"


def rate(args, folder):
    files = {dtype: write(folder, dtype, args.samples, WIDE) for dtype in ("float32", "uint8")}
    runs = {"memory": ("float32", False), "float32": ("float32", True), "uint8": ("uint8", True)}
    contenders = {
        name: Contender(files[dtype], mapped, (100, 50), args.rounds + 1, args.backend)
        for name, (dtype, mapped) in runs.items()
    }
    rows = [{name: c.epoch() for name, c in contenders.items()} for _ in range(args.rounds + 1)][1:]
    for contender in contenders.values():
        contender.end()
    print(f"\n{args.samples} samples of {WIDE} features, {args.rounds} rounds:\n")
    print("| data | samples/s, CPU time | rate / memory's, CPU time | wall clock | last loss |")
    print("|---|---:|---:|---:|---:|")
    for name in runs:
        cpu = [row["memory"][1] / row[name][1] for row in rows]
        wall = [row["memory"][0] / row[name][0] for row in rows]
        speed = args.samples / statistics.median(row[name][1] for row in rows)
        label = "in memory, float32" if name == "memory" else f"mapped, {name}"
        print(
            f"| {label} | {speed:.0f} | {middle(cpu)} | {middle(wall)} | {rows[-1][name][2]:.6f} |",
            flush=True,
        )


def memory(args, folder):
    print("\n| file | samples | peak, MB | before the run, MB | more, MB | s per epoch, CPU time |")
    print("|---|---:|---:|---:|---:|---:|")
    for dtype in ("float32", "uint8"):
        for size in args.gigabytes:
            samples = int(size * 1e9) // (WIDE * {"float32": 4, "uint8": 1}[dtype])
            paths = write(folder, dtype, samples, WIDE)
            contender = Contender(paths, True, (100, 50), 1, args.backend)
            _, cpu, _, most = contender.epoch()
            contender.end()
            before = contender.before
            print(
                f"| {size:g} GB, {dtype} | {samples} | {most / 1e6:.0f} | {before / 1e6:.0f} "
                f"| {(most - before) / 1e6:.0f} | {cpu:.1f} |",
                flush=True,
            )
            for path in paths:
                path.unlink()


def flat(args, folder):
    print(f"\n{NARROW} features, network {NARROW}-32-10, microseconds of CPU time per sample:\n")
    print("| samples | in memory | mapped |")
    print("|---:|---:|---:|")
    for samples in args.counts:
        paths = write(folder, "float32", samples, NARROW)
        epochs = max(args.rounds, 600_000 // samples)
        contenders = [
            Contender(paths, mapped, (32,), epochs + 1, args.backend) for mapped in (False, True)
        ]
        rows = [[c.epoch() for c in contenders] for _ in range(epochs + 1)][1:]
        for contender in contenders:
            contender.end()
        figures = (statistics.median(row[i][1] for row in rows) / samples * 1e6 for i in (0, 1))
        print(f"| {samples} | {' | '.join(f'{figure:.2f}' for figure in figures)} |", flush=True)
        for path in paths:
            path.unlink()


def main():
    args = parse()
    again_in(environment(args.threads))
    print(f"{setting()}, backend {args.backend}")
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        for part in args.part:
            {"rate": rate, "memory": memory, "flat": flat}[part](args, folder)
    return 0


if __name__ == "__main__":
    sys.exit(answer("scale", main))

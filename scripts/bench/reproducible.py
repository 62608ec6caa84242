"""Measure what reproducible training costs beside native training, on NumPy with one thread.

``OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 python scripts/bench/reproducible.py data/mnist``
trains the article's network through `xpnn.fit`, native and reproducible in turn, and prints a
Markdown table of CPU time. Each run is timed for few epochs and for one, and their difference
taken, so that set-up and the untrained network's evaluation drop out.

``python scripts/bench/reproducible.py data/mnist --backend cupy`` does the same on a CUDA card. Its
times are of the wall clock, and end when the last figures are on the host; its memory is what
CuPy's pool took from the card.
"""

import argparse
import datetime
import os
import platform
import resource
import statistics
import subprocess
import sys
import time

import numpy as np

import xpnn
from xpnn._core.cores import cores
from xpnn.backends import get_backend
from xpnn.datasets import read_idx_folder
from xpnn.study.machine import cpu

MODES = ("native", "training", "full")
CLOCKS = {"numpy": time.process_time, "cupy": time.perf_counter}


def run(data, backend, mode, activation, dtype, epochs):
    """Train for so many epochs; return the time of all."""
    layers = [part for n in (100, 50) for part in (xpnn.Dense(n), xpnn.Activation(activation))]
    model = xpnn.Sequential(*layers, xpnn.Dense(10))
    options = {} if mode == "native" else {"reproducible": True, "precision": mode}
    place = get_backend(backend, dtype=dtype, **options)
    begun = CLOCKS[backend]()
    xpnn.fit(model, data, epochs=epochs, batch_size=100, seed=10, backend=place, verbose=False)
    return CLOCKS[backend]() - begun


def step_time(data, *setting, epochs=2):
    """Return the time of a step in microseconds."""
    seconds = run(data, *setting, 1 + epochs) - run(data, *setting, 1)
    return seconds / (epochs * len(data[0]) / 100) * 1e6


def peak(args, mode, activation, dtype):
    """Return the peak memory of a process that trains so, in MiB."""
    command = [sys.executable, __file__, args.data, "--samples", str(args.samples)]
    command += ["--backend", args.backend, "--peak", mode, activation, dtype]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout) / 1024


def taken(backend):
    """Return the peak memory of this process, on the host or on the card, in KiB."""
    if backend == "numpy":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    import cupy

    return cupy.get_default_memory_pool().total_bytes() / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", help="MNIST's folder")
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", default=[], help="such as relu-float64")
    parser.add_argument("--modes", nargs="*", default=list(MODES), choices=MODES)
    parser.add_argument("--backend", default="numpy", choices=tuple(CLOCKS))
    parser.add_argument("--peak", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    train, _ = read_idx_folder(args.data)
    data = train.x[: args.samples], train.y[: args.samples]
    if args.peak:
        run(data, args.backend, *args.peak, 1)
        print(taken(args.backend))
        return
    on_cpu = args.backend == "numpy"
    if on_cpu and os.environ.get("OPENBLAS_NUM_THREADS") != "1":
        parser.error("set OPENBLAS_NUM_THREADS=1: CPU time is of one thread")
    place = "" if on_cpu else f"{args.backend} on {get_backend(args.backend).card}; "
    print(f"{datetime.date.today()}; {cpu()}, {cores()} cores; Python {platform.python_version()},")
    print(
        f"NumPy {np.__version__}; {place}{args.samples} samples of MNIST, "
        f"{args.rounds} rounds' medians"
    )
    print()
    clock, memory = ("CPU", "peak memory") if on_cpu else ("wall clock,", "memory of the card")
    print(f"| network | precision | {clock} us/step | over native | {memory} over native |")
    print("|---|---|---:|---:|---:|")
    for activation in ("relu", "tanhexp"):
        for dtype in ("float64", "float32"):
            if args.only and f"{activation}-{dtype}" not in args.only:
                continue
            rows = {mode: [] for mode in args.modes}
            for _ in range(args.rounds):
                for mode, times in rows.items():
                    times.append(step_time(data, args.backend, mode, activation, dtype))
            peaks = {mode: peak(args, mode, activation, dtype) for mode in args.modes}
            for mode, times in rows.items():
                pairs = zip(times, rows["native"], strict=True)
                ratio = statistics.median(t / native for t, native in pairs)
                more = peaks[mode] - peaks["native"]
                print(
                    f"| {activation}, {dtype} | {mode} | {statistics.median(times):.0f} "
                    f"| {ratio:.2f} | {more:+.0f} MiB |",
                    flush=True,
                )


if __name__ == "__main__":
    main()

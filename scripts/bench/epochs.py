"""Measure xpnn's epochs beside PyTorch's, JAX's, scikit-learn's, plain NumPy's and the BLAS alone.

    python scripts/bench/epochs.py [data/mnist | random] [--json FILE] > table.md
    python scripts/bench/epochs.py --only xpnn-numpy numpy floor --activation relu --dtype float32
    python scripts/bench/epochs.py --device cuda
    python scripts/bench/epochs.py --threads default --busy 2 --only xpnn-numpy xpnn-numpy-1
    python scripts/bench/epochs.py --profile --activation tanhexp

All contenders train one network from the same weights, on the same arrays, in the same order, and
their running losses are compared with plain NumPy's in float64. Each has a process of its own, and
they take turns, an epoch at a time: A B C A B C. The first epoch isn't timed. Exit status 1 if a
contender failed or its loss is another one, 2 for a wrong argument.

With ``--device cuda`` (or ``cuda:1``), xpnn on CuPy, PyTorch and JAX is compared with plain CuPy,
PyTorch, JAX and the products by cuBLAS on that card. What can't run is left out, with the reason.
The clocks are CUDA events and the wall clock; only the latter is there for JAX, see
`contenders`.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import importlib.metadata
import json
import multiprocessing
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
from contenders import (
    ACTIVATIONS,
    CONTENDERS,
    CPU_ALONE,
    CUDA_ALONE,
    WITHOUT_EVENTS,
    Case,
    Losses,
    first_line,
    train_numpy,
    work,
)
from tqdm import tqdm

import xpnn
from xpnn._core.cores import cores
from xpnn._core.files import check_writable, replacing
from xpnn.backends import get_backend
from xpnn.datasets import read_idx_folder
from xpnn.errors import ArgumentError, BackendError, XpnnError
from xpnn.study.machine import cpu, kernels

ROOT = Path(__file__).resolve().parents[2]
# layers, and rows of a mini-batch
NETWORKS = {
    "article": ((784, 100, 50, 10), 100),
    "larger": ((784, 200, 100, 10), 100),
    "wide": ((784, 1000, 500, 10), 1000),
}
# ratio, the target for the article's network, the one for the wide network
RATIOS = (
    ("xpnn-numpy", "torch", 0.6, None),
    ("xpnn-numpy", "jax", 1.0, None),
    ("xpnn-numpy", "numpy", 0.9, None),
    ("xpnn-numpy", "floor", 1.1, 1.1),
    ("xpnn-torch", "torch", 1.1, 1.1),
    ("xpnn-jax", "jax", 1.2, 1.2),
)
# with the threads that each library takes if nobody asks for any
RATIOS_BY_DEFAULT = (
    ("xpnn-numpy", "xpnn-numpy-1", 0.65, 0.55),
    ("xpnn-numpy", "numpy", 0.8, 0.8),
    ("xpnn-numpy", "torch", 0.7, 0.7),
    ("xpnn-numpy", "jax", 1.0, 1.0),
    ("xpnn-torch", "torch", 1.1, 1.1),
    ("xpnn-jax", "jax", 1.2, 1.2),
)
# there are no targets on a card yet
CUDA_RATIOS = tuple(
    (*pair, None, None)
    for pair in (
        ("xpnn-cupy", "cupy"),
        ("xpnn-cupy", "torch"),
        ("xpnn-cupy", "torch-compile"),
        ("xpnn-cupy", "jax"),
        ("xpnn-cupy", "floor"),
        ("xpnn-cupy", "xpnn-torch"),
        ("xpnn-cupy", "xpnn-jax"),
        ("xpnn-torch", "torch"),
        ("xpnn-jax", "jax"),
    )
)
# clock: how a table calls it
CLOCKS = {"wall": "wall clock", "cpu": "CPU time", "events": "CUDA events"}
# largest relative difference of a running loss from plain NumPy's in float64. In float32 it holds
# for the first epoch: later, roundings decide on which side of a kink of ReLU a unit is. There a
# rate that is 0.1 % off differs by 6e-4, and what is right by up to 2e-5
TOLERANCE = {"float32": 1e-4, "float64": 1e-8}
HELD = {"float32": 1, "float64": None}  # epochs
DISTRIBUTIONS = ("numpy", "cupy-cuda12x", "cupy-cuda13x", "torch", "jax", "scikit-learn")


def threads(text):
    """Return a number of threads, None for each library's default."""
    return None if text == "default" else count(1)(text)


def environment(threads):
    """Return where every library reads its number of threads from, before it is imported."""
    if threads is None:
        return {"TORCHINDUCTOR_COMPILE_THREADS": "1"}
    count = str(threads)
    names = ("OPENBLAS", "OMP", "MKL", "BLIS")
    # XLA sizes its pool by NPROC
    wanted = {f"{name}_NUM_THREADS": count for name in names} | {"NPROC": count}
    return wanted | {"TORCHINDUCTOR_COMPILE_THREADS": "1"}


def again_in(wanted):
    """Start this command again in an environment, unless it is the one already."""
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | wanted)


def parse(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "data", nargs="?", default=str(ROOT / "data" / "mnist"), help="MNIST's folder, or 'random'"
    )
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, metavar="CONTENDER")
    parser.add_argument("--activation", nargs="+", choices=ACTIVATIONS)
    parser.add_argument("--dtype", nargs="+", choices=tuple(TOLERANCE), default=list(TOLERANCE))
    parser.add_argument("--network", nargs="+", choices=tuple(NETWORKS), default=list(NETWORKS))
    parser.add_argument(
        "--samples", type=count(1), help="an epoch's; 60000, of wide on a CPU 10000"
    )
    parser.add_argument("--rounds", type=count(1), default=7, help="epochs that are timed")
    parser.add_argument(
        "--threads", type=threads, default=1, help="a number, or default: each library's own"
    )
    parser.add_argument("--device", type=device, default="cpu", help="cpu, cuda or such as cuda:1")
    parser.add_argument(
        "--together",
        action="store_true",
        help="all contenders as threads of one process, to see whether that matters",
    )
    parser.add_argument(
        "--busy", type=count(0), default=0, help="other processes that compute meanwhile"
    )
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument(
        "--profile", action="store_true", help="print where xpnn's step on NumPy goes, and end"
    )
    args = parser.parse_args(arguments)
    others = CUDA_ALONE if args.device == "cpu" else CPU_ALONE
    wrong = sorted(set(args.only or ()) & set(others))
    if wrong:
        parser.error(f"argument --only: {', '.join(wrong)} can't run on {args.device}")
    args.only = [name for name in CONTENDERS if name in (args.only or CONTENDERS)]
    if args.threads == 1:
        others += ("xpnn-numpy-1",)  # the same as xpnn-numpy
    args.only = [name for name in args.only if name not in others]
    return args


def cases(args):
    """Yield what is to be measured."""
    available = 60_000 if args.data == "random" else len(read_idx_folder(args.data)[0].y)
    for network in args.network:
        sizes, batch = NETWORKS[network]
        slow = network == "wide" and args.device == "cpu"
        samples = args.samples or min(available, 10_000 if slow else 60_000)
        if samples > available or samples % batch:
            raise ArgumentError(
                f"--samples must be a multiple of {batch} and at most {available} for the "
                f"{network} network, got {samples}"
            )
        for activation in args.activation or (ACTIVATIONS if network == "article" else ("relu",)):
            for dtype in args.dtype:
                yield Case(
                    network=network,
                    sizes=sizes,
                    batch=batch,
                    samples=samples,
                    activation=activation,
                    dtype=dtype,
                    epochs=1 + args.rounds,
                    data=args.data,
                    device=args.device,
                    threads=args.threads,
                )


class Contender:
    """The parent's end: a worker, the epochs that it has run, why it stopped if it did."""

    def __init__(self, name, case, together):
        self.name = name
        self.epochs = []
        self.state, self.reason = "running", None
        self.pipe, theirs = multiprocessing.Pipe()
        if together:
            self.worker = threading.Thread(target=work, args=(name, case, theirs), daemon=True)
        else:
            context = multiprocessing.get_context("spawn")
            self.worker = context.Process(target=work, args=(name, case, theirs), daemon=True)
        # Ctrl-C reaches all processes of a terminal, and workers inherit that they ignore it
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        self.worker.start()
        signal.signal(signal.SIGINT, before)
        if not together:
            # a worker that dies then ends what waits for it
            theirs.close()
        self.receive()

    def receive(self):
        """Take the next message."""
        try:
            kind, *rest = self.pipe.recv()
        except (EOFError, OSError):
            kind, rest = "failed", ["its process died"]
        if kind in ("skip", "failed"):
            self.state, self.reason = kind, rest[0]
        elif kind == "done":
            seconds, loss, accuracy = rest
            self.epochs.append(seconds | {"loss": loss, "accuracy": accuracy})

    def turn(self):
        """Let it run one epoch."""
        with contextlib.suppress(OSError):
            self.pipe.send("go")
        self.receive()

    def close(self):
        """End the worker."""
        self.pipe.close()
        if isinstance(self.worker, threading.Thread):
            self.worker.join()
            return
        self.worker.join(timeout=2)
        if self.worker.is_alive():
            self.worker.terminate()


class Progress:
    """A bar where someone looks on, else a line per case."""

    def __init__(self, total):
        hidden = not sys.stderr.isatty()
        self.bar = tqdm(total=total, disable=hidden, unit="epoch", leave=False)

    def case(self, number, of, case):
        """Begin a case."""
        if self.bar.disable:
            print(f"bench: {number} of {of}: {case}", file=sys.stderr, flush=True)

    def at(self, text):
        """Say what is going on."""
        self.bar.set_description(text)

    def epoch(self):
        """Count an epoch."""
        self.bar.update()

    def error(self, text):
        """Say what went wrong."""
        self.bar.write(f"bench: {text}", file=sys.stderr)


def measure(case, names, together, reference, progress):
    """Return one case's measurements, a dictionary as the JSON file holds it."""
    load = os.getloadavg()
    contenders = []
    try:
        for name in names:
            progress.at(f"{case}: {name} gets ready")
            contenders.append(Contender(name, case, together))
        for _ in range(case.epochs):
            for contender in contenders:
                if contender.state == "running":
                    progress.at(f"{case}: {contender.name}")
                    contender.turn()
                    # what it left running in the background gets its time to stop
                    time.sleep(0.01)
                progress.epoch()
    finally:
        for contender in contenders:
            contender.close()
    found = {"contenders": {}, "skip": {}, "failed": {}}
    for contender in contenders:
        if contender.state == "running":
            found["contenders"][contender.name] = summary(
                contender.epochs, reference, HELD[case.dtype]
            )
        else:
            found[contender.state][contender.name] = contender.reason
    keys = ("network", "sizes", "batch", "samples", "activation", "dtype")
    settings = {key: getattr(case, key) for key in keys}
    found["ratios"] = {
        f"{a} / {b}": {
            clock: ratio(found["contenders"][a][clock], found["contenders"][b][clock])
            for clock in CLOCKS
            if clock in found["contenders"][a] and clock in found["contenders"][b]
        }
        for a, b, *_ in ratios_on(case.device, case.threads)
        if a in found["contenders"] and b in found["contenders"]
    }
    loads = {"load_before": load, "load_after": os.getloadavg()}
    return settings | loads | {"reference_loss": reference} | found


def summary(epochs, reference, held=None):
    """Return a contender's epochs by column, the first one left out of the times.

    The losses of the first `held` epochs are compared with the reference; of all if None.
    """
    columns = {key: [epoch[key] for epoch in epochs] for key in epochs[0]}
    times = {"first": columns["wall"][0]}
    times |= {clock: columns[clock][1:] for clock in CLOCKS if clock in columns}
    if columns["loss"][0] is None:
        return times
    pairs = zip(columns["loss"], reference, strict=True)
    differences = [abs(ours / right - 1) for ours, right in pairs]
    return times | {
        "loss": columns["loss"],
        "accuracy": columns["accuracy"],
        "loss_difference": max(differences[:held]),
        "loss_drift": max(differences),
    }


def ratios_on(device, threads):
    """Return which contenders are compared on a device, and their targets."""
    if device != "cpu":
        return CUDA_RATIOS
    return RATIOS_BY_DEFAULT if threads is None else RATIOS


def quartiles(values):
    """Return lower quartile, median, upper quartile."""
    if len(values) == 1:
        return [values[0]] * 3
    return statistics.quantiles(values, n=4, method="inclusive")


def ratio(ours, others):
    """Return the quartiles of the rounds' ratios."""
    return quartiles([a / b for a, b in zip(ours, others, strict=True)])


def machine(args):
    """Return what the figures depend on."""
    # where there is only the checkout, xpnn is no distribution
    versions = {"Python": platform.python_version(), "xpnn": xpnn.__version__}
    for name in DISTRIBUTIONS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    on_card = {} if args.device == "cpu" else {"card": card(args.device)}
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes"),
        "cpu": cpu(),
        "kernels": kernels(),
        "cores": cores(),
        "threads": args.threads,
        "device": args.device,
        **on_card,
        "busy": args.busy,
        "load": os.getloadavg(),
        "versions": versions,
        "rounds": args.rounds,
        "data": "random" if args.data == "random" else "MNIST",
        "together": args.together,
    }


def card(device):
    """Return the name of the card that a library finds under the name of a device."""
    reasons = []
    for name in ("cupy", "torch", "jax"):
        try:
            return get_backend(name, device=device).card
        except BackendError as error:
            reasons.append(str(error))
    raise BackendError(f"no library has a device {device!r} here: {'; '.join(reasons)}")


def wrong_losses(measured):
    """Yield name and difference of the contenders that train to another loss."""
    for name, found in measured["contenders"].items():
        difference = found.get("loss_difference", 0.0)
        if not difference <= TOLERANCE[measured["dtype"]]:
            yield name, difference


def title(measured):
    sizes = "-".join(map(str, measured["sizes"]))
    return f"{sizes}, {measured['activation']}, {measured['dtype']}"


def cell(quarts, target):
    """Return a ratio as a table shows it; bold where it misses its target."""
    if quarts is None:
        return "–"
    low, middle, high = quarts
    mark = "**" if target is not None and middle > target else ""
    return f"{mark}{middle:.2f}{mark} ({low:.2f}–{high:.2f})"


def markdown(report, names):
    """Return the report as text with tables in Markdown."""
    about, results = report["machine"], report["cases"]
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    loads = [load for m in results for load in (m["load_before"][0], m["load_after"][0])]
    blas = ", ".join(about["kernels"]) or "unknown"
    on_card = f" ({about['card']})" if "card" in about else ""
    beside = f" beside {about['busy']} busy processes" if about["busy"] else ""
    lines = [
        f"{about['date']}: {about['cpu']} (BLAS kernels: {blas}), {about['cores']} cores, "
        f"{about['threads'] or 'default'} threads{beside}, "
        f"device {about['device']}{on_card}, load {min(loads):.1f} to {max(loads):.1f}; "
        f"{versions}. {about['data']}; medians of {about['rounds']} rounds.",
    ]
    on_cpu = about["device"] == "cpu"
    timed, compared = (("wall",), ("wall", "cpu")) if on_cpu else (("events", "wall"),) * 2
    if on_cpu and about["threads"] is None:
        compared = timed  # who has more threads has more CPU time
    with_events = [name for name in names if name not in WITHOUT_EVENTS]
    for clock in timed:
        shown = with_events if clock == "events" else names
        lines += seconds_table(results, shown, clock, digits=3 if on_cpu else 5)
    for clock in compared:
        shown = with_events if clock == "events" else names
        rows = ratios_on(about["device"], about["threads"])
        asked = [row for row in rows if {row[0], row[1]} <= set(shown)]
        if asked:
            lines += ratios_table(results, asked, clock)
    if on_cpu and any(measured["network"] == "wide" for measured in results):
        targets = ratios_on("cpu", about["threads"])
        wide = [f"{a} / {b} ≤ {target}" for a, b, _, target in targets if target is not None]
        lines += ["", f"The wide network's targets: {', '.join(wide)}."]
    lines += ["", *remarks(results)]
    return "\n".join(lines)


def seconds_table(results, names, clock, digits):
    """Return a table of the contenders' times by one clock."""
    lines = [
        "",
        f"Seconds per epoch ({CLOCKS[clock]}):",
        "",
        "| network | samples | " + " | ".join(names) + " |",
        "|---|---:|" + "---:|" * len(names),
    ]
    for measured in results:
        cells = []
        for name in names:
            times = measured["contenders"].get(name, {}).get(clock)
            cells.append(f"{statistics.median(times):.{digits}f}" if times else "–")
        lines.append(f"| {title(measured)} | {measured['samples']} | " + " | ".join(cells) + " |")
    return lines


def ratios_table(results, asked, clock):
    """Return a table of the ratios that were asked for, by one clock."""
    targets_of = {f"{a} / {b}": targets for a, b, *targets in asked}
    heads = [
        f"{pair} ≤ {target}" if target is not None else pair
        for pair, (target, _) in targets_of.items()
    ]
    held = any(target is not None for target, _ in targets_of.values())
    lines = [
        "",
        f"Ratios, median of the rounds' with quartiles ({CLOCKS[clock]})"
        f"{'; a missed target is bold' if held else ''}:",
        "",
        "| network | " + " | ".join(heads) + " |",
        "|---|" + "---:|" * len(heads),
    ]
    for measured in results:
        cells = []
        for pair, targets in targets_of.items():
            quarts = measured["ratios"].get(pair, {}).get(clock)
            cells.append(cell(quarts, targets[measured["network"] == "wide"]))
        lines.append(f"| {title(measured)} | " + " | ".join(cells) + " |")
    return lines


def remarks(results):
    """Return a line on the losses, and one for each contender that was left out somewhere."""
    lines = []
    for dtype, allowed in TOLERANCE.items():
        found = [
            (c["loss_difference"], c["loss_drift"])
            for measured in results
            for c in measured["contenders"].values()
            if measured["dtype"] == dtype and "loss_difference" in c
        ]
        if found:
            lines.append(
                f"Largest relative difference of a running loss from plain NumPy's in float64, "
                f"in {dtype}: {max(first for first, _ in found):.1e} "
                f"{'in the first epoch ' if HELD[dtype] else ''}(allowed: {allowed:g}), "
                f"{max(drift for _, drift in found):.1e} in any."
            )
    reasons = {}
    for measured in results:
        for state in ("skip", "failed"):
            for name, reason in measured[state].items():
                reasons.setdefault((state, name, reason), []).append(title(measured))
    for (state, name, reason), where in reasons.items():
        verb = "left out" if state == "skip" else "FAILED"
        lines.append(f"{name} {verb} ({len(where)} of {len(results)} rows): {reason}.")
    return lines


def run(args):
    """Measure, print, write; return the exit status."""
    todo = list(cases(args))
    report = {"machine": machine(args), "cases": []}
    progress = Progress(len(todo) * len(args.only) * (1 + args.rounds))
    try:
        with busy(args.busy):
            wrong = measure_all(args, todo, report, progress)
    finally:
        # an interrupted run shows what it has
        progress.bar.close()
        if report["cases"]:
            print(markdown(report, args.only), flush=True)
    return int(wrong)


@contextlib.contextmanager
def busy(count):
    """Let so many other processes compute, within a ``with`` block."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def measure_all(args, todo, report, progress):
    """Measure case after case into `report`; return whether any contender went wrong."""
    references, wrong = {}, False
    for number, case in enumerate(todo, 1):
        progress.case(number, len(todo), case)
        key = case.network, case.activation
        if key not in references:
            progress.at(f"{case}: the reference")
            exact = Losses()
            train_numpy(dataclasses.replace(case, dtype="float64"), exact)
            references[key] = exact.losses
        measured = measure(case, args.only, args.together, references[key], progress)
        report["cases"].append(measured)
        if args.json:
            with replacing("json", args.json) as file:
                file.write((json.dumps(report, indent=1) + "\n").encode())
        for name, difference in wrong_losses(measured):
            progress.error(f"{case}: {name} trains to another loss, by {difference:.1e}")
            wrong = True
        for name, reason in measured["failed"].items():
            progress.error(f"{case}: {name} failed: {reason}")
            wrong = True
    return wrong


def answer(name, main):
    """Return the exit status of a command; what went wrong is one line."""
    try:
        return main()
    except (XpnnError, OSError) as error:
        print(f"{name}: error: {first_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        return 130


def device(text):
    """Return the name of a device from an argument."""
    if not re.fullmatch(r"cpu|cuda(:\d+)?", text):
        raise argparse.ArgumentTypeError(f"must be cpu, cuda or such as cuda:1, got {text!r}")
    return text


def count(least):
    """Return what reads a number of at least so many from an argument."""

    def number(text):
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"must be >= {least}, got {value}")
        return value

    number.__name__ = "number"
    return number


def setting():
    """Return in words what figures depend on."""
    versions = f"xpnn {xpnn.__version__}, numpy {np.__version__}"
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes")
    load = os.getloadavg()[0]
    return (
        f"{date}: {cpu()} (BLAS kernels: {', '.join(kernels()) or 'unknown'}), {cores()} cores, "
        f"load {load:.1f}; Python {platform.python_version()}, {versions}"
    )


def main():
    args = parse()
    # else the first of the processes that use JAX would take most of the card's memory
    shared = {} if args.device == "cpu" else {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    again_in(environment(args.threads) | shared)
    if args.json:
        check_writable("--json", args.json)
    if args.profile:
        from operations import profile

        for case in cases(args):
            print(profile(case), flush=True)
        return 0
    return run(args)


if __name__ == "__main__":
    sys.exit(answer("bench", main))

"""Hold reproducible runs to their promise, on this machine.

    python scripts/reproducibility.py matrix DATA [--backends numpy,torch,jax,strict]
    python scripts/reproducibility.py platforms DATA
    python scripts/reproducibility.py canonical DATA [--write]

matrix     One epoch of the article's network on each backend: one hash and one log? In turn every
           activation, every loss with and without flooding, every optimizer; weight decay and
           float32 with a third of them.
platforms  The same run in subprocesses under different BLAS kernels, numbers of threads and CPU
           features: one hash?
canonical  The standard runs on the first backend; --write makes xpnn/canonical.json anew.
"""

import argparse
import itertools
import os
import subprocess
import sys
import time
from pathlib import Path

from xpnn.activations import ACTIVATIONS
from xpnn.datasets import read_idx_folder
from xpnn.losses import LOSSES
from xpnn.optimizers import OPTIMIZERS
from xpnn.settings import Settings
from xpnn.verification import (
    Canonical,
    as_json,
    generated,
    run_canonical,
    usable_backends,
    verify,
)

ROOT = Path(__file__).parents[1]

# a variable of the environment that changes how a library computes: values
PLATFORMS = {
    "OPENBLAS_NUM_THREADS": ("1", "2"),
    "OPENBLAS_CORETYPE": ("Haswell", "SkylakeX", "Sandybridge"),
    "NPY_DISABLE_CPU_FEATURES": ("AVX512_SPR AVX512_ICL X86_V4 X86_V3",),
    "ATEN_CPU_CAPABILITY": ("default", "avx2", "avx512"),
    # without FMA glibc's log, and with it NumPy's randn, has other bits
    "GLIBC_TUNABLES": ("glibc.cpu.hwcaps=-AVX2,-FMA,-FMA4,-AVX512F",),
}

LEARNING_RATES = {"sgd": 0.1, "momentum": 0.02, "nesterov": 0.02, "adagrad": 0.05}

STANDARD = (
    Canonical("relu", "generated", "float64", Settings(epochs=3)),
    Canonical(
        "tanhexp-nesterov-flooding",
        "generated",
        "float64",
        Settings(activation="tanhexp", optimizer="nesterov:lr=0.05,mu=0.9", flood=0.5, epochs=3),
    ),
    Canonical(
        "gelu-adam-weight-decay",
        "generated",
        "float64",
        Settings(activation="gelu", optimizer="adam:lr=0.001", weight_decay=1e-3, epochs=3),
    ),
    Canonical(
        "mish-rmsprop-float32",
        "generated",
        "float32",
        Settings(activation="mish", optimizer="rmsprop:lr=0.001", epochs=3),
    ),
    Canonical(
        "h-swish-momentum-bce-float32",
        "generated",
        "float32",
        Settings(
            activation="h_swish:n=6",
            optimizer="momentum:lr=0.05",
            loss="binary_cross_entropy",
            epochs=3,
        ),
    ),
    Canonical("article-h-swish", "mnist", "float64", Settings(activation="h_swish:n=6")),
    Canonical("article-tanhexp", "mnist", "float64", Settings(activation="tanhexp")),
    Canonical("article-flooding", "mnist", "float64", Settings(flood=0.01)),
    Canonical(
        "article-nesterov", "mnist", "float64", Settings(optimizer="nesterov:lr=0.1,mu=0.9"), ()
    ),
)
ARTICLE_EPOCHS = 5


def matrix_settings():
    """Yield settings in which each activation, loss, flooding and optimizer occurs."""
    activations = [name for name in ACTIVATIONS if name != "gelu"]
    activations += ["gelu:approximate=none", "gelu:approximate=tanh"]
    losses = itertools.cycle(itertools.product(LOSSES, (None, 0.3)))
    optimizers = itertools.cycle(OPTIMIZERS)
    decays = itertools.cycle((1e-4, None, None))
    dtypes = itertools.cycle(("float64", "float64", "float32"))
    for activation in activations:
        name, (loss, flood) = next(optimizers), next(losses)
        yield (
            next(dtypes),
            Settings(
                activation=activation,
                optimizer=f"{name}:lr={LEARNING_RATES.get(name, 0.001)}",
                loss=loss,
                flood=flood,
                weight_decay=next(decays),
                epochs=1,
            ),
        )


def matrix(folder, names):
    data = read_idx_folder(folder)
    good = True
    for dtype, settings in matrix_settings():
        backends = usable_backends(names, dtype=dtype, reproducible=True)
        begun = time.perf_counter()
        found = verify(settings, *data, backends)
        good = good and found.agree
        hashes = " ".join(sorted({own[-1][:16] for own in found.hashes.values()}))
        parts = f"{settings.activation} {settings.loss} flood={settings.flood}"
        parts += f" {settings.optimizer} weight_decay={settings.weight_decay} {dtype}"
        word = "agree" if found.agree else f"DIFFER: {found.parted}"
        print(f"{parts}: {hashes} {word} ({time.perf_counter() - begun:.0f} s)", flush=True)
    return good


def platforms(folder):
    seen = {}
    command = [sys.executable, "-m", "xpnn", "train", folder, "--reproducible", "--hash"]
    command += ["--dtype", "float64", "--activation", "tanhexp", "--epochs", "1"]
    for variable, values in PLATFORMS.items():
        for value in values:
            backend = "torch" if variable.startswith("ATEN") else "numpy"
            environment = {**os.environ, variable: value}
            run = subprocess.run(
                [*command, "--backend", backend], env=environment, capture_output=True, text=True
            )
            if run.returncode:
                print(f"{variable}={value}: {run.stderr.strip()}")
                return False
            last = next(line for line in run.stdout.splitlines() if line.startswith("1 "))
            seen[variable, value] = last
            print(f"{backend} {variable}={value!r}: {last.split()[-1][:16]}", flush=True)
    return len(set(seen.values())) == 1


def canonical(folder, write):
    data = {"generated": generated(), "mnist": read_idx_folder(folder)}
    runs = []
    for run in STANDARD:
        if run.data == "mnist":
            run = run._replace(settings=run.settings.replaced(epochs=ARTICLE_EPOCHS))
        runs.append(run_canonical(run, data[run.data], "numpy"))
        print(f"{run.name}: {runs[-1].hashes[-1]}", flush=True)
    if write:
        (ROOT / "xpnn" / "canonical.json").write_text(as_json(runs), encoding="utf-8")
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("matrix", "platforms", "canonical"))
    parser.add_argument("data")
    parser.add_argument("--backends", default="numpy,torch,jax,strict")
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    if args.what == "matrix":
        good = matrix(args.data, args.backends.split(","))
    elif args.what == "platforms":
        good = platforms(args.data)
    else:
        good = canonical(args.data, args.write)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())

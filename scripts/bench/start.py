"""Measure what starting costs: ``import xpnn`` beside ``import numpy``, ``xpnn --help``, sizes.

    python scripts/bench/start.py [--rounds 15]

Prints medians of CPU time of whole processes, run in turn, and the installed size of xpnn with all
that it needs, beside those of PyTorch and JAX with all that they need, where installed.
"""

import argparse
import importlib.metadata
import os
import re
import statistics
import subprocess
import sys

from epochs import answer, count, setting

COMMANDS = {
    "pass": ["-c", "pass"],
    "import numpy": ["-c", "import numpy"],
    "import xpnn": ["-c", "import xpnn"],
    # what a script that trains imports, NumPy included
    "from xpnn import fit": ["-c", "from xpnn import fit"],
    "xpnn --help": ["-m", "xpnn", "--help"],
}


def seconds(arguments):
    """Return the CPU time of a Python process."""
    # as for a user, whose second start finds what was compiled at the first
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL, env=kept)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(arguments)} failed")
    return usage.ru_utime + usage.ru_stime


def distributions(name, found=None):
    """Return the distributions that one needs, itself included, without extras."""
    found = {} if found is None else found
    try:
        distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return found
    if distribution.name.lower() not in found:
        found[distribution.name.lower()] = distribution
        for requirement in distribution.requires or ():
            if "extra ==" not in requirement:
                distributions(re.match(r"[\w.-]+", requirement).group(), found)
    return found


def size(name):
    """Return the installed size of a distribution and all it needs, in MB."""
    files = [
        file.locate()
        for distribution in distributions(name).values()
        for file in distribution.files or ()
    ]
    return sum(file.stat().st_size for file in files if file.exists()) / 1e6


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=count(1), default=15)
    args = parser.parse_args()
    print(setting())
    times = {name: [] for name in COMMANDS}
    for i in range(1 + args.rounds):
        for name, command in COMMANDS.items():
            taken = seconds(command)
            if i:  # the first round compiles
                times[name].append(taken)
    median = {name: statistics.median(values) for name, values in times.items()}
    for name, value in median.items():
        print(f"{name}: {value * 1e3:.0f} ms of CPU time")
    for name in ("import xpnn", "from xpnn import fit"):
        ratios = [x / n for x, n in zip(times[name], times["import numpy"], strict=True)]
        print(f"{name} / import numpy: {statistics.median(ratios):.2f}")
    print(f"xpnn --help - pass: {(median['xpnn --help'] - median['pass']) * 1e3:.0f} ms")
    for name in ("numpy", "xpnn", "torch", "jax"):
        needs = ", ".join(sorted(set(distributions(name)) - {name}))
        print(f"{name}: {size(name):.0f} MB installed, with {needs or 'nothing else'}")
    return 0


if __name__ == "__main__":
    sys.exit(answer("start", main))

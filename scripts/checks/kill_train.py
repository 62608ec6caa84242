"""Kill a run again and again, resume it each time, and see that it ends as an undisturbed one.

    python scripts/checks/kill_train.py [--kills 20] [--epochs 12] [--backend numpy]
        [--data data/mnist]

A run is started and killed (`kill -9`) at random moments, and resumed from its checkpoint until it
has all its epochs; another one is left alone. A run that has come to its end is compared, and
another one begun until there were enough kills. Exit status 1 unless all have the same log, with
the hash of the weights in each row.
"""

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def command(options, log, checkpoint=None):
    argv = [sys.executable, "-m", "xpnn", "train", options.data, "--hidden", options.hidden]
    argv += ["--optimizer", options.optimizer, "--epochs", str(options.epochs), "--hash", "--quiet"]
    argv += ["--backend", options.backend, "--log", str(log)]
    if checkpoint is not None:
        argv += ["--checkpoint", str(checkpoint)]
        previous = checkpoint.with_name(f"{checkpoint.name}.previous")
        argv += ["--resume", str(checkpoint)] if checkpoint.exists() or previous.exists() else []
    return argv


def rows(log):
    """Return the rows of a log without their seconds."""
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    return [line.split(",")[:5] + line.split(",")[6:] for line in lines]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--hidden", default="20")
    parser.add_argument("--optimizer", default="adam")
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--data", default="data/mnist")
    parser.add_argument("--longest", type=float, help="seconds; what the undisturbed one took")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as place:
        calm = Path(place) / "calm.csv"
        begun = time.monotonic()
        subprocess.run(command(options, calm), check=True)
        longest = options.longest or time.monotonic() - begun
        kills = runs = different = 0
        while kills < options.kills:
            runs += 1
            log, checkpoint = Path(place) / f"{runs}.csv", Path(place) / f"{runs}.ckpt"
            finished = False
            while not finished:
                process = subprocess.Popen(command(options, log, checkpoint))
                delay = rng.uniform(0, longest) if kills < options.kills else None
                try:
                    status = process.wait(delay)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                    kills += 1
                    what = f"kill {kills} after {delay:.1f} s"
                else:
                    if status:
                        return status
                    finished, what = True, "finished"
                print(f"run {runs}, {what}: {max(len(rows(log)) - 1, 0)} rows", flush=True)
            different += rows(log) != rows(calm)
        weights = rows(calm)[-1][-1]
    print(f"{kills} kills, {runs} runs: {different} differ in log or weights ({weights[:16]}…)")
    return 0 if not different else 1


if __name__ == "__main__":
    sys.exit(main())

"""Kill a study again and again, and see that nothing is lost.

    python scripts/checks/kill_study.py [--kills 20] [--jobs 2] [--epochs 3] [--data data/mnist]

A study of 6 short reproducible runs is started and killed (`kill -9`) at random moments, and begun
again until it finishes; another one is left alone. Exit status 1 unless both have the same
tables.csv and weights, and every result that was there after a kill is the same file at the end.
"""

import argparse
import random
import subprocess
import sys
import tempfile
from pathlib import Path

from xpnn.study import read_folder

STUDY = """
hidden = "20"
reproducible = true
activation = ["relu", "swish", "h_swish"]
optimizer = ["sgd:lr=0.1", "momentum:lr=0.01,mu=0.9"]
"""


def command(options, study, out):
    command = [sys.executable, "-m", "xpnn", "study", "run", str(study), "--out", str(out)]
    command += ["--data", options.data, "--epochs", str(options.epochs)]
    return [*command, "--jobs", str(options.jobs), "--quiet"]


def files(out):
    results = read_folder(out)[0] if out.is_dir() else {}
    return {name: (out / name).stat().st_mtime_ns for name in results}


def weights(out):
    return {name: result.weights_sha256 for name, result in read_folder(out)[0].items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--data", default="data/mnist")
    parser.add_argument("--longest", type=float, default=8, help="seconds before a kill")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as place:
        study, calm = Path(place) / "study.toml", Path(place) / "calm"
        study.write_text(STUDY)
        subprocess.run(command(options, study, calm), check=True)
        kills = rounds = lost = different = 0
        while kills < options.kills:
            # a study that outlived all its kills is compared, and another one begun
            rounds += 1
            out, kept = Path(place) / f"killed{rounds}", {}
            finished = False
            while not finished:
                process = subprocess.Popen(command(options, study, out))
                delay = rng.uniform(0, options.longest) if kills < options.kills else None
                try:
                    finished = process.wait(delay) == 0
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                    kills += 1
                now = files(out)
                lost += not kept.items() <= now.items()
                kept = now
                what = "finished" if finished else f"kill {kills} after {delay:.1f} s"
                print(f"study {rounds}, {what}: {len(kept)} of 6 results", flush=True)
            same = (out / "tables.csv").read_bytes() == (calm / "tables.csv").read_bytes()
            different += not (same and weights(out) == weights(calm))
    print(f"{kills} kills, {rounds} studies: {lost} lost a result, {different} differ in the end")
    return 0 if not lost and not different else 1


if __name__ == "__main__":
    sys.exit(main())

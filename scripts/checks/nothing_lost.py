"""End runs in every way and at every stage, and see that nothing is lost that was finished.

    python scripts/checks/nothing_lost.py [--only WORD] [--kills 20] [--data data/mnist]

A run of `xpnn train` with a log, a checkpoint, a model and a picture is interrupted once or twice
(Ctrl-C) or killed (`kill -9`) at each stage, or finds a full disk, a refused rename or a vanished
file or folder there. Its files are then compared with those of an undisturbed run. Then runs and
studies are killed at random moments, and begun again until they finish. Prints a table: what was
tried how often, and how often nothing was lost. Exit status 1 if anything was.

Lost is: a row of the log or of the checkpoint that the run had written; the model of a finished
training, which must be where it should be or where the message says, or come back by --resume; an
old file. A traceback, a file that was left half written, or a refused second start count too.
"""

import argparse
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import xpnn
from xpnn.study import read_folder
from xpnn.training import checkpoint

EPOCHS = 5

# Runs the command in a process in which `action` happens when a function is called for the nth time
DRIVER = """
import errno, importlib, importlib.abc, os, pathlib, runpy, shutil, signal, sys

stage, count, action, place = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
calls = 0

def refused(code):
    global calls
    calls += 1
    if calls >= count:
        raise OSError(code, os.strerror(code))

def act():
    global calls
    calls += 1
    if calls != count:
        return
    if action == "vanish":
        shutil.rmtree(place) if os.path.isdir(place) else os.remove(place)
    elif action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    else:
        for _ in range({"interrupt": 1, "twice": 2}[action]):
            signal.raise_signal(signal.SIGINT)

def wrapped(owner, name, before):
    original = getattr(owner, name)
    def call(*args, **options):
        before(*args)
        return original(*args, **options)
    setattr(owner, name, call)

if stage == "import":
    class Finder(importlib.abc.MetaPathFinder):
        def find_spec(self, name, path=None, target=None):
            if name == "xpnn.model":
                act()
    sys.meta_path.insert(0, Finder())
if action == "full":
    from xpnn._core.files import mark_of
    def before(handle):
        if mark_of(pathlib.Path(place)) in os.readlink(f"/proc/self/fd/{handle}"):
            refused(errno.ENOSPC)
    wrapped(os, "fsync", before)
elif action == "refuse":
    def before(path, to):
        if os.path.realpath(to) == place:
            refused(errno.EPERM)
    wrapped(pathlib.Path, "replace", before)
elif stage != "import":
    module, _, name = stage.rpartition(".")
    try:
        owner = importlib.import_module(module)
    except ImportError:
        module, _, kind = module.rpartition(".")
        owner = getattr(importlib.import_module(module), kind)
    wrapped(owner, name, lambda *args: act())
sys.argv[1:] = sys.argv[5:]
runpy.run_module("xpnn", run_name="__main__")
"""

# each stage, the function that it is in, and which call of it
STAGES = {
    "import": ("import", 1),
    "reading": ("xpnn.source.load_training", 1),
    "training": ("xpnn.training.loop._sweep", 8),
    "writing a row": ("xpnn.callbacks.log.CSVLogger._write", 4),
    "writing a checkpoint": ("xpnn.training.checkpoint.sealed", 3),
    "replacing a checkpoint": ("xpnn._core.files._keep", 2),
    "saving": ("xpnn.saving.sealed", 1),
    "drawing": ("xpnn.plots._draw_history", 1),
}
ENDS = {"Ctrl-C": "interrupt", "Ctrl-C twice": "twice", "kill -9": "kill"}


class Place:
    """A folder with data and what a run writes."""

    def __init__(self, folder):
        folder.mkdir()
        self.data, self.out = folder / "data.csv", folder / "out"
        self.out.mkdir()
        self.log, self.checkpoint = self.out / "run.csv", self.out / "run.ckpt"
        self.model, self.picture = self.out / "m.safetensors", self.out / "run.png"
        rng = np.random.default_rng(0)
        x = rng.standard_normal((120, 3))
        rows = (f"{a:.3f},{b:.3f},{c:.3f},{int(a * b > c)}" for a, b, c in x)
        self.data.write_text("\n".join(["a,b,c,label", *rows]) + "\n")

    def command(self, *more):
        command = ["train", self.data, "--epochs", EPOCHS, "--seed", 1, "--quiet", "--hash"]
        command += ["--validation", 0.2, "--log", self.log, "--checkpoint", self.checkpoint]
        return [*map(str, command), "--save", str(self.model), "--plot", str(self.picture), *more]

    def run(self, stage="none", count=0, action="none", place="", more=()):
        driver = [sys.executable, "-c", DRIVER, stage, str(count), action, str(place)]
        plain = [sys.executable, "-m", "xpnn"]
        command = [*(plain if action == "none" else driver), *self.command(*more)]
        folder = self.out.parent
        return subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=folder)

    def rows(self):
        """Return the rows of the log without their seconds; a cut one at the end is none."""
        lines = self.log.read_text().split("\n")[:-1] if self.log.exists() else []
        return [[cell for i, cell in enumerate(line.split(",")) if i != 5] for line in lines]

    def left(self):
        return [path.name for path in self.out.iterdir() if path.name.startswith(".")]


def sha256(path):
    return xpnn.load(path).sha256()


class Check:
    """Tries the situations, and counts the losses."""

    def __init__(self, folder, options):
        self.folder, self.options, self.number = folder, options, 0
        self.table = {}
        calm = self.place()
        assert calm.run().returncode == 0
        self.calm, self.sha256 = calm.rows(), sha256(calm.model)

    def place(self):
        self.number += 1
        return Place(self.folder / str(self.number))

    def note(self, situation, *wrong):
        """Count a trial; `wrong` are pairs of what would be a loss, and whether it is."""
        found = [text for text, lost in wrong if lost]
        tried, survived = self.table.get(situation, (0, 0))
        self.table[situation] = tried + 1, survived + (not found)
        print(f"{situation}: {', '.join(found) or 'nothing lost'}", flush=True)

    def finish(self, place):
        """Resume a run; return how its log or model differ in the end from an undisturbed run's."""
        previous = checkpoint.previous(place.checkpoint)
        there = place.checkpoint.exists() or previous.exists()
        ended = place.run(more=["--resume", str(place.checkpoint)] if there else [])
        if ended.returncode:
            return f"can't go on: {ended.stderr}"
        same = place.rows() == self.calm and sha256(place.model) == self.sha256
        return "" if same else "another result in the end"

    def ended(self, stage, end):
        """Interrupt or kill a run at a stage."""
        place = self.place()
        place.model.write_text("old")
        found = place.run(*STAGES[stage], ENDS[end])
        whole = self.calm == place.rows()
        model = place.model.read_bytes() != b"old"
        wrong = [
            ("a traceback", "Traceback" in found.stderr),
            ("not interrupted", found.returncode not in (130, -2, -9)),
            ("other rows", place.rows() != self.calm[: len(place.rows())]),
        ]
        if end != "kill -9":
            rows = len(checkpoint.read(place.checkpoint)[0].history) if place.rows() else 0
            # a second Ctrl-C doesn't wait for the log: --resume writes the row
            missing = rows - max(len(place.rows()) - 1, 0)
            wrong += [
                ("files left", bool(place.left())),
                ("log and checkpoint differ", missing not in (0, int(end == "Ctrl-C twice"))),
                ("no model", end == "Ctrl-C" and bool(rows) and not model),
            ]
        if stage in ("saving", "drawing"):
            wrong.append(("no whole log", not whole))
        if stage == "drawing":
            wrong.append(("no model", not model or sha256(place.model) != self.sha256))
        if model and whole:
            wrong.append(("another model", sha256(place.model) != self.sha256))
        problem = self.finish(place)
        self.note(f"{end} while {stage}", *wrong, (problem, bool(problem)))

    def fails(self, what, name, action):
        """Let the system refuse an output, or remove it before it is saved."""
        place = self.place()
        target = {"folder": place.out}.get(name) or getattr(place, name)
        stage = {
            "log": ("xpnn.training.loop._sweep", 8),
            "checkpoint": ("", 3),
        }.get(name, ("xpnn.saving.sealed", 1))
        found = place.run(*stage, action, target)
        said = re.search(r"it is in (\S+) instead", found.stderr)
        elsewhere = name in ("model", "folder") and (action != "vanish" or name == "folder")
        model = place.out.parent / said[1] if said else place.model
        fine = action == "vanish" and name != "folder"
        wrong = [
            ("a traceback", "Traceback" in found.stderr),
            ("the wrong status", found.returncode != (0 if fine else 2)),
            ("not said", not fine and "error: " not in found.stderr),
            ("not saved elsewhere", elsewhere and not said),
            ("no model", not model.exists()),
        ]
        if model.exists() and name != "checkpoint":
            wrong.append(("another model", sha256(model) != self.sha256))
        if place.out.exists() and name != "checkpoint":
            wrong.append(("no whole log", place.rows() != self.calm))
            wrong.append(("files left", bool(place.left())))
        self.note(f"{what}: {name}", *wrong)

    def kills(self):
        """Kill runs at random moments, and resume each until it ends."""
        rng, left = random.Random(self.options.seed), self.options.kills
        while left > 0:
            place, killed = self.place(), 0
            begun = time.monotonic()
            while left > 0 and killed < 5:
                more = ["--resume", str(place.checkpoint)] if place.checkpoint.exists() else []
                command = [sys.executable, "-m", "xpnn", *place.command(*more)]
                process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
                try:
                    process.wait(rng.uniform(0.3, self.options.longest))
                    break
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                    killed, left = killed + 1, left - 1
            problem = self.finish(place)
            took = time.monotonic() - begun
            print(f"killed {killed} times in {took:.0f} s", flush=True)
            self.note("kill -9 at random, then resumed", (problem, bool(problem)))

    def studies(self):
        """Kill studies at random moments, and begin each again until it ends."""
        place, rng = self.place(), random.Random(self.options.seed)
        study = place.out / "study.toml"
        study.write_text(
            f'data = "{place.data}"\nepochs = 3\nhidden = "4"\nreproducible = true\n'
            'activation = ["relu", "swish"]\noptimizer = ["sgd:lr=0.1", "adam"]\n'
        )

        def weights(out):
            found = read_folder(out)[0] if out.is_dir() else {}
            return {name: result.weights_sha256 for name, result in found.items()}

        def command(out):
            argv = ["study", "run", str(study), "--out", str(out), "--jobs", "2", "--quiet"]
            return [sys.executable, "-m", "xpnn", *argv]

        calm, left = place.out / "calm", self.options.kills
        subprocess.run(command(calm), check=True)
        while left > 0:
            out, kept, lost = self.place().out, {}, False
            for _ in range(5):
                process = subprocess.Popen(command(out))
                try:
                    process.wait(rng.uniform(0.5, 3 * self.options.longest))
                    break
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                    left -= 1
                now = weights(out)
                lost |= not kept.items() <= now.items()
                kept = now
            subprocess.run(command(out), check=True)
            self.note(
                "kill -9 of a study at random, then run again",
                ("a result", lost),
                ("other results", weights(out) != weights(calm)),
            )

    def all(self):
        """Return what is tried, by name."""
        tried = {
            f"{end} while {stage}": lambda stage=stage, end=end: self.ended(stage, end)
            for stage in STAGES
            for end in ENDS
        }
        for what, action in (
            ("a full disk", "full"),
            ("a refused rename", "refuse"),
            ("vanished", "vanish"),
        ):
            names = ("log", "model", "folder") if action == "vanish" else ("model", "picture")
            for name in [*names, *(["checkpoint"] if action != "vanish" else [])]:
                if (action, name) == ("vanish", "model"):
                    continue
                tried[f"{what}: {name}"] = lambda w=what, n=name, a=action: self.fails(w, n, a)
        return {**tried, "kills of runs": self.kills, "kills of studies": self.studies}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", metavar="WORD", action="append", help="only what has it in it")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--longest", type=float, default=3, help="seconds before a kill")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        check = Check(Path(folder).resolve(), options)
        for name, trial in check.all().items():
            if options.only is None or any(word in name for word in options.only):
                trial()
    print("\n| | tried | nothing lost |\n|---|---|---|")
    for situation, (tried, survived) in check.table.items():
        print(f"| {situation} | {tried} | {survived} |")
    return 0 if check.table and all(a == b for a, b in check.table.values()) else 1


if __name__ == "__main__":
    sys.exit(main())

"""End runs in every way and at every stage, and see that nothing is lost that was finished.

    python scripts/checks/nothing_lost.py [--only WORD] [--kills 20] [--seed 0]

A run of `xpnn train` with a log, a checkpoint, a model and a picture is interrupted once or twice
(Ctrl-C) or killed (`kill -9`) at each stage, or finds a full disk, a refused rename or a vanished
file or folder there. Its files are then compared with those of an undisturbed run. Two kinds of
full disks are real: files of the run may have only so many bytes (`ulimit -f`), or, where this
script may mount a file system, the outputs are on a small one that is filled at a stage. Then runs
and studies are interrupted and killed at random moments, and begun again until they finish. Prints
a table: what was tried how often, and how often nothing was lost. Exit status 1 if anything was.

Lost is: a row of the log or of the checkpoint that the run had written; the model of a finished
training, which must be where it should be or where the message says, or come back by --resume; an
old file. A traceback, a file that was left half written, or a refused second start count too.
"""

import argparse
import contextlib
import os
import random
import re
import resource
import signal
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
    if action == "fill":
        with open(place, "wb", buffering=0) as file:
            try:
                while file.write(bytes(4096)):
                    pass
            except OSError:
                pass
    elif action == "vanish":
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

    def run(self, stage="none", count=0, action="none", place="", more=(), **options):
        driver = [sys.executable, "-c", DRIVER, stage, str(count), action, str(place)]
        plain = [sys.executable, "-m", "xpnn"]
        command = [*(plain if action == "none" else driver), *self.command(*more)]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=300, cwd=self.out.parent, **options
        )

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
        begun = time.monotonic()
        assert calm.run().returncode == 0
        self.seconds = time.monotonic() - begun
        self.calm, self.sha256 = calm.rows(), sha256(calm.model)

    def place(self):
        self.number += 1
        return Place(self.folder / str(self.number))

    def note(self, situation, *wrong, times=1):
        """Count trials; `wrong` are pairs of what would be a loss, and whether it is."""
        found = [text for text, lost in wrong if lost]
        tried, survived = self.table.get(situation, (0, 0))
        self.table[situation] = tried + times, survived + (0 if found else times)
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

    def full(self, stage):
        """Fill the file system of the outputs at a stage, and go on once there is room again."""
        place = self.place()
        filler = place.out / "filler"
        with mounted(place.out) as there:
            if not there:
                print(f"a full file system while {stage}: not tried, nothing can be mounted here")
                return
            found = place.run(*STAGES[stage], "fill", filler)
            filler.unlink()
            self.refused(f"a full file system while {stage}", place, found)

    def small(self, size):
        """Let no file of a run have more than this many bytes."""
        place = self.place()
        place.model.write_text("old")
        limit = (size, size)
        found = place.run(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit))
        self.refused(f"ulimit -f, {size} bytes", place, found)

    def refused(self, situation, place, found):
        """Note what a run has left whose outputs couldn't all be written; resume it."""
        said = re.search(r"it is in (\S+) instead", found.stderr)
        model = place.out.parent / said[1] if said else place.model
        whole = model.exists() and place.rows() == self.calm and model.read_bytes() != b"old"
        wrong = [
            ("a traceback", "Traceback" in found.stderr),
            ("the wrong status", found.returncode != 2),
            ("not said", "error: " not in found.stderr),
            ("files left", bool(place.left())),
            ("other rows", place.rows() != self.calm[: len(place.rows())]),
            ("another model", whole and sha256(model) != self.sha256),
        ]
        problem = self.finish(place)
        self.note(situation, *wrong, (problem, bool(problem)))

    def stopped(self, command, end, longest, rng):
        """Start a command, and end it at a random moment; return whether it hadn't ended itself."""
        # as a terminal does, which tells all processes of a group of a Ctrl-C
        process = subprocess.Popen(
            command, start_new_session=True, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        try:
            process.wait(rng.uniform(0.0, longest))
        except subprocess.TimeoutExpired:
            if end == "kill -9":
                process.kill()
            else:
                os.killpg(process.pid, signal.SIGINT)
            _, told = process.communicate()
            ended = process.returncode != 0
            return ended, b"Traceback" in told or (end != "kill -9" and told.count(b"\n") > 1)
        process.communicate()
        return False, False

    def runs(self, end):
        """End runs at random moments, and resume each until it ends."""
        rng, left = random.Random(self.options.seed), self.options.kills
        while left > 0:
            place, count, loud = self.place(), 0, False
            for _ in range(min(left, 5)):
                more = ["--resume", str(place.checkpoint)] if place.checkpoint.exists() else []
                command = [sys.executable, "-m", "xpnn", *place.command(*more)]
                ended, told = self.stopped(command, end, self.seconds, rng)
                count, loud = count + ended, loud or told
            left -= count
            problem = self.finish(place)
            wrong = ("a traceback, or more than a line", loud), (problem, bool(problem))
            self.note(f"{end} of a run at random, then resumed", *wrong, times=count)

    def studies(self, end):
        """End studies at random moments, and begin each again until it ends."""
        place, rng = self.place(), random.Random(self.options.seed)
        study = place.out / "study.toml"
        study.write_text(
            f'data = "{place.data}"\nepochs = 3\nhidden = "4"\nreproducible = true\n'
            'activation = ["relu", "swish"]\noptimizer = ["sgd:lr=0.1", "adam"]\n'
        )

        def weights(out):
            found = read_folder(out)[0] if (out / "study.json").exists() else {}
            return {name: result.weights_sha256 for name, result in found.items()}

        def command(out):
            argv = ["study", "run", str(study), "--out", str(out), "--jobs", "2", "--quiet"]
            return [sys.executable, "-m", "xpnn", *argv]

        calm, left, begun = place.out / "calm", self.options.kills, time.monotonic()
        subprocess.run(command(calm), check=True)
        longest = time.monotonic() - begun
        while left > 0:
            out, kept, lost, count, loud = self.place().out / "runs", {}, False, 0, False
            for _ in range(min(left, 5)):
                ended, told = self.stopped(command(out), end, longest, rng)
                now = weights(out)
                lost |= not kept.items() <= now.items()
                kept, count, loud = now, count + ended, loud or told
            left -= count
            again = subprocess.run(command(out), capture_output=True, text=True)
            self.note(
                f"{end} of a study at random, then run again",
                ("a result", lost),
                ("a traceback, or more than a line", loud),
                (f"can't go on: {again.stderr}", again.returncode != 0),
                ("other results", weights(out) != weights(calm)),
                times=count,
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
        for stage in ("training", "saving", "drawing"):
            tried[f"a full file system while {stage}"] = lambda s=stage: self.full(s)
        # nothing, a piece of the log, the log, all but the picture
        for size in (0, 300, 2000, 16_000):
            tried[f"ulimit -f, {size} bytes"] = lambda s=size: self.small(s)
        for end in ("kill -9", "Ctrl-C"):
            tried[f"{end} of runs at random"] = lambda e=end: self.runs(e)
            tried[f"{end} of studies at random"] = lambda e=end: self.studies(e)
        return tried


@contextlib.contextmanager
def mounted(folder):
    """Mount a file system of a megabyte on a folder for a while; yield whether that is allowed."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    there = os.name == "posix" and subprocess.run(mount, capture_output=True).returncode == 0
    try:
        yield there
    finally:
        if there:
            subprocess.run(["umount", str(folder)], check=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", metavar="WORD", action="append", help="only what has it in it")
    parser.add_argument("--kills", type=int, default=20, help="of runs and of studies each")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    # a shell lets what it starts in the background ignore Ctrl-C, and so would the runs
    signal.signal(signal.SIGINT, signal.default_int_handler)
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

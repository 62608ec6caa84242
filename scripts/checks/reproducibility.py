"""Hold reproducible runs to their promise, on this machine.

    python scripts/checks/reproducibility.py matrix DATA [--backends numpy,torch,jax,strict]
        [--dtypes float64,float32] [--only TEXT] [--samples N] [--results runs/matrix.jsonl]
    python scripts/checks/reproducibility.py platforms DATA
    python scripts/checks/reproducibility.py canonical DATA [--write]

matrix     One epoch of the article's network for every activation and variant of one, every loss
           with and without flooding, every optimizer with and without weight decay, in both dtypes:
           the same weights and the same log on each backend? Runs that are in the results already
           aren't repeated, unless xpnn or the library has changed, so that an interrupted matrix
           goes on.
platforms  The same run in processes of their own under different BLAS kernels, numbers of threads
           and CPU features: were they taken, do native runs differ, reproducible ones not?
canonical  The standard runs on NumPy; --write makes xpnn/verification/canonical.json anew.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import platforms

from xpnn.activations import ACTIVATIONS
from xpnn.cli.options import listed
from xpnn.datasets import Dataset, read_idx_folder
from xpnn.losses import LOSSES
from xpnn.optimizers import OPTIMIZERS
from xpnn.settings import Settings
from xpnn.verification import Canonical, as_json, generated, record, run_canonical, usable_backends

ROOT = Path(__file__).parents[2]

# a level that the loss of a mini-batch crosses within the epoch
FLOODS = {
    "mean_squared_error": 0.05,
    "binary_cross_entropy": 0.1,
    "mean_absolute_error": 0.12,
    "huber": 0.04,
    "quantile": 0.07,
    "binary_focal": 0.07,
}
FLOOD = 0.3
WEIGHT_DECAY = 1e-3
# without weight decay, AdamW is Adam
ONE_FORMULA = ["optimizer adam", "optimizer adamw"]
# other values than the defaults, of parameters that aren't numbers
CHOICES = {"approximate": "tanh"}

STANDARD = (
    Canonical("relu", "generated", "float64", Settings(init="he_normal", epochs=3)),
    Canonical(
        "tanhexp-nesterov-flooding",
        "generated",
        "float64",
        Settings(
            init="he_normal",
            activation="tanhexp",
            optimizer="nesterov:lr=0.05,mu=0.9",
            flood=0.5,
            epochs=3,
        ),
    ),
    Canonical(
        "gelu-adam-weight-decay",
        "generated",
        "float64",
        Settings(
            init="he_normal",
            activation="gelu",
            optimizer="adam:lr=0.001",
            weight_decay=1e-3,
            epochs=3,
        ),
    ),
    Canonical(
        "mish-rmsprop-float32",
        "generated",
        "float32",
        Settings(init="he_normal", activation="mish", optimizer="rmsprop:lr=0.001", epochs=3),
    ),
    Canonical(
        "h-swish-momentum-bce-float32",
        "generated",
        "float32",
        Settings(
            init="he_normal",
            activation="h_swish:n=6",
            optimizer="momentum:lr=0.05",
            loss="binary_cross_entropy",
            epochs=3,
        ),
    ),
    Canonical(
        "article-h-swish", "mnist", "float64", Settings(init="he_normal", activation="h_swish:n=6")
    ),
    Canonical(
        "article-tanhexp", "mnist", "float64", Settings(init="he_normal", activation="tanhexp")
    ),
    Canonical("article-flooding", "mnist", "float64", Settings(init="he_normal", flood=0.01)),
    Canonical(
        "article-nesterov",
        "mnist",
        "float64",
        Settings(init="he_normal", optimizer="nesterov:lr=0.1,mu=0.9"),
        (),
    ),
)
ARTICLE_EPOCHS = 5


def matrix_settings():
    """Return the runs by name: whatever is registered, in turn, in place of the base's part."""
    base = Settings(
        init="he_normal",
        activation="relu",
        optimizer="sgd",
        loss="cross_entropy",
        weight_decay=0.0,
        epochs=1,
    )
    found = {}
    for name in ACTIVATIONS:
        for text in [name, *variants(name)]:
            found[f"activation {text}"] = base.replaced(activation=text)
    for name in LOSSES:
        flood = FLOODS.get(name, FLOOD)
        found[f"loss {name}"] = base.replaced(loss=name)
        found[f"loss {name}, flooding {flood}"] = base.replaced(loss=name, flood=flood)
    for name in OPTIMIZERS:
        for decay in (0.0, WEIGHT_DECAY):
            text = f"optimizer {name}" + (f", weight decay {decay}" if decay else "")
            found[text] = base.replaced(optimizer=name, weight_decay=decay)
    # the base is an activation, a loss and an optimizer; once is enough
    return {names[0]: settings for settings, names in _names_of(found).items()}


def _names_of(named):
    found = {}
    for name, settings in named.items():
        found.setdefault(settings, []).append(name)
    return found


def variants(name):
    """Return an activation with each parameter in turn away from its default."""
    for key, default in ACTIVATIONS.parameters(name).items():
        value = CHOICES[key] if isinstance(default, str) else 0.75 * default
        yield f"{name}:{key}={value}"


def source():
    """Return a hash of xpnn's modules, which decide the bits."""
    found = hashlib.sha256()
    for path in sorted((ROOT / "xpnn").rglob("*.py")):
        found.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()[:12]


def read_results(path):
    """Return the runs that are done, by what they are runs of; cut off what an interrupt left."""
    if not path.exists():
        return {}
    *lines, rest = path.read_text(encoding="utf-8").split("\n")
    if rest:
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return {tuple(found["run"]): found for found in map(json.loads, lines)}


def matrix(args):
    path = Path(args.results)
    path.parent.mkdir(parents=True, exist_ok=True)
    done = read_results(path)
    rows = {name: run for name, run in matrix_settings().items() if args.only in name}
    data = [Dataset(x[: args.samples], y[: args.samples]) for x, y in read_idx_folder(args.data)]
    samples, code = len(data[0].x), source()
    names, dtypes = args.backends, args.dtypes
    backends = {dtype: usable_backends(names, dtype=dtype, reproducible=True) for dtype in dtypes}
    versions = {backend.name: backend.library.__version__ for backend in backends[dtypes[0]]}
    table = {
        (name, dtype, backend.name): (
            (code, name, dtype, backend.name, versions[backend.name], samples)
        )
        for name in rows
        for dtype in dtypes
        for backend in backends[dtype]
    }
    missing = [key for key, run in table.items() if run not in done]
    for i, key in enumerate(missing):
        name, dtype, on = key
        backend = next(backend for backend in backends[dtype] if backend.name == on)
        begun = time.perf_counter()
        found = record(rows[name], *data, backend)
        done[table[key]] = {
            "run": table[key],
            "hashes": found.hashes,
            "log": found.log,
            "diverged": found.diverged,
            "seconds": round(time.perf_counter() - begun, 1),
        }
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(done[table[key]]) + "\n")
        seconds = done[table[key]]["seconds"]
        progress = f"{i + 1} of {len(missing)}: {', '.join(key)}, {seconds} s"
        print(progress, file=sys.stderr, flush=True)
    return show_matrix(rows, dtypes, versions, {key: done[run] for key, run in table.items()})


def show_matrix(rows, dtypes, versions, found):
    """Print a table, a row a run and a column a dtype; return whether all is well."""
    print(f"| run | {' | '.join(dtypes)} |")
    print("|---|" + "---|" * len(dtypes))
    agreed, seen = 0, {}
    for name in rows:
        cells = []
        for dtype in dtypes:
            outcomes = {
                on: (found[name, dtype, on]["hashes"], found[name, dtype, on]["log"])
                for on in versions
            }
            first, *others = outcomes.values()
            shown = {on: (own[0] or ["none"])[-1][:16] for on, own in outcomes.items()}
            ends = {found[name, dtype, on]["diverged"] for on in versions}
            if all(other == first for other in others) and len(ends) == 1:
                agreed += 1
                cells.append(f"`{next(iter(shown.values()))}`" + (" diverged" * (ends != {None})))
                seen.setdefault((dtype, first[0][-1] if first[0] else None), []).append(name)
            else:
                cells.append("DIFFER: " + " ".join(f"{on} `{own}`" for on, own in shown.items()))
        print(f"| {name} | {' | '.join(cells)} |")
    count = len(rows) * len(dtypes)
    on = ", ".join(f"{name} {version}" for name, version in versions.items())
    print(f"\n{agreed} of {count} runs agree in the weights and the log on {on}.")
    print(f"{commit()}, hash of its modules {source()}.")
    # a part that changes nothing isn't tested by its row
    alike = {key: names for key, names in seen.items() if len(names) > 1 and names != ONE_FORMULA}
    for (dtype, _), names in alike.items():
        print(f"The same weights though the runs differ, {dtype}: {'; '.join(names)}.")
    return agreed == count and not alike


def commit():
    """Return the commit in words."""
    command = ["git", "describe", "--always", "--dirty"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return f"Commit {found.stdout.strip()}" if found.returncode == 0 else "No commit"


def run_platform(folder, backend, environment):
    """Return state, native hash and the last line of the log of a process with these variables."""
    options = ["train", folder, "--reproducible", "--hash", "--digits", "all"]
    options += ["--dtype", "float64"]
    options += ["--activation", "tanhexp", "--epochs", "1", "--backend", backend]
    code = (
        "import json, sys; from scripts.checks import platforms; from xpnn.cli import main; "
        f"print(json.dumps([platforms.state({backend!r}), platforms.native({backend!r})])); "
        f"sys.exit(main({options!r}))"
    )
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    run = subprocess.run(
        [sys.executable, "-c", code],
        env=platforms.environment({"PYTHONPATH": path, **environment}),
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        sys.exit(f"{environment}: {run.stderr.strip()}")
    first, *lines = run.stdout.splitlines()
    return *json.loads(first), next(line for line in lines if line.startswith("1 "))


def check_platforms(folder):
    seen, natives, good = set(), {}, True
    print("| backend | variable | taken | native | reproducible |\n|---|---|---|---|---|")
    plain = {}
    for variable, values in platforms.usable().items():
        backend = platforms.backend(variable)
        if backend not in plain:
            plain[backend], native, line = run_platform(folder, backend, {})
            seen.add(line)
            natives[backend] = {native}
            print(f"| {backend} | | | `{native}` | `{line.split()[-1][:16]}` |", flush=True)
        for value in values:
            state, native, line = run_platform(folder, backend, {variable: value})
            seen.add(line)
            natives[backend].add(native)
            taken = platforms.taken(variable, value, state, plain[backend])
            good = good and taken
            cells = [backend, f"{variable}={value}", "yes" if taken else "NO"]
            cells += [f"`{native}`", f"`{line.split()[-1][:16]}`"]
            print("| " + " | ".join(cells) + " |", flush=True)
    # where native results never differ, this machine can't show that ours don't
    return good and len(seen) == 1 and all(len(found) > 1 for found in natives.values())


def canonical(folder, write):
    data = {"generated": generated(), "mnist": read_idx_folder(folder)}
    runs = []
    for run in STANDARD:
        if run.data == "mnist":
            run = run._replace(settings=run.settings.replaced(epochs=ARTICLE_EPOCHS))
        runs.append(run_canonical(run, data[run.data], "numpy"))
        print(f"{run.name}: {runs[-1].hashes[-1]}", flush=True)
    if write:
        path = ROOT / "xpnn" / "verification" / "canonical.json"
        path.write_text(as_json(runs), encoding="utf-8")
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="what", required=True)
    part = commands.add_parser("matrix")
    part.add_argument("data")
    part.add_argument("--backends", type=listed, default="numpy,torch,jax,strict")
    part.add_argument("--dtypes", type=listed, default="float64,float32")
    part.add_argument("--only", default="", help="rows whose name holds this text")
    part.add_argument("--samples", type=int, help="the first so many of each set; all if left out")
    part.add_argument("--results", default=str(ROOT / "runs" / "matrix.jsonl"))
    part = commands.add_parser("platforms")
    part.add_argument("data")
    part = commands.add_parser("canonical")
    part.add_argument("data")
    part.add_argument("--write", action="store_true")
    args = parser.parse_args()
    if args.what == "matrix":
        good = matrix(args)
    elif args.what == "platforms":
        good = check_platforms(args.data)
    else:
        good = canonical(args.data, args.write)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())

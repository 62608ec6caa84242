"""A run, its file, and the process it is done in."""

import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import xpnn
from tests.helpers import (
    CODES,
    COLUMNS,
    COUNTS,
    FLOWERS,
    NAMES,
    VALUES,
    environment,
    run,
    write_folder,
    write_rows,
    write_table,
)
from xpnn import get_backend
from xpnn._version import ARITHMETIC
from xpnn.errors import DataError, DivergenceError, XpnnError
from xpnn.settings import Settings
from xpnn.source import SHARED, Source
from xpnn.study import Job, execute, read_result
from xpnn.study.job import load_data
from xpnn.study.results import write_result
from xpnn.study.worker import ATTEMPTS, Processes, RunError, StoppedError, threads_for

SMALL = {"hidden": "6", "epochs": 2, "batch_size": 20, "optimizer": "sgd:lr=0.5"}


@pytest.fixture
def small(folder):
    return Job.from_dict({**SMALL, "data": str(folder), "dtype": "float64"})


def fingerprint(run):
    return load_data(run.source)[2]


def test_a_run_is_plain(small):
    other = small.replaced(environment={"B": "2", "A": "1"})
    assert Job.from_dict(json.loads(json.dumps(other.as_dict()))) == other
    assert pickle.loads(pickle.dumps(other)) == other


def test_a_result_is_what_fit_gives(small):
    content = execute(small, fingerprint(small))
    train, test, _ = load_data(small.source)
    model = small.settings.make_model(train, test)
    history = small.settings.fit(model, train, test, backend=get_backend(dtype="float64"))
    assert content["weights_sha256"] == model.sha256()
    for name, column in content["log"].items():
        assert name == "seconds" or column == history.column(name)


def test_a_reproducible_result_names_its_arithmetic(small, tmp_path):
    """As docs/versions.md says; a native one has none."""
    exact = small.replaced(reproducible=True)
    content = execute(exact, fingerprint(exact))
    path = tmp_path / exact.file_name(fingerprint(exact))
    write_result(path, content)
    assert read_result(path).machine["arithmetic"] == ARITHMETIC
    assert "arithmetic" not in execute(small, fingerprint(small))["machine"]


def test_a_file_gives_back_every_digit(small, tmp_path):
    content = execute(small, fingerprint(small))
    path = tmp_path / small.file_name(fingerprint(small))
    write_result(path, content)
    result = read_result(path)
    assert result.log == content["log"]
    assert result.job == small.replaced(data=Job(Settings()).source.data, loss="cross_entropy")
    assert str(tmp_path) not in path.read_text()


def test_a_result_of_before_initializers_were_a_setting(small, tmp_path):
    """They were drawn by he_normal, and the names of the files are still the same."""
    asked = small.replaced(init="he_normal")
    content = execute(asked, fingerprint(asked))
    del content["run"]["init"]
    path = tmp_path / "result.json"
    write_result(path, content)
    plain = Job(Settings()).source.data
    assert read_result(path).job == asked.replaced(data=plain, loss="cross_entropy")
    assert "init" not in asked.identity()
    assert small.identity() == {**asked.identity(), "init": "uniform"}


def test_a_name_tells_what_was_run_and_nothing_else(small, folder, tmp_path):
    name = small.file_name("data")
    assert name.startswith("relu-6-SGD-lr=0.5")
    assert small.replaced(data="elsewhere").file_name("data") == name
    assert small.replaced(hidden=" 6").file_name("data") == name
    assert small.file_name("other data") != name
    changes = {
        "hidden": "7",
        "activation": "swish",
        "init": "he_normal",
        "optimizer": "sgd:lr=0.4",
        "loss": "mean_squared_error",
        "flood": 0.1,
        "weight_decay": 0.1,
        "batch_norm": True,
        "dropout": 0.5,
        "schedule": "cosine",
        "warmup": 1.0,
        "clip_norm": 1.0,
        "class_weight": "balanced",
        "epochs": 3,
        "batch_size": 10,
        "seed": 11,
        "backend": "torch",
        "device": "cpu",
        "dtype": "float32",
        "reproducible": True,
        "environment": {"OPENBLAS_CORETYPE": "Haswell"},
        "parts": {"own.py": "0" * 64},
        "metrics": "f1",
        "patience": 2,
        "validation": 0.2,
        "normalize": "standard",
        "normalize_target": "standard",
    }
    # how the data are read shows in their fingerprint
    assert changes.keys() == small.as_dict().keys() - {*SHARED} | {"validation"}
    read = {"validation": "other", "target": 3, "header": True, "weights": "w", "ignore": "a"}
    for field, value in read.items():
        assert small.replaced(**{field: value}).file_name("data") == name
    names = {small.replaced(**{k: v}).file_name("data") for k, v in changes.items()}
    assert len(names | {name}) == 1 + len(changes)
    # of a part, what it is and not where it lies
    names.add(small.replaced(parts={"elsewhere.py": "0" * 64}).file_name("data"))
    assert len(names | {name}) == 1 + len(changes)
    assert all(len(name) < 130 for name in names)


def test_a_parameter_without_a_number(small, kept):
    """An activation of one's own may have a default that isn't a number."""

    def soft(u, *, xp, limit=None, sharp=True):
        return u, lambda dz: dz

    xpnn.activations.register(soft)
    assert small.replaced(activation="soft").file_name("data").startswith("soft-sharp=1-6-SGD")


def test_the_fingerprint_is_that_of_the_data(folder, tmp_path):
    same = load_data(Source(str(write_folder(tmp_path / "gzipped", ".gz"))))[2]
    assert load_data(Source(str(folder)))[2] == same
    assert load_data(Source(str(write_folder(tmp_path / "more", counts=(61, 30)))))[2] != same


def test_other_data_are_refused(small):
    with pytest.raises(DataError, match="are not those of the study"):
        execute(small, "0" * 64)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[: len(text) // 2],
        lambda text: text.replace("0.", "1.", 1),
        lambda text: "[]",
        lambda text: "null",
        lambda text: "{}",
        lambda text: "\0" * len(text),
        lambda text: text.replace('"format":1', '"format":2'),
    ],
)
def test_damage_is_seen(small, tmp_path, damage):
    path = tmp_path / "result.json"
    write_result(path, execute(small, fingerprint(small)))
    text = path.read_text()
    assert damage(text) != text
    path.write_text(damage(text))
    with pytest.raises(DataError, match=r"result\.json is damaged"):
        read_result(path)


def test_a_file_that_is_not_text_is_damaged(tmp_path):
    path = tmp_path / "result.json"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="is damaged"):
        read_result(path)


def test_a_process_gives_the_same(small):
    told = []
    ours = execute(small, fingerprint(small))
    theirs = Processes().execute(small, fingerprint(small), told.append)
    assert theirs["weights_sha256"] == ours["weights_sha256"]
    assert told == [0, 1, 2]


def test_a_process_has_its_environment_from_the_start(small):
    run = small.replaced(environment={"OPENBLAS_NUM_THREADS": "1"})
    pinned = threads_for(jobs=1, cores=3)
    assert Processes(pinned).execute(small, fingerprint(small))["machine"]["threads"] == "3"
    assert Processes(pinned).execute(run, fingerprint(run))["machine"]["threads"] == "1"


@pytest.mark.parametrize(("jobs", "cores", "threads"), [(1, 8, 8), (2, 8, 4), (3, 8, 2), (4, 2, 1)])
def test_jobs_times_threads_fit_the_cores(jobs, cores, threads):
    assert set(threads_for(jobs, cores).values()) == {str(threads)}


def test_jax_takes_its_share_of_the_cores():
    """Its pool's threads are named by what they do; each is one that the kernel knows."""
    program = (
        "import os, jax; jax.numpy.ones((300, 300)).dot(jax.numpy.ones((300, 300)))"
        ".block_until_ready(); names = [open(f'/proc/self/task/{t}/comm').read().strip() for t in"
        " os.listdir('/proc/self/task')]; print(sum('XLAEigen' in n for n in names))"
    )
    counts = [
        subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | threads_for(jobs=1, cores=count),
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for count in (1, 5)
    ]
    assert counts == ["1", "5"]


def test_a_process_keeps_the_path_of_its_environment(small, tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import os\nos.environ['OMP_NUM_THREADS'] = '7'")
    variables = {"PYTHONPATH": str(tmp_path), "OPENBLAS_NUM_THREADS": ""}
    job = small.replaced(environment=variables)
    assert Processes().execute(job, fingerprint(job))["machine"]["threads"] == "7"


def test_a_process_takes_no_module_from_the_working_folder(small, tmp_path, monkeypatch):
    (tmp_path / "csv.py").write_text("raise SystemExit(3)")
    monkeypatch.chdir(tmp_path)
    assert Processes().execute(small, fingerprint(small))["data"] == fingerprint(small)


def test_a_failed_run_says_why(small):
    run = small.replaced(optimizer="sgd:lr=1e200")
    with pytest.raises(DivergenceError) as here:
        execute(run, fingerprint(run))
    with pytest.raises(RunError) as there:
        Processes().execute(run, fingerprint(run))
    assert str(there.value) == " ".join(str(here.value).split())
    assert isinstance(there.value, XpnnError)


def kill(processes):
    (process,) = processes._alive
    os.kill(process.pid, signal.SIGKILL)


def test_a_killed_process_is_started_again(small):
    processes, killed = Processes(), []

    def progress(epoch):
        if epoch == 1 and not killed:
            killed.append(epoch)
            kill(processes)

    run = small.replaced(epochs=300)
    content = processes.execute(run, fingerprint(run), progress)
    assert killed
    assert content["weights_sha256"] == execute(run, fingerprint(run))["weights_sha256"]
    assert not processes._alive


def test_a_process_that_always_dies_fails_its_run(small):
    processes, starts = Processes(), []

    def progress(epoch):
        if epoch == 0:
            starts.append(epoch)
            kill(processes)

    with pytest.raises(RunError, match=f"ended {ATTEMPTS} times, the last time with status -9"):
        processes.execute(small.replaced(epochs=100_000), fingerprint(small), progress)
    assert len(starts) == ATTEMPTS


def test_the_end_of_a_study_ends_its_processes(small):
    processes, raised = Processes(), []
    started = threading.Event()

    def work():
        try:
            run = small.replaced(epochs=10_000_000)
            processes.execute(run, fingerprint(run), lambda epoch: started.set())
        except StoppedError as error:
            raised.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    assert started.wait(60)
    processes.end()
    thread.join(60)
    assert raised
    assert not processes._alive


def test_a_process_ends_with_its_parent(small):
    """Its standard input is all that tells it; here it is closed as by a death of the parent."""
    import subprocess
    import sys

    process = subprocess.Popen(
        [sys.executable, "-c", "from xpnn.study.worker import main; main()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment(),
    )
    job = small.replaced(epochs=10_000_000).as_dict()
    order = {"job": job, "fingerprint": fingerprint(small), "max_bytes": None}
    process.stdin.write(json.dumps(order).encode() + b"\n")
    process.stdin.flush()
    assert process.stdout.readline() == b'{"epoch": 0}\n'
    process.stdin.close()
    begun = time.monotonic()
    assert process.wait(60) == 1
    assert time.monotonic() - begun < 60
    process.stdout.close()


@pytest.mark.parametrize("kind", ["names", "values", "npz", "idx", "weights", "other file"])
def test_a_job_does_what_the_command_does(kind, here):
    """The cell of a study is the model that `xpnn train` gives with the same options."""
    source, options = {"validation": 0.2}, ["--validation", 0.2]
    if kind == "names":
        source["data"] = str(write_table(here / "t.csv"))
        source |= {"target": "kind", "ignore": "a", "normalize": "minmax"}
        options += ["--target", "kind", "--ignore", "a", "--normalize", "minmax"]
    elif kind == "values":
        source["data"] = str(write_table(here / "t.csv", VALUES))
        source["normalize_target"] = "minmax"
        options += ["--normalize-target", "minmax", "--optimizer", "adam"]
        source["optimizer"] = "adam"
    elif kind == "npz":
        np.savez(here / "d.npz", X=FLOWERS, y=CODES + 5)
        source["data"] = "d.npz"
    elif kind == "idx":
        source["data"] = str(write_folder(here / "d"))
        for path in (here / "d").glob("t10k*"):
            path.unlink()
    elif kind == "weights":
        rows = [[*x, n, t] for x, n, t in zip(FLOWERS, COUNTS, NAMES, strict=True)]
        source["data"] = str(write_rows(here / "w.csv", rows, [*COLUMNS, "n", "kind"]))
        source["weights"] = "n"
        options += ["--weights", "n"]
    else:
        source["data"] = str(write_table(here / "t.csv", rows=slice(0, None, 2)))
        source["validation"] = str(write_table(here / "v.csv", rows=slice(1, None, 2)))
        options[1] = source["validation"]
    job = Job.from_dict({**SMALL, **source, "seed": 3})
    content = execute(job, fingerprint(job))
    settings = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items()]
    assert run("train", source["data"], *settings, *options, "--seed", 3, "--save", "m",
               "--quiet") == 0  # fmt: skip
    assert content["weights_sha256"] == xpnn.load("m").sha256()
    # read back, it is the result of the same job
    write_result(here / "r.json", content)
    assert read_result(here / "r.json").job.key == job.key
    assert str(here) not in (here / "r.json").read_text()


def test_the_fingerprint_holds_how_a_table_is_read(here):
    rows = [[*x, n, t] for x, n, t in zip(FLOWERS, COUNTS, NAMES, strict=True)]
    path = str(write_rows(here / "w.csv", rows, [*COLUMNS, "n", "kind"]))
    ways = (
        {},
        {"ignore": "n"},
        {"ignore": "n,a"},
        {"weights": "n"},
        {"target": "d", "ignore": "kind"},
        {"ignore": "n", "validation": path},
    )
    found = {load_data(Source(path, **given))[2] for given in ways}
    assert len(found) == 6
    same = load_data(Source(path, target="kind", header=True, validation=0.5, normalize="minmax"))
    assert same[2] in found
    # the same numbers in another kind of file
    np.savez(here / "d.npz", x=np.column_stack([FLOWERS, COUNTS]), y=NAMES)
    assert load_data(Source("d.npz"))[2] == load_data(Source(path))[2]

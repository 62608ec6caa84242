"""The `xpnn` command, in this process and in others."""

import csv
import math
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import xpnn
from tests.helpers import SMALL, command, environment, run, started, write_folder, write_idx
from xpnn.backends import BACKENDS

HEADER = "epoch,train_accuracy,train_loss,test_accuracy,test_loss,seconds"


@pytest.fixture(params=["", ".gz"], ids=["plain", "gzipped"])
def any_folder(request, tmp_path):
    return write_folder(tmp_path / "data", request.param)


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_what_a_run_prints_and_writes(any_folder, tmp_path, capsys):
    log, plot, model = tmp_path / "run.csv", tmp_path / "run.png", tmp_path / "run.safetensors"
    pytest.importorskip("matplotlib")
    files = ["--log", log, "--plot", plot, "--save", model]
    assert run("train", any_folder, *SMALL, "--epochs", 4, "--digits", "all", *files) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    data, target, *lines = captured.out.splitlines()
    assert (data.split()[0], target.split()[0]) == ("data", "target:")

    assert [line.split() for line in lines[:5]] == [
        ["layer", "kind", "inputs", "outputs", "parameters"],
        ["dense1", "dense", "16", "6", "102"],
        ["relu1", "relu", "6", "6", "0"],
        ["dense2", "dense", "6", "3", "21"],
        ["total", "16", "3", "123"],
    ]
    rows = read(log)
    assert log.read_text().splitlines()[0] == HEADER
    assert lines[5:10] == [" ".join(list(row.values())[:5]) for row in rows]
    for row in rows:
        figures = list(row.values())[1:]
        assert [repr(float(figure)) for figure in figures] == figures
    assert [row["epoch"] for row in rows] == ["0", "1", "2", "3", "4"]

    accuracies = [float(row["test_accuracy"]) for row in rows]
    best = max(accuracies)
    assert re.fullmatch(r"time \d+\.\d s", lines[10])
    assert lines[11] == f"best test accuracy {best!r} at epoch {accuracies.index(best)}"
    assert len(lines) == 15
    for line, level in zip(lines[12:], (95, 97, 98), strict=True):
        reached = [i for i, value in enumerate(accuracies) if value >= level / 100]
        when = f"first reached at epoch {reached[0]}" if reached else "not reached"
        assert line == f"test accuracy {level} % {when}"

    assert plot.read_bytes().startswith(b"\x89PNG")
    loaded = xpnn.load(model)
    _, test = xpnn.datasets.read_idx_folder(any_folder)
    evaluation = xpnn.evaluate(loaded, test)
    assert (repr(evaluation.accuracy), repr(evaluation.loss)) == (
        rows[-1]["test_accuracy"],
        rows[-1]["test_loss"],
    )


def test_levels_that_were_reached(folder, capsys):
    assert run("train", folder, "--hidden", "", "--epochs", 30, "--batch-size", 10) == 0
    lines = capsys.readouterr().out.splitlines()
    epochs = [int(line.rpartition(" ")[2]) for line in lines[-3:] if "first reached" in line]
    assert len(epochs) == 3
    assert epochs == sorted(epochs)
    best = float(lines[-4].split()[3])
    assert best == 1.0


def test_the_command_and_the_library_do_the_same(folder, tmp_path):
    log = tmp_path / "run.csv"
    options = "--activation h_swish:n=5 --optimizer nesterov:lr=0.2,mu=0.8 --flood 0.25"
    options += " --weight-decay 0.001 --seed 4 --dtype float64 --hidden 7,5 --epochs 3"
    options += f" --loss cross_entropy --batch-size 25 --quiet --log {log}"
    assert run("train", folder, *options.split()) == 0
    train, test = xpnn.datasets.read_idx_folder(folder)
    history = xpnn.fit(
        xpnn.Sequential(
            xpnn.Dense(7),
            xpnn.Activation("h_swish", n=5),
            xpnn.Dense(5),
            xpnn.Activation("h_swish", n=5),
            xpnn.Dense(3),
        ),
        train,
        validation=test,
        loss=xpnn.Flooding(xpnn.CrossEntropy(), b=0.25),
        optimizer=xpnn.Nesterov(lr=0.2, mu=0.8, weight_decay=0.001),
        epochs=3,
        batch_size=25,
        seed=4,
        dtype="float64",
    )
    assert [list(row.values())[:5] for row in read(log)] == [
        list(map(repr, row[:5])) for row in history
    ]


def test_quiet_prints_nothing(folder, tmp_path, capfd):
    log = tmp_path / "run.csv"
    assert run("train", folder, *SMALL, "--quiet", "--log", log) == 0
    assert capfd.readouterr() == ("", "")
    assert len(read(log)) == 3


@pytest.mark.parametrize("reproducible", [False, True])
def test_hashes_are_those_of_the_weights(reproducible, folder, tmp_path, capsys):
    log = tmp_path / "run.csv"
    options = [*SMALL, "--hash", "--log", log, *(["--reproducible"] if reproducible else [])]
    hashes = {}
    for epochs in (0, 1, 2):
        path = tmp_path / f"{epochs}.safetensors"
        assert run("train", folder, *options, "--epochs", epochs, "--save", path) == 0
        hashes[epochs] = xpnn.load(path).sha256()
    assert log.read_text().splitlines()[0] == HEADER + ",weights_sha256"
    assert [row["weights_sha256"] for row in read(log)] == list(hashes.values())
    assert len(set(hashes.values())) == 3
    lines = [line for line in capsys.readouterr().out.splitlines() if re.match(r" +\d ", line)]
    assert [line.split()[-1] for line in lines[-3:]] == list(hashes.values())


def test_no_epochs_are_row_0_alone(folder, tmp_path, capsys):
    log = tmp_path / "run.csv"
    assert run("train", folder, "--epochs", 0, "--log", log) == 0
    assert [row["epoch"] for row in read(log)] == ["0"]


def test_backends_are_listed(capsys):
    assert run("backends") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["backend", "version", "devices", "BLAS"]
    assert [line.split()[0] for line in lines[1:]] == list(BACKENDS)
    row = lines[1].split()
    assert row[:3] == ["numpy", np.__version__, "cpu"]


def test_a_missing_backend_is_listed_with_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert run("backends") == 0
    (line,) = [x for x in capsys.readouterr().out.splitlines() if x.startswith("torch")]
    assert "not installed" in line
    assert line.endswith("pip install torch")


def test_the_module_runs_as_the_command(folder, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "xpnn", "train", str(folder), *SMALL],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment(),
        check=True,
    )
    assert re.search(r"^ +2( +\S+){4}$", done.stdout, re.MULTILINE)
    # no progress bar where there is no terminal
    assert done.stderr == ""


def test_version_and_help(capsys):
    assert run("--version") == 0
    assert capsys.readouterr().out == f"xpnn {xpnn.__version__}\n"
    assert run("train", "--help") == 0
    text = capsys.readouterr().out
    assert all(f"--{name}" in text for name in ("log", "hash", "weight-decay", "batch-size"))


def only_line(capsys):
    """Return the one line on stderr."""
    err = capsys.readouterr().err
    assert err.count("\n") == 1, err
    assert err.endswith("\n")
    assert "Traceback" not in err
    assert re.match(r"xpnn( \w+)?: error: ", err)
    return err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--activation", "h_swich"], r"unknown activation 'h_swich'; did you mean 'h_swish'\?"),
        (["--activation", "h_swish:k=6"], r"unknown parameter of activation 'h_swish'.*'k'"),
        (["--activation", "relu6:cap=0"], r"cap .*must be a finite number > 0, got 0"),
        (["--optimizer", "nestrov"], r"unknown optimizer 'nestrov'; did you mean 'nesterov'\?"),
        (["--optimizer", "sgd:momentum=1"], r"unknown parameter of optimizer 'sgd'.*'momentum'"),
        (["--optimizer", "sgd:lr=-0.1"], r"lr must be a finite number > 0, got -0.1"),
        (["--optimizer", "sgd:lr=0"], r"lr must be a finite number > 0, got 0"),
        (["--optimizer", "sgd:lr=nan"], r"lr must be a finite number > 0, got nan"),
        (["--optimizer", "adam:lr=inf"], r"lr must be a finite number > 0, got inf"),
        (["--optimizer", "sgd:lr=big"], r"lr of optimizer 'sgd' must be a number, got 'big'"),
        (["--loss", "crossentropy"], r"unknown loss 'crossentropy'; did you mean 'cross_entropy'"),
        (["--flood", "-0.01"], r"flood must be a finite number >= 0, got -0.01"),
        (["--flood", "nan"], r"flood must be a finite number >= 0, got nan"),
        (["--flood", "deep"], r"--flood: .*'deep'"),
        (["--weight-decay", "-1"], r"weight_decay must be a finite number >= 0, got -1"),
        (["--batch-size", "0"], r"batch_size must be a whole number >= 1, got 0"),
        (["--batch-size", "1.5"], r"--batch-size: .*'1.5'"),
        (["--epochs", "-1"], r"epochs must be a whole number >= 0, got -1"),
        (["--seed", "-1"], r"seed must be a whole number >= 0.*, got -1"),
        (["--hidden", "10,-3"], r"hidden must be whole numbers such as 100,50, got '10,-3'"),
        (["--dtype", "float16"], r"unknown dtype 'float16'.*float32, float64"),
        (["--backend", "tensorflow"], r"unknown backend 'tensorflow'.*numpy, cupy, torch, jax"),
        (["--backend", "nunpy"], r"unknown backend 'nunpy'; did you mean 'numpy'\?"),
        (["--device", "cuda:0"], r"backend 'numpy' has no device 'cuda:0' \(devices here: cpu\)"),
        (["--log", "{missing}/run.csv"], r"log must be a file .*: there is no folder"),
        (["--log", "{tmp}"], r"log must be a file .*: it is a folder"),
        (["--save", "{missing}/a"], r"save must be a file .*: there is no folder"),
        (["--save", "{tmp}"], r"save must be a file .*: it is a folder"),
        (["--plot", "{missing}/a.png"], r"plot must be a file .*: there is no folder"),
        (["--plot", "{tmp}/a.xyz"], r"plot must be a file that ends in .*png"),
        (["--unknown"], r"unrecognized arguments: --unknown"),
        (["--epoch", "3"], r"unrecognized arguments: --epoch 3"),
    ],
)
def test_wrong_options_take_one_line(options, message, folder, tmp_path, capsys):
    named = {"missing": tmp_path / "missing", "tmp": tmp_path}
    options = [option.format(**named) for option in options]
    before = sorted(tmp_path.rglob("*"))
    assert run("train", folder, *options) == 2
    assert re.search(message, only_line(capsys))
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["fly"],
        ["train"],
        ["--vers"],
        ["study", "report", "runs", "--hel"],
        ["show", "m", "--p"],
    ],
)
def test_wrong_commands_take_one_line(options, capsys):
    assert run(*options) == 2
    only_line(capsys)


@pytest.mark.parametrize("name", ["torch", "jax", "cupy", "strict"])
def test_a_backend_that_is_not_installed(name, monkeypatch, folder, capsys):
    monkeypatch.setitem(sys.modules, BACKENDS[name].module, None)
    assert run("train", folder, "--backend", name) == 2
    message = rf"backend '{name}' is not installed; install it with: pip install"
    assert re.search(message, only_line(capsys))


@pytest.mark.parametrize(
    ("variable", "options", "message"),
    [
        ({"JAX_PLATFORMS": "tpu"}, ["--backend", "jax"], "backend 'jax' has no device: "),
        ({"MPLBACKEND": "odd"}, ["--plot", "p.png"], "matplotlib can't be imported: .*'odd'"),
    ],
)
def test_a_variable_that_a_library_refuses_is_no_fault_of_ours(variable, options, message, folder):
    pytest.importorskip("jax" if "JAX_PLATFORMS" in variable else "matplotlib")
    code = "import sys; from xpnn.cli import main; sys.exit(main(sys.argv[1:]))"
    argv = [sys.executable, "-c", code, "train", folder, "--epochs", "0", *options]
    ended = subprocess.run(
        list(map(str, argv)), capture_output=True, text=True, env=environment(**variable)
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert re.fullmatch(f"xpnn: error: {message}.*\n", ended.stderr)


@pytest.mark.parametrize("name", ["torch", "jax", "strict"])
def test_a_device_that_is_not_there(name, folder, capsys):
    pytest.importorskip(BACKENDS[name].module)
    assert run("train", folder, "--backend", name, "--device", "cuda:99") == 2
    assert f"backend {name!r} has no device 'cuda:99' (devices here: cpu" in only_line(capsys)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_log_that_is_read_only(folder, tmp_path, capsys):
    log = tmp_path / "run.csv"
    log.touch(mode=0o400)
    assert run("train", folder, "--log", log) == 2
    assert "permission denied" in only_line(capsys)


IMAGES, LABELS = "train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: f.rename(f.with_name("elsewhere")), r"no file or folder .*data"),
        (lambda f: (f / IMAGES).unlink(), rf"no {IMAGES} .* in .*data"),
        (lambda f: (f / LABELS).unlink(), rf"no {LABELS} .* in .*data"),
        (lambda f: os.truncate(f / IMAGES, 500), rf"{IMAGES} must have 976 bytes .*got 500"),
        (lambda f: os.truncate(f / LABELS, 7), rf"{LABELS} is cut off in its header"),
        (lambda f: os.truncate(f / LABELS, 0), rf"{LABELS} is not an IDX file"),
        (lambda f: (f / LABELS).write_bytes(b"P5 28"), rf"{LABELS} is not an IDX file"),
        (lambda f: (f / IMAGES).rename(f / LABELS), rf"no {IMAGES}"),
        (
            lambda f: (f / LABELS).write_bytes((f / IMAGES).read_bytes()),
            rf"{LABELS} must hold labels, 1-dimensional",
        ),
        (
            lambda f: write_idx(f / LABELS, np.zeros(29, np.uint8)),
            rf"holds 30 images, but .*{LABELS} 29 labels",
        ),
        (
            lambda f: (f / IMAGES).rename(f / f"{IMAGES}.gz").write_bytes(b"\x1f\x8b\x08half"),
            r"damaged gzip file",
        ),
        (lambda f: write_folder(f, counts=(0, 30)), r"train.x must hold at least one value"),
    ],
)
def test_damaged_data_take_one_line(spoil, message, folder, tmp_path, capsys):
    spoil(folder)
    log = tmp_path / "run.csv"
    assert run("train", folder, "--log", log) == 2
    assert re.search(message, only_line(capsys))
    assert not log.exists()


@pytest.mark.parametrize("options", [[], ["--quiet"]])
def test_a_loss_that_becomes_nan_keeps_the_log(options, folder, tmp_path, capsys):
    log = tmp_path / "run.csv"
    wild = ["--optimizer", "sgd:lr=1e30", "--log", log]
    assert run("train", folder, *SMALL, *wild, *options) == 2
    line = only_line(capsys)
    assert re.search(r"the loss became (nan|inf) at epoch 1, in (batch \d|the evaluation)", line)
    rows = read(log)
    assert [row["epoch"] for row in rows] == ["0"]
    assert math.isfinite(float(rows[0]["test_loss"]))


def whole_rows(log):
    text = log.read_text()
    assert text.endswith("\n")
    assert text.startswith(HEADER + "\n")
    rows = [list(map(float, line.split(","))) for line in text.splitlines()[1:]]
    assert [row[0] for row in rows] == list(range(len(rows)))
    assert {len(row) for row in rows} == {6}
    return rows


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
def test_ctrl_c_keeps_what_there_is(folder, tmp_path):
    pytest.importorskip("matplotlib")
    plot, model = tmp_path / "run.png", tmp_path / "run.safetensors"
    process, log = started(folder, tmp_path, "--plot", plot, "--save", model)
    try:
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    rows = whole_rows(log)
    # the interrupt waits until the history and the log have the same rows
    ends = f"; kept: {log}, {model}, {plot}\n"
    assert err == f"xpnn: interrupted after epoch {len(rows) - 1}{ends}"
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert xpnn.load(model).outputs(16) == 3


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
def test_a_killed_run_leaves_whole_rows(folder, tmp_path):
    process, log = started(folder, tmp_path)
    process.kill()
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert len(whole_rows(log)) >= 4


@pytest.mark.skipif(os.name != "posix", reason="pipes are POSIX's")
def test_a_reader_that_goes_away(folder):
    process = command("train", folder, *SMALL, "--epochs", 10**6, start=subprocess.Popen)
    try:
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(timeout=60) == 1
        assert process.stderr.read() == ""
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--log", "{0}/a.csv", "--save", "{0}/a.csv"], "log and save must be different files"),
        (["--plot", "{0}/a.png", "--save", "{0}/./a.png"], "plot and save must be different"),
        (["--save", "{0}/data/train-images-idx3-ubyte"], "save must not be in the data's folder"),
    ],
)
def test_an_output_overwrites_neither_another_nor_the_data(
    options, message, folder, tmp_path, capsys
):
    before = {path: path.read_bytes() for path in folder.iterdir()}
    assert run("train", folder, *SMALL, *(option.format(tmp_path) for option in options)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_log_that_does_not_fit_is_named_and_the_model_kept(folder, tmp_path, capsys):
    model = tmp_path / "model.safetensors"
    assert run("train", folder, *SMALL, "--quiet", "--log", "/dev/full", "--save", model) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(r"can't write log '/dev/full': No space left", line)


@pytest.mark.parametrize("options", [[], ["--no-restore-best"]])
def test_early_stopping_keeps_the_best_weights_or_the_last(options, folder, tmp_path, capsys):
    log, model = tmp_path / "run.csv", tmp_path / "m"
    wild = [*SMALL, "--optimizer", "sgd:lr=4", "--epochs", 60, "--patience", 3, *options]
    assert run("train", folder, *wild, "--hash", "--log", log, "--save", model) == 0
    assert "stopped after epoch" in capsys.readouterr().out
    hashes = [row["weights_sha256"] for row in read(log)]
    assert xpnn.load(model).sha256() == (hashes[-1] if options else hashes[-4])


def test_weights_that_diverged_are_not_kept_as_the_last(folder, tmp_path, capsys):
    for options in ([], ["--no-restore-best"]):
        model = tmp_path / f"m{len(options)}"
        wild = ["--hidden", "", "--loss", "mean_squared_error", "--optimizer", "sgd:lr=20"]
        wild += ["--batch-size", 20, "--patience", 60, "--quiet", *options]
        assert run("train", folder, *wild, "--save", model) == 2
        assert "the loss became" in only_line(capsys)
        assert model.exists() == (not options)


def test_help_names_every_parameter(capsys):
    assert run("train", "--help") == 0
    text = " ".join(capsys.readouterr().out.split())
    for parameter in ("lr=0.01,mu=0.9", "rho=0.99", "negative_slope=0.01", "floor=1e-07"):
        assert parameter in text

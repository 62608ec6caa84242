"""The files of a command: refused before a training, kept after it, and pipes in their place."""

import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

import xpnn
from tests.helpers import run
from xpnn.study.results import check_own

pytestmark = pytest.mark.skipif(os.name != "posix", reason="pipes and links are POSIX's")

QUICK = ["--hidden", "4", "--epochs", "2", "--seed", "1", "--quiet"]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The working folder, with a table."""
    rng = np.random.default_rng(0)
    rows = [f"{a:.3f},{b:.3f},{int(a > b)}" for a, b in rng.standard_normal((40, 2))]
    (tmp_path / "d.csv").write_text("\n".join(["a,b,label", *rows]) + "\n")
    (tmp_path / "my.py").write_text("import xpnn\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def shell(script, **options):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    script = script.replace("xpnn ", f"{sys.executable} -m xpnn ")
    return subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, timeout=120, env=environment,
        **options,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["d.csv", "--save", ""], "save must be a path, got ''"),
        (["d.csv", "--log", ""], "log must be a path, got ''"),
        (["d.csv", "--plot", ""], "plot must be a path, got ''"),
        (["d.csv", "--tensorboard", ""], "tensorboard must be a path, got ''"),
        (["d.csv", "--checkpoint", ""], "checkpoint must be a path, got ''"),
        (["d.csv", "--resume", ""], "resume must be a path, got ''"),
        (["d.csv", "--validation", ""], "validation must be a path, got ''"),
        ([""], "data must be a path, got ''"),
        (["d.csv", "--save", "-"], "save must be a file, got '-'; write ./- for a file"),
        (["d.csv", "--parts", "my.py", "--log", "my.py"], "log and parts must be different"),
        (["d.csv", "--parts", "my.py", "--save", "soft"], "save and parts must be different"),
        (["d.csv", "--log", "hard"], "log and data must be different files"),
        (["d.csv", "--log", "new", "--save", "dangling"], "log and save must be different files"),
        (["d.csv", "--checkpoint", "k", "--save", "k.previous"], "save and checkpoint must be"),
        (["k.damaged", "--checkpoint", "k"], "checkpoint and data must be different files"),
        (["d.csv", "--resume", "old", "--log", "old.previous"], "'old.previous': a checkpoint old"),
        (["d.csv", "--resume", "new", "--log", "new.previous"], "log and resume must be different"),
        (["d.csv", "--checkpoint", "old.previous"], "'old.previous': a checkpoint old keeps older"),
        (["d.csv", "--checkpoint", "old.damaged"], "'old.damaged': a checkpoint old keeps older"),
        (["d.csv", "--checkpoint", "to_previous"], "'to_previous': a checkpoint old keeps older"),
        (["d.csv", "--checkpoint", "k"], "new file, .*k.damaged', which is there already: resume"),
        (["d.csv", "--save", "old.previous"], "'old.previous': a checkpoint old keeps older ones"),
        (["d.csv", "--plot", "old.previous"], "'old.previous': a checkpoint old keeps older ones"),
        (["d.csv", "--save", "away/m"], "save must be a file that can be written, got 'away/m'"),
        (["d.csv", "--save", "lost"], "save must be a file .*there is no folder"),
    ],
)
def test_it_is_refused_and_nothing_changes(options, message, place, capsys):
    (place / "soft").symlink_to("my.py")
    (place / "dangling").symlink_to("new")
    (place / "lost").symlink_to("no/where")
    (place / "k.damaged").write_text("mine")
    (place / "old").write_text("mine")
    (place / "to_previous").symlink_to("old.previous")
    os.link("d.csv", "hard")
    before = {path.name: path.read_bytes() for path in place.iterdir() if path.exists()}
    assert run("train", *options, *QUICK) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert re.search(message, err)
    assert {path.name: path.read_bytes() for path in place.iterdir() if path.exists()} == before


@pytest.mark.parametrize("name", ["n" * 246, "n" * 255, "日" * 85])
def test_a_long_name(name, place, capsys):
    assert run("train", "d.csv", *QUICK, "--save", name, "--checkpoint", f"{name[:60]}.k") == 0
    assert capsys.readouterr().err == ""
    assert xpnn.load(name).sha256()


def test_a_folder_that_goes_away_takes_nothing_along(place, capsys, monkeypatch):
    """The model is in the working folder then, and the log, which is elsewhere, is whole."""
    (place / "out").mkdir()
    save = xpnn.save

    def gone(model, path):
        if (place / "out").exists():
            # with the lock in it
            shutil.rmtree(place / "out")
        save(model, path)

    monkeypatch.setattr("xpnn.saving.save", gone)
    assert run("train", "d.csv", *QUICK, "--save", "out/m.st", "--log", "run.csv") == 2
    (line,) = capsys.readouterr().err.splitlines()
    found = re.search(r"^xpnn: error: .*there is no folder .*; it is in (m-\w+\.st) instead$", line)
    assert xpnn.load(found[1]).history[-1].epoch == 2
    assert (place / "run.csv").read_text().count("\n") == 4


def test_each_failure_is_said_and_the_others_are_written(place, capsys):
    pytest.importorskip("matplotlib")
    full = ["--save", "/dev/full", "--log", "run.csv", "--plot", "run.png"]
    assert run("train", "d.csv", *QUICK, *full) == 2
    (line,) = capsys.readouterr().err.splitlines()
    found = re.search(r"can't write model '/dev/full': No space.*; it is in (\S+) instead", line)
    assert xpnn.load(found[1]).history[-1].epoch == 2
    assert os.path.getsize("run.png") > 1000
    assert not os.path.exists("/dev/" + found[1])


def test_a_checkpoint_that_fails_loses_no_row_of_the_log(place, capsys):
    options = ["--checkpoint", "/dev/full", "--log", "run.csv"]
    assert run("train", "d.csv", *QUICK, *options) == 2
    assert "can't write checkpoint '/dev/full': No space" in capsys.readouterr().err
    assert (place / "run.csv").read_text().count("\n") == 2


def test_two_logs_that_fail_are_both_said(place, capsys):
    assert run("train", "d.csv", *QUICK, "--checkpoint", "/dev/full", "--log", "/dev/full") == 2
    lines = sorted(capsys.readouterr().err.splitlines())
    assert [line.partition(" '")[0] for line in lines] == [
        "xpnn: error: can't write checkpoint",
        "xpnn: error: can't write log",
    ]


def test_a_log_that_vanishes_is_written_again(place):
    class Remove(xpnn.Callback):
        def on_epoch(self, epoch):
            if epoch.epoch == 2:
                os.remove("run.csv")

    x = np.random.default_rng(0).standard_normal((20, 3))
    model = xpnn.Sequential(xpnn.Dense(2))
    log = xpnn.CSVLogger("run.csv")
    xpnn.fit(model, x, (x[:, 0] > 0).astype(int), epochs=4, callbacks=[log, Remove()])
    assert [row.epoch for row in xpnn.callbacks.read_log("run.csv")] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("option", ["log", "checkpoint"])
def test_two_runs_on_one_file(option, place):
    """The first waits in a callback until the second one has been refused."""
    script = f"""
        (xpnn train d.csv --hidden 4 --epochs 100000 --quiet --{option} file & echo $! > pid; wait)&
        while [ ! -s file ]; do sleep 0.1; done
        xpnn train d.csv --hidden 4 --epochs 3 --quiet --{option} file; echo "status $?"
        kill -9 $(cat pid)
    """
    found = shell(script, cwd=place)
    assert found.stdout == "status 2\n"
    pid = (place / "pid").read_text().strip()
    assert f"xpnn: error: {option} 'file' is being written by process {pid}: wait" in found.stderr
    # what the killed one left blocks nobody
    again = ["--log", "file", "--epochs", 3]
    if option == "checkpoint":
        done = len(xpnn.training.checkpoint.read("file")[0].history) - 1
        again = ["--checkpoint", "file", "--resume", "file", "--epochs", done + 1]
    assert run("train", "d.csv", "--hidden", 4, "--quiet", *again) == 0


@pytest.mark.parametrize(
    "name", ["report.html", "report.md", "tables.csv", "study.json", "figures"]
)
def test_somebody_else_s_report_is_not_overwritten(name, tmp_path):
    (tmp_path / name).write_text("mine")
    with pytest.raises(xpnn.ArgumentError, match=f"whose {name} no study has written"):
        check_own(tmp_path)
    (tmp_path / "study.json").write_text('{"name": "", "source": "", "experiments": []}')
    check_own(tmp_path)


def test_a_study_needs_a_folder_of_its_own(place, capsys):
    (place / "report.html").write_text("mine")
    (place / "s.toml").write_text('data = "d.csv"\nepochs = 1\n')
    assert run("study", "run", "s.toml", "--out", "") == 2
    assert "out must be a path, got ''" in capsys.readouterr().err
    assert run("study", "run", "s.toml", "--out", ".") == 2
    assert "out must be a new folder or a study's, got '.'" in capsys.readouterr().err
    assert (place / "report.html").read_text() == "mine"


# pipes


@pytest.fixture
def model(place):
    """A model, and rows without their labels."""
    assert run("train", "d.csv", *QUICK, "--save", "m") == 0
    lines = (place / "d.csv").read_text().splitlines()
    (place / "x.csv").write_text("\n".join(line.rpartition(",")[0] for line in lines) + "\n")
    assert run("predict", "m", "x.csv", "--out", "p.csv") == 0
    return place


def test_data_come_through_pipes(model):
    for begin, data in (("cat d.csv |", "-"), ("cat d.csv |", "/dev/stdin"), ("", "<(cat d.csv)")):
        found = shell(f"{begin} xpnn train {data} {' '.join(QUICK)} --save piped", cwd=model)
        assert (found.returncode, found.stderr) == (0, "")
        assert xpnn.load("piped").sha256() == xpnn.load("m").sha256()


def test_an_error_in_a_pipe_names_it_and_the_line(model):
    found = shell(f"(cat d.csv; echo 1) | xpnn train - {' '.join(QUICK)}", cwd=model)
    assert found.returncode == 2
    assert "/dev/stdin, line 42" in found.stderr


def test_predictions_go_through_pipes(model):
    wanted = (model / "p.csv").read_text()
    for script in (
        "cat x.csv | xpnn predict m -",
        "cat x.csv | xpnn predict m /dev/stdin --out /dev/stdout",
        "cat m | xpnn predict - x.csv --out -",
        "xpnn predict m x.csv --out /dev/stdout | cat",
        "mkfifo f; cat f & xpnn predict m x.csv --out f; wait",
    ):
        found = shell(script, cwd=model)
        assert (found.stdout, found.stderr) == (wanted, "")
    for _ in range(2):
        shell("xpnn predict m x.csv --out /dev/stdout >> old.csv", cwd=model)
    assert (model / "old.csv").read_text() == 2 * wanted


def test_a_pipe_that_nobody_writes_to_or_reads_from(model):
    """The other end is opened once the command has said that it waits."""
    script = """
        mkfifo i o
        xpnn train i {options} 2> first & until grep -qs waiting first; do sleep 0.1; done
        cat d.csv > i; wait
        xpnn predict m x.csv --out o 2> second & until grep -qs waiting second; do sleep 0.1; done
        cat o; wait
    """
    found = shell(script.format(options=" ".join(QUICK)), cwd=model)
    assert found.stdout == (model / "p.csv").read_text()
    assert (model / "first").read_text() == "xpnn: waiting for data from i\n"
    assert (model / "second").read_text() == "waiting for somebody to read from the pipe o\n"


def test_class_names_that_utf_8_can_not_hold(place):
    """As those of folders whose names are in another encoding."""
    labels = ["caf\udce9", "日本"]
    x = np.random.default_rng(0).standard_normal((20, 3))
    model = xpnn.Sequential(xpnn.Dense(2))
    xpnn.fit(model, x, np.array(labels)[(x[:, 0] > 0).astype(int)], epochs=1)
    xpnn.save(model, "m")
    assert xpnn.load("m").task.labels.tolist() == labels


def test_a_file_that_another_process_writes_is_no_output(place):
    assert run("train", "d.csv", *QUICK, "--save", "m") == 0
    other = """
import sys
from xpnn._core.files import locked
with locked("log", "a.onnx"):
    print("held", flush=True)
    sys.stdin.read()
"""
    holder = subprocess.Popen(
        [sys.executable, "-c", other], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "held\n"
        for command in (
            ["train", "d.csv", *QUICK, "--save", "a.onnx"],
            ["train", "d.csv", *QUICK, "--log", "a.onnx"],
            ["predict", "m", "d.csv", "--out", "./a.onnx"],
            ["export", "m", "a.onnx"],
        ):
            found = shell("xpnn " + " ".join(command))
            assert found.returncode == 2
            assert f"is being written by process {holder.pid}" in found.stderr
            assert found.stderr.count("\n") == 1
            assert not (place / "a.onnx").exists()
    finally:
        holder.communicate()
    assert run("export", "m", "a.onnx") == 0
    assert not [path for path in place.iterdir() if path.name.startswith(".xpnn")]

"""A study on this machine: what is done, what isn't done again, and what stops it."""

import random
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

import xpnn.study
from tests.helpers import (
    CODES,
    FLOWERS,
    SIX,
    VALUES,
    command,
    failed,
    hashes_of_study,
    read_rows,
    run,
    write_folder,
    write_table,
)
from xpnn.study import read_folder


@pytest.fixture
def data(tmp_path):
    return write_folder(tmp_path / "data")


@pytest.fixture
def six(tmp_path, data):
    path = tmp_path / "six.toml"
    path.write_text(SIX.format(data=data))
    return path


def results(folder):
    """The files of the results in a folder, with when they were written."""
    found, damaged = read_folder(folder)
    assert damaged == []
    return {name: (folder / name).stat().st_mtime_ns for name in found}


def test_a_study_from_beginning_to_end(six, tmp_path, capsys):
    out = tmp_path / "out"
    assert run("study", "run", six, "--out", out, "--jobs", 2) == 0
    captured = capsys.readouterr()
    assert captured.out == f"6 of 6 runs done\nreport: {out}/report.html\n"
    first = results(out)
    assert len(first) == 6
    assert (out / "report.html").is_file()
    assert len((out / "tables.csv").read_text().splitlines()) == 1 + 6 * 6

    assert run("study", "run", six, "--out", out, "--jobs", 2) == 0
    assert results(out) == first

    # a changed setting is a new run, and the others stay
    six.write_text(six.read_text().replace('"sgd:lr=0.5"', '"sgd:lr=0.25"'))
    assert run("study", "run", six, "--out", out) == 0
    second = results(out)
    assert len(second) == 9
    assert first.items() <= second.items()


def test_paths_are_taken(six, data, tmp_path):
    outcome = xpnn.study.run(Path(six), out=tmp_path / "out", data=Path(data), epochs=0)
    assert outcome.finished == 6
    assert len(xpnn.study.read_study(tmp_path / "out")[0].jobs) == 6


@pytest.mark.parametrize("name", ["tables.csv", "report.md"])
def test_an_input_under_the_name_of_a_report_stays(name, six, data, tmp_path, monkeypatch, capsys):
    """The folder is a study's own, so that its report may be replaced."""
    assert run("study", "run", six, "--out", tmp_path, "--epochs", 0, "--quiet") == 0
    write_table(tmp_path / name, y=CODES)
    before = (tmp_path / name).read_bytes()
    monkeypatch.chdir(tmp_path)
    said = failed(capsys, "study", "run", six, "--out", tmp_path, "--data", name)
    assert said == f"out must be another folder, got {str(tmp_path)!r}, in which {name} is read"
    said = failed(capsys, "study", "run", six, "--out", ".", "--validation", name)
    assert said == f"out must be another folder, got '.', in which {name} is read"
    assert (tmp_path / name).read_bytes() == before


def test_a_damaged_file_is_named_and_run_again(six, tmp_path, capsys):
    out = tmp_path / "out"
    xpnn.study.run(str(six), out=out)
    before, hashes = results(out), hashes_of_study(out)
    damaged, *sound = before
    (out / damaged).write_text((out / damaged).read_text()[:-9])
    capsys.readouterr()

    assert run("study", "report", out) == 0
    assert damaged in capsys.readouterr().err
    assert run("study", "run", six, "--out", out) == 0
    error = capsys.readouterr().err
    assert re.fullmatch(rf"xpnn: \S*{re.escape(damaged)} is damaged: .*run is done again\n", error)
    assert hashes_of_study(out) == hashes
    assert {name: results(out)[name] for name in sound} == {n: before[n] for n in sound}


def test_a_failed_run_is_named_and_the_others_finish(six, tmp_path, capsys):
    six.write_text(six.read_text().replace('"sgd:lr=0.5"', '"sgd:lr=1e200"'))
    out = tmp_path / "out"
    assert run("study", "run", six, "--out", out) == 1
    captured = capsys.readouterr()
    assert captured.out.startswith("3 of 6 runs done\n")
    lines = captured.err.splitlines()
    assert len(lines) == 3
    for line in lines:
        assert re.match(r"xpnn: failed: activation=\w+ optimizer=sgd:lr=1e200 .*: .*loss", line)
    assert len(results(out)) == 3


def test_other_data_are_other_runs(six, data, tmp_path):
    out = tmp_path / "out"
    xpnn.study.run(str(six), out=out)
    first = results(out)
    more = write_folder(tmp_path / "more", counts=(90, 30))
    xpnn.study.run(str(six), out=out, data=more)
    second = results(out)
    assert len(second) == 12
    assert first.items() <= second.items()
    xpnn.study.write_report(out)
    theirs = (out / "tables.csv").read_bytes()
    for name in first:
        (out / name).unlink()
    xpnn.study.write_report(out)
    assert (out / "tables.csv").read_bytes() == theirs


def test_the_report_is_of_the_experiments_that_were_run(data, tmp_path, capsys):
    path, out = tmp_path / "mine.toml", tmp_path / "out"
    parts = "".join(
        f'\n[[experiment]]\nname = "{name}"\nseed = {i}' for i, name in enumerate("abc")
    )
    path.write_text(f'data = "{data}"\nhidden = "6"\nepochs = 1{parts}')
    for only, shown in (("b", "b"), ("a", "ab")):
        assert run("study", "run", path, "--out", out, "--only", only) == 0
        lines = (out / "tables.csv").read_text().splitlines()[1:]
        assert {line[0] for line in lines} == set(shown)


def test_repeats_are_done_of_the_runs_that_differ(data, tmp_path, capsys):
    path, out = tmp_path / "mine.toml", tmp_path / "out"
    path.write_text(f"""
        data = "{data}"
        hidden = "6"
        epochs = 1
        [[experiment]]
        name = "one"
        [[experiment.table]]
        published = 149
        rows = [{{ activation = "relu" }}, {{ activation = "swish" }}, {{ activation = "mish" }}]
        [[repeat]]
        reproducible = true
        [[repeat]]
        environment = {{ OPENBLAS_NUM_THREADS = "1" }}
    """)
    assert run("study", "run", path, "--out", out) == 0
    assert len(results(out)) == 3
    assert run("study", "run", path, "--out", out, "--repeats") == 0
    found = [result.job for result in read_folder(out)[0].values()]
    assert len(found) == 9
    assert sum(one.reproducible for one in found) == 3
    assert sum(one.environment == (("OPENBLAS_NUM_THREADS", "1"),) for one in found) == 3
    assert "Cells that differ" in (out / "report.md").read_text()


def one_at_a_time():
    return ThreadPoolExecutor(1)


def spawned():
    return ProcessPoolExecutor(2, mp_context=get_context("spawn"))


@pytest.mark.parametrize("make", [one_at_a_time, spawned])
def test_any_executor_will_do(make, six, tmp_path):
    with make() as executor:
        outcome = xpnn.study.run(str(six), out=tmp_path / "theirs", executor=executor)
    assert (outcome.finished, outcome.failures) == (6, [])
    xpnn.study.run(str(six), out=tmp_path / "ours", jobs=2)
    assert hashes_of_study(tmp_path / "theirs") == hashes_of_study(tmp_path / "ours")


def test_an_environment_is_set_under_any_executor(six, tmp_path):
    six.write_text(six.read_text().replace("epochs = 3", 'environment = {OMP_NUM_THREADS = "1"}'))
    with one_at_a_time() as executor:
        xpnn.study.run(str(six), out=tmp_path / "out", epochs=1, executor=executor)
    assert len(results(tmp_path / "out")) == 6


def test_jobs_and_executor_exclude_each_other(six):
    with one_at_a_time() as executor, pytest.raises(xpnn.ArgumentError, match="jobs"):
        xpnn.study.run(str(six), jobs=1, executor=executor)


def endless(six):
    six.write_text(six.read_text().replace("epochs = 3", "epochs = [3, 10_000_000]"))


def test_ctrl_c_keeps_what_is_finished(six, tmp_path, monkeypatch):
    monkeypatch.setenv("XPNN_TEST_STUDY", str(tmp_path))
    endless(six)
    out = tmp_path / "out"
    process = command("study", "run", six, "--out", out, "--jobs", 2, start=subprocess.Popen)
    wait_for(lambda: out.is_dir() and len(read_folder(out)[0]) >= 1)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error == "xpnn: interrupted\n"
    assert results(out)
    wait_for(lambda: not workers_of(str(tmp_path)))


# where the processes of others can be seen
PROC = Path("/proc/self/environ").exists()


def wait_for(condition):
    for _ in range(1200):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("not within a minute")


def workers_of(marker):
    """The processes of studies whose environment holds `marker`."""
    found = []
    for place in Path("/proc").iterdir() if PROC else ():
        if place.name.isdecimal():
            try:
                line = (place / "cmdline").read_bytes()
                environment = (place / "environ").read_bytes()
            except OSError:
                continue
            if b"xpnn.study.worker" in line and marker.encode() in environment:
                found.append(int(place.name))
    return found


def test_kill_9_loses_nothing_and_leaves_no_process(six, tmp_path, monkeypatch):
    out, calm = tmp_path / "out", tmp_path / "calm"
    monkeypatch.setenv("XPNN_TEST_STUDY", str(tmp_path))
    rng = random.Random(1)
    kept = {}
    for _ in range(4):
        process = subprocess.Popen(
            [sys.executable, "-m", "xpnn", "study", "run", str(six), "--out", str(out)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(rng.uniform(0.8, 3))
        process.kill()
        process.wait()
        wait_for(lambda: not workers_of(str(tmp_path)))
        now = results(out) if out.is_dir() else {}
        assert kept.items() <= now.items()
        kept = now
    assert run("study", "run", six, "--out", out, "--quiet") == 0
    assert run("study", "run", six, "--out", calm, "--quiet") == 0
    assert kept.items() <= results(out).items()
    assert (out / "tables.csv").read_bytes() == (calm / "tables.csv").read_bytes()
    assert hashes_of_study(out) == hashes_of_study(calm)


def test_what_is_listed(capsys):
    assert run("study", "list", "article") == 0
    text = capsys.readouterr().out
    assert "46 runs" in text.splitlines()[0]
    assert "flooding_500: Flooding over 500 epochs, 6 runs, with --long" in text


# tables and arrays of one's own


def test_a_study_of_a_regression_reports_losses(here, capsys):
    write_table(here / "t.csv", VALUES)
    (here / "s.toml").write_text(
        'data = "t.csv"\nvalidation = 0.2\nepochs = 2\n'
        '[[experiment]]\nname = "a"\n[[experiment.figure]]\ntitle = "f"\n'
        'quantities = ["test_loss"]\nruns = [{label = "4", hidden = "4"}]\n'
        '[[experiment.table]]\nrows = [{hidden = "4"}, {hidden = "5"}]\n'
    )
    assert run("study", "run", "s.toml", "--out", "out", "--jobs", 2) == 0
    assert capsys.readouterr().out.startswith("2 of 2 runs done")
    results, _ = read_folder("out")
    shown = {row[4]: row[6] for row in read_rows(here / "out" / "tables.csv")[1:4]}
    assert list(shown) == ["train_loss", "test_loss", "best_loss"]
    (log,) = (r.log for r in results.values() if r.job.settings.hidden == "4")
    assert shown["train_loss"] == f"{log['train_loss'][-1]:.4g}"
    assert shown["best_loss"] == f"{min(log['test_loss']):.4g}"
    assert "| train loss | test loss | best test loss |" in (here / "out/report.md").read_text()


def test_a_study_without_validation_has_no_test_figures(here):
    write_table(here / "t.csv")
    (here / "s.toml").write_text('data = "t.csv"\nepochs = 1\nhidden = ["4", "5"]\n')
    assert run("study", "run", "s.toml", "--out", "out", "--jobs", 2) == 0
    rows = [row[4:7:2] for row in read_rows(here / "out" / "tables.csv")[1:]]
    assert rows[0][0] == "train"
    assert float(rows[0][1]) > 0
    assert rows[1:6] == [[name, "-"] for name in ("test", "best", "ts95", "ts97", "ts98")]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ('data = "t.csv"\nvalidation = 1.5', "validation must be a fraction > 0 and < 1, got 1.5"),
        ('data = "t.csv"\nvalidation = "v.csv"', "no file or folder v.csv"),
        ('data = "t.csv"\ntarget = "z"', "unknown target of t.csv 'z'"),
        ('data = "two.npz"', "s.toml: loss must be given for targets of several columns"),
    ],
)
def test_data_that_can_not_be_used_start_nothing(keys, message, here, capsys):
    write_table(here / "t.csv")
    np.savez("two.npz", x=FLOWERS, y=np.column_stack([VALUES, -VALUES]))
    (here / "s.toml").write_text(keys)
    assert failed(capsys, "study", "run", "s.toml", "--out", "out").startswith(message)
    assert not (here / "out").exists()


def test_targets_of_several_columns_with_a_loss(here):
    np.savez("two.npz", x=FLOWERS, y=np.column_stack([VALUES, -VALUES]))
    (here / "s.toml").write_text('data = "two.npz"\nloss = "mean_squared_error"\nepochs = 1\n')
    assert run("study", "run", "s.toml", "--out", "out", "--quiet") == 0

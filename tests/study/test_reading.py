"""Studies and results that somebody else wrote: nothing of them runs, and nothing is believed."""

import json
import os
import subprocess
import sys

import pytest

import xpnn.study
from tests.helpers import environment, failed, run, write_folder
from xpnn.errors import ArgumentError, DataError
from xpnn.study.results import _digest, read_result

FIGURE = """
[[experiment.figure]]
title = "f"
quantities = ["train_loss"]
runs = [{ label = "a" }]
"""
CODE = "open(r'{}', 'w').close()\n"


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A folder of results, of one job."""
    folder = tmp_path_factory.mktemp("done")
    data = write_folder(folder / "data")
    (folder / "s.toml").write_text(f'data = "{data}"\nhidden = "4"\nepochs = 2\n')
    xpnn.study.run(folder / "s.toml", out=folder / "runs", jobs=1, progress=False)
    return folder / "runs"


@pytest.fixture
def runs(done, tmp_path):
    """A copy of these results."""
    for path in done.glob("*.json"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def rewritten(path, change):
    """Change a result, and compute its hash anew."""
    content = json.loads(path.read_text())
    content.pop("sha256", None)
    change(content)
    path.write_text(json.dumps({**content, "sha256": _digest(content)}))
    return path


def in_overrides(content, path):
    content["overrides"]["parts"] = [path]


def in_the_source(content, path):
    content["source"] = f"parts = ['{path}']\n{content['source']}"


def elsewhere(content, path):
    content["name"] = f"{path}/../s.toml"
    content["source"] = f"parts = ['evil.py']\n{content['source']}"


@pytest.mark.parametrize("change", [in_overrides, in_the_source, elsewhere])
def test_a_folder_runs_no_file_that_it_names(change, runs):
    mark, evil = runs / "ran", runs / "evil.py"
    evil.write_text(CODE.format(mark))
    content = json.loads((runs / "study.json").read_text())
    change(content, str(evil))
    (runs / "study.json").write_text(json.dumps(content))
    for code in (
        f"import xpnn.study; xpnn.study.write_report(r'{runs}')",
        f"import xpnn.study; xpnn.study.read_study(r'{runs}')",
    ):
        found = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=environment()
        )
        assert "xpnn.errors.ArgumentError" in found.stderr
        assert not mark.exists()
    assert not mark.exists()
    with pytest.raises(ArgumentError, match=r"it needs parts.*--parts \S*evil\.py"):
        xpnn.study.read_study(runs)
    assert not mark.exists()
    xpnn.study.read_study(runs, parts=[evil])
    assert mark.exists()


def test_a_list_runs_no_file_that_a_study_names(tmp_path, capsys):
    mark, evil, study = tmp_path / "ran", tmp_path / "evil.py", tmp_path / "s.toml"
    evil.write_text(CODE.format(mark))
    study.write_text('parts = ["evil.py"]\nepochs = 1\n')
    assert "--parts" in failed(capsys, "study", "list", study)
    with pytest.raises(ArgumentError, match="it needs parts"):
        xpnn.study.load_study(study)
    assert not mark.exists()
    assert run("study", "list", study, "--parts", evil) == 0
    assert mark.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["log"].pop("seconds"), "log.seconds must be 3 numbers, of epochs from 0"),
        (lambda c: c["log"]["test_loss"].pop(), "log.test_loss must be 3 .*, got '2 numbers'"),
        (lambda c: c["log"].update(test_loss=[1, "2", 3]), r"log.test_loss\[1\] must be a number"),
        (lambda c: c["log"].update(test_accuracy=[0, 1, 1.5]), r"accuracy\[2\] must be .* 0 to 1"),
        (
            lambda c: c["log"].update(seconds=[0, float("nan"), 1]),
            r"log.seconds\[1\] must be a number, finite, got nan",
        ),
        (lambda c: c.update(log=[]), "log must be a table"),
        (lambda c: c.update(machine="PC"), "machine must be a table"),
        (lambda c: c.update(data="x"), "data must be a SHA-256 of 64 hexadecimal digits, got 'x'"),
        (lambda c: c.pop("weights_sha256"), "weights_sha256 must be text, and is missing"),
        (lambda c: c["run"].update(hidden=5), "doesn't know: hidden must be text, got 5"),
        (lambda c: c["run"].update(hidden=None), "doesn't know: hidden must be text, got None"),
        (lambda c: c["run"].update(epochs=1), "must be 3 numbers, of epochs from 0 to 1 at most"),
        (lambda c: c["run"].update(epochs=True), "doesn't know: epochs must be a whole number"),
        (lambda c: c["run"].update(parts=["a"]), "doesn't know: parts must be text"),
        (lambda c: c["run"].update(environment={"A": 1}), "environment variable A must be text"),
        (lambda c: c["run"].update(colour="red"), "doesn't know: unknown setting 'colour'"),
        (lambda c: c["run"].update(flood="x"), "doesn't know: flood must be a number, got 'x'"),
        (lambda c: c.update(format=2), "has format 2, not 1"),
    ],
)
def test_a_result_that_no_job_writes(change, message, runs):
    (path,) = runs.glob("*-*.json")
    read_result(path)
    rewritten(path, change)
    with pytest.raises(DataError, match=message) as caught:
        read_result(path)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("source"), "source must be text, and is missing"),
        (lambda c: c.update(source=3), "source must be text, got 3"),
        (lambda c: c.update(experiments="study"), "experiments must be a list, got 'study'"),
        (lambda c: c.update(experiments=["other"]), "unknown experiment 'other'"),
        (lambda c: c.update(overrides={"text": "a"}), "overrides must be settings of the jobs"),
        (lambda c: c.update(overrides={"parts": 1}), "overrides.parts must be a list, got 1"),
        (lambda c: c.update(overrides={"epochs": "1"}), "epochs must be a whole number, got '1'"),
        (lambda c: c.update(data=None), "data must be a SHA-256"),
        (lambda c: c.update(format=9), "format must be 1 or none, got 9"),
        (lambda c: c.update(source="a = " + "[" * 5000), "not TOML"),
    ],
)
def test_a_study_that_no_run_writes(change, message, runs, capsys):
    content = json.loads((runs / "study.json").read_text())
    change(content)
    (runs / "study.json").write_text(json.dumps(content))
    assert message in failed(capsys, "study", "report", runs)


@pytest.mark.parametrize("name", ["report.html", "report.md", "tables.csv", "figures"])
@pytest.mark.parametrize("there", [True, False])
def test_a_report_is_not_written_through_a_link_in_the_folder(
    name, there, runs, tmp_path_factory, capsys
):
    other = tmp_path_factory.mktemp("other")
    if there and name == "figures":
        (other / name).mkdir()
    elif there:
        (other / name).write_text("precious")
    if name == "figures":
        pytest.importorskip("matplotlib")
        study = json.loads((runs / "study.json").read_text())
        study["source"] += "[[experiment]]\nname = 'study'\n" + FIGURE
        study["experiments"] = ["study"]
        (runs / "study.json").write_text(json.dumps(study))
    (runs / name).symlink_to(other / name)
    assert f"{runs / name} is a link" in failed(capsys, "study", "report", runs)
    if not there:
        assert not (other / name).exists()
    elif name == "figures":
        assert not list((other / name).iterdir())
    else:
        assert (other / name).read_text() == "precious"


def test_a_result_is_not_written_through_a_link_in_the_folder(runs, tmp_path_factory, done):
    (result,) = (path for path in runs.glob("*.json") if path.name != "study.json")
    other = tmp_path_factory.mktemp("other") / "x"
    other.write_text("precious")
    result.unlink()
    result.symlink_to(other)
    with pytest.raises(OSError, match=r"\.json is a link"):
        xpnn.study.run(done.parent / "s.toml", out=runs, jobs=1, progress=False)
    assert other.read_text() == "precious"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes of Unix")
@pytest.mark.parametrize("command", ["report", "run"])
@pytest.mark.parametrize("name", ["study.json", "more.json"])
def test_a_pipe_in_the_folder_is_not_waited_for(name, command, runs, done):
    (runs / name).unlink(missing_ok=True)
    os.mkfifo(runs / name)
    arguments = [runs] if command == "report" else [done.parent / "s.toml", "--out", runs]
    ended = subprocess.run(
        [sys.executable, "-m", "xpnn", "study", command, *arguments],
        env=environment(), capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert f"{runs / name}: it is a pipe" in ended.stderr or "is a link, a pipe" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert ended.returncode == (0 if name == "more.json" else 2)


@pytest.mark.parametrize("field", ["system", "cpu"])
def test_half_a_character_in_a_result_is_shown_as_an_escape(field, runs):
    (result,) = (path for path in runs.glob("*.json") if path.name != "study.json")
    rewritten(result, lambda content: content["machine"].update({field: "a\udc80b"}))
    assert run("study", "report", runs) == 0
    assert r"a\udc80b" in (runs / "report.html").read_text("utf-8")


def test_of_many_damaged_files_ten_are_named(runs):
    for i in range(35):
        (runs / f"foreign{i}.json").write_text("{}")
    said = []
    xpnn.study.write_report(runs, say=said.append)
    assert len(said) == 11
    assert said[-1] == f"and 25 more files in {runs} are no results"

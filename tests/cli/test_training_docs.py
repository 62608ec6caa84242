"""The examples of docs/guide/training.md, as they stand there."""

import re
import shlex

import numpy as np
import pytest

from tests.helpers import ROOT, run, write_folder
from xpnn.schedules import SCHEDULES
from xpnn.settings import FIELDS, Settings
from xpnn.study.grid import parse_study
from xpnn.study.job import Job

PAGE = (ROOT / "docs" / "guide" / "training.md").read_text(encoding="utf-8")


def test_the_python_examples_run(capsys, kept):
    names = {"__name__": "example"}
    blocks = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(block, names)
    # three classes, 4.2 and 6 standard deviations apart; one has 0.8 of the samples
    assert float(capsys.readouterr().out) > 0.9
    own = names["InverseTime"](decay=0.5)
    np.testing.assert_allclose(own.factors(np.array([0.0, 2.0]), 3, []), [1, 0.5], rtol=1e-15)
    assert SCHEDULES.parse("inverse_time:decay=2") == ("inverse_time", {"decay": 2.0})


def test_the_command_runs(tmp_path, capsys):
    folder = write_folder(tmp_path / "data")
    (block,) = re.findall(r"```sh\n(xpnn train .*?)```", PAGE, flags=re.DOTALL)
    command = shlex.split(block.replace("\\\n", " "))
    assert command[:3] == ["xpnn", "train", "data/mnist"]
    assert run("train", folder, *command[3:], "--epochs", 2) == 0
    assert "batch_norm" in (printed := capsys.readouterr().out)
    assert "dropout" in printed
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "10000")
        run("train", "--help")
    told = capsys.readouterr().out
    for name in ("batch_norm", "dropout", "schedule", "warmup", "clip_norm", "class_weight"):
        assert f"--{name.replace('_', '-')}" in told
        assert f"--{name.replace('_', '-')}" in PAGE
        assert name in FIELDS


def test_the_settings_make_a_grid():
    """The lines that the page gives for a study's TOML file, as it has them."""
    (sentence,) = re.findall(r"as a grid of a .*?\n\n", PAGE, flags=re.DOTALL)
    lines = [line.replace("\n", " ") for line in re.findall(r"`([^`]*)`", sentence)]
    assert len(lines) == 3
    runs = parse_study("\n".join(lines), "page").jobs
    assert len({run.file_name("data") for run in runs}) == len(runs) == 2 * 2 * 2
    assert {run.settings.dropout for run in runs} == {0.25, 0.5}


def test_earlier_results_are_found_again():
    """The name that a run's result had before these settings were there."""
    name = "relu-100-50-SGD-lr=0.1-weight-decay=0.0-50-numpy-float32-3dc98c58e169.json"
    earlier = Settings(init="he_normal")
    assert Job(earlier).file_name("data") == name
    changes = [
        {"batch_norm": True}, {"dropout": 0.5}, {"schedule": "cosine"}, {"schedule": "step"},
        {"warmup": 2.0}, {"clip_norm": 1.0}, {"class_weight": "balanced"},
        {"loss": "cross_entropy:label_smoothing=0.1"},
    ]  # fmt: skip
    names = {Job(earlier.replaced(**change)).file_name("data") for change in changes}
    assert len(names | {name}) == 9
    # however it is written
    same = [Settings(schedule=text) for text in ("cosine", "cosine:final=0")]
    assert len({Job(settings).file_name("data") for settings in same}) == 1


def test_the_table_has_every_schedule_with_its_defaults():
    rows = set(re.findall(r"^\| `(\w+(?::[^`]*)?)` \|", PAGE, flags=re.MULTILINE))
    shipped = [n for n, part in SCHEDULES.items() if part.__module__ == "xpnn.schedules"]
    assert {SCHEDULES.parse(row)[0] for row in rows} == set(shipped)
    for row in rows:
        name, given = SCHEDULES.parse(row)
        assert SCHEDULES[name](**given) == SCHEDULES[name]()
        assert given.keys() == SCHEDULES.parameters(name).keys()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--dropout", "1"], "dropout must be a number >= 0 and < 1, got 1.0"),
        (["--dropout", "x"], "argument --dropout: must be a number, got 'x'"),
        (["--schedule", "cos"], "unknown schedule 'cos'; did you mean 'cosine'?"),
        (
            ["--schedule", "step:every=0.5"],
            "every of schedule 'step' must be a whole number, got '0.5'",
        ),
        (["--warmup", "0"], "warmup must be a finite number > 0, got 0.0"),
        (["--clip-norm", "-1"], "clip_norm must be a finite number > 0, got -1.0"),
        (["--class-weight", "even"], "class_weight must be 'balanced' or weights such as"),
        (["--class-weight", "0=1,b"], "class_weight must be such as 0=1,1=2.5, got 'b'"),
        (["--class-weight", "0=1,b=2"], "unknown label in class_weight 'b'"),
        (["--class-weight", "0=1,0=2"], "class_weight of 0 is given twice"),
        (["--class-weight", "0=much"], "class_weight of 0 must be a finite number >= 0"),
        (["--class-weight", "7=1"], "unknown label in class_weight '7'"),
        (["--loss", "cross_entropy:label_smoothing=2"], "label_smoothing must be a number"),
    ],
)
def test_mistakes_cost_a_line(options, message, tmp_path, capsys):
    folder = write_folder(tmp_path / "data")
    assert run("train", folder, *options) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1


def test_class_weights_of_the_command(tmp_path, capsys):
    folder = write_folder(tmp_path / "data", counts=(60, 30))
    lines = []
    for weights in ("0=1,1=1,2=1", "0=3,1=1,2=1", "balanced"):
        assert run("train", folder, "--epochs", 1, "--class-weight", weights) == 0
        out = capsys.readouterr().out.splitlines()
        lines.append([line for line in out if line.split()[0].isdigit()])
    # the classes are equally frequent
    assert len(lines[0]) == 2
    assert lines[0] == lines[2] != lines[1]

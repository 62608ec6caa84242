"""`xpnn train` with checkpoints, and the examples of docs/guide/checkpoints.md."""

import os
import re
import signal

import numpy as np
import pytest
from safetensors.numpy import load_file

import xpnn
from tests.helpers import SMALL, run, started
from xpnn.training import checkpoint


def test_the_command_goes_on(folder, tmp_path, path, capsys):
    whole, parts = tmp_path / "whole.csv", tmp_path / "parts.csv"
    options = ["train", folder, *SMALL, "--hash", "--optimizer", "adam"]
    assert run(*options, "--epochs", 5, "--log", whole) == 0
    assert run(*options, "--epochs", 2, "--log", parts, "--checkpoint", path) == 0
    capsys.readouterr()
    options += ["--epochs", 5, "--log", parts, "--checkpoint", path, "--resume", path]
    assert run(*options) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    rows = [line.split()[0] for line in captured.out.splitlines() if re.match(r" +\d ", line)]
    assert rows == list("345")
    rows = [
        [line.split(",")[:5] + line.split(",")[6:] for line in log.read_text().splitlines()]
        for log in (whole, parts)
    ]
    assert rows[0] == rows[1]

    model = tmp_path / "model"
    assert run(*options, "--save", model) == 0
    assert capsys.readouterr().err == (
        f"xpnn: nothing left to do: {path} holds all epochs up to 5\n"
    )
    assert xpnn.load(model).sha256() == rows[0][-1][-1]


def test_the_command_says_that_it_took_the_previous_one(folder, path, capsys):
    options = ["train", folder, *SMALL, "--checkpoint", path]
    assert run(*options) == 0
    path.write_bytes(path.read_bytes()[:-1])
    capsys.readouterr()
    assert run(*options, "--resume", path) == 0
    assert capsys.readouterr().err == (
        f"xpnn: {path} is damaged: its bytes don't have the SHA-256 that it holds; "
        f"going on from {checkpoint.previous(path)}, epoch 1\n"
    )


def test_the_command_stops_early(folder, path, capsys):
    options = ["train", folder, *SMALL, "--epochs", 500, "--patience", 2, "--checkpoint", path]
    options += ["--monitor", "test_accuracy"]
    assert run(*options) == 0
    out = capsys.readouterr().out
    assert re.search(
        r"^stopped after epoch \d+: test_accuracy was best at epoch \d+, 2 epochs before$",
        out, re.MULTILINE,
    )  # fmt: skip
    assert run(*options, "--resume", path, "--quiet") == 0
    assert capsys.readouterr() == ("", "")


def test_no_improvement_is_large_enough_for_the_command(folder, capsys):
    # the first epoch after the untrained network counts, whatever it gained
    options = ["train", folder, *SMALL, "--epochs", 9, "--patience", 2, "--min-delta", 99]
    assert run(*options) == 0
    assert "stopped after epoch 3: test_loss was best at epoch 1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--every", 2], "every needs checkpoint: give --checkpoint too"),
        (["--monitor", "test_loss"], "monitor needs patience: give --patience too"),
        (["--min-delta", 0.1], "min_delta needs patience: give --patience too"),
        (["--patience", 3, "--min-delta", -1], "min_delta must be a finite number >= 0, got -1.0"),
        (["--patience", 0], "patience must be a whole number >= 1, got 0"),
        (["--patience", 3, "--monitor", "loss"], "unknown monitor 'loss'"),
        (["--checkpoint", "{}", "--every", 0], "every must be a whole number >= 1, got 0"),
        (["--checkpoint", "{}/no/where"], "checkpoint must be a file that can be written"),
        (["--checkpoint", "{}", "--save", "{}"], "must be different files"),
        (["--resume", "{}", "--log", "{}"], "must be different files"),
        (["--resume", "{}"], "can't read a checkpoint from .*: No such file"),
    ],
)
def test_a_mistake_costs_a_line(options, message, folder, path, capsys):
    options = [str(option).format(path) for option in options]
    assert run("train", folder, *SMALL, *options) == 2
    captured = capsys.readouterr()
    assert re.fullmatch(rf"xpnn: error: .*{message}.*\n", captured.err)
    assert not path.exists()


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_ended_from_outside(end, folder, tmp_path, path):
    process, log = started(folder, tmp_path, "--checkpoint", path)
    try:
        process.send_signal(end)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    again = ["train", folder, *SMALL, "--log", log, "--checkpoint", path, "--resume", path]
    if end == signal.SIGINT:
        assert err.endswith(f"; kept: {log}; continue with --resume {path}\n")
    done = len(checkpoint.read(path)[0].history) - 1
    assert done >= 2
    assert run(*again, "--epochs", done + 2, "--quiet") == 0
    whole = tmp_path / "whole.csv"
    assert run("train", folder, *SMALL, "--epochs", done + 2, "--log", whole, "--quiet") == 0
    assert [line.split(",")[:5] for line in log.read_text().splitlines()] == [
        line.split(",")[:5] for line in whole.read_text().splitlines()
    ]


@pytest.mark.skipif(os.name != "posix" or not os.path.exists("/dev/full"), reason="no full disk")
def test_a_full_disk_costs_a_line(folder, capsys):
    assert run("train", folder, *SMALL, "--checkpoint", "/dev/full", "--quiet") == 2
    assert capsys.readouterr().err == (
        "xpnn: error: can't write checkpoint '/dev/full': No space left on device\n"
    )


def test_a_log_of_another_run_keeps_all_files(folder, tmp_path, path, capsys):
    log, model = tmp_path / "run.csv", tmp_path / "model"
    assert run("train", folder, *SMALL, "--checkpoint", path) == 0
    log.write_text("mine\n")
    model.write_text("mine too")
    again = ["--log", log, "--save", model, "--resume", path, "--epochs", 3]
    assert run("train", folder, *SMALL, *again) == 2
    assert "belongs to another run, line 1 differs; name a new file" in capsys.readouterr().err
    assert (log.read_text(), model.read_text()) == ("mine\n", "mine too")


def test_a_divergence_keeps_the_best_weights(folder, tmp_path, capsys, monkeypatch):
    from xpnn.schedules import Constant

    def factors(self, times, epochs, history):
        return np.full(times.shape, 1.0 if len(history) < 4 else 1e30)

    monkeypatch.setattr(Constant, "factors", factors)
    model = tmp_path / "best.st"
    options = ["train", folder, *SMALL, "--epochs", 6, "--schedule", "constant", "--quiet"]
    for patience, kept in (([], False), (["--patience", 9], True)):
        assert run(*options, *patience, "--save", model) == 2
        captured = capsys.readouterr()
        assert re.fullmatch("xpnn: .*the loss became (nan|inf).*\n", captured.err)
        assert model.exists() == kept
    assert np.isfinite(next(iter(load_file(model).values()))).all()

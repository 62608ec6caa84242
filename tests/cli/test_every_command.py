"""Every command reads every kind of data: what `xpnn train` takes, the others take too."""

import gzip
import os
import shutil
import sys
import threading

import numpy as np
import pytest

import xpnn
from tests.helpers import CODES, COLUMNS, FLOWERS, failed, run, write_idx, write_table

QUICK = ("--epochs", 1, "--hidden", 3, "--quiet")
PIXELS = np.random.RandomState(0).randint(0, 256, (90, 6, 5)).astype(np.uint8)


def write_csv(folder):
    return write_table(folder / "t.csv", CODES)


def write_gzipped(folder):
    with open(write_csv(folder), "rb") as file, gzip.open(folder / "t.csv.gz", "wb") as packed:
        shutil.copyfileobj(file, packed)
    return folder / "t.csv.gz"


def write_archive(*names):
    def write(folder):
        arrays = (FLOWERS, CODES, FLOWERS[:30], CODES[:30])
        np.savez(folder / "t.npz", **dict(zip(names, arrays, strict=False)))
        return folder / "t.npz"

    return write


def write_pair(folder):
    np.save(folder / "x.npy", FLOWERS)
    np.save(folder / "y.npy", CODES)
    return f"{folder / 'x.npy'},{folder / 'y.npy'}"


def write_idx_folder(*parts):
    def write(folder):
        (folder / "idx").mkdir()
        for part in parts:
            write_idx(folder / "idx" / f"{part}-images-idx3-ubyte", PIXELS)
            write_idx(folder / "idx" / f"{part}-labels-idx1-ubyte", CODES.astype(np.uint8))
        return folder / "idx"

    return write


def write_images(suffix):
    def write(folder):
        image = pytest.importorskip("PIL.Image")
        for i, (pixels, code) in enumerate(zip(PIXELS, CODES, strict=True)):
            (folder / "images" / f"c{code}").mkdir(parents=True, exist_ok=True)
            image.fromarray(pixels).save(folder / "images" / f"c{code}" / f"{i:02}.{suffix}")
        return folder / "images"

    return write


KINDS = {
    "CSV": write_csv,
    "CSV.gz": write_gzipped,
    "NPZ": write_archive("x", "y"),
    "NPZ with X": write_archive("X", "Y"),
    "NPZ with x_train only": write_archive("x_train", "y_train"),
    "NPZ in parts": write_archive("x_train", "y_train", "x_test", "y_test"),
    "NPY": write_pair,
    "IDX": write_idx_folder("train"),
    "IDX in parts": write_idx_folder("train", "t10k"),
    "PNG": write_images("png"),
    "JPEG": write_images("jpg"),
}
IMAGES = {"IDX", "IDX in parts", "PNG", "JPEG"}
TABLES = {"CSV", "CSV.gz"}


@pytest.mark.parametrize("kind", KINDS)
def test_every_command_reads_every_kind_of_data(kind, here, capsys):
    pytest.importorskip("array_api_strict")
    data = KINDS[kind](here)
    assert run("train", data, *QUICK, "--save", "whole") == 0
    assert run("train", data, *QUICK, "--validation", 0.2, "--save", "part") == 0
    last = xpnn.load("part").history[-1]
    capsys.readouterr()
    assert run("evaluate", "part", data, "--held-out") == 0
    assert capsys.readouterr().out == f"accuracy {last.test_accuracy}\nloss {last.test_loss}\n"
    for options, rows in (
        ((), {True: 30, False: 90}[kind == "NPZ in parts"]),
        (("--held-out",), 18),
    ):
        model = "part" if options else "whole"
        assert run("evaluate", model, data, *options, "--json") == 0
        assert f'"rows": {rows},' in capsys.readouterr().out
        assert run("predict", model, data, *options) == 0
        assert len(capsys.readouterr().out.splitlines()) == rows + 1
        assert run("verify", model, data, *options, "--backends", "numpy,strict") == 0
        capsys.readouterr()
    assert run("verify", data, *QUICK[:4], "--validation", 0.2, "--backends", "numpy,strict") == 0
    if kind in TABLES:
        for command in ("evaluate", "predict", "verify"):
            assert run(command, "whole", data, "--target", "kind", "--header", "yes") == 0
            line = failed(capsys, command, "whole", data, "--ignore", "a")
            assert line == f"ignored column 'a' of {data} is one of the features"
        return
    for command in ("train", "evaluate whole", "predict whole", "verify whole"):
        for option in ("--target=y", "--header=yes", "--ignore=a"):
            line = failed(capsys, *command.split(), data, option)
            assert line == f"{option[2:].partition('=')[0]} is for CSV files, and {data} is none"


@pytest.mark.parametrize("kind", KINDS)
def test_a_study_reads_every_kind_of_data(kind, here):
    from xpnn.study import load_study
    from xpnn.study.job import execute, load_data

    data = KINDS[kind](here)
    (here / "s.toml").write_text(f'data = "{data}"\nvalidation = 0.2\nepochs = 1\nhidden = "3"\n')
    study = load_study(here / "s.toml")
    (job,) = study.experiments[0].jobs
    found = execute(job, load_data(job.source)[2])
    options = ("--validation", 0.2, "--save", "m", "--dtype", job.dtype)
    assert run("train", data, *QUICK, *options) == 0
    assert xpnn.load("m").sha256() == found["weights_sha256"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("picture", ["errors", "confusion"])
def test_every_kind_of_data_is_drawn(kind, picture, here, capsys):
    pytest.importorskip("matplotlib")
    data = KINDS[kind](here)
    assert run("train", data, *QUICK, "--validation", 0.2, "--save", "m") == 0
    if picture == "confusion" or kind in IMAGES:
        assert run("plot", picture, "m", data, "--held-out", "--out", "p.png") == 0
        return
    line = failed(capsys, "plot", picture, "m", data, "--held-out", "--out", "p.png")
    if kind in TABLES:
        assert line.startswith(f"only images are drawn, and {data} is a table, of the columns a, b")
        assert "xpnn plot confusion" in line
    else:
        assert line.startswith("data.x must hold images of a known shape to be drawn, got 4 feat")


def test_errors_of_a_table_with_text_are_not_drawn(here, capsys):
    (here / "t.csv").write_text("sex,age,y\n" + "male,3,0\nfemale,,1\n" * 20)
    assert run("train", "t.csv", *QUICK, "--save", "m") == 0
    line = failed(capsys, "plot", "errors", "m", "t.csv")
    assert line.startswith("only images are drawn, and t.csv is a table, of the columns sex, age:")


@pytest.mark.parametrize("command", ["evaluate", "predict", "plot confusion"])
@pytest.mark.parametrize("option", ["encode", "missing", "weights", "task", "normalize"])
def test_options_of_training_are_said_to_be_such(command, option, capsys):
    assert run(*command.split(), "m", "t.csv", f"--{option}", "a") == 2
    assert f"--{option} is for training: the model's file holds" in capsys.readouterr().err


def test_held_out_needs_a_model(here, capsys):
    line = failed(capsys, "verify", write_csv(here), "--held-out")
    assert line == "held_out needs MODEL and DATA: xpnn verify MODEL DATA --held-out"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no named pipes")
@pytest.mark.parametrize("write", [write_csv, write_gzipped])
@pytest.mark.parametrize("names", [True, False], ids=["names", "no names"])
def test_a_pipe_is_read_like_a_file(write, names, here, capsys):
    path = write(here)
    if names:
        assert run("train", path, *QUICK, "--save", "m") == 0
    else:
        # no names of columns: the number of columns tells whether there is a target
        np.savez("t.npz", x=FLOWERS, y=CODES)
        assert run("train", "t.npz", *QUICK, "--save", "m") == 0
    assert run("predict", "m", path) == 0
    wanted = capsys.readouterr().out
    os.mkfifo("pipe")
    for commands in (("predict", "m", "pipe"), ("train", "pipe", *QUICK)):
        sender = threading.Thread(target=lambda: (here / "pipe").write_bytes(path.read_bytes()))
        sender.start()
        assert run(*commands) == 0
        sender.join()
        if commands[0] == "predict":
            assert capsys.readouterr().out == wanted


def test_ignored_columns_of_a_table_for_a_model_without_names(here, capsys):
    np.savez("t.npz", x=FLOWERS, y=CODES)
    assert run("train", "t.npz", *QUICK, "--save", "m") == 0
    rows = [f"{i},{','.join(map(repr, row))}" for i, row in enumerate(FLOWERS.tolist())]
    (here / "t.csv").write_text("\n".join([f"id,{','.join(COLUMNS)}", *rows]) + "\n")
    capsys.readouterr()
    assert run("predict", "m", "t.csv", "--ignore", "id") == 0
    expected = xpnn.predict(xpnn.load("m"), FLOWERS)
    assert capsys.readouterr().out.split()[1:] == list(map(str, expected))

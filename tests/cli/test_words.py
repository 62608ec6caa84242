"""Words of the command: options that it doesn't have, plurals, samples of its output in pages."""

import argparse
import json
import re
import sys

import numpy as np
import pytest

import xpnn
from tests.helpers import NAMES, ROOT, failed, read_rows, run, write_folder, write_rows, write_table
from xpnn import backends, cli
from xpnn.backends import BACKENDS, BackendInfo

# Options of other programs


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("--lr 0.1", "lr is a parameter of the optimizer: write --optimizer sgd:lr=0.1"),
        ("--lr=0.1", "lr is a parameter of the optimizer: write --optimizer sgd:lr=0.1"),
        ("--lr", "lr is a parameter of the optimizer: write --optimizer sgd:lr=VALUE"),
        ("--learning-rate 0.1", "lr is a parameter of the optimizer: write --optimizer sgd:lr=0.1"),
        ("--optimizer adam:lr=3 --lr 1",
         "lr is a parameter of the optimizer: write --optimizer adam:lr=1"),
        ("--momentum 0.9", "mu is a parameter of the optimizer: write --optimizer momentum:mu=0.9"),
        ("--label-smoothing 0.1",
         "label_smoothing is a parameter of the loss: "
         "write --loss cross_entropy:label_smoothing=0.1"),
        ("--alpha 2",
         "alpha is a parameter of the activation: write --activation elu:alpha=2"),
        ("--gamma 2", "gamma is a parameter of the schedule: write --schedule step:gamma=2"),
        ("--batch_size 3", "did you mean --batch-size?"),
        ("--batchsize 3", "did you mean --batch-size?"),
        ("--val 0.2", "did you mean --validation?"),
        ("--validation-split 0.2", "did you mean --validation?"),
        ("--act relu", "did you mean --activation?"),
        ("--epoch 3", "did you mean --epochs?"),
        ("--zzz", None),
        ("more", None),
    ],
)  # fmt: skip
def test_an_option_of_another_program(given, hint, capsys):
    said = failed(capsys, "train", "data", *given.split())
    unknown = given.removeprefix("--optimizer adam:lr=3 ")
    assert said == f"unrecognized arguments: {unknown}" + ("" if hint is None else f"; {hint}")
    # what it says to write is read
    for option in re.findall(r"write (--.*)|did you mean (--[\w-]+)", said):
        words = "".join(option).split()
        value = words[1:] or ["1"]
        assert "unrecognized" not in failed(capsys, "train", "no such file", words[0], *value)


@pytest.mark.parametrize(
    ("argv", "near"),
    [
        ("plot history a.csv --outt b.png", "--out"),
        ("study run article --job 2", "--jobs"),
        ("predict m data --probability", "--proba"),
        ("backends --lr 1", None),
    ],
)
def test_other_commands_have_their_own_options(argv, near, capsys):
    said = failed(capsys, *argv.split())
    assert said.startswith("unrecognized arguments: --")
    assert said.partition("; ")[2] == ("" if near is None else f"did you mean {near}?")


def test_a_monitor_of_keras(capsys, tmp_path):
    write_table(tmp_path / "t.csv")
    said = failed(capsys, "train", tmp_path / "t.csv", "--patience", 2, "--monitor", "val_loss")
    assert said.startswith("unknown monitor 'val_loss'; did you mean 'test_loss'? (allowed: ")


# Texts that are composed of names


def parsers(parser=None, name="xpnn"):
    """All commands by their names, "xpnn plot history" among them."""
    parser = cli._parser() if parser is None else parser
    yield name, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for own, command in action.choices.items():
                yield from parsers(command, f"{name} {own}")


WRONG = [
    (r"(\w*ss)s\b", "a plural of {}"),
    (
        r"(?<!--)\b(csv|npz|npy|idx|png|onnx|json|sha-256|gpu|mnist)\b(?! *[:=])",
        "{} in small letters",
    ),
    (r"\ban ([bcdfgjkpqtvwyz]\w+)", "an {}"),
    (r"\ba ([aeio]\w+)", "a {}"),
    (r"\b(\w+) \1\b", "{} twice"),
]


@pytest.mark.parametrize(("name", "parser"), [pytest.param(*own, id=own[0]) for own in parsers()])
def test_words_of_help_texts(name, parser, monkeypatch):
    monkeypatch.setenv("COLUMNS", "10000")
    text = parser.format_help()
    # without names of files, paths and values
    text = re.sub(r"\S*[./={}]\S*[\w}]|`[^`]*`|\"[^\"]*\"|(?<!\w)'[^']*'|\[[^\]]*\]", " _ ", text)
    found = [what.format(match) for pattern, what in WRONG for match in re.findall(pattern, text)]
    assert found == []
    if parser.description:
        assert parser.description.endswith(".")


def test_the_list_of_parts_has_plurals(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "10000")
    run("train", "--help")
    told = capsys.readouterr().out
    for kind in ("activations", "optimizers", "losses", "schedules"):
        assert f"{kind} with their defaults: " in told


# The sample in the README


# a laptop without a GPU on which CuPy isn't installed: versions, devices, BLAS
LAPTOP = {
    "numpy": ("2.4.6", ("cpu",), "scipy-openblas 0.3.31.188.0"),
    "torch": ("2.13.0+cpu", ("cpu",), "mkl"),
    "jax": ("0.10.2", ("cpu",), "XLA, Eigen"),
    "strict": ("2.6.1", ("cpu", "device1", "device2"), "NumPy's"),
}


def test_readmes_list_of_backends_is_what_the_command_prints(capsys, monkeypatch):
    """After a change of the command, put what it prints here into the README."""
    infos = [
        BackendInfo(name, True, *LAPTOP[name], "")
        if name in LAPTOP
        else BackendInfo(name, False, "", (), "", part.install)
        for name, part in BACKENDS.items()
    ]
    monkeypatch.setattr(backends, "describe", lambda: infos)
    assert run("backends") == 0
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (sample,) = re.findall(r"\$ xpnn backends\n(.*?)```", text, flags=re.DOTALL)
    assert sample == capsys.readouterr().out


def test_the_laptop_is_a_real_one():
    """What doesn't depend on the machine is what the libraries say."""
    for info in backends.describe():
        if info.name in ("jax", "strict") and info.installed:
            assert info.blas == LAPTOP[info.name][2]
        if info.name == "strict" and info.installed:
            assert info.devices == LAPTOP["strict"][1]


# Probabilities


SMALL = ["--hidden", "", "--epochs", 1, "--quiet"]
NOTE = "xpnn: the proba columns don't sum to 1: outputs of {!r} are independent\n"


@pytest.mark.parametrize(
    ("options", "loss"),
    [
        ([], None),
        (["--loss", "binary_cross_entropy"], "binary_cross_entropy"),
        (["--loss", "binary_cross_entropy", "--flood", "0.1"], "flooding"),
        (["--loss", "mean_squared_error"], "mean_squared_error"),
    ],
)
def test_probabilities_that_do_not_sum_to_one(options, loss, here, capsys):
    write_table(here / "t.csv")
    assert run("train", "t.csv", *SMALL, *options, "--save", "m.safetensors") == 0
    capsys.readouterr()
    assert run("predict", "m.safetensors", "t.csv", "--proba", "--out", "p.csv") == 0
    assert capsys.readouterr().err == ("" if loss is None else NOTE.format(loss))
    sums = np.array([row[1:] for row in read_rows(here / "p.csv")[1:]], float).sum(axis=1)
    assert np.allclose(sums, 1, rtol=0, atol=1e-5) == (loss is None)
    # without them, nothing is said
    assert run("predict", "m.safetensors", "t.csv", "--out", "p.csv") == 0
    assert capsys.readouterr().err == ""


# Going on from a model


def test_a_run_goes_on_from_a_model(here, capsys):
    write_table(here / "t.csv")
    options = ["t.csv", "--seed", 3, "--validation", 0.2, "--quiet"]
    loss = ["--loss", "cross_entropy:label_smoothing=0.1"]
    assert run("train", *options, *loss, "--hidden", 4, "--activation", "tanh", "--epochs", 2,
               "--save", "a.safetensors") == 0  # fmt: skip
    assert run("train", *options, "--epochs", 0, "--from", "a.safetensors", "--save", "same") == 0
    first, same = xpnn.load("a.safetensors"), xpnn.load("same")
    assert same.sha256() == first.sha256()
    assert repr(same) == repr(first)
    assert same.task.loss == first.task.loss
    np.testing.assert_array_equal(same.task.normalizer.offset, first.task.normalizer.offset)
    assert same.task.labels.tolist() == first.task.labels.tolist()

    assert run("train", *options, "--epochs", 3, "--from", "a.safetensors", "--save", "b",
               "--optimizer", "adam", "--flood", "0.2") == 0  # fmt: skip
    assert xpnn.load("b").sha256() != first.sha256()
    assert xpnn.load("b").task.loss == xpnn.Flooding(first.task.loss, b=0.2)
    assert run("train", *options, "--epochs", 3, "--from", "b", "--save", "c", "--flood", 0.1) == 0
    assert xpnn.load("c").task.loss == xpnn.Flooding(first.task.loss, b=0.1)

    # the same in Python
    train, test = xpnn.datasets.load_training("t.csv", 0.2, seed=3)
    model = xpnn.load("a.safetensors")
    xpnn.fit(model, train, validation=test, epochs=3, seed=3, optimizer="adam", batch_size=32,
             loss=xpnn.Flooding(first.task.loss, b=0.2))  # fmt: skip
    assert model.sha256() == xpnn.load("b").sha256()


def test_columns_are_found_by_their_names(here):
    """In whatever order, with others beside them and the target in their midst."""
    write_table(here / "t.csv")
    header, *rows = read_rows(here / "t.csv")
    turned = [[row[4], "0", *row[3::-1]] for row in rows]
    write_rows(here / "u.csv", turned, [header[4], "other", *header[3::-1]])
    assert run("train", "t.csv", *SMALL, "--save", "a") == 0
    for name in ("t", "u"):
        assert run("train", f"{name}.csv", "--epochs", 2, "--quiet", "--from", "a",
                   "--save", name) == 0  # fmt: skip
    assert xpnn.load("t").sha256() == xpnn.load("u").sha256()


def test_images_go_on(here, capsys):
    """A folder of IDX files, whose labels number the outputs."""
    write_folder(here / "data")
    assert run("train", "data", *SMALL, "--save", "a") == 0
    assert run("train", "data", "--epochs", 0, "--quiet", "--from", "a", "--save", "b") == 0
    first, second = xpnn.load("a"), xpnn.load("b")
    assert first.sha256() == second.sha256()
    assert first.task.image_shape == second.task.image_shape is not None
    assert second.task.labels is None
    write_table(here / "t.csv")
    said = failed(capsys, "train", "t.csv", "--from", "a")
    assert "must have the model's" in said


def test_a_regression_goes_on(here):
    write_table(here / "t.csv", np.arange(len(NAMES)) * 1.5)
    assert run("train", "t.csv", *SMALL, "--save", "a") == 0
    assert run("train", "t.csv", "--epochs", 0, "--quiet", "--from", "a", "--save", "b") == 0
    first, second = xpnn.load("a"), xpnn.load("b")
    assert first.sha256() == second.sha256()
    assert second.task.loss == xpnn.MeanSquaredError()
    np.testing.assert_array_equal(
        second.task.target_normalizer.offset, first.task.target_normalizer.offset
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--hidden", 3], "hidden must be left out with --from: layers and normalizers are the mo"),
        (["--dropout", 0.5], "dropout must be left out with --from"),
        (["--normalize", "none"], "normalize must be left out with --from"),
        (["--save", "a"], "save and from must be different files"),
        (["--target", "petal"], "unknown target of t.csv 'petal' (allowed: "),
    ],
)
def test_what_a_model_has_is_not_given_beside_it(options, message, here, capsys):
    write_table(here / "t.csv")
    assert run("train", "t.csv", *SMALL, "--save", "a") == 0
    said = failed(capsys, "train", "t.csv", "--from", "a", *options)
    assert message in said
    assert "no such" in failed(capsys, "train", "t.csv", "--from", "gone").lower()


def test_a_class_that_the_model_does_not_know(here, capsys):
    write_table(here / "t.csv")
    assert run("train", "t.csv", *SMALL, "--save", "a") == 0
    write_table(here / "u.csv", np.array(["weed", *NAMES[1:]]))
    outputs = ["--log", "log.csv", "--save", "new"]
    said = failed(capsys, "train", "u.csv", "--from", "a", *outputs)
    assert "'weed' is not one of the classes of the training data" in said
    assert {path.name for path in here.iterdir()} == {"t.csv", "u.csv", "a"}


def test_a_model_is_no_checkpoint(here, capsys):
    write_table(here / "t.csv")
    assert run("train", "t.csv", *SMALL, "--save", "a") == 0
    assert failed(capsys, "train", "t.csv", "--resume", "a") == (
        "a is a model, and not a checkpoint: --from a goes on from a model's parameters, in Python "
        "xpnn.fit(xpnn.load(path), …)"
    )


def test_a_run_from_a_model_is_resumed(here):
    write_table(here / "t.csv")
    assert run("train", "t.csv", *SMALL, "--save", "a") == 0
    begin = ["train", "t.csv", "--quiet", "--from", "a", "--optimizer", "adam"]
    assert run(*begin, "--epochs", 2, "--checkpoint", "c") == 0
    assert run(*begin, "--epochs", 4, "--resume", "c", "--save", "on") == 0
    assert run(*begin, "--epochs", 4, "--save", "whole") == 0
    assert xpnn.load("on").sha256() == xpnn.load("whole").sha256()


def test_an_unknown_option_is_no_traceback(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["xpnn", "train", "data", "--lr", "0.1"])
    with pytest.raises(SystemExit):
        cli.main()
    assert capsys.readouterr().err.count("\n") == 1


def test_words_of_a_file_do_not_reach_the_terminal_as_commands(here, capsys, monkeypatch):
    """Labels and names may hold what colours a terminal, moves its cursor or turns its lines."""
    odd = "\x1b[31m\x07\u202e\x9b"
    rows = "".join(f"{i % 7},{'uv'[i % 2]}{odd}\n" for i in range(20))
    (here / "t.csv").write_text(f"a{odd},y{odd}\n{rows}")
    (here / "s.toml").write_text(f"title = {json.dumps(odd)}\ndata = 't.csv'\n")
    for words in (
        ["train", "t.csv", "--epochs", 1, "--save", "m"],
        ["show", "m"],
        ["evaluate", "m", "t.csv"],
        ["study", "list", "s.toml"],
    ):
        assert run(*words) == 0
        assert not set(odd[:1] + odd[-3:]) & set(capsys.readouterr().out), words
    # a file, or a pipe, gets the labels as they are
    assert run("predict", "m", "t.csv") == 0
    plain = capsys.readouterr().out
    assert odd in plain
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert run("predict", "m", "t.csv") == 0
    assert "v\\x1b[31m" in (shown := capsys.readouterr().out)
    assert odd not in shown

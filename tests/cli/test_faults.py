"""What an error becomes at the command line: one line and an exit status, whatever happens."""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import warnings

import numpy as np
import pytest

import xpnn
from tests.helpers import environment, flipped, run, write_table
from xpnn import saving
from xpnn.cli import _parser
from xpnn.errors import CheckpointWarning

posix = pytest.mark.skipif(os.name != "posix", reason="signals and descriptors are POSIX's")


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """A folder of its own for temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a table, a model of it, a log, a study and links that lead to each other."""
    folder = tmp_path_factory.mktemp("trained")
    write_table(folder / "t.csv")
    names = ["--save", folder / "m.safetensors", "--log", folder / "log.csv"]
    assert run("train", folder / "t.csv", "--epochs", 1, "--hidden", 3, "--quiet", *names) == 0
    (folder / "s.toml").write_text('data = "t.csv"\nhidden = "3"\nepochs = 1\n')
    (folder / "loop").symlink_to("loop")
    np.savez(folder / "n.npz", x=np.arange(12.0).reshape(4, 3), y=np.array([0, 1, 0, 1]))
    names = ["--epochs", 1, "--hidden", 3, "--quiet", "--save", folder / "n.safetensors"]
    assert run("train", folder / "n.npz", *names) == 0
    (folder / "folder").mkdir()
    return folder


def started(*argv, shell="", **variables):
    """Run `python -m xpnn` with redirections of a shell; return what it did."""
    line = ["sh", "-c", f'exec "$@" {shell}', "sh", sys.executable, "-m", "xpnn", *map(str, argv)]
    variables = environment(**variables)
    return subprocess.run(line, capture_output=True, env=variables, check=False, timeout=120)


# faults of ours


def test_a_fault_of_ours_is_a_line_that_names_its_traceback(temporary, monkeypatch, capsys):
    def broken(path):
        return {}[path]

    monkeypatch.setattr(saving, "load", broken)
    assert run("show", "m.safetensors") == 70
    captured = capsys.readouterr()
    (path,) = temporary.iterdir()
    assert captured.out == ""
    assert captured.err == (
        "xpnn: error: a fault of xpnn, not of its input: KeyError: 'm.safetensors'; please report "
        f"it with its traceback, which is in {path}\n"
    )
    text = path.read_text()
    assert f"xpnn {xpnn.__version__}, Python " in text
    assert "return {}[path]" in text
    assert text.endswith("KeyError: 'm.safetensors'\n")
    assert run("show", "m.safetensors", "--traceback") == 70
    assert capsys.readouterr().err.startswith("Traceback (most recent call last):\n")


@pytest.mark.parametrize("argument", ["--lr", "--hidden", "--nonsense=1"])
def test_no_traceback_of_an_argument_that_argparse_refuses(argument, capsys):
    assert run("train", "d.csv", "--traceback", argument) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("xpnn")


def test_a_part_that_exits_has_its_traceback(tmp_path, capsys, kept):
    (tmp_path / "d.csv").write_text("a,b\n" + "1.5,p\n2.5,q\n" * 20)
    (tmp_path / "own.py").write_text(
        "import xpnn\n@xpnn.callbacks.register\nclass Exiting(xpnn.Callback):\n"
        "    def on_epoch(self, epoch):\n        raise SystemExit('enough')\n"
    )
    own = ["--parts", tmp_path / "own.py", "--callback", "exiting", "--quiet", "--epochs", 1]
    assert run("train", tmp_path / "d.csv", *own, "--traceback") == 2
    trace = capsys.readouterr().err
    assert trace.startswith("Traceback (most recent call last):\n")
    assert trace.endswith("own.py, line 5: SystemExit: enough\n")


def test_a_traceback_that_can_not_be_written(temporary, monkeypatch, capsys):
    temporary.rmdir()
    monkeypatch.setattr(saving, "load", lambda path: {}[path])
    assert run("show", "m") == 70
    (line,) = capsys.readouterr().err.splitlines()
    assert "its traceback couldn't be written ([Errno 2]" in line
    assert line.endswith("--traceback prints it")


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (MemoryError(), 2, "error: out of memory"),
        (MemoryError("Unable to allocate 7 TiB"), 2, "error: out of memory: Unable to allocate"),
        (OSError(5, "Input/output error"), 2, "error: [Errno 5] Input/output error"),
        (OSError(36, "Name too long", "a\nb"), 2, "error: [Errno 36] Name too long: 'a\\nb'"),
        (OSError(), 2, "error: OSError"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (RecursionError("deep"), 70, "error: a fault of xpnn, not of its input: RecursionError"),
        (UnicodeEncodeError("ascii", "é", 0, 1, "no"), 70, "error: a fault of xpnn"),
        (ValueError("a\nb\x1b[31m\udcff" + "9" * 9000), 70, "error: a fault of xpnn"),
    ],
)
def test_every_error_is_one_line(error, status, line, temporary, monkeypatch, capsys):
    def broken(path):
        raise error

    monkeypatch.setattr(saving, "load", broken)
    assert run("show", "m") == status
    (found,) = capsys.readouterr().err.splitlines()
    assert found.startswith(f"xpnn: {line}")
    assert found.isprintable()
    assert len(found) < 2100


# the streams


@posix
@pytest.mark.parametrize("shell", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_change_nothing(shell, trained, tmp_path):
    log, kept = tmp_path / "log.csv", tmp_path / "m.safetensors"
    options = ["--epochs", 2, "--hidden", 3, "--seed", 1, "--log", log, "--save", kept]
    done = started("train", trained / "t.csv", *options, shell=shell)
    assert done.returncode == 0
    assert done.stderr == b""
    # nothing that was printed is in a file that got the number of the closed stream
    lines = log.read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["epoch", "0", "1", "2"]
    assert xpnn.load(kept).task.classes == 3


@posix
def test_predictions_need_somewhere_to_go(trained):
    done = started("predict", trained / "m.safetensors", trained / "t.csv", shell=">&-")
    assert done.returncode == 2
    assert done.stderr == b"xpnn: error: out must be given where there is no standard output\n"


def test_without_streams_as_in_a_service(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    log = tmp_path / "log.csv"
    assert run("train", trained / "t.csv", "--epochs", 1, "--hidden", 3, "--log", log) == 0
    assert len(log.read_text().splitlines()) == 3
    assert run("show", "missing") == 2
    assert run("predict", trained / "m.safetensors", trained / "t.csv") == 2


@posix
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
@pytest.mark.parametrize("command", ["show", "evaluate", "predict"])
def test_a_full_disk_below_standard_output(command, trained):
    data = [] if command == "show" else [trained / "t.csv"]
    done = started(command, trained / "m.safetensors", *data, shell="> /dev/full")
    assert done.returncode == 2
    assert done.stderr == b"xpnn: error: [Errno 28] No space left on device\n"
    # nobody is left to be told
    done = started("show", trained / "missing", shell="2> /dev/full")
    assert done.returncode == 2


@pytest.fixture
def japanese(tmp_path):
    """A table whose classes ASCII hasn't, and a model of it."""
    rows = [f"{i},{'日本語' if i < 20 else 'é'}\n" for i in range(40)]
    path = tmp_path / "日本.csv"
    path.write_text("x,kind\n" + "".join(rows), encoding="utf-8")
    model = tmp_path / "m.safetensors"
    assert run("train", path, "--epochs", 1, "--hidden", 3, "--quiet", "--save", model) == 0
    return model, path


@posix
@pytest.mark.parametrize(
    "variables",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONIOENCODING": "latin-1"},
    ],
)
def test_an_encoding_without_the_letters(variables, japanese):
    model, path = japanese
    for command in (
        ["train", path, "--epochs", 1, "--hidden", 3],
        ["show", model],
        ["evaluate", model, path, "--metrics", "f1"],
    ):
        done = started(*command, **variables)
        assert (done.returncode, done.stderr) == (0, b"")
        assert b"\\u65e5\\u672c" in done.stdout
    done = started("evaluate", model, path, "--json", **variables)
    assert [each["label"] for each in json.loads(done.stdout)["classes"]] == ["é", "日本語"]
    # predictions are data: other letters would be other labels
    done = started("predict", model, path, **variables)
    assert done.returncode == 2
    assert done.stdout == b""
    (line,) = done.stderr.decode("latin-1").splitlines()
    assert "which can't write '" in line
    assert line.endswith("write to a file with --out FILE, or set PYTHONIOENCODING=utf-8")


def test_the_streams_are_as_before(trained, capfd):
    before = sys.stdout.errors, sys.stderr.errors, warnings.filters[:], warnings.showwarning
    run("show", trained / "m.safetensors")
    run("show", trained / "missing")
    assert (sys.stdout.errors, sys.stderr.errors, warnings.filters, warnings.showwarning) == before


# warnings


def test_warnings_of_libraries_are_not_printed_and_ours_are_a_line(trained, monkeypatch, capsys):
    load = saving.load

    def loud(path):
        warnings.warn("a library's\nown", DeprecationWarning, stacklevel=1)
        warnings.warn("a library's\nown", UserWarning, stacklevel=1)
        for _ in range(2):
            warnings.warn("is\ndamaged", CheckpointWarning, stacklevel=1)
        return load(path)

    monkeypatch.setattr(saving, "load", loud)
    monkeypatch.setattr(sys, "warnoptions", [])
    assert run("show", trained / "m.safetensors") == 0
    assert capsys.readouterr().err == "xpnn: is damaged\n" * 2
    monkeypatch.setattr(sys, "warnoptions", ["error"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert run("show", trained / "m.safetensors") == 0
    lines = capsys.readouterr().err.splitlines()
    assert [line.rpartition(": ")[0].rpartition(" ")[2] for line in lines[:2]] == [
        "DeprecationWarning",
        "UserWarning",
    ]


def test_warnings_of_a_part_name_its_file_and_line(trained, tmp_path, monkeypatch, capsys, kept):
    own = tmp_path / "own.py"
    own.write_text("import numpy as np\nnp.array([1.0]) / np.array([0.0])\n")
    monkeypatch.setattr(sys, "warnoptions", [])
    assert run("show", trained / "m.safetensors", "--parts", own) == 0
    assert capsys.readouterr().err == ""
    own.write_text(
        "import warnings\nimport xpnn\n@xpnn.activations.register\n"
        "def odd(u, *, xp=None):\n    warnings.warn('how odd')\n    return u, lambda d: d\n"
    )
    options = ["--epochs", 0, "--quiet", "--parts", own, "--activation", "odd"]
    assert run("train", trained / "t.csv", *options) == 0
    assert capsys.readouterr().err == f"xpnn: {own}, line 5: UserWarning: how odd\n"


# Ctrl-C


INTERRUPTING = """
import os, runpy, signal, sys

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.{handler})
sys.meta_path.insert(0, Interrupt())
sys.argv = ["xpnn", "show", "missing"]
runpy.run_module("xpnn", run_name="__main__", alter_sys=True)
"""


@posix
@pytest.mark.parametrize("name", ["numpy", "xpnn.cli", "xpnn.cli.train", "xpnn.saving"])
def test_ctrl_c_during_an_import(name):
    code = INTERRUPTING.format(name=name, handler="default_int_handler")
    line = [sys.executable, "-c", code]
    done = subprocess.run(line, capture_output=True, env=environment(), check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"xpnn: interrupted\n")


@posix
def test_ctrl_c_that_is_ignored_stays_ignored():
    code = INTERRUPTING.format(name="xpnn.cli.train", handler="SIG_IGN")
    line = [sys.executable, "-c", code]
    done = subprocess.run(line, capture_output=True, env=environment(), check=False, timeout=60)
    assert done.returncode == 2
    assert b"missing" in done.stderr


WAITING = """
import sys

class Began:
    def find_spec(self, name, path=None, target=None):
        if name == "xpnn.cli":
            sys.stderr.write(".")
            sys.stderr.flush()

sys.meta_path.insert(0, Began())
"""


@posix
@pytest.mark.parametrize("milliseconds", [0, 40, 150, 400])
def test_ctrl_c_at_any_time_from_the_first_import(milliseconds, trained, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(WAITING)
    variables = environment()
    variables["PYTHONPATH"] = f"{tmp_path}{os.pathsep}{variables['PYTHONPATH']}"
    line = [sys.executable, "-m", "xpnn", "evaluate", trained / "m.safetensors", trained / "t.csv"]
    process = subprocess.Popen(
        list(map(str, line)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=variables
    )
    assert process.stderr.read(1) == b"."
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(milliseconds / 1000)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) in [(130, b"xpnn: interrupted\n"), (0, b"")]


# arguments beyond reason


# no number that a run could begin with, such as 2^40 epochs, which would take for ever
VALUES = ["-1", "nan", "9" * 400, "\udcff", "a\nb\x1b[31m", "a" * 5000, "a:b=c", "loop", "--"]
FIRST = {
    "train": ["t.csv", "--epochs", "1", "--quiet"],
    "verify": ["t.csv", "--epochs", "1", "--backends", "numpy,strict"],
    "show": ["m.safetensors"],
    "evaluate": ["m.safetensors", "t.csv"],
    "predict": ["m.safetensors", "t.csv"],
    "export": ["m.safetensors", "o.onnx"],
    "study run": ["s.toml", "--jobs", "1", "--quiet"],
    "study report": ["runs"],
    "study list": ["s.toml"],
    "plot history": ["log.csv"],
    "plot activations": ["relu"],
    "plot confusion": ["m.safetensors", "t.csv"],
    "plot errors": ["m.safetensors", "t.csv"],
}


def commands(parser=None, words=()):
    """Yield the words and the parser of each command."""
    parser = parser or _parser()
    deeper = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    for action in deeper:
        for name, inner in action.choices.items():
            yield from commands(inner, (*words, name))
    if not deeper:
        yield " ".join(words), parser


ARGUMENTS = [
    (name, action.option_strings[0] if action.option_strings else action.dest)
    for name, parser in commands()
    for action in parser._actions
    if action.nargs != 0
]


def test_all_commands_are_tried():
    assert {name for name, _ in commands()} == {*FIRST, "backends"}


@pytest.mark.parametrize(("name", "argument"), ARGUMENTS)
def test_no_argument_is_a_traceback(name, argument, trained, temporary, monkeypatch, capsys):
    parser = dict(commands())[name]
    places = [action.dest for action in parser._actions if not action.option_strings]
    monkeypatch.chdir(trained)
    for value in VALUES:
        argv = [*name.split(), *FIRST[name]]
        if argument.startswith("-"):
            argv.append(f"{argument}={value}")
        else:
            argv[len(name.split()) + places.index(argument)] = value
        status = run(*argv)
        err = capsys.readouterr().err
        assert status in (0, 1, 2), (argv, err)
        assert err.count("\n") <= 1, (argv, err)
        assert err.isprintable() or err.rstrip("\n").isprintable(), (argv, err)
        assert (status == 2) == ("error: " in err), (argv, err)
    assert not list(temporary.glob("xpnn-*"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--hidden", "9" * 15], "the layers have too many parameters: drawing them takes "),
        (["--hidden", "9" * 20], "hidden must be a whole number >= 1 and <= 2**53, got 999"),
        (
            ["--hidden", "5,99999999999999,5"],
            "too many parameters: drawing them takes 8.8e+06 GB or",
        ),
        (["--hidden", "9" * 101], "hidden must be whole numbers"),
        (["--seed", "9" * 20], "seed must be a whole number >= 0 and <= 4294967295"),
        (["--digits", "9" * 20], "digits must be a whole number from 1 to 17"),
        (["--digits", "9" * 5000], "digits must be a whole number from 1 to 17"),
    ],
)
def test_numbers_beyond_reason(options, message, trained, capsys):
    assert run("train", trained / "t.csv", "--epochs", 1, *options) == 2
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert message in line


@pytest.mark.parametrize("option", ["--batch-size", "--patience"])
def test_large_numbers_that_mean_something(option, trained):
    options = ["--epochs", 1, "--hidden", 3, "--validation", 0.3, "--quiet", option, "9" * 15]
    assert run("train", trained / "t.csv", *options) == 0


# damaged arrays


@pytest.mark.parametrize("name", ["x.npy", "stored.npz", "packed.npz"])
def test_a_damaged_archive_of_arrays_is_a_line(name, trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    x, y = np.arange(12.0).reshape(4, 3), np.array([0, 1, 0, 1])
    np.save("x.npy", x)
    np.savez("stored.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    np.savez_compressed("packed.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    raw = (tmp_path / name).read_bytes()
    bits = min(len(raw), 128) * 8 if name == "x.npy" else len(raw) * 8
    for bit in range(0, bits, 11):
        (tmp_path / f"damaged-{name}").write_bytes(flipped(raw, bit))
        for command in ("predict", "verify") if bit % 5 == 0 else ("predict",):
            options = ["--backends", "numpy,strict"] if command == "verify" else ["--out", "p.csv"]
            status = run(command, trained / "n.safetensors", f"damaged-{name}", *options)
            err = capsys.readouterr().err
            assert status in (0, 1, 2), (bit, err)
            assert (status == 2) == err.startswith("xpnn: error: "), (bit, err)
            assert err.count("\n") <= 1, (bit, err)

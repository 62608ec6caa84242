"""What a run shows: in a terminal, as pyte would draw it; in a notebook; in a file or a pipe."""

import os
import subprocess
import sys

import pytest

import xpnn
from tests.helpers import environment

RUN = """
import sys
import numpy as np
import xpnn

def rows(history):
    return [" ".join(map(repr, row[:5])) for row in history]

class Prints(xpnn.Callback):
    def __init__(self, name):
        self.name = name
    def on_start(self, run):
        print(self.name, "starts")
    def on_epoch(self, epoch):
        print(self.name, epoch.epoch)
    def on_end(self):
        print(self.name, "ends")

class Stops(xpnn.Callback):
    seen = 0
    def on_batches(self, count):
        self.seen += count
        if self.seen > 70:
            raise KeyboardInterrupt

RNG = np.random.RandomState(0)
X, Y = RNG.standard_normal((500, 4)), RNG.randint(0, 3, 500)

TERMINAL = xpnn.Terminal(digits="all")

def fit(*callbacks, epochs=3, batch_size=10, **options):
    return xpnn.fit(
        xpnn.Sequential(xpnn.Dense(3)), (X, Y), validation=(X, Y), epochs=epochs, seed=1,
        batch_size=batch_size, callbacks=callbacks, **options,
    )
"""


@pytest.fixture(scope="module")
def rows():
    """The lines of the run of three epochs."""
    scope = {}
    exec(RUN, scope)
    return scope["rows"](scope["fit"]())


def start(code, **options):
    env = environment(TERM="xterm", PYTHONUNBUFFERED="")
    return subprocess.Popen([sys.executable, "-c", RUN + code], env=env, **options)


class Terminal:
    """A terminal in which a program ran: what it wrote, and the screen that this left."""

    def __init__(self, code, *, columns=80, keys=None):
        fcntl = pytest.importorskip("fcntl")
        pyte = pytest.importorskip("pyte")
        import pty
        import struct
        import termios

        ours, its = pty.openpty()
        fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        # Ctrl-C goes to the session whose terminal this is
        # a suite that runs in the background may have left Ctrl-C to be ignored
        own = "import fcntl, signal, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
        own += "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        streams = dict.fromkeys(("stdin", "stdout", "stderr"), its)
        process = start(own + code, start_new_session=True, **streams)
        os.close(its)
        self.written = b""
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:
                # Linux says so when the last one that had it open has gone
                part = b""
            if not part:
                break
            self.written += part
            if keys and keys[0] in self.written:
                os.write(ours, keys[1])
                keys = None
        os.close(ours)
        self.status = process.wait(timeout=60)
        self.screen = pyte.Screen(columns, 50)
        pyte.ByteStream(self.screen).feed(self.written)
        lines = [line.rstrip() for line in self.screen.display]
        self.lines = "\n".join(lines).rstrip().split("\n")


def test_lines_stand_above_a_bar_that_goes_away(rows):
    terminal = Terminal("fit(TERMINAL)", columns=120)
    assert terminal.status == 0
    assert terminal.lines == rows
    for epoch in (1, 2, 3):
        assert f"epoch {epoch}: ".encode() in terminal.written
    assert b"/150 [" in terminal.written
    assert terminal.screen.cursor.x == 0
    assert not terminal.screen.cursor.hidden


def test_a_narrow_terminal(rows):
    terminal = Terminal("fit(TERMINAL)", columns=40)
    wrapped = [row[start : start + 40].rstrip() for row in rows for start in (0, 40, 80)]
    assert terminal.lines == [line for line in wrapped if line]


def test_callbacks_print_what_they_like(rows):
    terminal = Terminal("fit(Prints('a'), TERMINAL, Prints('b'))", columns=120)
    expected = ["a starts", "b starts"]
    for i, row in enumerate(rows):
        expected += [f"a {i}", row, f"b {i}"]
    assert terminal.lines == [*expected, "a ends", "b ends"]


@pytest.mark.parametrize("options", ["epochs=0", "batch_size=500", "epochs=1, batch_size=500"])
def test_short_runs(options):
    terminal = Terminal(f"print(*rows(fit(TERMINAL, {options})), sep='\\n')", columns=120)
    half = len(terminal.lines) // 2
    assert terminal.lines[:half] == terminal.lines[half:]


def test_an_interrupted_run_leaves_no_bar(rows):
    code = """
try:
    fit(TERMINAL, Stops())
except KeyboardInterrupt:
    print("interrupted")
"""
    terminal = Terminal(code, columns=120)
    assert b"epoch 2: " in terminal.written
    assert terminal.lines == [*rows[:2], "interrupted"]
    assert terminal.screen.cursor.x == 0


def test_ctrl_c_in_a_terminal():
    code = """
try:
    fit(TERMINAL, epochs=1_000_000)
except KeyboardInterrupt:
    print("interrupted")
"""
    terminal = Terminal(code, columns=120, keys=(b"epoch 3: ", b"\x03"))
    assert terminal.status == 0
    assert terminal.lines[-1] == "interrupted"
    assert "batch" not in "".join(terminal.lines)
    assert terminal.screen.cursor.x == 0


@pytest.mark.parametrize("error", ["file", "terminal"])
def test_a_file_gets_a_line_an_epoch_at_once(error, rows, tmp_path):
    out = tmp_path / "out.txt"
    code = f"""
class Looks(xpnn.Callback):
    def on_epoch(self, epoch):
        assert open({str(out)!r}).read().count("\\n") == epoch.epoch + 1
sys.stdout = open({str(out)!r}, "w", newline="")
fit(TERMINAL, Looks())
"""
    if error == "terminal":
        terminal = Terminal(code)
        assert terminal.status == 0
        assert b"epoch 2: " in terminal.written
        assert terminal.lines == [""]
    else:
        process = start(code, stderr=subprocess.PIPE)
        assert process.communicate(timeout=60)[1] == b""
    assert out.read_bytes().decode() == "\n".join(rows) + "\n"


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_a_process_without_streams(name, rows, tmp_path):
    # as under pythonw
    process = start(
        f"sys.{name} = None; fit(TERMINAL)", stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, b"")
    assert out.decode().splitlines() == ([] if name == "stdout" else rows)


NOTEBOOK = """
import types

EVENTS = []

class Widget:
    def __init__(self, children=(), **options):
        self.children, self.value, self.bar_style = children, None, ""
        self.layout, self.style = types.SimpleNamespace(), types.SimpleNamespace()
    def close(self):
        EVENTS.append("closed")

class Stream:
    def write(self, text):
        EVENTS.append(text)
    def flush(self):
        pass
    def isatty(self):
        return False

for name in ("IPython", "IPython.display", "ipykernel.zmqshell"):
    sys.modules[name] = types.ModuleType(name)
sys.modules["IPython"].get_ipython = lambda: types.SimpleNamespace(config={"IPKernelApp": {}})
sys.modules["IPython.display"].display = lambda box: EVENTS.append(box)
sys.modules["ipywidgets"] = WIDGETS and types.ModuleType("ipywidgets")
if WIDGETS:
    for name in ("HTML", "FloatProgress", "HBox"):
        setattr(sys.modules["ipywidgets"], name, Widget)
out, sys.stdout = sys.stdout, Stream()
fit(TERMINAL, Prints("b"))
print(*(e if isinstance(e, str) else "\\n<bar>\\n" for e in EVENTS), sep="", file=out, flush=True)
"""


@pytest.mark.parametrize("widgets", [True, False])
def test_a_notebook(widgets, rows):
    code = NOTEBOOK.replace("WIDGETS", str(widgets or None))
    process = start(code, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = process.communicate(timeout=60)
    assert (err, process.returncode) == (b"", 0)
    lines = out.decode().split("\n")
    expected = ["b starts"]
    for i, row in enumerate(rows):
        expected += [row, f"b {i}"]
    if widgets:
        # one bar, at the first batch, and what is printed comes beneath it
        expected.insert(3, "<bar>")
    expected += [*(["closed"] if widgets else []), "b ends"]
    assert "".join(lines) == "".join(expected)


@pytest.fixture
def columns(rows):
    """The rows as a person reads them."""
    form = "{:>5}  {:>#14.4g}  {:>#10.4g}  {:>#13.4g}  {:>#10.4g}"
    return [
        "epoch  train accuracy  train loss  test accuracy   test loss",
        *(form.format(int(n), *map(float, rest)) for n, *rest in map(str.split, rows)),
    ]


# What `fit` shows if nobody says so


def test_a_run_in_a_terminal_is_shown(columns):
    terminal = Terminal("fit()", columns=120)
    assert terminal.lines == columns
    assert b"epoch 2: " in terminal.written


@pytest.mark.parametrize("code", ["fit(verbose=False)", "fit(verbose=0)", "settings()"])
def test_a_run_that_is_silent_in_a_terminal(code):
    """The runs of estimators, studies and `verify` too."""
    code = f"""
def settings():
    from xpnn.settings import Settings
    from xpnn.datasets import Dataset
    data = Dataset(X, Y)
    made = Settings(hidden="", epochs=2)
    made.fit(made.make_model(data), data, None, backend=xpnn.get_backend("numpy"))
{code}
"""
    assert Terminal(code).lines == [""]


def test_an_estimator_is_silent_in_a_terminal():
    pytest.importorskip("sklearn")
    code = "import xpnn.estimators as e; e.MLPClassifier((3,), max_iter=400, tol=1).fit(X, Y)"
    assert Terminal(code).lines == [""]


def test_a_terminal_that_is_given_is_the_only_one(columns):
    for code in ("fit(xpnn.Terminal())", "fit(xpnn.Terminal(), verbose=True)"):
        assert Terminal(code, columns=120).lines == columns


@pytest.mark.parametrize(("verbose", "shown"), [("None", False), ("False", False), ("True", True)])
def test_a_pipe_gets_what_is_asked_for(verbose, shown, columns):
    process = start(f"fit(verbose={verbose})", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, b"")
    assert out.decode().splitlines() == (columns if shown else [])


@pytest.mark.parametrize("stream", ["None", "closed"])
def test_a_process_that_nobody_reads(stream):
    code = "sys.stdout = None" if stream == "None" else "sys.stdout.close()"
    process = start(f"{code}; fit()", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.communicate(timeout=60) == (b"", b"")
    assert process.returncode == 0


def test_a_run_in_a_notebook_is_shown(columns):
    code = NOTEBOOK.replace("WIDGETS", "None")
    code = code.replace('fit(TERMINAL, Prints("b"))', "fit()")
    # what the output of a cell is in ipykernel
    kind = "Stream.__module__ = 'ipykernel.iostream'"
    code = code.replace("out, sys.stdout", f"{kind}\nout, sys.stdout")
    process = start(code, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, b"")
    assert [line for line in out.decode().splitlines() if line] == columns


def test_columns_below_their_names(capsys, columns):
    scope = {}
    exec(RUN, scope)
    scope["fit"](xpnn.Terminal())
    assert capsys.readouterr().out.splitlines() == columns


@pytest.mark.parametrize("digits", [0, 18, 2.5, True, "many", None])
def test_digits_that_are_none(digits):
    message = f"digits must be a whole number from 1 to 17, or 'all', got {digits!r}"
    with pytest.raises(xpnn.errors.ArgumentError) as error:
        xpnn.Terminal(digits=digits)
    assert str(error.value) == message

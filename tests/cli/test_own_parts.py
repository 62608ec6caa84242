"""docs/guide/own-parts.md: its parts are right, on every backend and at the command line."""

import contextlib
import re

import numpy as np
import pytest

import xpnn
from tests.helpers import ROOT, command, open_backend, write_folder
from xpnn.activations import ACTIVATIONS
from xpnn.callbacks import CALLBACKS
from xpnn.cli import main
from xpnn.layers import LAYERS
from xpnn.losses import LOSSES
from xpnn.metrics import METRICS
from xpnn.optimizers import OPTIMIZERS
from xpnn.schedules import SCHEDULES

PAGE = (ROOT / "docs" / "guide" / "own-parts.md").read_text(encoding="utf-8")
PARTS = "\n\n".join(re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL))
USE = re.findall(r"^```python use\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
NAMES = {
    "squareplus": ACTIVATIONS,
    "pseudo_huber": LOSSES,
    "PReLU": LAYERS,
    "Center": LAYERS,
    "lion": OPTIMIZERS,
    "polynomial": SCHEDULES,
    "norms": CALLBACKS,
    "within": METRICS,
}


@pytest.fixture
def fresh(kept):
    """Registries without what other tests added, as before once the test ends."""
    return lambda: [registry._parts.pop(name, None) for name, registry in NAMES.items()]


@pytest.fixture
def folder(tmp_path, monkeypatch, fresh):
    """The working folder, with the page's file in it."""
    (tmp_path / "my_parts.py").write_text(PARTS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_page_registers_what_it_says(folder):
    assert not any(name in registry for name, registry in NAMES.items())
    parts = xpnn.load_parts("my_parts.py")
    assert all(name in registry for name, registry in NAMES.items())
    assert {registry[name].__module__ for name, registry in NAMES.items()} == {parts.__name__}
    rows = re.findall(r"^\| (\w+) \| .* `xpnn\.(\w+)\.register` \|", PAGE, flags=re.MULTILINE)
    assert len(rows) == 9
    for kind, module in rows:
        assert module == {"loss": "losses"}.get(kind, f"{kind}s")
        assert callable(getattr(xpnn, module).register)


def test_the_page_on_every_backend(folder, backend, library, dtype, capsys):
    checks, use = USE
    if library == "numpy" and dtype == "float64":
        # the checks run on every backend by themselves
        exec(checks, space := {})
        said = capsys.readouterr().out
        assert said.count(": the derivative is right\n") == 3
        assert "takes the same steps everywhere" in said
        # as the page shows it, without the largest error, and where PyTorch isn't
        (shown,) = re.findall(r"^```text\n(squareplus:b=2.*?\n)…\n```", PAGE, re.M | re.DOTALL)
        first, *rows = (line.split()[:5] for line in shown.splitlines())
        printed = [line.split()[:5] for line in said.splitlines()]
        assert printed[0] == first
        for row in rows:
            assert row[:4] in [line[:4] for line in printed] or row[0] == "torch"
    else:
        space = {"parts": xpnn.load_parts("my_parts.py"), "xpnn": xpnn}
    assert 'backend="numpy"' in use
    exec(use.replace('backend="numpy"', "backend=place"), space | {"place": backend} | globals())
    model = xpnn.load("model.safetensors")
    assert model.backend.dtype_name == dtype
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 21
    assert lines[0].startswith("epoch 0: norm ")


def test_a_layer_that_trains_otherwise(folder, backend, dtype):
    parts = xpnn.load_parts("my_parts.py")
    xpnn.testing.check_gradients(parts.Center(), backends=["numpy"])
    x = np.random.RandomState(0).uniform(4, 6, (40, 3))
    model = xpnn.Sequential(parts.Center(), xpnn.Dense(2))
    xpnn.fit(model, (x, x[:, :2]), loss=xpnn.MeanSquaredError(), epochs=30, batch_size=20,
             seed=1, backend=backend)  # fmt: skip
    (buffers, _), decay = model.host_parameters(), 0.9**60
    # a mean of the mini-batches' means, of values between 4 and 6, that began at 0
    assert np.all(np.abs(buffers["mean"] / (1 - decay) - x.mean(axis=0)) < 0.5)
    xpnn.save(model, "center.safetensors")
    again = xpnn.load("center.safetensors", dtype=dtype)
    np.testing.assert_array_equal(again.host_parameters()[0]["mean"], buffers["mean"])


def test_the_parts_learn(folder):
    xpnn.load_parts("my_parts.py")
    space = {"parts": xpnn.load_parts("my_parts.py"), "xpnn": xpnn}
    exec(USE[1], space)
    losses = space["history"].column("train_loss")
    # the untrained network's loss is about the targets' variance
    assert losses[-1] < 0.2 * losses[0]
    assert len(space["norms"].norms) == 21
    x, model = space["x"], space["model"]
    loaded = xpnn.load("model.safetensors")
    assert repr(loaded.task.loss) == "PseudoHuber(delta=1.0)"
    np.testing.assert_array_equal(xpnn.predict(loaded, x), xpnn.predict(model, x))
    onnxruntime = pytest.importorskip("onnxruntime")
    (y,) = onnxruntime.InferenceSession("model.onnx").run(None, {"x": x.astype("float32")})
    # 30 inputs a layer, of numbers of the size 1 to 10
    np.testing.assert_allclose(y, xpnn.predict(model, x), rtol=0, atol=1000 * 2.0**-23)


def test_reproducible_runs_take_the_parts(folder):
    parts, hashes = xpnn.load_parts("my_parts.py"), set()
    rng = np.random.RandomState(0)
    data = rng.standard_normal((40, 5)), rng.standard_normal((40, 1))
    for name in ("numpy", "torch"):
        with contextlib.suppress(xpnn.BackendError):
            model = xpnn.Sequential(
                xpnn.Dense(6), parts.PReLU(), xpnn.Activation("squareplus"), xpnn.Dense(1)
            )
            options = {"loss": parts.PseudoHuber(), "optimizer": parts.Lion(), "seed": 1}
            options |= {"epochs": 2, "reproducible": True}
            xpnn.fit(model, data, batch_size=10, backend=name, **options)
            hashes.add(model.sha256())
    assert len(hashes) == 1


def page_commands():
    """The page's two commands as lists of arguments."""
    (block,) = re.findall(r"^```sh\n(xpnn train .*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return [line.split()[1:] for line in block.replace("\\\n", "").splitlines()]


def test_the_page_at_the_command_line(folder, fresh, capsys):
    data = write_folder(folder / "data")
    train, export = page_commands()
    train = [str(data) if word == "data/mnist" else word for word in train]
    assert main(train) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert len(re.findall(r"^epoch \d: norm \d", captured.out, flags=re.MULTILINE)) == 3
    assert "squareplus1" in captured.out
    assert main(export) == 0
    assert (folder / "model.onnx").stat().st_size > 1000

    fresh()
    assert main(export[:-2]) == 2
    line = capsys.readouterr().err
    assert re.fullmatch(
        r"xpnn: error: model.safetensors needs the activation 'squareplus', .*--parts FILE.py.*\n",
        line,
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--parts", "nowhere.py"], "parts must be a Python file, got 'nowhere.py'"),
        (["--parts", "bad.py"], r"can't load parts from 'bad.py', line 2: ZeroDivisionError"),
        (["--callback", "norms"], r"unknown callback 'norms' \(allowed: none\)"),
        (["--parts", "my_parts.py", "--callback", "norm"], r"did you mean 'norms'"),
        (["--parts", "my_parts.py", "--optimizer", "lion:lr=-1"], r"lr must be .*> 0, got -1"),
        (["--parts", "my_parts.py", "--activation", "squareplus:c=1"], r"'c'.* \(allowed: b\)"),
    ],
)
def test_mistakes_at_the_command_line_take_one_line(folder, arguments, message, capsys):
    (folder / "bad.py").write_text("import xpnn\n1 / 0\n")
    data = write_folder(folder / "data")
    assert main(["train", str(data), "--epochs", "1", "--quiet", *arguments]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert re.search(message, line)


CALLBACK = """import xpnn

@xpnn.callbacks.register
class Own(xpnn.Callback):
    def on_epoch(self, epoch):
        if epoch.epoch == 1:
            {}
"""
ACTIVATION = """import xpnn

@xpnn.activations.register
def own(u, *, xp):
    {}
"""


@pytest.mark.parametrize(
    ("text", "status", "message"),
    [
        # while the file is read
        ("import sys\nsys.exit(0)\n", 2,
         "can't load parts from 'own.py', line 2: SystemExit: 0"),
        ("import sys\nsys.exit()\n", 2, "can't load parts from 'own.py', line 2: SystemExit"),
        ("\nimport nowhere\n", 2,
         "can't load parts from 'own.py', line 2: ModuleNotFoundError: No module named 'nowhere'"),
        ("\nimport broken\n", 2, "can't load parts from 'own.py', line 2: SyntaxError: .*broken.*"),
        ("raise KeyboardInterrupt\n", 130, None),
        # while the command works
        (CALLBACK.format("print(epoch.accuracy)"), 2,
         "own.py, line 7: AttributeError: 'Epoch' object has no attribute 'accuracy'"),
        ("def fails():\n    1 / 0\n" + CALLBACK.format("fails()"), 2,
         "own.py, line 2: ZeroDivisionError: division by zero"),
        (CALLBACK.format("raise SystemExit(3)"), 2, "own.py, line 7: SystemExit: 3"),
        (CALLBACK.format("open('no/where')"), 2, "own.py, line 7: FileNotFoundError: .*no/where'"),
        (CALLBACK.format("raise ValueError('two\\nlines')"), 2,
         "own.py, line 7: ValueError: two lines"),
        (CALLBACK.format("xpnn.errors.positive('figure', 0)"), 2,
         "figure must be a finite number > 0, got 0"),
        (CALLBACK.format("raise KeyboardInterrupt"), 130, None),
        (ACTIVATION.format("return 1 / 0"), 2, "own.py, line 5: ZeroDivisionError: division by .*"),
        (ACTIVATION.format("return u, lambda dz: dz / None"), 2,
         "own.py, line 5: TypeError: unsupported operand.*"),
        (ACTIVATION.format("return None"), 2,
         "TypeError: cannot unpack .*, with the parts of own.py; --traceback shows where"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("library", ["numpy", "torch", "jax"])
def test_a_part_that_raises_takes_one_line(text, status, message, folder, library, capsys):
    open_backend(library)
    (folder / "own.py").write_text(text)
    (folder / "broken.py").write_text("x =\n")
    data = write_folder(folder / "data")
    kind = re.search(r"xpnn\.(\w+)s\.register", text)
    options = [f"--{kind[1]}", "own"] if kind else []
    assert main(["train", str(data), "--epochs", "2", "--quiet", "--save", "m", "--log", "l",
                 "--backend", library, "--parts", "own.py", *options]) == status  # fmt: skip
    err = capsys.readouterr().err
    assert "Traceback" not in err
    if message is not None:
        assert re.fullmatch(f"xpnn: error: {message}\n", err)
    # what was trained by then is kept
    assert (folder / "m").exists() == (options[:1] == ["--callback"])


def test_a_traceback_is_there_for_the_asking(folder, capsys):
    (folder / "own.py").write_text(CALLBACK.format("1 / 0"))
    data = write_folder(folder / "data")
    assert main(["train", str(data), "--epochs", "2", "--quiet", "--parts", "own.py",
                 "--callback", "own", "--traceback"]) == 2  # fmt: skip
    err = capsys.readouterr().err
    assert err.startswith("Traceback (most recent call last):\n")
    assert 'own.py", line 7, in on_epoch' in err
    assert err.endswith("xpnn: error: own.py, line 7: ZeroDivisionError: division by zero\n")


def test_an_error_of_ours_is_not_hidden(folder, monkeypatch, capsys):
    def fails(path):
        raise TypeError("a mistake of ours")

    monkeypatch.setattr("xpnn.cli.models.saving.load", fails)
    assert main(["show", "m"]) == 70
    assert (
        "a fault of xpnn, not of its input: TypeError: a mistake of ours;"
        in capsys.readouterr().err
    )


@pytest.fixture
def study(folder):
    """The page's grid, in a folder of its own with the parts."""
    (folder / "grid").mkdir()
    (folder / "my_parts.py").rename(folder / "grid" / "my_parts.py")
    text = (ROOT / "docs" / "guide" / "studies.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```toml parts.toml\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    data = write_folder(folder / "data")
    path = folder / "grid" / "mine.toml"
    path.write_text(block.replace("data/mnist", str(data)), encoding="utf-8")
    return path


def test_a_study_takes_parts(study, folder, tmp_path_factory, capsys):
    start = ["study", "run", str(study), "--out", "runs", "--jobs", "2", "--quiet"]
    assert main(start) == 0
    results = {path: path.stat().st_mtime_ns for path in (folder / "runs").glob("*-*.json")}
    assert len(results) == 2
    # what is there isn't done again, and the report can be had from anywhere
    assert main(start) == 0
    assert {path: path.stat().st_mtime_ns for path in results} == results
    # what is only read runs nothing
    for argv in (("report", folder / "runs"), ("list", study)):
        done = command("study", *argv)
        assert done.returncode == 2
        assert done.stdout == ""
        assert re.fullmatch(
            r"xpnn: error: .*: it needs parts, which are Python code .*: "
            r"--parts \S*/grid/my_parts\.py, or in Python parts=\[…\]\n",
            done.stderr,
        )
    elsewhere, parts = tmp_path_factory.mktemp("else"), study.parent / "my_parts.py"
    done = command("study", "report", folder / "runs", "--parts", parts, cwd=elsewhere)
    assert (done.returncode, done.stderr) == (0, "")
    assert "squareplus:b=2" in (folder / "runs" / "report.md").read_text(encoding="utf-8")

    # another part is another run, and what is wrong with it is one line a run
    wrong = parts.read_text(encoding="utf-8").replace("root = xp.sqrt(u * u + b)", "root = 1 / 0")
    parts.write_text(wrong, encoding="utf-8")
    line = 1 + wrong.splitlines().index("    root = 1 / 0")
    capsys.readouterr()
    assert main(start) == 1
    (failed,) = capsys.readouterr().err.splitlines()
    assert failed.startswith("xpnn: failed: activation=squareplus:b=2 ")
    assert failed.endswith(f"{parts}, line {line}: ZeroDivisionError: division by zero")
    assert len(list((folder / "runs").glob("*.json"))) == 2 + 1 + 1


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ('["nowhere.py"]', "mine.toml: parts must be a Python file, got '.*/grid/nowhere.py'"),
        ('["bad.py"]', "mine.toml: can't load parts from '.*/grid/bad.py', line 2: SystemExit: 3"),
        ('"bad.py"', "mine.toml: parts must be a list, got 'bad.py'"),
        ("[1]", "mine.toml: parts must be text, got 1"),
        ("[]", "mine.toml: parts must not be an empty list"),
    ],
)
def test_a_studys_parts_that_can_not_be_loaded(study, parts, message, capsys):
    (study.parent / "bad.py").write_text("import sys\nsys.exit(3)\n")
    study.write_text(study.read_text().replace('["my_parts.py"]', parts))
    assert main(["study", "run", str(study)]) == 2
    assert re.fullmatch(f"xpnn: error: .*{message}\n", capsys.readouterr().err)

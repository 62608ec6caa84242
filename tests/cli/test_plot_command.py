"""`xpnn plot`, and the examples of docs/guide/plots.md."""

import re
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest

import xpnn
from tests.helpers import ARTICLE, ROOT, run, write_folder

pytest.importorskip("matplotlib")

SMALL = ["--hidden", "6", "--epochs", "2", "--batch-size", "20", "--quiet"]
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with data, two logs and a model that is wrong now and then."""
    folder = tmp_path_factory.mktemp("made")
    write_folder(folder / "data")
    for seed in (1, 2):
        files = ["--log", folder / f"{seed}.csv", "--save", folder / "m.safetensors"]
        assert run("train", folder / "data", *SMALL, "--seed", seed, *files) == 0
    return folder


@pytest.fixture
def place(made, tmp_path, monkeypatch):
    """The working folder, a copy of `made`."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def figures(monkeypatch):
    """The figures that are drawn."""
    from matplotlib.figure import Figure

    saved = []
    save = Figure.savefig

    def keep(self, *args, **options):
        saved.append(self)
        save(self, *args, **options)

    monkeypatch.setattr(Figure, "savefig", keep)
    return saved


def legend(figure):
    (found,) = figure.legends
    return [text.get_text() for text in found.get_texts()]


def labels(figure):
    return [text.get_text() for text in figure.axes[0].texts]


@pytest.mark.parametrize(
    ("logs", "names"),
    [
        (["1.csv", "2.csv"], ["1", "2"]),
        (["2.csv"], ["2"]),
        (["1.csv", "other/1.csv"], ["1.csv", "other/1.csv"]),
    ],
)
def test_histories(logs, names, place, figures, capsys):
    (place / "other").mkdir()
    (place / "other" / "1.csv").write_bytes((place / "1.csv").read_bytes())
    assert run("plot", "history", *logs) == 0
    assert capsys.readouterr().out == "picture: history.png\n"
    assert (place / "history.png").read_bytes().startswith(PNG)
    assert labels(figures[-1]) == names
    assert legend(figures[-1]) == ["training", "test"]
    tested = [line for line in figures[-1].axes[0].lines if line.get_label() == "test"]
    for line, log in zip(tested, logs, strict=True):
        assert list(line.get_ydata()) == [row.test_accuracy for row in xpnn.read_log(log)]


def test_a_published_log_has_no_seconds(place, figures):
    log = ARTICLE / "h_swish.csv"
    assert run("plot", "history", log, "--out", "h.svg") == 0
    lines = figures[-1].axes[1].lines
    assert [round(float(line.get_ydata()[-1]), 4) for line in lines] == [0.002, 0.0951]


@pytest.mark.parametrize("low", ["--range -3,5", "--range=-3,5"])
def test_activations(low, place, figures):
    names = "relu,elu:alpha=2,swish:beta=0.5"
    assert run("plot", "activations", names, *low.split(), "--out", "a.png") == 0
    assert labels(figures[-1]) == ["relu", "elu:alpha=2", "swish:beta=0.5"]
    for axes in figures[-1].axes:
        assert axes.get_xlim() == (-3, 5)


def test_a_dark_picture(place, figures):
    assert run("plot", "activations", "relu", "--dark", "--out", "a.png") == 0
    assert figures[-1].get_facecolor()[0] < 0.1


@pytest.mark.parametrize("backend", ["numpy", "strict"])
def test_a_confusion_matrix(backend, place, figures):
    assert run("plot", "confusion", "m.safetensors", "data", "--backend", backend) == 0
    _, test = xpnn.datasets.read_idx_folder("data")
    predicted = xpnn.predict(xpnn.load("m.safetensors"), test.x)
    shown = {
        (round(y), round(x)): int(text.get_text())
        for text in figures[-1].axes[0].texts
        for x, y in [text.get_position()]
    }
    pairs = list(zip(test.y.tolist(), predicted.tolist(), strict=True))
    assert shown == {pair: pairs.count(pair) for pair in pairs}
    assert (place / "confusion.png").exists()


def test_errors(place, figures):
    assert run("plot", "errors", "m.safetensors", "data", "--count", 3) == 0
    _, test = xpnn.datasets.read_idx_folder("data")
    predicted = xpnn.predict(xpnn.load("m.safetensors"), test.x)
    wrong = np.flatnonzero(predicted != test.y)
    assert len(wrong) > 3
    drawn = [axes for axes in figures[-1].axes if axes.images]
    assert len(drawn) == 3
    for axes in drawn:
        image = axes.images[0].get_array()
        (row,) = [i for i in wrong if np.array_equal(test.x[i].reshape(4, 4), image)]
        assert axes.get_title().startswith(f"true {test.y[row]}\npredicted {predicted[row]}, 0.")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("history missing.csv", "can't read log missing.csv: No such file or directory"),
        ("history data/m.safetensors", "can't read log"),
        ("history m.safetensors", "m.safetensors is not a log"),
        ("history 1.csv 1.csv", "logs must be different files, got 1.csv 1.csv"),
        ("history 1.csv --out 1.csv", "out and log must be different files, got 1.csv"),
        ("history 1.csv --out 1.txt", "out must be a file that ends in one of"),
        ("history 1.csv --out a/b.png", "out must be a file that can be written"),
        ("activations rleu", "unknown activation 'rleu'; did you mean 'relu'?"),
        ("activations relu,", "unknown activation ''"),
        ("activations relu --range 4", "range must be two numbers such as -4,4, got '4'"),
        ("activations relu --range a,4", "range must be two numbers"),
        ("activations relu --range -1,-2", "low must be less than high, got -1.0 and -2.0"),
        ("activations relu --range nan,4", "low must be a finite number"),
        ("confusion 1.csv data", "can't read a model from 1.csv"),
        ("confusion m.safetensors missing", "no file or folder missing"),
        ("confusion m.safetensors data --out data/c.png", "out must not be in the data's folder"),
        ("confusion m.safetensors data --backend nympu", "did you mean 'numpy'?"),
        ("errors m.safetensors data --count 0", "count must be a whole number >= 1, got 0"),
    ],
)
def test_mistakes_take_one_line(options, message, place, capsys):
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    assert run("plot", *options.split()) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("xpnn: error: ")
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == before


def test_other_data_than_the_models(place, capsys):
    write_folder(place / "more", classes=4)
    assert run("plot", "confusion", "m.safetensors", "more") == 2
    assert "true must hold labels from 0 to 2, got 3 in row 3" in capsys.readouterr().err


@pytest.mark.parametrize("options", ["", "kind", "history", "activations", "errors m"])
def test_wrong_commands_take_one_line(options, capsys):
    assert run("plot", *options.split()) == 2
    assert re.fullmatch(r"xpnn plot.*: error: .*\n", capsys.readouterr().err)


def test_a_picture_without_a_name_overwrites_none(place, capsys):
    (place / "history.png").write_text("mine")
    assert run("plot", "history", "1.csv") == 2
    assert "out must be given because history.png already exists" in capsys.readouterr().err
    assert (place / "history.png").read_text() == "mine"
    assert run("plot", "history", "1.csv", "--out", "history.png") == 0


def test_event_files(place):
    pytest.importorskip("tensorboardX")
    assert run("train", "data", *SMALL, "--tensorboard", "events") == 0
    names = [path.parent.name for path in place.glob("events/*/*tfevents*")]
    assert sorted(names) == ["test", "train"]


def test_event_files_that_cannot_be(place, capsys, monkeypatch):
    pytest.importorskip("tensorboardX")
    for folder, message in (
        ("1.csv", "tensorboard must be a folder that can be written to, got '1.csv': 1.csv is"),
        ("data/events", "tensorboard must not be in the data's folder"),
    ):
        assert run("train", "data", *SMALL, "--tensorboard", folder) == 2
        assert message in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    assert run("train", "data", *SMALL, "--tensorboard", "events") == 2
    assert "pip install tensorboardX" in capsys.readouterr().err
    assert not (place / "events").exists()


PAGE = (ROOT / "docs" / "guide" / "plots.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A folder that looks to the page's examples as the repository does, with less data."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    write_folder(tmp_path / "data" / "mnist", counts=(200, 100))
    published = tmp_path / "xpnn" / "study" / "article"
    published.mkdir(parents=True)
    (published / "published").symlink_to(ARTICLE)


def test_the_pages_commands_run(checkout, tmp_path):
    pytest.importorskip("tensorboardX")
    lines = "".join(blocks("sh")).replace("\\\n", " ").splitlines()
    listed = [shlex.split(line.removeprefix("xpnn ")) for line in lines]
    assert {words[1] for words in listed if words[0] == "plot"} == {
        "history",
        "activations",
        "confusion",
        "errors",
    }
    for words in listed:
        assert run(*words) == 0, words
    for path in tmp_path.glob("*.png"):
        assert path.read_bytes().startswith(PNG)


def test_the_pages_python_runs(checkout, tmp_path):
    code = "\n".join(blocks("python"))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert {path.name for path in tmp_path.glob("*.png")} == set(re.findall(r'"(\w+\.png)"', code))


def test_the_pages_pictures_are_small():
    names = re.findall(r"!\[[^\]]+\]\((.+?)\.svg\)", PAGE)
    assert len(names) == 4
    for name in names:
        for theme in ("", "_dark"):
            path = ROOT / "docs" / "guide" / f"{name}{theme}.svg"
            assert path.stat().st_size < 90_000
            assert "<dc:date>" not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", ["history", "activations"])
@pytest.mark.parametrize("theme", ["", "_dark"])
def test_the_pages_pictures_are_those_of_its_commands(kind, theme, checkout, tmp_path):
    """Those that need no training; another version of matplotlib draws other lines."""
    shown = (ROOT / "docs" / "guide" / "plots" / f"{kind}{theme}.svg").read_text(encoding="utf-8")
    if f"Matplotlib v{pytest.importorskip('matplotlib').__version__}," not in shown:
        pytest.skip("the picture is of another version of matplotlib")
    lines = [line.replace("\\\n", " ").strip() for line in blocks("sh")]
    (command,) = (
        line
        for line in lines
        if line.startswith(f"xpnn plot {kind} xpnn/")
        or (kind == "activations" and line.startswith("xpnn plot activations"))
    )
    words = [*shlex.split(command)[1:], "--out", "drawn.svg", *["--dark"] * bool(theme)]
    assert run(*words) == 0
    assert _drawn((tmp_path / "drawn.svg").read_text(encoding="utf-8")) == _drawn(shown)


def _drawn(svg):
    """Return what a picture shows, without its date and the names that it gives its parts."""
    svg = re.sub(r" *<dc:date>.*\n", "", svg)
    return re.sub(r"(?<=#)[mp][0-9a-f]{10}|(?<=id=\")[mp][0-9a-f]{10}", "", svg)

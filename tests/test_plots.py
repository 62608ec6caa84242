import math
import struct
import sys

import pytest

import xpnn
from xpnn import plots
from xpnn.training import Epoch

pytest.importorskip("matplotlib")

ROWS = [Epoch(i, 0.1 * i, 2.0 - 0.3 * i, 0.09 * i, 2.1 - 0.3 * i, 1.0) for i in range(5)]
UNTESTED = [row._replace(test_accuracy=math.nan, test_loss=math.nan) for row in ROWS]
LOSS_ALONE = [row._replace(train_accuracy=math.nan) for row in UNTESTED]


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are drawn."""
    figures = []
    make = plots._figure
    monkeypatch.setattr(plots, "_figure", lambda *size: figures.append(make(*size)) or figures[-1])
    return figures


@pytest.mark.parametrize(
    ("ending", "begin"),
    [("png", b"\x89PNG\r\n\x1a\n"), ("svg", b"<?xml"), ("pdf", b"%PDF-")],
)
def test_a_picture_is_written(ending, begin, tmp_path):
    path = tmp_path / f"run.{ending}"
    xpnn.plots.plot_history(ROWS, path)
    assert path.read_bytes().startswith(begin)
    assert list(tmp_path.iterdir()) == [path]


def test_the_size_of_a_png(tmp_path):
    path = tmp_path / "run.png"
    plots.plot_history(ROWS, path)
    assert struct.unpack(">II", path.read_bytes()[16:24]) == (1500, 600)


@pytest.mark.parametrize(
    ("rows", "curves"),
    [
        (ROWS, ({"train", "test"}, {"train", "test"})),
        (UNTESTED, ({"train"}, {"train"})),
        (LOSS_ALONE, (set(), {"train"})),
        (ROWS[:1], ({"train", "test"}, {"train", "test"})),
        (ROWS[:2], ({"train", "test"}, {"train", "test"})),
    ],
    ids=["tested", "untested", "loss alone", "row 0", "one epoch"],
)
def test_the_curves(rows, curves, drawn, tmp_path):
    plots.plot_history(rows, tmp_path / "run.svg")
    accuracy, loss = drawn[-1].axes
    assert (accuracy.get_title(), loss.get_title()) == ("accuracy", "loss")
    for axes, expected in zip((accuracy, loss), curves, strict=True):
        lines = {line.get_label(): line for line in axes.lines}
        assert set(lines) == expected
        for part, line in lines.items():
            assert list(line.get_xdata()) == [row.epoch for row in rows]
            values = [getattr(row, f"{part}_{axes.get_title()}") for row in rows]
            assert list(line.get_ydata()) == values
            # one point makes no line
            assert (line.get_marker() == ".") == (len(rows) < 3)
        assert (axes.get_legend() is not None) == bool(expected)


def test_the_view_is_that_of_the_trained_epochs(drawn, tmp_path):
    plots.plot_history([ROWS[0]._replace(train_loss=1e6), *ROWS[1:]], tmp_path / "run.svg")
    low, high = drawn[-1].axes[1].get_ylim()
    assert 0.6 < low < 0.8
    assert 1.8 < high < 2.0


def test_values_that_stay_the_same(tmp_path):
    plots.plot_history([ROWS[1]] * 3, tmp_path / "run.png")
    plots.plot_history([Epoch(i, 0.0, 0.0, 0.0, 0.0, 1.0) for i in range(3)], tmp_path / "0.png")


@pytest.mark.parametrize("name", ["run.jpg2", "run", "run.csv"])
def test_an_unknown_ending(name, tmp_path):
    for function in (plots.check, lambda path: plots.plot_history(ROWS, path)):
        with pytest.raises(xpnn.ArgumentError, match=r"ends in one of .*png.*svg.*got '.*run"):
            function(tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("place", "reason"), [("missing/run.png", "there is no folder"), (".", "it is a folder")]
)
def test_a_picture_that_cannot_be_written(place, reason, tmp_path):
    with pytest.raises(xpnn.ArgumentError, match=f"plot must be a file .*{reason}"):
        plots.check(tmp_path / place)


def test_check_writes_nothing(tmp_path):
    plots.check(tmp_path / "run.png")
    assert not list(tmp_path.iterdir())


def test_without_matplotlib(monkeypatch, tmp_path):
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(xpnn.ArgumentError, match=r"needs matplotlib.*pip install matplotlib"):
        plots.check(tmp_path / "run.png")


def test_a_failure_keeps_the_old_picture(monkeypatch, tmp_path):
    from matplotlib.figure import Figure

    path = tmp_path / "run.png"
    path.write_bytes(b"old")

    def broken(self, target, **options):
        target.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", broken)
    with pytest.raises(OSError, match="No space left"):
        plots.plot_history(ROWS, path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]

import inspect
import math
import pickle
import re
import struct
import sys
import warnings
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

import xpnn
from xpnn import plots
from xpnn.activations import ACTIVATIONS
from xpnn.datasets import NamedDataset
from xpnn.task import Task
from xpnn.training.history import Epoch

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


def legend(figure):
    """The entries of a figure's one legend."""
    (found,) = figure.legends
    assert not any(axes.get_legend() for axes in figure.axes)
    return [text.get_text() for text in found.get_texts()]


def labels(axes):
    """The names at the ends of the lines."""
    return [text.get_text() for text in axes.texts]


@pytest.mark.parametrize(
    ("ending", "begin"),
    [("png", b"\x89PNG\r\n\x1a\n"), ("svg", b"<?xml"), ("pdf", b"%PDF-")],
)
def test_a_picture_is_written(ending, begin, tmp_path):
    path = tmp_path / f"run.{ending}"
    xpnn.plots.plot_history(ROWS, path)
    assert path.read_bytes().startswith(begin)
    assert list(tmp_path.iterdir()) == [path]


def test_a_picture_that_is_a_link(tmp_path):
    path, kept = tmp_path / "run.png", tmp_path / "kept.data"
    path.symlink_to(kept)
    plots.plot_history(ROWS, path)
    assert path.is_symlink()
    assert kept.read_bytes().startswith(b"\x89PNG")


def test_the_size_of_a_png(tmp_path):
    path = tmp_path / "run.png"
    plots.plot_history(ROWS, path)
    assert struct.unpack(">II", path.read_bytes()[16:24]) == (1500, 600)


@pytest.mark.parametrize(
    ("rows", "curves"),
    [
        (ROWS, ({"train", "test"}, {"train", "test"})),
        (UNTESTED, ({"train"}, {"train"})),
        (LOSS_ALONE, (None, {"train"})),
        (ROWS[:1], ({"train", "test"}, {"train", "test"})),
        (ROWS[:2], ({"train", "test"}, {"train", "test"})),
    ],
    ids=["tested", "untested", "loss alone", "row 0", "one epoch"],
)
def test_the_curves(rows, curves, drawn, tmp_path):
    plots.plot_history(rows, tmp_path / "run.svg")
    panels = {axes.get_title(): axes for axes in drawn[-1].axes}
    # a regression has no panel of accuracies
    expected = {title: own for title, own in zip(("accuracy", "loss"), curves, strict=True) if own}
    assert list(panels) == list(expected)
    for axes, own in zip(panels.values(), expected.values(), strict=True):
        lines = {line.get_label(): line for line in axes.lines}
        assert set(lines) == own
        for part, line in lines.items():
            assert list(line.get_xdata()) == [row.epoch for row in rows]
            values = [getattr(row, f"{part}_{axes.get_title()}") for row in rows]
            assert list(line.get_ydata()) == values
            # one point makes no line
            assert (line.get_marker() == ".") == (len(rows) < 3)
        words = {"train": "training", "test": "test"}
        assert labels(axes) == [word for part, word in words.items() if part in own]
        assert [text.get_color() for text in axes.texts] == [
            line.get_color() for line in axes.lines
        ]
    assert not drawn[-1].legends


@pytest.mark.parametrize(("metrics", "rows"), [(1, 1), (2, 2), (4, 2), (5, 3)])
def test_a_panel_for_each_metric(metrics, rows, tmp_path):
    names = [f"m{i}" for i in range(metrics)]
    measured = [
        row._replace().measured({f"test_{name}": row.epoch + i for i, name in enumerate(names)})
        for row in ROWS
    ]
    for figure in (
        plots.plot_histories({"a": ROWS, "b": measured}, tmp_path / "runs.svg"),
        plots.plot_history(measured, tmp_path / "run.svg"),
    ):
        assert [axes.get_title() for axes in figure.axes] == ["accuracy", "loss", *names]
        assert figure.axes[0].get_gridspec().get_geometry() == (rows, 3)
        for i in range(metrics):
            (line,) = figure.axes[2 + i].lines
            assert list(line.get_ydata()) == [row.epoch + i for row in ROWS]


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
        target.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", broken)
    with pytest.raises(OSError, match="No space left"):
        plots.plot_history(ROWS, path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def hexes(figure):
    from matplotlib.colors import to_hex

    return [to_hex(line.get_color()) for line in figure.axes[0].lines]


def test_several_runs_have_their_names_beside_their_curves(drawn, tmp_path):
    runs = {"a": ROWS, "_b": UNTESTED, "$c$ and $d$": ROWS[:2]}
    plots.plot_histories(runs, tmp_path / "runs.svg")
    (figure,) = [f for f in drawn if f.axes]
    assert legend(figure) == ["training", "test"]
    for axes in figure.axes:
        quantity = axes.get_title()
        found = [(line.get_label(), list(line.get_ydata())) for line in axes.lines]
        assert found == [
            (part, [getattr(row, f"{part}_{quantity}") for row in rows])
            for rows in runs.values()
            for part in ("train", "test")
            if rows is not UNTESTED or part == "train"
        ]
        assert labels(axes) == list(runs)
        assert not any(text.get_parse_math() for text in axes.texts)
        dotted = [line.get_linestyle() == ":" for line in axes.lines]
        assert dotted == [label == "train" for label, _ in found]
    # one colour a run, and its name has it
    colors = hexes(figure)
    assert colors[0] == colors[1] != colors[2] != colors[3] == colors[4]
    named = [text.get_color() for text in figure.axes[0].texts]
    assert named == [colors[0], colors[2], colors[3]]


def test_many_runs_have_a_legend(drawn):
    names = [f"run {i}" for i in range(20)]
    figure = plots.plot_histories(dict.fromkeys(names, ROWS))
    assert legend(figure) == [*names, "training", "test"]
    assert not any(map(labels, figure.axes))


def test_no_two_of_many_series_look_alike(drawn, tmp_path):
    plots.plot_histories({str(i): ROWS for i in range(20)}, tmp_path / "runs.svg")
    tested = [line for line in drawn[-1].axes[0].lines if line.get_label() == "test"]
    assert len({(line.get_color(), line.get_marker()) for line in tested}) == 20
    names = list(ACTIVATIONS)
    plots.plot_activations(names, tmp_path / "activations.svg")
    lines = drawn[-1].axes[0].lines
    assert len({(line.get_color(), str(line._dash_pattern)) for line in lines}) == len(names)


def test_no_runs_or_activations():
    with pytest.raises(xpnn.ArgumentError, match="histories must hold at least one run"):
        plots.plot_histories({}, "runs.svg")
    with pytest.raises(xpnn.ArgumentError, match=r"histories must be a mapping .* got a list"):
        plots.plot_histories([ROWS], "runs.svg")
    for given in ([], "relu", None, [1]):
        with pytest.raises(xpnn.ArgumentError, match="activations must be a list of names"):
            plots.plot_activations(given, "activations.svg")


# by hand: value and derivative of each piece
PIECES = {
    "relu": [(lambda u: u <= 0, lambda u: (0, 0)), (lambda u: u > 0, lambda u: (u, 1))],
    "leaky_relu:negative_slope=0.25": [
        (lambda u: u <= 0, lambda u: (u / 4, Fraction(1, 4))),
        (lambda u: u > 0, lambda u: (u, 1)),
    ],
    "h_swish:n=4": [
        (lambda u: u <= -2, lambda u: (0, 0)),
        (lambda u: -2 < u <= 2, lambda u: (u * (u + 2) / 4, (2 * u + 2) / 4)),
        (lambda u: u > 2, lambda u: (u, 1)),
    ],
}


def test_activations_and_their_derivatives(drawn, tmp_path):
    plots.plot_activations(list(PIECES), tmp_path / "a.svg", low=-2.5, high=3.5)
    values, slopes = drawn[-1].axes
    # the longest name would take too much of a panel
    assert legend(drawn[-1]) == list(PIECES)
    assert not labels(values)
    assert values.get_xlim() == slopes.get_xlim() == (-2.5, 3.5)
    for value, slope in zip(values.lines, slopes.lines, strict=True):
        assert value.get_label() == slope.get_label()
        assert value.get_color() == slope.get_color()
        assert value.get_linestyle() == slope.get_linestyle()
        u = value.get_xdata()
        assert list(u) == list(slope.get_xdata())
        assert len(u) > 200
        exact = [
            next(f(Fraction(v)) for holds, f in PIECES[value.get_label()] if holds(v)) for v in u
        ]
        # four roundings of numbers up to 4
        for line, column in ((value, 0), (slope, 1)):
            expected = [float(pair[column]) for pair in exact]
            np.testing.assert_allclose(line.get_ydata(), expected, rtol=0, atol=4 * 4 * 2**-53)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"low": 1, "high": 1}, "low must be less than high, got 1.0 and 1.0"),
        ({"low": 2, "high": 1}, "low must be less than high"),
        ({"low": math.nan}, "low must be a finite number"),
        ({"high": math.inf}, "high must be a finite number"),
        ({"activations": ["rleu"]}, "unknown activation 'rleu'; did you mean 'relu'"),
        ({"activations": ["elu:alpha=0"]}, "alpha must be a finite number > 0"),
    ],
)
def test_activations_that_cannot_be_drawn(options, message, tmp_path):
    options = {"activations": ["relu"], "path": tmp_path / "a.svg", **options}
    with pytest.raises(xpnn.ArgumentError, match=message):
        plots.plot_activations(**options)
    assert not list(tmp_path.iterdir())


COUNTS = np.array([[90, 10, 0], [0, 1, 3], [0, 0, 0]])


def test_a_confusion_matrix(drawn, tmp_path):
    plots.plot_confusion(COUNTS, tmp_path / "c.svg", names=["a", "$b$", "cc"])
    axes = drawn[-1].axes[0]
    (image,) = axes.images
    expected = [[0.9, 0.1, 0], [0, 0.25, 0.75], [0, 0, 0]]
    np.testing.assert_allclose(image.get_array(), expected, rtol=2**-52)
    assert {(*text.get_position(), text.get_text()) for text in axes.texts} == {
        (0, 0, "90"),
        (1, 0, "10"),
        (1, 1, "1"),
        (2, 1, "3"),
    }
    # white on dark, dark on light
    inks = {text.get_text(): text.get_color() == "white" for text in axes.texts}
    assert inks == {"90": True, "10": False, "1": False, "3": True}
    assert axes.get_title() == "13 of 104 wrong"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class", "true class")
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        assert [label.get_text() for label in labels] == ["a", "$b$", "cc"]
        assert not any(label.get_parse_math() for label in labels)


def test_many_classes_have_no_numbers(drawn, tmp_path):
    for classes, numbered in ((30, True), (31, False)):
        plots.plot_confusion(np.eye(classes, dtype=int), tmp_path / "c.png")
        assert len(drawn[-1].axes[0].texts) == (classes if numbered else 0)


@pytest.mark.parametrize(
    ("matrix", "options", "message"),
    [
        ([[1, 2]], {}, r"matrix must have shape \(n, n\) with n > 0, got \(1, 2\)"),
        (xpnn.Sequential(xpnn.Dense(2)), {}, r"got Sequential; xpnn.inference.confusion\(model, "),
        (np.zeros((0, 0), int), {}, "matrix must have shape"),
        ([[0.5]], {}, "matrix must hold counts, integers >= 0, got float64"),
        ([[-1]], {}, "matrix must hold counts"),
        ([[1]], {"names": ["a", "b"]}, "names must be 1, one a class, got 2"),
    ],
)
def test_confusions_that_cannot_be_drawn(matrix, options, message, tmp_path):
    with pytest.raises(xpnn.ArgumentError, match=message):
        plots.plot_confusion(matrix, tmp_path / "c.svg", **options)
    assert not list(tmp_path.iterdir())


def classifier(weights, backend="numpy", loss=None, classes=None):
    """A trained model of one dense layer whose outputs are x @ weights."""
    model = xpnn.Sequential(xpnn.Dense(weights.shape[1]))
    parameters = [{"weight": weights, "bias": np.zeros(weights.shape[1])}]
    place = xpnn.get_backend(backend, dtype="float64") if isinstance(backend, str) else backend
    model.place(parameters, inputs=len(weights), backend=place)
    model.task = Task(
        loss=loss or xpnn.CrossEntropy(),
        classes=classes or weights.shape[1],
        image_shape={4: (2, 2, 1), 1: (1, 1, 1)}[len(weights)],
    )
    return model


# the logits are the first three pixels of 2 × 2 images
X = np.array([[0.0, 2, 0, 7], [3, 0, 0, 8], [1, 0, 0, 9], [0, 0, 3, 10], [0, 1, 0, 11]])
Y = np.array([0, 0, 1, 1, 2])


def shown(figure):
    return [
        (axes.get_title(), axes.images[0].get_array().tolist())
        for axes in figure.axes
        if axes.images
    ]


def softmax(x):
    return np.exp(x) / np.exp(x).sum()


def test_errors_with_the_surest_first(backend, drawn, tmp_path):
    model = classifier(np.eye(4, 3), backend)
    plots.plot_errors(model, (X, Y), tmp_path / "e.svg")
    assert drawn[-1]._suptitle.get_text() == "4 of 5 wrong"
    # those of rows 2 and 4 are equal: their order stays
    order = [(3, 2), (0, 1), (2, 0), (4, 1)]
    assert shown(drawn[-1]) == [
        (
            f"true {Y[i]}\npredicted {wrong}, {softmax(X[i, :3])[wrong]:.3f}",
            X[i].reshape(2, 2).tolist(),
        )
        for i, wrong in order
    ]


@pytest.mark.parametrize("count", [1, 2, 9])
def test_long_names_do_not_overlap(count, drawn, tmp_path):
    """The titles as they are drawn, beside each other and within the picture."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    names = np.array(
        ["a golden retriever in the mountains\nof Norway", "WWWWWWWWWWWWWWWWWWWWWWWWW", "cat"]
    )
    model = classifier(np.eye(4, 3))
    model.task = replace(model.task, labels=names)
    x, y = np.tile(X, (2, 1)), np.tile((Y + 1) % 3, 2)
    figure = plots.plot_errors(model, (x, names[y]), count=count)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    boxes = [axes.title.get_window_extent(renderer) for axes in figure.axes if axes.get_title()]
    assert boxes
    assert not any(box.overlaps(other) for i, box in enumerate(boxes) for other in boxes[:i])
    for box in boxes:
        assert 0 <= box.x0 < box.x1 <= figure.bbox.x1
    titles = [title for title, _ in shown(figure)]
    assert all(title.count("\n") == 1 for title in titles)
    assert any("…" in title for title in titles)
    # the probability stays
    assert all(re.search(r", >?[01]\.\d{3}$", title) for title in titles)


@pytest.mark.parametrize("shape", [(2, 3, 1), (1, 2, 3)])
def test_errors_are_drawn_in_their_shape(shape, drawn, tmp_path):
    x = np.arange(12, dtype=np.uint8).reshape(2, 6)
    model = xpnn.Sequential(xpnn.Dense(2))
    data = NamedDataset(x, np.array([0, 1]), path="t", image_shape=shape)
    xpnn.fit(model, data, epochs=0)
    wrong = data.part(np.array([0, 1]))._replace(y=1 - xpnn.predict(model, x))
    plots.plot_errors(model, wrong, tmp_path / "e.svg")
    expected = [row.reshape(shape if shape[2] > 1 else shape[:2]).tolist() for row in x]
    assert sorted(image for _, image in shown(drawn[-1])) == expected


def test_images_of_two_axes_are_drawn(drawn):
    model = classifier(np.eye(4, 3))
    images = X.reshape(5, 2, 2)
    for data in ((images, Y), [(images[:3], Y[:3]), (images[3:], Y[3:])]):
        plots.plot_errors(model, data)
        assert [image for _, image in shown(drawn[-1])] == images[[3, 0, 2, 4]].tolist()


def test_bytes_of_no_known_shape_are_square_images(drawn, tmp_path):
    model = classifier(np.eye(4, 3))
    model.task = replace(model.task, image_shape=None)
    plots.plot_errors(model, (X.astype(np.uint8), (Y + 1) % 3), tmp_path / "e.svg")
    assert all(np.shape(image) == (2, 2) for _, image in shown(drawn[-1]))


def test_images_that_are_equally_sure_keep_their_order(drawn, tmp_path):
    x = np.zeros((40, 4))
    x[:, 0], x[:, 3] = np.tile([2.0, 1.0], 20), np.arange(40)
    plots.plot_errors(classifier(np.eye(4, 3)), (x, np.ones(40, int)), tmp_path / "e.svg", count=40)
    order = [image[1][1] for _, image in shown(drawn[-1])]
    assert order == [*range(0, 40, 2), *range(1, 40, 2)]


def test_no_more_errors_than_asked_for(drawn, tmp_path):
    model = classifier(np.eye(4, 3))
    plots.plot_errors(model, (X, Y), tmp_path / "e.svg", count=2)
    assert drawn[-1]._suptitle.get_text() == "4 of 5 wrong; the 2 it was surest of"
    assert [title.split(",")[0] for title, _ in shown(drawn[-1])] == [
        "true 1\npredicted 2",
        "true 0\npredicted 1",
    ]
    plots.plot_errors(model, (X, np.array([1, 0, 0, 2, 1])), tmp_path / "e.svg")
    assert drawn[-1]._suptitle.get_text() == "0 of 5 wrong"
    assert shown(drawn[-1]) == []


def test_errors_of_one_output(drawn, tmp_path):
    x = np.array([[2.0], [-3.0], [1.0], [-8.0], [50.0]])
    model = classifier(np.ones((1, 1)), loss=xpnn.BinaryCrossEntropy(), classes=2)
    plots.plot_errors(model, (x, np.array([0, 1, 1, 1, 0])), tmp_path / "e.svg")
    # sigmoids of 50, which is 1 in float64, 8, 3 and 2
    assert [title for title, _ in shown(drawn[-1])] == [
        "true 0\npredicted 1, 1.000",
        "true 1\npredicted 0, >0.999",
        "true 1\npredicted 0, 0.953",
        "true 0\npredicted 1, 0.881",
    ]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"count": 0}, xpnn.ArgumentError, "count must be a whole number >= 1, got 0"),
        ({"shape": None}, xpnn.DataError, "images of a known shape to be drawn, got 4 features"),
        (
            {"data": NamedDataset(X, Y, path="t", image_shape=(1, 4, 1))},
            xpnn.DataError,
            "t must hold images of 2 × 2 grey as the training data do, got 4 × 1 grey",
        ),
        ({"data": (np.ones((5, 9)), Y)}, xpnn.DataError, "x must have shape"),
        ({"data": (X, 1.0 * Y)}, xpnn.DataError, "data.y must hold integer class labels"),
        ({"data": X}, xpnn.ArgumentError, "data must be a pair of arrays"),
        ({"classes": None}, xpnn.ArgumentError, "model must have been trained on class labels"),
    ],
)
def test_errors_that_cannot_be_drawn(change, error, message, tmp_path):
    model = classifier(np.eye(4, 3))
    change = dict(change)
    if "classes" in change:
        model.task = replace(model.task, classes=change.pop("classes"))
    if "shape" in change:
        model.task = replace(model.task, image_shape=change.pop("shape"))
    options = {"data": (X, Y), "path": tmp_path / "e.svg", **change}
    with pytest.raises(error, match=message):
        plots.plot_errors(model, **options)
    assert not list(tmp_path.iterdir())


def test_pictures_leave_matplotlib_as_it_was(tmp_path):
    import matplotlib

    def settings():
        # the backend is settled when it is first looked at
        return {k: matplotlib.rcParams[k] for k in matplotlib.rcParams if k != "backend"}

    with matplotlib.rc_context({"figure.facecolor": "black", "axes.facecolor": "black"}):
        before = settings()
        loaded = "matplotlib.pyplot" in sys.modules
        plots.plot_history(ROWS, tmp_path / "run.png")
        plots.plot_activations(["relu"], tmp_path / "relu.png")
        with pytest.raises(xpnn.ArgumentError):
            plots.plot_activations(["relu"], tmp_path / "relu.nothing")
        assert settings() == before
        assert ("matplotlib.pyplot" in sys.modules) == loaded
        # dark ink needs white paper, whatever the user's style
        corner = matplotlib.image.imread(tmp_path / "run.png")[0, 0]
    assert corner.tolist() == [1, 1, 1, 1]


DRAWN = {
    "plot_history": (ROWS,),
    "plot_histories": ({"a": ROWS},),
    "plot_activations": (["relu"],),
    "plot_confusion": (np.eye(3, dtype=int),),
    "plot_errors": (classifier(np.eye(4, 3)), (X, Y)),
}


def test_every_plot_is_here():
    assert set(DRAWN) == {name for name in xpnn.__all__ if name.startswith("plot_")}


@pytest.mark.parametrize("name", DRAWN)
def test_a_plot_returns_its_figure(name, tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    monkeypatch.chdir(tmp_path)
    draw = getattr(xpnn, name)
    figure = draw(*DRAWN[name])
    assert isinstance(figure, Figure)
    assert list(tmp_path.iterdir()) == []
    # the same picture as the one that is written
    assert isinstance(draw(*DRAWN[name], "a.png"), Figure)
    figure.savefig("b.png", dpi=150)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    # what a notebook asks for
    assert figure._repr_png_().startswith(b"\x89PNG\r\n\x1a\n")
    assert isinstance(pickle.loads(pickle.dumps(figure)), Figure)
    assert "None" in str(inspect.signature(draw).parameters["path"])
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()


def boxes(figure, texts):
    """Where texts are drawn, in pixels, without the lines that lead to them."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return [Text.get_window_extent(text, canvas.get_renderer()) for text in texts]


def level(height):
    """A run that ends with this test accuracy and loss."""
    return [Epoch(i, 0.9, 0.1, height, 1 - height, 1.0) for i in range(5)]


@pytest.mark.parametrize(
    "heights", [(0.9, 0.9, 0.9, 0.9), (0.2, 0.2, 0.9), (0.1, 0.11, 0.12, 0.5, 0.51), (0.3,)]
)
def test_labels_do_not_overlap(heights):
    runs = {f"run {i} of them": level(height) for i, height in enumerate(heights)}
    figure = plots.plot_histories(runs)
    assert len(figure.axes) == 2
    for axes in figure.axes:
        found = boxes(figure, axes.texts)
        assert len(found) == len(heights)
        assert not any(a.overlaps(b) for i, a in enumerate(found) for b in found[:i])
        for box in found:
            # beside the axes, and within the picture
            assert axes.get_window_extent().x1 < box.x0 < box.x1 <= figure.bbox.x1
            assert 0 <= box.y0 < box.y1 <= figure.bbox.y1
        # in the order of the lines' ends
        ends = [line.get_ydata()[-1] for line in axes.lines if line.get_label() == "test"]
        middles = [box.y0 for box in found]
        for i, a in enumerate(ends):
            assert all((a < b) <= (middles[i] < middles[j]) for j, b in enumerate(ends))


def test_labels_are_moved_as_little_as_possible():
    assert plots._spread([0.5, 0.2], 0.1) == [0.5, 0.2]
    assert plots._spread([0.5, 0.5], 0.1) == pytest.approx([0.45, 0.55], rel=1e-12)
    assert plots._spread([1.0, 1.0, 0.0], 0.1) == pytest.approx([0.85, 0.95, 0.05], rel=1e-12)
    assert plots._spread([0.5, 0.58, 0.66], 0.1) == pytest.approx([0.48, 0.58, 0.68], rel=1e-12)


def linear(color):
    values = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def contrast(color, other):
    """By WCAG 2."""
    high, low = sorted((linear(c) @ [0.2126, 0.7152, 0.0722] for c in (color, other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", plots.THEMES)
def test_text_has_the_contrast_of_text(theme):
    with plots.style(theme) as colors:
        figure = plots.plot_histories({"a": ROWS, "b": ROWS[:3]})
    from matplotlib.colors import to_hex
    from matplotlib.text import Text

    page = to_hex(figure.get_facecolor())
    assert page == colors["page"]
    found = {to_hex(t.get_color()) for t in figure.findobj(Text) if t.get_text()}
    assert {colors["ink"], colors["soft"], colors["s1"], colors["s2"]} <= found
    for color in found | {colors[name] for name in plots.SERIES}:
        assert contrast(color, page) >= 4.5


# complete loss of a kind of cone (Machado, Oliveira and Fernandes 2009), in linear sRGB
SIGHTS = {
    "normal": np.eye(3),
    "no red": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "no green": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
}


def lab(rgb):
    xyz = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750],
                    [0.0193339, 0.1191920, 0.9503041]]) @ rgb / [0.95047, 1, 1.08883]  # fmt: skip
    x, y, z = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def ciede2000(first, second):
    (l1, a1, b1), (l2, a2, b2) = first, second
    mean = ((math.hypot(a1, b1) + math.hypot(a2, b2)) / 2) ** 7
    grey = 1.5 - 0.5 * math.sqrt(mean / (mean + 25**7))
    c1, c2 = math.hypot(grey * a1, b1), math.hypot(grey * a2, b2)
    h1 = math.degrees(math.atan2(b1, grey * a1))
    turn = (math.degrees(math.atan2(b2, grey * a2)) - h1 + 180) % 360 - 180
    hue = (h1 + turn / 2) % 360
    c, light = (c1 + c2) / 2, ((l1 + l2) / 2 - 50) ** 2
    t = 1 + sum(
        k * math.cos(math.radians(n * hue - at))
        for k, n, at in ((-0.17, 1, 30), (0.24, 2, 0), (0.32, 3, -6), (-0.2, 4, 63))
    )
    dl = (l2 - l1) / (1 + 0.015 * light / math.sqrt(20 + light))
    dc = (c2 - c1) / (1 + 0.045 * c)
    dh = 2 * math.sqrt(c1 * c2) * math.sin(math.radians(turn / 2)) / (1 + 0.015 * c * t)
    angle = math.radians(60 * math.exp(-(((hue - 275) / 25) ** 2)))
    return math.sqrt(
        dl**2 + dc**2 + dh**2 - 2 * math.sqrt(c**7 / (c**7 + 25**7)) * math.sin(angle) * dc * dh
    )


def test_the_distance_of_two_colours():
    """Pairs 1, 7, 17 and 25 of Sharma, Wu and Dalal 2005, who give four digits."""
    for first, second, expected in (
        ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
        ((50, 0, 0), (50, -1, 2), 2.3669),
        ((50, 2.5, 0), (73, 25, -18), 27.1492),
        ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
    ):
        assert ciede2000(first, second) == pytest.approx(expected, abs=6e-5)


@pytest.mark.parametrize("theme", plots.THEMES)
@pytest.mark.parametrize("sight", SIGHTS)
def test_the_colour_blind_tell_series_apart(theme, sight):
    with plots.style(theme) as colors:
        seen = [lab(np.clip(SIGHTS[sight] @ linear(colors[name]), 0, 1)) for name in plots.SERIES]
    distances = [ciede2000(a, b) for i, a in enumerate(seen) for b in seen[:i]]
    assert min(distances) >= 12


def test_japanese_labels():
    """With a Japanese font each letter has its glyph; without one there is one warning."""
    from matplotlib.font_manager import fontManager, get_font

    names = {font.name: font.fname for font in fontManager.ttflist}
    runs = {"活性化": ROWS, "学習率": ROWS}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        figure = plots.plot_histories(runs)
        figure._repr_png_()
    (*_, fallback) = figure.axes[0].texts[0].get_fontfamily()
    if any(name in plots._FONTS for name in names):
        assert caught == []
        assert all(get_font(names[fallback]).get_char_index(ord(c)) for c in "活性化学習率")
    else:
        assert [str(warning.message)[:38] for warning in caught] == [
            "no installed font has the characters "[:38] + "化"
        ]


def test_without_a_font_there_is_one_warning(monkeypatch, tmp_path):
    monkeypatch.setattr(plots, "_font_with", lambda characters: None)
    monkeypatch.setattr(plots, "_lacking", lambda text: set(text.get_text()) & set("活性化"))
    with pytest.warns(
        xpnn.DataWarning, match="no installed font has the characters 化性活"
    ) as all_:
        plots.plot_histories({"活性化": ROWS}, tmp_path / "a.png")._repr_png_()
    assert len(all_) == 1


def test_a_style_ends_with_its_block():
    import matplotlib

    before = matplotlib.rcParams["text.color"]
    with plots.style("dark") as colors:
        assert matplotlib.rcParams["text.color"] == colors["ink"] == plots.COLORS["ink"][1]
    assert matplotlib.rcParams["text.color"] == before
    assert plots.plot_history(ROWS).get_facecolor() == (1, 1, 1, 1)
    with (
        pytest.raises(xpnn.ArgumentError, match="theme must be one of light, dark, got 'blue'"),
        plots.style("blue"),
    ):
        pass

"""Pictures of runs, activations and a model's mistakes, drawn with matplotlib."""

from __future__ import annotations

import contextlib
import io
import itertools
import math
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xpnn._core.files import PathLike, check_writable, replacing
from xpnn.activations import ACTIVATIONS, bind
from xpnn.backends import get_backend
from xpnn.datasets.batches import collected
from xpnn.datasets.checks import as_dataset, check_images, image_shape
from xpnn.datasets.dataset import located
from xpnn.datasets.labels import label_indices
from xpnn.errors import ArgumentError, DataError, DataWarning, counted, finite, integer
from xpnn.inference import class_probabilities, predict
from xpnn.losses import is_labels
from xpnn.model import Sequential
from xpnn.training.history import Epoch
from xpnn.training.samples import Data

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = Any

# Each colour on a light page and on a dark one. Who sees no red or no green can tell the series
# apart; as they colour labels, they have the contrast of text. Tests measure both.
COLORS = {
    "page": ("#ffffff", "#131416"),
    "ink": ("#1d2330", "#e8eaf0"),
    "soft": ("#5c6475", "#a3abbd"),
    "grid": ("#dfe3ea", "#333a48"),
    "s1": ("#064ba6", "#76bbfb"),
    "s2": ("#c15500", "#e6b94a"),
    "s3": ("#006542", "#01dbc1"),
    "s4": ("#de206a", "#dc5c90"),
    "s5": ("#92015d", "#bd7c17"),
    "s6": ("#3378ba", "#138eeb"),
    "s7": ("#a80201", "#60f2a7"),
}
SERIES = tuple(name for name in COLORS if name[0] == "s" and name[1:].isdigit())
THEMES = ("light", "dark")
_theme: ContextVar[str] = ContextVar("theme", default="light")

# A series has one of these in addition to its colour. 6 and 4 have no common divisor with 7, the
# number of colours, so that the first 42 or 28 series all look different.
_MARKERS = ("o", "s", "^", "D", "v", "X")
_DASHES = ("-", "--", "-.", (0, (1, 1)))

_PARTS = {"train": ("training", ":"), "test": ("test", "-")}

# the size of an image's title, and the width that it may have, in points
_SMALL, _WIDEST = 8, 160.0
# the most panels beside each other in the picture of a run
_PANELS = 3

# the most classes with which a confusion matrix shows its counts
_NUMBERED = 30

# the size of a label at a line's end, and the distance of two, in points
_LABEL, _APART = 9.5, 12.5
# the most of a panel's width that its labels may take, and how far one may lie from its line, in
# distances
_SHARE, _FAR = 0.35, 2.0

# fonts for what the usual one lacks: first those in which kanji look Japanese
_FONTS = (
    "Noto Sans CJK JP",
    "Noto Sans JP",
    "Source Han Sans JP",
    "Hiragino Sans",
    "Yu Gothic",
    "Meiryo",
    "IPAexGothic",
    "IPAPGothic",
    "TakaoPGothic",
    "VL PGothic",
    "MS Gothic",
)
_LIKELY = re.compile(r"CJK|Gothic|Mincho|Han |Hei|Ming|Song|Malgun|Nanum|Symbol|Emoji|Unicode")


@contextlib.contextmanager
def style(theme: str = "light") -> Iterator[dict[str, str]]:
    """Draw as xpnn does within a ``with`` block, for light or for dark pages.

    The functions of this module take the theme of the block; figures of your own, made with
    ``matplotlib.figure.Figure`` or pyplot, take its colours, lines and fonts. Afterwards matplotlib
    is as it was.

    Parameters
    ----------
    theme
        "light" or "dark".

    Yields
    ------
    colors
        The colours by their names: "page", "ink" (text), "soft" (axes), "grid", and the series "s1"
        to "s7".

    Raises
    ------
    ArgumentError
        If there is no such theme, or matplotlib isn't installed.
    """
    if theme not in THEMES:
        raise ArgumentError(f"theme must be one of {', '.join(THEMES)}, got {theme!r}")
    matplotlib = imported()
    colors = {name: pair[THEMES.index(theme)] for name, pair in COLORS.items()}
    token = _theme.set(theme)
    try:
        with matplotlib.rc_context(by_default() | settings(colors)):
            yield colors
    finally:
        _theme.reset(token)


def settings(colors: Mapping[str, str]) -> dict[str, Any]:
    """Return the matplotlib settings of all pictures, in these colours."""
    from cycler import cycler

    return {
        "font.size": 10,
        "figure.facecolor": colors["page"],
        "axes.facecolor": colors["page"],
        "axes.prop_cycle": cycler(color=[colors[name] for name in SERIES]),
        "text.color": colors["ink"],
        "axes.edgecolor": colors["soft"],
        "axes.labelcolor": colors["ink"],
        "axes.titlesize": 10,
        "xtick.color": colors["soft"],
        "ytick.color": colors["soft"],
        "axes.axisbelow": True,
        "axes.grid": True,
        "grid.color": colors["grid"],
        "grid.linewidth": 0.8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
        "legend.fontsize": 9.5,
        "lines.linewidth": 1.6,
        "lines.solid_capstyle": "round",
    }


def by_default() -> dict[str, Any]:
    """Return matplotlib's own settings, except fonts, which a user's language may need."""
    from matplotlib import rcParamsDefault

    return {k: v for k, v in rcParamsDefault.items() if not k.startswith(("backend", "font."))}


def check(path: PathLike, name: str = "plot") -> None:
    """Raise an ArgumentError for the argument `name` unless a picture can be drawn to `path`."""
    supported = _figure(1, 1).canvas.get_supported_filetypes()
    suffix = check_writable(name, path).suffix[1:].lower()
    if suffix not in supported:
        raise ArgumentError(
            f"{name} must be a file that ends in one of {', '.join(sorted(supported))}, "
            f"got {str(path)!r}"
        )


def imported() -> Any:
    """Return matplotlib, or raise an ArgumentError that says why it can't be imported."""
    try:
        import matplotlib
    except ImportError:
        raise ArgumentError(
            "plot needs matplotlib; install it with: pip install matplotlib"
        ) from None
    except ValueError as error:  # about the variable MPLBACKEND
        raise ArgumentError(f"matplotlib can't be imported: {error}") from None
    return matplotlib


def _figure(width: float, height: float) -> Figure:
    imported()
    from xpnn._core.picture import Picture

    return Picture(figsize=(width, height), layout="constrained")


@contextlib.contextmanager
def _picture(
    path: PathLike | None, width: float, height: float
) -> Iterator[tuple[Figure, dict[str, str]]]:
    """Yield a figure to draw on and its colours, and write it afterwards if there is a `path`."""
    matplotlib = imported()
    if path is not None:
        check(path)
    # the style of the block around the call, whatever was set within that block; a dollar in a name
    # is a dollar
    with style(_theme.get()) as colors, matplotlib.rc_context({"text.parse_math": False}):
        figure = _figure(width, height)
        yield figure, colors
        use_fonts(figure)
        if path is not None:
            # not into the file: some formats go back in it, which a pipe can't
            content = io.BytesIO()
            figure.savefig(content, dpi=150, format=Path(path).suffix[1:].lower())
            with replacing("plot", path) as file:
                file.write(content.getvalue())


def use_fonts(figure: Figure) -> None:
    """Let texts of a figure fall back to an installed font that has the characters they need.

    Parameters
    ----------
    figure
        A figure with all its texts.

    Warns
    -----
    DataWarning
        If no installed font has them; they are drawn as boxes.
    """
    from matplotlib.text import Text

    lacking: dict[Any, set[str]] = {}
    for text in figure.findobj(Text):
        if not text.get_text().isascii():
            lacking[text] = _lacking(text)
    needed = set[str]().union(*lacking.values())
    if not needed:
        return
    font = _font_with(needed)
    if font is None:
        shown = "".join(sorted(needed)[:10]) + ("…" if len(needed) > 10 else "")
        warnings.warn(
            f"no installed font has the characters {shown}, which are drawn as boxes; install one "
            "such as Noto Sans CJK JP",
            DataWarning,
            stacklevel=4,
        )
        return
    for text, characters in lacking.items():
        if characters:
            text.set_fontfamily([*text.get_fontfamily(), font])


def _lacking(text: Any) -> set[str]:
    """Return the characters of a text that its fonts don't have."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    paths = [findfont(FontProperties(family=[family])) for family in text.get_fontfamily()]
    fonts = [get_font(path) for path in paths]
    characters = {c for c in text.get_text() if c.isprintable()}
    return {c for c in characters if not any(font.get_char_index(ord(c)) for font in fonts)}


def _font_with(characters: set[str]) -> str | None:
    """Return the name of an installed font with these characters, a Japanese one if possible."""
    from matplotlib.font_manager import fontManager, get_font

    rank = {name: i for i, name in enumerate(_FONTS)}
    fonts = {font.name: font.fname for font in fontManager.ttflist}
    likely = [name for name in fonts if name in rank or _LIKELY.search(name)]
    for name in sorted(likely, key=lambda name: (rank.get(name, len(rank)), name)):
        font = get_font(fonts[name])
        if all(font.get_char_index(ord(c)) for c in characters):
            return name
    return None


def label_lines(axes: Any) -> None:
    """Write the label of each line at its end, in its colour; make a legend if there is no room.

    Call it when everything is drawn. Lines without a label stay without one.

    Parameters
    ----------
    axes
        The axes of a figure with ``layout="constrained"``, which makes room for the labels.
    """
    lines = [(line.get_label(), line) for line in axes.lines]
    named = [(name, line) for name, line in lines if not name.startswith("_")]
    if not label_ends(axes.figure, [(axes, named)]):
        axes.legend()
    use_fonts(axes.figure)


def label_ends(figure: Any, panels: Sequence[tuple[Any, Sequence[tuple[str, Any]]]]) -> bool:
    """Write names at the ends of lines; return False, with nothing done, if there is no room.

    Parameters
    ----------
    figure
        A figure with constrained layout.
    panels
        Axes, each with the names and lines to label.
    """
    figure.draw_without_rendering()
    placed = []
    for axes, lines in panels:
        box = axes.get_window_extent().transformed(figure.dpi_scale_trans.inverted())
        widths = [sum(2 if ord(c) > 0x2E7F else 1 for c in name) for name, _ in lines]
        if 0.55 * _LABEL * max(widths, default=0) > _SHARE * 72 * box.width:
            return False
        ends = [_end(axes, line) for _, line in lines]
        step = _APART / (72 * box.height)
        heights = _spread([height for _, height in ends], step)
        moved = [abs(to - end) for to, (_, end) in zip(heights, ends, strict=True)]
        if len(lines) * step > 1 or max(moved, default=0) > _FAR * step:
            return False
        placed.append((axes, lines, ends, heights))
    for axes, lines, ends, heights in placed:
        _write_labels(figure, axes, lines, ends, heights)
    return True


def _end(axes: Any, line: Any) -> tuple[float, float]:
    """Return where a line ends, as shares of the axes' width and height, and within them."""
    x, y = (np.asarray(values, dtype=float) for values in (line.get_xdata(), line.get_ydata()))
    known = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    if not known.size:
        return 1.0, 0.5
    to_axes = axes.transData + axes.transAxes.inverted()
    right, height = to_axes.transform((x[known[-1]], y[known[-1]]))
    return min(max(float(right), 0.0), 1.0), min(max(float(height), 0.0), 1.0)


def _spread(heights: Sequence[float], step: float) -> list[float]:
    """Return heights at least a `step` apart, between 0 and 1, moved as little as their order lets.

    Neighbours that are too near form a block around the mean of where they would be.
    """
    blocks: list[tuple[list[int], float]] = []
    for i in sorted(range(len(heights)), key=lambda i: heights[i]):
        members, middle = [i], min(max(heights[i], step / 2), 1 - step / 2)
        while blocks and middle - blocks[-1][1] < step * (len(members) + len(blocks[-1][0])) / 2:
            below, _ = blocks.pop()
            members = below + members
            half = step * len(members) / 2
            middle = sum(heights[k] for k in members) / len(members)
            middle = max(min(middle, 1 - half), half)
        blocks.append((members, middle))
    found = [0.0] * len(heights)
    for members, middle in blocks:
        for place, i in enumerate(members):
            found[i] = middle + step * (place - (len(members) - 1) / 2)
    return found


def _write_labels(
    figure: Any,
    axes: Any,
    lines: Sequence[tuple[str, Any]],
    ends: Sequence[tuple[float, float]],
    heights: Sequence[float],
) -> None:
    from matplotlib.transforms import ScaledTranslation

    beside = axes.transAxes + ScaledTranslation(10 / 72, 0, figure.dpi_scale_trans)
    for (name, line), end, height in zip(lines, ends, heights, strict=True):
        leader = {"arrowstyle": "-", "color": line.get_color(), "linewidth": 0.7, "alpha": 0.7}
        axes.annotate(
            name,
            xy=end,
            xycoords="axes fraction",
            xytext=(1, height),
            textcoords=beside,
            arrowprops=leader | {"shrinkA": 1, "shrinkB": 1, "relpos": (0, 0.5)},
            annotation_clip=False,
            color=line.get_color(),
            fontsize=_LABEL,
            va="center",
            parse_math=False,
        )


@np.errstate(all="ignore")
def plot_history(history: Sequence[Epoch], path: PathLike | None = None) -> Figure:
    """Draw accuracy, loss and metrics per epoch, training and test.

    A regression has no accuracy.

    Parameters
    ----------
    history
        The return value of `fit`, or some of its rows.
    path
        A PNG, PDF or SVG file to write the picture to, in the format of its ending; None for none.

    Returns
    -------
    figure
        The `matplotlib.figure.Figure`, which a notebook shows.

    Raises
    ------
    ArgumentError
        If the file can't be written, its ending is unknown, or matplotlib isn't installed.
    """
    quantities = _quantities([history])
    with _picture(path, *_size(quantities, 4)) as (figure, colors):
        looks = _looks(colors["s1"], colors["s2"])
        panels = _panels(figure, quantities)
        drawn = _draw_history(panels, history, looks)
        parts = {part: _PARTS[part][0] for part in looks if part in drawn}
        named = [
            (axes, [(parts[line.get_label()], line) for line in axes.lines])
            for axes in panels.values()
        ]
        if not label_ends(figure, named):
            _legend(figure, [(name, looks[part]) for part, name in parts.items()])
    return figure


@np.errstate(all="ignore")
def plot_histories(
    histories: Mapping[str, Sequence[Epoch]], path: PathLike | None = None
) -> Figure:
    """Draw accuracy, loss and metrics per epoch of several runs in one picture.

    Each run's name stands at the ends of its curves, or in a legend if there is no room.

    Each run has a colour and a marker; its training curves are dotted.

    Parameters
    ----------
    histories
        What `fit` or `read_log` returned for each run, by the run's name.
    path
        The file to write, as for `plot_history`.

    Returns
    -------
    figure
        As from `plot_history`.

    Raises
    ------
    ArgumentError
        If there is no run, and in the cases of `plot_history`.
    """
    if not isinstance(histories, Mapping):
        raise ArgumentError(
            "histories must be a mapping of names to histories such as {'run 1': history}, got a "
            f"{type(histories).__name__}"
        )
    if not histories:
        raise ArgumentError("histories must hold at least one run, got none")
    runs: list[tuple[str, dict[str, Any]]] = []
    drawn: set[str] = set()
    quantities = _quantities(histories.values())
    ends: dict[str, list[tuple[str, Any]]] = {quantity: [] for quantity in quantities}
    with _picture(path, *_size(quantities, 4.4)) as (figure, colors):
        panels = _panels(figure, quantities)
        for i, (name, history) in enumerate(histories.items()):
            color = colors[SERIES[i % len(SERIES)]]
            looks = _looks(color, color)
            looks["test"] |= {
                "marker": _MARKERS[i % len(_MARKERS)],
                "markersize": 4,
                # at different epochs for each run, so that no marker hides another
                "markevery": (0.02 * (i % 5), 0.1) if len(history) > 20 else 1,
            }
            before = {quantity: len(axes.lines) for quantity, axes in panels.items()}
            drawn |= _draw_history(panels, history, looks)
            runs.append((name, looks["test"]))
            for quantity, axes in panels.items():
                if own := axes.lines[before[quantity] :]:
                    # the last one is that of the test, if the run has one
                    ends[quantity].append((name, own[-1]))
        parts = [
            (_PARTS[part][0], look)
            for part, look in _looks(colors["ink"], colors["ink"]).items()
            if part in drawn
        ]
        labelled = label_ends(figure, [(panels[quantity], own) for quantity, own in ends.items()])
        _legend(figure, parts if labelled else runs + parts)
    return figure


def _looks(train: str, test: str) -> dict[str, dict[str, Any]]:
    """Return how the curves of each part of the data look, in these colours."""
    return {
        part: {"color": color, "linestyle": _PARTS[part][1]}
        for part, color in (("train", train), ("test", test))
    }


def _quantities(histories: Iterable[Sequence[Epoch]]) -> list[str]:
    """Return what at least one run has figures of, such as "accuracy"; always "loss"."""
    found = {"accuracy": False, "loss": True}
    for row in itertools.chain.from_iterable(histories):
        for name, value in row.figures.items():
            quantity = name.removeprefix("train_").removeprefix("test_")
            found[quantity] = found.get(quantity, False) or not math.isnan(value)
    return [quantity for quantity, known in found.items() if known]


def _size(quantities: Sequence[str], height: float) -> tuple[float, float]:
    """Return width and height of a picture with `_panels`, of this height with a single row."""
    rows = -(-len(quantities) // _PANELS)
    return max(6.4, 5.0 * min(len(quantities), _PANELS)), height + 3.6 * (rows - 1)


def _panels(figure: Any, quantities: Sequence[str]) -> dict[str, Any]:
    """Return axes for each quantity."""
    columns = min(len(quantities), _PANELS)
    grid = list(figure.subplots(-(-len(quantities) // _PANELS), columns, squeeze=False).flat)
    for axes in grid[len(quantities) :]:
        axes.remove()
    return dict(zip(quantities, grid, strict=False))


def _draw_history(
    panels: Mapping[str, Any], history: Sequence[Epoch], looks: Mapping[str, dict[str, Any]]
) -> set[str]:
    """Draw the figures of a run; return which of "train" and "test" it has."""
    drawn = set()
    for quantity, axes in panels.items():
        for part, look in looks.items():
            values = [row.figures.get(f"{part}_{quantity}", math.nan) for row in history]
            if all(map(math.isnan, values)):
                continue
            drawn.add(part)
            # a curve of one or two points would be hard to see
            marker = {"marker": "."} if len(values) < 3 else {}
            axes.plot([row.epoch for row in history], values, **(marker | look), label=part)
        axes.set(xlabel="epoch", title=quantity)
        axes.xaxis.get_major_locator().set_params(integer=True)
        zoom(axes, [line.get_ydata() for line in axes.lines])
    return drawn


def zoom(axes: Any, columns: Iterable[Sequence[float]], skip: int = 1) -> None:
    """Fit the vertical range to all epochs after the first `skip`, which would flatten the rest."""
    seen = [v for y in columns for v in y[min(skip, len(y) - 1) :] if math.isfinite(v)]
    if seen:
        margin = 0.06 * (max(seen) - min(seen)) or 0.05 * abs(max(seen)) or 1.0
        axes.set_ylim(min(seen) - margin, max(seen) + margin)


def _legend(figure: Any, entries: Sequence[tuple[str, dict[str, Any]]]) -> None:
    """Put one legend above all axes."""
    from matplotlib.lines import Line2D

    if entries:
        handles = [Line2D([], [], **{**look, "markevery": None}) for _, look in entries]
        # an inch holds 13 letters; the line sample before a name takes 9
        letters = int(13 * figure.get_figwidth())
        widths = [len(name) + 9 for name, _ in entries]
        columns = len(widths) if sum(widths) <= letters else max(1, letters // max(widths))
        names = [name for name, _ in entries]
        figure.legend(handles, names, loc="outside upper left", ncols=columns, handlelength=2.6)


def sampled(activation: str, low: float, high: float) -> tuple[Array, Array, Array]:
    """Return points from `low` to `high`, an activation's values there, and its derivatives.

    Parameters
    ----------
    activation
        A registered name with parameters: "swish:beta=2".
    low, high
        The first and the last point.

    Returns
    -------
    u, z, slope
        Arrays of shape (301,), float64; the slope is computed by the activation's pullback.
    """
    name, parameters = ACTIVATIONS.parse(activation)
    u = np.linspace(low, high, 301)
    z, pullback = bind(name, **parameters)(u, xp=get_backend("numpy", dtype="float64").xp)
    return u, z, pullback(np.ones_like(u))


@np.errstate(all="ignore")
def plot_activations(
    activations: Sequence[str],
    path: PathLike | None = None,
    *,
    low: float = -4.0,
    high: float = 4.0,
) -> Figure:
    """Draw activations and, beside them, their derivatives.

    Parameters
    ----------
    activations
        Registered names with parameters: ``["relu", "swish:beta=2"]``.
    path
        The file to write, as for `plot_history`.
    low, high
        The range of u, low < high.

    Returns
    -------
    figure
        As from `plot_history`.

    Raises
    ------
    ArgumentError
        If there is no activation, a name or a parameter is unknown or the range is empty, and in
        the cases of `plot_history`.
    """
    low, high = finite("low", low), finite("high", high)
    named = not isinstance(activations, str) and activations
    if not named or not all(isinstance(name, str) for name in activations):
        raise ArgumentError(
            f"activations must be a list of names such as ['relu'], got {activations!r}"
        )
    if low >= high:
        raise ArgumentError(f"low must be less than high, got {low!r} and {high!r}")
    curves = [sampled(name, low, high) for name in activations]
    entries: list[tuple[str, dict[str, Any]]] = []
    with _picture(path, 10, 4.4) as (figure, colors):
        values, slopes = figure.subplots(1, 2)
        for i, (name, (u, z, slope)) in enumerate(zip(activations, curves, strict=True)):
            look = {
                "color": colors[SERIES[i % len(SERIES)]],
                "linestyle": _DASHES[i % len(_DASHES)],
            }
            values.plot(u, z, **look, label=name)
            slopes.plot(u, slope, **look, label=name)
            entries.append((name, look))
        for axes, title in ((values, "f(u)"), (slopes, "f′(u)")):
            axes.set(xlabel="u", title=title)
            axes.margins(x=0)
        ends = [
            (axes, [(line.get_label(), line) for line in axes.lines]) for axes in (values, slopes)
        ]
        if not label_ends(figure, ends):
            _legend(figure, entries)
    return figure


@np.errstate(all="ignore")
def plot_confusion(
    matrix: Array, path: PathLike | None = None, *, names: Sequence[str] | None = None
) -> Figure:
    """Draw a confusion matrix: a row per true class, a column per predicted one.

    With up to 30 classes, each cell shows its count. The colour of a cell is its share of the row,
    on a cube-root scale, so that rare mistakes are visible too.

    Parameters
    ----------
    matrix
        Integers of shape (classes, classes), as `metrics.confusion_matrix` returns them.
    path
        The file to write, as for `plot_history`.
    names
        The names of the classes; None for their numbers.

    Returns
    -------
    figure
        As from `plot_history`.

    Raises
    ------
    ArgumentError
        If the matrix isn't square or doesn't hold counts, or there aren't as many names as classes,
        and in the cases of `plot_history`.
    """
    counts = np.asarray(matrix)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or not counts.size:
        raise ArgumentError(
            "matrix must have shape (n, n) with n > 0, got "
            f"{counts.shape if counts.ndim else type(matrix).__name__}; "
            "xpnn.inference.confusion(model, data) counts one"
        )
    if counts.dtype.kind not in "iu" or counts.min() < 0:
        raise ArgumentError(f"matrix must hold counts, integers >= 0, got {counts.dtype}")
    classes = len(counts)
    names = list(map(str, range(classes) if names is None else names))
    if len(names) != classes:
        raise ArgumentError(f"names must be {classes}, one a class, got {len(names)}")
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = min(max(4.4, 1.8 + 0.46 * classes), 14)
    with _picture(path, side + 0.6, side) as (figure, colors):
        from matplotlib.colors import PowerNorm

        axes = figure.subplots()
        image = axes.imshow(shares, cmap=ramp(colors), norm=PowerNorm(1 / 3, vmin=0, vmax=1))
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        axes.set(
            xlabel="predicted class",
            ylabel="true class",
            title=f"{counts.sum() - np.trace(counts)} of {counts.sum()} wrong",
        )
        if classes <= _NUMBERED:
            turned: Any = {"rotation": 45, "ha": "right"} if max(map(len, names)) > 3 else {}
            axes.set_xticks(range(classes), names, **turned)
            axes.set_yticks(range(classes), names)
            size = 9 if counts.max() < 10_000 and classes <= 20 else 7
            for i, j in zip(*np.nonzero(counts), strict=True):
                ink = "black" if _luminance(image.to_rgba(shares[i, j])) > 0.18 else "white"
                axes.text(j, i, counts[i, j], ha="center", va="center", fontsize=size, color=ink)
        bar = figure.colorbar(image, ax=axes, shrink=0.8, label="share of the true class")
        bar.set_ticks([0, 0.01, 0.05, 0.2, 0.5, 1])
        bar.outline.set_visible(False)
    return figure


def ramp(colors: Mapping[str, str]) -> Any:
    """Return the colour map of a confusion matrix, from the page to the first series."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("share", [colors["page"], colors["s1"]])


def _luminance(color: Array) -> float:
    """Return a colour's luminance by WCAG 2; with 0.18, black and white contrast alike."""
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in color[:3]]
    return float(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])


@np.errstate(all="ignore")
def plot_errors(
    model: Sequential, data: Data, path: PathLike | None = None, *, count: int = 25
) -> Figure:
    """Draw the images that a model gets wrong, the surest predictions first.

    Each image has the true class, the predicted class and its probability as its title (the output
    if the model was trained with a squared error). Images of equal probability keep their order.

    Parameters
    ----------
    model
        A trained classifier.
    data
        Images, one in each row of x, and their labels. Their shape is that of the data if it is
        known, else that of the model's training images; otherwise bytes are taken as square grey
        images.
    path
        The file to write, as for `plot_history`.
    count
        The largest number of images to draw.

    Returns
    -------
    figure
        As from `plot_history`.

    Raises
    ------
    ArgumentError, DataError
        If the model has no classes, or the data don't fit it or aren't images of a known shape, and
        in the cases of `plot_history`.
    """
    count = integer("count", count, minimum=1)
    if model.task.classes is None:
        raise ArgumentError("model must have been trained on class labels, got one that wasn't")
    data = collected("data", data)
    given = image_shape(data)
    check_images(data, model.task.image_shape)
    _check_no_table(data, model)
    data = as_dataset("data", data, model.task)
    if not is_labels(data.y):
        raise DataError(
            f"data.y must hold integer class labels of shape (n,), got {data.y.dtype} of shape "
            f"{data.y.shape}"
        )
    with located(data):
        predicted = predict(model, data.x)
    if model.task.labels is not None:
        predicted = label_indices("predictions", predicted, model.task.labels)
    shape = _drawn_shape(data.x, given or model.task.image_shape)
    names = np.arange(model.task.classes) if model.task.labels is None else model.task.labels
    wrong = np.flatnonzero(predicted != data.y)
    outputs = class_probabilities(model, data.x[wrong])
    sure = outputs[np.arange(len(wrong)), predicted[wrong]]
    first = np.argsort(-sure, kind="stable")[:count]
    columns = max(1, math.ceil(math.sqrt(len(first))))
    rows = max(1, -(-len(first) // columns))
    title = f"{len(wrong)} of {len(data.y)} wrong"
    if len(first) < len(wrong):
        title += f"; the {len(first)} it was surest of"
    with _picture(path, max(3.6, 1.35 * columns), 0.5 + 1.6 * rows) as (figure, _):
        titles = [
            _title(names[data.y[row]], names[predicted[row]], own)
            for row, own in zip(wrong[first], sure[first], strict=True)
        ]
        # an image is as wide as the titles need, so that none runs into the next
        widest = max((_width(line) for text in titles for line in text.split("\n")), default=0.0)
        cell = max(1.35, (widest + 10) / 72)
        figure.set_size_inches(max(3.6, cell * columns), 0.5 + 1.6 * rows)
        figure.suptitle(title, fontsize=10)
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        for axes, row, text in zip(grid.flat, wrong[first], titles, strict=False):
            axes.imshow(data.x[row].reshape(shape), cmap="gray")
            axes.set_title(text, fontsize=_SMALL)
    return figure


def _title(true: object, found: object, sure: float) -> str:
    """Return the title of an image, with names that are cut off if they are very long."""
    # a probability below 1 isn't rounded to 1
    p = ">0.999" if 0.9995 <= sure < 1 else f"{sure:.3f}"
    lines = []
    for begin, name, end in (("true ", true, ""), ("predicted ", found, f", {p}")):
        text = whole = " ".join(str(name).split())
        while len(text) > 1 and _width(begin + text + end) > _WIDEST:
            whole = whole[:-1]
            text = f"{whole.rstrip()}…"
        lines.append(begin + text + end)
    return "\n".join(lines)


def _width(text: str) -> float:
    """Return the width of a small text in points, 1/72 inch."""
    from matplotlib.textpath import TextPath

    return float(TextPath((0, 0), text, size=_SMALL).get_extents().width)


def _check_no_table(data: Any, model: Sequential) -> None:
    """Raise a DataError if data are rows of a table, which no picture shows."""
    names = getattr(data, "feature_names", None) or model.task.feature_names
    if image_shape(data) is not None or model.task.image_shape is not None or names is None:
        return
    path = getattr(data, "path", "") or "data"
    listed = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
    raise DataError(
        f"only images are drawn, and {path} is a table, of the columns {listed}: a confusion "
        "matrix shows which classes are taken for which (xpnn plot confusion, plot_confusion), "
        "and `xpnn predict --proba` writes each row's prediction"
    )


def _drawn_shape(x: Array, known: tuple[int, int, int] | None) -> tuple[int, ...]:
    """Return the shape of an image for matplotlib: (height, width) or (height, width, channels)."""
    features = x.shape[1]
    if known is not None and math.prod(known) == features:
        return known if known[2] > 1 else known[:2]
    side = math.isqrt(features)
    if x.dtype == np.uint8 and side * side == features:
        return side, side
    raise DataError(
        f"data.x must hold images of a known shape to be drawn, got {counted(features, 'feature')} "
        f"of {x.dtype}: give the data or the model an image_shape of (height, width, channels)"
    )

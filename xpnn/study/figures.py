"""The figures of a report: SVG whose colours are CSS variables, for light and dark pages."""

from __future__ import annotations

import importlib.util
import io
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from xpnn.plots import COLORS, SERIES, by_default, imported, label_ends, sampled, settings, zoom
from xpnn.study.comparison import ComparedLog, Comparison, Spread, as_float
from xpnn.study.grid import Figure

# the colours that matplotlib draws with, which are replaced by CSS variables afterwards
_STANDINS = {name: f"#0000{i:02x}" for i, name in enumerate(COLORS, 1)}

_DASHES = ("-",) * 4 + ("--",) * 3 + ("-.",) * 7


def available() -> bool:
    """Return whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def palette(selector: str) -> str:
    """Return the CSS that defines the colours of an element in the reader's light or dark mode."""
    light, dark = ("".join(f"--{name}:{pair[i]};" for name, pair in COLORS.items()) for i in (0, 1))
    return f"{selector}{{{light}}}@media(prefers-color-scheme:dark){{{selector}{{{dark}}}}}"


def standalone(svg: str) -> str:
    """Return the content of a file for an SVG, which defines the colours itself."""
    head = svg.index(">") + 1
    style = f"<style>{palette('svg')}</style>"
    return '<?xml version="1.0" encoding="utf-8"?>\n' + svg[:head] + style + svg[head:]


def _svg(
    name: str,
    label: str,
    paint: Callable[[Any, Any], None],
    size: tuple[float, float] = (5.2, 3.3),
    **grid: Any,
) -> str:
    """Return an SVG.

    Parameters
    ----------
    name
        The first part of all ids in the SVG, since ids must be unique in a page.
    label
        A description for those who can't see the picture.
    paint
        A function that draws on a matplotlib figure and its axes.
    size
        Width and height in inches.
    grid
        As for matplotlib's `subplots`.
    """
    matplotlib = imported()
    from matplotlib.figure import Figure as Canvas

    text = io.StringIO()
    svg_settings = {
        "svg.fonttype": "none",
        "svg.hashsalt": name,
        "path.simplify_threshold": 0.3,
        # a dollar in a name is a dollar
        "text.parse_math": False,
    }
    common = by_default() | settings(_STANDINS)
    with matplotlib.rc_context(common | svg_settings), warnings.catch_warnings():
        # matplotlib warns of glyphs that its font lacks; the reader's browser has them
        warnings.simplefilter("ignore")
        canvas = Canvas(figsize=size, layout="constrained")
        paint(canvas, canvas.subplots(**grid))
        canvas.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    # from here on, the file becomes an element of a page that holds several
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    for color, standin in _STANDINS.items():
        svg = svg.replace(standin, f"var(--{color})")
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r"(font: [^;\"']*?\d+px )[^;\"]*", r"\g<1>system-ui, sans-serif", svg)
    svg = re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', "", svg, count=1)
    svg = svg.replace("<svg", f'<svg role="img" aria-label="{escape(label)}"', 1)
    return re.sub(r"\s*\n\s*", "\n", svg)


def _look(i: int) -> dict[str, Any]:
    """Return colour and line style of a curve, counted from 0; the first 14 differ."""
    return {"color": _STANDINS[SERIES[i % len(SERIES)]], "linestyle": _DASHES[i % len(_DASHES)]}


def _label(canvas: Any, axes: Any, lines: Sequence[tuple[str, Any]]) -> None:
    """Name each line at its end, or in a legend if there is no room."""
    if not label_ends(canvas, [(axes, lines)]):
        _legend(canvas, lines)


def _legend(canvas: Any, lines: Sequence[tuple[str, Any]]) -> None:
    """Put a legend above all axes, with the lines that have a name."""
    names = [name for name, _ in lines if name]
    canvas.legend(
        [line for name, line in lines if name],
        names,
        loc="outside upper left",
        ncols=2 if len(names) == 4 else 3,
        handlelength=1.8,
        columnspacing=1.4,
    )


def draw(name: str, figure: Figure, comparison: Comparison) -> str | None:
    """Return the SVG of a study's figure; None if no job of the figure has a result."""
    if figure.functions:
        return _functions(name, figure)
    lines = [
        (label, result.log)
        for label, job in zip(figure.labels, figure.jobs, strict=True)
        if (result := comparison.result(job)) is not None
    ]
    return _curves(name, figure, lines) if lines else None


def _functions(name: str, figure: Figure) -> str:
    def paint(canvas: Any, axes: Any) -> None:
        lines = []
        for i, text in enumerate(figure.functions):
            u, z, _ = sampled(text, *figure.range)
            lines.append((text, *axes.plot(u, z, **_look(i))))
        axes.set_xlabel("u")
        axes.margins(x=0)
        _label(canvas, axes, lines)

    return _svg(name, f"{figure.title}: {', '.join(figure.functions)}", paint)


def _curves(
    name: str, figure: Figure, logs: Sequence[tuple[str, Mapping[str, list[float]]]]
) -> str:
    """Draw columns of logs against the epoch; training curves are dotted beside those of test."""
    paired = len(figure.quantities) > 1

    def paint(canvas: Any, axes: Any) -> None:
        lines = []
        for i, (label, log) in enumerate(logs):
            for quantity in figure.quantities:
                part, _, kind = quantity.partition("_")
                values = log[quantity]
                look = _look(i) | ({"linestyle": ":"} if paired and part == "train" else {})
                look["linewidth"] = 1.2 if len(values) < 200 else 0.8
                look["marker"] = "." if len(values) < 4 else ""
                shown = f"{label}, {part}" if paired else label
                lines.append((shown, *axes.plot(values, **look)))
        word = "" if paired else "training " if part == "train" else "test "
        _epochs(axes, word + kind)
        columns = [line.get_ydata() for _, line in lines]
        if all(quantity.endswith("loss") for quantity in figure.quantities):
            axes.set_yscale("log")
            # the untrained network's loss may lie outside
            seen = [v for y in columns for v in y[min(1, len(y) - 1) :] if v > 0]
            if seen:
                axes.set_ylim(min(seen) * 0.8, max(seen) * 1.25)
        else:
            zoom(axes, columns, skip=3)
        axes.margins(x=0.02)
        _label(canvas, axes, lines)

    return _svg(name, f"{figure.title}: {', '.join(label for label, _ in logs)}", paint)


def _epochs(axes: Any, quantity: str) -> None:
    """Name the axes of curves over the epochs."""
    axes.set(xlabel="epoch", ylabel=quantity)
    axes.xaxis.get_major_locator().set_params(integer=True)


def logs(name: str, compared: Sequence[ComparedLog], *, titled: bool = False) -> str:
    """Draw the test accuracies of published logs and ours, in two columns if `titled`."""
    columns = 2 if titled else 1
    rows = -(-len(compared) // columns)

    def paint(canvas: Any, grid: Any) -> None:
        lines: list[tuple[str, Any]] = []
        for axes, one in zip(grid.flat, compared, strict=False):
            lines = _paint_log(axes, one)
            if titled:
                equal = f"{one.agreed} of {len(one.differences)} rows equal"
                axes.set_title(f"{one.log.title}: {equal}", loc="left")
        for axes in grid.flat[len(compared) :]:
            axes.remove()
        _legend(canvas, lines)

    titles = ", ".join(one.log.title for one in compared)
    size = (8.6, 0.5 + 2.3 * rows) if titled else (5.2, 3.3)
    label = f"{titles}: test accuracy per epoch, published and ours"
    return _svg(name, label, paint, size, nrows=rows, ncols=columns, squeeze=False)


def _paint_log(axes: Any, compared: ComparedLog) -> list[tuple[str, Any]]:
    ours, theirs = compared.result.log["test_accuracy"], compared.log.published["test_accuracy"]
    circles = {"markersize": 3.4, "markerfacecolor": "none", "markeredgewidth": 1}
    lines = [
        ("ours", *axes.plot(ours, color=_STANDINS["s1"], linewidth=1.3)),
        ("published", *axes.plot(theirs, "o", color=_STANDINS["s2"], **circles)),
    ]
    if compared.agreed < len(compared.differences):
        axes.axvline(compared.agreed - 0.5, color=_STANDINS["soft"], linestyle=":", linewidth=1)
    _epochs(axes, "test accuracy")
    zoom(axes, [ours, theirs], skip=3)
    return lines


def spreads(name: str, quantity: str, found: Sequence[tuple[str, Spread]]) -> str:
    """Draw the repeats of each cell that differs, our figure, and the published one.

    Parameters
    ----------
    name
        The first part of all ids in the SVG.
    quantity
        The heading of the cells' quantity.
    found
        The spreads, each with the name of its row.
    """
    bar = {"color": _STANDINS["ink"], "markersize": 11, "markeredgewidth": 1.8}
    diamond = {"color": _STANDINS["s2"], "markersize": 5.5, "markeredgewidth": 0}
    dot = {"color": _STANDINS["s1"], "markersize": 4, "alpha": 0.55}

    def paint(canvas: Any, axes: Any) -> None:
        for i, (_, spread) in enumerate(found):
            values = np.asarray(spread.values)
            # equal draws are stacked, up to four high
            stacked = np.array([np.sum(values[:j] == value) for j, value in enumerate(values)])
            ours, theirs = (as_float(t or "-") for t in (spread.cell.ours, spread.cell.published))
            lines = [
                ("repeats", *axes.plot(values, i - 0.12 * np.clip(stacked, 0, 3), "o", **dot)),
                ("ours", *axes.plot(ours, i, "|", **bar)),
                ("published", *axes.plot(theirs, i + 0.22, "D", **diamond)),
            ]
        axes.set_yticks(range(len(found)), [label for label, _ in found], fontsize=8)
        axes.set_ylim(len(found) - 0.4, -0.6)
        axes.set_xlabel(quantity)
        axes.grid(axis="y", visible=False)
        _legend(canvas, lines)

    label = f"{quantity}: repeats, ours and published, for each figure that differs"
    return _svg(name, label, paint, (5.2, 1.1 + 0.46 * len(found)))

"""The report's figures: SVG whose colours are CSS variables, so that one serves light and dark."""

from __future__ import annotations

import importlib.util
import io
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xpnn.errors import ArgumentError
from xpnn.plots import COLORS, SERIES, sampled, style, zoom
from xpnn.study.comparison import ComparedLog, Comparison, Spread, number
from xpnn.study.grid import Figure

# what matplotlib draws with in the place of each
_STANDINS = {name: f"#0000{i:02x}" for i, name in enumerate(COLORS, 1)}
_DASHES = ("-", "-", "-", "-", "--", "--", "--")

NAMES = {
    "train_accuracy": "training accuracy",
    "test_accuracy": "test accuracy",
    "train_loss": "training loss",
    "test_loss": "test loss",
}


def available() -> bool:
    """Return whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def variables(dark: bool = False) -> str:
    """Return the CSS declarations of all colours."""
    return "".join(f"--{name}:{pair[dark]};" for name, pair in COLORS.items())


class _Canvas:
    """A matplotlib figure that becomes an SVG."""

    def __init__(self, slug: str, width: float = 5.2, height: float = 3.3, **grid: Any) -> None:
        try:
            import matplotlib
        except ImportError:
            raise ArgumentError(
                "figures need matplotlib; install it with: pip install matplotlib"
            ) from None
        from matplotlib.figure import Figure as Matplotlib

        self.slug = slug
        self.context = matplotlib.rc_context(
            {
                "svg.fonttype": "none",
                "svg.hashsalt": slug,
                **style(_STANDINS["ink"], _STANDINS["soft"], _STANDINS["grid"]),
                "path.simplify_threshold": 0.3,
            }
        )
        self.context.__enter__()
        self.figure = Matplotlib(figsize=(width, height), layout="constrained")
        self.axes: Any = self.figure.subplots(**grid)

    def svg(self, label: str) -> str:
        """Return the SVG, with `label` for those who can't see it."""
        text = io.StringIO()
        with warnings.catch_warnings():
            # of glyphs that its own font lacks, and a browser has
            warnings.simplefilter("ignore")
            self.figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
        self.context.__exit__(None, None, None)
        return _clean(text.getvalue(), self.slug, label)


def _clean(svg: str, slug: str, label: str) -> str:
    """Return an SVG to put into a page beside others."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    for name, color in _STANDINS.items():
        svg = svg.replace(color, f"var(--{name})")
    svg = re.sub(r'\bid="', f'id="{slug}-', svg)
    svg = re.sub(r'(url\(#|href="#)', rf"\g<1>{slug}-", svg)
    svg = re.sub(r"(font: [^;\"']*?\d+px )[^;\"]*", r"\g<1>system-ui, sans-serif", svg)
    svg = re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', "", svg, count=1)
    plain = label.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    svg = svg.replace("<svg", f'<svg role="img" aria-label="{plain}"', 1)
    return re.sub(r"\s*\n\s*", "\n", svg)


def alone(svg: str) -> str:
    """Return an SVG that stands in a file of its own, and follows the reader's light or dark."""
    style = (
        f"<style>svg{{{variables()}}}"
        f"@media(prefers-color-scheme:dark){{svg{{{variables(dark=True)}}}}}</style>"
    )
    head = svg.index(">") + 1
    return '<?xml version="1.0" encoding="utf-8"?>\n' + svg[:head] + style + svg[head:]


def slug(*words: str) -> str:
    """Return words as a name for files and links."""
    return re.sub(r"[^a-z0-9]+", "-", " ".join(words).lower()).strip("-")


def draw(name: str, figure: Figure, comparison: Comparison) -> str | None:
    """Return the SVG of a study's figure; None if none of its runs has a result."""
    if figure.functions:
        return _functions(name, figure)
    lines = [
        (label, result.log)
        for label, job in zip(figure.labels, figure.jobs, strict=True)
        if (result := comparison.result(job)) is not None
    ]
    return _curves(name, figure, lines) if lines else None


def _functions(name: str, figure: Figure) -> str:
    canvas = _Canvas(name)
    for text, color, dash in zip(figure.functions, SERIES, _DASHES, strict=False):
        u, z, _ = sampled(text, *figure.range)
        canvas.axes.plot(u, z, dash, color=_STANDINS[color], label=text)
    canvas.axes.set_xlabel("u")
    _legend(canvas, len(figure.functions))
    return canvas.svg(f"{figure.title}: {', '.join(figure.functions)}")


def _curves(
    name: str, figure: Figure, lines: Sequence[tuple[str, Mapping[str, list[float]]]]
) -> str:
    canvas = _Canvas(name)
    axes, paired = canvas.axes, len(figure.quantities) > 1
    shown = []
    for (label, log), color, dash in zip(lines, SERIES, _DASHES, strict=False):
        for quantity in figure.quantities:
            first = quantity.startswith("train") and paired
            values = log[quantity]
            part = f", {quantity.partition('_')[0]}" if paired else ""
            axes.plot(
                values,
                ":" if first else dash,
                color=_STANDINS[color],
                label=label + part,
                linewidth=1.2 if len(values) < 200 else 0.8,
                marker="." if len(values) < 4 else "",
            )
            shown.append(values)
    kind = figure.quantities[0].partition("_")[2]
    axes.set(xlabel="epoch", ylabel=kind if paired else NAMES[figure.quantities[0]])
    axes.xaxis.get_major_locator().set_params(integer=True)
    if all(q.endswith("loss") for q in figure.quantities):
        axes.set_yscale("log")
        seen = [v for values in shown for v in values[min(1, len(values) - 1) :] if v > 0]
        if seen:
            axes.set_ylim(min(seen) * 0.8, max(seen) * 1.25)
    else:
        zoom(axes, shown, skip=3)
    _legend(canvas, len(shown))
    return canvas.svg(f"{figure.title}: {', '.join(label for label, _ in lines)}")


def _legend(canvas: _Canvas, count: int) -> None:
    columns = count if count <= 3 else (2 if count == 4 else 3)
    canvas.figure.legend(
        loc="outside upper left", ncols=columns, handlelength=1.8, columnspacing=1.4
    )


def log(name: str, compared: ComparedLog) -> str:
    """Return a published log's test accuracy, and ours."""
    canvas = _Canvas(name)
    _draw_log(canvas.axes, compared)
    _legend(canvas, 2)
    return canvas.svg(f"{compared.log.title}: test accuracy per epoch, published and ours")


def _draw_log(axes: Any, compared: ComparedLog) -> None:
    ours, theirs = (x["test_accuracy"] for x in (compared.result.log, compared.published))
    axes.plot(ours, color=_STANDINS["s1"], label="ours", linewidth=1.3)
    axes.plot(
        theirs,
        "o",
        color=_STANDINS["s2"],
        markersize=3.4,
        markerfacecolor="none",
        markeredgewidth=1,
        label="published",
    )
    if compared.agreed < len(compared.differences):
        axes.axvline(compared.agreed - 0.5, color=_STANDINS["soft"], linestyle=":", linewidth=1)
    axes.set(xlabel="epoch", ylabel="test accuracy")
    axes.xaxis.get_major_locator().set_params(integer=True)
    zoom(axes, [ours, theirs], skip=3)


def main(logs: Sequence[ComparedLog]) -> str | None:
    """Return the figure of all logs, published and ours, side by side; None if there are none."""
    if not logs:
        return None
    rows = -(-len(logs) // 2)
    canvas = _Canvas("main", 8.6, 0.5 + 2.3 * rows, nrows=rows, ncols=2, squeeze=False)
    for axes, compared in zip(canvas.axes.flat, logs, strict=False):
        _draw_log(axes, compared)
        rows_in_all = len(compared.differences)
        axes.set_title(
            f"{compared.log.title}: {compared.agreed} of {rows_in_all} rows equal", loc="left"
        )
    for axes in canvas.axes.flat[len(logs) :]:
        axes.remove()
    handles, labels = canvas.axes.flat[0].get_legend_handles_labels()
    canvas.figure.legend(handles, labels, loc="outside upper left", ncols=2, handlelength=1.8)
    return canvas.svg("Test accuracy per epoch, published and ours, for each published log")


def spreads(name: str, quantity: str, found: Sequence[tuple[str, Spread]]) -> str:
    """Return the draws of each figure that differs, ours, and the published one."""
    canvas = _Canvas(name, 5.2, 1.1 + 0.46 * len(found))
    axes = canvas.axes
    for i, (_, spread) in enumerate(found):
        values = np.asarray(spread.values)
        # draws of the same value one above the other
        stacked = np.array([np.sum(values[:j] == value) for j, value in enumerate(values)])
        label = None if i else "repeats"
        axes.plot(
            *(values, i - 0.12 * np.clip(stacked, 0, 3), "o"),
            color=_STANDINS["s1"],
            markersize=4,
            alpha=0.55,
            label=label,
        )
        for text, marker, color, kind in (
            (spread.cell.ours, "|", "ink", "ours"),
            (spread.cell.published, "D", "s2", "published"),
        ):
            axes.plot(
                number(text or "-"),
                i + 0.22 * (kind == "published"),
                marker,
                color=_STANDINS[color],
                markersize=11 if marker == "|" else 5.5,
                markeredgewidth=1.8 if marker == "|" else 0,
                linestyle="none",
                label=None if i else kind,
            )
    axes.set_yticks(range(len(found)), [label for label, _ in found], fontsize=8)
    axes.set_ylim(len(found) - 0.4, -0.6)
    axes.set_xlabel(quantity)
    axes.grid(axis="y", visible=False)
    _legend(canvas, 3)
    return canvas.svg(f"{quantity}: repeats, ours and published, for each figure that differs")

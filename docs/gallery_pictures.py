"""Save each picture of the gallery for light and for dark pages: the settings of sphinx-gallery."""

import ast
import os
from pathlib import Path

from matplotlib import pyplot as plt
from matplotlib.cm import ScalarMappable
from matplotlib.collections import Collection
from matplotlib.colors import ListedColormap, to_hex, to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Text

from xpnn.plots import COLORS, ramp

_DARK = dict(COLORS.values())
# the numbers in the cells of a confusion matrix, whose ramp turns round
_NUMBERS = {"#000000": "#ffffff", "#ffffff": "#000000"}


def scraper(block, variables, gallery):
    """Return the reStructuredText of the figures that a block of a script has drawn."""
    names = variables["example_globals"]
    # those of pyplot, and those that xpnn returned
    open_figures = [plt.figure(number) for number in plt.get_fignums()]
    returned = [value for value in names.values() if isinstance(value, Figure)]
    shown = names.setdefault("__shown__", [])
    lines = []
    for figure in [*open_figures, *returned]:
        if any(figure is other for other in shown):
            continue
        shown.append(figure)
        path = Path(next(variables["image_path_iterator"])).with_suffix(".svg")
        dark = path.with_name(f"{path.stem}_dark.svg")
        _save(figure, path)
        darken(figure)
        _save(figure, dark)
        script = Path(variables["src_file"]).read_text(encoding="utf-8")
        alt = alternative(figure, ast.get_docstring(ast.parse(script)) or "")
        for file, theme in ((path, "light"), (dark, "dark")):
            source = os.path.relpath(file, gallery["src_dir"]).replace(os.sep, "/")
            lines += [f".. image:: /{source}", f"   :alt: {alt}", f"   :class: only-{theme}", ""]
    plt.close("all")
    return "\n".join(lines)


def alternative(figure, page):
    """Return the words in place of a picture: the page's title, and what each panel has."""
    title, heading = page.partition("\n")[0], figure.get_suptitle()
    # under a heading, what many images have would be read out one by one
    shown = [heading] if heading else [text for axes in figure.axes if (text := _panel(axes))]
    if not title or not shown:
        raise ValueError("a picture of the gallery needs a title or labels that say what it shows")
    return " ".join(f"{title}: {'; '.join(shown)}".split())


def _panel(axes):
    """Return what a panel shows: its title or its y axis, over its x axis, and its curves."""
    title = axes.get_title() or axes.get_title(loc="left")
    sides = (("x", axes.get_xlabel()), ("y", axes.get_ylabel()))
    labels = ", ".join(f"{side}: {label}" for side, label in sides if label)
    curves = ", ".join(axes.get_legend_handles_labels()[1])
    return " ".join([title, f"({labels})" * bool(labels), f"of {curves}" * bool(curves)]).strip()


def _save(figure, path):
    # the same file for the same picture
    with plt.rc_context({"svg.hashsalt": path.stem}):
        figure.savefig(path, metadata={"Date": None}, facecolor=figure.get_facecolor())


def darken(figure):
    """Give a figure drawn in the light style of xpnn the colours of the dark one."""
    for artist in figure.findobj():
        if isinstance(artist, Text):
            color = to_hex(artist.get_color())
            artist.set_color(_NUMBERS.get(color) or _dark(artist.get_color()))
        elif isinstance(artist, Line2D):
            for part in ("color", "markerfacecolor", "markeredgecolor"):
                _change(artist, part)
        elif isinstance(artist, (Patch, Collection)):
            if isinstance(artist, Collection) and artist.get_array() is not None:
                if isinstance(artist.get_cmap(), ListedColormap):  # contours in given colours
                    artist.set_cmap(ListedColormap([_dark(c) for c in artist.get_cmap().colors]))
                continue
            for part in ("facecolor", "edgecolor"):
                _change(artist, part)
        if isinstance(artist, ScalarMappable) and artist.get_cmap().name == "share":
            artist.set_cmap(ramp({name: dark for name, (_, dark) in COLORS.items()}))


def _change(artist, part):
    color = getattr(artist, f"get_{part}")()
    if isinstance(artist, Collection):
        getattr(artist, f"set_{part}")([_dark(one) for one in color])
    elif not isinstance(color, str) or color not in ("none", "auto"):
        getattr(artist, f"set_{part}")(_dark(color))


def _dark(color):
    opaque = to_hex(color)
    return (*to_rgba(_DARK.get(opaque, opaque))[:3], to_rgba(color)[3])


SETTINGS = {
    "image_scrapers": (scraper,),
    # the table of a DataFrame; what else a block ends with is for the notebook
    "capture_repr": ("_repr_html_",),
    # from the simplest to the most special
    "within_subsection_order": "FileNameSortKey",
}

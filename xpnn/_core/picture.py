"""A matplotlib figure that a notebook shows. It is imported when a picture is drawn."""

from __future__ import annotations

import io
import warnings
from typing import Any

from matplotlib.figure import Figure


class Picture(Figure):
    """A figure without pyplot; notebooks show it, because it knows its own picture."""

    def draw(self, renderer: Any) -> None:
        # one warning said so when the labels were written; matplotlib has one for each drawn letter
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing from")
            super().draw(renderer)

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.savefig(file, format="png")
        return file.getvalue()

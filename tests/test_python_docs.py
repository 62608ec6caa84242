"""The examples of docs/guide/python.md, as they stand there."""

import re

import numpy as np
import pytest

from tests.helpers import ROOT
from xpnn.losses import LOSSES

PAGE = (ROOT / "docs" / "guide" / "python.md").read_text(encoding="utf-8")


def test_the_examples_run(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    pytest.importorskip("pandas")
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "example"}
    for block in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL):
        exec(block, names)
    # the printed table, the predictions, the evaluation, the frame; no epochs, in a pipe
    printed = capsys.readouterr().out
    assert printed.startswith("layer   kind   inputs  outputs  parameters\ndense1 ")
    assert "accuracy=" in printed
    assert "test_loss" in printed
    # two classes of one size, with a boundary that a linear network can't draw
    assert names["history"][-1].test_accuracy > 0.85
    assert (tmp_path / "signs.png").read_bytes().startswith(b"\x89PNG")
    assert np.isfinite(names["frame"]["test_loss"]).all()


def test_the_losses_of_the_page_are_there():
    rows = re.findall(r"^\| .* \| (`.*`.*) \|$", PAGE, flags=re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert len(rows) == 4
    assert named == {"cross_entropy", "binary_cross_entropy", "mean_squared_error"} <= set(LOSSES)

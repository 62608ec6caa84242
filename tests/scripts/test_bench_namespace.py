"""`scripts/bench/namespace.py`: every function of its table runs and has a ratio."""

import re
import warnings

from scripts.bench import namespace


def test_every_function_has_a_row(monkeypatch):
    monkeypatch.setattr(namespace, "SIZE", 20_000)
    monkeypatch.setattr(namespace, "SIDE", 4)
    with warnings.catch_warnings(action="ignore"):
        lines = list(namespace.table("strict", rounds=1))
    rows = [re.fullmatch(r"\| (.*) \| (.*) \| \d+ \| \d+ \| [\d.]+ \|", line) for line in lines[2:]]
    expected = [(kind, name) for kind, group in namespace.FUNCTIONS.items() for name in group]
    assert [row.groups() for row in rows] == expected

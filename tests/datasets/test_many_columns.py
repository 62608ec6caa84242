"""Tables of many columns: how often names are compared, which is in proportion to the columns."""

import numpy as np
import pytest

from xpnn.datasets import NamedDataset, columns, from_table, load
from xpnn.datasets.columns import Encoding
from xpnn.datasets.frames import in_order
from xpnn.datasets.readers import csv
from xpnn.datasets.readers.reader import Request

COUNT = 2000


class Name(str):
    """A text that counts how often it is compared, and never is the same object as another."""

    compared = 0

    def __eq__(self, other):
        Name.compared += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__


def names(*, reverse=False):
    """Return new texts c0, c1, ..., whose hashes alone can tell that they are the same."""
    found = [Name(f"c{i}") for i in range(COUNT)]
    return found[::-1] if reverse else found


@pytest.fixture(autouse=True)
def _in_proportion():
    """Hold each test to a few comparisons for each column."""
    Name.compared = 0
    yield
    assert Name.compared <= 12 * COUNT


def test_names_that_must_differ(tmp_path):
    csv._check_names(tmp_path, 1, names(), set())


@pytest.mark.parametrize(
    "given",
    [
        {"features": names(reverse=True)},
        {"ignore": names()[: COUNT // 2], "target": "c1500", "weights": "c1501"},
        {"ignore": [str(i + 1) for i in range(COUNT // 2)]},
    ],
)
def test_columns_by_name(given, tmp_path):
    features, _, _ = csv._columns(tmp_path, 1, names(), True, Request(**given))
    assert len(features) >= COUNT // 2 - 2


def test_the_first_of_two_columns_of_one_name_counts():
    assert csv._places(["a", "", "b", ""]) == {"a": 0, "": 1, "b": 2}


def test_data_in_another_order():
    x = np.arange(2.0 * COUNT).reshape(2, COUNT)
    data = NamedDataset(x, np.zeros(2), feature_names=tuple(names()))
    ordered = in_order(data, tuple(names(reverse=True)))
    np.testing.assert_array_equal(ordered.x, x[:, ::-1])


def test_a_frame_whose_columns_are_ignored():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(np.zeros((2, COUNT)), columns=pandas.Index(names(), dtype=object))
    data = from_table(frame, target="c0", task="regression", ignore=names()[1 : COUNT // 2])
    assert data.x.shape == (2, COUNT // 2)


def test_a_column_of_many_categories_in_an_order(monkeypatch):
    cells = np.array(names(), object)
    monkeypatch.setattr(columns, "_text_key", lambda cell: Name(cell))
    encoding = Encoding(encode={"town": tuple(names(reverse=True))})
    (column,) = encoding.fit(cells[:, None], ["town"]).columns
    assert len(column.categories) == COUNT


def test_a_file_of_many_columns(tmp_path):
    """The whole way of a table with numbers, texts and missing cells."""
    path = tmp_path / "wide.csv"
    header = ",".join(f"c{i}" for i in range(COUNT))
    rows = "".join(",".join(["1.5", "x", ""][i % 3] for i in range(COUNT)) + "\n" for _ in range(3))
    path.write_text(f"{header}\n{rows}")
    data = load(path, target=None, features=[f"c{i}" for i in reversed(range(COUNT))])
    assert data.x.shape == (3, COUNT)

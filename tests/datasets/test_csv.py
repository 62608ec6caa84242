"""CSV files: what is read of them, and the one line about what can't be."""

import concurrent.futures
import csv
import gzip
import io
import os
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers import run
from xpnn._core import limits
from xpnn.datasets import load
from xpnn.datasets.cells import finite_number
from xpnn.datasets.readers import csv as tables
from xpnn.datasets.readers.reader import Request
from xpnn.errors import ArgumentError, DataError


@pytest.fixture
def file(tmp_path):
    """A function that writes text, or bytes, to a file."""

    def write(content):
        path = tmp_path / "table.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def read_csv(path, **options):
    return tables.read_csv(path, Request(**options))


EXPECTED = np.array([[1.5, 2.0], [3.0, -4e-3]])


def zipped(raw):
    """Return gzipped bytes that don't hold the time, so that a test's name doesn't."""
    return gzip.compress(raw, mtime=0)


PLAIN = "a,b,y\n1.5,2,u\n3,-4e-3,v\n"


@pytest.mark.parametrize(
    "content",
    [
        PLAIN,
        PLAIN.replace(",", ";"),
        PLAIN.replace(",", "\t"),
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace("\n", "\r"),
        PLAIN.replace("\n", "\n\n"),
        PLAIN.rstrip(),
        "\ufeff" + PLAIN,
        "\n \n" + PLAIN,
        ' a , "b",y\n"1.5", 2 ,"u"\n3, "-4e-3",v\n',
    ],
)
def test_one_table_in_many_spellings(content, file):
    table = read_csv(file(content))
    assert (table.feature_names, table.target_name) == (("a", "b"), "y")
    np.testing.assert_array_equal(table.y, np.array(["u", "v"]), strict=True)
    np.testing.assert_array_equal(table.x, EXPECTED, strict=True)


def test_a_delimiter_in_quotes_is_text(file):
    table = read_csv(file('"a;1","b,2",y\n1,2,"u;\n""v"""\n3,4,w\n'))
    assert table.feature_names == ("a;1", "b,2")
    assert table.y.tolist() == ['u;\n"v"', "w"]
    # the second row begins two lines further down
    assert table.rows.tolist() == [2, 4]


@pytest.mark.parametrize(
    ("content", "header"),
    [
        ("a,b,y\n1,2,u\n", True),
        ("1,2,u\n3,4,v\n", False),
        ("1,2,4\n3,4,5\n", False),
        # a text that occurs again is a value
        ("0,1,u\n3,4,v\n7,8,u\n", False),
        ("label,0,1\n5,1,2\n", True),
        ("a,b\n1,x\n", True),
        # a text label in every row, a value that is missing: no header
        ("1,,u\n3,4,v\n", False),
        ("5.1,setosa\n", False),
        # steps as in the row below; a class of one row beside others; a single row
        ("5,6,7\n7,8,9\n", False),
        ("5.1,3.5,once\n" + "1,2,u\n3,4,v\n" * 2 + "6,7,twice\n", False),
        ("2019,2020,2021\n", False),
    ],
)
def test_what_is_a_header(content, header, file):
    def found(given):
        table = read_csv(file(content.replace(",,", ",0,")), header=given)
        return table.rows[0] == 2, table.target_name

    assert found(None) == found(header)
    assert found(header)[0] == header


def test_without_a_header_columns_are_numbered(file):
    table = read_csv(file("1,2,u\n3,4,v\n"))
    assert (table.feature_names, table.target_name, table.rows.tolist()) == (
        ("1", "2"),
        "3",
        [1, 2],
    )


@pytest.mark.parametrize(
    "content",
    [
        "0,1,label\n5.1,3.5,u\n4.9,3.0,v\n",
        "0,1,2\n5.1,3.5,0\n4.9,3.0,1\n",
        ",0,1,label\n0,5.1,3.5,u\n1,4.9,3.0,v\n",
        "label;0;1\nu;5.1;3.5\n",
        "0,label\n5.1,u\n",
        "1,2,3,4,label\n1,2,3,5,u\n",
        # years; channels of a spectrum; a header above texts
        "2019,2020,2021,2022\n1.5,0.3,2.5,0\n0.7,1.9,1.1,1\n",
        "400.1,402.7,species\n" + "1.5,0.3,u\n0.7,1.9,v\n" * 2,
        "town,colour,kind\n" + "Rome,red,u\nOslo,blue,v\n" * 2,
    ],
)
def test_names_that_are_numbers_are_asked_for(content, file):
    path = file(content)
    with pytest.raises(DataError, match=r"line 1: the first row \(.* say header=True or header=F"):
        read_csv(path)
    lines = len(content.splitlines())
    assert len(read_csv(path, header=False, ignore=[1] * content.startswith(",")).x) == lines
    table = read_csv(path, header=True, ignore=[1] * content.startswith(","))
    assert len(table.x) == lines - 1
    # a model's names are enough
    if table.feature_names != ("1", "2", "3", "4"):
        again = read_csv(path, features=table.feature_names, target=None)
        assert (again.feature_names, len(again.x)) == (table.feature_names, lines - 1)


def test_a_file_without_a_header_is_called_so(file, capsys):
    path = file("5,1,u\n3,4,v\n" * 4)
    assert run("train", path, "--epochs", 1) == 0
    assert capsys.readouterr().out.startswith(f"data {path}: 8 rows, 2 features, no header\n")


def test_a_first_row_may_be_said_to_be_one_of_names(file):
    assert read_csv(file("1,2\n3,4\n"), header=True).feature_names == ("1",)
    with pytest.raises(DataError, match="line 1, column '1': 'a' is not a number"):
        read_csv(file("a,b\n3,4\n5,6\n"), header=False)


@pytest.mark.parametrize(
    ("target", "name", "names"),
    [
        ("b", "b", ("a", "c")),
        (1, "a", ("b", "c")),
        ("3", "c", ("a", "b")),
        (-3, "a", ("b", "c")),
        (None, None, ("a", "b", "c")),
    ],
)
def test_the_target_by_name_and_number(target, name, names, file):
    table = read_csv(file("a,b,c\n1,2,3\n4,5,6\n"), target=target)
    assert (table.target_name, table.feature_names) == (name, names)
    columns = ["abc".index(n) for n in names]
    np.testing.assert_array_equal(table.x, np.array([[1.0, 2, 3], [4, 5, 6]])[:, columns])


def test_columns_may_be_ignored_or_asked_for(file):
    path = file("id,a,town,b,y\nx1,1,Rome,2,u\nx2,3,Oslo,4,v\n")
    assert read_csv(path, ignore=["town", 1]).feature_names == ("a", "b")
    asked = read_csv(path, features=["b", "a"], target=None)
    np.testing.assert_array_equal(asked.x, [[2, 1], [4, 3]])
    assert asked.target_name is None


def test_features_alone_need_no_header(file):
    table = read_csv(file("1,2\n3,4\n"), features=["2", "5"], target=None)
    np.testing.assert_array_equal(table.x, [[1, 2], [3, 4]])


def test_text_and_missing_cells_are_objects(file):
    table = read_csv(file("a,b,y\n1,Rome,u\n?,007,v\n3,,v\n4,Oslo,u\n"))
    assert table.x.dtype == object
    assert table.x[:, 1].tolist() == ["Rome", "007", None, "Oslo"]
    np.testing.assert_array_equal(table.x[:, 0].astype(float), [1, np.nan, 3, 4])


UTF = " is not UTF-8 text; save the file as UTF-8"
HEAD = "a,b,y\n1,2,u\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", " is empty"),
        ("\n \n\n", " holds nothing but blank lines"),
        ("a,b,y\n", " has a header, and no rows below it"),
        (HEAD + "\n3,inf,v\n", ", line 4, column 'b': 'inf' is not finite in float64"),
        (HEAD + "3,1e999,v\n", ", line 3, column 'b': '1e999' is not finite in float64"),
        (HEAD + "3,x,v\n", ", line 3, column 'b': 'x' is not a number"),
        (HEAD + "3,1_0,v\n", ", line 3, column 'b': '1_0' is not a number"),
        ("a;y\n1,5;u\n", ", line 2, column 'a': '1,5' is not a number (a decimal point is wanted)"),
        ("a,b,y\nx,2,u\n3,4,v\n5,6,v\n7,8,u\n", ", line 2, column 'a': 'x' is not a number"),
        (
            HEAD + "9007199254740993,4,v\n",
            ", line 3, column 'a': '9007199254740993' is an integer beyond 2**53 that float64 "
            "can't hold exactly; leave an id out with ignore=['a']",
        ),
        (HEAD + "3,4\n", ", line 3: 2 cells, where the first row has 3"),
        (HEAD + "3\n", ", line 3: 1 cell, where the first row has 3"),
        (HEAD + "3,4,v,w\n", ", line 3: 4 cells, where the first row has 3"),
        (
            "a,b,a\n1,2,u\n",
            ", line 1: columns 1 and 3 are both called 'a': rename one, or leave it out with "
            "ignore=[3]",
        ),
        (
            HEAD + "3,4,v\n,,\n",
            ", line 4: an empty row: delete such rows (in pandas, df = df.dropna(how='all'))",
        ),
        (
            ",b,y\n1,2,u\n",
            ", line 1: column 1 has no name, as the index of a DataFrame that was written with it: "
            "leave it out with ignore=[1]",
        ),
        ("y\n1\n", " has no column for features, only y"),
        (HEAD + '3,"4" ,v\n', ", line 3: ',' expected after '\"'"),
        (HEAD + '3,4,"v\n5,6,u\n', ", line 4: unexpected end of data"),
        (HEAD.encode() + b"3,4,\xfc\n", ", line 3, column 3: the byte 0xfc" + UTF),
        ("a;b;y\n1;2;ü\n".encode() + b'3;"4;";v\xfc\n', ", line 3, column 3: the byte 0xfc" + UTF),
        (HEAD + "3,4,v\0\n", " is not a text file: line 3 holds a NUL character"),
        (
            HEAD + "3,4,v\n" * 20000 + "3,4,v\0\n",
            " is not a text file: line 20003 holds a NUL character",
        ),
        (HEAD.encode("utf-16"), " is UTF-16; save it as UTF-8"),
        (b"PK\x03\x04\x00\x00", " is not a text file: it begins with 50 4b 03 04 00 00"),
    ],
)
def test_what_is_wrong_and_where(content, message, file):
    path = file(content)
    with pytest.raises(DataError) as caught:
        read_csv(path)
    assert str(caught.value) == f"{path}{message}"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "z"}, r"unknown target of .*table.csv 'z' \(allowed: a, b, y\)"),
        ({"target": 0}, "unknown target of .*table.csv 0"),
        ({"target": 4}, "unknown target of .*table.csv 4"),
        ({"ignore": ["c"]}, "unknown ignored column of .*table.csv 'c'"),
        ({"ignore": ["y"]}, "target 'y' must not be ignored"),
    ],
)
def test_columns_that_are_not_there(options, message, file):
    with pytest.raises(ArgumentError, match=message):
        read_csv(file(HEAD), **options)


def test_a_feature_that_is_not_there(file):
    with pytest.raises(DataError, match=r"table.csv has no column 'c', which is one of the feat"):
        read_csv(file(HEAD), features=["a", "c"])


def test_a_file_that_can_not_be_read(tmp_path):
    with pytest.raises(DataError, match=r"can't read .*none\.csv: No such file"):
        read_csv(tmp_path / "none.csv")


@given(st.lists(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=3, max_size=3),
                min_size=1, max_size=5))  # fmt: skip
def test_floats_come_back(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("floats") / "table.csv"
    text = io.StringIO()
    csv.writer(text).writerows([["a", "b", "c"], *rows])
    path.write_text(text.getvalue())
    np.testing.assert_array_equal(read_csv(path, target=None).x, np.array(rows), strict=True)


@given(st.integers(-(2**70), 2**70))
def test_integers_are_exact_or_refused(number):
    exact = Fraction(float(number)) == number
    try:
        assert Fraction(finite_number(str(number))) == number
        assert exact
    except ValueError:
        assert not exact


def target(file, *cells, task=None):
    rows = "".join(f'{i}.5,"{cell}"\n' for i, cell in enumerate(cells))
    path = file("a,y\n" + rows)
    return read_csv(path, header=True, task=task).y


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (("u", "v", "u"), np.array(["u", "v", "u"])),
        (("3", "-1", "3"), np.array([3, -1, 3])),
        (("1", "2", "unknown"), np.array(["1", "2", "unknown"])),
        (("5000", "9" * 5000, "7"), np.array(["5000", "9" * 5000, "7"])),
        (("007", "7", "7"), np.array(["007", "7", "7"])),
        (("9223372036854775807", "7", "7"), np.array([2**63 - 1, 7, 7])),
        (("9223372036854775808", "7", "7"), np.array(["9223372036854775808", "7", "7"])),
        (("1", "2.0", "3"), np.array([1.0, 2.0, 3.0])),
        (("1e2", "2", "3"), np.array([100.0, 2.0, 3.0])),
    ],
)
def test_labels_and_values_are_told_apart(cells, expected, file):
    np.testing.assert_array_equal(target(file, *cells), expected, strict=True)


def test_the_task_may_be_said(file):
    np.testing.assert_array_equal(
        target(file, "1", "2", task="regression"), np.array([1.0, 2.0]), strict=True
    )
    np.testing.assert_array_equal(
        target(file, "1.5", "x", task="classification"), np.array(["1.5", "x"]), strict=True
    )
    for cells in (("NA", "FR", "none"), ("0,5", "0,7"), ("5%", "6%"), ("3", "a", "b")):
        np.testing.assert_array_equal(
            target(file, *cells, task="classification"), np.array(cells), strict=True
        )


LEAVE_OUT = "; leave out the rows without a target (in pandas, df = df.dropna(subset=['y']))"


@pytest.mark.parametrize(
    ("cells", "task", "message"),
    [
        (("u", "", "v"), None, ", line 3, column 'y': a missing value" + LEAVE_OUT),
        (("1", "NA", "3"), None, ", line 3, column 'y': a missing value ('NA')" + LEAVE_OUT),
        (("1.5", "nan"), None, ", line 3, column 'y': a missing value ('nan')" + LEAVE_OUT),
        (("1.5", "inf"), None, ", line 3, column 'y': 'inf' is not finite in float64"),
        (("1", "x"), "regression", ", line 3, column 'y': 'x' is not a number"),
        (
            ("1.5", "x"),
            None,
            ", line 3, column 'y': 'x' is not a number, as 1.5 in the same column is; if all are "
            "labels, say task='classification'",
        ),
        (
            ("0,65", "0", "1,5"),
            None,
            ", line 2, column 'y': '0,65' is not a number (a decimal point is wanted); if all are "
            "labels, say task='classification'",
        ),
        (
            ("12", "1,007.5", "3"),
            None,
            ", line 3, column 'y': '1,007.5' is not a number (plain digits with a decimal point "
            "are wanted); if all are labels, say task='classification'",
        ),
        (
            ("5 %", "6 %"),
            None,
            ", line 2, column 'y': '5 %' is not a number (plain digits with a decimal point are "
            "wanted); if all are labels, say task='classification'",
        ),
        *(
            (
                ("a", mark, "b"),
                None,
                f", line 3, column 'y': a missing value ({mark!r}){LEAVE_OUT}; if it is a label, "
                "say task='classification'",
            )
            for mark in ("?", "NA", "none")
        ),
        (
            ("3", "pos", "neg"),
            None,
            ", line 2, column 'y': '3' is a number, and all cells below are text: if it is the "
            "name of the column, say header=True; if a label, task='classification'",
        ),
        (
            [f"t{i}" for i in range(21)],
            None,
            ", column 'y': 21 different texts in 21 rows are many for classes; if they are "
            "classes, say task='classification'",
        ),
        (
            range(21),
            None,
            ", column 'y': 21 different integers in 21 rows may be classes or values; say which: "
            "task='classification' or task='regression'",
        ),
    ],
)
def test_targets_that_can_not_be_used(cells, task, message, file, tmp_path):
    with pytest.raises(DataError) as caught:
        target(file, *cells, task=task)
    assert str(caught.value) == f"{tmp_path / 'table.csv'}{message}"


# tables that are compressed


@pytest.mark.parametrize("name", ["t.csv.gz", "t.tsv.gz", "t.GZ", "t"])
def test_a_gzipped_table_is_the_table(name, tmp_path):
    (tmp_path / "plain").write_bytes(b"\xef\xbb\xbf" + PLAIN.replace(",", "\t").encode())
    path = tmp_path / name
    path.write_bytes(zipped((tmp_path / "plain").read_bytes()))
    data, plain = read_csv(path), read_csv(tmp_path / "plain")
    for part in ("x", "y", "rows"):
        np.testing.assert_array_equal(getattr(data, part), getattr(plain, part), strict=True)
    assert data.feature_names == ("a", "b")
    assert tables.FILE.columns(path) == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            zipped(PLAIN.replace("3,", "x,").encode()),
            r", line 3, column 'a': 'x' is not a",
        ),
        (zipped(b""), " is empty"),
        (zipped(b"\0\0\0"), " is not a text file: it begins with 00 00 00"),
        (zipped(PLAIN.encode())[:-9], " is a damaged gzip file: Compressed file ended"),
        (
            zipped((PLAIN + "3,4,v\n" * 10**5).encode())[:-99],
            " is a damaged gzip file: Compressed file e",
        ),
        (
            zipped(PLAIN.encode())[:-8] + bytes(8),
            " is a damaged gzip file: CRC",
        ),
        (b"\x1f\x8b" + bytes(20), " is a damaged gzip file: Unknown compression method"),
    ],
)
def test_a_gzipped_table_that_can_not_be_read(content, message, tmp_path):
    path = tmp_path / "t.csv.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"^{path}{message}"):
        read_csv(path)


@pytest.mark.parametrize("asked", [{"target": "y"}, {"ignore": ["s"]}, {"features": ["s", "t"]}])
def test_a_column_that_is_asked_for_has_its_name_in_the_header(asked, tmp_path):
    """All cells of the table are text, so that the first row alone doesn't tell."""
    (tmp_path / "t.csv").write_text("s,t,y\n" + "a,c,u\nb,d,v\n" * 3)
    data = load(tmp_path / "t.csv", **{"target": -1, **asked})
    assert (data.target_name, len(data.x)) == ("y", 6)
    with pytest.raises(DataError, match=r"the first row \(s, t, y\) may hold the names of columns"):
        load(tmp_path / "t.csv")


def test_a_delimiter_at_the_end_of_each_line(file):
    path = file("a,b,y,\n1,2,0,\n3,4,1,\n")
    with pytest.raises(DataError, match=r"leave it out with ignore=\[4\] and target='y'"):
        read_csv(path)
    table = read_csv(path, ignore=[4], target="y")
    assert (table.feature_names, table.target_name) == (("a", "b"), "y")


@pytest.mark.skipif(os.name != "posix", reason="pipes are POSIX's")
def test_a_pipe_is_read_once(tmp_path):
    os.mkfifo(pipe := tmp_path / "pipe")
    content = "a,b,y\n1,Rome,u\n3,,v\n"
    for text in (content.encode(), gzip.compress(content.encode())):
        with concurrent.futures.ThreadPoolExecutor() as pool:
            done = pool.submit(pipe.write_bytes, text)
            assert tables.FILE.columns(pipe) == 3
            table = read_csv(pipe)
            done.result()
        assert table.x.tolist() == [[1.0, "Rome"], [3.0, None]]
        assert table.y.tolist() == ["u", "v"]


def test_a_column_may_have_the_name_of_one_that_is_ignored(tmp_path):
    path = tmp_path / "twice.csv"
    path.write_text("a,b,a,y\n1,2,x,u\n3,4,x,v\n")
    data = load(path, ignore=[3])
    assert data.feature_names == ("a", "b")
    np.testing.assert_array_equal(data.x, [[1, 2], [3, 4]])


@pytest.mark.parametrize("begin", ["", "a,b,y\n1,2,0\n"])
def test_a_row_of_millions_of_cells_is_held_to_the_memory(begin, tmp_path, monkeypatch):
    (tmp_path / "t.csv").write_text(begin + "," * 1_200_000)
    monkeypatch.setattr(limits, "memory", lambda: 100_000_000)
    with pytest.raises(DataError, match=r"t\.csv would take 180 MB of memory, and may take 100 MB"):
        read_csv(tmp_path / "t.csv")


@pytest.mark.parametrize("begin", ["", "a,b\n1,2\n"])
def test_blank_lines_without_end_are_refused(begin, tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "_BLANK", 30)
    path = tmp_path / "t.csv"
    path.write_text("a,b\n1,2\n" + "\n" * 30 + "3,4\n" + "\n" * 30 + "5,6\n")
    assert len(load(path).x) == 3
    path.write_text(begin + "\n" * 31 + "5,6\n7,8\n")
    with pytest.raises(DataError, match=r"line \d+: more than 30 blank lines in a row: delete"):
        load(path)

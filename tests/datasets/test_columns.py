"""Columns of texts, truth values and missing cells: what they become, and what is refused."""

import datetime
import json
import sys
from decimal import Decimal

import numpy as np
import pytest

import xpnn
from xpnn.backends import to_numpy
from xpnn.datasets import Dataset, from_table, load, load_training, split
from xpnn.datasets.columns import Column, Columns, Encoding, as_encoding, fitted, missing_in
from xpnn.errors import ArgumentError, DataError

pytest.importorskip("sklearn")
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder

pandas = pytest.importorskip("pandas")
polars = pytest.importorskip("polars")

RNG = np.random.RandomState(3)
ROWS = 120
TOWNS = np.array(["Rome", "Oslo", "Bern, CH", "Kyōto"], object)[RNG.randint(0, 4, ROWS)]
AGES = np.where(RNG.rand(ROWS) < 0.2, np.nan, RNG.uniform(1, 80, ROWS).round(1))
CLASSES = RNG.randint(1, 4, ROWS)
ALONE = RNG.rand(ROWS) < 0.5
WARM = np.where((TOWNS == "Rome") ^ ALONE, "yes", "no")
FRAME = pandas.DataFrame(
    {"town": TOWNS.copy(), "age": AGES, "class": CLASSES, "alone": ALONE, "fare": RNG.rand(ROWS)}
)
FRAME.loc[5, "town"] = None
TABLE = FRAME.assign(warm=WARM)


def cells(*columns):
    """Return columns as an object array of cells."""
    x = np.empty((len(columns[0]), len(columns)), object)
    for i, column in enumerate(columns):
        x[:, i] = np.fromiter(column, object, len(column))
    return x


def fit(*columns, **options):
    """Return the columns fitted to cells, named a, b, c."""
    return as_encoding(**options).fit(cells(*columns), "abcdef"[: len(columns)])


def features(columns, x):
    return columns.apply(columns.codes("x", x))


def network(outputs=2):
    return xpnn.Sequential(xpnn.Dense(6), xpnn.Activation("relu"), xpnn.Dense(outputs))


def trained(data, **options):
    model = network()
    xpnn.fit(model, data, normalizer="standard", epochs=3, batch_size=20, seed=1, **options)
    return model


@pytest.fixture
def file(tmp_path):
    """A function that writes text to a file."""

    def write(content):
        path = tmp_path / "table.csv"
        path.write_text(content, encoding="utf-8")
        return path

    return write


# what cells become


def test_one_hot_is_scikit_learns():
    train, other = TOWNS[:80], np.array(["Oslo", "Paris", "Rome"], object)
    columns = fit(train)
    theirs = OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit(cells(train))
    assert columns.features == tuple(f"a={town}" for town in sorted(set(TOWNS)))
    for towns in (train, other):
        np.testing.assert_array_equal(
            features(columns, cells(towns)), theirs.transform(cells(towns)), strict=True
        )


@pytest.mark.parametrize("most", [8, 28])
def test_common_ones_are_scikit_learns_infrequent(most):
    counts = [1] * 5 + list(range(2, most))
    train = np.repeat([f"t{i:02}" for i in range(len(counts))], counts)
    columns = fit(train, encode="common")
    theirs = OneHotEncoder(
        max_categories=21, min_frequency=2, handle_unknown="infrequent_if_exist",
        sparse_output=False,
    ).fit(cells(train))  # fmt: skip
    x = cells([*sorted(set(train)), "never seen"])
    np.testing.assert_array_equal(features(columns, x), theirs.transform(x))
    assert columns.features[-1] == "a=(other)"
    assert not features(columns, cells([None])).any()


def test_ordinal_is_scikit_learns():
    columns = fit(TOWNS, encode="ordinal")
    expected = OrdinalEncoder().fit_transform(cells(TOWNS))
    np.testing.assert_array_equal(features(columns, cells(TOWNS)), expected, strict=True)
    # unknown: the median of the training part
    unknown = features(columns, cells(["Paris", None]))
    np.testing.assert_array_equal(unknown, np.full((2, 1), np.median(expected)))


@pytest.mark.parametrize("how", [["small", "medium", "large"], "small<medium < large"])
def test_an_order_may_be_given(how):
    columns = fit(["large", "small", "large"], encode={"a": how})
    got = features(columns, cells(["small", "medium", "large", "huge"]))
    np.testing.assert_array_equal(got, [[0], [1], [2], [2]])


def test_medians_and_indicators_are_scikit_learns():
    columns = fit(AGES)
    theirs = SimpleImputer(strategy="median", add_indicator=True).fit_transform(AGES[:, None])
    np.testing.assert_array_equal(features(columns, cells(AGES)), theirs, strict=True)
    assert columns.features == ("a", "a=(missing)")
    assert missing_in(cells(AGES, TOWNS)) == [np.isnan(AGES).sum(), 0]


@pytest.mark.parametrize(
    ("missing", "fill"), [(0, 0.0), ("-1.5", -1.5), ({"a": 7}, 7.0), ("a=7,b=x", 7.0)]
)
def test_what_is_missing_may_have_a_value(missing, fill):
    columns = fit([1.0, None, 5.0], ["x", None, "y"], missing=missing)
    got = features(columns, cells([None], [None]))
    named = isinstance(missing, str) and "b" in missing
    np.testing.assert_array_equal(got, [[fill, 1, named, 0, 1]])


@pytest.mark.parametrize(
    "spelling",
    [("True", "False"), ("TRUE", "FALSE"), ("true", "false"), (True, False), (np.True_, np.False_)],
)
def test_truth_in_every_spelling(spelling):
    columns = fit([spelling[0], spelling[1], None, spelling[0]])
    assert columns.columns[0].kind == "truth"
    np.testing.assert_array_equal(
        features(columns, cells([*spelling, "true", "FALSE", True, 1.0, np.nan])),
        [[1, 0], [0, 0], [1, 0], [0, 0], [1, 0], [1, 0], [1, 1]],
    )


@pytest.mark.parametrize(
    "mark", ["", " ", "NA", "N/A", "NaN", "nan", "None", "NULL", "null", "<NA>", "#N/A", "?",
             None, np.nan, float("nan"), pandas.NA, pandas.NaT],
)  # fmt: skip
def test_missing_in_every_spelling(mark):
    columns = fit(["x", mark, "y"], [1.0, mark, 3.0])
    np.testing.assert_array_equal(
        features(columns, cells(["x", mark], [mark, 3.0])), [[1, 0, 0, 2, 1], [0, 0, 1, 3, 0]]
    )


def test_numbers_are_categories_if_they_are_named():
    columns = fit(CLASSES, encode={"a": "onehot"})
    assert columns.features == ("a=1", "a=2", "a=3")
    expected = CLASSES[:, None] == [1, 2, 3]
    for x in (cells(CLASSES), cells(CLASSES.astype(str)), CLASSES[:, None]):
        np.testing.assert_array_equal(features(columns, x), expected)


def test_whole_numbers_among_texts_have_one_spelling():
    """What pandas writes as 3.0 beside a missing cell is the 3 of another file; 007 isn't 7."""
    columns = fit(["3", "007", "x"])
    got = features(columns, cells(["3.0", 3, 3.0, "7", "007"]))
    np.testing.assert_array_equal(got[:, 1], [1, 1, 1, 0, 0])
    np.testing.assert_array_equal(got[:, 0], [0, 0, 0, 0, 1])


def test_every_backend_has_the_same_features(backend, array):
    columns = fit(TOWNS, AGES, ALONE, CLASSES, TOWNS, encode={"d": "common", "e": "ordinal"})
    x = cells(TOWNS, AGES, ALONE, CLASSES, TOWNS)
    x[3], x[4] = None, ["?", None, None, None, "Paris"]
    codes = columns.codes("x", x).astype(backend.dtype_name)
    np.testing.assert_array_equal(
        to_numpy(columns.apply(array(codes))), columns.apply(codes), strict=True
    )


def test_columns_are_written_and_read():
    columns = fit(TOWNS, AGES, ALONE, CLASSES, encode={"d": "ordinal", "a": "common"})
    assert Columns.from_config(json.loads(json.dumps(columns.config()))) == columns
    with pytest.raises(ValueError, match=r"kind must be one of number, .* got 'dense'"):
        Column("a", "dense")


def test_columns_are_told_in_words():
    columns = fit(["x", None, "y"], [1.0, 2.0, 9.5], [True, False, True], ["u", "v", "u"],
                  encode="d=ordinal,a=common", missing="a=y")  # fmt: skip
    assert list(map(str, columns.columns)) == [
        "a: one-hot of x, y; all others together; missing as y; with an indicator of missing ones",
        "b: number; missing as 2",
        "c: false 0, true 1; missing as 1",
        "d: ordinal: u, v; missing as 0",
    ]


# what is refused


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (
            ["2024-01-31", "2024-02-01"],
            "column 'a' holds dates, such as '2024-01-31': turn them in",
        ),
        (["31.1.2024 10:30", None, "1.2.2024 11:00"], "holds dates, such as '31.1.2024 10:30'"),
        (["1/31/24", "2/1/24"], "holds dates"),
        ([pandas.Timestamp(2024, 1, 31)] * 2, "holds dates, such as '2024-01-31 00:00:00'"),
        ([np.datetime64("2024-01-31")] * 2, "holds dates, such as '2024-01-31'"),
        ([None, "NA"], "column 'a' holds nothing but missing values"),
        ([f"n{i}" for i in range(21)], "column 'a' holds nothing but different texts, such as 'n0"),
        (
            [f"n{i // 2}" for i in range(202)],
            r"holds 101 different texts, .* \(encode={'a': 'common'} k",
        ),
        (
            [datetime.timedelta(3), None],
            "holds values of type timedelta, such as '3 days, 0:00:00'",
        ),
        ([(1, 2), (3, 4)], r"column 'a' holds values of type tuple, such as '\(1, 2\)': turn them"),
        ([2**53 + 1, 2], "9007199254740993 is an integer that float64 can't hold exactly"),
        ([np.inf, 2.0], "'inf' is not a finite number"),
    ],
)
def test_columns_that_are_refused(column, message):
    with pytest.raises(DataError, match=message) as caught:
        fit(column)
    assert str(caught.value).endswith("leave out what is no feature with ignore=['a']")


def test_all_columns_are_told_at_once():
    with pytest.raises(DataError, match=r"'a' .*; column 'c' .* with ignore=\['a', 'c'\]$"):
        fit(["2024-01-31"], [1.0], [None])


def test_what_was_asked_for_is_done():
    names = [f"n{i}" for i in range(150)]
    assert len(fit(names, encode={"a": "onehot"}).features) == 150
    assert fit(["2024-01-31", "x"], encode={"a": "onehot"}).features == ("a=2024-01-31", "a=x")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encode": "dense"}, "unknown encoding 'dense'"),
        ({"encode": {"a": "dense"}}, "unknown encoding 'dense'"),
        ({"encode": 3}, "encode must be one of onehot, ordinal, common, or a mapping"),
        ({"encode": {"a": 3}}, "unknown encoding 3"),
        ({"encode": {"a": ["x", "x"]}}, "an order must be of two or more different categories"),
        ({"encode": "a=onehot,b"}, "'b' in 'a=onehot,b' must be as COLUMN=VALUE"),
        ({"missing": "mean"}, "missing must be median, a finite number, or"),
        ({"missing": np.inf}, "missing must be median, a finite number, or"),
        ({"missing": {"a": "x"}}, "missing of column 'a' must be median or a number, got 'x'"),
        ({"missing": {"b": "x"}}, "unknown category for what is missing in column 'b' 'x'"),
    ],
)
def test_encodings_that_can_not_be(options, message):
    with pytest.raises(ArgumentError, match=message):
        fit([1.0, None], ["u", "v"], **options)


def test_an_order_has_all_texts_of_the_column():
    message = "order of column 'a' must have all of its categories, and male<femal has no 'female'"
    with pytest.raises(ArgumentError, match=message):
        fit(["male", "female"], encode="a=male<femal")
    # a category of the order that isn't in the training part is fine
    assert fit(["u"], encode={"a": ["u", "v"]}).columns[0].categories == ("u", "v")


# files


def test_a_file_and_a_frame_are_the_same_table(file, tmp_path):
    TABLE.to_csv(path := tmp_path / "t.csv", index=False)
    told = trained(load(path))
    assert told.task.columns.features == (
        *(f"town={town}" for town in sorted(set(TOWNS))),
        "town=(missing)", "age", "age=(missing)", "class", "alone", "fare",
    )  # fmt: skip
    for frame in (TABLE, polars.read_csv(path)):
        model = trained(from_table(frame, target="warm"))
        assert model.sha256() == told.sha256()
        assert model.task.columns == told.task.columns
        expected = xpnn.predict(told, load(path).x)
        np.testing.assert_array_equal(xpnn.predict(model, frame), expected, strict=True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,y\n1,u\nx,v\n3,u\n", "line 3, column 'a': 'x' is not a number"),
        ("a,b,y\n1,,u\n5 %,3,v\n", r"line 3, column 'a': '5 %' is not a number \(plain digits"),
        ("a,b,y\nr,1,u\ns,inf,v\n", "line 3, column 'b': 'inf' is not finite in float64"),
        ("a,w,y\nr,1,u\ns,x,v\n", "line 3, column 'w': 'x' is not a number"),
        ("a,w,y\nr,1,u\ns,-1,v\n", "line 3, column 'w': a weight must be finite and >= 0"),
    ],
)
def test_cells_that_can_not_be_read(content, message, file):
    weights = "w" if "w" in content else None
    with pytest.raises(DataError, match=message):
        load(file(content), weights=weights)


def test_a_column_with_a_few_texts_may_be_one_of_texts(file):
    path = file("house,b,y\n12,1,u\n12a,2,v\n3,3,u\n")
    data = load(path, encode="house=onehot")
    assert fitted(data).features == ("house=12", "house=12a", "house=3", "b")
    # a tenth and more is text: no mistake
    many = "".join(f"{i},1,u\n" for i in range(7)) + "x,2,v\ny,1,u\n"
    assert fitted(load(file("house,b,y\n" + many))).columns[0].texts


def test_columns_are_encoded_by_number_and_features_only(file):
    path = file("a,b,y\n1,p,u\n2,q,v\n")
    assert load(path, encode={1: "onehot"}).encoding == Encoding({"a": "onehot"})
    with pytest.raises(ArgumentError, match=r"unknown column of encode in .*'c'"):
        load(path, encode="c=onehot")
    with pytest.raises(ArgumentError, match=r"unknown column of missing in .*'c'"):
        load(path, missing="c=3")
    with pytest.raises(ArgumentError, match="column 'y' of encode or missing must be a feature"):
        load(path, encode="y=onehot")
    np.savez(path.with_suffix(".npz"), x=np.ones((2, 1)), y=[0, 1])
    with pytest.raises(ArgumentError, match="encode and missing are for CSV files"):
        load(path.with_suffix(".npz"), missing=0)


@pytest.mark.parametrize("name", ["", "Unnamed: 0", 1, "1"])
def test_the_index_of_a_frame_is_ignored_by_any_name(name, tmp_path):
    TABLE.to_csv(path := tmp_path / "t.csv")
    assert load(path, ignore=[name]).feature_names == tuple(FRAME)
    with pytest.raises(DataError, match=r"column 1 has no name, .*leave it out with ignore=\[1\]"):
        load(path)


def test_a_header_above_truth_values(file):
    assert load(file("alone,y\nTrue,u\nFalse,v\n")).feature_names == ("alone",)
    assert load(file("true,u\nFalse,v\n")).feature_names == ("1",)


def test_texts_of_the_model_stay_texts(file):
    """Digits of a column that held text in training aren't numbers in another file."""
    train = load(file("zip,b,y\n007,1,u\nA1,2,v\n007,3,u\nB1,2,v\n"))
    columns = fitted(train)
    other = load(file("zip,b,y\n007,1,u\n7,2,v\n"), columns=columns)
    np.testing.assert_array_equal(features(columns, other.x)[:, 0], [1, 0])


def test_numbers_of_a_frame_are_cells_and_not_codes():
    """Whole numbers in a column that held texts in training are looked up as texts."""
    frame = pandas.DataFrame({"zip": ["7", "A1", "0", "B1"] * 5, "y": [0, 1, 1, 0] * 5})
    model = trained(from_table(frame, target="y"))
    cells_, numbers = frame.iloc[[0, 2]], pandas.DataFrame({"zip": [7, 0], "y": [0, 1]})
    expected = xpnn.predict_proba(model, cells_)
    np.testing.assert_array_equal(xpnn.predict_proba(model, numbers), expected)
    data = from_table(numbers, target="y")
    assert data.x.dtype != object
    assert xpnn.evaluate(model, data) == xpnn.evaluate(model, from_table(cells_, target="y"))


def test_validation_in_a_file_of_its_own(tmp_path):
    TABLE[:80].to_csv(tmp_path / "t.csv", index=False)
    TABLE[80:].assign(town="Paris").to_csv(tmp_path / "v.csv", index=False)
    train, test = load_training(tmp_path / "t.csv", tmp_path / "v.csv")
    model = network()
    xpnn.fit(model, train, validation=test, epochs=1, seed=0)
    assert "town=Paris" not in model.task.columns.features
    TABLE[80:].assign(fare="much").to_csv(tmp_path / "v.csv", index=False)
    train, test = load_training(tmp_path / "t.csv", tmp_path / "v.csv")
    with pytest.raises(DataError, match=r"v.csv, line 2, column 'fare': 'much' is not a number"):
        xpnn.fit(network(), train, validation=test, epochs=1)


def test_missing_cells_in_the_validation_part_only(tmp_path):
    table = TABLE[["age", "fare", "warm"]].dropna()
    table[:60].to_csv(tmp_path / "t.csv", index=False)
    table[60:].assign(fare=np.nan).to_csv(tmp_path / "v.csv", index=False)
    train, test = load_training(tmp_path / "t.csv", tmp_path / "v.csv")
    model = network()
    xpnn.fit(model, train, validation=test, epochs=1, seed=0)
    assert model.task.columns.features == ("age", "fare")
    assert model.task.columns.columns[1].fill == np.median(train.x[:, 1])


# models


def test_only_the_training_part_is_learned_from():
    train, test = split(from_table(TABLE, target="warm"), 0.3, seed=2)
    model = trained(train, validation=test)
    assert model.task.columns == fitted(train)
    assert model.task.columns != fitted(from_table(TABLE, target="warm"))
    ages = train.x[:, 1].astype(float)
    assert model.task.columns.columns[1].fill == np.nanmedian(ages)


def test_a_model_of_numbers_is_what_it_was(tmp_path):
    x, y = RNG.rand(30, 2), CLASSES[:30] % 2
    frame = pandas.DataFrame(x, columns=["a", "b"])
    models = []
    for data in ((x, y), (frame, y), from_table(frame.assign(y=y), target="y")):
        models.append(trained(data, optimizer="adam"))
        assert models[-1].task.columns is None
    assert len({model.sha256() for model in models}) == 1
    xpnn.save(models[0], path := tmp_path / "m")
    described = xpnn.saving.describe(path)
    assert described["format"] == 4
    assert "columns" not in described


def test_a_saved_model_knows_its_columns(tmp_path):
    model = trained(from_table(TABLE, target="warm"))
    xpnn.save(model, path := tmp_path / "m")
    assert xpnn.saving.describe(path)["format"] == 5
    loaded = xpnn.load(path)
    assert loaded.task.columns == model.task.columns
    np.testing.assert_array_equal(
        xpnn.predict_proba(loaded, FRAME), xpnn.predict_proba(model, FRAME), strict=True
    )
    assert xpnn.evaluate(loaded, from_table(TABLE, target="warm")) == xpnn.evaluate(
        model, (FRAME, WARM)
    )


def test_predictions_by_name_by_cells_and_by_codes(backend):
    model = network()
    xpnn.fit(model, from_table(TABLE, target="warm"), epochs=2, seed=1, backend=backend)
    expected = xpnn.predict_proba(model, FRAME)
    data = from_table(TABLE, target="warm")
    codes = model.task.columns.codes("x", data.x)
    # the columns in another order, and one more
    other = TABLE[TABLE.columns[::-1]].assign(more=1)
    for x in (data.x, codes, other):
        np.testing.assert_array_equal(xpnn.predict_proba(model, x), expected)
    own = xpnn.predict_proba(model, backend.asarray(codes.astype(backend.dtype_name)))
    eps = np.finfo(backend.dtype_name).eps
    np.testing.assert_allclose(to_numpy(own), expected, rtol=64 * eps, atol=8 * eps)
    with pytest.raises(DataError, match="the DataFrame has no column 'age', which is one of the"):
        xpnn.predict(model, FRAME.drop(columns="age"))
    with pytest.raises(DataError, match=r"x must have shape \(n, 5\), got \(120, 4\)"):
        xpnn.predict(model, data.x[:, :4])
    with pytest.raises(DataError, match=r"x must have shape \(n, 5\), got \(120, 4\)"):
        xpnn.predict(model, backend.asarray(codes[:, :4].astype(backend.dtype_name)))
    with pytest.raises(DataError, match="x, row 1, column 'age': 'old' is not a number"):
        xpnn.predict(model, FRAME.assign(age=[1.0, "old", *[2.0] * 118]))
    with pytest.raises(DataError, match="x must not be infinite in row 0, column 1"):
        xpnn.predict(model, np.where([0, 1, 0, 0, 0], np.inf, codes))


def test_a_pair_of_a_frame_and_targets():
    model, other = network(), network()
    xpnn.fit(model, (FRAME, WARM), validation=(FRAME[FRAME.columns[::-1]], WARM), epochs=2, seed=1)
    assert model.task.feature_names == tuple(FRAME)
    assert model.history[-1].test_loss == xpnn.evaluate(model, (FRAME, WARM)).loss
    train, test = split((FRAME, WARM), 0.3, seed=1)
    xpnn.fit(other, train, validation=test, epochs=1)
    assert other.task.columns.features == model.task.columns.features


def test_a_trained_model_keeps_its_columns():
    model = trained(from_table(TABLE, target="warm"))
    before = model.task.columns
    xpnn.fit(model, from_table(TABLE[:40].assign(town="Paris"), target="warm"), epochs=1)
    assert model.task.columns is before
    numbers = trained((RNG.rand(30, 5), CLASSES[:30] % 2))
    with pytest.raises(DataError, match="'Rome' is not a number, and the model knows of numbers"):
        xpnn.predict(numbers, cells(["Rome"], [1], [2], [3], [4]))
    with pytest.raises(DataError, match="a missing value, and the model knows of numbers only"):
        xpnn.predict(numbers, cells([None], [1], [2], [3], [4]))


def test_an_array_of_cells_needs_no_names():
    x = cells(TOWNS, AGES)
    model = trained(Dataset(x, CLASSES % 2))
    assert model.task.columns.features[-2:] == ("2", "2=(missing)")
    assert model.task.feature_names is None
    with pytest.raises(DataError, match=r"train.x must have shape \(n, features\), got shape \(12"):
        xpnn.fit(network(), (TOWNS, CLASSES % 2))


def test_a_resumed_run_has_the_same_columns(tmp_path):
    def go(data, epochs, **options):
        model = network()
        xpnn.fit(model, data, epochs=epochs, seed=1, **options)
        return model

    data, path = from_table(TABLE, target="warm"), tmp_path / "c"
    go(data, 1, callbacks=[xpnn.Checkpoint(path)])
    assert go(data, 3, resume=path).sha256() == go(data, 3).sha256()
    other = from_table(TABLE, target="warm", missing=0)
    with pytest.raises(ArgumentError, match="columns"):
        go(other, 3, resume=path)


def test_damaged_columns_are_found(tmp_path, monkeypatch):
    model = trained(from_table(TABLE, target="warm"))
    monkeypatch.setattr(Columns, "config", lambda self: [{"name": "a", "categories": []}])
    xpnn.save(model, path := tmp_path / "m")
    with pytest.raises(DataError, match=r"damaged .*columns must make 10 features, .* got 1"):
        xpnn.load(path)


# DataFrames


@pytest.mark.parametrize(
    "column",
    [
        pandas.Series(TOWNS, dtype="category"),
        pandas.Series(TOWNS, dtype="string"),
        pandas.Series(TOWNS, dtype="object"),
        polars.Series(TOWNS.tolist(), dtype=polars.Categorical),
        polars.Series(TOWNS.tolist()),
    ],
    ids=str,
)
def test_texts_of_every_dtype(column):
    kind = pandas if isinstance(column, pandas.Series) else polars
    data = from_table(kind.DataFrame({"a": column, "y": CLASSES}), target="y")
    assert fitted(data) == fit(TOWNS)


@pytest.mark.parametrize(
    "column",
    [
        pandas.Series([1, None, 3], dtype="Int64"),
        pandas.Series([1, None, 3]),
        polars.Series([1, None, 3]),
        polars.Series([1.0, None, 3.0]),
        polars.Series([Decimal(1), None, Decimal(3)]),
    ],
)
def test_numbers_of_every_dtype(column):
    kind = pandas if isinstance(column, pandas.Series) else polars
    data = from_table(kind.DataFrame({"a": column, "y": [0, 1, 0]}), target="y")
    np.testing.assert_array_equal(
        features(fitted(data), data.x), [[1, 0], [2, 1], [3, 0]], strict=False
    )


def test_truth_of_every_dtype():
    cells = [True, None, False]
    for column in (
        pandas.Series(cells, dtype="boolean"),
        pandas.Series(cells),
        polars.Series(cells),
    ):
        kind = pandas if isinstance(column, pandas.Series) else polars
        data = from_table(kind.DataFrame({"a": column, "y": [0, 1, 0]}), target="y")
        np.testing.assert_array_equal(features(fitted(data), data.x), [[1, 0], [0.5, 1], [0, 0]])


def test_lists_in_a_frame_are_refused():
    data = from_table(polars.DataFrame({"a": [[1, 2], [3]], "y": [0, 1]}), target="y")
    with pytest.raises(DataError, match=r"the DataFrame: column 'a' holds values of type list"):
        xpnn.fit(network(), data)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("town", None),
        ("class", CLASSES),
        ("alone", ALONE.astype(np.int64)),
        ("fare", FRAME["fare"].to_numpy()),
        ("warm", WARM),
    ],
)
def test_the_target_of_a_frame(target, expected):
    if expected is None:
        with pytest.raises(DataError, match="the DataFrame, row 5, column 'town': a missing value"):
            from_table(TABLE, target=target)
        return
    data = from_table(TABLE, target=target, ignore=["age"])
    np.testing.assert_array_equal(data.y, expected, strict=True)
    assert "age" not in data.feature_names
    assert data.target_name == target


def test_a_frame_without_a_target_and_one_with_weights():
    assert from_table(TABLE, target=None).y.shape == (ROWS, 0)
    data = from_table(TABLE, target="warm", weights="fare")
    np.testing.assert_array_equal(data.weights, FRAME["fare"])
    with pytest.raises(DataError, match=r"row 0.*a weight must be finite and >= 0, got -1"):
        from_table(TABLE.assign(fare=-1.0), target="warm", weights="fare")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"target": "wram"}, ArgumentError, "unknown target 'wram'; did you mean 'warm'"),
        ({"target": "warm", "ignore": ["x"]}, ArgumentError, "unknown ignored column 'x'"),
        ({"target": "warm", "ignore": "x"}, ArgumentError, "unknown ignored column 'x'"),
        ({"target": "warm", "ignore": 3}, ArgumentError, "ignore must be a sequence of columns, g"),
        ({"target": "warm", "ignore": ["warm"]}, ArgumentError, "target 'warm' must be neither"),
        ({"target": "warm", "weights": "warm"}, ArgumentError, "target 'warm' must be neither"),
        ({"target": "warm", "weights": "x"}, ArgumentError, "unknown weights 'x'"),
        ({"target": "warm", "encode": {"x": "onehot"}}, ArgumentError, "unknown column of encode"),
        ({"target": "warm", "missing": {"x": 3}}, ArgumentError, "unknown column of missing"),
        ({"target": "warm", "task": "regress"}, ArgumentError, "unknown task 'regress'"),
        ({"target": "warm", "task": "regression"}, DataError, "y must be numbers for a regression"),
        ({"target": "warm", "ignore": list(FRAME)}, DataError, "must have rows and a column for"),
    ],
)
def test_frames_that_can_not_be_used(options, error, message):
    with pytest.raises(error, match=message):
        from_table(TABLE, **options)


def test_columns_of_one_name_are_refused():
    twice = pandas.concat([TABLE, TABLE[["town"]]], axis=1)
    told = r"columns of the DataFrame must have different names, got 'town' twice \(in pandas, "
    with pytest.raises(DataError, match=told):
        from_table(twice, target="warm")
    with pytest.raises(DataError, match=told):
        xpnn.fit(xpnn.Sequential(xpnn.Dense(2)), twice, np.arange(len(TABLE)) % 2, epochs=1)


def test_a_frame_of_numbers_is_found_by_its_names():
    frame = pandas.DataFrame({"a": np.linspace(0, 1, 60), "b": 0.0})
    y = (frame["a"] > 0.5).astype(int)
    model = xpnn.Sequential(xpnn.Dense(2))
    xpnn.fit(model, frame, y, epochs=5, seed=0)
    assert model.task.feature_names == ("a", "b")
    expected = xpnn.predict_proba(model, frame.to_numpy())
    other = frame.assign(c=1)[["c", "b", "a"]]
    np.testing.assert_array_equal(xpnn.predict_proba(model, other), expected)
    assert xpnn.evaluate(model, (other, y)) == xpnn.evaluate(model, (frame.to_numpy(), y))
    with pytest.raises(DataError, match="no column 'b', which is one of the features"):
        xpnn.predict(model, frame[["a"]])


def test_infinite_numbers_are_refused_with_their_column():
    with pytest.raises(DataError, match="column 'b': 'inf' is not a finite number"):
        fit(["x", "y"], [1.0, np.inf])


def test_what_is_no_frame_and_what_is_not_installed(monkeypatch):
    with pytest.raises(ArgumentError, match="frame must be a DataFrame, got ndarray"):
        from_table(np.ones((3, 2)), target="y")
    monkeypatch.setitem(sys.modules, "narwhals.stable.v2", None)
    with pytest.raises(ArgumentError, match=r"needs narwhals: pip install 'xpnn\[table\]'"):
        from_table(TABLE, target="warm")
    # numbers need nothing
    from_table(TABLE[["class", "fare"]], target="class")


@pytest.mark.parametrize("text", [False, True])
def test_columns_of_a_table_are_found_by_their_names(text):
    """In another order, and among others, in validation, evaluation and further training."""
    rng = np.random.RandomState(0)
    frame = pandas.DataFrame({"a": rng.standard_normal(60), "b": rng.standard_normal(60) + 5})
    frame["c"] = np.resize(["x", "y", "z"], 60) if text else rng.standard_normal(60)
    frame["y"] = (frame.a > 0).astype(int)
    other = frame[["c", "y", "b", "a"]].assign(more=1.0)
    whole, turned = (
        xpnn.datasets.from_table(own, target="y", ignore=[name for name in own if name == "more"])
        for own in (frame, other)
    )
    wide = xpnn.datasets.from_table(other, target="y")

    def fitted_on(validation):
        model = xpnn.Sequential(xpnn.Dense(4), xpnn.Activation("tanh"), xpnn.Dense(2))
        return model, xpnn.fit(model, whole, validation=validation, epochs=3, seed=1)

    model, history = fitted_on(whole)
    for data in (turned, wide):
        assert fitted_on(data)[1].column("test_loss") == history.column("test_loss")
        assert xpnn.evaluate(model, data) == xpnn.evaluate(model, whole)
    renamed = xpnn.datasets.from_table(frame.rename(columns={"b": "bb"}), target="y")
    with pytest.raises(DataError, match="have no column 'b', which is one of the features"):
        xpnn.evaluate(model, renamed)


@pytest.mark.parametrize("library", [pandas, polars])
def test_targets_beside_a_frame_may_be_of_any_kind(library):
    x = library.DataFrame({"size": np.linspace(0, 1, 40), "town": ["Rome", "Oslo"] * 20})
    answers = ["yes", "no"] * 20
    frame = library.DataFrame({"warm": answers})
    hashes, targets = set(), (answers, tuple(answers), np.array(answers), frame, frame["warm"])
    for y in targets:
        model = xpnn.Sequential(xpnn.Dense(2))
        xpnn.fit(model, x, y, validation=(x, y), epochs=1, seed=0)
        assert model.task.labels.tolist() == ["no", "yes"]
        assert xpnn.evaluate(model, x, y) == xpnn.evaluate(model, (x, answers))
        hashes.add(model.sha256())
    assert len(hashes) == 1
    model = xpnn.Sequential(xpnn.Dense(2))
    xpnn.fit(model, x, library.DataFrame({"a": [0.0] * 40, "b": [0.5] * 40}), epochs=1)
    assert model.task.loss == xpnn.MeanSquaredError()
    with pytest.raises(ArgumentError, match=r"the text 'warm'; xpnn\.datasets\.from_table"):
        xpnn.fit(xpnn.Sequential(xpnn.Dense(2)), x, "warm")

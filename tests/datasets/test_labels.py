"""Labels of any kind: strings and integers that stand for classes."""

import numpy as np
import pytest

import xpnn
from tests.helpers import (
    BACKEND_NAMES,
    CODES,
    FLOWERS,
    NAMES,
    SETTINGS,
    VALUES,
    flower_network,
    open_backend,
)
from xpnn.backends import to_numpy
from xpnn.datasets.labels import label_indices
from xpnn.errors import ArgumentError, DataError


@pytest.mark.parametrize("library", BACKEND_NAMES)
def test_strings_are_labels(library, dtype):
    place = open_backend(library, dtype)
    model, plain = flower_network(), flower_network()
    xpnn.fit(model, (FLOWERS, NAMES), backend=place, validation=(FLOWERS, list(NAMES)), **SETTINGS)
    labels, codes = np.unique(NAMES, return_inverse=True)
    xpnn.fit(plain, (FLOWERS, codes), backend=place, **SETTINGS)
    assert model.sha256() == plain.sha256()
    np.testing.assert_array_equal(model.task.labels, labels)
    expected = labels[xpnn.predict(plain, FLOWERS)]
    np.testing.assert_array_equal(xpnn.predict(model, FLOWERS), expected, strict=True)
    with place.scope():
        own = place.asarray(FLOWERS)
    np.testing.assert_array_equal(xpnn.predict(model, own), expected, strict=True)
    assert xpnn.evaluate(model, (FLOWERS, NAMES.astype(object))) == xpnn.evaluate(
        plain, (FLOWERS, codes)
    )


@pytest.mark.parametrize("library", BACKEND_NAMES)
def test_integers_are_labels_when_they_are_said_to_be(library):
    place = open_backend(library)
    labels = np.array([5, -2, 7])
    model = flower_network()
    xpnn.fit(model, (FLOWERS, labels[CODES]), labels=labels, backend=place, **SETTINGS)
    plain = flower_network()
    xpnn.fit(plain, (FLOWERS, CODES), backend=place, **SETTINGS)
    assert model.sha256() == plain.sha256()
    expected = labels[xpnn.predict(plain, FLOWERS)]
    np.testing.assert_array_equal(xpnn.predict(model, FLOWERS), expected, strict=True)
    with place.scope():
        own = place.asarray(FLOWERS)
        found = xpnn.predict(model, own)
    assert place.owns(found)
    np.testing.assert_array_equal(to_numpy(found), expected, strict=True)


def test_integers_that_do_not_number_the_outputs_are_labels():
    labels = np.array([-2, 5, 7])
    model, asked = flower_network(), flower_network()
    xpnn.fit(model, (FLOWERS, labels[CODES]), validation=0.2, **SETTINGS)
    xpnn.fit(asked, (FLOWERS, labels[CODES]), validation=0.2, labels=labels, **SETTINGS)
    assert model.sha256() == asked.sha256()
    np.testing.assert_array_equal(model.task.labels, labels, strict=True)
    assert set(xpnn.predict(model, FLOWERS)) <= set(labels.tolist())
    # a single output has two classes
    binary = xpnn.Sequential(xpnn.Dense(1))
    xpnn.fit(binary, (FLOWERS, labels[CODES // 2]), **SETTINGS)
    np.testing.assert_array_equal(binary.task.labels, [-2, 5])
    assert isinstance(binary.task.loss, xpnn.BinaryCrossEntropy)


def test_integers_that_number_the_outputs_stay_numbers():
    model = flower_network()
    xpnn.fit(model, (FLOWERS, np.array([0, 2, 2])[CODES]), **SETTINGS)
    assert model.task.labels is None
    for labels in ([1, 2, 9], [-1, 0, 0]):
        wide = xpnn.Sequential(xpnn.Dense(4))
        with pytest.raises(DataError, match=r"train\.y must hold labels from 0 to 3"):
            xpnn.fit(wide, (FLOWERS, np.array(labels)[CODES]), **SETTINGS)
    values = xpnn.Sequential(xpnn.Dense(1))
    xpnn.fit(values, (FLOWERS, np.array([5, 7, 7])[CODES]), loss="mse", epochs=0)
    assert values.task.classes is None


def test_numpys_strings_of_any_length_are_labels():
    kind = np.dtypes.StringDType()
    options = {"epochs": 1, "seed": 0}
    model, other = flower_network(), flower_network()
    xpnn.fit(model, (FLOWERS, np.array(NAMES.tolist(), kind)), **options)
    xpnn.fit(other, (FLOWERS, NAMES), labels=np.unique(NAMES).astype(kind), **options)
    np.testing.assert_array_equal(xpnn.predict(model, FLOWERS), xpnn.predict(other, FLOWERS))
    missing = np.array([*NAMES.tolist()[1:], None], np.dtypes.StringDType(na_object=None))
    with pytest.raises(DataError, match=r"train.y must be an array of numbers, got dtype"):
        xpnn.fit(flower_network(), (FLOWERS, missing), **options)


def test_a_trained_model_knows_its_labels():
    model = flower_network()
    xpnn.fit(model, (FLOWERS, NAMES), **SETTINGS)
    # a part with two of the classes
    some = CODES < 2
    xpnn.fit(model, (FLOWERS[some], NAMES[some]), **SETTINGS)
    assert len(model.task.labels) == 3


def test_two_labels_and_one_output():
    model = flower_network(1)
    y = np.where(CODES == 0, "no", "yes")
    xpnn.fit(model, (FLOWERS, y), loss=xpnn.BinaryCrossEntropy(), **SETTINGS)
    assert set(xpnn.predict(model, FLOWERS)) == {"no", "yes"}


@pytest.mark.parametrize(
    ("y", "options", "kind", "message"),
    [
        (NAMES, {"outputs": 4}, ArgumentError, "an output for each of the 3 classes, got 4 out"),
        (NAMES, {"outputs": 1, "loss": xpnn.MeanSquaredError()}, ArgumentError,
         "loss must be one for classes where there are labels, got MeanSquaredError"),
        (np.array(["a"] * 90), {}, DataError,
         "train.y must hold two classes or more, got only 'a'"),
        (NAMES, {"labels": ["setosa", "virginica", "other"]}, DataError,
         "train.y, row 1: 'véronique, wild' is not one of the classes"),
        (CODES, {"labels": [0, 0, 1]}, ArgumentError, "labels must be two or more different"),
        (CODES, {"labels": [0.5, 1.5, 2.5]}, ArgumentError, "labels must be two or more diff"),
        (VALUES, {"labels": [0, 1, 2]}, DataError, "train.y must hold integers or strings"),
        (NAMES, {"validation": (FLOWERS[:1], ["rose"])}, DataError,
         "validation.y, row 0: 'rose' is"),
    ],
)  # fmt: skip
def test_labels_that_can_not_be_used(y, options, kind, message):
    options = {"outputs": 3, **SETTINGS, **options}
    model = flower_network(options.pop("outputs"))
    with pytest.raises(kind, match=message):
        xpnn.fit(model, (FLOWERS, y), **options)
    assert model.parameters is None


def test_integers_may_be_looked_up_as_strings():
    found = label_indices("y", [1, 2, 1], np.array(["2", "1"]))
    assert found.tolist() == [1, 0, 1]
    with pytest.raises(DataError, match="y, row 0: 'a' is not one of the classes"):
        label_indices("y", ["a"], np.array([1, 2]))

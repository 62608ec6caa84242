"""What `fit` takes as data: arrays of any library, images, batches, a share for validation."""

import re

import numpy as np
import pytest

import xpnn
from tests.helpers import (
    ONE_HOT,
    X,
    Y,
    fit_network,
    open_backend,
    parameters_of,
    run,
    tanh_network,
)
from xpnn import source
from xpnn.backends import to_numpy
from xpnn.datasets import NamedDataset, load_training, split
from xpnn.datasets.batches import collected
from xpnn.errors import ArgumentError, DataError
from xpnn.training.samples import default_loss


def trained(*data, outputs=3, **options):
    """A network after two epochs."""
    model = tanh_network(outputs)
    given = {"epochs": 2, "batch_size": 5, "seed": 7, "dtype": "float64", **options}
    xpnn.fit(model, *data, **given)
    return model


def held(*data, **options):
    return trained(*data, **options).sha256()


EXPECTED = held((X, Y))


def test_x_and_y_are_two_arguments_or_one():
    assert held(X, Y) == held([X, Y]) == EXPECTED
    with pytest.raises(ArgumentError, match=r"^y must be left out where train is a pair"):
        trained((X, Y), Y)
    with pytest.raises(ArgumentError, match=r"^train must be a pair of arrays \(x, y\), got ndarr"):
        trained(X)


# Parts by their names


def test_parts_have_names():
    named = trained(
        X, Y, loss="cross_entropy:label_smoothing=0.1", optimizer="adam:lr=0.01", schedule="cosine"
    )
    made = trained(
        X, Y, loss=xpnn.CrossEntropy(label_smoothing=0.1), optimizer=xpnn.Adam(lr=0.01),
        schedule=xpnn.schedules.Cosine(),
    )  # fmt: skip
    assert named.sha256() == made.sha256() != EXPECTED
    assert named.history.settings == made.history.settings
    assert held(X, Y, optimizer="sgd") == EXPECTED
    assert trained(X, ONE_HOT, loss="mse").task.loss == xpnn.MeanSquaredError()
    value = xpnn.evaluate(made, (X, ONE_HOT), loss="mse")
    assert value == xpnn.evaluate(made, (X, ONE_HOT), loss=xpnn.MeanSquaredError())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "mean_sqared_error"}, "unknown loss 'mean_sqared_error'; did you mean 'mean_sq"),
        ({"optimizer": "Adam"}, "unknown optimizer 'Adam'; did you mean 'adam'?"),
        ({"optimizer": "adam:rate=1"}, "unknown parameter of optimizer 'adam': 'rate'"),
        ({"schedule": "cosine:final"}, "schedule 'cosine:final': 'final' must have the form"),
        ({"schedule": 3}, "schedule must be such as 'cosine' or xpnn.schedules.Cosine(), got 3"),
        ({"verbose": "yes"}, "verbose must be True, False or None, got 'yes'"),
    ],
)
def test_names_that_are_none(options, message):
    with pytest.raises(ArgumentError, match="^" + re.escape(message)):
        trained(X, Y, **options)


# The loss that the targets ask for

HALVES = Y > 0
CROSS, BINARY, SQUARED = xpnn.CrossEntropy(), xpnn.BinaryCrossEntropy(), xpnn.MeanSquaredError()
TARGETS = [
    (Y, 3, CROSS),
    (np.array(["a", "b", "c"])[Y], 3, CROSS),
    (ONE_HOT, 3, CROSS),
    (ONE_HOT.astype(int), 3, CROSS),
    (0.7 * ONE_HOT + 0.1, 3, CROSS),
    ((0.7 * ONE_HOT + 0.1).astype("float32"), 3, CROSS),
    (np.minimum(ONE_HOT[:, ::-1] + ONE_HOT, 1), 3, BINARY),
    (np.minimum(ONE_HOT[:, ::-1] + ONE_HOT, 1) > 0, 3, BINARY),
    (HALVES, 1, BINARY),
    (HALVES.astype(int), 1, BINARY),
    (np.array(["no", "yes"])[HALVES.astype(int)], 1, BINARY),
    (HALVES.astype(int)[:, None], 1, BINARY),
    (HALVES.astype(int), 2, CROSS),
    (X[:, 0], 1, SQUARED),
    (HALVES.astype(float), 1, SQUARED),
    (X, 3, SQUARED),
    (2 * ONE_HOT, 3, SQUARED),
    (ONE_HOT * [1, 1, -1], 3, SQUARED),
    # three different integers, one output
    (Y, 1, SQUARED),
]


@pytest.mark.parametrize(("y", "outputs", "loss"), TARGETS, ids=range(len(TARGETS)))
def test_the_targets_say_which_loss(y, outputs, loss):
    model = trained(X, y, outputs=outputs)
    assert model.task.loss == loss
    assert model.history.settings["loss"] == repr(loss)
    assert held(X, y, outputs=outputs, loss=loss) == model.sha256()


def test_the_command_asks_in_the_same_place(tmp_path, monkeypatch):
    assert source.default_loss is default_loss
    monkeypatch.chdir(tmp_path)
    for y in (Y, ONE_HOT, np.minimum(ONE_HOT[:, ::-1] + ONE_HOT, 1), X[:, 0], X):
        np.savez("data.npz", x=X, y=y)
        assert run("train", "data.npz", "--epochs", 1, "--quiet", "--save", "m.safetensors") == 0
        task = xpnn.load("m.safetensors").task
        assert task.loss == default_loss(y, 3)
        # only values are normalized
        assert (task.target_normalizer is None) == (task.loss != SQUARED)


def test_texts_need_an_output_each():
    with pytest.raises(ArgumentError, match=r"an output for each of the 3 classes, got 1 output$"):
        trained(X, np.array(["a", "b", "c"])[Y], outputs=1)


def test_a_trained_model_goes_on_with_what_is_its_own():
    model = trained(X, np.array(["a", "b", "c"])[Y], loss="mse", normalizer="standard")
    before, task = model.sha256(), model.task
    xpnn.fit(model, X, np.array(["a", "b", "c"])[Y], epochs=0)
    assert model.sha256() != before  # in float32 now
    xpnn.fit(model, X, np.array(["a", "c", "c"])[Y], epochs=1, seed=1)
    assert model.task.loss == task.loss == SQUARED
    assert model.task.normalizer is task.normalizer
    assert model.task.labels.tolist() == ["a", "b", "c"]
    # two runs of an optimizer without a state are one, apart from the order of the samples
    twice, once = tanh_network(), tanh_network()
    for _ in range(2):
        fit_network(twice, epochs=1, shuffle=False)
    fit_network(once, epochs=2, shuffle=False)
    assert twice.sha256() == once.sha256()


# A share for validation


@pytest.mark.parametrize("y", [Y, np.array(["b", "a", "c"])[Y], X[:, 1], ONE_HOT])
def test_a_share_is_drawn_as_split_draws_it(y):
    outputs = 1 if y.ndim == 1 and y.dtype.kind == "f" else 3
    own = trained(X, y, validation=0.25, outputs=outputs, normalizer="standard")
    train, test = split((X, y), 0.25, seed=7)
    apart = trained(train, validation=test, outputs=outputs, normalizer="standard")
    assert own.sha256() == apart.sha256()
    assert [row[:5] for row in own.history] == [row[:5] for row in apart.history]
    assert len(test.x) == 6


def test_a_share_is_what_the_command_draws(tmp_path):
    rows = np.column_stack([X, Y])
    text = "\n".join(["a,b,c,y", *(f"{a},{b},{c},{int(y)}" for a, b, c, y in rows.tolist())])
    (tmp_path / "t.csv").write_text(text)
    train, test = load_training(tmp_path / "t.csv", 0.25, seed=7)
    whole = xpnn.datasets.load(tmp_path / "t.csv")
    assert held(train, validation=test) == held(whole, validation=0.25)


def test_labels_in_an_order_of_their_own_do_not_change_the_share():
    names = np.array(["b", "a", "c"])[Y]
    own = trained(X, names, validation=0.25, labels=["c", "b", "a"])
    apart, test = split((X, names), 0.25, seed=7)
    assert own.sha256() == held(apart, validation=test, labels=["c", "b", "a"])


def test_weights_are_shared_out_too():
    weights = np.arange(23.0)
    own = held(X, Y, validation=0.25, sample_weight=weights)
    # the rows by their numbers
    (rows, _), _ = split((np.arange(23)[:, None], Y), 0.25, seed=7)
    assert own == held(X[rows[:, 0]], Y[rows[:, 0]], sample_weight=weights[rows[:, 0]])
    message = r"^sample_weight must be 23 numbers, .* got float64 of shape \(3,\)"
    with pytest.raises(DataError, match=message):
        trained(X, Y, validation=0.25, sample_weight=weights[:3])


def test_a_drawn_seed_draws_the_share_too():
    model = tanh_network()
    history = xpnn.fit(model, X, Y, validation=0.25, epochs=0)
    _, test = split((X, Y), 0.25, seed=history.settings["seed"])
    assert xpnn.evaluate(model, test) == (history[0].test_accuracy, history[0].test_loss)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5, 2, True, float("nan")])
def test_shares_that_are_none(share):
    with pytest.raises(ArgumentError, match=r"^validation must be a fraction > 0 and < 1, got "):
        trained(X, Y, validation=share)


def test_a_row_keeps_its_number_in_messages():
    wrong = X.copy()
    wrong[17, 1] = np.inf
    with pytest.raises(DataError, match="got inf in row 17, column 1"):
        trained(wrong, Y, validation=0.25)


def test_a_run_with_a_share_is_resumed(tmp_path):
    path = tmp_path / "run.ckpt"
    options = {"validation": 0.25, "seed": None}
    whole = trained(X, Y, callbacks=[xpnn.Checkpoint(path)], **options)
    longer = trained(X, Y, resume=path, epochs=3, **options)
    assert longer.history.resumed == 2
    seed = whole.history.settings["seed"]
    assert longer.sha256() == held(X, Y, validation=0.25, seed=seed, epochs=3)


def test_mapped_data_have_files_of_their_own(tmp_path):
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    with pytest.raises(ArgumentError, match="validation must be files of its own"):
        trained(mapped, Y, validation=0.25)


# Batches


def batches(size=7):
    for start in range(0, 23, size):
        yield X[start : start + size], Y[start : start + size]


class Samples:
    """A data set such as PyTorch's, one sample at a time."""

    def __getitem__(self, i):
        return X[i], int(Y[i])


@pytest.mark.parametrize(
    "data",
    [
        lambda: batches(),
        lambda: list(batches()),
        lambda: [list(pair) for pair in batches(12)],
        lambda: ((x.tolist(), y.tolist()) for x, y in batches()),
        lambda: Samples(),
        lambda: zip(X, Y, strict=True),
    ],
    ids=["generator", "list", "two batches", "nested lists", "samples", "zip"],
)
def test_batches_are_joined(data):
    model = trained(data(), validation=data())
    assert model.sha256() == EXPECTED
    assert xpnn.evaluate(model, data()) == xpnn.evaluate(model, (X, Y))
    assert model.history[-1].test_loss == xpnn.evaluate(model, (X, Y)).loss


def test_pytorchs_loaders():
    torch = pytest.importorskip("torch")
    data = torch.utils.data.TensorDataset(torch.tensor(X), torch.tensor(Y))
    loader = torch.utils.data.DataLoader(data, batch_size=4)
    assert held(data) == held(loader) == held(list(loader)) == EXPECTED
    model = trained(loader, validation=data)
    assert xpnn.evaluate(model, loader) == xpnn.evaluate(model, (X, Y))
    first, second = torch.utils.data.random_split(
        data, [15, 8], generator=torch.Generator().manual_seed(0)
    )
    model = trained(first, validation=torch.utils.data.DataLoader(second, batch_size=3))
    assert len(model.history) == 3


def test_texts_come_in_batches_too():
    names = np.array(["long name", "b", "c"])[Y]
    pairs = [(X[i : i + 9], tuple(names[i : i + 9])) for i in (0, 9, 18)]
    x, y = collected("train", pairs)
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(y, names)


@pytest.mark.parametrize(
    ("data", "kind", "message"),
    [
        ([], DataError, "train must have at least one batch, got none"),
        (iter([X]), ArgumentError,
         "batch 0 of train must be a pair of arrays (x, y), got ndarray"),
        (iter([(X, Y), (X[:, :2], Y)]), DataError,
         "batch 1 of train must have x like batch 0, float64 of shape (n, 3), got float64 of "
         "shape (n, 2)"),
        (iter([(X, Y), (X, 1.0 * Y)]), DataError,
         "batch 1 of train must have y like batch 0, int64 of shape (n,), got float64 of shape "
         "(n,)"),
        (iter([(X, Y[:3])]), DataError,
         "batch 0 of train.x and batch 0 of train.y must have the same length, got 23 and 3"),
        (iter([(1.0, 2)]), DataError,
         "batch 0 of train must have an array as x, got 1.0"),
        ([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], DataError,
         "batch 0 of train must have an array as x, got 1.0"),
        ("data.csv", ArgumentError, "train must be a pair of arrays (x, y), got str"),
        ({"x": X}, ArgumentError, "train must be a pair of arrays (x, y), got dict"),
        (None, ArgumentError, "train must be a pair of arrays (x, y), got NoneType"),
    ],
    ids=range(10),
)  # fmt: skip
def test_batches_that_do_not_fit(data, kind, message):
    with pytest.raises(kind) as caught:
        trained(data)
    assert str(caught.value) == message


# Arrays of any library


class Lent:
    """An array that has DLPack only."""

    def __init__(self, array):
        self._array = array

    def __dlpack__(self, **options):
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self._array.__dlpack_device__()


def test_arrays_that_have_dlpack():
    model = trained(Lent(X), Lent(Y))
    assert model.sha256() == EXPECTED
    np.testing.assert_array_equal(xpnn.predict(model, Lent(X)), xpnn.predict(model, X))

    class Broken(Lent):
        def __dlpack__(self, **options):
            raise BufferError("no such dtype")

    with pytest.raises(ArgumentError, match="is not an array that NumPy can hold: no such dtype"):
        to_numpy(Broken(X))


# Images

IMAGES = np.random.RandomState(2).randint(0, 256, (12, 2, 5, 3)).astype(np.uint8)
KINDS = np.arange(12) % 2


@pytest.mark.parametrize(
    ("images", "rows", "shape"),
    [
        (IMAGES[..., 0], IMAGES[..., 0].reshape(12, 10), (2, 5, 1)),
        (IMAGES[..., :1], IMAGES[..., 0].reshape(12, 10), (2, 5, 1)),
        (IMAGES, IMAGES.reshape(12, 30), (2, 5, 3)),
        # as PyTorch has them
        (np.moveaxis(IMAGES[..., :1], -1, 1), IMAGES[..., 0].reshape(12, 10), (2, 5, 1)),
        (np.moveaxis(IMAGES, -1, 1), IMAGES.reshape(12, 30), (2, 5, 3)),
        (np.tile(IMAGES[..., :1], 4), np.tile(IMAGES[..., :1], 4).reshape(12, 40), (2, 5, 4)),
    ],
    ids=["grey", "one channel", "colour", "channel first", "colours first", "transparent"],
)
def test_images_are_rows(images, rows, shape, library):
    backend = open_backend(library, "float64")
    expected = trained(rows, KINDS, outputs=2, normalizer="minmax")
    model = trained(images, KINDS, outputs=2, normalizer="minmax", validation=(images, KINDS))
    assert model.sha256() == expected.sha256()
    assert model.task.image_shape == shape
    assert expected.task.image_shape is None
    assert xpnn.evaluate(model, (images, KINDS)) == xpnn.evaluate(model, (rows, KINDS))
    np.testing.assert_array_equal(xpnn.predict(model, images), xpnn.predict(model, rows))
    # an array of the model's library stays one
    model = trained(images, KINDS, outputs=2, backend=backend, dtype=None)
    with backend.scope():
        found = xpnn.predict_proba(model, backend.asarray(images))
        same = xpnn.predict_proba(model, backend.asarray(np.ascontiguousarray(rows)))
    assert backend.owns(found)
    np.testing.assert_array_equal(backend.to_numpy(found), backend.to_numpy(same))


def test_images_as_lists():
    model = trained(IMAGES[..., 0].tolist(), KINDS.tolist(), outputs=2)
    assert model.task.image_shape == (2, 5, 1)
    assert model.sha256() == held(IMAGES[..., 0].astype(int), KINDS, outputs=2)
    assert trained(Lent(IMAGES), KINDS, outputs=2).task.image_shape == (2, 5, 3)
    for ragged in ([[1, 2], [3]], [[[1, 2], [3]]]):
        with pytest.raises(ArgumentError, match=r"^x is not an array that NumPy can hold: "):
            xpnn.predict(model, ragged)


def test_images_of_another_shape_are_refused():
    model = trained(IMAGES[..., 0], KINDS, outputs=2)
    turned = IMAGES[..., 0].transpose(0, 2, 1)
    message = "must hold images of 5 × 2 grey as the training data do, got 2 × 5 grey"
    for refused, name in (
        (lambda: xpnn.fit(model, turned, KINDS), "train"),
        (lambda: xpnn.fit(model, IMAGES[..., 0], KINDS, validation=(turned, KINDS)), "validation"),
        (lambda: xpnn.evaluate(model, (turned, KINDS)), "data"),
        (lambda: xpnn.predict(model, turned), "x"),
    ):
        with pytest.raises(DataError, match=f"^{name} {message}$"):
            refused()
    # a file is named
    file = NamedDataset(turned.reshape(12, 10), KINDS, path="t.npz", image_shape=(5, 2, 1))
    with pytest.raises(DataError, match=f"^t.npz {message}$"):
        xpnn.evaluate(model, file)


@pytest.mark.parametrize("shape", [(12, 2, 5, 7), (12, 2, 2, 2, 2), (12,)])
def test_shapes_that_are_no_images(shape):
    with pytest.raises(DataError, match=r"^train\.x must have .*, got shape \(12"):
        trained(np.zeros(shape), KINDS, outputs=2)


def test_mapped_images_stay_mapped(tmp_path):
    np.save(tmp_path / "x.npy", IMAGES[..., 0])
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    model = trained(mapped, KINDS, outputs=2)
    assert model.sha256() == held(IMAGES[..., 0], KINDS, outputs=2)
    seen = []

    class Sees(xpnn.Callback):
        def on_start(self, run):
            seen.append(run.train.x)

    trained(mapped, KINDS, outputs=2, callbacks=[Sees()])
    assert isinstance(seen[0], np.memmap)


def test_a_model_file_keeps_the_shape_of_images(tmp_path):
    xpnn.save(trained(IMAGES, KINDS, outputs=2), tmp_path / "m.safetensors")
    assert xpnn.load(tmp_path / "m.safetensors").task.image_shape == (2, 5, 3)


def test_a_fit_leaves_what_it_was_given(tmp_path):
    x, y = X.copy(), Y.copy()
    model = trained(x, y, validation=0.25, normalizer="standard")
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(y, Y)
    assert np.isfinite(parameters_of(model)).all()


def test_batches_of_data_frames_are_joined_by_the_names_of_columns():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(np.arange(24.0).reshape(8, 3), columns=list("abc"))
    y = np.arange(8)
    batches = [(frame[:3], y[:3]), (frame[["c", "a", "b"]][3:], y[3:])]
    x, targets = found = collected("train", batches)
    np.testing.assert_array_equal(x, frame.to_numpy())
    np.testing.assert_array_equal(targets, y)
    assert found.feature_names == ("a", "b", "c")
    with pytest.raises(xpnn.DataError, match="has no column 'b'"):
        collected("train", [*batches, (frame[["c", "a"]], y)])

"""Data sets that are mapped from files: the same training, and never more than a chunk of them."""

import itertools
import threading

import numpy as np
import pytest

import xpnn
from tests.helpers import LIBRARIES, open_backend
from xpnn import recording
from xpnn._core import mapped
from xpnn._core.mapped import Source
from xpnn.backends import get_backend
from xpnn.errors import DataError, DivergenceError
from xpnn.training import loop, streams
from xpnn.training.streams import Stream

RNG = np.random.RandomState(0)
N, FEATURES = 103, 5
PIXELS = RNG.randint(0, 256, (N, FEATURES)).astype(np.uint8)
TABLE = (np.arange(256) / 255).astype(np.float32)
LABELS = RNG.randint(0, 3, N)
CHUNK = 1000  # bytes: 27 rows of five float32, a label and a place
KINDS = {
    "uint8": PIXELS,
    "float32": TABLE[PIXELS],
    "float64": RNG.randn(N, FEATURES),
    "float16": RNG.randn(N, FEATURES).astype(np.float16),
    "int64": RNG.randint(-3, 4, (N, FEATURES)),
    ">f4": TABLE[PIXELS].astype(">f4"),
}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Chunks of a few rows, blocks of fewer; evaluated in the same parts as sets in memory."""
    monkeypatch.setattr(streams, "CHUNK_BYTES", CHUNK)
    monkeypatch.setattr(streams, "BLOCK_BYTES", 150)
    monkeypatch.setattr(mapped, "BLOCK_BYTES", 70)
    monkeypatch.setattr(loop, "EVALUATION_ROWS", 6)
    yield
    assert not [t for t in threading.enumerate() if t.name.startswith("xpnn-read")]


@pytest.fixture
def on_disk(tmp_path):
    """A function that returns an array mapped from a file."""
    names = map(str, itertools.count())

    def save(array, mode="r"):
        path = tmp_path / f"{next(names)}.npy"
        np.save(path, array)
        return np.load(path, mmap_mode=mode)

    return save


def fit(x, y=LABELS, validation=None, **settings):
    outputs = y.shape[1] if y.ndim == 2 else 3
    model = xpnn.Sequential(xpnn.Dense(4), xpnn.Activation("tanh"), xpnn.Dense(outputs))
    defaults = {"epochs": 2, "batch_size": 7, "seed": 1}
    history = xpnn.fit(model, (x, y), validation=validation, **{**defaults, **settings})
    return model, [row[:-1] for row in history]


def equal(one, other, rtol=0):
    (model, rows), (twin, others) = one, other
    for a, b in zip(model.host_parameters(), twin.host_parameters(), strict=True):
        for name in a:
            np.testing.assert_allclose(a[name], b[name], rtol=rtol, atol=rtol, strict=True)
    np.testing.assert_allclose(rows, others, rtol=rtol, atol=rtol)


def test_pixels_are_the_table_of_the_article():
    scaled = mapped.pixels_as_floats(np.arange(256, dtype=np.uint8))
    assert scaled.dtype == np.float32
    np.testing.assert_array_equal(scaled, TABLE)


@pytest.mark.parametrize("reproducible", [False, True])
def test_bytes_train_as_their_floats(library, dtype, reproducible):
    place = get_backend(
        **{**open_backend(library, dtype).options(), "reproducible": reproducible}
    )  # fmt: skip
    floats = TABLE[PIXELS]
    one, other = (
        fit(x, validation=(x, LABELS), backend=place, epochs=1) for x in (PIXELS, floats)
    )  # fmt: skip
    assert one[0].sha256() == other[0].sha256()
    assert one[1] == other[1]
    model = one[0]
    assert xpnn.evaluate(model, (PIXELS, LABELS)) == xpnn.evaluate(model, (floats, LABELS))
    expected = xpnn.predict_proba(model, floats)
    np.testing.assert_array_equal(xpnn.predict_proba(model, PIXELS), expected)
    # a library's own bytes
    own = [xpnn.predict_proba(model, place.asarray(x.copy())) for x in (PIXELS, floats)]
    np.testing.assert_array_equal(*map(place.to_numpy, own))


def cases():
    """Yield all on NumPy; on the other libraries, what the host doesn't read for them alike."""
    for library, dtype in itertools.product(LIBRARIES, ("float32", "float64")):
        for kind in KINDS if library == "numpy" else ("uint8", "float64"):
            yield library, dtype, kind, False
            if library == "numpy" or (dtype, kind) == ("float32", "uint8"):
                yield library, dtype, kind, True


@pytest.mark.parametrize(("library", "dtype", "kind", "reproducible"), list(cases()))
def test_in_order_a_mapped_set_trains_as_in_memory(library, dtype, kind, reproducible, on_disk):
    place = get_backend(
        **{**open_backend(library, dtype).options(), "reproducible": reproducible}
    )  # fmt: skip
    x = KINDS[kind]
    file = on_disk(x)
    settings = {"shuffle": False, "backend": place, "epochs": 1}
    one = fit(file, on_disk(LABELS), validation=(file, LABELS), **settings)
    other = fit(x, validation=(x, LABELS), **settings)
    # XLA compiles another scan for chunks of another length
    equal(one, other, rtol=0 if library != "jax" or reproducible else 1e-5)
    found = xpnn.evaluate(one[0], (file, LABELS))
    np.testing.assert_allclose(found, one[1][-1][3:], rtol=1e-6)
    np.testing.assert_array_equal(xpnn.predict_proba(one[0], file), xpnn.predict_proba(one[0], x))
    np.testing.assert_array_equal(xpnn.predict(one[0], file), xpnn.predict(one[0], x))


@pytest.mark.parametrize("batch_size", [1, 7, 27, 50, 103, 200])
@pytest.mark.parametrize("columns", [None, 2])
def test_batches_of_any_size(batch_size, columns, on_disk):
    y = LABELS if columns is None else RNG.randn(N, columns)
    loss = xpnn.CrossEntropy() if columns is None else xpnn.MeanSquaredError()
    settings = {"batch_size": batch_size, "shuffle": False, "loss": loss, "dtype": "float64"}
    equal(
        fit(on_disk(KINDS["float64"]), on_disk(y), **settings), fit(KINDS["float64"], y, **settings)
    )


def test_a_shuffled_run_is_alike_on_every_backend(library, on_disk):
    x = on_disk(PIXELS)
    one = fit(x, backend=open_backend(library, "float64"), epochs=3)
    equal(one, fit(x, dtype="float64", epochs=3), rtol=1e-12)


@pytest.mark.parametrize("n", [1, 26, 27, 28, 103])
@pytest.mark.parametrize("multiple", [1, 7, 27, 40])
@pytest.mark.parametrize("seed", [None, 0])
def test_every_row_is_seen_once_an_epoch(n, multiple, seed, on_disk):
    x = np.arange(5.0 * n, dtype=np.float32).reshape(n, 5)
    y = np.arange(n)
    stream = Stream(Source(on_disk(x), "float32"), Source(y, "float32"), get_backend(), multiple)
    assert len(stream) == n
    rng = None if seed is None else np.random.RandomState(seed)
    epochs = []
    for _ in range(3):
        rows, sizes = [], []
        for chunk in stream.chunks(multiple, rng):
            np.testing.assert_array_equal(chunk.x[chunk.order], x[chunk.y[chunk.order]])
            rows += list(chunk.y[chunk.order])
            sizes.append(len(chunk.order))
        assert all(size % multiple == 0 for size in sizes[:-1])
        assert max(sizes) <= max(27, multiple)
        assert sorted(rows) == list(range(n))
        epochs.append(rows)
    if seed is None:
        assert epochs == [list(range(n))] * 3
    elif n > 20:
        assert epochs[0] != epochs[1] != epochs[2]


def test_a_chunk_mixes_rows_from_all_over_the_file(on_disk):
    n = 1000
    x = np.zeros((n, 5), np.float32)
    stream = Stream(
        Source(on_disk(x), "float32"), Source(np.arange(n), "float32"), get_backend(), 1
    )
    first = next(stream.chunks(1, np.random.RandomState(0)))
    rows = first.y[first.order]
    # seven blocks of four rows: fewer neighbours than in order, and no stretch of the file alone
    assert rows.max() - rows.min() > n / 2
    assert not np.array_equal(rows, np.sort(rows))


def test_a_small_file_trains_as_in_memory(on_disk, monkeypatch):
    monkeypatch.setattr(streams, "CHUNK_BYTES", 1 << 20)
    equal(fit(on_disk(PIXELS)), fit(PIXELS))


@pytest.mark.parametrize(
    ("name", "reproducible"),
    [*((name, False) for name in LIBRARIES if name != "numpy-readonly"), ("numpy", True)],
)
@pytest.mark.parametrize("kind", ["uint8", "float64"])
def test_never_more_than_a_chunk_is_handed_over(name, reproducible, kind, on_disk, monkeypatch):
    """At once; and at most two chunks of a set are in memory."""
    place = get_backend(
        **{**open_backend(name, "float64").options(), "reproducible": reproducible}
    )  # fmt: skip
    inner = getattr(place, "inner", place)
    handed, made = [], []
    asarray, buffer = type(inner).asarray, Source.buffer

    def counted(self, host):
        handed.append(host.nbytes)
        return asarray(self, host)

    def counted_buffer(self, rows):
        made.append(buffer(self, rows))
        return made[-1]

    monkeypatch.setattr(type(inner), "asarray", counted)
    monkeypatch.setattr(Source, "buffer", counted_buffer)
    x = np.tile(KINDS[kind], (3, 1))
    file, y = on_disk(x), on_disk(np.tile(LABELS, 3))
    model, _ = fit(file, y, validation=(file, y), backend=place, epochs=1)
    assert max(handed) <= CHUNK < x.nbytes
    assert sum(array.nbytes for array in made) <= 2 * 2 * CHUNK
    for call in (xpnn.evaluate, lambda m, data: xpnn.predict_proba(m, data[0])):
        handed.clear()
        call(model, (file, y))
        assert max(handed) <= CHUNK


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("reproducible", [False, True])
def test_chunks_are_played_from_few_recordings(reproducible, dtype, on_disk, monkeypatch):
    folds = []
    init = recording.Fold.__init__
    monkeypatch.setattr(
        recording.Fold, "__init__", lambda self, *a, **k: folds.append(self) or init(self, *a, **k)
    )
    x = np.tile(PIXELS, (10, 1))
    x[500:] //= 16  # other bits are needed there
    fit(on_disk(x), np.tile(LABELS, 10), epochs=3, reproducible=reproducible, dtype=dtype)
    train, evaluation = folds
    # two buffers, whole mini-batches and the last
    assert len(train.programs) <= 4
    assert len(evaluation.programs) <= 4


@pytest.mark.parametrize("kind", ["uint8", "float32", "float64", "int64"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_survey_finds_what_the_whole_set_shows(kind, dtype, on_disk):
    place = get_backend("numpy", dtype=dtype, reproducible=True)
    whole = place.dataset()(Source(KINDS[kind], dtype, pixels=True).rows(0, N))
    source = Source(on_disk(KINDS[kind]), dtype, pixels=True)
    part = place.dataset(source.values)(source.rows(10, 13))
    assert part.facts == whole.facts
    np.testing.assert_array_equal(part.raw, whole.raw[10:13])
    assert whole.facts.pixels is not None or kind != "uint8" or dtype == "float32"
    assert whole.facts.pixels is None or dtype == "float64"


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
@pytest.mark.parametrize(
    "view",
    [
        lambda x: x, lambda x: x[3:50], lambda x: x[::2], lambda x: x[::-1], lambda x: x[:, 1:4],
        lambda x: x.T, lambda x: x.reshape(-1, 10), lambda x: x[:0],
    ],
)  # fmt: skip
def test_views_of_a_file_are_read_right_and_again(view, mode, on_disk):
    x = np.arange(5000.0).reshape(1000, 5)
    file = on_disk(x, mode)
    if mode != "r":
        file[7] = x[7] = -1.0  # mine alone, or in the file
    source, expected = Source(view(file), "float64"), view(x)
    assert mapped.is_mapped(source.array) == bool(expected.size)
    for _ in range(2):
        np.testing.assert_array_equal(source.rows(0, len(expected)), expected)
        np.testing.assert_array_equal(source.rows(5, 9), expected[5:9])
    np.testing.assert_array_equal(file, x)


def test_only_files_are_mapped(on_disk):
    file = on_disk(PIXELS)
    assert mapped.is_mapped(file)
    assert mapped.is_mapped(file[3:])
    for array in (PIXELS, np.array(file), file + 1, file[[1, 2]]):
        assert not mapped.is_mapped(array)


class Stop(xpnn.Callback):
    def __init__(self, error):
        self.error, self.ended, self.batches = error, 0, 0

    def on_batches(self, count):
        self.batches += count
        if self.batches > 6 and self.error is not None:
            raise self.error

    def on_end(self):
        self.ended += 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_an_interrupted_run_stops_reading(error, on_disk):
    stop = Stop(error())
    with pytest.raises(error):
        fit(on_disk(PIXELS), callbacks=[stop])
    assert stop.ended == 1


def test_progress_counts_all_batches(on_disk):
    counts = Stop(None)
    fit(on_disk(PIXELS), callbacks=[counts])
    assert counts.batches == 2 * 15


def test_what_reading_raises_reaches_the_caller(on_disk, monkeypatch):
    read = Source.read

    def failing(self, start, stop, out):
        if start > 60:
            raise OSError("the disk is gone")
        read(self, start, stop, out)

    monkeypatch.setattr(Source, "read", failing)
    stop = Stop(None)
    with pytest.raises(OSError, match="the disk is gone"):
        fit(on_disk(PIXELS), callbacks=[stop])
    assert stop.ended == 1


def test_divergence_counts_batches_over_all_chunks(on_disk):
    x = KINDS["float64"].copy()
    x[80:84] = 1e30  # mini-batch 12, in the fourth chunk
    y = RNG.randn(N, 1)
    model = xpnn.Sequential(xpnn.Dense(1, weight=[[0.0]] * 5))
    with pytest.raises(DivergenceError, match=r"became (inf|nan) at epoch 1, in batch 12;"):
        xpnn.fit(
            model, (on_disk(x), y), loss=xpnn.MeanSquaredError(), shuffle=False, batch_size=7,
            seed=0, dtype="float32", optimizer=xpnn.SGD(1.0),
        )  # fmt: skip


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (PIXELS.reshape(N, 5, 1, 1, 1), r"train.x must have shape \(n, features\), got shape"),
        (PIXELS.astype(complex), "train.x must be an array of numbers, got dtype complex128"),
        (np.where(np.arange(N)[:, None] == 70, np.nan, KINDS["float64"]),
         "train.x must be finite, got nan in row 70, column 0"),
        (PIXELS[:-1], "train.x and train.y must have the same length, got 102 and 103"),
    ],
)  # fmt: skip
def test_files_that_are_refused(x, message, on_disk):
    with pytest.raises(DataError, match=message):
        fit(on_disk(x))


def test_labels_in_files_are_checked(on_disk):
    with pytest.raises(DataError, match=r"train.y must hold labels from 0 to 2 .*, got 3 in row"):
        # as many different integers as outputs would be the names of the classes
        fit(on_disk(PIXELS), on_disk(np.where(np.arange(len(LABELS)) == 5, 3, LABELS)))

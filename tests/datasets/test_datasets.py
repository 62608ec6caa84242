"""Data sets: IDX files, whole and damaged, and what `as_dataset` takes."""

import gzip
import hashlib
import struct
import sys

import numpy as np
import pytest

import xpnn
from tests.helpers import MNIST, SMALL, failed, open_backend, run, write_folder, write_idx
from xpnn.datasets import Dataset, load_training, mnist, read_idx, read_idx_folder, readers
from xpnn.datasets.checks import as_dataset
from xpnn.errors import ArgumentError, DataError

CODES = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}
PARTS = ("train-images", "train-labels", "t10k-images", "t10k-labels")
STYLES = [(mark, ending) for mark in "-." for ending in ("", ".gz")]
IMAGES = np.arange(256, dtype=np.uint8).reshape(16, 4, 4)
LABELS = np.arange(16, dtype=np.uint8) % 10

# of the uncompressed files, as published
MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


def idx(array):
    """The bytes of an IDX file."""
    array = np.asarray(array)
    head = bytes([0, 0, CODES[array.dtype.str[1:]], array.ndim])
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return head + sizes + array.astype(array.dtype.newbyteorder(">")).tobytes()


def name_of(part, mark="-", ending=""):
    return f"{part}{mark}idx{3 if 'images' in part else 1}-ubyte{ending}"


@pytest.fixture
def folder(tmp_path):
    """A function that writes a folder of IDX files; keywords replace the bytes of single files."""

    def write(mark="-", ending="", **replaced):
        for part in PARTS:
            raw = replaced.get(part.replace("-", "_"), idx(IMAGES if "images" in part else LABELS))
            if raw is not None:
                packed = gzip.compress(raw) if ending else raw
                (tmp_path / name_of(part, mark, ending)).write_bytes(packed)
        return tmp_path

    return write


@pytest.mark.parametrize("dtype", CODES)
@pytest.mark.parametrize("shape", [(3,), (2, 3), (0, 4), (1, 2, 3, 2)])
@pytest.mark.parametrize("packed", [False, True])
def test_read_idx_reads_what_was_written(tmp_path, dtype, shape, packed):
    values = (100 * np.random.RandomState(0).randn(*shape)).astype(np.int8).astype(dtype)
    if dtype in ("i2", "i4", "f4", "f8"):
        values = values * np.dtype(dtype).type(257)  # more than one byte to turn round
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(idx(values)) if packed else idx(values))
    for given in (path, str(path)):
        read = read_idx(given)
        np.testing.assert_array_equal(read, values, strict=True)
        assert read.dtype.isnative
        assert read.flags.writeable


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "{} is not an IDX file: it begins with nothing"),
        (b"PNG", "{} is not an IDX file: it begins with 50 4e 47"),
        (b"\0\1" + idx(LABELS)[2:], "{} is not an IDX file: it begins with 00 01 08 01"),
        (b"\0\0\x0a" + idx(LABELS)[3:], "{} is not an IDX file: it begins with 00 00 0a 01"),
        (idx(IMAGES)[:10], "{} is cut off in its header: 10 of 16 bytes"),
        (idx(IMAGES)[:16], "{} must have 272 bytes for shape (16, 4, 4), got 16"),
        (idx(IMAGES)[:-1], "{} must have 272 bytes for shape (16, 4, 4), got 271"),
        (idx(IMAGES) + b"\0", "{} must have 272 bytes for shape (16, 4, 4), got 273"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_read_idx_says_what_is_wrong(tmp_path, raw, message, packed):
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(raw) if packed else raw)
    with pytest.raises(DataError) as error:
        read_idx(path)
    assert str(error.value) == message.format(path)


def test_a_header_that_promises_too_much_allocates_nothing(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes([0, 0, 14, 4]) + b"\xff" * 16)
    with pytest.raises(DataError, match=r"must have \d+ bytes for shape"):
        read_idx(path)


@pytest.mark.parametrize(
    "damage",
    [lambda raw: raw[:-9], lambda raw: raw[:12], lambda raw: raw[:-6] + b"\0\0" + raw[-4:]],
    ids=["cut", "cut early", "checksum"],
)
def test_a_damaged_gzip_file(tmp_path, damage):
    path = tmp_path / "file.gz"
    path.write_bytes(damage(gzip.compress(idx(IMAGES))))
    with pytest.raises(DataError) as error:
        read_idx(path)
    assert str(error.value).startswith(f"{path} is a damaged gzip file: ")


def test_a_file_that_can_not_be_read(tmp_path):
    for path, why in (
        (tmp_path / "none", "No such file or directory"),
        (tmp_path, "Is a directory"),
    ):
        with pytest.raises(DataError) as error:
            read_idx(path)
        assert str(error.value) == f"can't read {path}: {why}"


@pytest.mark.parametrize(("mark", "ending"), STYLES)
def test_a_folder_in_each_style(folder, mark, ending):
    for part in read_idx_folder(str(folder(mark, ending))):
        assert part.image_shape == (4, 4, 1)
        # every byte there is: exactly float32(pixel / 255)
        expected = np.array([np.float32(pixel / 255) for pixel in range(256)]).reshape(16, 16)
        np.testing.assert_array_equal(part.x, expected, strict=True)
        np.testing.assert_array_equal(part.y, LABELS.astype(np.int64), strict=True)


def test_training_and_test_set_are_told_apart(folder):
    path = folder(
        t10k_images=idx(IMAGES[:3, :2, :]),
        t10k_labels=idx(LABELS[:3]),
        train_labels=idx(LABELS[::-1]),
    )
    train, test = mnist(path)
    assert (train.x.shape, test.x.shape) == ((16, 16), (3, 8))
    np.testing.assert_array_equal(train.y, LABELS[::-1])
    np.testing.assert_array_equal(test.y, [0, 1, 2])


@pytest.mark.parametrize("part", PARTS)
def test_a_missing_file_is_named(folder, part):
    path = folder(**{part.replace("-", "_"): None})
    with pytest.raises(DataError) as error:
        read_idx_folder(path)
    name = name_of(part)
    assert str(error.value) == f"no {name} (or {name}.gz) in {path}"


@pytest.mark.parametrize("name", ["none", "file"])
def test_what_is_no_folder(tmp_path, name):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError) as error:
        read_idx_folder(tmp_path / name)
    assert str(error.value) == f"no folder {tmp_path / name}"


@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        (
            {"train_images": idx(LABELS)},
            "train-images-idx3-ubyte must hold images, 3-dimensional and unsigned bytes, "
            "got 1-dimensional uint8",
        ),
        (
            {"t10k_labels": idx(IMAGES)},
            "t10k-labels-idx1-ubyte must hold labels, 1-dimensional and unsigned bytes, "
            "got 3-dimensional uint8",
        ),
        (
            {"train_labels": idx(LABELS.astype(np.int32))},
            "train-labels-idx1-ubyte must hold labels, 1-dimensional and unsigned bytes, "
            "got 1-dimensional int32",
        ),
        (
            {"train_labels": idx(LABELS[:15])},
            "train-images-idx3-ubyte holds 16 images, but {}/train-labels-idx1-ubyte 15 labels",
        ),
    ],
)
def test_files_that_hold_something_else(folder, replaced, message):
    path = folder(**replaced)
    with pytest.raises(DataError) as error:
        read_idx_folder(path)
    assert str(error.value) == f"{path}/" + message.format(path)


@pytest.mark.skipif(not MNIST.exists(), reason="the sdist doesn't hold it")
@pytest.mark.parametrize("name", MD5)
def test_the_repository_holds_mnist(name):
    raw = gzip.decompress((MNIST / f"{name}.gz").read_bytes())
    assert hashlib.md5(raw, usedforsecurity=False).hexdigest() == MD5[name]


def test_mnist_is_mnist(mnist):
    for part, size, first in zip(mnist, (60000, 10000), ([5, 0, 4], [7, 2, 1]), strict=True):
        assert (part.x.shape, part.x.dtype) == ((size, 784), np.float32)
        assert (part.y.shape, part.y.dtype) == ((size,), np.int64)
        assert (part.x.min(), part.x.max()) == (0, 1)
        assert part.y[:3].tolist() == first
        assert set(part.y) == set(range(10))
    # the mean that is quoted everywhere
    np.testing.assert_allclose(mnist[0].x.mean(dtype=np.float64), 0.1306604762738429, rtol=1e-7)


X, Y = np.arange(6.0).reshape(3, 2), np.array([0, 1, 1])


def nan_at(*place, value=np.nan, like=X):
    array = np.array(like, dtype=float)
    array[place] = value
    return array


@pytest.mark.parametrize(
    ("data", "kind", "message"),
    [
        (None, ArgumentError, " must be a pair of arrays (x, y), got NoneType"),
        (X, ArgumentError, " must be a pair of arrays (x, y), got ndarray"),
        ((X, Y, Y), ArgumentError, " must be a pair of arrays (x, y), got tuple"),
        ((X[0], Y), DataError, ".x must have shape (n, features), got shape (2,)"),
        (
            (X[None, None, None], Y),
            DataError,
            ".x must have shape (n, features), got shape (1, 1, 1, 3, 2)",
        ),
        ((X, Y[:2]), DataError, ".x and d.y must have the same length, got 3 and 2"),
        ((X, 1), DataError, ".y must have shape (n,) or (n, outputs), got shape ()"),
        (
            (X, np.zeros((3, 1, 1))),
            DataError,
            ".y must have shape (n,) or (n, outputs), got shape (3, 1, 1)",
        ),
        ((X.astype(str), Y), DataError, ".x must be an array of numbers, got dtype <U32"),
        ((X.astype(complex), Y), DataError, ".x must be an array of numbers, got dtype complex128"),
        ((X, list("abc")), DataError, ".y must be an array of numbers, got dtype <U1"),
        ((X[None].astype("O"), Y), DataError, ".x must be an array of numbers, got dtype object"),
        ((nan_at(2, 1), Y), DataError, ".x must be finite, got nan in row 2, column 1"),
        (
            (nan_at(0, 1, value=-np.inf), Y),
            DataError,
            ".x must be finite, got -inf in row 0, column 1",
        ),
        ((X, nan_at(1, like=Y)), DataError, ".y must be finite, got nan in row 1"),
        ((X, nan_at(1, 0, like=X)), DataError, ".y must be finite, got nan in row 1, column 0"),
    ],
)
def test_as_dataset_says_what_is_wrong(data, kind, message):
    with pytest.raises(kind) as error:
        as_dataset("d", data)
    assert str(error.value) == f"d{message}"


def test_as_dataset_says_what_is_no_array():
    with pytest.raises(ArgumentError, match="not an array"):
        as_dataset("d", ([[1, 2], [3]], [0, 1]))


@pytest.mark.parametrize("kind", ["float32", "float64", "uint8", "int32", "int64", "float16"])
@pytest.mark.parametrize("rows", [3, 0])
def test_as_dataset_keeps_dtype_and_memory(kind, rows):
    x, y = X[:rows].astype(kind), Y[:rows]
    x.flags.writeable = False
    data = as_dataset("d", [x, y])
    assert type(data) is Dataset
    np.testing.assert_array_equal(data.x, x, strict=True)
    assert rows == 0 or (np.shares_memory(data.x, x) and np.shares_memory(data.y, y))


def test_as_dataset_takes_lists_and_yes_or_no():
    data = as_dataset("d", ([[True, False]], [True]))
    np.testing.assert_array_equal(data.x, np.array([[1, 0]]), strict=True)
    np.testing.assert_array_equal(data.y, np.array([1]), strict=True)


def test_as_dataset_takes_every_library(library):
    backend = open_backend(library)
    data = as_dataset("d", (backend.asarray(X), backend.asarray(Y)))
    np.testing.assert_array_equal(data.x, X, strict=True)
    np.testing.assert_array_equal(data.y, Y, strict=True)


@pytest.fixture
def pooch(monkeypatch, tmp_path):
    pooch = pytest.importorskip("pooch")
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / project)
    return pooch


def test_mnist_comes_from_the_network_into_the_cache(pooch, monkeypatch, folder, tmp_path):
    source = folder(ending=".gz")
    asked = {}

    def retrieve(url, known_hash, fname, path):
        asked[url] = known_hash
        path.mkdir(parents=True, exist_ok=True)
        (path / fname).write_bytes((source / fname).read_bytes())

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    train, _ = mnist()
    np.testing.assert_array_equal(train.y, LABELS)
    assert (tmp_path / "xpnn" / "mnist" / "t10k-images-idx3-ubyte.gz").exists()
    assert asked == {
        readers.idx._MNIST_URL + name: f"md5:{md5}" for name, md5 in readers.idx._MNIST_MD5.items()
    }
    assert {url.rpartition("/")[2].removesuffix(".gz") for url in asked} == set(MD5)


@pytest.mark.parametrize("error", [OSError("no route"), ValueError("MD5 hash is not the known")])
def test_mnist_that_can_not_be_had(pooch, monkeypatch, tmp_path, error):
    def retrieve(*args, **kwargs):
        raise error

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    with pytest.raises(DataError) as raised:
        mnist()
    name = "train-images-idx3-ubyte.gz"
    assert str(raised.value) == f"can't download {name} to {tmp_path / 'xpnn' / 'mnist'}: {error}"


def test_mnist_without_pooch(monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(DataError, match=r"needs pooch: pip install pooch$"):
        mnist()


def test_a_folder_without_a_test_part(tmp_path, capsys):
    path = write_folder(tmp_path / "data")
    for file in path.glob("t10k*"):
        file.unlink()
    train, test = load_training(path)
    assert (len(train.x), test) == (60, None)
    assert [len(part.x) for part in load_training(path, 0.25)] == [45, 15]
    model = tmp_path / "m"
    assert run("train", path, *SMALL, "--validation", 0.25, "--save", model, "--quiet") == 0
    assert run("evaluate", model, path, "--held-out") == 0
    assert float(capsys.readouterr().out.split()[3]) == xpnn.load(model).history[-1].test_loss
    assert run("evaluate", model, path) == 0
    whole = xpnn.evaluate(xpnn.load(model), train)
    assert float(capsys.readouterr().out.split()[3]) == whole.loss
    assert run("predict", model, path) == 0
    assert len(capsys.readouterr().out.splitlines()) == 61
    # a test part with a file missing is a mistake
    write_idx(path / "t10k-labels-idx1-ubyte", LABELS)
    missing = "no t10k-images-idx3-ubyte (or t10k-images-idx3-ubyte.gz) in"
    assert failed(capsys, "train", path, *SMALL) == f"{missing} {path}"
    # but images alone can be predicted
    (path / "t10k-labels-idx1-ubyte").rename(path / "t10k-images-idx3-ubyte")
    write_idx(
        path / "t10k-images-idx3-ubyte",
        np.zeros((7, *xpnn.load(model).task.image_shape[:2]), np.uint8),
    )
    assert run("predict", model, path) == 0
    assert len(capsys.readouterr().out.splitlines()) == 8

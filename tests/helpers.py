"""What several test modules share: backends, the command, data sets, small runs."""

import csv
import ctypes
import functools
import gzip
import hashlib
import json
import os
import struct
import subprocess
import sys
import time
import types
from pathlib import Path

import array_api_compat.numpy
import numpy as np
import pytest

import xpnn
import xpnn.study
from scripts.checks import platforms
from xpnn import recording, reproducible
from xpnn._core.tree import leaves, rebuilt
from xpnn.activations import ACTIVATIONS
from xpnn.backends import Backend, get_backend, to_numpy
from xpnn.callbacks import CALLBACKS
from xpnn.cli import main
from xpnn.errors import BackendError
from xpnn.initializers import INITIALIZERS
from xpnn.layers import LAYERS
from xpnn.losses import LOSSES
from xpnn.metrics import METRICS
from xpnn.normalizers import NORMALIZERS
from xpnn.optimizers import OPTIMIZERS
from xpnn.schedules import SCHEDULES

ROOT = Path(__file__).parents[1]
# which the repository has, and the sdist hasn't
MNIST = ROOT / "data" / "mnist"
# the article's logs and tables
ARTICLE = ROOT / "xpnn" / "study" / "article" / "published"


def environment(**variables):
    """Return this environment for a process that shall find xpnn, beside all that is found here."""
    path = filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])
    return os.environ | {"PYTHONPATH": os.pathsep.join(path)} | variables


def printed(code, variables):
    """Return what code prints as JSON in a process of its own, with these variables set."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=platforms.environment(variables),
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# backends

LIBRARIES = ("numpy", "numpy-readonly", "strict", "torch", "jax", "cupy")
# for tests that take each library once
BACKEND_NAMES = [name for name in LIBRARIES if name != "numpy-readonly"]
REQUIRED = set(filter(None, os.environ.get("XPNN_REQUIRE", "").split(",")))


def open_backend(library, dtype="float64"):
    """Return the backend for a test; skip, or fail if it was required, where it isn't there."""
    name = library.removesuffix("-readonly")
    device = {
        "strict": "device1",
        "torch": os.environ.get("XPNN_DEVICE"),
        "jax": os.environ.get("XPNN_DEVICE"),
    }.get(name)
    try:
        backend = get_backend(name, device=device, dtype=dtype)
        if name == "cupy" and "cuda:1" in backend.devices():
            return get_backend(name, device="cuda:1", dtype=dtype)
        return backend
    except BackendError as error:
        if name in REQUIRED:
            pytest.fail(f"{name} was required: {error}")
        pytest.skip(str(error))


def emulated_driver():
    """Return the library that counts launches and copies; skip on a real card, which has none."""
    if open_backend("cupy").card != "emulated GPU":
        pytest.skip("launches and copies are counted on the emulated card only")
    driver = ctypes.CDLL("libcuda.so.1")
    for name in ("launches", "products", "fibers", "copies", "bytes"):
        getattr(driver, f"coc_{name}").restype = ctypes.c_long
    return driver


def skip_without_sorting(library):
    """Skip on the emulated card, on which CuPy's sort, which is CUB's, can't run."""
    if library == "cupy" and open_backend("cupy").card == "emulated GPU":
        pytest.skip("the emulated card has no CUB, and so no sort")


REGISTRIES = (
    ACTIVATIONS,
    CALLBACKS,
    INITIALIZERS,
    LAYERS,
    LOSSES,
    METRICS,
    NORMALIZERS,
    OPTIMIZERS,
    SCHEDULES,
)


def shipped(registry):
    """Return the names in a registry, without what other tests have registered."""
    return [name for name, part in registry.items() if part.__module__.startswith("xpnn.")]


# the command

SMALL = ["--hidden", "6", "--epochs", "2", "--batch-size", "20", "--optimizer", "sgd:lr=0.5"]


def run(*argv):
    """Return the exit status of the command."""
    try:
        return main(list(map(str, argv)))
    except SystemExit as error:
        return error.code


def command(*argv, start=subprocess.run, **options):
    """Run the command in a process of its own, where Ctrl-C is never ignored."""
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from xpnn.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    return start(
        [sys.executable, "-c", code, *map(str, argv)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        **options,
    )


def failed(capsys, *argv):
    """Return the one line of a command that fails."""
    capsys.readouterr()
    assert run(*argv) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1, err
    assert err.startswith("xpnn: error: ")
    return err.removeprefix("xpnn: error: ").rstrip()


def started(folder, tmp_path, *options):
    """Start a long run, and return it once its log has some rows."""
    log = tmp_path / "run.csv"
    process = command(
        "train", folder, *SMALL, "--epochs", 10**6, "--log", log, *options, start=subprocess.Popen
    )
    deadline = time.monotonic() + 60
    while not (log.exists() and log.read_text().count("\n") > 4):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process, log


def write_idx(path, array):
    """Write an array of bytes as an IDX file, gzipped if its name says so."""
    raw = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)


def write_folder(folder, ending="", counts=(60, 30), classes=3):
    """Write a data set of 4 × 4 images, whose class is the brightest row."""
    rng = np.random.RandomState(0)
    folder.mkdir(exist_ok=True)
    for part, count in zip(("train", "t10k"), counts, strict=True):
        labels = (np.arange(count) % classes).astype(np.uint8)
        images = rng.randint(0, 60, (count, 4, 4)).astype(np.uint8)
        images[np.arange(count), labels] += 120
        write_idx(folder / f"{part}-images-idx3-ubyte{ending}", images)
        write_idx(folder / f"{part}-labels-idx1-ubyte{ending}", labels)
    return folder


# a user's own data

_RNG = np.random.RandomState(0)
_CENTRES = _RNG.randn(3, 4) * 3
# rows of three kinds, and what may be predicted of them: codes, names and values
CODES = np.arange(90) % 3
FLOWERS = _CENTRES[CODES] + _RNG.randn(90, 4)
NAMES = np.array(["setosa", "véronique, wild", "virginica"])[CODES]
VALUES = 200 + 50 * FLOWERS[:, 0] - 20 * FLOWERS[:, 1]
# how often each row was seen
COUNTS = _RNG.randint(0, 5, 90) / 2
COLUMNS = ["a", "b", "c", "d"]
SETTINGS = {"epochs": 15, "batch_size": 10, "seed": 2, "optimizer": xpnn.SGD(0.05)}


def flower_network(outputs=3):
    """Return a network for the flowers."""
    return xpnn.Sequential(xpnn.Dense(5), xpnn.Activation("relu"), xpnn.Dense(outputs))


def write_rows(path, rows, header=None, delimiter=","):
    """Write a CSV file; return its path."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerows([*([] if header is None else [header]), *rows])
    return path


def read_rows(path):
    """Return the rows of a CSV file, its header included."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def write_table(path, y=NAMES, rows=slice(None), header=(*COLUMNS, "kind")):
    """Write the flowers and their kinds, or other targets, as a CSV file; return its path."""
    return write_rows(path, [[*x, t] for x, t in zip(FLOWERS[rows], y[rows], strict=True)], header)


# short runs in float64

X = np.random.RandomState(0).randn(23, 3)
Y = (X[:, 0] > 0).astype(np.int64) + (X[:, 1] > 0.5)  # 0, 1, 2
ONE_HOT = np.eye(3)[Y]


def tanh_network(outputs=3):
    """Return a network of two dense layers."""
    return xpnn.Sequential(
        xpnn.Dense(4, weight="he_normal"),
        xpnn.Activation("tanh"),
        xpnn.Dense(outputs, weight="he_normal"),
    )


def fit_network(model, x=X, y=Y, **settings):
    """Train a model; return its history."""
    defaults = {"epochs": 2, "batch_size": 5, "seed": 7}
    if not isinstance(settings.get("backend"), xpnn.backends.Backend):
        defaults["dtype"] = "float64"
    return xpnn.fit(model, (x, y), **{**defaults, **settings})


def parameters_of(model):
    """Return all parameters in one array."""
    return np.concatenate([a.ravel() for layer in model.host_parameters() for a in layer.values()])


class Recorder(xpnn.Callback):
    """Writes down each call; raises what it is given in row `at`."""

    def __init__(self, at=None, error=None):
        self.calls, self.rows, self.at, self.error = [], [], at, error

    def on_start(self, run):
        assert run.model.parameters is not None
        self.calls.append(("start", run.epochs, run.batches))

    def on_batches(self, count):
        self.calls.append(("batches", count))

    def on_epoch(self, epoch):
        self.calls.append(("epoch", epoch.epoch))
        self.rows.append(epoch)
        if epoch.epoch == self.at:
            raise self.error

    def on_end(self):
        self.calls.append(("end",))


# runs that are stopped and resumed


class Stop(xpnn.Callback):
    """Ends a run after an epoch, or within it: by Ctrl-C, or by another error."""

    def __init__(self, epoch, error=KeyboardInterrupt, *, within=False):
        self.epoch, self.error, self.within, self.now = epoch, error, within, None

    def on_epoch(self, epoch):
        self.now = epoch.epoch
        if not self.within and self.now == self.epoch:
            raise self.error

    def on_batches(self, count):
        if self.within and self.now == self.epoch:
            raise self.error


_RNG = np.random.RandomState(0)
SAMPLES, CLASSES = _RNG.standard_normal((23, 4)), _RNG.randint(0, 3, 23)
VALIDATION = (_RNG.standard_normal((9, 4)), _RNG.randint(0, 3, 9))


def train_small(
    *callbacks, x=SAMPLES, y=CLASSES, model=None, hidden="tanhexp", epochs=5, **options
):
    """Train a network on few samples; return the model and its history."""
    if model is None:
        model = xpnn.Sequential(xpnn.Dense(6), xpnn.Activation(hidden), xpnn.Dense(3))
    settings = {"validation": VALIDATION, "batch_size": 5, "seed": 3, **options}
    history = xpnn.fit(model, (x, y), epochs=epochs, callbacks=callbacks, **settings)
    return model, history


def train_dense(*callbacks, epochs=3, **options):
    """Train a single layer on few samples; return the model and its history."""
    options = {"batch_size": 10, "seed": 1, **options}
    return train_small(*callbacks, model=xpnn.Sequential(xpnn.Dense(3)), epochs=epochs, **options)


def stopped(path, *callbacks, at=2, every=1, within=False, **options):
    """Leave a checkpoint of a small run that was interrupted."""
    stop = Stop(at, within=within)
    with pytest.raises(KeyboardInterrupt):
        train_small(*callbacks, xpnn.Checkpoint(path, every=every), stop, **options)


def figures(history):
    """Return the rows of a history without their times."""
    return [row[:-1] for row in history]


# studies

SIX = """
data = "{data}"
hidden = "6"
epochs = 3
batch_size = 20
reproducible = true
activation = ["relu", "swish", "h_swish"]
optimizer = ["sgd:lr=0.5", "momentum:lr=0.1,mu=0.9"]
"""


def hashes_of_study(folder):
    """Return the hashes of the parameters of all results in a folder, by file name."""
    results, _ = xpnn.study.read_folder(folder)
    return {name: result.weights_sha256 for name, result in results.items()}


# files that are damaged


def shortened(raw):
    """Yield the bytes of a file cut off in its header, at its end, and at places between."""
    for length in [*range(0, len(raw), 7), *range(16), len(raw) - 1]:
        yield raw[:length]


def flipped(raw, bit):
    """Return the bytes of a file with one bit changed."""
    changed = bytearray(raw)
    changed[bit // 8] ^= 1 << bit % 8
    return changed


# reproducible arithmetic

NUMPY = array_api_compat.numpy
FUNCTIONS = ("exp", "expm1", "log", "log1p", "tanh", "sqrt", "sigmoid")
DTYPES = ("float64", "float32")


def put(ns, backend, value, dtype="float64"):
    """Return a host array in a reproducible namespace, which may not write to it."""
    with np.errstate(over="ignore"):
        value = np.array(value).astype(dtype)
    value.flags.writeable = False
    return ns.wrap(backend.asarray(value))


def bits(array):
    """Return shape, dtype and bytes of any array; all NaN alike."""
    host = np.ascontiguousarray(to_numpy(array))
    host = np.where(host != host, np.nan, host).astype(host.dtype)
    return host.shape, host.dtype, host.tobytes()


def spread(seed, low, high, *shape):
    """Return random numbers of random magnitudes, by exact operations alone: alike everywhere."""
    rng = np.random.RandomState(seed)
    return np.ldexp(rng.uniform(-1, 1, shape), rng.randint(low, high, shape))


HARD = np.concatenate(
    [
        np.random.RandomState(0).uniform(-760, 760, 3000),
        np.random.RandomState(1).uniform(-2, 2, 3000),
        spread(2, -1021, 1021, 3000),
        1 + spread(4, -52, 0, 1000),
        [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 5e-324, 2.3e-308, 1.8e308, -1.8e308],
        [709.782712893384, 709.7827128933841, 709.79, -665.4, -665.5, -708.0, -745.2],
        np.ldexp(1.0, np.arange(-1074, -960)),
        np.ldexp(-1.5, np.arange(-1074, -960)),
        np.ldexp(1.0, np.arange(-149, -90)),
        np.ldexp(-1.5, np.arange(-149, -90)),
    ]
)


def everything(ns, backend, dtype):
    """Return the results of all that the namespace computes, by name."""
    rng = np.random.RandomState(7)
    at = functools.partial(put, ns, backend, dtype=dtype)
    x, y = at(HARD), at(rng.permutation(HARD))
    a = at(np.ldexp(rng.uniform(-1, 1, (37, 300)), rng.randint(-9, 9, (37, 1))))
    b = at(np.ldexp(rng.uniform(-1, 1, (300, 23)), rng.randint(-9, 9, (1, 23))))
    wide = at(spread(8, -60, 60, 20, 30))
    special = rng.uniform(-1, 1, (12, 12))
    special[0, 0], special[1, 1], special[2, 2], special[3, :2] = np.inf, -np.inf, np.nan, np.inf
    special[4:7] = 0.0
    special[:, 5] = -0.0
    special = at(special)
    cube = ns.reshape(a, (37, 10, 30))
    out = {name: getattr(ns, name)(x) for name in FUNCTIONS}
    out |= {
        "add": x + y,
        "subtract": x - y,
        "multiply": x * y,
        "divide": x / y,
        "negative": -x,
        "scalar": 0.1 * x / 3.3 - 1 / 7,
        "rdivide": 1.0 / x,
        "abs": abs(x),
        "cube": x**3,
        "inverse": x**-2,
        "root": x**0.5,
        "power": ns.abs(x) ** 0.3,
        "broadcast": a / a[:, :1],
        "row": a / b[:1, :1],
        "relu": ns.where(x > 0, x, 0.0),
        "maximum": ns.maximum(x, y),
        "maximum0": ns.maximum(x, -0.0),
        "clip": ns.clip(x, -1, 1),
        "sign": ns.sign(x),
        "negative scalar": -0.5 * ns.sign(x),
        "negative scalar first": ns.multiply(-0.5, ns.sign(x)),
        "floor": ns.floor(x),
        "matmul": a @ b,
        "transposed": b.T @ a.T,
        "same": a @ a.mT,
        "wide": wide @ wide.mT,
        "special": special @ special,
        "special2": special @ b[:12, :],
        "vector": a[0, :] @ b,
        "dot": a[0, :] @ b[:, 0],
        "batch": cube @ wide.mT,
        "sum of all": ns.sum(x[:9000]),
        "sum3": ns.sum(cube, axis=(0, 2)),
    }
    for axis in (None, 0, 1, (0, 1)):
        out[f"sum{axis}"] = ns.sum(a, axis=axis)
        out[f"mean{axis}"] = ns.mean(special, axis=axis, keepdims=True)
        out[f"wide{axis}"] = ns.sum(wide, axis=axis)
    w = at(rng.uniform(-1, 1, (300, 23)))
    for step in range(5):
        y = ns.tanh(ns.exp(a[:5, :] @ w * 0.01))
        w -= 0.1 * (a[:5, :].T @ (y * y))
        w *= 0.99
        w /= 1.01
        w += step
    out["w"] = w
    return {name: to_numpy(value) for name, value in out.items()}


@functools.cache
def expected(dtype, precision):
    """Return the results of `everything` on NumPy."""
    with np.errstate(all="ignore"):
        return everything(
            reproducible.arithmetic(NUMPY, precision=precision), get_backend("numpy"), dtype
        )


def digest():
    """Return a hash of everything, and of normal deviates: what no machine may change."""
    found = hashlib.sha256()
    for dtype in DTYPES:
        for precision in reproducible.PRECISIONS:
            for value in expected(dtype, precision).values():
                found.update(bits(value)[2])
    found.update(reproducible.randn(np.random.RandomState(10), 1001).tobytes())
    return found.hexdigest()


def deviates_hash():
    """Return a hash of deviates such as initial parameters are made of."""
    return hashlib.sha256(reproducible.RandomState(10).randn(784, 100).tobytes()).hexdigest()


def numpy_deviates_hash():
    """Return a hash of NumPy's own, which may differ in the last bits."""
    return hashlib.sha256(np.random.RandomState(10).randn(784, 100).tobytes()).hexdigest()


# recorded steps

RECORDER = recording.recording_namespace(NUMPY)


def rng(seed=0):
    """Return a generator of random numbers."""
    return np.random.default_rng(seed)


DATA = rng(1).standard_normal((20, 5))
WEIGHT = rng(2).standard_normal((5, 3))


def rows_of(count, size=4, places=20):
    """Return the rows of `count` steps on the data."""
    return rng(count).integers(0, places, (count, size))


def with_namespace(step):
    """Return the step through the namespace of its arrays, as `fit` writes it."""

    def inner(carry, row, *context):
        xp = row.__array_namespace__() if isinstance(row, recording.Recorded) else NUMPY
        return step(xp, carry, row, *context)

    return inner


@with_namespace
def relu_step(xp, carry, row, x):
    """Take a step of gradient descent with one layer and ReLU."""
    (w,) = carry
    batch = xp.take(x, row, axis=0)
    y = xp.maximum(batch @ w, 0.0)
    w -= 0.1 * (batch.T @ xp.where(y > 0, y, 0.0))
    return (w,), (xp.sum(y), xp.sum(xp.astype(y > 0, y.dtype)))


def held_to_eager(step, carry, runs):
    """Run a fold recorded and eagerly; hold all that it returns to the same bits."""

    def copied(tree):
        return rebuilt(tree, [leaf.copy() for leaf in leaves(tree)])

    fold = recording.Fold(step, RECORDER)
    eager = Backend.fold(types.SimpleNamespace(xp=NUMPY), step)
    recorded_carry, eager_carry = copied(carry), copied(carry)
    for rows, *context in runs:
        with np.errstate(all="ignore"):
            recorded_carry, recorded = fold(recorded_carry, rows, *context)
            eager_carry, expected = eager(eager_carry, rows, *context)
        for got, want in zip(
            (*leaves(recorded_carry), *recorded),
            (*leaves(eager_carry), *expected),
            strict=True,
        ):
            assert got.dtype == want.dtype
            assert got.tobytes() == want.tobytes()
    return fold

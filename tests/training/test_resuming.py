"""Runs that go on: with the bits of one that was never stopped, and only as the same run."""

import numpy as np
import pytest

import xpnn
from tests.helpers import (
    CLASSES,
    SAMPLES,
    VALIDATION,
    Stop,
    figures,
    open_backend,
    stopped,
    train_small,
)
from xpnn.backends import get_backend
from xpnn.optimizers import OPTIMIZERS
from xpnn.training import checkpoint

# that a resumed run is the run


@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS))
def test_a_resumed_run_ends_with_the_same_bits(optimizer, library, dtype, path):
    def options():
        # one layer, and mini-batches of one size: JAX compiles each
        return {
            "model": xpnn.Sequential(xpnn.Dense(3)), "x": SAMPLES[:20], "y": CLASSES[:20],
            "epochs": 3, "optimizer": OPTIMIZERS[optimizer](),
            "backend": open_backend(library, dtype),
        }  # fmt: skip

    model, history = train_small(xpnn.Callback(), **options())
    stopped(path, at=1, **options())
    again, resumed = train_small(xpnn.Callback(), resume=path, **options())
    assert resumed.resumed == 1
    assert again.sha256() == model.sha256()
    assert figures(resumed) == figures(history)
    assert len({row.train_loss for row in history}) == 4


@pytest.mark.parametrize(
    "options",
    [
        {"shuffle": False},
        {"within": True},
        {"every": 2, "at": 3},
        {"at": 0},
        {"validation": None},
        {"loss": xpnn.Flooding(xpnn.CrossEntropy(), b=0.5)},
        {"y": np.eye(3)[CLASSES], "validation": None},
        {"y": SAMPLES[:, :3], "loss": xpnn.MeanSquaredError(), "validation": None},
    ],
    ids=["in order", "within an epoch", "every 2", "row 0", "alone", "flood", "one-hot", "values"],
)
def test_whatever_the_run(options, path):
    stops = {key: options.pop(key) for key in ("within", "every", "at") if key in options}
    model, history = train_small(**options)
    stopped(path, **stops, **options)
    again, resumed = train_small(resume=path, **options)
    assert again.sha256() == model.sha256()
    np.testing.assert_array_equal(figures(resumed), figures(history))


def test_a_run_that_is_read_in_chunks(path, tmp_path, monkeypatch):
    monkeypatch.setattr("xpnn.training.streams.CHUNK_BYTES", 400)
    monkeypatch.setattr("xpnn.training.streams.BLOCK_BYTES", 100)
    np.save(tmp_path / "x.npy", SAMPLES)
    x = np.load(tmp_path / "x.npy", mmap_mode="r")
    model, history = train_small(x=x)
    stopped(path, x=x)
    again, resumed = train_small(x=x, resume=path)
    assert again.sha256() == model.sha256() != train_small()[0].sha256()
    assert figures(resumed) == figures(history)


def test_a_run_that_is_stopped_after_each_epoch(path):
    model, history = train_small(optimizer=xpnn.Adam())
    stopped(path, at=0, optimizer=xpnn.Adam())
    for at in (1, 2, 3, 4):
        with pytest.raises(KeyboardInterrupt):
            train_small(xpnn.Checkpoint(path), Stop(at), optimizer=xpnn.Adam(), resume=path)
    again, resumed = train_small(xpnn.Checkpoint(path), optimizer=xpnn.Adam(), resume=path)
    assert again.sha256() == model.sha256()
    assert figures(resumed) == figures(history)


def test_a_reproducible_run_changes_its_backend(dtype, path):
    def options(library):
        try:
            backend = get_backend(library, dtype=dtype, reproducible=True)
        except xpnn.BackendError as error:
            pytest.skip(str(error))
        return {
            "model": xpnn.Sequential(xpnn.Dense(3)), "x": SAMPLES[:20], "y": CLASSES[:20],
            "optimizer": xpnn.Adam(lr=0.01), "backend": backend,
        }  # fmt: skip

    model, history = train_small(**options("numpy"))
    stopped(path, at=1, **options("numpy"))
    for library, at in (("torch", 2), ("jax", 3), ("strict", 4)):
        with pytest.raises(KeyboardInterrupt):
            train_small(xpnn.Checkpoint(path), Stop(at), resume=path, **options(library))
    again, resumed = train_small(resume=path, **options("numpy"))
    assert again.sha256() == model.sha256()
    assert figures(resumed) == figures(history)


def test_more_epochs_extend_a_run(path):
    model, history = train_small(epochs=6)
    train_small(xpnn.Checkpoint(path, every=4), epochs=3)
    again, resumed = train_small(epochs=6, resume=path)
    # there is one of the end, whatever `every`
    assert resumed.resumed == 3
    assert again.sha256() == model.sha256()
    assert figures(resumed) == figures(history)


@pytest.mark.parametrize("name", ["numpy", "torch"])
def test_all_that_a_step_can_do_goes_on(name, dtype, path):
    """Masks, running figures, rates that depend on the log, weights, labels and normalizers."""

    def options():
        layers = [xpnn.Dense(6), xpnn.BatchNorm(), xpnn.Activation("relu"), xpnn.Dropout(0.3)]
        return {
            "model": xpnn.Sequential(*layers, xpnn.Dense(3)),
            "y": np.array(["a", "b", "c"])[CLASSES],
            "validation": (VALIDATION[0], np.array(["a", "b", "c"])[VALIDATION[1]]),
            "schedule": xpnn.schedules.Warmup(2.5, xpnn.schedules.Plateau(patience=0, factor=0.5)),
            "clip_norm": 0.5, "class_weight": "balanced", "sample_weight": 1 + np.arange(23.0),
            "loss": xpnn.CrossEntropy(label_smoothing=0.1), "optimizer": xpnn.Adam(0.01),
            "normalizer": "standard", "epochs": 8, "backend": open_backend(name, dtype),
        }  # fmt: skip

    model, history = train_small(**options())
    stopped(path, at=4, **options())
    again, resumed = train_small(resume=path, **options())
    assert again.sha256() == model.sha256()
    assert figures(resumed) == figures(history)
    np.testing.assert_array_equal(xpnn.predict(again, SAMPLES), xpnn.predict(model, SAMPLES))
    with pytest.raises(xpnn.DataError, match="train must be the data of"):
        train_small(resume=path, **{**options(), "sample_weight": np.ones(23)})


def test_a_schedule_that_depends_on_the_epochs_keeps_them(path):
    stopped(path, schedule=xpnn.schedules.Cosine())
    with pytest.raises(
        xpnn.ArgumentError, match=r"epochs must be 5 as in .* because Cosine.*, got 7"
    ):
        train_small(resume=path, schedule=xpnn.schedules.Cosine(), epochs=7)
    path.unlink()
    checkpoint.previous(path).unlink()
    stopped(path, schedule=xpnn.schedules.Exponential(0.9))
    _, history = train_small(resume=path, schedule=xpnn.schedules.Exponential(0.9), epochs=7)
    assert history[-1].epoch == 7


def test_early_stopping_gives_back_running_figures_too(path):
    model = xpnn.Sequential(xpnn.Dense(6), xpnn.BatchNorm(), xpnn.Dense(3))
    stopping = xpnn.EarlyStopping(patience=3)
    _, history = train_small(stopping, model=model, optimizer=xpnn.SGD(2.0), epochs=40)
    assert stopping.best < history[-1].epoch
    found = xpnn.evaluate(model, VALIDATION)
    assert found.loss == pytest.approx(history[stopping.best].test_loss, rel=1e-6)


def test_a_finished_run_has_nothing_left_to_do(path):
    model, history = train_small(xpnn.Checkpoint(path))
    before = path.read_bytes()
    again, resumed = train_small(xpnn.Checkpoint(path), resume=path)
    assert again.sha256() == model.sha256()
    assert list(resumed) == list(history)
    assert resumed.resumed == 5
    assert path.read_bytes() == before


def test_the_seed_may_be_left_out(path):
    model, _ = train_small()
    stopped(path)
    again, resumed = train_small(seed=None, resume=path)
    assert again.sha256() == model.sha256()
    assert resumed.settings["seed"] == 3


def test_a_models_own_parameters_are_replaced(path):
    model, _ = train_small()
    stopped(path)
    other, _ = train_small(seed=8)
    train_small(model=other, resume=path)
    assert other.sha256() == model.sha256()


# the log


@pytest.mark.parametrize("hashes", [False, True])
@pytest.mark.parametrize("first", [True, False], ids=["log first", "checkpoint first"])
@pytest.mark.parametrize("cut", [None, -20, -90], ids=["whole", "within a row", "a row less"])
def test_the_log_is_continued(hashes, first, cut, tmp_path, path):
    def logged(name):
        return xpnn.CSVLogger(tmp_path / name, hashes=hashes)

    def rows(name):
        lines = (tmp_path / name).read_text().splitlines()
        return [line.split(",")[:5] + line.split(",")[6:] for line in lines]

    train_small(logged("whole.csv"))
    both = [logged("run.csv"), xpnn.Checkpoint(path)]
    with pytest.raises(KeyboardInterrupt):
        train_small(*(both if first else both[::-1]), Stop(3))
    raw = (tmp_path / "run.csv").read_bytes()
    (tmp_path / "run.csv").write_bytes(raw[:cut])
    train_small(logged("run.csv"), resume=path)
    assert rows("run.csv") == rows("whole.csv")


def test_rows_after_the_checkpoint_are_written_anew(tmp_path, path):
    stopped(path, xpnn.CSVLogger(tmp_path / "run.csv"), every=3, at=5)
    assert (tmp_path / "run.csv").read_text().count("\n") == 7
    _, history = train_small(xpnn.CSVLogger(tmp_path / "run.csv"), resume=path)
    assert history.resumed == 3
    lines = (tmp_path / "run.csv").read_text().splitlines()
    assert [line.split(",")[:5] for line in lines[1:]] == [
        [repr(value) for value in row[:5]] for row in history
    ]


def test_a_new_log_begins_at_the_beginning(tmp_path, path):
    stopped(path)
    _, history = train_small(xpnn.CSVLogger(tmp_path / "run.csv", hashes=True), resume=path)
    rows = [line.split(",") for line in (tmp_path / "run.csv").read_text().splitlines()[1:]]
    assert [row[:6] for row in rows] == [list(map(repr, row)) for row in history]
    assert [bool(row[6]) for row in rows] == [False, False, True, True, True, True]


@pytest.mark.parametrize(
    "text", ["epoch,loss\n0,1\n", "mine", "\xff\n", "{header}\n0,0.5,1,0.5,1,1\n"]
)
def test_another_log_is_not_overwritten(text, tmp_path, path):
    log = tmp_path / "run.csv"
    stopped(path)
    log.write_text(text.format(header=",".join(xpnn.Epoch._fields)), encoding="latin-1")
    before = log.read_bytes()
    message = r"log .*run\.csv' belongs to another run, line \d differs; name a new file"
    with pytest.raises(xpnn.ArgumentError, match=message):
        train_small(xpnn.CSVLogger(log), resume=path)
    assert log.read_bytes() == before


# what may not change


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer": xpnn.SGD(0.2)}, r"optimizer must be 'SGD\(lr=0.1, .* got 'SGD\(lr=0.2"),
        ({"loss": xpnn.Flooding(xpnn.CrossEntropy(), b=0.1)}, "loss must be 'Cross.*got 'Flood"),
        ({"batch_size": 6}, "batch_size must be 5 as in .*run.ckpt, got 6"),
        ({"seed": 4}, "seed must be 3 .* got 4"),
        ({"shuffle": False}, "shuffle must be True .* got False"),
        ({"dtype": "float64"}, "dtype must be 'float32' .* got 'float64'"),
        ({"reproducible": True}, "reproducible must be False .* got True"),
        ({"backend": "strict"}, "backend must be 'numpy' .* got 'strict'; a reproducible run may"),
        ({"epochs": 1}, "epochs must be >= 2, which are done in .*, got 1"),
        ({"hidden": "relu"}, "layers must be .*tanhexp.* got .*relu"),
        ({"validation": None}, "validation must be the data of .*9×4.* got none"),
        (
            {"x": SAMPLES[:20], "y": CLASSES[:20]},
            "train must be the data of .*x 23×4 float64.* got x 20×4",
        ),
        ({"x": SAMPLES + 1e-15}, "train must be the data of .* with SHA-256"),
        ({"y": CLASSES[::-1]}, "train must be the data of .* with SHA-256"),
        (
            {"x": SAMPLES.astype(np.float32)},
            "train must be the data of .*float64.* got x 23×4 float32",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_another_run_is_named(changes, message, path):
    stopped(path)
    model = xpnn.Sequential(
        xpnn.Dense(6), xpnn.Activation(changes.pop("hidden", "tanhexp")), xpnn.Dense(3)
    )
    with pytest.raises((xpnn.ArgumentError, xpnn.DataError), match=message):
        train_small(model=model, resume=path, **changes)
    assert model.parameters is None


def test_a_layers_settings_are_checked(path):
    """`repr` doesn't say that there is no bias."""
    stopped(path)
    model = xpnn.Sequential(xpnn.Dense(6, bias=False), xpnn.Activation("tanhexp"), xpnn.Dense(3))
    with pytest.raises(xpnn.ArgumentError, match=r"layers must be .* got .*bias=False"):
        train_small(model=model, resume=path)


def test_the_checkpoint_of_another_run_is_not_overwritten(tmp_path, path):
    log = tmp_path / "run.csv"
    stopped(path, xpnn.CSVLogger(log))
    before = path.read_bytes(), log.read_bytes()
    with pytest.raises(xpnn.ArgumentError, match="checkpoint must be a new file, or the one to"):
        train_small(xpnn.CSVLogger(log), xpnn.Checkpoint(path))
    assert (path.read_bytes(), log.read_bytes()) == before


# parts that their repr doesn't tell from others


class Plain(xpnn.schedules.Schedule):
    def __init__(self, rate):
        object.__setattr__(self, "rate", rate)

    def factors(self, times, epochs, history):
        return np.full(times.shape, self.rate)


class Twice(xpnn.layers.Layer):
    kind = "twice"

    def __init__(self, factor=2.0):
        self.factor = factor

    def config(self):
        return {"factor": self.factor}

    def forward(self, parameters, x, *, xp):
        return x * self.factor, lambda dy, input_gradient=True: (dy * self.factor, {})


def test_an_own_layer_is_told_by_its_config(path):
    def model(factor):
        return xpnn.Sequential(xpnn.Dense(3), Twice(factor))

    assert repr(Twice()) == "Twice(factor=2.0)"
    stopped(path, model=model(2.0))
    with pytest.raises(xpnn.ArgumentError, match=r"layers must be .*=2.0.* got .*factor=3.0"):
        train_small(model=model(3.0), resume=path)
    train_small(model=model(2.0), resume=path)


@pytest.mark.parametrize("wrap", [lambda each: each, lambda each: xpnn.schedules.Warmup(1, each)])
def test_an_own_schedule_is_told_by_its_attributes(wrap, path):
    stopped(path, schedule=wrap(Plain(1.0)))
    with pytest.raises(xpnn.ArgumentError, match=r"schedule must be .*rate=1.0.* got .*rate=0.5"):
        train_small(schedule=wrap(Plain(0.5)), resume=path)
    train_small(schedule=wrap(Plain(1.0)), resume=path)


def test_a_normalizer_is_told_by_its_statistics(path):
    first, other = (xpnn.StandardScaler().fit(each) for each in (SAMPLES, SAMPLES * 100 + 7))
    stopped(path, normalizer=first)
    with pytest.raises(xpnn.ArgumentError, match=r"normalizer must be .*SHA-256.* got .*SHA-256"):
        train_small(normalizer=other, resume=path)
    trained, _ = train_small(x=SAMPLES * 100 + 7, normalizer="standard")
    with pytest.raises(xpnn.ArgumentError, match=r"normalizer must be .*SHA-256"):
        train_small(model=trained, normalizer="standard", resume=path)
    train_small(normalizer="standard", resume=path)


def test_labels_are_told_by_name(path):
    names = np.array(["a", "b", "c"])
    stopped(path, y=names[CLASSES], validation=None)
    with pytest.raises(xpnn.ArgumentError, match=r"labels must be .*'c'.* got .*'d'"):
        train_small(y=np.array(["a", "b", "d"])[CLASSES], validation=None, resume=path)


def test_class_weights_with_keys_of_numpy(path, tmp_path):
    weights = dict(zip(np.unique(CLASSES), np.array([1, 2, 3], np.float32), strict=True))
    model, _ = train_small(xpnn.Checkpoint(path), class_weight=weights)
    xpnn.save(model, tmp_path / "model.st")
    kept = xpnn.load(tmp_path / "model.st").history.settings["class_weight"]
    assert kept == {"0": 1.0, "1": 2.0, "2": 3.0}
    train_small(class_weight={0: 1, 1: 2, 2: 3}, resume=path)

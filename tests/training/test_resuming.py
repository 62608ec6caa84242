"""Runs that go on: with the bits of one that was never stopped, from nothing that is damaged."""

import hashlib
import json
import os
import re
import signal

import numpy as np
import pytest
from safetensors.numpy import load, load_file, save

import xpnn
from tests.helpers import (
    CLASSES,
    ROOT,
    SAMPLES,
    SMALL,
    VALIDATION,
    Stop,
    figures,
    open_backend,
    run,
    started,
    stopped,
    train_small,
    write_folder,
)
from xpnn._core.files import SEAL, sealed
from xpnn._core.tree import leaves, paths, rebuilt
from xpnn.backends import get_backend
from xpnn.optimizers import OPTIMIZERS
from xpnn.training import checkpoint


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.ckpt"


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
    with pytest.raises(xpnn.ArgumentError, match=r"epochs must be 5 as in .* for Cosine.*, got 7"):
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


def test_an_interrupt_within_an_epoch_leaves_the_last_checkpoint(path):
    """What is in the carry then is no one's: NumPy's arrays are changed in place."""
    stopped(path, every=3, at=4, within=True)
    assert len(checkpoint.read(path)[0].history) == 4


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
    with pytest.raises(xpnn.ArgumentError, match="log must be that of the run which goes on"):
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


# damage


def content(path):
    """What a checkpoint holds, to be compared."""
    saved, note = checkpoint.read(path)
    arrays = {**saved.carry, "key": saved.random_state["state"].pop("key")}
    return (
        saved._replace(carry=None),
        {name: (a.dtype, a.shape, a.tobytes()) for name, a in arrays.items()},
        note,
    )


@pytest.fixture
def tiny(path):
    """The smallest checkpoint: its bytes, and a path that has it."""
    xpnn.fit(
        xpnn.Sequential(xpnn.Dense(2)), (SAMPLES[:4, :1], CLASSES[:4] % 2), epochs=1, seed=1,
        batch_size=4, callbacks=[xpnn.Checkpoint(path)],
    )  # fmt: skip
    checkpoint.previous(path).unlink()
    return path.read_bytes(), path


UNREAD = r"run\.ckpt( is damaged|: it is no safetensors file| is no checkpoint, a damaged one)"


def test_a_file_that_is_cut_off_anywhere(tiny):
    raw, path = tiny
    for length in [*range(0, len(raw), 7), *range(16), len(raw) - 1]:
        path.write_bytes(raw[:length])
        with pytest.raises(xpnn.DataError, match=UNREAD):
            checkpoint.read(path)
    path.write_bytes(raw + b"\0")
    with pytest.raises(xpnn.DataError, match="is damaged"):
        checkpoint.read(path)


def test_a_flipped_bit_anywhere(tiny):
    """All bits of the header's first bytes and of the hash, and 2000 others."""
    raw, path = tiny
    at = raw.index(SEAL.encode())
    others = np.random.RandomState(1).randint(0, 8 * len(raw), 2000)
    bits = {*range(64), *range(8 * at, 8 * (at + 80)), *others}
    for bit in bits:
        flipped = bytearray(raw)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        with pytest.raises(xpnn.DataError, match=UNREAD):
            checkpoint.read(path)
    path.write_bytes(raw)
    assert checkpoint.read(path)[1] is None


def newer(raw):
    """The same checkpoint, of a format to come."""
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    description = {**json.loads(header["__metadata__"]["checkpoint"]), "format": 9}
    return sealed(load(raw), {"checkpoint": json.dumps(description)})


def model_file(raw):
    return save({"0.weight": np.zeros(2)}, {"xpnn": json.dumps({"format": 1})})


DAMAGE = [
    (lambda raw: raw[:-1], "is damaged"),
    (lambda raw: b"", "can't read .*: it is no safetensors file, or a damaged one"),
    (
        lambda raw: b"epoch,train_accuracy\n",
        "can't read .*: it is no safetensors file, or a damaged one",
    ),
    (newer, r"was written by xpnn .*, whose checkpoint format 9 is newer than this one's \(1\)"),
    (lambda raw: save({"a": np.zeros(2)}), "is no checkpoint, a damaged one, or one of an older"),
    (model_file, "is a model, and not a checkpoint"),
    (lambda raw: None, "can't read a checkpoint from .*: No such file"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGE)
def test_the_previous_one_is_used(damage, message, path):
    """And is still there if the run is killed before it has written the next."""
    model, history = train_small()
    stopped(path)
    good, raw = checkpoint.previous(path).read_bytes(), damage(path.read_bytes())
    path.unlink()
    if raw is not None:
        path.write_bytes(raw)
    note = f"{message}.*; going on from .*previous, epoch 1"
    with pytest.warns(xpnn.CheckpointWarning, match=note):
        again, resumed = train_small(xpnn.Checkpoint(path, every=5), resume=path)
    assert resumed.resumed == 1
    assert again.sha256() == model.sha256()
    assert figures(resumed) == figures(history)
    # what can't be read doesn't take the place of the good one, and isn't lost
    assert checkpoint.previous(path).read_bytes() == good
    if raw is not None:
        assert path.with_name("run.ckpt.damaged").read_bytes() == raw
    assert checkpoint.read(path)[1] is None

    checkpoint.previous(path).unlink()
    path.unlink()
    if raw is not None:
        path.write_bytes(raw)
    with pytest.raises(xpnn.DataError, match=message) as caught:
        train_small(resume=path)
    assert "\n" not in str(caught.value)


def test_two_that_are_damaged(path):
    stopped(path)
    for file in (path, checkpoint.previous(path)):
        file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(xpnn.DataError, match=r"run\.ckpt is damaged"):
        train_small(resume=path)


def test_a_checkpoint_is_no_model(path):
    stopped(path)
    with pytest.raises(xpnn.DataError, match="is a checkpoint, and not a model"):
        xpnn.load(path)


@pytest.mark.parametrize("when", ["write", "rename"])
def test_a_full_disk_keeps_the_last_good_one(when, path, monkeypatch):
    def full(self, *args):
        if "rename" in when and not self.name.endswith(".part"):
            return original(self, *args)
        if when == "write":
            with self.open("wb") as file:
                file.write(args[0][:100])
        raise OSError(28, "No space left on device")

    class Fill(xpnn.Callback):
        def on_epoch(self, epoch):
            if epoch.epoch == 2:
                monkeypatch.setattr(type(path), name, full)

    name = {"write": "write_bytes", "rename": "replace"}[when]
    original = getattr(type(path), name)
    model, _ = train_small()
    with pytest.raises(xpnn.ArgumentError, match=r"can't write checkpoint .*: No space left on"):
        train_small(Fill(), xpnn.Checkpoint(path))
    monkeypatch.undo()
    assert {file.name for file in path.parent.iterdir()} == {"run.ckpt", "run.ckpt.previous"}
    again, resumed = train_small(resume=path)
    assert (resumed.resumed, again.sha256()) == (1, model.sha256())


def test_what_a_kill_leaves_is_written_over(path):
    part = path.with_name(".run.ckpt.part")
    part.write_bytes(b"half")
    train_small(xpnn.Checkpoint(path))
    assert {file.name for file in path.parent.iterdir()} == {"run.ckpt", "run.ckpt.previous"}
    assert checkpoint.read(path)[1] is None


def test_the_file_is_safetensors_that_anyone_reads(path):
    stopped(path, optimizer=xpnn.Momentum())
    arrays = load_file(path)
    assert arrays["carry.2.velocity.0.weight"].shape == (4, 6)
    assert arrays["random_state"].dtype == np.uint32
    assert b"pickle" not in path.read_bytes()


def test_a_checkpoint_comes_back_from_its_file(path):
    taken = []

    class Take(xpnn.Callback):
        def on_start(self, run):
            self.run = run

        def on_epoch(self, epoch):
            taken.append(self.run.checkpoint())

    train_small(xpnn.Checkpoint(path), Take(), optimizer=xpnn.Adam(), epochs=2, dtype="float64")
    read, _ = checkpoint.read(path)
    assert read._replace(carry=0, random_state=0) == taken[-1]._replace(carry=0, random_state=0)
    for name, array in taken[-1].carry.items():
        np.testing.assert_array_equal(read.carry[name], array, strict=True)
    for before, after in ((taken[0], taken[1]), (taken[1], taken[2])):
        # a copy: the next epoch leaves it alone
        assert all((a != after.carry[name]).any() for name, a in before.carry.items())
        before, after = (s.random_state["state"] for s in (before, after))
        assert before["pos"] != after["pos"] or (before["key"] != after["key"]).any()


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_fingerprint_is_of_all_the_bytes(order, tmp_path, monkeypatch):
    monkeypatch.setattr("xpnn._core.mapped.BLOCK_BYTES", 100)
    rng = np.random.RandomState(1)
    x, y = rng.standard_normal((50, 3)), rng.randint(0, 3, 50)
    np.save(tmp_path / "x.npy", x.astype(x.dtype, order=order))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    for own in (x.astype(x.dtype, order=order), mapped):
        assert checkpoint.fingerprint({"x": own, "y": y}) == {
            "x": ["float64", 50, 3],
            "y": ["int64", 50],
            "sha256": hashlib.sha256(x.tobytes() + y.tobytes()).hexdigest(),
        }


def test_no_checkpoint_within_an_epoch():
    class Take(xpnn.Callback):
        def on_start(self, run):
            self.run = run

        def on_batches(self, count):
            self.run.checkpoint()

    with pytest.raises(RuntimeError, match="between two epochs only"):
        train_small(Take())


def test_paths_are_those_of_the_leaves():
    tree = ([{"b": 1, "a": 2}, {}], {"v": [{"a": 3}], "c": 4})
    assert paths(tree) == {"0.0.b": 1, "0.0.a": 2, "1.v.0.a": 3, "1.c": 4}
    assert list(paths(tree).values()) == leaves(tree)
    assert rebuilt(tree, paths(tree).values()) == tree


class Keeps(xpnn.Callback):
    """Has a state of one's choice, from an epoch on."""

    def __init__(self, state, at=0):
        self.own, self.at, self.now, self.given = state, at, -1, None

    def on_epoch(self, epoch):
        self.now = epoch.epoch

    def state(self):
        return self.own if self.now >= self.at else {}

    def restore(self, state):
        self.given = state


def test_a_callbacks_own_state(path):
    class Count(xpnn.Callback):
        count = 0

        def on_epoch(self, epoch):
            self.count += 1

        def state(self):
            return {"count": self.count}

        def restore(self, state):
            self.count = state.get("count", 0)

    stopped(path, Count())
    first, second, third = Count(), Count(), Count()
    third.count = 99
    train_small(first, second, resume=path)
    assert (first.count, second.count) == (3 + 3, 3)


STATE = {
    "number": np.float32(0.1), "half": np.ones(2, np.float16), "bits": np.array([[True], [False]]),
    "none": np.zeros((0, 3)), "view": np.arange(6.0).reshape(2, 3).T, "0.weight": np.asarray(3),
    "text": "été\n", "whole": 2**70, "share": 0.1, "yes": True, "nan": float("nan"),
}  # fmt: skip


def test_arrays_numbers_and_texts_of_a_callback_come_back(path):
    stopped(path, Keeps(STATE))
    again = Keeps({})
    train_small(again, resume=path)
    assert sorted(again.given) == sorted(STATE)
    for name, value in STATE.items():
        given = again.given[name]
        assert type(given) is (np.ndarray if isinstance(value, np.generic) else type(value))
        np.testing.assert_array_equal(given, value, strict=isinstance(value, np.ndarray))
    again.given["view"] += 1.0  # it's the callback's own now


def test_a_checkpoint_keeps_the_state_of_its_moment():
    kept = np.zeros(2)

    class Take(xpnn.Callback):
        def on_start(self, run):
            self.run, self.taken = run, []

        def on_epoch(self, epoch):
            self.taken.append(self.run.checkpoint().callbacks["Keeps-1"]["kept"])
            kept[0] += 1.0

    take = Take()
    train_small(Keeps({"kept": kept}), take, epochs=2)
    assert [array[0] for array in take.taken] == [0.0, 1.0, 2.0]


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"seen": [1, 2]}, "got list as 'seen'"),
        ({"good": 1, "seen": {"a": 1}}, "got dict as 'seen'"),
        ({"seen": None}, "got NoneType as 'seen'"),
        ({"seen": xpnn.Dense(2)}, "got Dense as 'seen'"),
        ({"seen": np.array(["a"])}, "got array of <U1 as 'seen'"),
        ({"seen": np.array([None])}, "got array of object as 'seen'"),
        ({"seen": 1j}, "got complex as 'seen'"),
        ({3: 1}, "got int as 3"),
        ([1], "a dictionary, got list"),
    ],
)
def test_a_state_that_a_file_cannot_hold(state, message, path):
    """It is found at the second checkpoint; the run goes on from the first."""
    model, history = train_small()
    with pytest.raises(xpnn.ArgumentError, match=f"state of the callback Keeps must .*{message}$"):
        train_small(Keeps({}), Keeps(state, at=1), xpnn.Checkpoint(path))
    assert [file.name for file in path.parent.iterdir()] == ["run.ckpt"]
    again, resumed = train_small(resume=path)
    assert (resumed.resumed, again.sha256()) == (0, model.sha256())
    assert figures(resumed) == figures(history)


# the command


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "data")


def test_the_command_goes_on(folder, tmp_path, path, capsys):
    whole, parts = tmp_path / "whole.csv", tmp_path / "parts.csv"
    options = ["train", folder, *SMALL, "--hash", "--optimizer", "adam"]
    assert run(*options, "--epochs", 5, "--log", whole) == 0
    assert run(*options, "--epochs", 2, "--log", parts, "--checkpoint", path) == 0
    capsys.readouterr()
    options += ["--epochs", 5, "--log", parts, "--checkpoint", path, "--resume", path]
    assert run(*options) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert [line[0] for line in captured.out.splitlines() if re.match(r"\d ", line)] == list("345")
    rows = [
        [line.split(",")[:5] + line.split(",")[6:] for line in log.read_text().splitlines()]
        for log in (whole, parts)
    ]
    assert rows[0] == rows[1]

    model = tmp_path / "model"
    assert run(*options, "--save", model) == 0
    assert capsys.readouterr().err == (
        f"xpnn: nothing left to do: {path} holds all epochs up to 5\n"
    )
    assert xpnn.load(model).sha256() == rows[0][-1][-1]


def test_the_command_says_that_it_took_the_previous_one(folder, path, capsys):
    options = ["train", folder, *SMALL, "--checkpoint", path]
    assert run(*options) == 0
    path.write_bytes(path.read_bytes()[:-1])
    capsys.readouterr()
    assert run(*options, "--resume", path) == 0
    assert capsys.readouterr().err == (
        f"xpnn: {path} is damaged: its bytes don't have the SHA-256 that it holds; "
        f"going on from {checkpoint.previous(path)}, epoch 1\n"
    )


def test_the_command_stops_early(folder, path, capsys):
    options = ["train", folder, *SMALL, "--epochs", 500, "--patience", 2, "--checkpoint", path]
    options += ["--monitor", "test_accuracy"]
    assert run(*options) == 0
    out = capsys.readouterr().out
    assert re.search(
        r"^stopped after epoch \d+: test_accuracy was best at epoch \d+, 2 epochs before$",
        out, re.MULTILINE,
    )  # fmt: skip
    assert run(*options, "--resume", path, "--quiet") == 0
    assert capsys.readouterr() == ("", "")


def test_no_improvement_is_large_enough_for_the_command(folder, capsys):
    # the first epoch after the untrained network counts, whatever it gained
    options = ["train", folder, *SMALL, "--epochs", 9, "--patience", 2, "--min-delta", 99]
    assert run(*options) == 0
    assert "stopped after epoch 3: test_loss was best at epoch 1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--every", 2], "every needs checkpoint: give --checkpoint too"),
        (["--monitor", "test_loss"], "monitor needs patience: give --patience too"),
        (["--min-delta", 0.1], "min_delta needs patience: give --patience too"),
        (["--patience", 3, "--min-delta", -1], "min_delta must be a finite number >= 0, got -1.0"),
        (["--patience", 0], "patience must be a whole number >= 1, got 0"),
        (["--patience", 3, "--monitor", "loss"], "unknown monitor 'loss'"),
        (["--checkpoint", "{}", "--every", 0], "every must be a whole number >= 1, got 0"),
        (["--checkpoint", "{}/no/where"], "checkpoint must be a file that can be written"),
        (["--checkpoint", "{}", "--save", "{}"], "must be different files"),
        (["--resume", "{}", "--log", "{}"], "must be different files"),
        (["--resume", "{}"], "can't read a checkpoint from .*: No such file"),
    ],
)
def test_a_mistake_costs_a_line(options, message, folder, path, capsys):
    options = [str(option).format(path) for option in options]
    assert run("train", folder, *SMALL, *options) == 2
    captured = capsys.readouterr()
    assert re.fullmatch(rf"xpnn: error: .*{message}.*\n", captured.err)
    assert not path.exists()


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_ended_from_outside(end, folder, tmp_path, path):
    process, log = started(folder, tmp_path, "--checkpoint", path)
    try:
        process.send_signal(end)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    again = ["train", folder, *SMALL, "--log", log, "--checkpoint", path, "--resume", path]
    if end == signal.SIGINT:
        assert err.endswith(f"; kept: {log}; go on with --resume {path}\n")
    done = len(checkpoint.read(path)[0].history) - 1
    assert done >= 2
    assert run(*again, "--epochs", done + 2, "--quiet") == 0
    whole = tmp_path / "whole.csv"
    assert run("train", folder, *SMALL, "--epochs", done + 2, "--log", whole, "--quiet") == 0
    assert [line.split(",")[:5] for line in log.read_text().splitlines()] == [
        line.split(",")[:5] for line in whole.read_text().splitlines()
    ]


@pytest.mark.skipif(os.name != "posix" or not os.path.exists("/dev/full"), reason="no full disk")
def test_a_full_disk_costs_a_line(folder, capsys):
    assert run("train", folder, *SMALL, "--checkpoint", "/dev/full", "--quiet") == 2
    assert capsys.readouterr().err == (
        "xpnn: error: can't write checkpoint '/dev/full': No space left on device\n"
    )


def test_a_log_of_another_run_keeps_all_files(folder, tmp_path, path, capsys):
    log, model = tmp_path / "run.csv", tmp_path / "model"
    assert run("train", folder, *SMALL, "--checkpoint", path) == 0
    log.write_text("mine\n")
    model.write_text("mine too")
    again = ["--log", log, "--save", model, "--resume", path, "--epochs", 3]
    assert run("train", folder, *SMALL, *again) == 2
    assert "log must be that of the run which goes on" in capsys.readouterr().err
    assert (log.read_text(), model.read_text()) == ("mine\n", "mine too")


# the page


def test_the_page_shows_what_happens(tmp_path, monkeypatch):
    """Every Python block of docs/guide/checkpoints.md, one after the other."""
    text = (ROOT / "docs" / "guide" / "checkpoints.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert blocks
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in blocks:
        exec(block, names)
    assert names["again"].resumed == 20
    assert names["model"].sha256() == names["whole"].sha256()
    assert names["average"].count == 4


def test_the_page_shows_the_commands_that_there_are(folder, tmp_path, monkeypatch, capsys):
    """Every `xpnn train` of docs/guide/checkpoints.md, on small data and for few epochs."""
    text = (ROOT / "docs" / "guide" / "checkpoints.md").read_text(encoding="utf-8")
    commands = re.findall(r"^\$ xpnn (train (?:.*\\\n)*.*)$", text, flags=re.MULTILINE)
    assert len(commands) >= 2
    monkeypatch.chdir(tmp_path)
    for line in commands:
        argv = line.replace("\\\n", " ").replace("data/mnist", str(folder)).split()
        assert run(*argv, "--hidden", "4", "--epochs", 3, "--quiet") == 0
    assert capsys.readouterr().err == ""


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


def test_a_divergence_keeps_the_best_weights(folder, tmp_path, capsys, monkeypatch):
    from xpnn.schedules import Constant

    def factors(self, times, epochs, history):
        return np.full(times.shape, 1.0 if len(history) < 4 else 1e30)

    monkeypatch.setattr(Constant, "factors", factors)
    model = tmp_path / "best.st"
    options = ["train", folder, *SMALL, "--epochs", 6, "--schedule", "constant", "--quiet"]
    for patience, kept in (([], False), (["--patience", 9], True)):
        assert run(*options, *patience, "--save", model) == 2
        captured = capsys.readouterr()
        assert re.fullmatch("xpnn: .*the loss became (nan|inf).*\n", captured.err)
        assert model.exists() == kept
    assert np.isfinite(next(iter(load_file(model).values()))).all()

"""Checkpoints as files: what they hold, damaged ones, and the state of callbacks."""

import hashlib
import json
import os

import numpy as np
import pytest
from safetensors.numpy import load, load_file, save

import xpnn
from tests.helpers import CLASSES, SAMPLES, figures, flipped, shortened, stopped, train_small
from xpnn._core.files import SEAL, sealed
from xpnn.training import checkpoint


def test_an_interrupt_within_an_epoch_leaves_the_last_checkpoint(path):
    """What is in the carry then is no one's: NumPy's arrays are changed in place."""
    stopped(path, every=3, at=4, within=True)
    assert len(checkpoint.read(path)[0].history) == 4


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
    for part in shortened(raw):
        path.write_bytes(part)
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
        path.write_bytes(flipped(raw, bit))
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
    (newer, r"was written by xpnn .*, whose checkpoint format 9 is newer than this one's \(2\)"),
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


@pytest.mark.parametrize("ending", [".previous", ".damaged"])
def test_nobody_else_writes_what_a_checkpoint_keeps_beside_it(ending, tmp_path):
    """Before the run's first epoch as well, when there is no file yet."""
    beside = tmp_path / f"k{ending}"

    class Second(xpnn.Callback):
        def on_start(self, run):
            self.model, self.refused = run.model, []
            for callback in (xpnn.Checkpoint(beside), xpnn.CSVLogger(beside)):
                with pytest.raises(xpnn.ArgumentError, match="is being written by process"):
                    train_small(callback)
                self.refused.append(callback)

    second = Second()
    train_small(xpnn.Checkpoint(tmp_path / "k"), second)
    assert len(second.refused) == 2
    for door in (
        lambda: xpnn.Checkpoint(beside),
        lambda: xpnn.CSVLogger(beside),
        lambda: xpnn.save(second.model, beside),
    ):
        beside.unlink(missing_ok=True)
        with pytest.raises(xpnn.ArgumentError, match="a checkpoint k keeps older ones under this"):
            door()
        assert not beside.exists()


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
    def full(*args):
        raise OSError(28, "No space left on device")

    class Fill(xpnn.Callback):
        def on_epoch(self, epoch):
            if epoch.epoch == 2:
                owner, name = {"write": (os, "fsync"), "rename": (type(path), "replace")}[when]
                monkeypatch.setattr(owner, name, full)

    model, _ = train_small()
    with pytest.raises(xpnn.ArgumentError, match=r"can't write checkpoint .*: No space left on"):
        train_small(Fill(), xpnn.Checkpoint(path))
    monkeypatch.undo()
    assert {file.name for file in path.parent.iterdir()} == {"run.ckpt", "run.ckpt.previous"}
    again, resumed = train_small(resume=path)
    assert (resumed.resumed, again.sha256()) == (1, model.sha256())


def test_what_a_kill_leaves_is_removed(path, monkeypatch):
    with monkeypatch.context() as killed:
        killed.setattr(type(path), "unlink", lambda *args, **options: None)
        killed.setattr(os, "fsync", lambda handle: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train_small(xpnn.Checkpoint(path))
    left = list(path.parent.iterdir())
    # what was tried at the start, what was being written, and three locks that nobody holds
    assert len(left) == 5
    for file in left:
        os.utime(file, (0, 0))
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


def crafted(path, change):
    """Change what a checkpoint holds, and compute its hash anew, as whoever wrote it could."""
    raw = path.read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    description, arrays = json.loads(header["__metadata__"]["checkpoint"]), load(raw)
    change(description, arrays)
    path.write_bytes(sealed(arrays, {"checkpoint": json.dumps(description)}))


def with_position(position):
    return lambda d, arrays: d["random_state"]["state"].update(pos=position)


def with_row(number, row):
    return lambda d, arrays: d["history"].__setitem__(number, row)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        # beyond the 624 words of the key the interpreter would read, and end
        (with_position(625), r"random_state.state.pos must be a number from 0 to 624, got 625"),
        (with_position(10**9), "random_state.state.pos must be a number from 0 to 624"),
        (with_position(-1), "random_state.state.pos must be a number from 0 to 624, got -1"),
        (with_position(3.0), "random_state.state.pos must be"),
        (lambda d, a: a.update(random_state=a["random_state"][:-1]), r"shape \(624,\), got .*623"),
        (lambda d, a: a.update(random_state=a["random_state"].astype("i8")), "got 'int64 of shape"),
        (lambda d, a: a.pop("random_state"), r"random_state must be uint32 .*, got None"),
        (lambda d, a: d["random_state"].update(has_gauss=2), "has_gauss must be 0 or 1, got 2"),
        (
            lambda d, a: d["random_state"].update(gauss=float("nan")),
            "gauss must be a finite number",
        ),
        (lambda d, a: d["random_state"].update(bit_generator="PCG64"), "must be 'MT19937', got"),
        (lambda d, a: d.update(history=[]), "history must be the rows of the epochs in order"),
        (lambda d, a: d["history"].reverse(), r"history must be .* in order, from 0 to 1 at most"),
        (lambda d, a: d["history"].append([7, *[0.5] * 5]), r"in order.* got \[0, 1, 7\]"),
        (with_row(1, [1, 0.5]), r"history\[1\] must be a list of 6 figures"),
        (with_row(1, [1, "0.5", 0.5, 0.5, 0.5, 0.5]), r"history\[1\]\[1\] must be a number"),
        (
            with_row(0, [0, *[0.5] * 5, {"f1": "a"}]),
            r"history\[0\]\[6\].f1 must be a num",
        ),
        (lambda d, a: d["settings"].update(epochs=0), r"in order, from 0 to 0 at most"),
        # a schedule would divide by them
        (lambda d, a: d["settings"].update(epochs=10**400), "settings.epochs must be a number fr"),
        (lambda d, a: d["settings"].pop("epochs"), "settings.epochs must be .* is missing"),
        (lambda d, a: d["parts"].update(layers=3), "parts.layers must be a list, got 3"),
        (lambda d, a: d["parts"]["layers"][0].pop("parameters"), r"layers\[0\].parameters must be"),
        (lambda d, a: d["data"]["train"].update(sha256="0"), "train.sha256 must be a SHA-256"),
        (lambda d, a: d["data"]["train"].update(x=[4]), "train.x must be a dtype and a shape"),
        (lambda d, a: d["data"].pop("validation"), "data.validation must be .* is missing"),
        (lambda d, a: d.update(callbacks={"A-1": {"n": None}}), "callbacks.A-1.n must be text or"),
        (
            lambda d, a: a.update({"callbacks.B-1.n": np.ones(2)}),
            "arrays must be those of the carry",
        ),
        (lambda d, a: a.update(other=np.ones(2)), "arrays must be those of the carry"),
        (lambda d, a: d.update(format=0), "format must be a whole number >= 1, got 0"),
        (lambda d, a: d.update(format="2"), "format must be a whole number >= 1, got '2'"),
    ],
)
def test_a_whole_file_that_is_not_sound(change, message, tiny):
    _, path = tiny
    crafted(path, lambda d, arrays: None)
    checkpoint.read(path)
    crafted(path, change)
    with pytest.raises(xpnn.DataError, match=rf"run\.ckpt has damaged metadata: .*{message}"):
        checkpoint.read(path)


def test_the_best_parameters_must_fit_the_model(path):
    """They enter the model at the end of the run, when all else is done."""
    options = {"epochs": 2, "batch_size": 4, "seed": 1}
    data = SAMPLES[:8, :1], CLASSES[:8] % 2

    def go(*callbacks, **more):
        stopping = xpnn.EarlyStopping("train_loss", patience=9)
        xpnn.fit(xpnn.Sequential(xpnn.Dense(2)), data, callbacks=[stopping, *callbacks],
                 **{**options, **more})  # fmt: skip

    go(xpnn.Checkpoint(path))
    name = "callbacks.EarlyStopping-1.0.weight"
    go(resume=path, epochs=3)
    for wrong in (np.ones((5, 2), np.float32), np.ones((1, 2), np.float64)):
        crafted(path, lambda d, arrays, wrong=wrong: arrays.update({name: wrong}))
        with pytest.raises(xpnn.DataError, match="the best parameters must be those of the model"):
            go(resume=path, epochs=3)
    crafted(path, lambda d, arrays: d["callbacks"]["EarlyStopping-1"].update(epoch=99))
    with pytest.raises(xpnn.DataError, match="at an epoch up to 2"):
        go(resume=path, epochs=3)

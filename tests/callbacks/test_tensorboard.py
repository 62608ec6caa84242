"""Event files, read back with TensorBoard's own reader."""

import sys

import numpy as np
import pytest

import xpnn
from tests.helpers import Stop, train_dense

pytest.importorskip("tensorboardX")

PARTS = ("train", "test")


def read(folder):
    """Return {tag: [(step, value)]} of all event files in a folder."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder), size_guidance={"tensors": 0})
    events.Reload()
    tags = events.Tags()
    assert tags["tensors"] == tags["images"] == []
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in tags["scalars"]
    }


def float32(history, name):
    return [(row.epoch, float(np.float32(getattr(row, name)))) for row in history]


def test_the_events_are_the_rows(tmp_path):
    folder = tmp_path / "new" / "run"
    _, history = train_dense(xpnn.TensorBoard(folder))
    expected = {
        part: {name: float32(history, f"{part}_{name}") for name in ("accuracy", "loss")}
        for part in PARTS
    }
    expected["train"]["seconds"] = float32(history, "seconds")
    assert {part: read(folder / part) for part in PARTS} == expected
    assert len(history) == 4


def test_metrics_are_events_too(tmp_path):
    _, history = train_dense(xpnn.TensorBoard(tmp_path), metrics="f1,roc_auc")
    for part in PARTS:
        found = read(tmp_path / part)
        assert set(found) - {"seconds"} == {"accuracy", "loss", "f1", "roc_auc"}
        assert found["f1"] == float32(history, f"{part}_f1")


def test_what_is_unknown_is_left_out(tmp_path):
    _, history = train_dense(xpnn.TensorBoard(tmp_path), validation=None)
    assert read(tmp_path / "test") == {}
    assert read(tmp_path / "train")["loss"] == float32(history, "train_loss")


def test_a_row_is_in_the_files_at_once(tmp_path):
    class Look(xpnn.Callback):
        def on_epoch(self, epoch):
            assert len(read(tmp_path / "test")["loss"]) == epoch.epoch + 1

    train_dense(xpnn.TensorBoard(tmp_path), Look())


def test_an_interrupted_run_keeps_its_events(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train_dense(xpnn.TensorBoard(tmp_path), Stop(2))
    assert [step for step, _ in read(tmp_path / "train")["loss"]] == [0, 1, 2]


def test_a_second_run_in_the_folder_loses_nothing_of_the_first(tmp_path):
    callback = xpnn.TensorBoard(tmp_path)
    # within one second
    train_dense(callback, epochs=1)
    train_dense(callback, epochs=1)
    assert len(list((tmp_path / "train").iterdir())) == 2
    assert [step for step, _ in read(tmp_path / "train")["loss"]] == [0, 1, 0, 1]


def test_nothing_is_made_before_the_run(tmp_path):
    xpnn.TensorBoard(tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("")
    for place in ("file", "file/run"):
        with pytest.raises(xpnn.ArgumentError, match=r"tensorboard must be a folder .*is a file"):
            xpnn.TensorBoard(tmp_path / place)
    callback = xpnn.TensorBoard(tmp_path / "run")
    (tmp_path / "run").write_text("")
    with pytest.raises(xpnn.ArgumentError, match="tensorboard must be a folder that can be"):
        train_dense(callback)


def test_a_full_disk_is_named(monkeypatch, tmp_path):
    from tensorboardX.event_file_writer import EventsWriter

    class Full(xpnn.Callback):
        def on_epoch(self, epoch):
            if epoch.epoch == 1:
                monkeypatch.setattr(EventsWriter, "flush", full)

    def full(self):
        monkeypatch.undo()
        raise OSError(28, "No space left on device")

    with pytest.raises(xpnn.ArgumentError, match=r"tensorboard must be .*No space left"):
        train_dense(Full(), xpnn.TensorBoard(tmp_path))


def test_without_tensorboardx(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(xpnn.ArgumentError, match=r"needs tensorboardX.*pip install tensorboardX"):
        xpnn.TensorBoard(tmp_path)


def test_steps_after_the_checkpoint_are_void_once_it_goes_on(tmp_path):
    path, folder = tmp_path / "run.ckpt", tmp_path / "events"
    with pytest.raises(KeyboardInterrupt):
        # the checkpoint is of epoch 0, the events go to epoch 1
        train_dense(xpnn.TensorBoard(folder), xpnn.Checkpoint(path, every=2), Stop(1))
    _, history = train_dense(xpnn.TensorBoard(folder), resume=path)
    assert read(folder / "test")["loss"] == float32(history, "test_loss")

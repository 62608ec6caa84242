import csv
import math

import numpy as np
import pytest

import xpnn
from tests.helpers import SAMPLES, Recorder, Stop, train_dense
from xpnn.training.callback import Callback

HEADER = "epoch,train_accuracy,train_loss,test_accuracy,test_loss,seconds"


def test_hooks_are_called_in_order():
    notes = Recorder()
    train_dense(notes, epochs=2)
    assert notes.calls[:2] == [("start", 2, 3), ("epoch", 0)]
    assert notes.calls[-2:] == [("epoch", 2), ("end",)]
    between = notes.calls[2 : notes.calls.index(("epoch", 1))]
    assert {call[0] for call in between} == {"batches"}
    assert sum(call[1] for call in notes.calls if call[0] == "batches") == 2 * 3


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_every_callback_ends_after_an_error(error):
    before, after = Recorder(), Recorder()
    with pytest.raises(error):
        train_dense(before, Stop(1, error), after)
    assert before.calls.count(("end",)) == after.calls.count(("end",)) == 1
    assert ("epoch", 1) in before.calls
    assert ("epoch", 1) not in after.calls


def test_the_hooks_of_the_base_do_nothing():
    plain, noted = train_dense(), train_dense(Callback())
    assert plain[0].sha256() == noted[0].sha256()


@pytest.mark.parametrize("hashes", [False, True])
def test_the_log_reads_back_as_the_same_floats(hashes, tmp_path):
    path = tmp_path / "run.csv"
    model, history = train_dense(xpnn.CSVLogger(path, hashes=hashes))
    text = path.read_bytes().decode()
    assert "\r" not in text
    assert text.endswith("\n")
    assert text.splitlines()[0] == HEADER + (",weights_sha256" if hashes else "")
    rows = list(csv.reader(text.splitlines()))[1:]
    assert [tuple(map(float, row[:6])) for row in rows] == [tuple(row) for row in history]
    if hashes:
        assert rows[-1][6] == model.sha256()
        assert len({row[6] for row in rows}) == 4


def test_a_log_has_no_columns_of_what_is_not_known(tmp_path):
    path = tmp_path / "run.csv"
    train_dense(xpnn.CSVLogger(path), validation=None)
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert list(rows[0]) == ["epoch", "train_accuracy", "train_loss", "seconds"]
    assert all(math.isfinite(float(row["train_loss"])) for row in rows)


def test_a_row_is_in_the_file_at_once(tmp_path):
    path = tmp_path / "run.csv"
    seen = []

    class Look(Callback):
        def on_epoch(self, epoch):
            seen.append(path.read_text())

    train_dense(xpnn.CSVLogger(path), Look(), epochs=2)
    assert [text.count("\n") for text in seen] == [2, 3, 4]
    assert all(text.endswith("\n") for text in seen)


def test_the_log_is_begun_anew(tmp_path):
    path = tmp_path / "run.csv"
    logger = xpnn.CSVLogger(path)
    train_dense(logger, epochs=5)
    train_dense(logger, epochs=1)
    assert path.read_text().count("\n") == 3


def test_nothing_is_written_before_the_run(tmp_path):
    path = tmp_path / "run.csv"
    path.write_text("old")
    logger = xpnn.CSVLogger(path)
    with pytest.raises(xpnn.DataError):
        train_dense(logger, x=np.full((23, 4), np.nan))
    assert path.read_text() == "old"


def test_the_log_keeps_the_rows_before_an_error(tmp_path):
    path = tmp_path / "run.csv"
    with pytest.raises(xpnn.DivergenceError, match="at epoch 1, in batch 2"):
        train_dense(
            xpnn.CSVLogger(path),
            x=1e30 * SAMPLES,
            optimizer=xpnn.optimizers.SGD(lr=1e30),
        )
    assert path.read_text().count("\n") == 2


@pytest.mark.parametrize("place", ["missing/run.csv", "."])
def test_a_log_that_cannot_be_written(place, tmp_path):
    with pytest.raises(xpnn.ArgumentError, match="log must be a file that can be written"):
        xpnn.CSVLogger(tmp_path / place)


def test_a_log_whose_folder_goes_away(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    logger = xpnn.CSVLogger(folder / "run.csv")
    folder.rmdir()
    with pytest.raises(xpnn.ArgumentError, match=r"can't write log .*run\.csv': No such file"):
        train_dense(logger)


@pytest.mark.parametrize("hashes", [False, True])
def test_the_terminal_gets_a_line_an_epoch(hashes, capsys):
    model, history = train_dense(xpnn.Terminal(hashes=hashes, digits="all"))
    captured = capsys.readouterr()
    lines = [line.split(" ") for line in captured.out.splitlines()]
    assert [line[:5] for line in lines] == [[repr(value) for value in row[:5]] for row in history]
    assert {len(line) for line in lines} == {6 if hashes else 5}
    if hashes:
        assert lines[-1][5] == model.sha256()
    assert captured.err == ""


@pytest.mark.parametrize("hashes", [False, True])
def test_a_log_is_read_back(hashes, tmp_path):
    path = tmp_path / "run.csv"
    _, history = train_dense(xpnn.CSVLogger(path, hashes=hashes))
    assert xpnn.read_log(path) == list(history)


def test_a_log_without_some_columns(tmp_path):
    path = tmp_path / "run.csv"
    path.write_bytes(b"\xef\xbb\xbftest_loss,note,epoch\r\n0.5,x,0\r\n0.25,y,1\r\n")
    rows = xpnn.read_log(path)
    assert [(row.epoch, row.test_loss) for row in rows] == [(0, 0.5), (1, 0.25)]
    assert all(math.isnan(row.train_loss) and math.isnan(row.seconds) for row in rows)


def test_a_log_that_is_being_written(tmp_path):
    path = tmp_path / "run.csv"
    row = "1,0.5,1.25,0.5,1.0,0.1875"
    for end in range(1, len(row) + 1):
        path.write_text(f"{HEADER}\n0,0.5,1.0,0.5,1.0,0.1\n{row[:end]}")
        assert [row.epoch for row in xpnn.read_log(path)] == [0]
    path.write_text(f"{HEADER}\n0,0.5,1.0,0.5,1.0,0.1\n{row}\n")
    assert xpnn.read_log(path)[1].seconds == 0.1875


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "is not a log: its first line must name the columns epoch, train_accuracy"),
        (b"a,b\n1,2\n", "is not a log"),
        (b"epoch\n1\n", "is not a log"),
        (b"\xff\xfe", "is not a log"),
        (b"epoch,test_loss\n0,1\n1\n2,3\n", "must have 2 cells a line, got 1 in line 3"),
        (b"epoch,test_loss\n0,1\n1,x\n", "got 'x' in line 3, column test_loss"),
        (b"epoch,test_loss\n0.5,1\n", "got '0.5' in line 2, column epoch"),
    ],
)
def test_what_is_no_log(text, message, tmp_path):
    path = tmp_path / "run.csv"
    path.write_bytes(text)
    with pytest.raises(xpnn.DataError, match=message):
        xpnn.read_log(path)


def test_a_log_that_is_not_there(tmp_path):
    with pytest.raises(xpnn.DataError, match=r"can't read log .*No such file"):
        xpnn.read_log(tmp_path / "run.csv")
